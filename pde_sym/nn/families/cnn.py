"""The free convolutional network."""

from typing import Literal

from pydantic import PositiveInt
from torch import nn

from pde_sym.nn.families.base import ConvolutionalFamily, Task
from pde_sym.nn.families.free import FreeFamily
from pde_sym.nn.periodic import periodic_conv


class CNNConfig(FreeFamily, ConvolutionalFamily):
    """A free convolutional network: translations only, or no symmetry at all.

    Parameters
    ----------
    width
        Hidden channels.
    """

    kind: Literal["cnn"] = "cnn"
    width: PositiveInt = 32

    def _body(self, channels_in: int, task: Task) -> list[nn.Module]:
        convolution, layers = periodic_conv(task.num_axes), []
        for _ in range(self.depth - 1):
            layers += [convolution(channels_in, self.width, self.kernel_size)]
            layers += [nn.GELU()]
            channels_in = self.width
        out = task.state.num_channels
        return [*layers, convolution(channels_in, out, self.kernel_size)]
