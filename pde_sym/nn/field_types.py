"""Symmetry groups of a network and how its fields transform under them.

A group element g acts on positions and on vector components by the same matrix

    M(g) = R(2 pi k / N) diag(1, -1)^flip,    R(pi/2): (x, y) -> (-y, x),

on arrays ``(..., x, y)``. Nothing else in the package reasons about axes.
"""

import functools
import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec, Rank
from pde_sym.nn._escnn import (
    FieldType,
    GSpace,
    Irrep,
    Representation,
    directsum,
    gspaces,
)

MAX_ORDER = 64
CONTINUOUS_ORDER = 32
"""Turns by which SO(2) and O(2) are sampled: exact for momenta that add up to less."""
MAX_FREQUENCY = 4
"""Highest angular momentum of fields of SO(2) and O(2)."""
_ESCNN_TO_XY = np.array([[0.0, -1.0], [1.0, 0.0]])


@functools.cache
def gspace(name: str) -> GSpace:
    """Return the plane with a group of turns, ``C<N>`` or ``SO2``, or ``D<N>``, ``O2``.

    D<N> and O2 hold the flip y -> -y.

    Raises
    ------
    InputError
        When `name` is none of these, or N is not a number from 1 to 64.
    """
    if name == "SO2":
        return gspaces.rot2dOnR2(-1, maximum_frequency=MAX_FREQUENCY)
    if name == "O2":
        return gspaces.flipRot2dOnR2(-1, maximum_frequency=MAX_FREQUENCY)
    match = re.fullmatch(r"([CD])([1-9]\d?)", name)
    if match is None or int(match[2]) > MAX_ORDER:
        raise InputError(
            f"group {name!r}: expected C or D and a number from 1 to {MAX_ORDER}, "
            "for instance C4 (quarter turns) or D4 (quarter turns and flips), or SO2 "
            "or O2 (all turns)"
        )
    order = int(match[2])
    if match[1] == "D":
        if order == 1:
            return gspaces.flip2dOnR2()
        return gspaces.flipRot2dOnR2(order)
    return gspaces.trivialOnR2() if order == 1 else gspaces.rot2dOnR2(order)


def is_continuous(space: GSpace) -> bool:
    """Return whether the group is SO(2) or O(2)."""
    return space.fibergroup.order() < 0


def group_name(space: GSpace) -> str:
    """Return the name by which `gspace` knows the space's group."""
    has_flips = [
        np.linalg.det(element_matrix(space, g)) < 0 for g in elements_of(space)
    ]
    if is_continuous(space):
        return "O2" if any(has_flips) else "SO2"
    return f"{'D' if any(has_flips) else 'C'}{has_flips.count(False)}"


def elements_of(space: GSpace) -> list[Any]:
    """Return the elements of a finite group, or those of 32 turns (and flips)."""
    group = space.fibergroup
    return group.grid(CONTINUOUS_ORDER) if is_continuous(space) else group.elements


def element_matrix(space: GSpace, element: Any) -> NDArray[np.float64]:
    """Return the matrix M(g), shape (2, 2), of an element of the space's group."""
    if space.fibergroup.order() == 1:
        return np.eye(2)
    matrix = _ESCNN_TO_XY @ space.basespace_action(element) @ _ESCNN_TO_XY.T
    whole = np.rint(matrix)
    return np.where(np.abs(matrix - whole) < 1e-9, whole, matrix)


