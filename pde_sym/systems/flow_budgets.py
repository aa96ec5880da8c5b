"""Invariants of the flow and their budgets, from closed and weak forms.

Means over the box, of states with any batch axes. With a force F the weak forms are

    <u>_t = <F>,   <|u|^2 / 2>_t = <u.F>,   <w^2 / 2>_t = <w_y F_x - w_x F_y>,

and derivatives fall on the smooth fields only; the fluxes of the solver do not appear.
They hold to round-off for the truncated system, because a mean of products on the
grid is the sum over modes that the solver keeps.
"""

import torch
from torch import Tensor

from pde_sym.grid import PeriodicGrid
from pde_sym.systems.base import Budget
from pde_sym.systems.flow import Flow
from pde_sym.systems.flow_dynamics import (
    Medium,
    Modes,
    Spectrum,
    batch_of,
    medium_of,
    spectrum_of,
)

BUDGETS: tuple[str, ...] = ("momentum_x", "momentum_y", "energy", "enstrophy")
"""What the solver integrates, in its order."""
TRACER_BUDGETS: tuple[str, ...] = ("tracer", "tracer_variance")
"""What follows with a tracer."""


def rates(medium: Medium, spectrum: Spectrum, modes: Modes) -> Budget:
    """Return the rate of each invariant.

    Beta and the wind W leave all of them alone and do not appear.
    """
    omega, mean, tracer = modes
    power = spectrum.weights * (omega.real.square() + omega.imag.square())
    momentum = torch.zeros_like(mean)
    axes = (-2, -1)
    energy = -medium.viscosity * power.sum(axes)
    enstrophy = -medium.viscosity * (spectrum.square * power).sum(axes)
    if medium.drag:
        momentum = momentum - medium.mean_drag * mean
        energy = energy - medium.drag * (spectrum.inverse_square * power).sum(axes)
        energy = energy - medium.mean_drag * mean.square().sum(-1)
        enstrophy = enstrophy - medium.drag * power.sum(axes)
    if medium.force:
        # <u sin(k y)> = -Im u_k and <w cos(k y)> = Re w_k at k = (0, mode).
        k = spectrum.iky[0, medium.mode].imag
        w = omega[..., 0, medium.mode]
        energy = energy - medium.force * (spectrum.velocity[0, 0, medium.mode] * w).imag
        enstrophy = enstrophy - medium.force * k * w.real
    if medium.coriolis is not None or medium.brake is not None:
        for part in _of_position(medium, spectrum, omega, mean):
            momentum, energy = momentum + part[..., :2], energy + part[..., 2]
            enstrophy = enstrophy + part[..., 3]
    if medium.excess is not None:
        stress = _of_stress(medium.excess, spectrum, omega, mean)
        energy, enstrophy = energy + stress[0], enstrophy + stress[1]
    if tracer is not None:
        lifted = _of_lift(medium.lift, spectrum, modes, tracer)
        momentum, energy = momentum + lifted[..., :2], energy + lifted[..., 2]
        enstrophy = enstrophy + lifted[..., 3]
    changes = (momentum[..., 0], momentum[..., 1], energy, enstrophy)
    result: Budget = dict(zip(BUDGETS, changes, strict=True))
    if tracer is not None and medium.diffusivity is not None:
        spread = spectrum.inner(tracer, spectrum.square * tracer)
        result["tracer"] = torch.zeros_like(spread)
        result["tracer_variance"] = -medium.diffusivity * spread
    return result


def _of_lift(
    lift: tuple[float, float], spectrum: Spectrum, modes: Modes, b: Tensor
) -> Tensor:
    """Return the rates ``(..., 4)`` of ``F = b e``.

    They are ``<b> e``, ``<b u.e>`` and, of enstrophy, ``<b (e_x w_y - e_y w_x)>``.
    """
    ex, ey = lift
    u, v = spectrum.velocity_of(modes.omega, modes.mean).unbind(-3)
    wx, wy = spectrum.ikx * modes.omega, spectrum.iky * modes.omega
    average = b[..., 0, 0].real
    energy = ex * spectrum.inner(u, b) + ey * spectrum.inner(v, b)
    enstrophy = ex * spectrum.inner(wy, b) - ey * spectrum.inner(wx, b)
    return torch.stack([ex * average, ey * average, energy, enstrophy], dim=-1)


