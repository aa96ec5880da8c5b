"""Model families: frozen values that build a network for a task.

Every network maps ``(B, C_state + C_given, x, y)`` to an increment of the state,
``(B, C_state, x, y)``, and has the same body: convolutions with a pointwise
nonlinearity between them. The families differ in the convolution.
"""

import itertools
from abc import abstractmethod
from typing import Annotated, Literal, Self, TypeVar

import torch
from pydantic import (
    Field,
    NonNegativeInt,
    PositiveInt,
    field_validator,
    model_validator,
)
from torch import nn
from typing_extensions import override

from pde_sym.config import Frozen
from pde_sym.errors import InputError
from pde_sym.fields import FieldSpec
from pde_sym.nn.blocks import PeriodicConv2d, Pointwise, PositionChannels
from pde_sym.nn.conv import SteerableConv2d
from pde_sym.nn.field_types import field_type, gspace, regular_type
from pde_sym.nn.kernel_space import Band, check_kernel_size, part_names, resolve_band
from pde_sym.nn.relaxation import DEFAULT_BANKS, Isotypic, Modulated, Relaxation, Strict

AUTO_POSITION_MODES = 8
"""Highest mode of the position factors where the task breaks translations."""
MATCH_TOLERANCE = 0.1
"""Relative difference of parameter counts that still counts as matched."""


class Task(Frozen):
    """What a model predicts and what it may read.

    Parameters
    ----------
    state
        The fields it predicts.
    given
        Constant fields that it may read, for instance a topography.
    breaks_translation
        Whether the equation, given what the model reads, depends on the place.
    resolution
        Points per axis of the training data, where known: learned fields in position
        stay well above their spacing. A built model runs on every grid.
    """

    state: FieldSpec
    given: FieldSpec | None = None
    breaks_translation: bool = False
    resolution: PositiveInt | None = None

    @model_validator(mode="after")
    def _has_state_and_distinct_names(self) -> Self:
        if not len(self.state):
            raise ValueError("a task predicts at least one field, got none")
        _ = self.inputs
        return self

    @property
    def inputs(self) -> FieldSpec:
        """State fields, then given fields."""
        return self.state if self.given is None else self.state + self.given


class _Family(Frozen):
    """What all families share.

    Parameters
    ----------
    width
        Hidden channels, or hidden regular fields.
    depth
        Number of convolutions.
    kernel_size
        Points per axis of each kernel, odd.
    """

    width: PositiveInt = 16
    depth: int = Field(default=4, ge=2)
    kernel_size: PositiveInt = 5

    @field_validator("kernel_size")
    @classmethod
    def _odd(cls, kernel_size: int) -> int:
        check_kernel_size(kernel_size)
        return kernel_size

    @abstractmethod
    def build(self, task: Task) -> nn.Module:
        """Return a freshly initialised network for `task`."""


class CNNConfig(_Family):
    """A free convolutional network: translations only, or no symmetry at all.

    Parameters
    ----------
    width
        Hidden channels.
    position_channels
        Whether it reads sin and cos of its place; None where the task breaks
        translations, without which it could not learn that.
    """

    kind: Literal["cnn"] = "cnn"
    width: PositiveInt = 32
    position_channels: bool | None = None

    def build(self, task: Task) -> nn.Module:
        reads_place = self.position_channels
        if reads_place is None:
            reads_place = task.breaks_translation
        first = task.inputs.num_channels
        layers: list[nn.Module] = []
        if reads_place:
            layers.append(PositionChannels())
            first += PositionChannels.num_channels
        for _ in range(self.depth - 1):
            layers += [PeriodicConv2d(first, self.width, self.kernel_size), nn.GELU()]
            first = self.width
        layers.append(PeriodicConv2d(first, task.state.num_channels, self.kernel_size))
        return nn.Sequential(*layers)


class _SteerableFamily(_Family):
    """Networks whose hidden layers are regular fields of a group.

    Parameters
    ----------
    group
        Group of turns ``C<N>`` or of turns and flips ``D<N>``.
        The width counts regular fields, each with one channel per group element.
    band
        Which kernels: ``full``, ``rings``, or ``auto`` for full where exact.
    """

    group: str = "C4"
    band: Band = "auto"

    @model_validator(mode="after")
    def _group_has_band(self) -> Self:
        resolve_band(gspace(self.group), self.band)
        return self

    @abstractmethod
    def relaxation(self, task: Task) -> Relaxation:
        """Return what the layers may learn beside steerable kernels."""

    def build(self, task: Task) -> nn.Module:
        space = gspace(self.group)
        hidden = regular_type(space, self.width)
        types = [
            field_type(task.inputs, space),
            *(self.depth - 1) * [hidden],
            field_type(task.state, space),
        ]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(types):
            if layers:
                layers.append(Pointwise(hidden))
            layers.append(
                SteerableConv2d(
                    before,
                    after,
                    self.kernel_size,
                    band=self.band,
                    relaxation=self.relaxation(task),
                )
            )
        return nn.Sequential(*layers)


