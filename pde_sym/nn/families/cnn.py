"""The free convolutional network."""

from typing import Literal

from pydantic import PositiveInt
from torch import nn

from pde_sym.nn.blocks import PeriodicConv2d, PositionChannels
from pde_sym.nn.families.base import ConvolutionalFamily, Task


class CNNConfig(ConvolutionalFamily):
    """A free convolutional network: translations only, or no symmetry at all.

    Parameters
    ----------
    width
        Hidden channels.
    position_channels
        Whether it reads sin and cos of its place; None where the task breaks
        translations, without which it could not learn that.
    """

    kind: Literal["cnn"] = "cnn"
    width: PositiveInt = 32
    position_channels: bool | None = None

    def _build(self, task: Task) -> nn.Module:
        reads_place = self.position_channels
        if reads_place is None:
            reads_place = task.breaks_translation
        first = task.inputs.num_channels
        layers: list[nn.Module] = []
        if reads_place:
            layers.append(PositionChannels())
            first += PositionChannels.num_channels
        for _ in range(self.depth - 1):
            layers += [PeriodicConv2d(first, self.width, self.kernel_size), nn.GELU()]
            first = self.width
        layers.append(PeriodicConv2d(first, task.state.num_channels, self.kernel_size))
        return nn.Sequential(*layers)