def _of_position(
    medium: Medium, spectrum: Spectrum, omega: Tensor, mean: Tensor
) -> list[Tensor]:
    """Return the rates ``(..., 4)`` of ``F = f (v, -u)`` and of ``F = -chi u``."""
    gradient = torch.stack([spectrum.ikx * omega, spectrum.iky * omega], dim=-3)
    velocity = spectrum.velocity_of(omega, mean)
    fields = spectrum.inverse(torch.cat([velocity, gradient], dim=-3))
    u, v, wx, wy = fields.unbind(-3)
    parts = []
    if (f := medium.coriolis) is not None:
        densities = [f * v, -f * u, torch.zeros_like(u), f * (u * wx + v * wy)]
        parts.append(torch.stack(densities, dim=-1).mean((-3, -2)))
    if (chi := medium.brake) is not None:
        densities = [chi * u, chi * v, chi * (u * u + v * v), chi * (u * wy - v * wx)]
        parts.append(-torch.stack(densities, dim=-1).mean((-3, -2)))
    return parts


def _of_stress(
    excess: Tensor, spectrum: Spectrum, omega: Tensor, mean: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the rates of energy and enstrophy of the stress ``2 excess S``.

    ``-<excess (4 u_x^2 + (u_y + v_x)^2)>`` and
    ``<excess ((w_xx - w_yy)(u_y + v_x) - 4 w_xy u_x)>``.
    """
    u, v = spectrum.velocity_of(omega, mean).unbind(-3)
    ikx, iky = spectrum.ikx, spectrum.iky
    fields = [ikx * u, iky * u + ikx * v, (ikx**2 - iky**2) * omega, ikx * iky * omega]
    inverse = spectrum.inverse(torch.stack(fields, dim=-3))
    stretch, shear, difference, mixed = inverse.unbind(-3)
    lost = excess * (4 * stretch**2 + shear**2)
    gained = excess * (difference * shear - 4 * mixed * stretch)
    return -lost.mean((-2, -1)), gained.mean((-2, -1))


def measure(state: Tensor, grid: PeriodicGrid) -> Budget:
    """Return the invariants of stored states ``(batch, channels, x, y)``.

    From the fields as they stand, so that a surrogate's are not projected first.
    """
    velocity, omega = state[:, :2], state[:, 2]
    mean = velocity.mean((-2, -1))
    s = spectrum_of(grid, state.device)
    u, v = s.forward(velocity).unbind(1)
    power = (s.odd * (s.ikx * u + s.iky * v)).abs().square()
    # Twice what stands for two; the least number keeps the slope finite at 0.
    squares = 2 * power.sum((-2, -1)) - power[..., 0].sum(-1)
    result = {
        "energy": velocity.square().sum(1).mean((-2, -1)) / 2,
        "enstrophy": omega.square().mean((-2, -1)) / 2,
        "momentum_x": mean[:, 0],
        "momentum_y": mean[:, 1],
        "divergence": (squares + torch.finfo(torch.float64).tiny).sqrt(),
    }
    if state.shape[1] > 3:
        result["tracer"] = state[:, 3].mean((-2, -1))
        result["tracer_variance"] = state[:, 3].square().mean((-2, -1)) / 2
    return result


def weak_rates(
    system: Flow, state: Tensor, grid: PeriodicGrid, environment: Tensor
) -> Budget:
    """Return the rates of stored states ``(batch, channels, x, y)``."""
    spectrum = spectrum_of(grid, state.device)
    medium = batch_of([medium_of(system, grid, one) for one in environment])
    return in_order(system, rates(medium, spectrum, spectrum.decompose(state)))


def in_order(system: Flow, changes: Budget) -> Budget:
    """Return the changes of all invariants of a system; the divergence stays 0."""
    zero = torch.zeros_like(changes["energy"])
    return {i.name: changes.get(i.name, zero) for i in system.invariants}
