"""Implicit steerable kernels."""

import itertools
from typing import Literal

from pydantic import PositiveInt
from torch import Tensor, nn

from pde_sym.nn._escnn import FieldType
from pde_sym.nn.blocks import Pointwise
from pde_sym.nn.families.base import Task
from pde_sym.nn.families.body import PositionedFamily, body_types
from pde_sym.nn.field_types import field_type, gspace
from pde_sym.nn.implicit import ImplicitSteerableConv2d


class ImplicitConfig(PositionedFamily):
    """Steerable kernels that are an equivariant network of the offset (implicit).

    Where the task has given fields the kernels read their means over the grid. The
    group is finite: the kernels' network has regular fields inside.

    Parameters
    ----------
    hidden
        Hidden regular fields of the kernel's network.
    learned_vector
        Whether each layer learns a direction of the plane that its kernels read, from
        zero at the start: an environment that is hidden.
    """

    kind: Literal["implicit"] = "implicit"
    hidden: PositiveInt = 8
    learned_vector: bool = False

    def layer(
        self, task: Task, before: FieldType, after: FieldType
    ) -> ImplicitSteerableConv2d:
        given = None
        if task.given is not None:
            given = field_type(task.given, gspace(self.group))
        return ImplicitSteerableConv2d(
            before,
            after,
            self.kernel_size,
            hidden=self.hidden,
            attributes=given,
            learned_vector=self.learned_vector,
            **self.layer_settings(task),
        )

    def _build(self, task: Task) -> nn.Module:
        if task.given is None:
            return super()._build(task)
        types = body_types(task, self.group, self.width, self.depth)
        layers = [self.layer(task, a, b) for a, b in itertools.pairwise(types)]
        return _Informed(layers, Pointwise(types[1]), task.state.num_channels)


class _Informed(nn.Module):
    """Layers whose kernels read the means of the given fields."""

    def __init__(
        self, layers: list[ImplicitSteerableConv2d], between: nn.Module, num_state: int
    ) -> None:
        super().__init__()
        self.layers, self.between = nn.ModuleList(layers), between
        self.num_state = num_state

    def forward(self, x: Tensor) -> Tensor:
        attributes = x[:, self.num_state :].mean((2, 3))
        for number, layer in enumerate(self.layers):
            x = layer(self.between(x) if number else x, attributes)
        return x
