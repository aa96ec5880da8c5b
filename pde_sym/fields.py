"""What the channels of a state mean and how they transform.

A state is an array ``(..., channels, x, y)``. A `FieldSpec` says which channels
belong to which field, and the rank of a field says how it transforms; files,
symmetry actions and networks all read it and never count channels themselves.
"""

import itertools
import math
import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Self

from pydantic import Field as Documented
from pydantic import model_validator

from pde_sym.config import Frozen


class Rank(StrEnum):
    """How a field transforms under an orthogonal map M of the plane."""

    SCALAR = "scalar"
    """u -> u(M^-1 x)"""
    PSEUDOSCALAR = "pseudoscalar"
    """w -> det(M) w(M^-1 x), for instance vorticity"""
    VECTOR = "vector"
    """v -> M v(M^-1 x)"""
    TENSOR = "tensor"
    """T -> M T(M^-1 x) M^T, for instance a stress; the channels are T_xx, T_xy, .."""

    @property
    def tensor_order(self) -> int:
        """0 for (pseudo)scalars, 1 for vectors, 2 for tensors: the Well's group."""
        return {Rank.VECTOR: 1, Rank.TENSOR: 2}.get(self, 0)


class Field(Frozen):
    """One physical field.

    Parameters
    ----------
    name
        Name on disk.
    rank
        How it transforms.
    unit
        Its unit, empty for a dimensionless field.
    components
        Number of channels: 1, or the number d of axes for a vector, or d^2 for a
        tensor.
    prognostic
        Whether a surrogate predicts it; a derived field is computed from those.
    """

    name: str
    rank: Rank = Rank.SCALAR
    unit: str = ""
    components: int = Documented(default=1, ge=1)
    prognostic: bool = True

    @model_validator(mode="after")
    def _square_tensor(self) -> Self:
        if self.rank is Rank.TENSOR and math.isqrt(self.components) ** 2 != (
            self.components
        ):
            raise ValueError(
                f"a tensor has d^2 components on d axes, got {self.components}"
            )
        return self

    @property
    def component_shape(self) -> tuple[int, ...]:
        """``()``, ``(d,)`` or ``(d, d)``: the axes that its tensor order asks for."""
        order = self.rank.tensor_order
        return order * (math.isqrt(self.components) if order == 2 else self.components,)


class FieldSpec(Frozen):
    """Ordered fields with unique names: the single source of the channel order.

    >>> velocity = Field(name="velocity", rank=Rank.VECTOR, components=2)
    >>> FieldSpec.of(Field(name="smoke"), velocity).channel_names
    ('smoke', 'velocity_x', 'velocity_y')
    """

    fields: tuple[Field, ...]

    @model_validator(mode="after")
    def _unique_names(self) -> Self:
        if len(set(self.names)) != len(self.fields):
            raise ValueError(f"field names must differ, got {self.names}")
        return self

    @classmethod
    def of(cls, *fields: Field) -> Self:
        return cls(fields=fields)

    def __iter__(self) -> Iterator[Field]:  # type: ignore[override]
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)

    @property
    def num_channels(self) -> int:
        return sum(field.components for field in self.fields)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names per channel: ``temperature``, ``velocity_x``, ``stress_xy``."""
        return tuple(
            "_".join(filter(None, (field.name, "".join(axes))))
            for field in self.fields
            for axes in itertools.product(*("xyz"[:d] for d in field.component_shape))
        )

    def slices(self) -> dict[str, slice]:
        """Return the channels of each field."""
        result, start = {}, 0
        for field in self.fields:
            result[field.name] = slice(start, start + field.components)
            start += field.components
        return result

    @property
    def prognostic_channels(self) -> list[int]:
        """The channels of `prognostic()` among those of all fields."""
        channels = range(self.num_channels)
        return [
            channel
            for field, part in zip(self.fields, self.slices().values(), strict=True)
            if field.prognostic
            for channel in channels[part]
        ]

    def prognostic(self) -> Self:
        """Return the fields that a surrogate predicts."""
        return type(self)(fields=tuple(f for f in self.fields if f.prognostic))

    def __add__(self, other: "FieldSpec") -> "FieldSpec":
        return FieldSpec(fields=self.fields + other.fields)


_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def with_unit(name: str, unit: str) -> str:
    """Return a label for pictures: ``with_unit("a_b", "L^2")`` is ``a b [L²]``."""
    raised = re.sub(r"\^(\d+)", lambda found: found[1].translate(_RAISED), unit)
    return name.replace("_", " ") + (f" [{raised}]" if unit else "")
