"""The U-Net."""

from typing import Literal

from pydantic import Field, PositiveInt
from torch import nn

from pde_sym.errors import InputError
from pde_sym.nn.families.base import Task
from pde_sym.nn.families.free import FreeFamily
from pde_sym.nn.unet import UNet

AUTO_LEVELS = 3
COARSEST = 4
"""Points per axis below which a grid is not halved on its own account."""


class UNetConfig(FreeFamily):
    """A U-Net of residual blocks: free, and with sight of the whole domain.

    Parameters
    ----------
    width
        Channels on the coarsest grid; each finer one has half as many, rounded up.
    levels
        How often the grid is halved; None is as often as the training data allow, at
        most 3 times and down to 4 points.
    norm
        Whether blocks normalise their input.
    """

    kind: Literal["unet"] = "unet"
    width: PositiveInt = 64
    levels: int | None = Field(default=None, ge=0, le=8)
    norm: bool = False

    def _body(self, channels_in: int, task: Task) -> list[nn.Module]:
        levels, out = self._levels(task.resolution), task.state.num_channels
        net = UNet(channels_in, out, self.width, levels, self.norm, task.num_axes)
        return [net]

    def _levels(self, resolution: int | None) -> int:
        if self.levels is not None:
            return self.levels
        if resolution is None:
            return AUTO_LEVELS - 1
        levels = 0
        while (
            levels < AUTO_LEVELS
            and resolution % 2 ** (levels + 1) == 0
            and resolution >> (levels + 1) >= COARSEST
        ):
            levels += 1
        if not levels:
            raise InputError(
                f"unet: {resolution} points cannot be halved: expected an even number "
                f"from {2 * COARSEST} on, or levels = 0"
            )
        return levels
