"""The learned terms that a steerable convolution is made of.

Each term keeps its constant arrays in float64, whatever the module is cast to, and
casts them at use; they are rebuilt by the constructor, never saved.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pde_sym.nn._escnn import FieldType, Representation
from pde_sym.nn.field_types import (
    FieldGroup,
    field_groups,
    is_permutation,
    iter_irreps,
    natural_order,
)
from pde_sym.nn.kernel_space import TRIVIAL, Band, kernel_basis


class _Term(nn.Module):
    """A module with one parameter and one constant array per group of fields."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList()

    def _add(self, weight: Tensor, constant: Tensor) -> None:
        name = f"constant_{len(self.weights)}"
        self.weights.append(nn.Parameter(weight))
        self.register_buffer(name, constant, persistent=False)

    def _constant(self, index: int) -> Tensor:
        """Return a constant array in the precision of the parameters."""
        return self.get_buffer(f"constant_{index}").to(self.weights[index].dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # A cast to float32 and back must not cost the constants their precision.
        exact = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)
        for name, value in exact.items():
            self._buffers[name] = value.to(self.get_buffer(name).device)
        return self


class _Order(nn.Module):
    """Puts channels that were grouped by representation back in their order."""

    def __init__(self, groups: tuple[FieldGroup, ...]) -> None:
        super().__init__()
        order = natural_order(groups)
        self.order: Tensor | None
        self.register_buffer("order", order, persistent=False)

    def forward(self, values: Tensor, dim: int = 0) -> Tensor:
        return values if self.order is None else values.index_select(dim, self.order)


