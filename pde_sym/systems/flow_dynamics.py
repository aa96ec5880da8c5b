"""The dynamics of two-dimensional flow in Fourier space, and what they act through.

Coefficients are those of ``w(x) = sum_k w_k exp(i k.x)``, the half with k_y >= 0 as
`torch.fft.rfft2` stores it, and vanish outside the modes ``3 |m| < N`` of the 2/3
rule. With the pseudo-spectral products of that rule the advection keeps energy and
enstrophy exactly in continuous time.
"""

import functools
import math
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from pde_sym.errors import InputError
from pde_sym.grid import PeriodicGrid
from pde_sym.systems.flow import Flow
from pde_sym.systems.flow_terms import (
    Beta,
    Buoyancy,
    Drag,
    FlowTerm,
    Kolmogorov,
)

MAX_CACHED = 32
"""Numbers of steps whose coefficients are remembered."""


class Modes(NamedTuple):
    """Vorticity and tracer as coefficients ``(..., x, y)``, mean flow ``(..., 2)``."""

    omega: Tensor
    mean: Tensor
    tracer: Tensor | None = None

    def select(self, rows: list[int]) -> "Modes":
        """Return those states of a batch."""
        tracer = None if self.tracer is None else self.tracer[rows]
        return Modes(self.omega[rows], self.mean[rows], tracer)


class Amplitudes(NamedTuple):
    """Sums over the modes of one state, which motions of the plane leave alone.

    Parameters
    ----------
    speed, strain
        ``sum_k |u_k| + |v_k|`` and ``sum_k |k| (|u_k| + |v_k|)`` without the mean flow.
    mean
        ``|u_0| + |v_0|``.
    carried, gradient
        ``sum_k |b_k|`` and ``sum_k |k| |b_k|`` of the tracer without its mean.
    """

    speed: float
    strain: float
    mean: float
    carried: float = 0.0
    gradient: float = 0.0


class Spectrum:
    """Wavenumbers, transforms and sums over modes of one grid.

    Attributes
    ----------
    ikx, iky
        ``i k_x`` ``(x, 1)`` and ``i k_y`` ``(1, y)``.
    square, inverse_square
        ``k^2`` and ``1 / k^2`` with 0 at k = 0, ``(x, y)``.
    kept
        1 on the modes of the 2/3 rule, 0 elsewhere.
    odd
        0 on the modes N / 2 of even N, whose derivative is not on the grid, else 1.
    weights
        ``<a b> = sum weights Re(a_k conj b_k)``: 2 where the half stands for two.
    velocity
        ``(2, x, y)``: ``u_k = velocity w_k`` but for k = 0.
    largest
        Largest component of a wavenumber that is kept.
    """

    def __init__(self, grid: PeriodicGrid, device: torch.device) -> None:
        self.shape: tuple[int, ...] = grid.shape
        self.device = device
        (nx, ny), double = grid.shape, torch.float64
        mx = torch.fft.fftfreq(nx, d=1 / nx, dtype=double, device=device)[:, None]
        my = torch.fft.rfftfreq(ny, d=1 / ny, dtype=double, device=device)[None, :]
        kx, ky = (
            2 * math.pi * m / length
            for m, length in zip((mx, my), grid.lengths, strict=True)
        )
        self.ikx: Tensor = 1j * kx
        self.iky: Tensor = 1j * ky
        self.square: Tensor = kx**2 + ky**2
        self.inverse_square: Tensor = torch.where(self.square > 0, 1 / self.square, 0.0)
        inside = (3 * mx.abs() < nx) & (3 * my < ny)
        self.kept: Tensor = inside.to(torch.float64)
        self.odd: Tensor = ((2 * mx.abs() < nx) & (2 * my < ny)).to(torch.float64)
        self.weights: Tensor = self.kept * torch.where(my > 0, 2.0, 1.0)
        self.velocity: Tensor = self.inverse_square * torch.stack(
            [self.iky.expand(self.square.shape), -self.ikx.expand(self.square.shape)]
        )
        self.largest: float = float(
            max((self.kept * kx.abs()).max(), (self.kept * ky).max())
        )
        # Divergence of momentum flux: (d_yy - d_xx) of u v, d_xy of u^2 - v^2.
        self.flux: Tensor = self.kept * torch.stack([kx**2 - ky**2, -kx * ky])

    def forward(self, values: Tensor) -> Tensor:
        """Return the coefficients of real fields, those outside the rule included."""
        return torch.fft.rfft2(values, norm="forward")

    def inverse(self, coefficients: Tensor) -> Tensor:
        return torch.fft.irfft2(coefficients, s=self.shape, norm="forward")

    def inner(self, a: Tensor, b: Tensor) -> Tensor:
        """Return ``<a b>`` from coefficients that are kept."""
        return (self.weights * (a.real * b.real + a.imag * b.imag)).sum((-2, -1))

    def velocity_of(self, omega: Tensor, mean: Tensor) -> Tensor:
        """Return the coefficients ``(..., 2, x, y)`` of the velocity."""
        result = self.velocity * omega[..., None, :, :]
        result[..., 0, 0] = mean.to(result.dtype)
        return result

    def decompose(self, state: Tensor) -> Modes:
        """Return the modes of fields velocity, vorticity and perhaps tracer.

        The vorticity is that of the velocity; the stored one is not read.
        """
        channels = [0, 1, *range(3, state.shape[-3])]
        hat = self.forward(state[..., channels, :, :].double())
        u, v, *tracer = hat.unbind(-3)
        mean = hat[..., :2, 0, 0].real
        omega = self.kept * (self.ikx * v - self.iky * u)
        return Modes(omega, mean, self.kept * tracer[0] if tracer else None)

    def amplitudes(self, modes: Modes) -> list[Amplitudes]:
        """Return the sums that bound the steps of a batch of states."""
        wavenumber = self.square.sqrt()
        speeds = self.weights * self.velocity.abs().sum(0) * modes.omega.abs()
        sums = [speeds, wavenumber * speeds]
        if modes.tracer is not None:
            sizes = self.weights * modes.tracer.abs() * (self.square > 0)
            sums += [sizes, wavenumber * sizes]
        totals = torch.stack([one.sum((-2, -1)) for one in sums], dim=-1)
        means = modes.mean.abs().sum(-1, keepdim=True)
        rows = torch.cat([totals[..., :2], means, totals[..., 2:]], dim=-1)
        return [Amplitudes(*row) for row in rows.tolist()]

    def compose(self, modes: Modes) -> Tensor:
        """Return velocity, vorticity and tracer as fields ``(..., 3 or 4, x, y)``."""
        fields = [modes.omega] if modes.tracer is None else [modes.omega, modes.tracer]
        velocity = self.velocity_of(modes.omega, modes.mean)
        return self.inverse(torch.cat([velocity, torch.stack(fields, -3)], dim=-3))


