"""Layers without symmetry of their own, and the nonlinearity that keeps it."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from pde_sym.errors import InputError
from pde_sym.nn._escnn import FieldType
from pde_sym.nn.field_types import is_permutation
from pde_sym.nn.kernel_space import check_kernel_size
from pde_sym.nn.lines import PeriodicConv1d
from pde_sym.nn.periodic import wrap


class Pointwise(nn.Module):
    """A function of each channel, exact on fields whose channels the group permutes.

    Parameters
    ----------
    fields
        The fields it acts on.
    function
        A function of one real variable, applied entry by entry.

    Raises
    ------
    InputError
        When the group does more than permute channels, as for vectors.
    """

    def __init__(
        self,
        fields: FieldType,
        function: Callable[[Tensor], Tensor] = nn.functional.gelu,
    ) -> None:
        super().__init__()
        for rep in dict.fromkeys(fields.representations):
            if not is_permutation(rep):
                raise InputError(
                    f"a pointwise function of {rep.name!r} is not equivariant: "
                    "expected regular, quotient or trivial fields"
                )
        self.in_type = self.out_type = fields
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class PositionChannels(nn.Module):
    """Appends sin and cos of ``2 pi x / L`` per axis: four channels of position."""

    num_channels = 4

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, x, y)`` to ``(B, C + 4, x, y)``."""
        axes = [
            2 * math.pi * torch.arange(n, device=x.device, dtype=torch.float64) / n
            for n in x.shape[-2:]
        ]
        along_x, along_y = torch.meshgrid(*axes, indexing="ij")
        waves = [f(a) for a in (along_x, along_y) for f in (torch.sin, torch.cos)]
        channels = torch.stack(waves).to(x.dtype).expand(len(x), -1, -1, -1)
        return torch.cat([x, channels], dim=1)


class PeriodicConv2d(nn.Conv2d):
    """A free convolution on the torus, with He's weights and no bias at the start.

    Raises
    ------
    InputError
        For an even kernel, or a grid smaller than the kernel.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel_size: int) -> None:
        check_kernel_size(kernel_size)
        super().__init__(
            channels_in,
            channels_out,
            kernel_size,
            padding=kernel_size // 2,
            padding_mode="circular",
        )

    def reset_parameters(self) -> None:
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        if min(input.shape[-2:]) < self.kernel_size[0]:
            raise InputError(
                f"a kernel of {self.kernel_size[0]} points needs a grid at least as "
                f"large, got {tuple(input.shape[-2:])}"
            )
        return nn.functional.conv2d(
            wrap(input, self.kernel_size[0]), self.weight, self.bias
        )


def periodic_conv(num_axes: int) -> type[PeriodicConv1d] | type[PeriodicConv2d]:
    """Return the free convolution of a line or of the plane."""
    return PeriodicConv1d if num_axes == 1 else PeriodicConv2d
