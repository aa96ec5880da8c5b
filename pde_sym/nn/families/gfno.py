"""The Fourier neural operator of a group."""

from typing import Literal, Self

from pydantic import NonNegativeInt, PositiveInt, field_validator, model_validator
from torch import nn

from pde_sym.errors import InputError
from pde_sym.nn._escnn import FieldType
from pde_sym.nn.blocks import Pointwise
from pde_sym.nn.conv import SteerableConv2d
from pde_sym.nn.families.base import Task
from pde_sym.nn.families.body import check_centre, position_modes
from pde_sym.nn.families.fno import PROJECTION, FourierFamily
from pde_sym.nn.field_types import field_type, gspace, regular_type, subgroup_indices
from pde_sym.nn.fno import FourierLayer
from pde_sym.nn.gfno import GroupSpectralConv, check_turns_modes
from pde_sym.nn.relaxation import (
    DEFAULT_BANKS,
    Isotypic,
    Modulated,
    Relaxation,
    Strict,
)


class GFNOConfig(FourierFamily):
    """G-FNO: Fourier kernels that turns and flips share, exactly or relaxed.

    Fields of every rank come in and go out by steerable maps at each point.

    Parameters
    ----------
    width
        Hidden regular fields, each with one channel per group element.
    group
        C1, C2 or C4 (turns), D1, D2 or D4 (turns and flips).
    relaxation
        ``strict``; ``modulated``, with factors per component and place; ``isotypic``,
        with kernels of other irreps.
    relax_to
        Subgroup under which a relaxed network stays exact; ``C1`` keeps nothing.
    position_modes
        Highest mode of the factors in position, on what the maps at each point read;
        None is 8, or a quarter of the resolution if that is less, where the task
        breaks translations and the network is relaxed, else 0.
    position_banks
        Learned fields per map that those factors are mixed from.
    """

    kind: Literal["gfno"] = "gfno"
    width: PositiveInt = 4
    group: str = "C4"
    relaxation: Literal["strict", "modulated", "isotypic"] = "strict"
    relax_to: str = "C1"
    position_modes: NonNegativeInt | None = None
    position_banks: PositiveInt = DEFAULT_BANKS

    @field_validator("group")
    @classmethod
    def _turns_modes(cls, group: str) -> str:
        check_turns_modes(gspace(group))
        return group

    @model_validator(mode="after")
    def _relaxed_if_told_how(self) -> Self:
        subgroup_indices(gspace(self.group), self.relax_to)
        if self.relaxation == "strict" and (
            self.relax_to != "C1" or self.position_modes
        ):
            raise InputError(
                "relax_to and position_modes are for a relaxed network; set relaxation "
                "to modulated or isotypic"
            )
        return self

    def setting(self, task: Task) -> Relaxation:
        """Return what the layers may learn beside what the group shares."""
        if self.relaxation == "strict":
            return Strict()
        kind = Modulated if self.relaxation == "modulated" else Isotypic
        return kind(
            relax_to=self.relax_to,
            position_modes=position_modes(self.position_modes, task),
            position_banks=self.position_banks,
        )

    def _between_walls(self, task: Task) -> nn.Module:
        check_centre(self.kind, self.setting(task))
        return super()._between_walls(task)

    def _build(self, task: Task) -> nn.Module:
        space, modes = gspace(self.group), self.highest_mode(task)
        hidden = regular_type(space, self.width)
        before, after = field_type(task.inputs, space), field_type(task.state, space)
        setting, width = self.setting(task), self.width

        def pointwise(into: FieldType, out: FieldType) -> SteerableConv2d:
            return SteerableConv2d(into, out, 1, relaxation=setting)

        layers: list[nn.Module] = [pointwise(before, hidden)]
        for _ in range(self.depth):
            spectral = GroupSpectralConv(space, width, width, modes, setting)
            layer = FourierLayer(spectral, pointwise(hidden, hidden))
            layers += [layer, Pointwise(hidden)]
        wide = regular_type(space, PROJECTION * width)
        layers += [pointwise(hidden, wide), Pointwise(wide), pointwise(wide, after)]
        return nn.Sequential(*layers)