def spectrum_of(grid: PeriodicGrid, device: torch.device | str = "cpu") -> Spectrum:
    """Return the spectrum of a grid, the same one each time."""
    return _spectrum(grid.shape, grid.lengths, torch.device(device))


@functools.lru_cache(maxsize=8)
def _spectrum(
    shape: tuple[int, ...], lengths: tuple[float, ...], device: torch.device
) -> Spectrum:
    return Spectrum(PeriodicGrid(shape=shape, lengths=lengths), device)


def with_vorticity(prognostic: Tensor, grid: PeriodicGrid) -> Tensor:
    """Return velocity, its curl and the other channels, from ``(..., c, x, y)``.

    The velocity stands as it is, with the modes that the solver would drop.
    """
    s = spectrum_of(grid, prognostic.device)
    velocity, others = prognostic[..., :2, :, :], prognostic[..., 2:, :, :]
    u, v = s.forward(velocity.double()).unbind(-3)
    omega = s.inverse(s.odd * (s.ikx * v - s.iky * u)).to(velocity.dtype)
    return torch.cat([velocity, omega[..., None, :, :], others], dim=-3)


@dataclass(frozen=True)
class Medium:
    """What the vorticity of a trajectory meets; a term of strength 0 is not there.

    Wind and fields may also have a batch axis in front, see `batch_of`.

    Parameters
    ----------
    viscosity, drag, mean_drag
        nu and the friction of the eddies and of the mean flow.
    beta, wind
        Gradient of the Coriolis parameter, and the wind W ``(2,)``.
    force, mode
        Amplitude and periods of the Kolmogorov force.
    coriolis, brake, excess
        Fields ``(x, y)``: f = eps h, friction eps chi, and nu(x) - nu.
    diffusivity, lift
        kappa, None without a tracer, and the buoyancy ``eps e``.
    pinned
        Whether something depends on position. If nothing does, the flow is computed
        in the frame of its mean, which makes Galilei boosts exact.
    """

    viscosity: float
    drag: float = 0.0
    mean_drag: float = 0.0
    beta: tuple[float, float] = (0.0, 0.0)
    wind: Tensor = field(default_factory=lambda: torch.zeros(2, dtype=torch.float64))
    force: float = 0.0
    mode: int = 0
    coriolis: Tensor | None = None
    brake: Tensor | None = None
    excess: Tensor | None = None
    diffusivity: float | None = None
    lift: tuple[float, float] = (0.0, 0.0)
    pinned: bool = False

    def linear(self, spectrum: Spectrum) -> Tensor:
        """Return ``-nu k^2 - drag + i (beta_y k_x - beta_x k_y) / k^2``.

        A Rossby wave cos(k.x - s t) has ``s = -(beta_y k_x - beta_x k_y) / k^2``.
        """
        decay = -self.viscosity * spectrum.square - self.drag
        turning = self.beta[1] * spectrum.ikx - self.beta[0] * spectrum.iky
        return decay + turning * spectrum.inverse_square

    def force_of_vorticity(self, spectrum: Spectrum) -> Tensor | None:
        """Return the curl ``-eps k cos(k y)`` of the Kolmogorov force, or None."""
        if self.force == 0:
            return None
        result = torch.zeros_like(spectrum.square, dtype=torch.complex128)
        result[0, self.mode] = -self.force * spectrum.iky[0, self.mode].imag / 2
        return result


