"""The basis of a subspace that is the same on every machine.

Eigenvectors of one eigenvalue, and singular vectors of one singular value, are any
basis of their space: which one depends on the processor. Weights that belong to such a
basis would make another network on the next machine.
"""

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_LONG_ENOUGH = 0.1
_ROUND_OFF = 1e-12


def basis_of(span: Array) -> Array:
    """Return orthonormal rows that depend on the span of orthonormal rows alone.

    Rows of the projector ``P = S^T S``, in their order, made orthogonal to those before
    (Gram and Schmidt); those of which too little is left are skipped. What remains of P
    is a projector too, whose trace is its rank: with no row of it longer than
    ``1 / sqrt(2 n)`` that is below 1, so that no direction is missed.

    Parameters
    ----------
    span
        Orthonormal rows, ``(rank, n)``.

    Returns
    -------
    Array
        The basis, ``(rank, n)``. Entries below round-off are zero: they would still
        differ between machines, and float32 has digits for them.
    """
    size = span.shape[1]
    shortest = min(_LONG_ENOUGH, 1 / math.sqrt(2 * size))
    basis = np.zeros((0, size))
    for row in span.T @ span:
        rest = row - (basis @ row) @ basis
        length = np.linalg.norm(rest)
        if length > shortest:
            basis = np.vstack([basis, rest / length])
    return np.where(np.abs(basis) < _ROUND_OFF, 0.0, basis)
