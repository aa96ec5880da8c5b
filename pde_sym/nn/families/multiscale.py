"""Steerable U-Nets: residual blocks on grids that are halved and doubled."""

from collections.abc import Callable
from typing import ClassVar, Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from pde_sym.errors import InputError
from pde_sym.nn._escnn import FieldType
from pde_sym.nn.coarsen import Coarsen, Refine, Resampling
from pde_sym.nn.conv import SteerableConv2d
from pde_sym.nn.families.base import Task
from pde_sym.nn.families.body import check_centre
from pde_sym.nn.families.steerable import (
    IsotypicConfig,
    ModulatedConfig,
    SteerableFamily,
    StrictConfig,
)
from pde_sym.nn.field_types import field_type, gspace
from pde_sym.nn.nonlinear import hidden_type, pointwise
from pde_sym.nn.residual import Antialiased, Nonlinearity, ResidualBlock

AUTO_LEVELS = 2
"""How often the grid is halved where its resolution is not known."""


class UNetFamily(SteerableFamily):
    """Networks that see far by way of coarser grids.

    Every halving commutes with turns and flips, and what lies between is steerable,
    strict or relaxed. Functions of fields on the coarse grids are taken on the finest
    one, so that shifts by whole points are exact too; see `Antialiased`.

    Parameters
    ----------
    width
        Hidden fields on the finest grid; every coarser one has twice as many.
    depth
        Residual blocks per grid, on the way down and on the way up.
    levels
        How often the grid is halved; its points per axis are a multiple of
        ``2^levels``. None is as often as leaves 8 points of the task's resolution, at
        least once and at most three times; twice where that is not known.
    resampling
        ``spectral`` as described; ``local`` changes grids by means of neighbours and
        takes functions where the fields lie, which is cheaper, and exact only under
        shifts by ``2^levels`` points.
    normalise
        Whether the blocks normalise their fields first, see `FieldNorm`.
    """

    axes: ClassVar[tuple[int, ...]] = (2,)
    width: PositiveInt = 4
    depth: int = Field(default=1, ge=1)
    kernel_size: PositiveInt = 3
    levels: int | None = Field(default=None, ge=1, le=6)
    resampling: Resampling = "spectral"
    normalise: bool = False

    @property
    def reach(self) -> int | None:
        """None: spectral changes of grid see the whole plane."""
        return None

    def _between_walls(self, task: Task) -> nn.Module:
        if self.resampling == "local":
            raise InputError(
                f"{self.kind}: resampling 'local' keeps every second point, which "
                "turns of a box with walls do not; use 'spectral'"
            )
        check_centre(self.kind, self.relaxation(task))
        return super()._between_walls(task)

    def _build(self, task: Task) -> nn.Module:
        space = gspace(self.group)
        before, after = (field_type(s, space) for s in (task.inputs, task.state))
        levels = self._levels(task)
        fields = [hidden_type(space, self.width * 2**i) for i in range(levels + 1)]
        settings = [self.relaxation(_coarser(task, i)) for i in range(levels + 1)]

        def phi(level: int) -> Callable[[FieldType], Nonlinearity]:
            if self.resampling == "local" or level == 0:
                return pointwise
            return lambda hidden: Antialiased(pointwise(hidden), 2**level)

        def blocks(level: int) -> nn.Sequential:
            return nn.Sequential(
                *(
                    ResidualBlock(
                        fields[level],
                        self.kernel_size,
                        band=self.band,
                        relaxation=settings[level],
                        nonlinearity=phi(level),
                        normalise=self.normalise,
                    )
                    for _ in range(self.depth)
                )
            )

        def convolution(into: FieldType, out: FieldType, level: int) -> SteerableConv2d:
            return SteerableConv2d(
                into,
                out,
                self.kernel_size,
                band=self.band,
                relaxation=settings[level],
            )

        net: nn.Module = blocks(levels)
        for level in reversed(range(levels)):
            fine, coarse = fields[level], fields[level + 1]
            around = nn.Sequential(
                Coarsen(self.resampling),
                convolution(fine, coarse, level + 1),
                net,
                convolution(coarse, fine, level + 1),
                Refine(self.resampling),
            )
            net = Level(blocks(level), around, blocks(level))
        return nn.Sequential(
            convolution(before, fields[0], 0),
            net,
            pointwise(fields[0]),
            convolution(fields[0], after, 0),
        )

    def _levels(self, task: Task) -> int:
        points, levels = task.resolution, self.levels or AUTO_LEVELS
        if points is None:
            return levels
        if self.levels is None:
            fitting = (n for n in (3, 2) if points % 2**n == 0 and points >> n >= 8)
            levels = next(fitting, 1)
        part = 2**levels
        if points % part or points // part < self.kernel_size:
            raise InputError(
                f"{self.kind}: a grid that is halved {levels} times needs multiples of "
                f"{part} from {part * self.kernel_size} points on, got {points}; "
                "choose another resolution or fewer levels"
            )
        return levels


class Level(nn.Module):
    """One grid of a U-Net: ``after(y + around(y))``, ``y = before(x)``.

    Parameters
    ----------
    before, after
        What acts on this grid, on the way down and on the way up.
    around
        The way through the coarser grids, from this one and back to it.
    """

    def __init__(self, before: nn.Module, around: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.before = before
        self.around = around
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, x, y)`` to the same shape."""
        x = self.before(x)
        return self.after(x + self.around(x))


class StrictUNetConfig(UNetFamily, StrictConfig):
    """A U-Net that is exactly equivariant under the group and under translations."""

    kind: Literal["strict_unet"] = "strict_unet"


class ModulatedUNetConfig(UNetFamily, ModulatedConfig):
    """A U-Net whose kernels have learned factors per component and place."""

    kind: Literal["modulated_unet"] = "modulated_unet"


class IsotypicUNetConfig(UNetFamily, IsotypicConfig):
    """A U-Net of steerable kernels plus learned kernels of other irreps."""

    kind: Literal["isotypic_unet"] = "isotypic_unet"


def _coarser(task: Task, level: int) -> Task:
    """Return the task as the grid of a level resolves it."""
    if task.resolution is None:
        return task
    return task.model_copy(update={"resolution": max(1, task.resolution >> level)})
