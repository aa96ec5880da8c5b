"""The Fourier neural operator of a group."""

from typing import Literal

from pydantic import PositiveInt, field_validator
from torch import nn

from pde_sym.nn.blocks import Pointwise
from pde_sym.nn.conv import SteerableConv2d
from pde_sym.nn.families.base import Task
from pde_sym.nn.families.fno import PROJECTION, FourierFamily
from pde_sym.nn.field_types import field_type, gspace, regular_type
from pde_sym.nn.fno import FourierLayer
from pde_sym.nn.gfno import GroupSpectralConv, check_turns_modes


class GFNOConfig(FourierFamily):
    """G-FNO: Fourier kernels that turns and flips share, exactly equivariant.

    Fields of every rank come in and go out by steerable maps at each point.

    Parameters
    ----------
    width
        Hidden regular fields, each with one channel per group element.
    group
        C1, C2 or C4 (turns), D1, D2 or D4 (turns and flips).
    """

    kind: Literal["gfno"] = "gfno"
    width: PositiveInt = 4
    group: str = "C4"

    @field_validator("group")
    @classmethod
    def _turns_modes(cls, group: str) -> str:
        check_turns_modes(gspace(group))
        return group

    def _build(self, task: Task) -> nn.Module:
        space, modes = gspace(self.group), self.highest_mode(task)
        hidden = regular_type(space, self.width)
        before, after = field_type(task.inputs, space), field_type(task.state, space)
        layers: list[nn.Module] = [SteerableConv2d(before, hidden, 1)]
        for _ in range(self.depth):
            spectral = GroupSpectralConv(space, self.width, self.width, modes)
            pointwise = SteerableConv2d(hidden, hidden, 1)
            layers += [FourierLayer(spectral, pointwise), Pointwise(hidden)]
        wide = regular_type(space, PROJECTION * self.width)
        layers += [
            SteerableConv2d(hidden, wide, 1),
            Pointwise(wide),
            SteerableConv2d(wide, after, 1),
        ]
        return nn.Sequential(*layers)
