"""Laws of initial states, as values."""

import abc
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pde_sym.arrays import ArrayFile
from pde_sym.config import Frozen
from pde_sym.errors import InputError
from pde_sym.grid import PeriodicGrid


class InitialLaw(Frozen, abc.ABC):
    """A law that initial states are drawn from."""

    kind: str

    @abc.abstractmethod
    def sample(
        self, grid: PeriodicGrid, generator: np.random.Generator, index: int = 0
    ) -> NDArray[np.float64]:
        """Draw a state ``(channels, *grid.shape)``; `index` numbers own arrays."""


class RandomField(InitialLaw):
    """A band-limited Gaussian field of unit variance about a random mean.

    ``u(x) = a + n^-1 sum_m A_m cos(2 pi m.x / L + theta_m)`` over the Fourier modes
    ``0 < |m| <= modes`` with ``A_m = |z_m| / (1 + |m|^2)^(slope / 2)``, complex normal
    z_m, phase theta_m of z_m, and n such that the spatial variance is 1. The law is
    invariant under shifts, turns and flips, and one draw is the same function on
    every grid.
    """

    kind: Literal["random_field"] = "random_field"
    modes: int = Field(default=5, ge=1, le=64)
    """Largest wavenumber, in periods per box."""
    slope: float = Field(default=2.0, ge=0.0, le=10.0)
    """Decay exponent of the amplitudes."""
    offset: float = Field(default=0.5, ge=0.0, le=100.0)
    """The mean is uniform in [-offset, offset]."""
    field: ArrayFile | None = None
    """Own initial states, (x, y) for all or (n, x, y): trajectory i has number i."""

    def sample(
        self, grid: PeriodicGrid, generator: np.random.Generator, index: int = 0
    ) -> NDArray[np.float64]:
        """Draw a scalar state ``(1, x, y)``.

        Raises
        ------
        InputError
            When the grid cannot hold the modes, or an own array does not fit it.
        """
        if self.field is not None:
            return _own_state(self.field.values(), grid, index)
        if 2 * self.modes >= min(grid.shape):
            raise InputError(
                f"initial.modes={self.modes}: a grid of {grid.shape} points holds "
                f"fewer than {min(grid.shape) // 2} modes; lower modes or raise the "
                "resolution"
            )
        span = np.arange(-self.modes, self.modes + 1)
        mx, my = np.meshgrid(span, span, indexing="ij")
        square = mx**2 + my**2
        # One mode of each pair +-m: the other one is its conjugate.
        half = (
            (square > 0)
            & (square <= self.modes**2)
            & ((mx > 0) | ((mx == 0) & (my > 0)))
        )
        z = generator.standard_normal((*mx.shape, 2)) @ np.array([1.0, 1j])
        amplitude = np.where(half, z * (1.0 + square) ** (-self.slope / 2), 0.0)
        amplitude /= np.sqrt(0.5 * np.sum(np.abs(amplitude) ** 2))
        spectrum = np.zeros(grid.shape, dtype=complex)
        spectrum[mx % grid.shape[0], my % grid.shape[1]] = amplitude
        mean = generator.uniform(-self.offset, self.offset)
        state = mean + np.fft.ifft2(spectrum, norm="forward").real
        return state[None]


def _own_state(
    values: NDArray[np.float64], grid: PeriodicGrid, index: int
) -> NDArray[np.float64]:
    stack = values[None] if values.ndim == 2 else values
    if stack.ndim != 3 or stack.shape[1:] != grid.shape:
        raise InputError(
            f"initial.field: expected shape {grid.shape} or (n, {grid.shape[0]}, "
            f"{grid.shape[1]}), got {values.shape}"
        )
    if values.ndim == 3 and index >= len(stack):
        raise InputError(
            f"initial.field: trajectory {index} asked for, the file has {len(stack)}"
        )
    return stack[min(index, len(stack) - 1)][None].copy()
