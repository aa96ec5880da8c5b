"""An upper bound on a network's defect, from the operator norms of its layers.

With layers ``f_l``, inputs ``h_{l-1}`` and Lipschitz constants ``L_l``, a telescoping
sum gives

    ||f(g x) - g f(x)|| <= sum_l (prod_{m > l} L_m) ||f_l(g h_{l-1}) - g f_l(h_{l-1})||,

and for a convolution the last norm is at most ``||K - g.K|| ||h||`` and what factors in
position and biases add. Norms of kernels are those of the circular convolution: the
largest singular value over all Fourier modes of the grid. The sum of squared weights
would be no bound: a part of 1e-4 of them may turn half of the output.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pde_sym.errors import InputError
from pde_sym.groups import GroupElement
from pde_sym.nn._escnn import FieldType
from pde_sym.nn.blocks import Pointwise
from pde_sym.nn.conv import SteerableConv2d
from pde_sym.nn.field_types import element_matrix, elements_of, group_name

GELU_SLOPE = 1.1290
"""The largest slope of GELU, just above its maximum 1.12890.. at sqrt 2."""


@torch.no_grad()
def certificate(net: nn.Sequential, x: Tensor, element: GroupElement) -> Tensor:
    """Return a bound on ``||f(g x) - g f(x)||`` for each sample, ``(batch,)``.

    Parameters
    ----------
    net
        Steerable convolutions with GELU between them.
    x
        Inputs ``(batch, channels, x, y)``; the states of the layers are those of x.
    element
        A turn or flip of the network's group.

    Raises
    ------
    InputError
        When a layer is of another kind, or the group has no such element.
    """
    bound, slope_after = x.new_zeros(len(x)), 1.0
    terms: list[tuple[Tensor, float]] = []
    for layer in net:
        if isinstance(layer, Pointwise) and layer.function is nn.functional.gelu:
            terms.append((x.new_zeros(len(x)), GELU_SLOPE))
        elif isinstance(layer, SteerableConv2d):
            terms.append((_layer_defect(layer, x, element), _lipschitz(layer, x)))
        else:
            raise InputError(
                f"certificate: expected steerable convolutions and GELU, got "
                f"{type(layer).__name__}"
            )
        x = layer(x)
    for own, slope in reversed(terms):
        bound = bound + slope_after * own
        slope_after *= slope
    return bound


def operator_norm(kernel: Tensor, shape: tuple[int, int]) -> float:
    """Return the norm of the circular convolution with ``(C_out, C_in, k, k)``."""
    symbol = torch.fft.rfft2(kernel.double(), s=shape)
    matrices = symbol.permute(2, 3, 0, 1)
    return float(torch.linalg.matrix_norm(matrices, ord=2).max())


def _lipschitz(layer: SteerableConv2d, x: Tensor) -> float:
    return operator_norm(layer.effective_kernel(), _shape(x)) * _largest_factor(
        layer, x
    )


def _layer_defect(layer: SteerableConv2d, x: Tensor, element: GroupElement) -> Tensor:
    kernel, shape = layer.effective_kernel(), _shape(x)
    left, right = (
        _matrix(fields, element).to(kernel)
        for fields in (layer.out_type, layer.in_type)
    )
    turned = torch.einsum("ab,bcxy,dc->adxy", left, _turn(kernel, element), right)
    size = x.flatten(1).norm(dim=1)
    bound = operator_norm(kernel - turned, shape) * _largest_factor(layer, x) * size
    if layer.position is not None:
        factors = layer.position.factors(shape)
        change = _factor_defect(factors, right, element)
        bound = bound + operator_norm(kernel, shape) * change * size
    _, bias = layer._expand()
    points = math.sqrt(shape[0] * shape[1])
    return bound + points * (bias - left @ bias).norm()


def _factor_defect(factors: Tensor, rho: Tensor, element: GroupElement) -> float:
    """Return ``max_x ||diag a(x) rho - rho diag a(g^-1 x)||``."""
    before = _roll(factors, element).flatten(1).T
    after = factors.flatten(1).T
    found = rho * (after[:, :, None] - before[:, None, :])
    if bool(((rho != 0).sum(0) == 1).all()):
        # Signed permutations have one entry in each row and column.
        return float(found.abs().max())
    return float(torch.linalg.matrix_norm(found, ord=2).max())


def _largest_factor(layer: SteerableConv2d, x: Tensor) -> float:
    if layer.position is None:
        return 1.0
    return float((1 + layer.position.factors(_shape(x))).abs().max())


def _shape(x: Tensor) -> tuple[int, int]:
    return x.shape[-2], x.shape[-1]


def _matrix(fields: FieldType, element: GroupElement) -> Tensor:
    """Return rho(g) on all channels."""
    found: list[Any] = [
        g
        for g in elements_of(fields.gspace)
        if np.allclose(element_matrix(fields.gspace, g), element.matrix)
    ]
    if not found:
        raise InputError(
            f"certificate: {group_name(fields.gspace)} has no {element.name}"
        )
    return torch.block_diag(
        *(torch.as_tensor(np.asarray(rep(found[0]))) for rep in fields.representations)
    )


def _turn(kernel: Tensor, element: GroupElement) -> Tensor:
    """Return ``K(g^-1 o)``, about the kernel's centre."""
    (a, b), (c, d) = element.inverse().matrix
    half = kernel.shape[-1] // 2
    x, y = torch.meshgrid(*2 * [torch.arange(-half, half + 1)], indexing="ij")
    return kernel[..., a * x + b * y + half, c * x + d * y + half]


def _roll(values: Tensor, element: GroupElement) -> Tensor:
    """Return ``a(g^-1 x)`` on the periodic grid, whose point 0 stays."""
    (a, b), (c, d) = element.inverse().matrix
    n, m = values.shape[-2:]
    x, y = torch.meshgrid(torch.arange(n), torch.arange(m), indexing="ij")
    return values[..., (a * x + b * y) % n, (c * x + d * y) % m]
