"""Transforms alone: the floor under the cost of a spectral step."""

import numpy as np
import rocket_fft  # noqa: F401  # gives numba its np.fft
from numba import njit
from numpy.typing import NDArray

Real = NDArray[np.float64]


@njit(cache=True)
def row_transforms(rows: Real, number: int) -> Real:
    """Transform each row of a block to its modes and back, `number` times."""
    for _ in range(number):
        rows = np.fft.irfft(np.fft.rfft(rows), rows.shape[1])
    return rows


@njit(cache=True)
def plane_transforms(plane: Real, number: int) -> Real:
    """Transform a plane ``(x, y)`` to its modes and back, `number` times."""
    for _ in range(number):
        plane = np.fft.irfft2(np.fft.rfft2(plane), plane.shape)
    return plane
