"""The rotations of a body frame: irreps, linear maps and products split by them.

The irreps of SO(3) are real, of dimension 2 l + 1: numbers (l = 0), vectors (l = 1),
and symmetric traceless matrices E (l = 2, Q E Q^T, by their components in an
orthonormal basis). l = 3 and 4 appear as parts of linear maps between these. Only
proper rotations act: a vector and an axial vector, as the angular momentum is, are one.

The linear maps from l_in to l_out split into one irrep L for each
``|l_in - l_out| <= L <= l_in + l_out`` (Clebsch and Gordan), so that

    D_out(Q) B_M D_in(Q)^T = sum_N B_N D_L(Q)_NM,    M, N = 1 .. 2 L + 1

and weights w along the B_M of L = 1 are a vector in the body, those of L = 2 a
symmetric traceless matrix. Everything is computed in float64 from the generators, as
eigenspaces of Casimir operators: no table, no library.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pde_sym.errors import InputError
from pde_sym.nn.subspace import basis_of

Array = NDArray[np.float64]

HIGHEST = 2
"""The highest l of a feature; linear maps between them reach 2 HIGHEST."""


def part_name(ell: int) -> str:
    """Return ``trivial``, ``l1``, ``l2``, ...: the name of a part by its irrep."""
    return f"l{ell}" if ell else "trivial"


PARTS = tuple(part_name(ell) for ell in range(2 * HIGHEST + 1))
"""Names of all parts of linear maps between features."""


@dataclass(frozen=True)
class SO3Type:
    """Features ``(..., size)``: numbers, then vectors, then traceless matrices.

    Parameters
    ----------
    counts
        How many features there are of l = 0, 1 and 2.

    Raises
    ------
    InputError
        When a count is negative, or all are 0.
    """

    counts: tuple[int, int, int]

    def __post_init__(self) -> None:
        if min(self.counts) < 0 or not any(self.counts):
            raise InputError(
                "features: expected how many scalars, vectors and tensors, at least "
                f"one in all, got {self.counts}"
            )

    @property
    def widths(self) -> list[int]:
        """Components of all features of each l."""
        return [n * (2 * ell + 1) for ell, n in enumerate(self.counts)]

    @property
    def size(self) -> int:
        return sum(self.widths)

    def __add__(self, other: "SO3Type") -> "SO3Type":
        """Return the type of features of both side by side, see `joined`."""
        zero, one, two = (a + b for a, b in zip(self.counts, other.counts, strict=True))
        return SO3Type((zero, one, two))

    def split(self, x: Tensor) -> list[Tensor]:
        """Return ``(..., n_l, 2 l + 1)`` for each l."""
        return [
            part.unflatten(-1, (n, 2 * ell + 1))
            for ell, (n, part) in enumerate(
                zip(self.counts, x.split(self.widths, -1), strict=True)
            )
        ]

    def turn(self, rotation: Tensor, x: Tensor) -> Tensor:
        """Return ``D(Q) x`` for rotations ``(..., 3, 3)`` and features.

        Leading axes of both are broadcast together.
        """
        turned = [
            part @ irrep_matrix(ell, rotation).to(x.dtype).mT
            for ell, part in enumerate(self.split(x))
        ]
        return torch.cat([part.flatten(-2) for part in turned], -1)


def joined(*parts: tuple[SO3Type, Tensor]) -> Tensor:
    """Return features side by side in one array, scalars before vectors before ...

    Their type is the sum of the types.
    """
    pieces = [kind.split(x) for kind, x in parts]
    rows = [torch.cat(of_l, -2).flatten(-2) for of_l in zip(*pieces, strict=True)]
    return torch.cat(rows, -1)


@functools.cache
def traceless() -> Array:
    """Return the basis of l = 2: orthonormal symmetric traceless matrices (5, 3, 3).

    In the order xx - yy, zz - xx / 2 - yy / 2, xy, yz, xz.
    """
    x, y, z = np.eye(3)
    basis = [
        np.outer(x, x) - np.outer(y, y),
        2 * np.outer(z, z) - np.outer(x, x) - np.outer(y, y),
        np.outer(x, y) + np.outer(y, x),
        np.outer(y, z) + np.outer(z, y),
        np.outer(x, z) + np.outer(z, x),
    ]
    return np.array([matrix / np.linalg.norm(matrix) for matrix in basis])


def irrep_matrix(ell: int, rotation: Tensor) -> Tensor:
    """Return D_l(Q), ``(..., 2 l + 1, 2 l + 1)``, of rotations Q, ``(..., 3, 3)``."""
    if ell == 0:
        return torch.ones_like(rotation[..., :1, :1])
    if ell == 1:
        return rotation
    if ell == 2:
        basis = torch.as_tensor(traceless()).to(rotation)
        return torch.einsum(
            "aij,...ik,...jl,bkl->...ab", basis, rotation, rotation, basis
        )
    # The part l of D_2 (x) D_{l - 2}.
    basis = torch.as_tensor(coupling(2, ell - 2, ell)).to(rotation)
    first, second = irrep_matrix(2, rotation), irrep_matrix(ell - 2, rotation)
    return torch.einsum("abM,...ac,...bd,cdN->...MN", basis, first, second, basis)


@functools.cache
def generators(ell: int) -> Array:
    """Return J_x, J_y, J_z, ``(3, 2 l + 1, 2 l + 1)``: D_l(exp(hat w)) = exp(w . J).

    They are antisymmetric, ``[J_x, J_y] = J_z`` and ``-sum_a J_a^2 = l (l + 1)``.
    """
    if ell == 0:
        return np.zeros((3, 1, 1))
    if ell == 1:
        return -_levi_civita()
    if ell == 2:
        basis, hat = traceless(), generators(1)
        moved = np.einsum("aik,bkj->abij", hat, basis)
        moved = moved + moved.transpose(0, 1, 3, 2)
        return np.einsum("cij,abij->acb", basis, moved)
    first, second = generators(2), generators(ell - 2)
    total = _sum_of(first, second)
    # l is the highest irrep in the product: what the others' eigenvalues leave.
    space = _eigenspace(total, ell)
    return np.einsum("im,aij,jn->amn", space, total, space)


@functools.cache
def coupling(l1: int, l2: int, l3: int) -> Array:
    """Return the tensor C that all rotations leave, ``(2 l1 + 1, 2 l2 + 1, 2 l3 + 1)``.

    ``sum_ab C_abM a_a b_b`` is the part l3 of the product of a and b: for vectors the
    dot product over sqrt 3, the cross product over sqrt 2 and the symmetric traceless
    part of ``a b^T``. ``sum_ab C_abM C_abN = delta_MN``. The first entry that is not 0
    is positive.

    Raises
    ------
    InputError
        Unless ``|l1 - l2| <= l3 <= l1 + l2``.
    """
    if not abs(l1 - l2) <= l3 <= l1 + l2:
        raise InputError(f"no product of l={l1} and l={l2} has a part l={l3}")
    shape = tuple(2 * ell + 1 for ell in (l1, l2, l3))
    total = _sum_of(_sum_of(generators(l1), generators(l2)), generators(l3))
    (tensor,) = _eigenspace(total, 0).T
    first = tensor[np.abs(tensor) > 1e-6][0]
    return (math.sqrt(2 * l3 + 1) * np.sign(first) * tensor).reshape(shape)


@functools.cache
def map_basis(l_out: int, l_in: int, part: int) -> Array:
    """Return the maps B_M of a part L, ``(2 L + 1, 2 l_out + 1, 2 l_in + 1)``.

    Orthonormal in the sum over entries, and transformed as the module says. For
    vectors: L = 0 is the identity over sqrt 3, L = 1 is ``B_M v = e_M x v / sqrt 2``,
    and L = 2 are the symmetric traceless matrices.
    """
    return np.ascontiguousarray(coupling(l_in, l_out, part).transpose(2, 1, 0))


def parts_between(l_out: int, l_in: int) -> range:
    """Return the irreps L among the linear maps from l_in to l_out."""
    return range(abs(l_in - l_out), l_in + l_out + 1)


@functools.cache
def products() -> tuple[tuple[int, int, int], ...]:
    """Return every (l1, l2, l3) of a product of features that is a feature."""
    every = range(HIGHEST + 1)
    return tuple(
        (l1, l2, l3)
        for l3 in every
        for l1 in every
        for l2 in every
        if l3 in parts_between(l1, l2)
    )


def named_parts(parts: Sequence[str]) -> tuple[int, ...]:
    """Return the L of parts by their names, in order and once each.

    Raises
    ------
    InputError
        For a name that is no part, or the trivial one, which is always there.
    """
    for name in parts:
        if name not in PARTS[1:]:
            raise InputError(
                f"part {name!r}: expected some of {', '.join(PARTS[1:])}, of SO(3)"
            )
    return tuple(ell for ell, name in enumerate(PARTS) if name in parts)


def _levi_civita() -> Array:
    """Return eps_abc, with ``(a x b)_c = eps_abc a_a b_b``."""
    result = np.zeros((3, 3, 3))
    for a, b, c in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        result[a, b, c], result[b, a, c] = 1.0, -1.0
    return result


def _sum_of(first: Array, second: Array) -> Array:
    """Return the generators of the tensor product."""
    return np.array(
        [
            np.kron(a, np.eye(len(b))) + np.kron(np.eye(len(a)), b)
            for a, b in zip(first, second, strict=True)
        ]
    )


def _eigenspace(total: Array, ell: int) -> Array:
    """Return an orthonormal basis of the irrep l, which is there once, in columns."""
    casimir = -np.einsum("aij,ajk->ik", total, total)
    values, vectors = np.linalg.eigh(casimir)
    columns = basis_of(vectors[:, np.abs(values - ell * (ell + 1)) < 0.5].T).T
    assert columns.shape[1] == 2 * ell + 1, "an irrep is missing, or there twice"
    return columns
