"""The body that steerable families share: layers with a nonlinearity between them."""

import itertools
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

from pydantic import NonNegativeInt, PositiveInt, model_validator
from torch import nn

from pde_sym.errors import InputError
from pde_sym.nn._escnn import FieldType
from pde_sym.nn.families.base import ConvolutionalFamily, Task
from pde_sym.nn.field_types import field_type, gspace, is_continuous
from pde_sym.nn.kernel_space import Band, resolve_band
from pde_sym.nn.nonlinear import hidden_type, pointwise
from pde_sym.nn.relaxation import DEFAULT_BANKS, Relaxation

AUTO_POSITION_MODES = 8
"""Highest mode of the position factors where the task breaks translations."""

MakeLayer = Callable[[FieldType, FieldType], nn.Module]


def body_types(task: Task, group: str, width: int, depth: int) -> list[FieldType]:
    """Return the fields between `depth` layers: inputs, signals on the group, state."""
    space = gspace(group)
    return [
        field_type(task.inputs, space),
        *(depth - 1) * [hidden_type(space, width)],
        field_type(task.state, space),
    ]


def steerable_body(types: Sequence[FieldType], layer: MakeLayer) -> nn.Sequential:
    """Return layers between the given fields, a nonlinearity between any two."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(types):
        if layers:
            layers.append(pointwise(before))
        layers.append(layer(before, after))
    return nn.Sequential(*layers)


def position_modes(chosen: int | None, task: Task) -> int:
    """Return the highest mode of factors in position: as chosen, or by the task."""
    if chosen is not None:
        return chosen
    if not task.breaks_translation:
        return 0
    if task.resolution is None:
        return AUTO_POSITION_MODES
    # Fields that resolve single points memorise the training data.
    return max(1, min(AUTO_POSITION_MODES, task.resolution // 4))


def check_centre(kind: str, relaxation: Relaxation) -> None:
    """Raise `InputError` when a box on twice its points could not keep a subgroup."""
    if relaxation.relax_to != "C1" and relaxation.modes:
        raise InputError(
            f"{kind}: factors in position keep {relaxation.relax_to} about a point of "
            "the grid, a box with walls turns about a corner of its cells; set "
            "position_modes to 0, or relax_to to C1"
        )


class LayeredFamily(ConvolutionalFamily):
    """Families whose layers map fields of a group, all of one kind.

    Parameters
    ----------
    group
        Group of turns, ``C<N>`` or ``SO2``, or of turns and flips, ``D<N>`` or ``O2``.
        The width counts fields: regular ones, with a channel per group element, or
        band-limited ones for SO2 and O2, where the family has them.
    band
        Which kernels: ``full``, ``rings``, or ``auto`` for full where exact.
    """

    all_turns: ClassVar[bool] = False
    """Whether there are networks of SO2 and O2."""
    group: str = "C4"
    band: Band = "auto"

    @model_validator(mode="after")
    def _group_has_band(self) -> Self:
        space = gspace(self.group)
        resolve_band(space, self.band)
        if is_continuous(space) and not self.all_turns:
            raise InputError(
                f"group {self.group!r}: the hidden fields are regular, expected C<N> "
                "or D<N>"
            )
        return self

    @abstractmethod
    def layer(self, task: Task, before: FieldType, after: FieldType) -> nn.Module:
        """Return a layer between two of the body's fields."""

    def _build(self, task: Task) -> nn.Module:
        types = body_types(task, self.group, self.width, self.depth)
        return steerable_body(types, lambda a, b: self.layer(task, a, b))


class PositionedFamily(LayeredFamily):
    """Layered families that may have learned factors in position.

    Parameters
    ----------
    position_modes
        Highest mode of the factors in position; None is 8, or a quarter of the
        resolution if that is less, where the task breaks translations, else 0.
    position_banks
        Learned fields per layer that those factors are mixed from.
    """

    position_modes: NonNegativeInt | None = None
    position_banks: PositiveInt = DEFAULT_BANKS

    def layer_settings(self, task: Task) -> dict[str, Any]:
        """Return the settings that every `KernelLayer` of the family has."""
        return {
            "band": self.band,
            "position_modes": position_modes(self.position_modes, task),
            "position_banks": self.position_banks,
        }
