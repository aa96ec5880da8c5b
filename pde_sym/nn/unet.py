"""A U-Net on the torus and on the circle."""

import itertools

import torch
from torch import Tensor, nn

from pde_sym.errors import InputError
from pde_sym.nn.periodic import periodic_conv

KERNEL = 3


class ResidualBlock(nn.Module):
    """``S f + conv(gelu(norm(conv(gelu(norm(f))))))``; S is 1, or a map at each point.

    The norm is over all channels and points of a sample, and may be left out.
    """

    def __init__(
        self, channels_in: int, channels_out: int, norm: bool, num_axes: int = 2
    ) -> None:
        super().__init__()
        convolution, layers = periodic_conv(num_axes), []
        for before in (channels_in, channels_out):
            if norm:
                layers.append(nn.GroupNorm(1, before))
            layers += [nn.GELU(), convolution(before, channels_out, KERNEL)]
        # A deep network starts as a shallow one: each block adds nothing yet.
        nn.init.zeros_(layers[-1].weight)
        self.body: nn.Sequential = nn.Sequential(*layers)
        self.skip: nn.Module = nn.Identity()
        if channels_in != channels_out:
            self.skip = convolution(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.body(x)


class UNet(nn.Module):
    """Residual blocks on grids that are halved `levels` times, then doubled again.

    Halving takes means of 2 points per axis, doubling repeats them, and what was there
    before halving is appended: Ronneberger, Fischer and Brox 2015, U-Net, with the
    residual blocks that later ones have. It commutes with shifts by whole numbers of
    points of the coarsest grid, and with no others.

    Parameters
    ----------
    channels_in, channels_out
        Channels before and after.
    width
        Channels on the coarsest grid; each finer one has half as many, rounded up.
    levels
        How often the grid is halved.
    norm
        Whether blocks normalise their input.
    num_axes
        Axes of the grid, 1 or 2.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        width: int,
        levels: int,
        norm: bool,
        num_axes: int = 2,
    ) -> None:
        super().__init__()
        self.levels = levels
        convolution = periodic_conv(num_axes)
        self.halve: nn.Module = nn.AvgPool1d(2) if num_axes == 1 else nn.AvgPool2d(2)
        widths = [-(-width // 2**level) for level in reversed(range(levels + 1))]
        self.first: nn.Module = convolution(channels_in, widths[0], KERNEL)
        self.down: nn.ModuleList = nn.ModuleList()
        self.widen: nn.ModuleList = nn.ModuleList()
        self.up: nn.ModuleList = nn.ModuleList()
        for fine, coarse in itertools.pairwise(widths):
            self.down.append(ResidualBlock(fine, fine, norm, num_axes))
            self.widen.append(convolution(fine, coarse, 1))
            self.up.append(ResidualBlock(fine + coarse, fine, norm, num_axes))
        self.middle: ResidualBlock = ResidualBlock(
            widths[-1], widths[-1], norm, num_axes
        )
        out = convolution(widths[0], channels_out, KERNEL)
        # It starts as persistence; from large first predictions it does not recover.
        nn.init.zeros_(out.weight)
        self.last: nn.Sequential = nn.Sequential(nn.GELU(), out)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C_in, *points)`` to ``(B, C_out, *points)``.

        Raises
        ------
        InputError
            When the grid cannot be halved so often.
        """
        part = 2**self.levels
        if any(n % part or n // part < KERNEL for n in x.shape[2:]):
            raise InputError(
                f"unet: a grid that is halved {self.levels} times needs multiples of "
                f"{part} from {part * KERNEL} points on, got {tuple(x.shape[2:])}; "
                "choose fewer levels"
            )
        x, kept = self.first(x), []
        for block, widen in zip(self.down, self.widen, strict=True):
            x = block(x)
            kept.append(x)
            x = widen(self.halve(x))
        x = self.middle(x)
        for block in reversed(self.up):
            doubled = nn.functional.interpolate(x, scale_factor=2.0)
            x = block(torch.cat([kept.pop(), doubled], dim=1))
        return self.last(x)
