"""The relaxed steerable convolution."""

from typing import ClassVar, Literal

from pydantic import PositiveInt

from pde_sym.nn._escnn import FieldType
from pde_sym.nn.families.base import Task
from pde_sym.nn.families.body import PositionedFamily
from pde_sym.nn.relaxed_banks import RelaxedSteerableConv2d


class RSteerConfig(PositionedFamily):
    """Steerable kernels mixed by weights per offset, orbit-wise (RSteer).

    Parameters
    ----------
    banks
        Kernels that each layer mixes.
    """

    all_turns: ClassVar[bool] = True
    kind: Literal["rsteer"] = "rsteer"
    banks: PositiveInt = 2

    def layer(
        self, task: Task, before: FieldType, after: FieldType
    ) -> RelaxedSteerableConv2d:
        return RelaxedSteerableConv2d(
            before,
            after,
            self.kernel_size,
            banks=self.banks,
            **self.layer_settings(task),
        )
