"""Compiled frames of the smoke plume, one trajectory at a time.

The formulas are those of `pde_sym.systems.plume_dynamics`, in loops. What is done for u
along x is done for v by the same loop on transposed copies; the matrices of cosines
give way to the fast transform.
"""

import math

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from rocket_fft.lowlevel import dct
from torch import Tensor

from pde_sym.projection import Faces
from pde_sym.systems.plume_dynamics import COURANT, VISCOUS, Box

Array = NDArray[np.float64]


class CompiledBox:
    """The dynamics in one box, with its constants laid out for the loops."""

    def __init__(self, box: Box) -> None:
        def plain(values: Tensor) -> Array:
            return np.ascontiguousarray(values.numpy())

        p = box.projection
        surface = [np.stack([plain(i) for i in index], axis=1) for index in p.surface]
        # The transform and its inverse together multiply by 2 N along each axis.
        self._solve = plain(p.inverse / (4 * p.inverse.numel()))
        self._solid = (plain(p.open.u), plain(p.open.v), *surface, plain(p.capacitance))
        lift_x, lift_y = box.lift
        self._forces = (
            plain(lift_x),
            plain(lift_y.T),
            plain(box.inflow),
            p.dx * p.dy * float(box.inflow.sum()),
            plain(lift_x.abs() / p.dx + lift_y.abs() / p.dy),
        )
        # As numbers, not as globals: those are frozen into the compilation's cache.
        limits = (COURANT / box.refinement, VISCOUS / box.refinement)
        self._numbers = (box.viscosity, box.wall, p.dx, p.dy, *limits)

    def advance(
        self, smoke: Tensor, faces: Faces, dt: float, steps: int, most: int
    ) -> tuple[Tensor, Faces, Tensor, float]:
        """Return smoke, velocity, change of the budgets and the time that was reached.

        `steps` is a fixed number of steps, or 0 for the bound of `largest_step`; the
        time falls short of dt where more than `most` steps of that size are needed.
        """
        s, u, v = (np.array(part.numpy(), order="C") for part in (smoke, *faces))
        budget = np.zeros(2)
        after, reached = _advance(
            (s, u, v), budget, dt, steps, most,
            self._forces, self._numbers, self._solve, self._solid,
        )  # fmt: skip
        s, u, v = (torch.from_numpy(part) for part in after)
        return s, Faces(u, v), torch.from_numpy(budget), reached


@njit(cache=True)
def _upwind(a, q0, q1, q2, q3):
    """Return twelve times the flux of `plume_dynamics.upwind`."""
    centred = 7 * (q1 + q2) - (q0 + q3)
    return a * centred + abs(a) * ((q3 - q0) - 3 * (q2 - q1))


@njit(cache=True)
def _limited(upstream, here):
    a, b = abs(upstream), abs(here)
    least = min(min(a, b), (a + 2 * b) * (1 / 6))
    return math.copysign(least, here) if upstream * here > 0 else 0.0


@njit(cache=True)
def _momentum(u, v, s, lift, viscosity, wall, dx, dy, rate):
    """Write the rate of u on its inner faces; the others are left alone."""
    nx, ny = s.shape
    before, after = np.zeros(ny), np.zeros(ny)
    row, across = np.empty(ny + 2), np.zeros(ny + 1)
    # Twice the mean velocity and twelve times the flux.
    flux_x, flux_y = 1 / (24 * dx), 1 / (24 * dy)
    bend_x, bend_y = viscosity / dx**2, viscosity / dy**2
    for i in range(nx):
        # Flux through the centre of cell i, between the faces i and i + 1.
        low, sign_low = (i - 1, 1.0) if i > 0 else (1, -1.0)
        high, sign_high = (i + 2, 1.0) if i < nx - 1 else (nx - 1, -1.0)
        for j in range(ny):
            after[j] = _upwind(
                u[i, j] + u[i + 1, j],
                sign_low * u[low, j],
                u[i, j],
                u[i + 1, j],
                sign_high * u[high, j],
            )
        if i > 0:
            for j in range(ny):
                row[j + 1] = u[i, j]
            row[0], row[ny + 1] = wall * u[i, 0], wall * u[i, ny - 1]
            for j in range(1, ny):
                a = v[i, j] + v[i - 1, j]
                across[j] = _upwind(a, row[j - 1], row[j], row[j + 1], row[j + 2])
            for j in range(ny):
                middle = 2 * row[j + 1]
                change = bend_x * ((u[i + 1, j] + u[i - 1, j]) - middle)
                change += bend_y * ((row[j + 2] + row[j]) - middle)
                change -= flux_x * (after[j] - before[j])
                change -= flux_y * (across[j + 1] - across[j])
                pull = lift[i, j] * s[i, j] + lift[i - 1, j] * s[i - 1, j]
                rate[i, j] = change + 0.5 * pull
        # An exchange of the two would hide from the compiler that they differ.
        for j in range(ny):
            before[j] = after[j]


