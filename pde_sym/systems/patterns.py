"""Profiles over the box, and directions in the plane, that breaking terms share."""

import math

import numpy as np
from numpy.typing import NDArray

from pde_sym.arrays import ArrayFile
from pde_sym.errors import InputError
from pde_sym.grid import PeriodicGrid
from pde_sym.groups import GroupElement, point_group

Array = NDArray[np.float64]


def bump(grid: PeriodicGrid, sharpness: float = 8.0) -> Array:
    """Return a smooth periodic bump of height 1 in the middle of the box.

    ``exp(sharpness (cos(2 pi (x / L_x - 1/2)) + cos(2 pi (y / L_y - 1/2)) - 2))``
    """
    cosines = [
        np.cos(2 * np.pi * (x / length - 0.5))
        for x, length in zip(grid.mesh(), grid.lengths, strict=True)
    ]
    return np.exp(sharpness * (sum(cosines) - 2.0))


def own_pattern(kind: str, file: ArrayFile, grid: PeriodicGrid) -> Array:
    """Return a user's array; `InputError` when it does not lie on the grid."""
    values = file.values()
    if values.shape != grid.shape:
        raise InputError(
            f"{kind}.field: expected shape {grid.shape}, got {values.shape}; "
            "the array must lie on the grid of the data"
        )
    return values


def exact_cosine(degrees: float) -> float:
    """Return cos with exact values at multiples of 90, and equal ones at 45."""
    quarter, rest = divmod(degrees % 360.0, 90.0)
    if rest == 0.0:
        return (1.0, 0.0, -1.0, 0.0)[int(quarter)]
    if rest == 45.0:
        return math.sqrt(0.5) * (1.0, -1.0, -1.0, 1.0)[int(quarter)]
    return math.cos(math.radians(degrees))


def direction_of(angle: float) -> tuple[float, float]:
    """Return the unit vector at an angle in degrees, exact at multiples of 45."""
    return exact_cosine(angle), exact_cosine(angle - 90.0)


def fixing(vector: tuple[float, float], pseudo: bool = False) -> list[GroupElement]:
    """Return the elements of D4 that fix a vector, or a pseudovector."""
    x, y = vector
    kept = []
    for g in point_group("D4"):
        (a, b), (c, d) = g.matrix
        sign = g.determinant if pseudo else 1
        if abs(sign * (a * x + b * y) - x) + abs(sign * (c * x + d * y) - y) < 1e-9:
            kept.append(g)
    return kept
