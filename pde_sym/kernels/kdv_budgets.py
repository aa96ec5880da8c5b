"""Compiled budgets of KdV, one row at a time; see `pde_sym.kernels.kdv`.

They are coded apart from the flux: R, the right-hand side less that of KdV, is written
out by the rules of products, on a grid of its own.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pde_sym.kernels.kdv_flux import Complexes, Floats, Places, swing, to_values, turn

ORDERS, FACTORS = 7, 4
"""Derivatives of u from 0, and factors of a monomial, that the variations need."""


class Budgets(NamedTuple):
    """What the rates need besides the strengths.

    Parameters
    ----------
    points
        Points of the grid, 0 when all rates are zero.
    fields, at
        Spectra ``(fields, batch or 1, modes)``, and their places.
    coefficients, integrals, factors
        The monomials of the variations: coefficient, place of the integral, and the
        orders of `FACTORS` derivatives, `ORDERS` standing for the factor 1.
    corrections
        What the quadrature adds to the weight 1 of the steps next to an end.
    """

    points: int
    fields: Complexes
    at: Places
    coefficients: Floats
    integrals: NDArray[np.int64]
    factors: NDArray[np.int64]
    corrections: Floats


class Lines(NamedTuple):
    """Where to work: u and its derivatives, a line of ones, the fields; and R.

    The lines are as many as a multiple of the lanes of the transforms.
    """

    spectra: Complexes
    values: Floats
    rate: Floats


@njit(cache=True)
def add_budgets(
    w, mean, shift, time, env, terms, budgets, lines, weight, total
) -> None:
    """Add to `total` the weight times the rates ``int (dP_n/du) R``.

    Parameters
    ----------
    w
        Coefficients from mode 0, that of the mean being ignored.
    mean, shift, time, env
        Mean, shift of the frame, time, and number of the environment.
    terms, budgets, lines
        The terms, what the budgets need, and where to work.
    weight, total
        Factor of the rates, and the sums ``(5,)``.
    """
    k, points = terms.k, budgets.points
    for m in range(len(k)):
        value = w[m] if m > 0 else mean + 0j
        for order in range(ORDERS):
            lines.spectra[order, m] = value
            value *= 1j * k[m]
    lines.spectra[ORDERS, 0] = 1.0
    for f in range(len(budgets.fields)):
        turn(budgets.fields[f, env], shift, k, lines.spectra[ORDERS + 1 + f])
    to_values(lines.spectra, lines.values)
    _added(lines.values, budgets.at, terms.numbers, time, lines.rate)
    scale = weight * 2 * np.pi / k[1] / points
    for q in range(len(budgets.coefficients)):
        total_of_product = _sum(lines.values, budgets.factors[q], lines.rate)
        total[budgets.integrals[q]] += (
            scale * budgets.coefficients[q] * total_of_product
        )


@njit(cache=True, fastmath={"reassoc", "nsz"})
def _sum(values, factors, rate):
    """Return the sum over the grid of the factors and the rate; the order is fixed."""
    a, b, c, d = factors
    first, second, third, fourth = values[a], values[b], values[c], values[d]
    total = 0.0
    if c == ORDERS:
        for i in range(len(rate)):
            total += first[i] * second[i] * rate[i]
    elif d == ORDERS:
        for i in range(len(rate)):
            total += first[i] * second[i] * third[i] * rate[i]
    else:
        for i in range(len(rate)):
            total += first[i] * second[i] * third[i] * fourth[i] * rate[i]
    return total


@njit(cache=True)
def _added(values, at, numbers, time, rate) -> None:
    """Write R; the terms that need no field first."""
    u, ux, uxx, uxxx, uxxxxx = values[0], values[1], values[2], values[3], values[5]
    clock = swing(numbers, time)
    for i in range(len(rate)):
        steeper = numbers.gardner + numbers.quartic * u[i]
        rate[i] = (
            numbers.frame * ux[i]
            + numbers.viscosity * uxx[i]
            - clock * uxxx[i]
            - numbers.kawahara * uxxxxx[i]
            - numbers.damping * u[i]
            - u[i] * u[i] * ux[i] * steeper
        )
    field = values[ORDERS + 1 :]
    if at.potential >= 0:
        v, vx = field[at.potential], field[at.potential + 1]
        for i in range(len(rate)):
            rate[i] -= vx[i] * u[i] + v[i] * ux[i]
    if at.dispersion >= 0:
        v, vx = field[at.dispersion], field[at.dispersion + 1]
        vxx = field[at.dispersion + 2]
        for i in range(len(rate)):
            rate[i] -= vxx[i] * ux[i] + 2 * vx[i] * uxx[i] + v[i] * uxxx[i]
    if at.forcing >= 0:
        force = field[at.forcing]
        for i in range(len(rate)):
            rate[i] += force[i]
    if at.speed >= 0:
        speed, speed_x = field[at.speed], field[at.speed + 1]
        slope, width = field[at.slope], field[at.width]
        for i in range(len(rate)):
            rate[i] -= speed[i] * ux[i] + speed_x[i] * u[i] / 2
            rate[i] -= slope[i] * u[i] * ux[i] + width[i] * uxxx[i]
