"""Laws of initial states of two-dimensional flow, as values.

A state is velocity and vorticity, ``(3, x, y)``, and a tracer after them where the flow
carries one, band-limited by the 2/3 rule: the solver then starts from the very state
that is stored.
"""

import abc
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pde_sym.arrays import ArrayFile
from pde_sym.errors import InputError
from pde_sym.grid import PeriodicGrid
from pde_sym.initial_conditions import InitialLaw, RandomField

Array = NDArray[np.float64]


class FlowLaw(InitialLaw, abc.ABC):
    """A law of velocity and vorticity, and apart from it one of a tracer."""

    tracer: RandomField = RandomField(modes=3, slope=3.0)
    """Law of the tracer, where there is one: a random field, as {"modes": 4}."""

    @abc.abstractmethod
    def sample(
        self, grid: PeriodicGrid, generator: np.random.Generator, index: int = 0
    ) -> Array:
        """Draw velocity and vorticity, ``(3, x, y)``."""

    def sample_tracer(
        self, grid: PeriodicGrid, generator: np.random.Generator, index: int = 0
    ) -> Array:
        """Draw a tracer ``(1, x, y)``.

        Raises
        ------
        InputError
            When the 2/3 of the modes that the solver keeps do not hold the law's.
        """
        if self.tracer.field is None:
            _check_modes("initial.tracer.modes", self.tracer.modes, grid)
        tracer = self.tracer.sample(grid, generator, index)
        return np.fft.ifft2(np.fft.fft2(tracer) * _kept(grid)).real


class RandomVorticity(FlowLaw):
    """Band-limited Gaussian vorticity of a given rms speed, with a random mean flow.

    The stream function has the law of `RandomField`: invariant under shifts, turns
    and flips, and one draw is the same function on every grid.
    """

    kind: Literal["random_vorticity"] = "random_vorticity"
    modes: int = Field(default=3, ge=1, le=64)
    """Largest wavenumber, in periods per box."""
    slope: float = Field(default=3.0, ge=0.0, le=10.0)
    """Decay exponent of the amplitudes of the stream function."""
    speed: float = Field(default=1.0, gt=0.0, le=1e4)
    """Root mean square of the velocity about its mean, in lengths per time."""
    mean: float = Field(default=0.0, ge=0.0, le=1e4)
    """The components of the mean flow are uniform in [-mean, mean]."""
    field: ArrayFile | None = None
    """Own vorticity, (x, y) for all or (n, x, y), taken as it is less its mean."""

    def sample(
        self, grid: PeriodicGrid, generator: np.random.Generator, index: int = 0
    ) -> Array:
        """Draw a state ``(3, x, y)``.

        Raises
        ------
        InputError
            When the 2/3 of the modes that the solver keeps do not hold the law's.
        """
        mean = generator.uniform(-self.mean, self.mean, size=2)
        law = RandomField(
            modes=self.modes, slope=self.slope, offset=0.0, field=self.field
        )
        if self.field is not None:
            return state_of_vorticity(grid, law.sample(grid, generator, index)[0], mean)
        _check_modes("initial.modes", self.modes, grid)
        psi_hat = np.fft.fft2(law.sample(grid, generator)[0])
        square = sum(k**2 for k in _wavenumbers(grid))
        state = state_of_vorticity(
            grid, np.fft.ifft2(square * psi_hat).real, (0.0, 0.0)
        )
        rms = np.sqrt(np.mean(state[0] ** 2 + state[1] ** 2))
        state *= self.speed / rms
        state[:2] += mean[:, None, None]
        return state


class DoubleShearLayer(FlowLaw):
    """Two shear layers that roll up (Bell, Colella, Glaz 1989, J. Comput. Phys. 85).

    ``u = tanh(rho (y - 1/4))`` for y <= 1/2, ``tanh(rho (3/4 - y))`` above, and
    ``v = perturbation sin(2 pi x)``, in units of the box lengths.
    """

    kind: Literal["double_shear_layer"] = "double_shear_layer"
    sharpness: float = Field(default=15.0, gt=0.0, le=1e3)
    """rho: the inverse thickness of the layers. 64 points resolve 15, and 128 and 256
    the 30 and 80 of the published runs."""
    perturbation: float = Field(default=0.05, ge=0.0, le=10.0)
    """Amplitude of v."""
    speed: float = Field(default=1.0, gt=0.0, le=1e4)
    """Factor of both components, in lengths per time."""
    shifted: bool = True
    """Whether each draw is shifted by its own random amount along x and y."""

    def sample(
        self, grid: PeriodicGrid, generator: np.random.Generator, index: int = 0
    ) -> Array:
        """Draw a state ``(3, x, y)``; only the shift is random."""
        del index
        shift = generator.uniform(size=2) if self.shifted else np.zeros(2)
        x, y = (
            (points / length - s) % 1.0
            for points, length, s in zip(grid.mesh(), grid.lengths, shift, strict=True)
        )
        distance = np.where(y <= 0.5, y - 0.25, 0.75 - y)
        u = self.speed * np.tanh(self.sharpness * distance)
        v = self.speed * self.perturbation * np.sin(2 * np.pi * x)
        kx, ky = _wavenumbers(grid)
        omega_hat = 1j * kx * np.fft.fft2(v) - 1j * ky * np.fft.fft2(u)
        return state_of_vorticity(
            grid, np.fft.ifft2(omega_hat).real, (float(u.mean()), float(v.mean()))
        )


def state_of_vorticity(
    grid: PeriodicGrid, omega: Array, mean: tuple[float, float] | Array
) -> Array:
    """Return velocity and vorticity ``(3, x, y)`` of a vorticity and a mean flow.

    Modes that the 2/3 rule drops, and the mean of omega, are removed.
    """
    kx, ky = _wavenumbers(grid)
    square = kx**2 + ky**2
    square[0, 0] = 1.0
    omega_hat = np.fft.fft2(omega) * _kept(grid)
    omega_hat[0, 0] = 0.0
    psi_hat = omega_hat / square
    channels = [
        np.fft.ifft2(values).real
        for values in (1j * ky * psi_hat, -1j * kx * psi_hat, omega_hat)
    ]
    return np.stack([channels[0] + mean[0], channels[1] + mean[1], channels[2]])


def _check_modes(key: str, modes: int, grid: PeriodicGrid) -> None:
    if 3 * modes >= min(grid.shape):
        raise InputError(
            f"{key}={modes}: the solver keeps modes below {min(grid.shape) / 3:.3g} "
            f"on {grid.shape} points: lower modes or raise the resolution"
        )


def _wavenumbers(grid: PeriodicGrid) -> tuple[Array, Array]:
    return grid.wavenumbers(0)[:, None], grid.wavenumbers(1)[None, :]


def _kept(grid: PeriodicGrid) -> NDArray[np.bool_]:
    mx, my = (np.abs(np.fft.fftfreq(n, d=1 / n)) for n in grid.shape)
    return (3 * mx < grid.shape[0])[:, None] & (3 * my < grid.shape[1])[None, :]
