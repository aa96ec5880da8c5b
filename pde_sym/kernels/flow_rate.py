"""Compiled right-hand side of `pde_sym.systems.flow_advance`, for one trajectory.

Equations and budgets are those of `Advance`. What differs is the layout: only the modes
of the 2/3 rule are stored, ``(fields, rows, columns)``, and the transforms along x skip
the columns that vanish. The transforms and the fields on the grid live in two buffers
that every stage uses again: a step at 128 x 128 stays in a core's second-level cache.
Sums of the force and of the stress are taken over its modes, not over the grid.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from rocket_fft.lowlevel import c2c, c2r, r2c

Real = NDArray[np.float64]
Complex = NDArray[np.complex128]


class Plan(NamedTuple):
    """One trajectory's medium and modes, laid out for the loops.

    Parameters
    ----------
    kx, ky, inverse_square
        Wavenumbers that are kept, ``(rows,)`` and ``(columns,)``, and ``1 / k^2``.
    x_axis, y_axis
        Axes of the transforms.
    coriolis, brake, excess
        Fields ``(x, y)`` or ``(0, 0)``.
    force, mode
        Amplitude of the force and its column, 0 if there is none.
    viscosity, drag, mean_drag, wind_x, wind_y, lift_x, lift_y, diffusivity, pinned
        As in `Medium`.
    """

    kx: Real
    ky: Real
    inverse_square: Real
    x_axis: NDArray[np.int64]
    y_axis: NDArray[np.int64]
    coriolis: Real
    brake: Real
    excess: Real
    viscosity: float
    drag: float
    mean_drag: float
    wind_x: float
    wind_y: float
    lift_x: float
    lift_y: float
    diffusivity: float
    force: float
    mode: int
    pinned: bool
    has_tracer: bool


@njit(cache=True)
def row(i: int, rows: int, nx: int) -> int:
    """Return the row of the half spectrum that holds row i of the kept modes."""
    return i if 2 * i < rows else i + nx - rows


@njit(cache=True)
def place(field: Complex, hat: Complex) -> None:
    """Set the kept modes of one field in the half spectrum."""
    rows, columns = field.shape
    for i in range(rows):
        for j in range(columns):
            hat[row(i, rows, hat.shape[0]), j] = field[i, j]


@njit(cache=True)
def to_grid(count: int, plan: Plan, grid: Real, hat: Complex) -> None:
    """Transform the first `count` fields of `hat`, whose kept modes are set."""
    rows, columns = plan.inverse_square.shape
    nx = hat.shape[1]
    for f in range(count):
        hat[f, :, columns:] = 0.0
        hat[f, (rows + 1) // 2 : nx - rows // 2, :columns] = 0.0
    part = hat[:count, :, :columns]
    c2c(part, part, plan.x_axis, False, 1.0, 1)  # type: ignore
    c2r(hat[:count], grid[:count], plan.y_axis, False, 1.0, 1)  # type: ignore


@njit(cache=True)
def to_modes(count: int, plan: Plan, grid: Real, hat: Complex) -> None:
    """Set the kept modes of `hat` from the first `count` fields on the grid."""
    columns = plan.ky.size
    scale = 1.0 / (grid.shape[1] * grid.shape[2])
    r2c(grid[:count], hat[:count], plan.y_axis, True, scale, 1)  # type: ignore
    part = hat[:count, :, :columns]
    c2c(part, part, plan.x_axis, True, 1.0, 1)  # type: ignore


@njit(cache=True)
def velocity(
    fields: Complex, mean: Real, plan: Plan, hat: Complex
) -> tuple[float, float, float]:
    """Set ``u_k`` in the buffer and return the sums of |w_k|^2 / k^2, 1 and k^2."""
    rows, columns = plan.inverse_square.shape
    nx = hat.shape[1]
    energy = square = gradient = 0.0
    for i in range(rows):
        r, kx = row(i, rows, nx), plan.kx[i]
        for j in range(columns):
            ky, inverse, w = plan.ky[j], plan.inverse_square[i, j], fields[0, i, j]
            over = complex(-w.imag, w.real) * inverse
            hat[0, r, j] = ky * over
            hat[1, r, j] = -kx * over
            power = (w.real * w.real + w.imag * w.imag) * (2.0 if j > 0 else 1.0)
            square += power
            gradient += (kx * kx + ky * ky) * power
            energy += inverse * power
    if plan.pinned:
        hat[0, 0, 0], hat[1, 0, 0] = mean[0], mean[1]
    return energy, square, gradient


@njit(cache=True)
def rate(
    fields: Complex,
    rest: Real,
    plan: Plan,
    grid: Real,
    hat: Complex,
    out: Complex,
    rest_out: Real,
) -> None:
    """Write what the linear part leaves over; see `Advance.rate`."""
    nu, drag, mean_drag, force = plan.viscosity, plan.drag, plan.mean_drag, plan.force
    rows, columns = plan.inverse_square.shape
    nx = hat.shape[1]
    varies, forced = plan.excess.size > 0, plan.coriolis.size + plan.brake.size > 0
    energy, square, gradient = velocity(fields, rest, plan, hat)
    for k in range(rest_out.size):
        rest_out[k] = 0.0
    rest_out[2], rest_out[3] = rest[0] + plan.wind_x, rest[1] + plan.wind_y
    rest_out[4], rest_out[5] = -mean_drag * rest[0], -mean_drag * rest[1]
    rest_out[6] = -nu * square - drag * energy
    rest_out[6] -= mean_drag * (rest[0] ** 2 + rest[1] ** 2)
    rest_out[7] = -nu * gradient - drag * square
    count = 2
    if varies:
        for i in range(rows):
            r, ikx = row(i, rows, nx), 1j * plan.kx[i]
            for j in range(columns):
                u, v = hat[0, r, j], hat[1, r, j]
                hat[2, r, j] = ikx * u
                hat[3, r, j] = 1j * plan.ky[j] * u + ikx * v
        count = 4
    if plan.has_tracer:
        place(fields[1], hat[count])
        count += 1
    to_grid(count, plan, grid, hat)
    _products(plan, grid, rest_out)
    count = 2 * (1 + varies + forced + plan.has_tracer)
    to_modes(count, plan, grid, hat)
    for i in range(rows):
        r, kx = row(i, rows, nx), plan.kx[i]
        for j in range(columns):
            ky = plan.ky[j]
            out[0, i, j] = (kx * kx - ky * ky) * hat[0, r, j] - kx * ky * hat[1, r, j]
    if plan.mode > 0:
        k = plan.ky[plan.mode]
        w = fields[0, 0, plan.mode]
        out[0, 0, plan.mode] -= force * k / 2
        rest_out[6] += -force * w.real / k
        rest_out[7] -= force * k * w.real
    if varies:
        _add_stress(fields, plan, hat, out, rest_out)
    if forced:
        _add_force(fields, plan, hat, out, rest_out, 4 if varies else 2)
    if plan.has_tracer:
        _add_tracer(fields, rest, plan, hat, out, rest_out, count - 2)


@njit(cache=True)
def _products(plan, grid, rest_out) -> None:
    """Put products, stress, force and fluxes of the tracer in the place of fields.

    The dissipation of stress and obstacle is summed on the way.
    """
    wind_x, wind_y = (plan.wind_x, plan.wind_y) if plan.pinned else (0.0, 0.0)
    first = 4 if plan.excess.size > 0 else 2
    forced = plan.coriolis.size + plan.brake.size > 0
    lost = 0.0
    for x in range(grid.shape[1]):
        if plan.has_tracer:
            at = first + 2 * forced
            for y in range(grid.shape[2]):
                b = grid[first, x, y]
                grid[at, x, y] = (grid[0, x, y] + wind_x) * b
                grid[at + 1, x, y] = (grid[1, x, y] + wind_y) * b
        if plan.excess.size > 0:
            for y in range(grid.shape[2]):
                excess, stretch, shear = plan.excess[x, y], grid[2, x, y], grid[3, x, y]
                lost += excess * (4 * stretch * stretch + shear * shear)
                grid[2, x, y] = -excess * shear
                grid[3, x, y] = -4 * excess * stretch
        if forced:
            lost += _force(plan, grid, x, first)
        for y in range(grid.shape[2]):
            cu, cv = grid[0, x, y] + wind_x, grid[1, x, y] + wind_y
            grid[0, x, y] = cu * cv
            grid[1, x, y] = (cu - cv) * (cu + cv)
    rest_out[6] -= lost / (grid.shape[1] * grid.shape[2])


@njit(cache=True)
def _force(plan, grid, x, at) -> float:
    """Set ``f (v, -u) - chi (u, v)`` along a row and return ``sum chi (u^2 + v^2)``."""
    lost = 0.0
    for y in range(grid.shape[2]):
        f = plan.coriolis[x, y] if plan.coriolis.size > 0 else 0.0
        chi = plan.brake[x, y] if plan.brake.size > 0 else 0.0
        u, v = grid[0, x, y], grid[1, x, y]
        grid[at, x, y] = f * v - chi * u
        grid[at + 1, x, y] = -f * u - chi * v
        lost += chi * (u * u + v * v)
    return lost


@njit(cache=True)
def _add_stress(fields, plan, hat, out, rest_out) -> None:
    rows, columns = plan.inverse_square.shape
    nx = hat.shape[1]
    for i in range(rows):
        r, kx = row(i, rows, nx), plan.kx[i]
        for j in range(columns):
            ky, w = plan.ky[j], fields[0, i, j]
            part = (kx * kx - ky * ky) * hat[2, r, j] - kx * ky * hat[3, r, j]
            out[0, i, j] += part
            rest_out[7] += (2.0 if j > 0 else 1.0) * (w * part.conjugate()).real


@njit(cache=True)
def _add_force(fields, plan, hat, out, rest_out, at) -> None:
    """Add the curl of the force whose components are fields `at` and `at + 1`."""
    rows, columns = plan.inverse_square.shape
    nx = hat.shape[1]
    for i in range(rows):
        r, kx = row(i, rows, nx), plan.kx[i]
        for j in range(columns):
            w = fields[0, i, j]
            curl = 1j * (kx * hat[at + 1, r, j] - plan.ky[j] * hat[at, r, j])
            out[0, i, j] += curl
            rest_out[7] += (2.0 if j > 0 else 1.0) * (w * curl.conjugate()).real
    for axis in range(2):
        average = hat[at + axis, 0, 0].real
        rest_out[axis] += average
        rest_out[4 + axis] += average


@njit(cache=True)
def _add_tracer(fields, rest, plan, hat, out, rest_out, at) -> None:
    """Add the divergence of the fluxes `at` and `at + 1`, and the lift."""
    lift_x, lift_y, kappa = plan.lift_x, plan.lift_y, plan.diffusivity
    rows, columns = plan.inverse_square.shape
    nx = hat.shape[1]
    for i in range(rows):
        r, kx = row(i, rows, nx), plan.kx[i]
        for j in range(columns):
            ky, w, b = plan.ky[j], fields[0, i, j], fields[1, i, j]
            weight = 2.0 if j > 0 else 1.0
            out[1, i, j] = -1j * (kx * hat[at, r, j] + ky * hat[at + 1, r, j])
            power = b.real * b.real + b.imag * b.imag
            rest_out[9] -= kappa * weight * (kx * kx + ky * ky) * power
            across = lift_y * kx - lift_x * ky
            out[0, i, j] += 1j * across * b
            work = weight * across * (w * b.conjugate()).imag
            rest_out[6] += plan.inverse_square[i, j] * work
            rest_out[7] += work
    average = fields[1, 0, 0].real
    rest_out[6] += average * (lift_x * rest[0] + lift_y * rest[1])
    for axis in range(2):
        push = average * (lift_y if axis else lift_x)
        rest_out[axis] += push
        rest_out[4 + axis] += push
