"""The learned terms of a steerable convolution: biases and factors on components.

Each term keeps its constant arrays in float64, whatever the module is cast to, and
casts them at use; they are rebuilt by the constructor, never saved.
"""

import functools
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pde_sym.nn._escnn import FieldType, GSpace, Representation
from pde_sym.nn.field_types import (
    FieldGroup,
    elements_of,
    field_groups,
    is_permutation,
    natural_order,
    subgroup_indices,
)
from pde_sym.nn.fieldwise import ConstantModule
from pde_sym.nn.subspace import basis_of


class Term(ConstantModule):
    """A module whose constant arrays stay in float64, and are shared where equal."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: nn.ParameterList = nn.ParameterList()
        self._number = 0

    def _keep(self, constant: Tensor) -> str:
        """Register a constant array; return the name it is read by."""
        name = f"constant_{self._number}"
        self._number += 1
        self.keep(name, constant)
        return name

    def _constant(self, name: str) -> Tensor:
        """Return a constant array in the precision of the parameters."""
        return self.kept(name, self.weights[0])


class Order(nn.Module):
    """Puts channels that were grouped by representation back in their order."""

    def __init__(self, groups: tuple[FieldGroup, ...]) -> None:
        super().__init__()
        order = natural_order(groups)
        self.order: Tensor | None
        self.register_buffer("order", order, persistent=False)

    def forward(self, values: Tensor, dim: int = 0) -> Tensor:
        return values if self.order is None else values.index_select(dim, self.order)


class BiasTerm(Term):
    """A bias per field, along directions that the group, or a part of it, leaves alone.

    Parameters
    ----------
    fields
        The output fields.
    keep
        None for the biases an equivariant layer may have. Otherwise the others that
        this subgroup leaves alone, ``C1`` for all of them: for instance those of mean
        zero over a regular field.
    """

    def __init__(self, fields: FieldType, keep: str | None = None) -> None:
        super().__init__()
        groups = field_groups(fields)
        self.order: Order = Order(groups)
        self._names = []
        for group in groups:
            rep = group.representation
            directions = _directions(rep, fields.gspace, keep) * math.sqrt(rep.size)
            self.weights.append(
                nn.Parameter(torch.zeros(group.num_fields, len(directions)))
            )
            self._names.append(self._keep(torch.from_numpy(directions)))

    def forward(self) -> Tensor:
        """Return the bias, shape ``(C_out,)``."""
        pairs = zip(self.weights, self._names, strict=True)
        biases = [weight @ self._constant(name) for weight, name in pairs]
        return self.order(torch.cat([bias.flatten() for bias in biases]))


class FibreTerm(Term):
    """Factors ``1 + alpha`` on the components of each field.

    alpha is diagonal with mean zero for fields whose components the group permutes,
    and otherwise a matrix orthogonal to all that commute with the representation:
    what commutes belongs to the steerable kernel already.

    Parameters
    ----------
    fields
        The fields that it acts on.
    keep
        The subgroup with which alpha commutes.
    """

    def __init__(self, fields: FieldType, keep: str = "C1") -> None:
        super().__init__()
        self.groups: tuple[FieldGroup, ...] = field_groups(fields)
        self.order: Order = Order(self.groups)
        self._names = []
        for group in self.groups:
            basis = _relaxing_matrices(group.representation, fields.gspace, keep)
            self.weights.append(nn.Parameter(torch.zeros(group.num_fields, len(basis))))
            self._names.append(self._keep(torch.from_numpy(basis)))

    def forward(self, kernel: Tensor) -> Tensor:
        """Return ``(1 + alpha) K``, alpha acting on the first axis of `kernel`."""
        pieces, is_single = [], len(self.groups) == 1
        for index, group in enumerate(self.groups):
            basis, weight = self._constant(self._names[index]), self.weights[index]
            rows = kernel if is_single else kernel[list(group.channels)]
            if weight.numel():
                alpha = torch.tensordot(weight, basis, dims=1)
                flat = rows.reshape(group.num_fields, basis.shape[1], -1)
                rows = rows + (alpha @ flat).view_as(rows)
            pieces.append(rows)
        return self.order(torch.cat(pieces))


@functools.cache
def _directions(
    rep: Representation, space: GSpace, keep: str | None
) -> NDArray[np.float64]:
    """Return orthonormal invariant directions, ``(n, size)``; see `BiasTerm`."""
    matrices = np.array([rep(g) for g in elements_of(space)])
    mean = matrices.mean(0)
    if keep is not None:
        mean = matrices[subgroup_indices(space, keep)].mean(0) - mean
    values, vectors = np.linalg.eigh((mean + mean.T) / 2)
    return basis_of(vectors[:, values > 0.5].T)


@functools.cache
def _relaxing_matrices(
    rep: Representation, space: GSpace, keep: str
) -> NDArray[np.float64]:
    """Return matrices ``(n, size, size)`` that span what alpha may be."""
    size = rep.size
    matrices = np.array([rep(g) for g in elements_of(space)])
    if is_permutation(rep):
        candidates = np.eye(size)[:, :, None] * np.eye(size)[:, None, :]
    else:
        candidates = np.eye(size**2).reshape(-1, size, size)

    def mean(of: NDArray[np.float64]) -> NDArray[np.float64]:
        turned = np.einsum("gac,ncd,gbd->nab", of, candidates, of, optimize=True)
        return turned / len(of)

    rest = mean(matrices[subgroup_indices(space, keep)]) - mean(matrices)
    rows = rest.reshape(len(candidates), -1)
    _, values, vectors = np.linalg.svd(rows, full_matrices=False)
    basis = basis_of(vectors[values > 0.5])
    return basis.reshape(-1, size, size) * math.sqrt(size)