@njit(cache=True)
def _smoke(s, u, dx, rate):
    """Write the rate of smoke that u along x brings about."""
    nx, ny = s.shape
    before, after = np.zeros(ny), np.zeros(ny)
    scale = 1 / dx
    for i in range(nx):
        # Flux through the face between the cells i and i + 1.
        low, high = max(i - 1, 0), min(i + 2, nx - 1)
        for j in range(ny):
            if i < nx - 1:
                here = s[i + 1, j] - s[i, j]
                left = s[i, j] + _limited(s[i, j] - s[low, j], here)
                right = s[i + 1, j] - _limited(s[high, j] - s[i + 1, j], here)
                a = u[i + 1, j]
                after[j] = max(a, 0.0) * left + min(a, 0.0) * right
            else:
                after[j] = 0.0
            rate[i, j] = scale * (before[j] - after[j])
        before, after = after, before


@njit(cache=True)
def _multiply(a, factor):
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            a[i, j] *= factor[i, j]


@njit(cache=True)
def _transposed(a):
    out = np.empty((a.shape[1], a.shape[0]))
    for j in range(a.shape[1]):
        for i in range(a.shape[0]):
            out[j, i] = a[i, j]
    return out


@njit(cache=True)
def _divergence(u, v, dx, dy):
    nx, ny = u.shape[0] - 1, u.shape[1]
    out = np.empty((nx, ny))
    scale_x, scale_y = 1 / dx, 1 / dy
    for i in range(nx):
        for j in range(ny):
            along_x = scale_x * (u[i + 1, j] - u[i, j])
            out[i, j] = along_x + scale_y * (v[i, j + 1] - v[i, j])
    return out


@njit(cache=True)
def _potential(divergence, inverse):
    """Return ``(D G)^+ d`` by cosine transforms along both axes."""
    spectrum, result = np.empty_like(divergence), np.empty_like(divergence)
    axes = np.arange(2)
    dct(divergence, spectrum, axes, 2, 1.0, False, 1)  # type: ignore
    _multiply(spectrum, inverse)
    dct(spectrum, result, axes, 3, 1.0, False, 1)  # type: ignore
    return result


@njit(cache=True)
def _project(u, v, solve, solid, dx, dy):
    """Project the velocity in place."""
    open_u, open_v, surface_u, surface_v, capacitance = solid
    nx, ny = u.shape[0] - 1, u.shape[1]
    number, split = len(capacitance), len(surface_u)
    if number:
        _multiply(u, open_u)
        _multiply(v, open_v)
    potential = _potential(_divergence(u, v, dx, dy), solve)
    if number:
        through = np.empty(number)
        for k in range(split):
            i, j = surface_u[k, 0], surface_u[k, 1]
            through[k] = -(potential[i, j] - potential[i - 1, j]) / dx
        for k in range(split, number):
            i, j = surface_v[k - split, 0], surface_v[k - split, 1]
            through[k] = -(potential[i, j] - potential[i, j - 1]) / dy
        for k in range(number):
            force = 0.0
            for m in range(number):
                force += capacitance[k, m] * through[m]
            if k < split:
                u[surface_u[k, 0], surface_u[k, 1]] -= force
            else:
                v[surface_v[k - split, 0], surface_v[k - split, 1]] -= force
        potential = _potential(_divergence(u, v, dx, dy), solve)
    scale_x, scale_y = 1 / dx, 1 / dy
    for i in range(1, nx):
        for j in range(ny):
            u[i, j] -= scale_x * (potential[i, j] - potential[i - 1, j])
    for i in range(nx):
        for j in range(1, ny):
            v[i, j] -= scale_y * (potential[i, j] - potential[i, j - 1])
    if number:
        _multiply(u, open_u)
        _multiply(v, open_v)


