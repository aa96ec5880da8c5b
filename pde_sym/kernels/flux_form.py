"""Compiled loops for `pde_sym.flux_form`, one trajectory at a time.

The state carries one ghost cell on each side, so that the inner loops run over
contiguous memory. Coefficients that a system does not need come as empty arrays.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pde_sym.flux_form import FluxForm

Array = NDArray[np.float64]


class CompiledFluxForm:
    """The operator of one trajectory, with its coefficients laid out for the loops.

    Face arrays are extended by the periodic image of their last row or column: the
    left face of cell i has index i, the right one i + 1.
    """

    def __init__(self, operator: FluxForm) -> None:
        def plain(values: object) -> Array:
            if values is None:
                return np.empty((0, 0))
            return np.ascontiguousarray(np.asarray(values, dtype=np.float64)[0])

        def before(values: Array, *axes: int) -> Array:
            pad = [(1 if axis in axes else 0, 0) for axis in range(2)]
            return np.pad(values, pad, mode="wrap") if values.size else values

        self._arrays = (
            before(plain(operator.face_x), 0),
            before(plain(operator.face_y), 1),
            before(plain(operator.diagonal), 0, 1),
            before(plain(operator.wind_x), 0),
            before(plain(operator.wind_y), 1),
            plain(operator.sink),
            plain(operator.inverse_capacity),
        )
        self._nonlinearity = operator.nonlinearity

    def homogeneous(self, u: Array) -> Array:
        """Return the right-hand side without the source, ``(x, y)``."""
        padded, out = np.empty((u.shape[0] + 2, u.shape[1] + 2)), np.empty(u.shape)
        potential = np.empty_like(padded)
        _fill(padded, u)
        if self._nonlinearity == 0.0:
            _rate(padded, padded, *self._arrays, out)
        else:
            w = u + 0.5 * self._nonlinearity * u * u
            _fill(potential, w)
            _rate(potential, padded, *self._arrays, out)
        return out

    def chebyshev_series(self, u: Array, lam: float, coefficients: Array) -> Array:
        """Return ``sum_k c_k T_k(1 + 2 A / lam) u``, ``(outputs, x, y)``."""
        return _series(np.ascontiguousarray(u), lam, coefficients, *self._arrays)


@njit(cache=True)
def _fill(padded: Array, u: Array) -> None:
    """Copy u into the interior and its periodic images into the ghost cells."""
    nx, ny = u.shape
    for i in range(nx):
        for j in range(ny):
            padded[i + 1, j + 1] = u[i, j]
        padded[i + 1, 0] = u[i, ny - 1]
        padded[i + 1, ny + 1] = u[i, 0]
    for j in range(ny + 2):
        padded[0, j] = padded[nx, j]
        padded[nx + 1, j] = padded[1, j]


@njit(cache=True)
def _rate(w, u, fx, fy, diagonal, wx, wy, sink, inverse_capacity, out) -> None:
    """Write the homogeneous right-hand side for ghosted potential w and state u."""
    nx, ny = out.shape
    for i in range(nx):
        for j in range(ny):
            c = w[i + 1, j + 1]
            out[i, j] = (
                fx[i + 1, j] * (w[i + 2, j + 1] - c)
                - fx[i, j] * (c - w[i, j + 1])
                + fy[i, j + 1] * (w[i + 1, j + 2] - c)
                - fy[i, j] * (c - w[i + 1, j])
            )
    if diagonal.size:
        for i in range(nx):
            for j in range(ny):
                c = w[i + 1, j + 1]
                out[i, j] += (
                    diagonal[i + 1, j + 1] * (w[i + 2, j + 2] - c)
                    - diagonal[i, j] * (c - w[i, j])
                    - diagonal[i + 1, j] * (w[i + 2, j] - c)
                    + diagonal[i, j + 1] * (c - w[i, j + 2])
                )
    if wx.size:
        for i in range(nx):
            for j in range(ny):
                c = u[i + 1, j + 1]
                out[i, j] -= (
                    wx[i + 1, j] * (c + u[i + 2, j + 1])
                    - wx[i, j] * (c + u[i, j + 1])
                    + wy[i, j + 1] * (c + u[i + 1, j + 2])
                    - wy[i, j] * (c + u[i + 1, j])
                )
    if sink.size:
        for i in range(nx):
            for j in range(ny):
                out[i, j] -= sink[i, j] * u[i + 1, j + 1]
    if inverse_capacity.size:
        for i in range(nx):
            for j in range(ny):
                out[i, j] *= inverse_capacity[i, j]


@njit(cache=True)
def _series(
    u,
    lam,
    coefficients,
    fx,
    fy,
    diagonal,
    wx,
    wy,
    sink,
    inverse_capacity,
):
    nx, ny = u.shape
    outputs, terms = coefficients.shape
    total = np.zeros((outputs, nx, ny))
    before, current = u.copy(), np.empty((nx, ny))
    rate, padded = np.empty((nx, ny)), np.empty((nx + 2, ny + 2))
    for k in range(terms):
        if k > 0:
            _fill(padded, current if k > 1 else before)
            _rate(
                padded, padded, fx, fy, diagonal, wx, wy, sink, inverse_capacity, rate
            )
        for i in range(nx):
            if k == 1:
                for j in range(ny):
                    current[i, j] = before[i, j] + (2 / lam) * rate[i, j]
            elif k > 1:
                for j in range(ny):
                    following = (
                        2 * (current[i, j] + (2 / lam) * rate[i, j]) - before[i, j]
                    )
                    before[i, j] = current[i, j]
                    current[i, j] = following
            for m in range(outputs):
                c = coefficients[m, k]
                for j in range(ny):
                    total[m, i, j] += c * (current[i, j] if k > 0 else before[i, j])
    return total
