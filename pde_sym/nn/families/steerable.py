"""Steerable networks: strict, modulated and isotypic."""

from abc import abstractmethod
from typing import ClassVar, Literal, Self

from pydantic import NonNegativeInt, PositiveInt, model_validator
from torch import nn
from typing_extensions import override

from pde_sym.nn._escnn import FieldType
from pde_sym.nn.conv import SteerableConv2d
from pde_sym.nn.families.base import Galilei, Task
from pde_sym.nn.families.body import LayeredFamily, position_modes
from pde_sym.nn.families.lines import line_network
from pde_sym.nn.field_types import gspace, subgroup_indices
from pde_sym.nn.kernel_space import available_parts
from pde_sym.nn.relaxation import (
    DEFAULT_BANKS,
    Hold,
    Isotypic,
    Modulated,
    Penalised,
    Relaxation,
    Strict,
)


class SteerableFamily(LayeredFamily):
    """Networks of steerable convolutions, exact or relaxed."""

    all_turns: ClassVar[bool] = True
    galilei: Galilei = None

    @abstractmethod
    def relaxation(self, task: Task) -> Relaxation:
        """Return what the layers may learn beside steerable kernels."""

    @override
    def layer(self, task: Task, before: FieldType, after: FieldType) -> nn.Module:
        return SteerableConv2d(
            before,
            after,
            self.kernel_size,
            band=self.band,
            relaxation=self.relaxation(task),
        )

    def _build(self, task: Task) -> nn.Module:
        if task.num_axes == 1:
            return line_network(self, task, self.relaxation(task))
        return super()._build(task)


class StrictConfig(SteerableFamily):
    """Exactly equivariant under the group and under translations."""

    axes: ClassVar[tuple[int, ...]] = (1, 2)
    kind: Literal["strict"] = "strict"

    @override
    def relaxation(self, task: Task) -> Relaxation:
        return Strict()


class _RelaxedFamily(SteerableFamily):
    """Steerable networks that may leave the group, and translations.

    Parameters
    ----------
    relax_to
        Subgroup under which the network stays exact, for instance ``C2``, ``D1`` or
        ``D1@90`` (the flip x -> -x); ``C1`` keeps nothing.
    position_modes
        Highest mode of the factors in position; None is 8, or a quarter of the
        resolution if that is less, where the task breaks translations, else 0.
    position_banks
        Learned fields per layer that those factors are mixed from.
    """

    where_boosts_break: ClassVar[bool | Literal["relaxed"]] = "relaxed"
    relax_to: str = "C1"
    position_modes: NonNegativeInt | None = None
    position_banks: PositiveInt = DEFAULT_BANKS

    @model_validator(mode="after")
    def _subgroup_exists(self) -> Self:
        subgroup_indices(gspace(self.group), self.relax_to)
        return self


class ModulatedConfig(_RelaxedFamily):
    """Steerable kernels times learned factors per component and place.

    Parameters
    ----------
    fibre
        Whether components of a field get factors and biases of their own.
    """

    axes: ClassVar[tuple[int, ...]] = (1, 2)
    kind: Literal["modulated"] = "modulated"
    fibre: bool = True

    def relaxation(self, task: Task) -> Relaxation:
        return Modulated(
            relax_to=self.relax_to,
            fibre=self.fibre,
            position_modes=position_modes(self.position_modes, task),
            position_banks=self.position_banks,
        )


class IsotypicConfig(_RelaxedFamily):
    """Steerable kernels plus learned kernels of other irreps.

    Parameters
    ----------
    parts
        Irreps to learn; None means all.
    cutoff
        Learn only irreps up to this angular momentum.
    hold
        How the parts are held: ``penalised``, ``prior``, ``constrained``,
        ``likelihood`` or ``free``.
    """

    kind: Literal["isotypic"] = "isotypic"
    parts: tuple[str, ...] | None = None
    cutoff: NonNegativeInt | None = None
    hold: Hold = Penalised()

    @model_validator(mode="after")
    def _parts_exist(self) -> Self:
        available = available_parts(gspace(self.group), self.band)[1:]
        self._setting(0).kernel_parts(available)
        return self

    def relaxation(self, task: Task) -> Relaxation:
        return self._setting(position_modes(self.position_modes, task))

    def _setting(self, modes: int) -> Isotypic:
        return Isotypic(
            relax_to=self.relax_to,
            parts=self.parts,
            cutoff=self.cutoff,
            hold=self.hold,
            position_modes=modes,
            position_banks=self.position_banks,
        )
