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
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec
from pde_sym.grid import PeriodicGrid
from pde_sym.nn._escnn import FieldType
from pde_sym.nn.blocks import Pointwise
from pde_sym.nn.field_types import element_matrix, elements_of, group_name
from pde_sym.nn.heads import Leray, MeanKeeping
from pde_sym.nn.kernel_layer import KernelLayer
from pde_sym.nn.surrogate import Surrogate
from pde_sym.symmetry import GroupElement, act

GELU_SLOPE = 1.1290
"""The largest slope of GELU, just above its maximum 1.12890.. at sqrt 2."""
OVERSAMPLING = 8
"""Points per axis and degree on which the symbols of kernels are sampled at most."""


class Certificate:
    """Bounds on ``||f(g x) - g f(x)||`` per sample, in exact arithmetic.

    Rounding may add its own 1e-7 in float32.

    Parameters
    ----------
    net
        Convolutions of typed fields with GELU between them, perhaps under a head that
        keeps the mean or takes the divergence away.
    x
        Inputs ``(batch, channels, x, y)``; the states of the layers are those of x.
    scale
        Factors on the channels of the output, one for all components of a field.

    Raises
    ------
    InputError
        When a layer is of another kind.
    """

    @torch.no_grad()
    def __init__(self, net: nn.Module, x: Tensor, scale: Tensor | None = None) -> None:
        self.shape: tuple[int, int] = (x.shape[-2], x.shape[-1])
        self.batch: Tensor = x.new_zeros(len(x))
        self.steps: list[_Convolution | None] = []
        layers = _layers(net)
        for number, layer in enumerate(layers, 1):
            step = None
            if isinstance(layer, KernelLayer):
                factors = scale if number == len(layers) else None
                step = _Convolution(layer, x, factors)
            self.steps.append(step)
            x = layer(x)

    @torch.no_grad()
    def bound(self, element: GroupElement) -> Tensor:
        """Return the bound under one element g of each sample, ``(batch,)``.

        Raises
        ------
        InputError
            When it is no turn or flip of the network's group, or its shift moves
            points off the grid.
        """
        steps = [s * n for s, n in zip(element.shift, self.shape, strict=True)]
        if any(abs(step - round(step)) > 1e-9 for step in steps):
            raise InputError(
                f"certificate: expected a shift by whole points, got {element.name} on "
                f"{self.shape[0]} x {self.shape[1]} points"
            )
        bound, slope_after = self.batch, 1.0
        for step in reversed(self.steps):
            if step is None:
                slope_after *= GELU_SLOPE
                continue
            bound = bound + slope_after * step.defect(element)
            slope_after *= step.lipschitz
        return bound


def step_certificate(
    step: Surrogate, state: Tensor, given: Tensor | None = None
) -> Certificate:
    """Return bounds on ``||f(g x) - g f(x)||`` of a time step f.

    The step adds a scaled increment to the state, so that the difference is that of
    the increment alone. Given fields move with the state.

    Raises
    ------
    InputError
        As `Certificate`.
    """
    inputs = step.network_inputs(state, given)
    scale = step.get_buffer("increment_std").flatten().to(state.dtype)
    return Certificate(step.net, inputs, scale)


def operator_norm(kernel: Tensor, shape: tuple[int, int]) -> float:
    """Return the norm of the circular convolution with ``(C_out, C_in, k, k)``.

    The symbol is a trigonometric polynomial of degree ``d = (k - 1) / 2``. On axes of
    more than M = 8 d points it is sampled on M, and its maximum is at most
    ``1 / cos(pi d / M)`` times the largest sample (Ehlich and Zeller 1964,
    Schwankung von Polynomen zwischen Gitterpunkten): 8 % above, for each such axis.
    """
    half, excess, sampled = kernel.shape[-1] // 2, 1.0, []
    for n in shape:
        few = max(1, OVERSAMPLING * half)
        if n > few:
            excess /= math.cos(math.pi * half / few)
        sampled.append(min(n, few))
    if half == 0:
        matrices = kernel.double()[..., 0, 0]
    else:
        matrices = torch.fft.rfft2(kernel.double(), s=sampled).permute(2, 3, 0, 1)
    return excess * float(torch.linalg.matrix_norm(matrices, ord=2).max())


def _layers(net: nn.Module) -> Sequence[nn.Module]:
    # Orthogonal projections that commute with the group, and with one scale per field.
    while isinstance(net, MeanKeeping | Leray):
        net = net.net
    layers = list(net) if isinstance(net, nn.Sequential) else [net]
    for layer in layers:
        is_gelu = isinstance(layer, Pointwise) and (
            layer.function is nn.functional.gelu
        )
        if not (is_gelu or isinstance(layer, KernelLayer)):
            raise InputError(
                "certificate: expected convolutions of typed fields and GELU, got "
                f"{type(layer).__name__}"
            )
    return layers


class _Convolution:
    """A layer at the states it meets: what bounds its defect and its slope."""

    def __init__(self, layer: KernelLayer, x: Tensor, scale: Tensor | None) -> None:
        self.fields = (layer.in_type, layer.out_type)
        self.kernel, self.bias = layer._expand()
        if scale is not None:
            self.kernel = scale[:, None, None, None] * self.kernel
            self.bias = scale * self.bias
        self.shape = (x.shape[-2], x.shape[-1])
        self.sizes = x.flatten(1).norm(dim=1)
        self.factors, self.largest = None, 1.0
        if layer.position is not None:
            self.factors = layer.position.factors(self.shape)
            self.largest = float((1 + self.factors).abs().max())
        self.norm = operator_norm(self.kernel, self.shape)
        self.changes: dict[GroupElement, float] = {}

    @property
    def lipschitz(self) -> float:
        return self.norm * self.largest

    def defect(self, element: GroupElement) -> Tensor:
        """Return a bound on ``||f(g h) - g f(h)||`` per sample h."""
        right, left = (_matrix(some, element).to(self.kernel) for some in self.fields)
        turn = GroupElement(turns=element.turns, flip=element.flip)
        if turn not in self.changes:
            turned = _turn(self.kernel, turn)
            turned = torch.einsum("ab,bcxy,dc->adxy", left, turned, right)
            self.changes[turn] = operator_norm(self.kernel - turned, self.shape)
        change = self.changes[turn] * self.largest
        if self.factors is not None:
            change += self.norm * _factor_defect(self.factors, right, element)
        points = math.sqrt(math.prod(self.shape))
        return change * self.sizes + points * (self.bias - left @ self.bias).norm()


def _factor_defect(factors: Tensor, rho: Tensor, element: GroupElement) -> float:
    """Return ``max_x ||diag a(x) rho - rho diag a(g^-1 x)||``."""
    scalars = FieldSpec.of(Field(name="a", components=len(factors)))
    shape = (factors.shape[-2], factors.shape[-1])
    # Lengths like the points, so that turns of grids that are not square are refused.
    grid = PeriodicGrid(shape=shape, lengths=shape)
    before = act(element, factors, scalars, grid).flatten(1).T
    after = factors.flatten(1).T
    if bool(((rho != 0).sum(0) == 1).all()):
        # Signed permutations have one entry in each row and column.
        return float((after - before[:, rho.abs().argmax(1)]).abs().max())
    found = rho * (after[:, :, None] - before[:, None, :])
    return float(torch.linalg.matrix_norm(found, ord=2).max())


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
