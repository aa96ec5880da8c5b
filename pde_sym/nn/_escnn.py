"""The one place that imports escnn, and what the package uses of its objects.

escnn ships no types. Its objects fit the protocols here, so that a type checker knows
what a layer takes and holds.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

with warnings.catch_warnings():
    # py3nj speeds up SO(3) coefficients, which the plane does not need.
    warnings.filterwarnings("ignore", message="`py3nj` package not found")
    from escnn import group, gspaces
    from escnn import nn as escnn_nn

__all__ = [
    "FieldType",
    "GSpace",
    "Group",
    "Irrep",
    "R2Conv",
    "Representation",
    "directsum",
    "gspaces",
]


class Group(Protocol):
    """A compact group, ``escnn.group.Group``."""

    def order(self) -> int:
        """Return the number of elements; -1 where it is infinite."""
        ...

    @property
    def elements(self) -> list[Any]: ...

    def grid(self, *args: Any, **kwargs: Any) -> list[Any]:
        """Return samples of the elements."""
        ...

    def irreps(self) -> "Sequence[Irrep]": ...

    def irrep(self, *id: Any) -> "Irrep": ...


class Representation(Protocol):
    """An orthogonal representation, ``escnn.group.Representation``."""

    @property
    def name(self) -> str: ...

    @property
    def group(self) -> Group: ...

    @property
    def size(self) -> int: ...

    @property
    def irreps(self) -> Sequence[tuple[Any, ...]]:
        """What `Group.irrep` takes, for each irrep that it holds."""
        ...

    @property
    def change_of_basis(self) -> NDArray[Any]: ...

    def __call__(self, element: Any, /) -> NDArray[np.float64]:
        """Return the matrix of an element."""
        ...

    def is_trivial(self) -> bool: ...

    def tensor(self, other: Any, /) -> "Representation": ...


class Irrep(Representation, Protocol):
    """An irreducible one, ``escnn.group.IrreducibleRepresentation``."""

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Holds its ``frequency``."""
        ...

    @property
    def type(self) -> str:
        """Real (R), complex (C) or quaternionic (H)."""
        ...


class GSpace(Protocol):
    """The plane and the group that acts on it, ``escnn.gspaces.GSpace``."""

    @property
    def name(self) -> str: ...

    @property
    def fibergroup(self) -> Group: ...

    @property
    def basespace_action(self) -> Representation: ...

    @property
    def trivial_repr(self) -> Representation: ...

    @property
    def regular_repr(self) -> Representation: ...

    def type(self, *representations: Any) -> "FieldType":
        """Return the type of fields that transform by these, one after another."""
        ...


class FieldType(Protocol):
    """How the channels of a map transform, ``escnn.nn.FieldType``."""

    @property
    def gspace(self) -> GSpace: ...

    @property
    def representations(self) -> Sequence[Representation]: ...

    @property
    def size(self) -> int: ...

    @property
    def representation(self) -> Representation: ...

    def __len__(self) -> int: ...

    def __add__(self, other: Any, /) -> "FieldType": ...


directsum: Callable[..., Representation] = group.directsum
R2Conv: Callable[..., Any] = escnn_nn.R2Conv
