"""The state of a rigid body as the loops hold it, with a quaternion for the matrix.

The formulas are those of `pde_sym.systems.rigid_body_rotations`.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]

PLACES = {
    "angular_momentum": slice(0, 3),
    "gravity_direction": slice(3, 6),
    "attitude": slice(6, 10),
    "phase_cos": slice(10, 11),
    "phase_sin": slice(11, 12),
}
"""Where the loops hold each field that a body may have."""


def entering(fields: dict[str, slice], columns: Array) -> Array:
    """Return a state ``(batch, channels)`` as the loops hold it, ``(batch, 12)``."""
    full = np.zeros((len(columns), 12))
    for name, own in fields.items():
        if name == "attitude":
            _quaternions_of(columns[:, own], full[:, PLACES[name]])
        else:
            full[:, PLACES[name]] = columns[:, own]
    return full


def leaving(fields: dict[str, slice], full: Array) -> Array:
    """Return the state ``(batch, channels)``, the inverse of `entering`."""
    columns = np.empty((len(full), max(own.stop for own in fields.values())))
    for name, own in fields.items():
        if name == "attitude":
            _matrices_of(full[:, PLACES[name]], columns[:, own])
        else:
            columns[:, own] = full[:, PLACES[name]]
    return columns


@njit(cache=True, error_model="numpy")
def _quaternions_of(turns, result):
    """Write the unit quaternions of matrices, ``(batch, 9)`` to ``(batch, 4)``."""
    outer, v, w = np.empty((4, 4)), np.empty(4), np.empty(4)
    for n in range(len(turns)):
        a, b, c, d, e, f, g, h, i = turns[n]
        outer[0, 0], outer[1, 1] = 1 + a + e + i, 1 + a - e - i
        outer[2, 2], outer[3, 3] = 1 - a + e - i, 1 - a - e + i
        outer[0, 1] = outer[1, 0] = h - f
        outer[0, 2] = outer[2, 0] = c - g
        outer[0, 3] = outer[3, 0] = d - b
        outer[1, 2] = outer[2, 1] = b + d
        outer[1, 3] = outer[3, 1] = c + g
        outer[2, 3] = outer[3, 2] = f + h
        v[:] = outer[np.argmax(np.diag(outer))]
        _normalise(v)
        for _ in range(2):
            for j in range(4):
                w[j] = 0.0
                for k in range(4):
                    w[j] += outer[j, k] * v[k]
            _normalise(w)
            v[:] = w
        result[n] = v


@njit(cache=True, error_model="numpy")
def _normalise(v):
    size = math.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2] + v[3] * v[3])
    for j in range(4):
        v[j] /= size


@njit(cache=True, error_model="numpy")
def _matrices_of(quaternions, result):
    """Write the rotation matrices, ``(batch, 4)`` to ``(batch, 9)``."""
    for n in range(len(quaternions)):
        w, x, y, z = quaternions[n]
        s = 2 / (w * w + x * x + y * y + z * z)
        r = result[n]
        r[0], r[4] = 1 - s * (y * y + z * z), 1 - s * (x * x + z * z)
        r[8] = 1 - s * (x * x + y * y)
        r[1], r[3] = s * (x * y - w * z), s * (x * y + w * z)
        r[2], r[6] = s * (x * z + w * y), s * (x * z - w * y)
        r[5], r[7] = s * (y * z - w * x), s * (y * z + w * x)
