"""Compiled integrals of polynomials; see `pde_sym.systems.kdv_integrals`."""

import functools
import math
from collections.abc import Iterable

import numpy as np
from numba import njit

from pde_sym.kernels.kdv_flux import Floats, Integers, to_spectra, to_values
from pde_sym.systems.kdv_integrals import (
    INTEGRALS,
    Polynomial,
    degree,
    density,
    fine_points,
)

LANES = 4
"""Rows that one vector holds in the transforms."""
NONE, FACTORS = -1, 4
"""Line of a factor that is not there, and how many a monomial has."""


def monomials(
    polynomials: Iterable[Polynomial], orders: list[int]
) -> tuple[Floats, Integers, list[list[int]]]:
    """Return coefficient, place of the polynomial and lines of the factors of each.

    Line i holds the derivative of the order ``orders[i]``.
    """
    rows = [
        (float(c), place, [orders.index(j) for j, e in enumerate(m) for _ in range(e)])
        for place, polynomial in enumerate(polynomials)
        for m, c in polynomial.items()
    ]
    coefficients, places, lines = zip(*rows, strict=True)
    return np.array(coefficients), np.array(places), list(lines)


def padded(lines: list[list[int]]) -> Integers:
    """Return the lines of the factors with `NONE` in place of missing ones."""
    return np.array([line + [NONE] * (FACTORS - len(line)) for line in lines])


@njit(cache=True, fastmath={"reassoc", "nsz"})
def product_sum(values: Floats, factors: Integers, weight: Floats) -> float:
    """Return the sum over the grid of factors and weight, in an order that is fixed."""
    a, b, c, d = factors
    first, second, third, fourth = values[a], values[b], values[c], values[d]
    total = 0.0
    if a == NONE:
        for i in range(len(weight)):
            total += weight[i]
    elif b == NONE:
        for i in range(len(weight)):
            total += first[i] * weight[i]
    elif c == NONE:
        for i in range(len(weight)):
            total += first[i] * second[i] * weight[i]
    elif d == NONE:
        for i in range(len(weight)):
            total += first[i] * second[i] * third[i] * weight[i]
    else:
        for i in range(len(weight)):
            total += first[i] * second[i] * third[i] * fourth[i] * weight[i]
    return total


def integrals(u: Floats, length: float) -> Floats:
    """Return int P_n of the states ``(rows, N)`` for all n of `INTEGRALS`."""
    found = np.zeros((len(u), len(INTEGRALS)))
    _integrals(np.ascontiguousarray(u), *_layout(u.shape[1], length), found)
    return found


@functools.cache
def _layout(points: int, length: float):
    top, densities = (points - 1) // 2, [density(n) for n in INTEGRALS]
    orders = list(range(max(len(m) for p in densities for m in p)))
    fine = fine_points(points, top, max(degree(p) for p in densities))
    k = 2 * math.pi / length * np.arange(top + 1)
    coefficients, places, lines = monomials(densities, orders)
    return (
        (1j * k) ** np.array(orders)[:, None],
        fine,
        length / fine * coefficients,
        places,
        padded([line[1:] for line in lines]),
        np.array([line[0] for line in lines]),
    )


@njit(cache=True)
def _integrals(u, powers, fine, coefficients, places, factors, weights, found) -> None:
    orders, modes = powers.shape
    rows = -(-orders // LANES) * LANES
    block = np.zeros((LANES, u.shape[1]))
    whole = np.empty((LANES, u.shape[1] // 2 + 1), dtype=np.complex128)
    spectra = np.zeros((rows, fine // 2 + 1), dtype=np.complex128)
    values = np.empty((rows, fine))
    for first in range(0, len(u), LANES):
        count = min(LANES, len(u) - first)
        for r in range(count):
            for i in range(u.shape[1]):
                block[r, i] = u[first + r, i]
        to_spectra(block, whole)
        for r in range(count):
            for line in range(orders):
                for m in range(modes):
                    spectra[line, m] = whole[r, m] * powers[line, m]
            to_values(spectra, values)
            for q in range(len(coefficients)):
                total = product_sum(values, factors[q], values[weights[q]])
                found[first + r, places[q]] += coefficients[q] * total