@njit(cache=True)
def _against(a, before, delta, after):
    """Return ``|a| (delta - delta')``, delta' upwind."""
    return max(a, 0.0) * (delta - before) - min(a, 0.0) * (delta - after)


@njit(cache=True)
def _energy_rate(s, u, v, lift, viscosity, wall, dx, dy):
    """Return the rate of the sum of ``u^2 / 2``; see `plume_dynamics.budget_rates`.

    The work of the lift, less what viscosity and upwinding take.
    """
    nx, ny = s.shape
    # Column by column; the wind is twice the mean velocity.
    columns, row, sides = np.zeros(ny), np.empty(ny + 1), 0.0
    before, delta = np.empty(ny), np.empty(ny)
    for j in range(ny):
        before[j] = delta[j] = u[1, j] - u[0, j]
    bend_x, bend_y = viscosity / dx**2, viscosity / dy**2
    flux_x, flux_y = 1 / (12 * dx), 1 / (12 * dy)
    for i in range(nx):
        high = min(i + 1, nx - 1)
        for j in range(ny):
            here, after = delta[j], u[high + 1, j] - u[high, j]
            wind = u[i, j] + u[i + 1, j]
            taken = flux_x * _against(wind, before[j], here, after) + bend_x * here
            columns[j] += 0.5 * lift[i, j] * s[i, j] * wind - here * taken
            before[j], delta[j] = here, after
        if i > 0:
            for j in range(1, ny):
                row[j] = u[i, j] - u[i, j - 1]
            row[0], row[ny] = (1 - wall) * u[i, 0], (wall - 1) * u[i, ny - 1]
            for j in range(1, ny):
                wind = v[i, j] + v[i - 1, j]
                taken = flux_y * _against(wind, row[j - 1], row[j], row[j + 1])
                columns[j] -= row[j] * (taken + bend_y * row[j])
            sides += u[i, 0] ** 2 + u[i, ny - 1] ** 2
    total = -bend_y * (1 - wall) * sides
    for j in range(ny):
        total += columns[j]
    return total


@njit(cache=True)
def _of_step(w0, w1, w2, w3):
    """Return the sum of `plume_dynamics.energy_of_step` over the faces of one kind."""
    columns, total = np.zeros(w0.shape[1]), 0.0
    for i in range(w0.shape[0]):
        for j in range(w0.shape[1]):
            chord = w0[i, j] - 2 * w2[i, j]
            columns[j] += 0.5 * (w3[i, j] - w0[i, j]) * (w3[i, j] + chord)
            columns[j] += (1 / 6) * (w1[i, j] + chord) ** 2
    for j in range(w0.shape[1]):
        total += columns[j]
    return total


@njit(cache=True)
def _largest_step(now, forces, numbers, remaining):
    s, u, v = now
    _, _, inflow, _, largest_lift = forces
    viscosity, _, dx, dy, courant, viscous = numbers
    nx, ny = s.shape
    # Sums keep what is not a number, maxima need not.
    speeds, pulls, sums = np.zeros(ny), np.zeros(ny), np.zeros(ny)
    x, y = 1 / (2 * dx), 1 / (2 * dy)
    for i in range(nx):
        for j in range(ny):
            out = x * (abs(u[i, j]) + abs(u[i + 1, j]))
            out += y * (abs(v[i, j]) + abs(v[i, j + 1]))
            most = abs(s[i, j]) + remaining * inflow[i, j]
            pull = most * largest_lift[i, j]
            speeds[j], pulls[j] = max(speeds[j], out), max(pulls[j], pull)
            sums[j] += out + pull
    speed, force, total = 0.0, 0.0, 0.0
    for j in range(ny):
        speed, force = max(speed, speeds[j]), max(force, pulls[j])
        total += sums[j]
    if not total < np.inf:
        return 0.0
    root = speed + math.sqrt(speed**2 + 4 * courant * force)
    result = remaining
    if root > 0:
        result = min(result, 2 * courant / root)
    if viscosity > 0:
        stiffness = 4 * viscosity * (1 / dx**2 + 1 / dy**2)
        result = min(result, viscous / stiffness)
    return result