class StrictConfig(_SteerableFamily):
    """Exactly equivariant under the group and under translations."""

    kind: Literal["strict"] = "strict"

    @override
    def relaxation(self, task: Task) -> Relaxation:
        return Strict()


class ModulatedConfig(_SteerableFamily):
    """Steerable kernels times learned factors per component and place.

    Parameters
    ----------
    fibre
        Whether components of a field get factors and biases of their own.
    position_modes
        Highest mode of the factors in position; None is 8, or a quarter of the
        resolution if that is less, where the task breaks translations, else 0.
    position_banks
        Learned fields per layer that those factors are mixed from.
    """

    kind: Literal["modulated"] = "modulated"
    fibre: bool = True
    position_modes: NonNegativeInt | None = None
    position_banks: PositiveInt = DEFAULT_BANKS

    def relaxation(self, task: Task) -> Relaxation:
        modes = _position_modes(self.position_modes, task)
        return Modulated(
            fibre=self.fibre, position_modes=modes, position_banks=self.position_banks
        )


class IsotypicConfig(_SteerableFamily):
    """Steerable kernels plus learned kernels of other irreps.

    Parameters
    ----------
    parts
        Irreps to learn; None means all.
    position_modes, position_banks
        As in `ModulatedConfig`.
    """

    kind: Literal["isotypic"] = "isotypic"
    parts: tuple[str, ...] | None = None
    position_modes: NonNegativeInt | None = None
    position_banks: PositiveInt = DEFAULT_BANKS

    @model_validator(mode="after")
    def _parts_exist(self) -> Self:
        available = part_names(gspace(self.group), self.band)[1:]
        Isotypic(parts=self.parts).kernel_parts(available)
        return self

    def relaxation(self, task: Task) -> Relaxation:
        modes = _position_modes(self.position_modes, task)
        return Isotypic(
            parts=self.parts, position_modes=modes, position_banks=self.position_banks
        )


def _position_modes(chosen: int | None, task: Task) -> int:
    if chosen is not None:
        return chosen
    if not task.breaks_translation:
        return 0
    if task.resolution is None:
        return AUTO_POSITION_MODES
    # Fields that resolve single points memorise the training data.
    return max(1, min(AUTO_POSITION_MODES, task.resolution // 4))


ModelConfig = Annotated[
    CNNConfig | StrictConfig | ModulatedConfig | IsotypicConfig,
    Field(discriminator="kind"),
]
"""Any model family, told apart by ``kind``."""


def count_parameters(model: nn.Module) -> int:
    """Return the number of learned values."""
    return sum(p.numel() for p in model.parameters())


_Config = TypeVar("_Config", bound=_Family)


def match_width(config: _Config, task: Task, num_parameters: int) -> _Config:
    """Return `config` with the width whose parameter count is nearest.

    A width step changes the count by about ``2 / width``: small budgets of wide
    representations may have no match.

    Raises
    ------
    InputError
        When no width comes within 10 % of `num_parameters`; it lists the nearest.
    """

    def at(width: int) -> tuple[_Config, int]:
        candidate = config.model_copy(update={"width": width})
        # Counting must not change the weights that are drawn afterwards.
        with torch.random.fork_rng(devices=[]):
            return candidate, count_parameters(candidate.build(task))

    upper = 1
    while at(upper)[1] < num_parameters:
        upper *= 2
    # The count grows with the width: halve (lower, upper] until one is left.
    lower = upper // 2
    while upper - lower > 1:
        middle = (lower + upper) // 2
        if at(middle)[1] < num_parameters:
            lower = middle
        else:
            upper = middle
    found = [at(width) for width in range(max(lower, 1), upper + 1)]
    best, count = min(found, key=lambda pair: abs(pair[1] - num_parameters))
    if abs(count - num_parameters) > MATCH_TOLERANCE * num_parameters:
        raise InputError(
            f"no width brings {type(config).__name__} within 10 % of "
            f"{num_parameters} parameters: "
            + ", ".join(f"width {c.width} has {n}" for c, n in found)
            + "; ask for one of these numbers, or change the depth or the kernel size"
        )
    return best


def split_parameters(
    model: nn.Module,
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the parameters that keep the symmetry and those that relax it.

    Only the first belong into weight decay, which would pull the others to zero.
    """
    layers = [m for m in model.modules() if isinstance(m, SteerableConv2d)]
    relaxed = [p for layer in layers for p in layer.relaxed_parameters()]
    known = {id(p) for p in relaxed}
    return [p for p in model.parameters() if id(p) not in known], relaxed
