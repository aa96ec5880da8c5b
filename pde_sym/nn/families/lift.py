"""A strict body with extra features from a free network."""

from typing import ClassVar, Literal

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from pde_sym.nn._escnn import FieldType
from pde_sym.nn.conv import SteerableConv2d
from pde_sym.nn.families.base import Task
from pde_sym.nn.families.body import LayeredFamily, body_types, steerable_body
from pde_sym.nn.field_types import gspace
from pde_sym.nn.lift import FourierLift
from pde_sym.nn.nonlinear import hidden_type, pointwise

LIFTED_AFTER = 2
"""Layers before the extra features enter, in a body of more than that."""


class LiftConfig(LayeredFamily):
    """A strict network with extra features that a free one reads off the input (Lift).

    Parameters
    ----------
    extra_fields
        Hidden fields that enter after the second layer.
    hidden
        Units of the free network's hidden layers.
    modes
        Highest Fourier mode of the input that it reads.
    out_modes
        Highest mode of the extra fields; None is `modes` where the task breaks
        translations, else 0, the published form: the same at every point.
    """

    all_turns: ClassVar[bool] = True
    kind: Literal["lift"] = "lift"
    extra_fields: PositiveInt = 2
    hidden: PositiveInt = 32
    modes: NonNegativeInt = 2
    out_modes: NonNegativeInt | None = None

    @property
    def reach(self) -> int | None:
        """None: the free network reads the whole plane."""
        return None

    def layer(self, task: Task, before: FieldType, after: FieldType) -> SteerableConv2d:
        del task
        return SteerableConv2d(before, after, self.kernel_size, band=self.band)

    def _build(self, task: Task) -> nn.Module:
        types = body_types(task, self.group, self.width, self.depth)
        split = min(LIFTED_AFTER, self.depth - 1)
        extra = hidden_type(gspace(self.group), self.extra_fields)
        out_modes = self.out_modes
        if out_modes is None:
            out_modes = self.modes if task.breaks_translation else 0

        def body(types: list[FieldType]) -> nn.Sequential:
            return steerable_body(types, lambda a, b: self.layer(task, a, b))

        lift = FourierLift(
            task.inputs.num_channels,
            extra.size,
            hidden=self.hidden,
            modes=self.modes,
            out_modes=out_modes,
        )
        before = body(types[: split + 1]).append(pointwise(types[split]))
        return _Lifted(before, lift, body([types[split] + extra, *types[split + 1 :]]))


class _Lifted(nn.Module):
    """Two parts of a body; extra channels enter between them."""

    def __init__(self, before: nn.Module, lift: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.before, self.lift, self.after = before, lift, after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(torch.cat([self.before(x), self.lift(x)], 1))