@njit(cache=True)
def _mean(kept, start, now, h, rate, out):
    """Write the mean of the start and of an Euler step from now."""
    for i in range(now.shape[0]):
        for j in range(now.shape[1]):
            euler = now[i, j] + h * rate[i, j]
            out[i, j] = kept * start[i, j] + (1 - kept) * euler


@njit(cache=True)
def _stage(kept, start, now, h, forces, numbers, rates, out):
    """Write the smoke of a stage, and its velocity before the projection.

    Return the rate of the energy; `rates` is room for the others.
    """
    (s, u, v), (lift_x, lift_y, inflow, _, _) = now, forces
    rate_s, rate_u, rate_st, rate_vt = rates
    viscosity, wall, dx, dy, _, _ = numbers
    nx, ny = s.shape
    s_t, u_t, v_t = _transposed(s), _transposed(u), _transposed(v)
    _momentum(u, v, s, lift_x, viscosity, wall, dx, dy, rate_u)
    _momentum(v_t, u_t, s_t, lift_y, viscosity, wall, dy, dx, rate_vt)
    _smoke(s, u, dx, rate_s)
    _smoke(s_t, v_t, dy, rate_st)
    energy = _energy_rate(s, u, v, lift_x, viscosity, wall, dx, dy)
    energy += _energy_rate(s_t, v_t, u_t, lift_y, viscosity, wall, dy, dx)
    s0, after = start[0], out[0]
    for i in range(nx):
        for j in range(ny):
            rate = rate_s[i, j] + (rate_st[j, i] + inflow[i, j])
            after[i, j] = kept * s0[i, j] + (1 - kept) * (s[i, j] + h * rate)
    _mean(kept, start[1], u, h, rate_u, out[1])
    _mean(kept, start[2], v, h, rate_vt.T, out[2])
    return dx * dy * energy


@njit(cache=True)
def _step(start, budget, h, forces, numbers, solve, solid):
    """Return smoke and velocity a step later; see `plume_dynamics.step`."""
    _, _, _, total_inflow, _ = forces
    _, _, dx, dy, _, _ = numbers
    budget[0] += h * total_inflow
    nx, ny = start[0].shape
    rates = (
        np.empty((nx, ny)), np.zeros((nx + 1, ny)),
        np.empty((ny, nx)), np.zeros((ny + 1, nx)),
    )  # fmt: skip
    first, second, third = _like(start), _like(start), _like(start)
    rate = _stage(0.0, start, start, h, forces, numbers, rates, first)
    _project(first[1], first[2], solve, solid, dx, dy)
    rate += _stage(3 / 4, start, first, h, forces, numbers, rates, second)
    _project(second[1], second[2], solve, solid, dx, dy)
    rate += 4 * _stage(1 / 3, start, second, h, forces, numbers, rates, third)
    _project(third[1], third[2], solve, solid, dx, dy)
    own = _of_step(start[1], first[1], second[1], third[1])
    own += _of_step(start[2], first[2], second[2], third[2])
    budget[1] += h * rate / 6 + dx * dy * own
    return third


@njit(cache=True)
def _like(fields):
    s, u, v = fields
    return np.empty_like(s), np.empty_like(u), np.empty_like(v)


@njit(cache=True)
def _advance(now, budget, dt, steps, most, forces, numbers, solve, solid):
    remaining, left, taken = dt, steps, 0
    while remaining > 0:
        if steps == 0:
            largest = _largest_step(now, forces, numbers, remaining)
            if not largest * (most - taken) >= remaining:
                return now, dt - remaining
            left = math.ceil(remaining / largest)
        h = remaining / left
        now = _step(now, budget, h, forces, numbers, solve, solid)
        remaining = remaining - h if left > 1 else 0.0
        left, taken = left - 1, taken + 1
    return now, dt
