"""The free convolutional network."""

from typing import ClassVar, Literal

from pydantic import PositiveInt
from torch import nn

from pde_sym.nn.blocks import PeriodicConv2d, PositionChannels
from pde_sym.nn.families.base import ConvolutionalFamily, Task
from pde_sym.nn.lines import PeriodicConv1d, PositionChannels1d


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

    axes: ClassVar[tuple[int, ...]] = (1, 2)
    kind: Literal["cnn"] = "cnn"
    width: PositiveInt = 32
    position_channels: bool | None = None

    def _build(self, task: Task) -> nn.Module:
        reads_place = self.position_channels
        if reads_place is None:
            reads_place = task.breaks_translation
        on_line = task.num_axes == 1
        convolution = PeriodicConv1d if on_line else PeriodicConv2d
        position = PositionChannels1d if on_line else PositionChannels
        first = task.inputs.num_channels
        layers: list[nn.Module] = []
        if reads_place:
            layers.append(position())
            first += position.num_channels
        for _ in range(self.depth - 1):
            layers += [convolution(first, self.width, self.kernel_size), nn.GELU()]
            first = self.width
        layers.append(convolution(first, task.state.num_channels, self.kernel_size))
        return nn.Sequential(*layers)
