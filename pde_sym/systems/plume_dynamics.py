"""Rates and time step of the smoke plume on a staggered grid: the readable reference.

Smoke lies at the centres of the cells, velocities on their faces, as in
`pde_sym.projection`. All functions take any leading axes. Both axes are treated alike:
what is done for u along x is done for v by exchanging the axes, so that turns and
flips of the box commute with a step but for round-off.

Walls are mirrors: the flow along them slips freely (even) or sticks (odd), the flow
through them is odd, smoke is even.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from pde_sym.projection import Faces, Projection, centres_of

COURANT = 0.05
"""h times the flow out of any cell is at most this: frames then have a time error below
1e-6. Smoke would keep its bounds up to 1/2."""
VISCOUS = 1.6
"""``4 nu h (1 / dx^2 + 1 / dy^2)`` is at most this; the explicit limit is 2.5."""


@dataclass(frozen=True)
class Box:
    """One box, or several with the same solid, with everything that acts in them.

    Parameters
    ----------
    projection
        The projection of the box with its solids.
    lift
        Force per unit of smoke at the centres, ``(.., 2, N_x, N_y)``.
    inflow
        Rate at which smoke comes in, ``(.., N_x, N_y)``.
    viscosity
        nu.
    wall
        1 where the flow slips along walls, -1 where it sticks.
    refinement
        How many times finer the steps are than `largest_step` asks for otherwise.
    """

    projection: Projection
    lift: Tensor
    inflow: Tensor
    viscosity: float
    wall: float
    refinement: int = 1


def upwind(speed: Tensor, q: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """Return the flux of q at a face between the second and the third of four cells.

    The value at the face is ``(-q_0 + 5 q_1 + 2 q_2) / 6`` with the wind, of third
    order; the flux ``a q`` of both winds is

        (7 a (q_1 + q_2) - a (q_0 + q_3) + |a| (q_3 - q_0 - 3 (q_2 - q_1))) / 12.
    """
    q0, q1, q2, q3 = q
    centred = 7 * (q1 + q2) - (q0 + q3)
    return (speed * centred + speed.abs() * ((q3 - q0) - 3 * (q2 - q1))) / 12


def momentum_rate(
    faces: Faces, viscosity: float, wall: float, spacing: tuple[float, float]
) -> Tensor:
    """Return ``-div(w u) + nu Lap u`` on the faces of u, zero on the walls.

    Each face is in the middle of a cell of its own, whose faces see the mean of the
    two nearest velocities: these have no divergence if w has none.
    """
    u, v = faces
    dx, dy = spacing
    # Through the wall u is odd; along it even or odd.
    ux = torch.cat([-u[..., 1:2, :], u, -u[..., -2:-1, :]], dim=-2)
    inner = u[..., 1:-1, :]
    uy = torch.cat([wall * inner[..., :1], inner, wall * inner[..., -1:]], dim=-1)
    along = upwind(
        (u[..., 1:, :] + u[..., :-1, :]) / 2,
        (ux[..., :-3, :], ux[..., 1:-2, :], ux[..., 2:-1, :], ux[..., 3:, :]),
    )
    across = upwind(
        (v[..., 1:, 1:-1] + v[..., :-1, 1:-1]) / 2,
        (uy[..., :-3], uy[..., 1:-2], uy[..., 2:-1], uy[..., 3:]),
    )
    rate = -along.diff(dim=-2) / dx - pad(across, (1, 1)).diff(dim=-1) / dy
    bend = u.diff(n=2, dim=-2) / dx**2 + uy.diff(n=2, dim=-1) / dy**2
    return pad(rate + viscosity * bend, (0, 0, 1, 1))


def smoke_rate(s: Tensor, u: Tensor, dx: float) -> Tensor:
    """Return the part of ``-div(w s)`` that u along x brings about.

    The value at a face is the one of `upwind` as far as the limiter of Koren (1993)
    allows: at most twice the slope on either side, none at an extremum.
    """
    speed = u[..., 1:-1, :]
    slope = pad(s.diff(dim=-2), (0, 0, 1, 1))
    behind, here, ahead = slope[..., :-2, :], slope[..., 1:-1, :], slope[..., 2:, :]
    left = s[..., :-1, :] + limited(behind, here)
    right = s[..., 1:, :] - limited(ahead, here)
    flux = speed.clamp(min=0) * left + speed.clamp(max=0) * right
    return -pad(flux, (0, 0, 1, 1)).diff(dim=-2) / dx


def limited(upstream: Tensor, here: Tensor) -> Tensor:
    """Return the step from a centre to its face downstream, from slopes on both sides.

    ``(upstream + 2 here) / 6``, but at most either slope, and 0 if they disagree.
    """
    a, b = upstream.abs(), here.abs()
    step = torch.minimum(torch.minimum(a, b), (a + 2 * b) / 6)
    return torch.where(upstream * here > 0, step * here.sign(), 0.0)


def rates(box: Box, smoke: Tensor, faces: Faces) -> tuple[Tensor, Faces]:
    """Return the rates of smoke and velocity, the latter before the projection."""
    dx, dy = box.projection.dx, box.projection.dy
    turned = faces.mirrored
    u = momentum_rate(faces, box.viscosity, box.wall, (dx, dy))
    v = momentum_rate(turned, box.viscosity, box.wall, (dy, dx)).transpose(-1, -2)
    fx, fy = (lift * smoke for lift in box.lift.unbind(-3))
    u = u + pad((fx[..., 1:, :] + fx[..., :-1, :]) / 2, (0, 0, 1, 1))
    v = v + pad((fy[..., 1:] + fy[..., :-1]) / 2, (1, 1))
    along_y = smoke_rate(smoke.transpose(-1, -2), turned.u, dy).transpose(-1, -2)
    return smoke_rate(smoke, faces.u, dx) + along_y + box.inflow, Faces(u, v)


def step(
    box: Box, smoke: Tensor, faces: Faces, h: Tensor
) -> tuple[Tensor, Faces, Tensor]:
    """Return smoke, velocity and the change of the budgets after a step h, ``(..)``.

    The third-order Runge-Kutta method of Shu and Osher (1988, J. Comput. Phys. 77, eq.
    2.18), all of whose stages are means of Euler steps and are projected.
    """
    s, w, stage_budgets = smoke, faces, []
    changes, h = h[..., None], h[..., None, None]
    for kept in (0.0, 3 / 4, 1 / 3):
        rate_s, rate_w = rates(box, s, w)
        stage_budgets.append(budget_rates(box, s, centres_of(w)))
        s = kept * smoke + (1 - kept) * (s + h * rate_s)
        u = kept * faces.u + (1 - kept) * (w.u + h * rate_w.u)
        v = kept * faces.v + (1 - kept) * (w.v + h * rate_w.v)
        w = box.projection(Faces(u, v))
    first, second, third = stage_budgets
    return s, w, changes * (first + second + 4 * third) / 6


def budget_rates(box: Box, smoke: Tensor, velocity: Tensor) -> Tensor:
    """Return the rates of total smoke and of energy, from fields at the centres.

    ``int q`` and ``int s e.u - nu |grad u|^2``, ``(2,)`` after any leading axes.
    """
    p = box.projection
    work = (box.lift * velocity).sum(-3) * smoke
    loss = _square_gradient(velocity[..., 0, :, :], box.wall, (p.dx, p.dy))
    turned = velocity[..., 1, :, :].transpose(-1, -2)
    loss = loss + _square_gradient(turned, box.wall, (p.dy, p.dx))
    energy = work.sum((-2, -1)) - box.viscosity * loss
    inflow = box.inflow.sum((-2, -1)).expand_as(energy)
    return p.dx * p.dy * torch.stack([inflow, energy], dim=-1)


def _square_gradient(u: Tensor, wall: float, spacing: tuple[float, float]) -> Tensor:
    """Return ``sum |grad u|^2`` of a velocity along x, which is odd at its walls."""
    dx, dy = spacing
    ends = u[..., 0, :].square() + u[..., -1, :].square()
    total = (u.diff(dim=-2).square().sum((-2, -1)) + 2 * ends.sum(-1)) / dx**2
    total = total + u.diff(dim=-1).square().sum((-2, -1)) / dy**2
    if wall < 0:
        sides = u[..., 0].square() + u[..., -1].square()
        total = total + 2 * sides.sum(-1) / dy**2
    return total


def largest_step(box: Box, smoke: Tensor, faces: Faces, remaining: Tensor) -> Tensor:
    """Return the longest step that each state allows, at most `remaining`, ``(..)``.

    With V the largest flow out of a cell over its volume and F the largest rate at
    which the lift can raise it, ``h (V + h F) = COURANT``. Both are maxima over cells
    of sums over the axes, which turns and flips leave alone. A state that is not
    finite allows no step at all. A refinement divides all of it.
    """
    courant, viscous = COURANT / box.refinement, VISCOUS / box.refinement
    dx, dy = box.projection.dx, box.projection.dy
    u, v = faces.u.abs(), faces.v.abs()
    out = (u[..., 1:, :] + u[..., :-1, :]) / (2 * dx)
    out = out + (v[..., 1:] + v[..., :-1]) / (2 * dy)
    most = smoke.abs() + remaining[..., None, None] * box.inflow
    lift_x, lift_y = box.lift.abs().unbind(-3)
    pull = most * (lift_x / dx + lift_y / dy)
    speed, force = out.amax((-2, -1)), pull.amax((-2, -1))
    root = speed + (speed**2 + 4 * courant * force).sqrt()
    stiffness = 4 * box.viscosity * (1 / dx**2 + 1 / dy**2)
    longest = torch.minimum(2 * courant / root, remaining)
    if stiffness:
        longest = longest.clamp(max=viscous / stiffness)
    return torch.where(root < torch.inf, longest, 0.0)
