"""Compiled budgets of KdV, one row at a time; see `pde_sym.kernels.kdv`.

They are coded apart from the flux: R, the right-hand side less that of KdV, is written
out by the rules of products, on a grid of its own.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from pde_sym.kernels.kdv_flux import (
    Complexes,
    Floats,
    Integers,
    Places,
    Terms,
    swing,
    to_values,
    turn,
)
from pde_sym.kernels.kdv_polynomials import NONE, product_sum


class Budgets(NamedTuple):
    """What the rates need besides the strengths.

    Parameters
    ----------
    points
        Points of the grid, 0 when all rates are zero.
    fields, at
        Spectra ``(fields, batch or 1, modes)``, and their places.
    powers, fifth
        ``(i k)^j`` for the derivatives of u that are needed, 0 to 3 first, and the line
        of order 5 or `NONE`.
    coefficients, integrals, factors
        The monomials of the variations: coefficient, place of the integral, and the
        lines of up to four factors, then `NONE`.
    corrections
        What the quadrature adds to the weight 1 of the steps next to an end.
    """

    points: int
    fields: Complexes
    at: Places
    powers: Complexes
    fifth: int
    coefficients: Floats
    integrals: Integers
    factors: Integers
    corrections: Floats


class Lines(NamedTuple):
    """Where to work: u and its derivatives, then the fields; and R.

    The lines are as many as a multiple of the lanes of the transforms.
    """

    spectra: Complexes
    values: Floats
    rate: Floats


@njit(cache=True)
def add_budgets(
    w: Complexes,
    mean: float,
    shift: float,
    time: float,
    env: int,
    terms: Terms,
    budgets: Budgets,
    lines: Lines,
    weight: float,
    total: Floats,
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
    k, first = terms.k, len(budgets.powers)
    for line in range(first):
        for m in range(1, len(k)):
            lines.spectra[line, m] = w[m] * budgets.powers[line, m]
    lines.spectra[0, 0] = mean
    for f in range(len(budgets.fields)):
        turn(budgets.fields[f, env], shift, k, lines.spectra[first + f])
    to_values(lines.spectra, lines.values)
    _added(lines.values, budgets, terms.numbers, time, lines.rate)
    scale = weight * 2 * np.pi / k[1] / budgets.points
    for q in range(len(budgets.coefficients)):
        found = product_sum(lines.values, budgets.factors[q], lines.rate)
        total[budgets.integrals[q]] += scale * budgets.coefficients[q] * found


@njit(cache=True)
def _added(values, budgets, numbers, time, rate) -> None:
    """Write R; the terms that need no field first."""
    u, ux, uxx, uxxx = values[0], values[1], values[2], values[3]
    clock, at = swing(numbers, time), budgets.at
    for i in range(len(rate)):
        steeper = numbers.gardner + numbers.quartic * u[i]
        rate[i] = (
            numbers.frame * ux[i]
            + numbers.viscosity * uxx[i]
            - clock * uxxx[i]
            - numbers.damping * u[i]
            - u[i] * u[i] * ux[i] * steeper
        )
    if budgets.fifth != NONE:
        uxxxxx = values[budgets.fifth]
        for i in range(len(rate)):
            rate[i] -= numbers.kawahara * uxxxxx[i]
    field = values[len(budgets.powers) :]
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
