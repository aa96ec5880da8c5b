"""Finite groups of motions of the periodic plane, with their real irreps.

An element is ``g x = M x + s``: a flip, then quarter turns, then a shift, with

    M = R(turns pi/2) diag(1, -1)^flip,    R(pi/2): (x, y) -> (-y, x).

How elements act on states is in `pde_sym.symmetry`. A finite group carries its table
of real irreps, from which the isotypic projections follow (Serre, Linear
Representations of Finite Groups, section 2.6).
"""

import functools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pde_sym.errors import InputError

if TYPE_CHECKING:  # torch takes a second to import, and groups are plain numbers
    from torch import Tensor


@dataclass(frozen=True, order=True)
class GroupElement:
    """``g x = M x + s`` on the unit torus.

    Parameters
    ----------
    turns
        Quarter turns, modulo 4.
    flip
        Whether y -> -y is applied before the turns.
    shift
        Shift applied last, as fractions of the box lengths, modulo 1.
    """

    turns: int = 0
    flip: bool = False
    shift: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "turns", self.turns % 4)
        # Twice: round-off below zero gives 1.0 the first time.
        x, y = (s % 1.0 % 1.0 for s in self.shift)
        object.__setattr__(self, "shift", (x, y))

    @property
    def matrix(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """The orthogonal matrix M."""
        cos, sin = ((1, 0), (0, 1), (-1, 0), (0, -1))[self.turns]
        sign = -1 if self.flip else 1
        return ((cos, -sin * sign), (sin, cos * sign))

    @property
    def determinant(self) -> int:
        return -1 if self.flip else 1

    @property
    def name(self) -> str:
        """A short label: ``e``, ``flip y``, ``flip, turn 90``, ``shift 0.25, 0``."""
        parts = [f"flip{' y' if not self.turns else ''}"] if self.flip else []
        parts += [f"turn {90 * self.turns}"] if self.turns else []
        if any(self.shift):
            parts.append(f"shift {self.shift[0]:g}, {self.shift[1]:g}")
        return ", ".join(parts) or "e"

    def __matmul__(self, other: "GroupElement") -> "GroupElement":
        """Return the composition: first `other`, then `self`."""
        (a, b), (c, d) = self.matrix
        sx, sy = other.shift
        return GroupElement(
            turns=self.turns + (-other.turns if self.flip else other.turns),
            flip=self.flip != other.flip,
            shift=(a * sx + b * sy + self.shift[0], c * sx + d * sy + self.shift[1]),
        )

    def inverse(self) -> "GroupElement":
        point = GroupElement(self.turns if self.flip else -self.turns, self.flip)
        (a, b), (c, d) = point.matrix
        sx, sy = self.shift
        return GroupElement(
            point.turns, point.flip, (-a * sx - b * sy, -c * sx - d * sy)
        )


IDENTITY = GroupElement()


@dataclass(frozen=True)
class Irrep:
    """A real irreducible representation by its character.

    Parameters
    ----------
    name
        Name after the angular momentum or the Fourier mode.
    dimension
        Real dimension d.
    characters
        Character per group element, in the order of the group's elements.
    is_complex_type
        Whether it splits into two conjugate irreps over the complex numbers.
    """

    name: str
    dimension: int
    characters: tuple[float, ...]
    is_complex_type: bool = False

    @property
    def weights(self) -> tuple[float, ...]:
        """``d / (c |G|) chi(g)``: the weight of g in the isotypic projector."""
        c = 2 if self.is_complex_type else 1
        scale = self.dimension / (c * len(self.characters))
        return tuple(scale * character for character in self.characters)


@dataclass(frozen=True)
class Group:
    """A finite group of plane symmetries with its table of real irreps.

    The constructor checks closure, the orthogonality of the characters and that the
    projectors sum to one, so that a wrong table cannot be built.
    """

    name: str
    elements: tuple[GroupElement, ...]
    irreps: tuple[Irrep, ...]

    def __post_init__(self) -> None:
        if self.elements[0] != IDENTITY:
            raise ValueError(f"{self.name}: the first element must be the identity")
        products = {_key(a @ b) for a in self.elements for b in self.elements}
        if products != {_key(a) for a in self.elements}:
            raise ValueError(f"{self.name} is not closed under composition")
        table = np.array([irrep.characters for irrep in self.irreps])
        gram = table @ table.T / len(self.elements)
        if not np.allclose(gram, np.diag(np.diag(gram))):
            raise ValueError(f"{self.name}: the characters are not orthogonal")
        weights = np.sum([irrep.weights for irrep in self.irreps], axis=0)
        unit = np.eye(len(self.elements))[0]
        if not np.allclose(weights, unit):
            raise ValueError(f"{self.name}: the projectors do not sum to one")

    def __iter__(self) -> Iterator[GroupElement]:
        return iter(self.elements)

    def __len__(self) -> int:
        return len(self.elements)

    @property
    def trivial(self) -> Irrep:
        return self.irreps[0]

    def project(self, irrep: Irrep, turned_back: "Tensor") -> "Tensor":
        """Return ``f_sigma = sum_g d / (c |G|) chi(g) g^-1 f(g x)``.

        Parameters
        ----------
        irrep
            The irrep sigma of this group.
        turned_back
            ``g^-1 f(g x)`` for every element, stacked along the first axis.
        """
        terms = zip(irrep.weights, turned_back, strict=True)
        return sum(weight * part for weight, part in terms)  # type: ignore[return-value]


def _key(element: GroupElement) -> tuple[int, bool, int, int]:
    """Return a hashable form in which shifts differ by more than round-off."""
    sx, sy = (round(s * 2**20) % 2**20 for s in element.shift)
    return (element.turns, element.flip, sx, sy)


_MOMENTUM_NAMES = ("trivial", "vector", "quadrupole")


@functools.cache
def point_group(name: str) -> Group:
    """Return C1, C2, C4, D1, D2 or D4: the groups that are exact on a square grid.

    ``Dn`` contains the flip y -> -y. Irreps are named by their angular momentum;
    a prime marks the one that is odd under that flip.

    >>> [irrep.name for irrep in point_group("D4").irreps]
    ['trivial', 'pseudoscalar', 'vector', 'quadrupole', "quadrupole'"]
    """
    if name not in {"C1", "C2", "C4", "D1", "D2", "D4"}:
        raise InputError(
            f"group {name!r}: exact groups of the grid are C1, C2, C4, D1, D2, D4"
        )
    order, has_flips = int(name[1]), name[0] == "D"
    elements = tuple(
        GroupElement(turns=k * 4 // order, flip=flip)
        for flip in ((False, True) if has_flips else (False,))
        for k in range(order)
    )
    irreps = []
    for momentum in range(order // 2 + 1):
        label = _MOMENTUM_NAMES[momentum]
        turn = [math.cos(math.pi * momentum * g.turns / 2) for g in elements]
        if 0 < 2 * momentum < order:
            characters = tuple(
                0.0 if g.flip else 2.0 * c for g, c in zip(elements, turn, strict=True)
            )
            irreps.append(Irrep(label, 2, characters, is_complex_type=not has_flips))
            continue
        irreps.append(Irrep(label, 1, tuple(turn)))
        if has_flips:
            odd = tuple(
                -c if g.flip else c for g, c in zip(elements, turn, strict=True)
            )
            prime = "pseudoscalar" if momentum == 0 else f"{label}'"
            irreps.append(Irrep(prime, 1, odd))
    return Group(name, elements, tuple(irreps))


@functools.cache
def shift_group(n: int, num_axes: int = 2) -> Group:
    """Return the shifts by multiples of L / n; its irreps are Fourier modes.

    They are n x n shifts of a plane, or n of a line.
    """
    steps = [(i, j) for i in range(n) for j in range(n if num_axes == 2 else 1)]
    elements = tuple(GroupElement(shift=(i / n, j / n)) for i, j in steps)
    irreps = []
    for mode in steps:
        conjugate = (-mode[0] % n, -mode[1] % n)
        if conjugate < mode:
            continue
        is_pair = conjugate != mode
        characters = tuple(
            (2.0 if is_pair else 1.0)
            * math.cos(2 * math.pi * (mode[0] * i + mode[1] * j) / n)
            for i, j in steps
        )
        numbers = ", ".join(map(str, mode[:num_axes]))
        label = f"mode ({numbers})" if any(mode) else "trivial"
        irreps.append(Irrep(label, 2 if is_pair else 1, characters, is_pair))
    name = "x".join(num_axes * [str(n)])
    return Group(f"shifts {name}", elements, tuple(irreps))


@dataclass(frozen=True)
class Subgroup:
    """A subgroup of T^2 x D4 that survives a breaking term.

    Parameters
    ----------
    translations
        Axes along which every shift survives.
    point
        The surviving turns and flips about some centre.
    """

    translations: frozenset[str]
    point: frozenset[GroupElement]

    @classmethod
    def of(cls, translations: str, point: Iterable[GroupElement]) -> "Subgroup":
        return cls(frozenset(translations), frozenset(point))

    def __and__(self, other: "Subgroup") -> "Subgroup":
        return Subgroup(
            self.translations & other.translations, self.point & other.point
        )

    def __contains__(self, element: GroupElement) -> bool:
        moved = {axis for axis, s in zip("xy", element.shift, strict=True) if s}
        point = GroupElement(element.turns, element.flip)
        return moved <= self.translations and point in self.point

    @property
    def name(self) -> str:
        """For instance ``T_x x D1`` or ``T^2 x {e; flip, turn 90}``.

        >>> FULL.name
        'T^2 x D4'
        """
        shifts = {0: "", 1: "T_" + "".join(self.translations), 2: "T^2"}
        named = {
            frozenset(point_group(n).elements): n
            for n in ("C1", "C2", "C4", "D1", "D2", "D4")
        }
        listed = "; ".join(g.name for g in sorted(self.point))
        point = named.get(self.point) or f"{{{listed}}}"
        return " x ".join(p for p in (shifts[len(self.translations)], point) if p)


FULL = Subgroup.of("xy", point_group("D4"))
