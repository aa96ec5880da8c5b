"""Nonlinearities for fields whose channels the group mixes.

`pde_sym.nn.blocks.Pointwise` is for fields whose channels it permutes. Each module
here maps the fields `in_type` to the fields `out_type`, in any precision.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pde_sym.errors import InputError
from pde_sym.nn._escnn import FieldType, GSpace, Representation
from pde_sym.nn.blocks import Pointwise
from pde_sym.nn.field_types import (
    FieldGroup,
    field_groups,
    irrep_blocks,
    is_continuous,
    is_permutation,
    natural_order,
    regular_type,
)
from pde_sym.nn.fieldwise import (
    ConstantModule,
    channels_of_fields,
    check_channels,
    is_invariant,
)

Function = Callable[[Tensor], Tensor]

_SMALL = 1e-12
_RANK_CUT = 1e-9


HIDDEN_FREQUENCY = 2
"""Highest frequency of the hidden fields of SO(2) and O(2)."""


def hidden_type(space: GSpace, num_fields: int) -> FieldType:
    """Return signals on the group: regular fields, band-limited for SO(2) and O(2)."""
    if not is_continuous(space):
        return regular_type(space, num_fields)
    group: Any = space.fibergroup
    signal = group.bl_regular_representation(HIDDEN_FREQUENCY)
    return space.type(*(num_fields * [signal]))


def pointwise(fields: FieldType) -> "Pointwise | FourierPointwise":
    """Return the exact gelu of signals on the group, or that of their samples."""
    if all(map(is_permutation, fields.representations)):
        return Pointwise(fields)
    return FourierPointwise(fields)


class _PerField(ConstantModule):
    """Factors per field that multiply all its channels; invariant fields are apart."""

    def __init__(self, fields: FieldType) -> None:
        super().__init__()
        free = [is_invariant(rep) for rep in fields.representations]
        members = channels_of_fields(fields)[~torch.tensor(free)]
        self.num_fields: int = len(members)
        self.keep("members", members)
        self.keep("invariant", members.sum(0)[:, None, None] == 0)

    def sums(self, x: Tensor) -> Tensor:
        """Return the sum over the channels of each field, ``(B, F, x, y)``."""
        return torch.einsum("fc,bcxy->bfxy", self.kept("members", x), x)

    def multiply(self, x: Tensor, factors: Tensor, function: Function) -> Tensor:
        """Return ``function(x)`` on invariant channels, factor times x elsewhere."""
        members = self.kept("members", x)
        scaled = x * torch.einsum("fc,bfxy->bcxy", members, factors)
        return torch.where(self.get_buffer("invariant"), function(x), scaled)


class Gated(nn.Module):
    """``c -> sigmoid(s) c``, s a scalar field of its own for each field.

    Exact for every group, finite or not: a gate multiplies all components of its
    field by one invariant number. Fields that are invariant themselves get a function.

    Parameters
    ----------
    fields
        The fields after the layer. Those before it, `in_type`, are the same and one
        scalar for each field that is not invariant, behind them.
    function
        A function of one real variable for invariant fields.

    References
    ----------
    Weiler et al. 2018, 3D Steerable CNNs, section 4.1.
    """

    def __init__(
        self, fields: FieldType, function: Function = nn.functional.gelu
    ) -> None:
        super().__init__()
        self.out_type = fields
        self.function = function
        self.per_field: _PerField = _PerField(fields)
        space = fields.gspace
        gates = self.per_field.num_fields * [space.trivial_repr]
        self.in_type: FieldType = space.type(*fields.representations, *gates)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C + gates, x, y)`` to ``(B, C, x, y)``."""
        check_channels(x, self.in_type)
        values, gates = x.split([self.out_type.size, self.per_field.num_fields], 1)
        return self.per_field.multiply(values, gates.sigmoid(), self.function)


