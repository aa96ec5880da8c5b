"""A free network made equivariant from outside."""

from typing import Literal, Self

from pydantic import PositiveInt, model_validator
from torch import nn

from pde_sym.groups import point_group
from pde_sym.nn.canonical import Canonical, GroupAverage
from pde_sym.nn.families.base import ConvolutionalFamily, Task
from pde_sym.nn.families.cnn import CNNConfig


class CanonicalConfig(ConvolutionalFamily):
    """A free convolutional network, averaged over a group or in a canonical frame.

    Parameters
    ----------
    group
        C1, C2, C4, D1, D2 or D4, exact on square grids.
    mode
        ``average``: one evaluation per group element; ``frame``: one in all, in the
        state's own frame, which has translations too unless the task breaks them.
    relax
        Whether the network may leave the symmetry by a learned share of itself.
    """

    kind: Literal["canonical"] = "canonical"
    width: PositiveInt = 32
    group: str = "C4"
    mode: Literal["average", "frame"] = "average"
    relax: bool = False

    @model_validator(mode="after")
    def _group_is_exact(self) -> Self:
        point_group(self.group)
        return self

    def _between_walls(self, task: Task) -> nn.Module:
        # It turns the box itself: what is averaged need not keep any symmetry.
        return self._build(task)

    def _build(self, task: Task) -> nn.Module:
        net = CNNConfig(
            width=self.width, depth=self.depth, kernel_size=self.kernel_size
        ).build(task)
        fields = (task.inputs, task.state, self.group)
        walled = task.walls is not None
        if self.mode == "average":
            return GroupAverage(net, *fields, relax=self.relax, walled=walled)
        shifts = not (walled or task.breaks_translation)
        return Canonical(net, *fields, shifts=shifts, relax=self.relax, walled=walled)
