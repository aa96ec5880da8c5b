"""The Fourier neural operator."""

from typing import Literal

from pydantic import Field, PositiveInt
from torch import nn

from pde_sym.errors import InputError
from pde_sym.nn.families.base import Family, Task
from pde_sym.nn.families.free import FreeFamily
from pde_sym.nn.fno import fourier_layer
from pde_sym.nn.periodic import periodic_conv

AUTO_MODES = 8
PROJECTION = 4
"""Channels of the last hidden map, in units of the width."""


class FourierFamily(Family):
    """Families whose body is Fourier layers with nonlinearities between them.

    Parameters
    ----------
    width
        Hidden channels, or hidden regular fields.
    depth
        Number of Fourier layers.
    modes
        Highest mode per axis of their kernels; None is 8, or the highest that the
        training data have if that is less. Coarser grids use those that they have.
    """

    width: PositiveInt = 16
    depth: int = Field(default=4, ge=1)
    modes: PositiveInt | None = None

    def highest_mode(self, task: Task) -> int:
        """Return the highest mode of a network for `task`.

        Raises
        ------
        InputError
            When the training data do not have the mode that was asked for.
        """
        present = AUTO_MODES if task.resolution is None else (task.resolution - 1) // 2
        if self.modes is None:
            return min(AUTO_MODES, present)
        if task.resolution is not None and self.modes > present:
            raise InputError(
                f"{self.kind}: modes {self.modes}, but {task.resolution} points have "
                f"modes up to {present}"
            )
        return self.modes


class FNOConfig(FreeFamily, FourierFamily):
    """The Fourier neural operator: free kernels in mode space, on any grid.

    Parameters
    ----------
    width
        Hidden channels.
    """

    kind: Literal["fno"] = "fno"
    width: PositiveInt = 16

    def _body(self, channels_in: int, task: Task) -> list[nn.Module]:
        pointwise, modes = periodic_conv(task.num_axes), self.highest_mode(task)
        layers: list[nn.Module] = [pointwise(channels_in, self.width, 1)]
        for _ in range(self.depth):
            layers += [fourier_layer(self.width, modes, task.num_axes), nn.GELU()]
        wide = PROJECTION * self.width
        last = pointwise(wide, task.state.num_channels, 1)
        # It starts as persistence, which is nearer than any random step.
        nn.init.zeros_(last.weight)
        return [*layers, pointwise(self.width, wide, 1), nn.GELU(), last]