class KernelTerm(_Term):
    """One isotypic part of a kernel, ``K_sigma = sum_d w_d B_d`` per pair of fields.

    The bases are scaled so that a weight of variance v gives steerable kernels whose
    entries have variance v: weights and steps mean what they mean in ``Conv2d``.

    Parameters
    ----------
    in_type, out_type
        Fields before and after.
    kernel_size
        Points per axis, odd.
    band
        See `kernel_basis`.
    part
        Name of the part.
    zero
        Whether the weights start at zero; otherwise as He proposes.
    """

    def __init__(
        self,
        in_type: FieldType,
        out_type: FieldType,
        kernel_size: int,
        band: Band,
        part: str = TRIVIAL,
        zero: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.in_groups, self.out_groups = field_groups(in_type), field_groups(out_type)
        self.in_order, self.out_order = _Order(self.in_groups), _Order(self.out_groups)
        self.init_std = math.sqrt(2 / (in_type.size * kernel_size**2))
        self._slots: dict[tuple[int, int], int] = {}
        for o, i, out, into in self._pairs():
            basis = kernel_basis(
                into.representation,
                out.representation,
                in_type.gspace,
                kernel_size,
                band,
                (part,),
            )
            if not len(basis[part]):
                continue
            like = basis[TRIVIAL] if len(basis[TRIVIAL]) else basis[part]
            scale = math.sqrt(like[0].numel() / len(like))
            shape = (out.num_fields, into.num_fields, len(basis[part]))
            weight = torch.zeros(shape) if zero else torch.randn(shape) * self.init_std
            self._slots[o, i] = len(self.weights)
            self._add(weight, basis[part] * scale)

    def _pairs(self) -> Iterator[tuple[int, int, FieldGroup, FieldGroup]]:
        for o, out in enumerate(self.out_groups):
            for i, into in enumerate(self.in_groups):
                yield o, i, out, into

    def forward(self) -> Tensor:
        """Return the kernel, shape ``(C_out, C_in, k, k)``."""
        blocks = [self._block(*pair) for pair in self._pairs()]
        width = len(self.in_groups)
        rows = [
            torch.cat(blocks[start : start + width], dim=1)
            for start in range(0, len(blocks), width)
        ]
        return self.out_order(self.in_order(torch.cat(rows), dim=1))

    @property
    def is_empty(self) -> bool:
        """Whether the part holds no kernel at all between these fields."""
        return not self._slots

    def _block(self, o: int, i: int, out: FieldGroup, into: FieldGroup) -> Tensor:
        k, shape = self.kernel_size, (len(out.channels), len(into.channels))
        if (o, i) not in self._slots:
            return self.weights[0].new_zeros(*shape, k, k)
        index = self._slots[o, i]
        weight, basis = self.weights[index], self._constant(index)
        _, size_out, size_in, _, _ = basis.shape
        kernel = weight.flatten(0, 1) @ basis.flatten(1)
        kernel = kernel.view(out.num_fields, into.num_fields, size_out, size_in, k, k)
        return kernel.transpose(1, 2).reshape(*shape, k, k)


class BiasTerm(_Term):
    """A bias per field, along the field's invariant directions or across them.

    Parameters
    ----------
    fields
        The output fields.
    invariant
        True for the biases an equivariant layer may have; False for the others, for
        instance those of mean zero over a regular field.
    """

    def __init__(self, fields: FieldType, invariant: bool) -> None:
        super().__init__()
        groups = field_groups(fields)
        self.order = _Order(groups)
        for group in groups:
            rep = group.representation
            columns = [
                basis
                for irrep, basis in iter_irreps(rep)
                if irrep.is_trivial() == invariant
            ]
            directions = np.concatenate([np.zeros((rep.size, 0)), *columns], axis=1)
            shape = (group.num_fields, directions.shape[1])
            scaled = torch.from_numpy(directions.T * math.sqrt(rep.size))
            self._add(torch.zeros(shape), scaled)

    def forward(self) -> Tensor:
        """Return the bias, shape ``(C_out,)``."""
        biases = [w @ self._constant(i) for i, w in enumerate(self.weights)]
        return self.order(torch.cat([bias.flatten() for bias in biases]))


class FibreTerm(_Term):
    """Factors ``1 + alpha`` on the components of each field.

    alpha is diagonal with mean zero for fields whose components the group permutes,
    and otherwise a matrix orthogonal to all that commute with the representation:
    what commutes belongs to the steerable kernel already.
    """

    def __init__(self, fields: FieldType) -> None:
        super().__init__()
        self.groups = field_groups(fields)
        self.order = _Order(self.groups)
        for group in self.groups:
            basis = torch.from_numpy(_relaxing_matrices(group.representation))
            self._add(torch.zeros(group.num_fields, len(basis)), basis)

    def forward(self, kernel: Tensor) -> Tensor:
        """Return ``(1 + alpha) K``, alpha acting on the first axis of `kernel`."""
        pieces, is_single = [], len(self.groups) == 1
        for index, group in enumerate(self.groups):
            basis, weight = self._constant(index), self.weights[index]
            rows = kernel if is_single else kernel[list(group.channels)]
            if weight.numel():
                alpha = torch.tensordot(weight, basis, dims=1)
                flat = rows.reshape(group.num_fields, basis.shape[1], -1)
                rows = rows + (alpha @ flat).view_as(rows)
            pieces.append(rows)
        return self.order(torch.cat(pieces))


@functools.cache
def _relaxing_matrices(rep: Representation) -> NDArray[np.float64]:
    """Return matrices ``(n, size, size)`` that span what alpha may be."""
    size = rep.size
    matrices = np.array([rep(g) for g in rep.group.elements])
    if is_permutation(rep):
        candidates = np.eye(size)[:, :, None] * np.eye(size)[:, None, :]
    else:
        candidates = np.eye(size**2).reshape(-1, size, size)
    mean = np.einsum(
        "gac,ncd,gbd->nab", matrices, candidates, matrices, optimize=True
    ) / len(matrices)
    rest = (candidates - mean).reshape(len(candidates), -1)
    _, values, vectors = np.linalg.svd(rest, full_matrices=False)
    return vectors[values > 0.5].reshape(-1, size, size) * math.sqrt(size)


class PositionTerm(nn.Module):
    """Factors ``1 + a_c(x)``, ``a_c = sum_r m_cr b_r(x)``, on the feature maps.

    The banks ``b_r = sum_k w_rk e_k(x)`` are learned fields that all channels share:
    a place is special for all of them. The e_k are products of 1, cos and sin of
    ``2 pi m x / L`` up to mode M per axis without the constant one, so that the
    weights fit every resolution. The banks start at zero, their mixing m does not.

    Parameters
    ----------
    channels
        Number of feature maps.
    modes
        The highest mode M.
    banks
        Number of fields b_r; no more than channels are used.
    """

    def __init__(self, channels: int, modes: int, banks: int) -> None:
        super().__init__()
        self.modes, banks = modes, min(banks, channels)
        self.mixing = nn.Parameter(torch.randn(channels, banks) / math.sqrt(banks))
        self.weight = nn.Parameter(torch.zeros(banks, (2 * modes + 1) ** 2 - 1))

    def factors(self, shape: tuple[int, int]) -> Tensor:
        """Return a_c on a grid, shape ``(channels, N_x, N_y)``."""
        side = 2 * self.modes + 1
        coefficients = nn.functional.pad(self.weight, (1, 0)).view(-1, side, side)
        ex, ey = (
            torch.as_tensor(_waves(n, self.modes)).to(coefficients) for n in shape
        )
        return torch.tensordot(self.mixing, ex.T @ coefficients @ ey, dims=1)

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + self.factors((x.shape[-2], x.shape[-1])))


@functools.lru_cache(maxsize=64)
def _waves(num_points: int, modes: int) -> NDArray[np.float64]:
    """Return 1, sqrt2 cos and sqrt2 sin of ``2 pi m i / N``, shape (2M + 1, N)."""
    angle = 2 * np.pi * np.arange(num_points) / num_points
    rows = [np.ones(num_points)]
    for m in range(1, modes + 1):
        rows += [math.sqrt(2) * np.cos(m * angle), math.sqrt(2) * np.sin(m * angle)]
    return np.stack(rows)