class NormNonlinearity(nn.Module):
    """``c -> relu(|c| + b) c / |c|``, b learned per field.

    Exact for every group: the length of a field is invariant. Fields that are
    invariant themselves get a function, which sees their sign.

    Parameters
    ----------
    fields
        The fields before and after.
    function
        A function of one real variable for invariant fields.

    References
    ----------
    Worrall et al. 2017, Harmonic Networks, eq. 10.
    """

    def __init__(
        self, fields: FieldType, function: Function = nn.functional.gelu
    ) -> None:
        super().__init__()
        self.in_type = fields
        self.out_type = fields
        self.function = function
        self.per_field: _PerField = _PerField(fields)
        self.bias: nn.Parameter = nn.Parameter(torch.zeros(self.per_field.num_fields))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, x, y)`` to the same shape."""
        check_channels(x, self.in_type)
        # The root of a sum of squares has no slope at zero; a tiny offset gives it 0.
        lengths = (self.per_field.sums(x.square()) + _SMALL).sqrt()
        factors = (lengths + self.bias[:, None, None]).relu() / lengths
        return self.per_field.multiply(x, factors, self.function)


class FourierPointwise(ConstantModule):
    """A function of the signal on the group whose coefficients a field holds.

    A field c of representation rho is the signal ``f_c(g) = <rho(g) v, c>`` on the
    group, v a cyclic vector. The layer samples it on a finite subgroup S, applies the
    function and projects back,

        c -> A^+ function(A c),     A_s = (rho(s) v)^T,  s in S.

    Elements of S permute the rows of A, so the layer commutes with them exactly; with
    the others it does as far as the samples resolve the harmonics that the function
    makes. On regular fields of a finite group it is `Pointwise`.

    Parameters
    ----------
    fields
        The fields before and after, for instance
        ``group.bl_regular_representation(L)`` of SO(2) or O(2), the signals up to
        frequency L.
    function
        A function of one real variable.
    num_turns
        Turns of S, a multiple of 4 so that the turns of the grid are among them, for
        SO(2) and O(2); S is the whole group where that is finite. None is the first
        multiple of 4 from ``4 L + 4`` on: twice what resolves the field.

    Raises
    ------
    InputError
        When a field has no cyclic vector (an irrep comes more often in it than the
        regular representation has it), when `num_turns` is no multiple of 4 or too
        small to tell the components apart, or is given for a finite group.

    References
    ----------
    Cesa, Lang, Weiler 2022, A Program to Build E(N)-Equivariant Steerable CNNs,
    section 5.
    """

    def __init__(
        self,
        fields: FieldType,
        function: Function = nn.functional.gelu,
        num_turns: int | None = None,
    ) -> None:
        super().__init__()
        self.in_type = fields
        self.out_type = fields
        self.function = function
        self.groups: tuple[FieldGroup, ...] = field_groups(fields)
        self.keep("order", natural_order(self.groups))
        for index, group in enumerate(self.groups):
            samples = _samples(group.representation, num_turns)
            self.keep(f"samples_{index}", torch.from_numpy(samples))
            back = torch.from_numpy(np.linalg.pinv(samples))
            self.keep(f"back_{index}", back)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, x, y)`` to the same shape."""
        check_channels(x, self.in_type)
        pieces = []
        for index, group in enumerate(self.groups):
            part = x if len(self.groups) == 1 else x[:, list(group.channels)]
            fields = part.unflatten(1, (group.num_fields, -1))
            there = self.kept(f"samples_{index}", x)
            back = self.kept(f"back_{index}", x)
            signal = torch.einsum("sc,bfcxy->bfsxy", there, fields)
            again = torch.einsum("cs,bfsxy->bfcxy", back, self.function(signal))
            pieces.append(again.flatten(1, 2))
        grouped = torch.cat(pieces, 1)
        order = self._buffers["order"]
        return grouped if order is None else grouped.index_select(1, order)


def _samples(rep: Representation, num_turns: int | None) -> NDArray[np.float64]:
    """Return A, ``(|S|, size)``: rows of unit length."""
    vector = _cyclic_vector(rep)
    rows = [np.asarray(rep(g)) @ vector for g in _sample_elements(rep, num_turns)]
    samples = np.array(rows, dtype=np.float64)
    rank = np.linalg.matrix_rank(samples, tol=_RANK_CUT)
    if rank < rep.size:
        raise InputError(
            f"{rep.name!r} has {rep.size} components, of which {len(samples)} samples "
            f"tell {rank} apart; use more turns"
        )
    return samples


def _cyclic_vector(rep: Representation) -> NDArray[np.float64]:
    """Return v of unit length: component k of the k-th copy of each irrep.

    Weighted by ``sqrt(d / size)`` it is the delta at the identity on a regular field.
    """
    vector = np.zeros(rep.size)
    for block in irrep_blocks(rep):
        irrep, copies = block.irrep, block.columns.shape[1]
        # An irrep of real type comes d times in the regular field, of complex d / 2.
        most = irrep.size // (2 if irrep.type == "C" else 1)
        if copies > most:
            raise InputError(
                f"{rep.name!r} is no signal on the group: it holds irrep {irrep.name} "
                f"{copies} times, expected at most {most}; use a (band-limited) "
                "regular field, or Gated"
            )
        for copy in range(copies):
            vector += math.sqrt(irrep.size / rep.size) * block.columns[:, copy, copy]
    return vector


def _sample_elements(rep: Representation, num_turns: int | None) -> list:
    group: Any = rep.group
    if group.order() > 0:
        if num_turns is not None:
            raise InputError(
                f"{group.name} is finite and sampled whole: expected no num_turns, got "
                f"{num_turns}"
            )
        return list(group.elements)
    if num_turns is None:
        highest = max(b.irrep.attributes["frequency"] for b in irrep_blocks(rep))
        num_turns = 4 * int(highest) + 4
    if num_turns < 4 or num_turns % 4:
        raise InputError(f"num_turns: expected a multiple of 4, got {num_turns}")
    return group.grid(N=num_turns, type="regular")
