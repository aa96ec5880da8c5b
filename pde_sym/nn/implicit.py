"""Implicit steerable kernels: the kernel is an equivariant network of the offset."""

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec, Rank
from pde_sym.nn._escnn import FieldType, GSpace, Representation
from pde_sym.nn.field_types import (
    FieldGroup,
    field_groups,
    field_type,
    group_name,
    is_continuous,
    regular_type,
)
from pde_sym.nn.kernel_layer import KernelLayer
from pde_sym.nn.kernel_term import KernelTerm
from pde_sym.nn.periodic import wrap
from pde_sym.nn.terms import BiasTerm, Order, Term

OFFSET = FieldSpec.of(Field(name="offset", rank=Rank.VECTOR, components=2))
SHUT_OFF = 1e-2
"""A gain so far below the usual 1 to 100 that the perceptron is as good as dead."""


class ImplicitSteerableConv2d(KernelLayer):
    """``K(o, z) = c(|o|) sum_f,h phi_f,h(o, z) rho_out(h) M_f rho_in(h)^-1``.

    phi is an equivariant perceptron from the offset o, a vector, and attributes z to
    regular fields f with a component per element h: ``phi_f,gh(g o, g z) =
    phi_f,h(o, z)``. Hence K is steered, ``K(g o, g z) = rho_out(g) K(o, z)
    rho_in(g)^-1``, for any matrices M_f; they start so that the larger of the layer's
    gains, on white and on constant fields, is He's. The attributes are one vector per
    state, here the means of given fields over the grid, and a learned vector of the
    plane: a hidden direction, zero at the start, whose length is the relaxation.

    The group is finite: SO(2) and O(2) have no regular fields for phi to end in.

    Kept of the paper: kernels by an equivariant perceptron of offset and attributes, a
    radial cut-off. Left out: attributes that vary from point to point, and gates (the
    hidden fields are regular, with a pointwise nonlinearity).

    Parameters
    ----------
    in_type, out_type, kernel_size
        As in `KernelLayer`.
    hidden
        Hidden regular fields of the perceptron.
    attributes
        How the attributes z transform; none by default.
    learned_vector
        Whether the layer has a learned vector among its attributes.
    settings
        Position factors, as in `KernelLayer`; band has no meaning here.

    Raises
    ------
    InputError
        As `KernelLayer`; for SO(2) and O(2), attributes of another plane, or no
        hidden field.
    """

    formula: ClassVar[str] = (
        "out(x) = sum_o K(o, z) f(x + o) + b, "
        "K(g o, g z) = rho_out(g) K(o, z) rho_in(g)^-1, K an equivariant MLP"
    )
    source: ClassVar[str] = (
        "Zhdanov, Hoffmann and Cesa 2023, Implicit Convolutional Kernels for Steerable "
        "CNNs (arXiv 2212.06096); the learned vector is this package's own"
    )

    def __init__(
        self,
        in_type: FieldType,
        out_type: FieldType,
        kernel_size: int,
        *,
        hidden: int = 8,
        attributes: FieldType | None = None,
        learned_vector: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(in_type, out_type, kernel_size, **settings)
        space = in_type.gspace
        if hidden < 1:
            raise InputError(f"hidden: expected at least 1 field, got {hidden}")
        if is_continuous(space):
            raise InputError(
                "implicit kernels have regular fields inside, which "
                f"{group_name(space)} has not; use C<N> or D<N>, for instance D8"
            )
        if attributes is not None and attributes.gspace != space:
            raise InputError(
                f"expected attributes on the plane {group_name(space)}, "
                f"got {group_name(attributes.gspace)}; build all types from one gspace"
            )
        self.attributes = attributes
        fields = _perceptron_input(space, attributes, learned_vector)
        self.perceptron = _EquivariantPerceptron(fields, hidden)
        self.vector: nn.Parameter | None = (
            nn.Parameter(torch.zeros(2)) if learned_vector else None
        )
        self.steering: _Steering = _Steering(in_type, out_type, hidden)
        with torch.no_grad():
            zero = None if attributes is None else torch.zeros(1, attributes.size)
            # One that gelu shut off everywhere learns nothing, and has no scale.
            while (gain := _gain(self._kernels(zero)[0])) < SHUT_OFF:
                self.perceptron: _EquivariantPerceptron = _EquivariantPerceptron(
                    fields, hidden
                )
            self.steering.weight.mul_(math.sqrt(2) / gain)

    def forward(self, x: Tensor, attributes: Tensor | None = None) -> Tensor:
        """Return the fields after the layer, ``(B, C_in, x, y) -> (B, C_out, x, y)``.

        Parameters
        ----------
        x
            The fields before it.
        attributes
            The attributes z of each state, shape ``(B, channels)``, when there are any.

        Raises
        ------
        InputError
            As `KernelLayer.forward`, and for other attributes than announced.
        """
        wanted = None if self.attributes is None else (len(x), self.attributes.size)
        got = None if attributes is None else tuple(attributes.shape)
        if wanted != got:
            raise InputError(f"attributes: expected shape {wanted}, got {got}")
        if attributes is None:
            return super().forward(x)
        self.check_input(x)
        if self.position is not None:
            x = self.position(x)
        kernels = self._kernels(attributes)
        # A group of channels per state: each has a kernel of its own.
        padded = wrap(x, self.kernel_size).flatten(0, 1)[None]
        out = nn.functional.conv2d(padded, kernels.flatten(0, 1), groups=len(x))
        return out.view(len(x), -1, *x.shape[2:]) + self.effective_bias()[:, None, None]

    def effective_kernel(self, attributes: Tensor | None = None) -> Tensor:
        """Return K at attributes ``(channels,)``, zero by default."""
        if self.attributes is None:
            return self._kernels(None)[0]
        if attributes is None:
            attributes = self.steering.weight.new_zeros(self.attributes.size)
        return self._kernels(attributes[None])[0]

    def relaxing_weights(self) -> Iterator[nn.Parameter]:
        if self.vector is not None:
            yield self.vector

    def relaxation(self) -> Tensor:
        """Return the length of the learned vector, 0 without one, and of the factors.

        Given attributes move with the state and break nothing.
        """
        like = self.steering.weight
        return torch.linalg.vector_norm(
            torch.cat(
                [p.flatten() for p in self.relaxed_parameters()] or [like[:0, 0, 0]]
            )
        )

    def kernel_at(self, offsets: Tensor, attributes: Tensor | None = None) -> Tensor:
        """Return K at any offsets of the plane, ``(B, points, C_out, C_in)``.

        Parameters
        ----------
        offsets
            Offsets o in points of the grid, shape ``(points, 2)``.
        attributes
            Attributes ``(B, channels)``; B is 1 without any.
        """
        half, weight = self.kernel_size // 2, self.steering.weight
        # The cut-off c falls from 1 at the centre to 0 a point beyond the half width.
        reach = (offsets.norm(dim=1) / (half + 1)).clamp(max=1)
        cut_off = torch.cos(math.pi / 2 * reach).square().to(weight)
        count = 1 if attributes is None else len(attributes)
        scaled = (2 * offsets / max(half, 1)).to(weight)
        columns = [scaled.expand(count, -1, -1)]
        for extra in (attributes, self.vector):
            if extra is not None:
                columns.append(
                    extra.view(-1, 1, extra.shape[-1]).expand(count, len(offsets), -1)
                )
        phi = self.perceptron(torch.cat(columns, -1)) * cut_off[:, None]
        return torch.tensordot(phi, self.steering(), dims=1)

    def _kernels(self, attributes: Tensor | None) -> Tensor:
        """Return a kernel per state, shape ``(B, C_out, C_in, k, k)``."""
        half = self.kernel_size // 2
        along = torch.arange(-half, half + 1.0, dtype=torch.float64)
        grid = torch.meshgrid(along, along, indexing="ij")
        offsets = torch.stack(grid, -1).flatten(0, 1).to(self.steering.weight.device)
        kernels = self.kernel_at(offsets, attributes).permute(0, 2, 3, 1)
        return kernels.unflatten(-1, (self.kernel_size, self.kernel_size))


class _EquivariantPerceptron(nn.Module):
    """Two layers from fields at a point to regular fields, each ``gelu(A v + b)``."""

    def __init__(self, fields: FieldType, hidden: int) -> None:
        super().__init__()
        middle = regular_type(fields.gspace, hidden)
        types = ((fields, middle), (middle, middle))
        self.maps: nn.ModuleList = nn.ModuleList(
            KernelTerm(a, b, 1, "auto") for a, b in types
        )
        self.biases: nn.ModuleList = nn.ModuleList(BiasTerm(b) for _, b in types)
        for bias in self.biases.parameters():
            # Without one phi, and with it the kernel's centre, would vanish at o = 0.
            nn.init.normal_(bias)

    def forward(self, values: Tensor) -> Tensor:
        for matrix, bias in zip(self.maps, self.biases, strict=True):
            values = nn.functional.linear(values, matrix()[..., 0, 0], bias())
            values = nn.functional.gelu(values)
        return values


class _Steering(Term):
    """The matrices ``rho_out(h) M_f rho_in(h)^-1`` of every field f and element h."""

    def __init__(self, in_type: FieldType, out_type: FieldType, hidden: int) -> None:
        super().__init__()
        shape = (hidden, out_type.size, in_type.size)
        self.weights.append(nn.Parameter(torch.randn(shape)))
        self.groups: tuple[tuple[FieldGroup, ...], ...] = (
            field_groups(out_type),
            field_groups(in_type),
        )
        self.orders: nn.ModuleList = nn.ModuleList(
            Order(groups) for groups in self.groups
        )
        self._names = [
            [self._keep(_matrices(group.representation)) for group in groups]
            for groups in self.groups
        ]

    @property
    def weight(self) -> Tensor:
        """The matrices M_f, shape ``(fields, C_out, C_in)``."""
        return self.weights[0]

    def forward(self) -> Tensor:
        """Return them all, shape ``(fields * |G|, C_out, C_in)``."""
        turned = self._turn(self.weight[:, None], side=0)
        turned = self._turn(turned.transpose(-1, -2), side=1)
        return turned.transpose(-1, -2).flatten(0, 1)

    def _turn(self, values: Tensor, side: int) -> Tensor:
        """Return ``rho(h)`` on axis -2 of ``(f, |G| or 1, C, D)``."""
        pieces = []
        for group, name in zip(self.groups[side], self._names[side], strict=True):
            rows = values[:, :, list(group.channels)]
            fields = rows.unflatten(2, (-1, group.representation.size))
            pieces.append((self._constant(name)[:, None] @ fields).flatten(2, 3))
        return self.orders[side](torch.cat(pieces, 2), 2)


def _gain(kernel: Tensor) -> float:
    """Return the root mean square gain on white fields or on constant ones, the larger.

    Kernels from a perceptron are smooth: they amplify what is smooth.
    """
    white, constant = kernel.square().sum(), kernel.sum((2, 3)).square().sum()
    return math.sqrt(max(white.item(), constant.item()) / len(kernel))


def _matrices(rep: Representation) -> Tensor:
    return torch.from_numpy(np.stack([rep(g) for g in rep.group.elements]))


def _perceptron_input(
    space: GSpace, attributes: FieldType | None, learned_vector: bool
) -> FieldType:
    vector = field_type(OFFSET, space)
    fields = vector if attributes is None else vector + attributes
    return fields + vector if learned_vector else fields
