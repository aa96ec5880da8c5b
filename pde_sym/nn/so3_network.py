"""Networks on features of SO(3), for the state of a rigid body."""

import functools
import math
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from pde_sym.errors import InputError
from pde_sym.fields import FieldSpec
from pde_sym.nn.layer import RelaxedLayer
from pde_sym.nn.so3 import (
    HIGHEST,
    Array,
    SO3Type,
    coupling,
    joined,
    part_name,
    products,
)
from pde_sym.nn.so3_fields import BodyFields
from pde_sym.nn.so3_linear import SO3Linear


class SO3Product(nn.Module):
    """The nonlinearity: all products of two features, one with gated numbers.

    Halves a and b of the features, each ``(n, n, n)``, are multiplied copy by copy,

        z_M = sum_ab C_abM phi(a)_a b_b    for every (l1, l2, l3) of `so3.products`,

    with phi the GELU on numbers and the identity on vectors and tensors. The products
    with l1 = 0 are gates; ``v x w``, ``v . w`` and ``T v`` are among the others (Thomas
    et al. 2018, Tensor field networks, section 4.1.2; gates: Weiler et al. 2018, 3D
    Steerable CNNs, section 4.3).

    Parameters
    ----------
    width
        Copies n.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        numbers = np.bincount([l3 for _, _, l3 in products()])
        self.in_type: SO3Type = SO3Type((2 * width, 2 * width, 2 * width))
        zero, one, two = (width * int(n) for n in numbers)
        self.out_type: SO3Type = SO3Type((zero, one, two))
        self._table = torch.from_numpy(_table())
        self._outputs = [int(n) * (2 * ell + 1) for ell, n in enumerate(numbers)]

    def forward(self, x: Tensor) -> Tensor:
        """Map features ``(..., in_type.size)`` to ``(..., out_type.size)``."""
        halves = zip(
            *(part.chunk(2, -2) for part in self.in_type.split(x)), strict=True
        )
        (number, *rest), other = (list(half) for half in halves)
        first = torch.cat([nn.functional.gelu(number), *rest], -1)
        pairs = first[..., :, None] * torch.cat(other, -1)[..., None, :]
        every = (pairs.flatten(-2) @ self._table.to(x)).split(self._outputs, -1)
        return torch.cat([part.flatten(-2) for part in every], -1)


@functools.cache
def _table() -> Array:
    """Return the coefficients C of all products side by side, ``(81, outputs)``."""
    size = (HIGHEST + 1) ** 2
    columns = []
    for l1, l2, l3 in products():
        block = np.zeros((size, size, 2 * l3 + 1))
        # Components of l stand at l^2 .. (l + 1)^2.
        block[l1**2 : (l1 + 1) ** 2, l2**2 : (l2 + 1) ** 2] = coupling(l1, l2, l3)
        columns.append(block.reshape(size**2, -1))
    return np.concatenate(columns, 1)


class OrderParameters(RelaxedLayer):
    """Learned vectors and tensors of the body that a layer reads beside its features.

    ``y = W x + M c`` with the same c for every state and M as equivariant as W. A body
    that hides an axis chi or a moment S breaks rotations of its frame, while the joint
    map of ``(x, chi, S)`` keeps them: ``f(Q x, Q c) = Q f(x, c)`` for weights that
    never leave the symmetry. c starts at zero, the network as equivariant.

    Parameters
    ----------
    hidden
        How many numbers, vectors and tensors; a number breaks nothing.
    out_type
        The features y.
    """

    formula: ClassVar[str] = "y = W x + M c"
    source: ClassVar[str] = (
        "Smidt, Geiger and Miller 2021, Finding symmetry breaking order parameters "
        "with Euclidean neural networks, section II"
    )

    def __init__(self, hidden: SO3Type, out_type: SO3Type) -> None:
        super().__init__()
        self.fields: SO3Type = hidden
        self.values: nn.Parameter = nn.Parameter(torch.zeros(hidden.size))
        self.mixing: nn.ParameterList = nn.ParameterList(
            torch.randn(after, before) / math.sqrt(max(before, 1))
            for after, before in zip(out_type.counts, hidden.counts, strict=True)
        )

    def forward(self) -> Tensor:
        """Return M c, ``(out_type.size,)``."""
        rows = zip(self.mixing, self.fields.split(self.values), strict=True)
        return torch.cat([(weights @ c).flatten() for weights, c in rows])

    def relaxed_parameters(self) -> Iterator[nn.Parameter]:
        yield self.values

    def relaxation(self) -> Tensor:
        """Return ``|c|``."""
        return torch.linalg.vector_norm(self.values)

    def parameters_per_part(self) -> dict[str, int]:
        widths = {part_name(ell): n for ell, n in enumerate(self.fields.widths)}
        widths["mixing"] = sum(weights.numel() for weights in self.mixing)
        return {name: number for name, number in widths.items() if number}


class SO3Network(nn.Module):
    """Layers `SO3Linear` with `SO3Product` between them, on the fields of a body.

    Strict, ``f(Q u, Q attached) = Q f(u, attached)`` for every rotation Q of the body
    frame, with ``Q u`` as `BodyFields` says.

    Parameters
    ----------
    inputs, outputs
        Fields that it reads, and whose increments it gives.
    width
        Copies of number, vector and tensor in each half of a product.
    depth
        Number of linear layers.
    parts, modulated
        What the layers may learn beside strict weights, see `SO3Linear`.
    attached
        Fields fixed in the body that it reads too, with their values
        ``(num_channels,)``: the same for every state.
    hidden
        Learned features that the first layer reads too, see `OrderParameters`.

    Raises
    ------
    InputError
        When a field has the wrong number of components, or the values do not fit.
    """

    def __init__(
        self,
        inputs: FieldSpec,
        outputs: FieldSpec,
        width: int,
        depth: int,
        *,
        parts: Sequence[str] = (),
        modulated: bool = False,
        attached: tuple[FieldSpec, Tensor] | None = None,
        hidden: SO3Type | None = None,
    ) -> None:
        super().__init__()
        self.inputs: BodyFields = BodyFields(inputs)
        self.outputs: BodyFields = BodyFields(outputs)
        kind = self.inputs.type
        self._fixed: tuple[SO3Type, Tensor] | None = None
        if attached is not None:
            fixed = BodyFields(attached[0])
            # No buffer: a cast to float32 and back must not cost its precision.
            self._fixed = fixed.type, fixed.features(attached[1].double())
            kind = kind + fixed.type
        layers: list[nn.Module] = []
        for _ in range(depth - 1):
            product = SO3Product(width)
            linear = SO3Linear(kind, product.in_type, parts=parts, modulated=modulated)
            # Open gates: vectors reach the output before there is a number to gate.
            nn.init.ones_(linear.bias)
            layers += [linear, product]
            kind = product.out_type
        layers.append(
            SO3Linear(kind, self.outputs.type, parts=parts, modulated=modulated)
        )
        self.layers: nn.Sequential = nn.Sequential(*layers)
        # Drawn last, so that a seed gives the layers of the strict network.
        first = SO3Product(width).in_type if depth > 1 else self.outputs.type
        self.order: OrderParameters | None = (
            None if hidden is None else OrderParameters(hidden, first)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return increments, ``(B, C_out, *points) <- (B, C_in, *points)``.

        Raises
        ------
        InputError
            When the channels are not those of the inputs.
        """
        expected = self.inputs.spec.num_channels
        if x.ndim < 2 or x.shape[1] != expected:
            raise InputError(
                f"expected (batch, {expected}, *points) for "
                f"{self.inputs.spec.names}, got shape {tuple(x.shape)}"
            )
        features = self.inputs.features(x.movedim(1, -1))
        if self._fixed is not None:
            fixed_type, values = self._fixed
            values = values.to(x).expand(*features.shape[:-1], -1)
            features = joined((self.inputs.type, features), (fixed_type, values))
        features = self.layers[0](features)
        if self.order is not None:
            features = features + self.order()
        return self.outputs.channels(self.layers[1:](features)).movedim(-1, 1)