def medium_of(system: Flow, grid: PeriodicGrid, environment: Tensor) -> Medium:
    """Return the medium of one trajectory, from its environment ``(channels, x, y)``.

    Raises
    ------
    InputError
        When the environment has another shape than the terms need, the viscosity is
        not positive somewhere, or the grid does not hold the force.
    """
    spec = system.environment_fields
    if grid.num_axes != 2 or environment.shape != (spec.num_channels, *grid.shape):
        raise InputError(
            f"expected an environment ({spec.num_channels}, x, y) on 2 axes for "
            f"{spec.names} on {grid.shape}, got {tuple(environment.shape)}"
        )
    named = {
        name: environment[channels].to(torch.float64)
        for name, channels in spec.slices().items()
        if system.active(name)
    }
    drag = system.term(Drag)
    force = system.term(Kolmogorov)
    if force is not None and 3 * force.mode >= grid.shape[1]:
        raise InputError(
            f"kolmogorov.mode={force.mode}: the solver keeps modes below "
            f"{grid.shape[1] / 3:.3g}: lower it or raise the resolution"
        )
    friction = 0.0 if drag is None else drag.strength
    wind = named.get("mean_flow", environment.new_zeros(2, 1, 1, dtype=torch.float64))
    return Medium(
        viscosity=system.viscosity,
        drag=friction,
        mean_drag=friction if drag is not None and drag.mean else 0.0,
        beta=_scaled(system.term(Beta)),
        wind=wind[:, 0, 0],
        force=0.0 if force is None else force.strength,
        mode=0 if force is None else force.mode,
        coriolis=_only(named.get("topography")),
        brake=_brake(named.get("obstacle")),
        excess=_excess(named.get("viscosity"), system.viscosity),
        diffusivity=system.diffusivity if system.tracer else None,
        lift=_scaled(system.term(Buoyancy)),
        pinned=any(
            isinstance(t, FlowTerm) and t.pinned and t.strength > 0
            for t in system.breaking
        ),
    )


def batch_of(media: list[Medium]) -> Medium:
    """Return the media of one system side by side, or a single one for all states."""
    if len(media) == 1:
        return media[0]

    def stacked(fields: list[Tensor | None]) -> Tensor | None:
        there = [one for one in fields if one is not None]
        return torch.stack(there) if there else None

    return replace(
        media[0],
        wind=torch.stack([one.wind for one in media]),
        coriolis=stacked([one.coriolis for one in media]),
        brake=stacked([one.brake for one in media]),
        excess=stacked([one.excess for one in media]),
    )


def _scaled(term: Beta | Buoyancy | None) -> tuple[float, float]:
    if term is None:
        return 0.0, 0.0
    x, y = term.direction
    return term.strength * x, term.strength * y


def _only(field: Tensor | None) -> Tensor | None:
    return None if field is None else field[0]


def _brake(field: Tensor | None) -> Tensor | None:
    if field is not None and field.min() < 0:
        raise InputError(
            f"obstacle: expected a friction >= 0, got {float(field.min()):g}"
        )
    return _only(field)


def _excess(field: Tensor | None, viscosity: float) -> Tensor | None:
    if field is None:
        return None
    if field.min() <= 0:
        raise InputError(
            f"viscosity must be > 0, got {float(field.min()):g}: lower its strength"
        )
    return field[0] - viscosity
