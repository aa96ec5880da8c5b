"""Rotations as matrices, which states hold, and as unit quaternions, which solvers do.

A quaternion ``q = (w, x, y, z)``, scalar first, is the rotation

        1 - 2 (y y + z z)    2 (x y - w z)        2 (x z + w y)
    R = 2 (x y + w z)        1 - 2 (x x + z z)    2 (y z - w x)
        2 (x z - w y)        2 (y z + w x)        1 - 2 (x x + y y)

and the way back is the leading eigenvector of a symmetric matrix that is linear in R
and equals ``4 q q^T`` (Bar-Itzhack 2000, J. Guid. Control Dyn. 23, equation 11; there
``(4 q q^T - 1) / 3``). Both signs of q are one rotation, so a matrix has no sign that a
network would have to learn.
"""

import torch
from torch import Tensor


def matrix_of(q: Tensor) -> Tensor:
    """Return R of quaternions of length about 1, ``(..., 4) -> (..., 3, 3)``."""
    w, x, y, z = q.unbind(-1)
    # What round-off leaves of the length drops out.
    s = 2 / (q * q).sum(-1)
    rows = [
        [1 - s * (y * y + z * z), s * (x * y - w * z), s * (x * z + w * y)],
        [s * (x * y + w * z), 1 - s * (x * x + z * z), s * (y * z - w * x)],
        [s * (x * z - w * y), s * (y * z + w * x), 1 - s * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def quaternion_of(turn: Tensor) -> Tensor:
    """Return unit quaternions of rotation matrices, ``(..., 3, 3) -> (..., 4)``.

    The column of ``4 q q^T`` with the largest diagonal element has at least the length
    2: no rotation is special. Two powers of the matrix follow, each of which multiplies
    what a matrix misses of a rotation by that same small number, so that a matrix of
    single precision becomes the nearest rotation to round-off.
    """
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in turn.unbind(-2))
    rows = [
        [1 + a + e + i, h - f, c - g, d - b],
        [h - f, 1 + a - e - i, b + d, c + g],
        [c - g, b + d, 1 - a + e - i, f + h],
        [d - b, c + g, f + h, 1 - a - e + i],
    ]
    outer = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    largest = outer.diagonal(dim1=-2, dim2=-1).argmax(-1)[..., None, None]
    q = outer.gather(-2, largest.expand(*largest.shape[:-1], 4))[..., 0, :]
    for _ in range(2):
        q = _unit((outer * _unit(q)[..., None, :]).sum(-1))
    return q


def _unit(q: Tensor) -> Tensor:
    return q / torch.linalg.vector_norm(q, dim=-1, keepdim=True)


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return a b, ``(..., 3, 3)``; a matrix product rounds by the size of the batch."""
    return (a[..., :, :, None] * b[..., None, :, :]).sum(-2)


def applied(turn: Tensor, v: Tensor) -> Tensor:
    """Return R v, ``(..., 3, 3)`` and ``(..., 3)`` to ``(..., 3)``, likewise."""
    return (turn * v[..., None, :]).sum(-1)


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """Return the product of quaternions ``(..., 4)``: first b, then a."""
    a0, b0, av, bv = a[..., :1], b[..., :1], a[..., 1:], b[..., 1:]
    scalar = a0 * b0 - (av * bv).sum(-1, keepdim=True)
    return torch.cat([scalar, a0 * bv + b0 * av + torch.linalg.cross(av, bv)], dim=-1)


def rotate(q: Tensor, v: Tensor) -> Tensor:
    """Return R v of a unit quaternion ``(..., 4)`` and a vector ``(..., 3)``."""
    scalar, axis = q[..., :1], q[..., 1:]
    twice = 2 * torch.linalg.cross(axis, v)
    return v + scalar * twice + torch.linalg.cross(axis, twice)


def conjugate(q: Tensor) -> Tensor:
    """Return the inverse of a unit quaternion ``(..., 4)``."""
    return torch.cat([q[..., :1], -q[..., 1:]], dim=-1)
