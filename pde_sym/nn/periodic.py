"""Feature maps on circles and tori: what is read of them, and free convolutions."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from pde_sym.errors import InputError
from pde_sym.grid import AXIS_NAMES
from pde_sym.nn.kernel_space import check_kernel_size


def check_map(
    x: Tensor, channels: int, kernel_size: int = 1, num_axes: int = 2
) -> None:
    """Raise `InputError` unless `x` is ``(B, channels, *points)``, for the kernel."""
    if x.ndim != num_axes + 2 or x.shape[1] != channels:
        points = ", ".join(AXIS_NAMES[:num_axes])
        raise InputError(
            f"expected input (batch, {channels}, {points}), got shape {tuple(x.shape)}"
        )
    if min(x.shape[2:]) < kernel_size:
        raise InputError(
            f"a kernel of {kernel_size} points needs a grid at least as large, got "
            f"{tuple(x.shape[2:])}"
        )


def wrap(x: Tensor, kernel_size: int) -> Tensor:
    """Return maps ``(..., x, y)`` with ``kernel_size // 2`` more points on each side.

    Values and derivatives of all orders are those of ``pad(mode="circular")``. torch
    records that as five copies into slices, each with a gradient as large as the map;
    the adjoint, which adds the margins to the points they came from, is a third of it.
    """
    half = kernel_size // 2
    if not half:
        return x
    # A compiler fuses the copies by itself.
    return _pad(x, half) if torch.compiler.is_compiling() else _Wrap.apply(x, half)


def _pad(x: Tensor, half: int) -> Tensor:
    return nn.functional.pad(x, 4 * [half], mode="circular")


class _Wrap(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, half: int) -> Tensor:
        return _pad(x, half)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        del output
        ctx.half = inputs[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _fold(_fold(grads[0], ctx.half, -2), ctx.half, -1), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        return wrap(tangents[0], 2 * ctx.half + 1)


def _fold(grad: Tensor, half: int, axis: int) -> Tensor:
    """Return the adjoint of the wrap along one axis."""
    inner = grad.narrow(axis, half, grad.shape[axis] - 2 * half).clone()
    length = inner.shape[axis]
    inner.narrow(axis, 0, half).add_(grad.narrow(axis, half + length, half))
    inner.narrow(axis, length - half, half).add_(grad.narrow(axis, 0, half))
    return inner


class _PeriodicConv:
    """What free convolutions on circles and tori share; before torch's among bases."""

    in_channels: int
    kernel_size: tuple[int, ...]
    weight: Tensor
    bias: Tensor | None

    def __init__(self, channels_in: int, channels_out: int, kernel_size: int) -> None:
        check_kernel_size(kernel_size)
        sizes, half = (channels_in, channels_out, kernel_size), kernel_size // 2
        super().__init__(*sizes, padding=half, padding_mode="circular")  # type: ignore[call-arg]

    def reset_parameters(self) -> None:
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def check(self, x: Tensor) -> None:
        """Raise `InputError` for arrays that the layer does not take."""
        check_map(x, self.in_channels, self.kernel_size[0], len(self.kernel_size))


class PeriodicConv1d(_PeriodicConv, nn.Conv1d):
    """A free convolution on the circle, see `PeriodicConv2d`."""

    def forward(self, input: Tensor) -> Tensor:
        """Map ``(B, C_in, x)`` to ``(B, C_out, x)``."""
        self.check(input)
        return super().forward(input)


class PeriodicConv2d(_PeriodicConv, nn.Conv2d):
    """A free convolution on the torus, with He's weights and no bias at the start.

    It commutes with every shift by whole points.

    Raises
    ------
    InputError
        For an even kernel, other channels, or a grid smaller than the kernel.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map ``(B, C_in, x, y)`` to ``(B, C_out, x, y)``."""
        self.check(input)
        padded = wrap(input, self.kernel_size[0])
        return nn.functional.conv2d(padded, self.weight, self.bias)


def periodic_conv(num_axes: int) -> type[PeriodicConv1d] | type[PeriodicConv2d]:
    """Return the free convolution of a line or of the plane."""
    return PeriodicConv1d if num_axes == 1 else PeriodicConv2d
