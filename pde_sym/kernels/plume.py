"""Compiled frames of the smoke plume, one trajectory at a time.

The formulas are those of `pde_sym.systems.plume_dynamics`, in loops. What is done for u
along x is done for v by the same loop on transposed copies.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray
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
        cx, cy = (plain(c) for c in p.cosines)
        surface = [np.stack([plain(i) for i in index], axis=1) for index in p.surface]
        self._solve = (cx, cy, plain(p.cosines[0].T), plain(p.cosines[1].T))
        self._solve = (*self._solve, plain(p.inverse))
        self._solid = (plain(p.open.u), plain(p.open.v), *surface, plain(p.capacitance))
        lift_x, lift_y = plain(box.lift[0]), plain(box.lift[1].T)
        self._forces = (lift_x, lift_y, plain(box.inflow))
        self._numbers = (float(box.viscosity), float(box.wall), p.dx, p.dy)

    def advance(
        self, smoke: Array, faces: Faces, dt: float, steps: int, most: int
    ) -> tuple[Array, Array, Array, Array, float]:
        """Return smoke, u, v, the change of the budgets and the time that was reached.

        `steps` is a fixed number of steps, or 0 for the bound of `largest_step`; the
        time falls short of dt where more than `most` steps of that size are needed.
        """
        s, u, v = smoke.copy(), faces.u.numpy().copy(), faces.v.numpy().copy()
        budget = np.zeros(2)
        reached = _advance(
            s, u, v, budget, dt, steps, most,
            self._forces, self._numbers, self._solve, self._solid,
        )  # fmt: skip
        return s, u, v, budget, reached

    def project(self, faces: Faces) -> tuple[Array, Array]:
        """Return Q w on the faces."""
        u, v = faces.u.numpy().copy(), faces.v.numpy().copy()
        _project(u, v, self._solve, self._solid, self._numbers[2], self._numbers[3])
        return u, v


@njit(cache=True)
def _upwind(a, q0, q1, q2, q3):
    centred = 7 * (q1 + q2) - (q0 + q3)
    return (a * centred + abs(a) * ((q3 - q0) - 3 * (q2 - q1))) / 12


@njit(cache=True)
def _limited(upstream, here):
    a, b = abs(upstream), abs(here)
    least = min(min(a, b), (a + 2 * b) / 6)
    return math.copysign(least, here) if upstream * here > 0 else 0.0


@njit(cache=True)
def _momentum(u, v, s, lift, viscosity, wall, dx, dy, rate):
    """Write the rate of u on its inner faces; the others are left alone."""
    nx, ny = s.shape
    before, after = np.zeros(ny), np.zeros(ny)
    row, across = np.empty(ny + 2), np.zeros(ny + 1)
    for i in range(nx):
        # Flux through the centre of cell i, between the faces i and i + 1.
        low, sign_low = (i - 1, 1.0) if i > 0 else (1, -1.0)
        high, sign_high = (i + 2, 1.0) if i < nx - 1 else (nx - 1, -1.0)
        for j in range(ny):
            after[j] = _upwind(
                (u[i, j] + u[i + 1, j]) / 2,
                sign_low * u[low, j],
                u[i, j],
                u[i + 1, j],
                sign_high * u[high, j],
            )
        if i > 0:
            row[1:-1] = u[i]
            row[0], row[-1] = wall * u[i, 0], wall * u[i, -1]
            for j in range(1, ny):
                a = (v[i, j] + v[i - 1, j]) / 2
                across[j] = _upwind(a, row[j - 1], row[j], row[j + 1], row[j + 2])
            for j in range(ny):
                bend = (u[i + 1, j] - 2 * u[i, j] + u[i - 1, j]) / dx**2
                bend += (row[j + 2] - 2 * row[j + 1] + row[j]) / dy**2
                pull = (lift[i, j] * s[i, j] + lift[i - 1, j] * s[i - 1, j]) / 2
                flux = (after[j] - before[j]) / dx + (across[j + 1] - across[j]) / dy
                rate[i, j] = viscosity * bend + pull - flux
        before[:] = after


@njit(cache=True)
def _smoke(s, u, dx, rate):
    """Write the rate of smoke that u along x brings about."""
    nx, ny = s.shape
    before, after = np.zeros(ny), np.zeros(ny)
    for i in range(nx):
        # Flux through the face between the cells i and i + 1.
        if i < nx - 1:
            low, high = max(i - 1, 0), min(i + 2, nx - 1)
            for j in range(ny):
                here = s[i + 1, j] - s[i, j]
                left = s[i, j] + _limited(s[i, j] - s[low, j], here)
                right = s[i + 1, j] - _limited(s[high, j] - s[i + 1, j], here)
                a = u[i + 1, j]
                after[j] = max(a, 0.0) * left + min(a, 0.0) * right
        else:
            after[:] = 0.0
        for j in range(ny):
            rate[i, j] = -(after[j] - before[j]) / dx
        before[:] = after


@njit(cache=True)
def _divergence(u, v, dx, dy):
    nx, ny = u.shape[0] - 1, u.shape[1]
    out = np.empty((nx, ny))
    for i in range(nx):
        for j in range(ny):
            along_x = (u[i + 1, j] - u[i, j]) / dx
            out[i, j] = along_x + (v[i, j + 1] - v[i, j]) / dy
    return out


@njit(cache=True)
def _potential(divergence, solve):
    cx, cy, cx_t, cy_t, inverse = solve
    spectrum = np.dot(np.dot(cx, divergence), cy_t)
    spectrum *= inverse
    return np.dot(np.dot(cx_t, spectrum), cy)


@njit(cache=True)
def _project(u, v, solve, solid, dx, dy):
    """Project the velocity in place."""
    open_u, open_v, surface_u, surface_v, capacitance = solid
    nx, ny = u.shape[0] - 1, u.shape[1]
    number, split = len(capacitance), len(surface_u)
    if number:
        u *= open_u
        v *= open_v
    potential = _potential(_divergence(u, v, dx, dy), solve)
    if number:
        through = np.empty(number)
        for k in range(split):
            i, j = surface_u[k]
            through[k] = -(potential[i, j] - potential[i - 1, j]) / dx
        for k in range(split, number):
            i, j = surface_v[k - split]
            through[k] = -(potential[i, j] - potential[i, j - 1]) / dy
        force = np.dot(capacitance, through)
        for k in range(split):
            i, j = surface_u[k]
            u[i, j] -= force[k]
        for k in range(split, number):
            i, j = surface_v[k - split]
            v[i, j] -= force[k]
        potential = _potential(_divergence(u, v, dx, dy), solve)
    for i in range(1, nx):
        for j in range(ny):
            u[i, j] -= (potential[i, j] - potential[i - 1, j]) / dx
    for i in range(nx):
        for j in range(1, ny):
            v[i, j] -= (potential[i, j] - potential[i, j - 1]) / dy
    if number:
        u *= open_u
        v *= open_v


@njit(cache=True)
def _square_gradient(u, wall, dx, dy):
    """Return ``sum |grad u|^2`` of the velocities at the centres that u stands for."""
    nx, ny = u.shape[0] - 1, u.shape[1]
    total = 0.0
    for i in range(nx):
        for j in range(ny):
            c = (u[i, j] + u[i + 1, j]) / 2
            if i == 0 or i == nx - 1:
                total += 2 * c**2 / dx**2
            if wall < 0 and (j == 0 or j == ny - 1):
                total += 2 * c**2 / dy**2
            if i < nx - 1:
                total += ((u[i + 2, j] - u[i, j]) / 2 / dx) ** 2
            if j < ny - 1:
                total += (((u[i, j + 1] + u[i + 1, j + 1]) / 2 - c) / dy) ** 2
    return total


@njit(cache=True)
def _budget_rates(s, u, v_t, forces, numbers):
    """Return the rates of total smoke and of energy."""
    lift_x, lift_y, inflow = forces
    viscosity, wall, dx, dy = numbers
    nx, ny = s.shape
    work = 0.0
    for i in range(nx):
        for j in range(ny):
            pull = lift_x[i, j] * (u[i, j] + u[i + 1, j])
            pull += lift_y[j, i] * (v_t[j, i] + v_t[j + 1, i])
            work += s[i, j] * pull / 2
    if viscosity > 0:
        loss = _square_gradient(u, wall, dx, dy) + _square_gradient(v_t, wall, dy, dx)
        work -= viscosity * loss
    return dx * dy * inflow.sum(), dx * dy * work


@njit(cache=True)
def _largest_step(s, u, v, forces, numbers, remaining):
    lift_x, lift_y, inflow = forces
    viscosity, _, dx, dy = numbers
    nx, ny = s.shape
    speed, force = 0.0, 0.0
    finite = True
    for i in range(nx):
        for j in range(ny):
            out = (abs(u[i, j]) + abs(u[i + 1, j])) / (2 * dx)
            out += (abs(v[i, j]) + abs(v[i, j + 1])) / (2 * dy)
            most = abs(s[i, j]) + remaining * inflow[i, j]
            pull = most * (abs(lift_x[i, j]) / dx + abs(lift_y[j, i]) / dy)
            # A comparison with what is not a number is false.
            finite &= out + pull < np.inf
            speed, force = max(speed, out), max(force, pull)
    if not finite:
        return 0.0
    root = speed + math.sqrt(speed**2 + 4 * COURANT * force)
    result = remaining
    if root > 0:
        result = min(result, 2 * COURANT / root)
    if viscosity > 0:
        stiffness = 4 * viscosity * (1 / dx**2 + 1 / dy**2)
        result = min(result, VISCOUS / stiffness)
    return result


@njit(cache=True)
def _step(s, u, v, budget, h, forces, numbers, solve, solid):
    """Advance by one step in place; see `pde_sym.systems.plume_dynamics.step`."""
    lift_x, lift_y, inflow = forces
    viscosity, wall, dx, dy = numbers
    s0, u0, v0 = s.copy(), u.copy(), v.copy()
    rate_s, rate_st = np.empty_like(s), np.empty(s.shape[::-1])
    rate_u, rate_vt = np.zeros_like(u), np.zeros(v.shape[::-1])
    for stage in range(3):
        kept = (0.0, 3 / 4, 1 / 3)[stage]
        weight = (1 / 6, 1 / 6, 2 / 3)[stage]
        s_t, u_t, v_t = s.T.copy(), u.T.copy(), v.T.copy()
        _momentum(u, v, s, lift_x, viscosity, wall, dx, dy, rate_u)
        _momentum(v_t, u_t, s_t, lift_y, viscosity, wall, dy, dx, rate_vt)
        _smoke(s, u, dx, rate_s)
        _smoke(s_t, v_t, dy, rate_st)
        total, energy = _budget_rates(s, u, v_t, forces, numbers)
        budget[0] += h * weight * total
        budget[1] += h * weight * energy
        gained = rate_s + rate_st.T + inflow
        s[:] = kept * s0 + (1 - kept) * (s + h * gained)
        u[:] = kept * u0 + (1 - kept) * (u + h * rate_u)
        v[:] = kept * v0 + (1 - kept) * (v + h * rate_vt.T)
        _project(u, v, solve, solid, dx, dy)


@njit(cache=True)
def _advance(s, u, v, budget, dt, steps, most, forces, numbers, solve, solid):
    remaining, left, taken = dt, steps, 0
    while remaining > 0:
        if steps == 0:
            largest = _largest_step(s, u, v, forces, numbers, remaining)
            if not largest * (most - taken) >= remaining:
                return dt - remaining
            left = math.ceil(remaining / largest)
        h = remaining / left
        _step(s, u, v, budget, h, forces, numbers, solve, solid)
        remaining = remaining - h if left > 1 else 0.0
        left, taken = left - 1, taken + 1
    return dt
