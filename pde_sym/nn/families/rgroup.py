"""The relaxed group convolution."""

from typing import Literal

from pydantic import PositiveInt

from pde_sym.nn._escnn import FieldType
from pde_sym.nn.families.base import Task
from pde_sym.nn.families.body import PositionedFamily
from pde_sym.nn.relaxed_banks import Argument, RelaxedGroupConv2d


class RGroupConfig(PositionedFamily):
    """Group convolutions mixed by weights per group element (RGroup).

    The group is finite: there is a weight for each of its elements.

    Parameters
    ----------
    banks
        Kernels that each layer mixes.
    argument
        Whether the weights belong to the ``output``'s or the ``input``'s element.
    """

    kind: Literal["rgroup"] = "rgroup"
    banks: PositiveInt = 2
    argument: Argument = "output"

    def layer(
        self, task: Task, before: FieldType, after: FieldType
    ) -> RelaxedGroupConv2d:
        return RelaxedGroupConv2d(
            before,
            after,
            self.kernel_size,
            banks=self.banks,
            argument=self.argument,
            **self.layer_settings(task),
        )
