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
    2.18), all of whose stages are means of Euler steps and are projected. Its weights
    are those of the budgets, and the energy's has `energy_of_step` besides.
    """
    s, w, stage_budgets, stages = smoke, faces, [], [faces]
    changes, h = h[..., None], h[..., None, None]
    for kept in (0.0, 3 / 4, 1 / 3):
        rate_s, rate_w = rates(box, s, w)
        stage_budgets.append(budget_rates(box, s, w))
        s = kept * smoke + (1 - kept) * (s + h * rate_s)
        u = kept * faces.u + (1 - kept) * (w.u + h * rate_w.u)
        v = kept * faces.v + (1 - kept) * (w.v + h * rate_w.v)
        w = box.projection(Faces(u, v))
        stages.append(w)
    first, second, third = stage_budgets
    change = changes * (first + second + 4 * third) / 6
    change[..., 1] += energy_of_step(stages, box.projection.dx * box.projection.dy)
    return s, w, change


def energy_of_step(stages: list[Faces], cell: float) -> Tensor:
    """Return the energy that a step itself makes, ``(..)``, from w_0 and its stages.

    A Runge-Kutta step with rates k_i changes ``<w, w> / 2`` by

        h sum b_i <w_i, k_i> - h^2 / 2 sum (b_i a_ij + b_j a_ji - b_i b_j) <k_i, k_j>

    (Burrage, Butcher 1979, SIAM J. Numer. Anal. 16). For `step` the second part is

        <w_3 - w_0, w_3 - 2 w_2 + w_0> / 2 + |w_1 - 2 w_2 + w_0|^2 / 6,

    of fourth order in h, so that the solver's own time error stays out of the residual.
    """
    total: Tensor | float = 0.0
    for w0, w1, w2, w3 in zip(*stages, strict=True):
        long = (w3 - w0) * (w3 - 2 * w2 + w0) / 2
        total = total + (long + (w1 - 2 * w2 + w0).square() / 6).sum((-2, -1))
    return cell * torch.as_tensor(total)


def budget_rates(box: Box, smoke: Tensor, faces: Faces) -> Tensor:
    """Return the rates of total smoke and of energy, ``(2,)`` after any leading axes.

    ``int q``, and `physical_rate` with `scheme_rate`, which together are the rate of
    `energy` under `rates` and the projection, but for round-off.
    """
    p = box.projection
    own = scheme_rate(faces, box.wall, (p.dx, p.dy))
    rate = physical_rate(box, smoke, faces) + own
    inflow = box.inflow.sum((-2, -1)).expand_as(rate)
    return torch.stack([p.dx * p.dy * inflow, rate], dim=-1)


def energy(faces: Faces, cell: float) -> Tensor:
    """Return ``dx dy sum w^2 / 2`` over the faces, ``(..)``, with the area of a cell.

    The projection is orthogonal in this square: pressure does no work.
    """
    u, v = faces
    return cell * (u.square().sum((-2, -1)) + v.square().sum((-2, -1))) / 2


def physical_rate(box: Box, smoke: Tensor, faces: Faces) -> Tensor:
    """Return the work of the lift less what viscosity takes, ``(..)``.

    ``int s F.u - nu |grad u|^2``: the one with the means over faces at the centres,
    the other with the slopes between faces, up to walls and solids.
    """
    p, turned = box.projection, faces.mirrored
    work = ((box.lift * centres_of(faces)).sum(-3) * smoke).sum((-2, -1))
    loss = _square_gradient(faces.u, box.wall, (p.dx, p.dy))
    loss = loss + _square_gradient(turned.u, box.wall, (p.dy, p.dx))
    return p.dx * p.dy * (work - box.viscosity * loss)


def scheme_rate(faces: Faces, wall: float, spacing: tuple[float, float]) -> Tensor:
    """Return the rate at which the upwind fluxes alone change the energy, ``(..)``.

        -dx dy sum |a| delta (delta - delta') / (6 d)

    with the wind a between two velocities that are d apart and differ by delta, and
    the difference delta' next upwind. The mean of the two velocities, as a flux, moves
    energy but takes none, since a has no divergence; this is the rest of `upwind`. It
    has no counterpart in the equation: along each axis, where w is smooth, it tends to

        d^2 int a_x w_x^2 / 12 - d^3 int (|a| w_xx^2 / 12 - |a|_xx w_x^2 / 24).
    """
    dx, dy = spacing
    taken = _upwind_loss(faces, wall, (dx, dy))
    return -dx * dy * (taken + _upwind_loss(faces.mirrored, wall, (dy, dx)))


def _square_gradient(u: Tensor, wall: float, spacing: tuple[float, float]) -> Tensor:
    """Return ``sum |grad u|^2`` of the velocity on the faces along x.

    Half a cell from a wall to which it sticks the slope is ``2 u / dy``.
    """
    dx, dy = spacing
    sides = (1 - wall) * (u[..., 0].square() + u[..., -1].square())
    across = u.diff(dim=-1).square().sum((-2, -1)) + sides.sum(-1)
    return u.diff(dim=-2).square().sum((-2, -1)) / dx**2 + across / dy**2


def _upwind_loss(faces: Faces, wall: float, spacing: tuple[float, float]) -> Tensor:
    """Return what the velocities along x have in the sum of `scheme_rate`."""
    u, v = faces
    dx, dy = spacing
    # Through the wall u is odd: the difference there is repeated.
    along = u.diff(dim=-2)
    along = torch.cat([along[..., :1, :], along, along[..., -1:, :]], dim=-2)
    taken = _against(
        (u[..., 1:, :] + u[..., :-1, :]) / 2,
        (along[..., :-2, :], along[..., 1:-1, :], along[..., 2:, :]),
    )
    ends = (1 - wall) * u[..., :1], (wall - 1) * u[..., -1:]
    across = torch.cat([ends[0], u.diff(dim=-1), ends[1]], dim=-1)[..., 1:-1, :]
    beside = _against(
        (v[..., 1:, 1:-1] + v[..., :-1, 1:-1]) / 2,
        (across[..., :-2], across[..., 1:-1], across[..., 2:]),
    )
    return taken / dx + beside / dy


def _against(wind: Tensor, differences: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Return ``sum |a| delta (delta - delta') / 6``."""
    before, delta, after = differences
    upwind_one = torch.where(wind > 0, before, after)
    return (wind.abs() * delta * (delta - upwind_one)).sum((-2, -1)) / 6


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
