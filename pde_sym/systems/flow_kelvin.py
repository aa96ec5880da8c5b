"""Kelvin's theorem: the circulation of loops that a two-dimensional flow carries.

``Gamma = oint u.dX`` around a material loop X(s, t), ``X_t = u(X, t)``, obeys

    dGamma/dt = nu oint Lap u.dX

for the intact flow (Batchelor, An Introduction to Fluid Dynamics, eq. 5.3.1), so that
Euler's flow keeps it. A force breaks it unless it is a gradient.

A loop is M markers ``(M, 2)`` at equal steps of s, in lengths and not wrapped into the
box; it must close without going round the torus. The velocity between grid points is
the trigonometric polynomial itself: interpolation would be wrong by orders more.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from pde_sym.grid import PeriodicGrid
from pde_sym.systems.flow import Flow
from pde_sym.systems.flow_dynamics import Spectrum, spectrum_of


def circle(centre: tuple[float, float], radius: float, markers: int) -> Tensor:
    """Return a loop ``(markers, 2)`` that runs counter-clockwise."""
    s = 2 * torch.pi * torch.arange(markers, dtype=torch.float64) / markers
    ring = torch.stack([torch.cos(s), torch.sin(s)], dim=1)
    return torch.tensor(centre, dtype=torch.float64) + radius * ring


def velocity_at(points: Tensor, state: Tensor, grid: PeriodicGrid) -> Tensor:
    """Return the velocity ``(M, 2)`` of one state at points ``(M, 2)``."""
    spectrum = spectrum_of(grid, state.device)
    return _evaluate(spectrum, _velocity(spectrum, state), points)


def circulation(points: Tensor, state: Tensor, grid: PeriodicGrid) -> float:
    """Return ``oint u.dX`` around a loop in one state ``(channels, x, y)``."""
    return _around(points, velocity_at(points, state, grid))


def viscous_rate(
    points: Tensor, state: Tensor, grid: PeriodicGrid, viscosity: float
) -> float:
    """Return ``nu oint Lap u.dX``."""
    spectrum = spectrum_of(grid, state.device)
    laplacian = -spectrum.square * _velocity(spectrum, state)
    return viscosity * _around(points, _evaluate(spectrum, laplacian, points))


def carried(
    system: Flow,
    grid: PeriodicGrid,
    environment: Tensor,
    state: Tensor,
    points: Tensor,
    dt: float,
    num_steps: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield one state ``(channels, x, y)`` and its loop after 0, 1, .. steps of dt.

    The markers move by the classical Runge-Kutta method; `system` gives the flow at
    the ends and in the middle of each step.
    """
    half = system.solver(grid, environment, dt / 2)
    spectrum = spectrum_of(grid, state.device)
    yield state, points
    for _ in range(num_steps):
        middle = half(state[None])[0]
        end = half(middle[None])[0]
        first, mid, last = (_velocity(spectrum, one) for one in (state, middle, end))
        a = _evaluate(spectrum, first, points)
        b = _evaluate(spectrum, mid, points + dt / 2 * a)
        c = _evaluate(spectrum, mid, points + dt / 2 * b)
        d = _evaluate(spectrum, last, points + dt * c)
        state, points = end, points + dt / 6 * (a + 2 * b + 2 * c + d)
        yield state, points


def _velocity(spectrum: Spectrum, state: Tensor) -> Tensor:
    return spectrum.forward(state[:2].double())


def _evaluate(spectrum: Spectrum, coefficients: Tensor, points: Tensor) -> Tensor:
    """Return real fields of coefficients ``(2, x, y)`` at points, ``(M, 2)``."""
    along_x = torch.exp(points[:, :1] * spectrum.ikx[:, 0])
    along_y = torch.exp(points[:, 1:] * spectrum.iky[0])
    weighted = spectrum.weights * coefficients
    return torch.einsum("mx,cxy,my->mc", along_x, weighted, along_y).real


def _around(points: Tensor, values: Tensor) -> float:
    """Return ``oint values.dX`` with the spectral derivative of the loop."""
    number = len(points)
    # The derivative of the mode M / 2 is not on the markers.
    modes = torch.fft.rfftfreq(number, d=1 / number, dtype=torch.float64)
    modes = torch.where(2 * modes < number, modes, 0.0)[:, None]
    tangent = torch.fft.irfft(
        2j * torch.pi * modes * torch.fft.rfft(points, dim=0), n=number, dim=0
    )
    return float((values * tangent).sum() / number)