def subgroup_indices(space: GSpace, name: str) -> list[int]:
    """Return which of `elements_of` form a subgroup.

    Parameters
    ----------
    space
        The plane with its group.
    name
        As of `gspace`; ``D1@90`` is D1 turned by 90 degrees, with the flip x -> -x.

    Raises
    ------
    InputError
        When it is not a subgroup of the space's group, or of its 32 turns.
    """
    plain, _, degrees = name.partition("@")
    if degrees and re.fullmatch(r"\d+(\.\d+)?", degrees) is None:
        raise InputError(f"subgroup {name!r}: expected degrees after @, as in D1@90")
    angle = math.radians(float(degrees or 0))
    turn = np.array(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    smaller = gspace(plain)
    wanted = [turn @ element_matrix(smaller, g) @ turn.T for g in elements_of(smaller)]
    matrices = [element_matrix(space, g) for g in elements_of(space)]
    found = [
        [i for i, m in enumerate(matrices) if np.allclose(m, w, atol=1e-9)]
        for w in wanted
    ]
    if not all(found):
        raise InputError(
            f"subgroup {name!r}: {group_name(space)} has no such subgroup"
            + (f" among its {CONTINUOUS_ORDER} turns" if is_continuous(space) else "")
        )
    return [place for (place,) in found]


@functools.cache
def is_exact_on_grid(space: GSpace) -> bool:
    """Return whether every element maps the square grid onto itself."""
    matrices = [element_matrix(space, g) for g in elements_of(space)]
    return all(np.array_equal(m, np.rint(m)) for m in matrices)


def field_type(spec: FieldSpec, space: GSpace) -> FieldType:
    """Return how the channels of `spec` transform, field by field.

    Raises
    ------
    InputError
        When a vector has another number of components than 2, or a tensor than 4.
    """
    return space.type(*(_representation(field, space) for field in spec))


def regular_type(space: GSpace, num_fields: int) -> FieldType:
    """Return `num_fields` regular fields: one channel per group element each."""
    return space.type(*(num_fields * [space.regular_repr]))


def _representation(field: Field, space: GSpace) -> Representation:
    order = field.rank.tensor_order
    if order:
        if field.components != 2**order:
            raise InputError(
                f"field {field.name!r}: a {field.rank.value} of the plane has "
                f"{2**order} components, got {field.components}"
            )
        return _standard(space) if order == 1 else _tensor(space)
    parity = field.rank is Rank.PSEUDOSCALAR
    one = _matching(space, lambda m: np.linalg.det(m) if parity else 1.0)
    if field.components == 1:
        return one
    return directsum(field.components * [one], name=f"{field.components} {one.name}")


@functools.cache
def _standard(space: GSpace) -> Representation:
    """Return the representation whose matrices are M(g) themselves."""
    elements = elements_of(space)
    for irrep in space.fibergroup.irreps():
        if irrep.size == 2 and all(
            np.allclose(irrep(g), element_matrix(space, g)) for g in elements
        ):
            return irrep
    # C1, C2, D1 and D2 have diagonal matrices: x and y are irreps of their own.
    along = [_matching(space, lambda m, i=i: m[i, i]) for i in range(2)]
    return directsum(along, name="standard")


@functools.cache
def _tensor(space: GSpace) -> Representation:
    """Return the representation ``T -> M T M^T`` on the rows of T, ``M (x) M``."""
    standard = _standard(space)
    return standard.tensor(standard)


def _matching(space: GSpace, character: Any) -> Representation:
    """Return the one-dimensional irrep with the given function of M(g)."""
    elements = elements_of(space)
    wanted = [character(element_matrix(space, g)) for g in elements]
    for irrep in space.fibergroup.irreps():
        found = [irrep(g)[0, 0] for g in elements]
        if irrep.size == 1 and np.allclose(found, wanted):
            return irrep
    raise InputError(f"{space.name}: its flip is not y -> -y; use gspace(name)")


@dataclass(frozen=True)
class FieldGroup:
    """The fields of a type that share a representation.

    Parameters
    ----------
    representation
        How each of them transforms.
    channels
        Their channels, field after field.
    """

    representation: Representation
    channels: tuple[int, ...]

    @property
    def num_fields(self) -> int:
        return len(self.channels) // self.representation.size


def field_groups(fields: FieldType) -> tuple[FieldGroup, ...]:
    """Return the fields grouped by representation, in order of first appearance."""
    channels: dict[Representation, list[int]] = {}
    start = 0
    for rep in fields.representations:
        channels.setdefault(rep, []).extend(range(start, start + rep.size))
        start += rep.size
    return tuple(FieldGroup(rep, tuple(c)) for rep, c in channels.items())


def natural_order(groups: tuple[FieldGroup, ...]) -> Tensor | None:
    """Return the index that puts grouped channels back; None when they are in order."""
    grouped = torch.tensor([c for group in groups for c in group.channels])
    if torch.equal(grouped, torch.arange(len(grouped))):
        return None
    return torch.argsort(grouped)


def is_permutation(rep: Representation) -> bool:
    """Return whether the group permutes the components, as in regular fields."""
    group = rep.group
    if group.order() < 0:
        return all(group.irrep(*irrep).is_trivial() for irrep in rep.irreps)
    matrices = [np.asarray(rep(g)) for g in group.elements]
    return all(np.allclose(np.abs(m - 0.5), 0.5, atol=1e-9) for m in matrices)


@dataclass(frozen=True)
class IrrepBlock:
    """An irrep of a representation, with all its copies.

    Parameters
    ----------
    irrep
        The irrep psi.
    columns
        Orthonormal columns of the change of basis, ``(size, copies, dim psi)``:
        ``rho(g) Q = Q psi(g)`` for each copy.
    """

    irrep: Irrep
    columns: NDArray[np.float64]


@functools.cache
def irrep_blocks(rep: Representation) -> tuple[IrrepBlock, ...]:
    """Return the distinct irreps of `rep`, in order of first appearance.

    Raises
    ------
    InputError
        When its change of basis is not orthogonal.
    """
    basis = np.asarray(rep.change_of_basis, dtype=np.float64)
    if not np.allclose(basis @ basis.T, np.eye(rep.size), atol=1e-10):
        raise InputError(
            f"representation {rep.name!r}: its change of basis must be orthogonal"
        )
    copies: dict[Irrep, list[NDArray[np.float64]]] = {}
    start = 0
    for irrep_id in rep.irreps:
        irrep = rep.group.irrep(*irrep_id)
        copies.setdefault(irrep, []).append(basis[:, start : start + irrep.size])
        start += irrep.size
    return tuple(IrrepBlock(i, np.stack(c, axis=1)) for i, c in copies.items())
