"""Feature maps on the torus with the margin that a convolution reads."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function


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
