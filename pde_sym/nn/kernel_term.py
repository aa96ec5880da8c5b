"""The learned kernels of a steerable convolution, expanded from irreps."""

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pde_sym.nn._escnn import FieldType
from pde_sym.nn.field_types import FieldGroup, IrrepBlock, field_groups, irrep_blocks
from pde_sym.nn.kernel_cache import Pairs
from pde_sym.nn.kernel_space import TRIVIAL, Band, irrep_bases
from pde_sym.nn.terms import Order, Term


@dataclass(frozen=True)
class _Expansion:
    """How weights become the kernels between the fields of two groups.

    Parameters
    ----------
    place
        Which of the weights; None when the part holds no such kernels.
    columns
        Names of the changes of basis, out and in; None is the identity.
    pairs
        Copies of the irreps and name of the basis, for each pair of irreps.
    width
        Number of distinct irreps in.
    """

    place: int | None
    columns: tuple[str | None, str | None]
    pairs: list[tuple[tuple[int, int], str]]
    width: int


class KernelTerm(Term):
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
    keep
        The subgroup under which the part stays steerable; see `kernel_basis`.
    std
        Standard deviation of the weights at the start, in units of He's.
    """

    def __init__(
        self,
        in_type: FieldType,
        out_type: FieldType,
        kernel_size: int,
        band: Band,
        part: str = TRIVIAL,
        keep: str | None = None,
        std: float = 1.0,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self._part = part
        self.in_groups: tuple[FieldGroup, ...] = field_groups(in_type)
        self.out_groups: tuple[FieldGroup, ...] = field_groups(out_type)
        self.in_order: Order = Order(self.in_groups)
        self.out_order: Order = Order(self.out_groups)
        self.init_std: float = math.sqrt(2 / (in_type.size * kernel_size**2))
        self._blocks: dict[tuple[int, int], _Expansion] = {}
        for o, out in enumerate(self.out_groups):
            for i, into in enumerate(self.in_groups):
                bases = irrep_bases(
                    into.representation,
                    out.representation,
                    in_type.gspace,
                    kernel_size,
                    band,
                    keep,
                )
                self._blocks[o, i] = self._add(out, into, bases, std)

    def _add(
        self, out: FieldGroup, into: FieldGroup, bases: Pairs, std: float
    ) -> _Expansion:
        outs, intos = (irrep_blocks(group.representation) for group in (out, into))
        copies = {
            (o, i): (outs[o].columns.shape[1], intos[i].columns.shape[1])
            for o, i in bases
        }

        def rank(name: str) -> int:
            return sum(math.prod(copies[p]) * len(b[name]) for p, b in bases.items())

        number = rank(self._part)
        size = out.representation.size * into.representation.size
        scale = math.sqrt(size * self.kernel_size**2 / (rank(TRIVIAL) or number or 1))
        expansion = _Expansion(
            place=len(self.weights) if number else None,
            columns=(self._columns(outs), self._columns(intos)),
            pairs=[
                (copies[pair], self._keep(torch.from_numpy(basis[self._part] * scale)))
                for pair, basis in bases.items()
            ],
            width=len(intos),
        )
        if number:
            shape = (out.num_fields, into.num_fields, number)
            start = torch.randn(shape) if std else torch.zeros(shape)
            self.weights.append(nn.Parameter(start * (std * self.init_std)))
        return expansion

    def _columns(self, blocks: tuple[IrrepBlock, ...]) -> str | None:
        """Keep the change of basis; None when there is nothing to change."""
        columns = np.concatenate(
            [b.columns.reshape(len(b.columns), -1) for b in blocks], axis=1
        )
        if np.array_equal(columns, np.eye(len(columns))):
            return None
        return self._keep(torch.from_numpy(columns))

    def forward(self) -> Tensor:
        """Return the kernel, shape ``(C_out, C_in, k, k)``."""
        return expand([(self, None)])

    @property
    def is_empty(self) -> bool:
        """Whether the part holds no kernel at all between these fields."""
        return not len(self.weights)

    @property
    def rank(self) -> int:
        """The number of weights."""
        return sum(weight.numel() for weight in self.weights)

    def _pieces(self, o: int, i: int) -> list[Tensor | None]:
        """Return ``w B`` for each pair of irreps, ``(fields, copies, d_o d_i k^2)``."""
        how = self._blocks[o, i]
        if how.place is None:
            return [None for _ in how.pairs]
        weight, start = self.weights[how.place].flatten(0, 1), 0
        pieces: list[Tensor | None] = []
        for (m, n), name in how.pairs:
            basis = self._constant(name).flatten(1)
            number = m * n * len(basis)
            own = weight[:, start : start + number]
            start += number
            own = own.reshape(len(own), m * n, len(basis)) if number else None
            pieces.append(None if own is None else own @ basis)
        return pieces

    def _assemble(self, o: int, i: int, pieces: list[Tensor | None]) -> Tensor:
        """Return the kernel of the pieces, ``(fields size, fields size, k, k)``."""
        out, into, how = self.out_groups[o], self.in_groups[i], self._blocks[o, i]
        k = self.kernel_size
        blocks = []
        for ((m, n), name), piece in zip(how.pairs, pieces, strict=True):
            _, a, b, _, _ = self.get_buffer(name).shape
            fields = (out.num_fields, into.num_fields)
            if piece is None:
                shape = (fields[0], m * a, fields[1], n * b, k * k)
                blocks.append(self.weights[0].new_zeros(shape))
                continue
            block = piece.view(*fields, m, n, a, b, k * k).permute(0, 2, 4, 1, 3, 5, 6)
            blocks.append(block.reshape(fields[0], m * a, fields[1], n * b, k * k))
        rows = [
            torch.cat(blocks[first : first + how.width], dim=3)
            for first in range(0, len(blocks), how.width)
        ]
        kernel = torch.cat(rows, dim=1)
        left, right = how.columns
        if right is not None:
            kernel = self._constant(right) @ kernel
        if left is not None:
            kernel = (self._constant(left) @ kernel.flatten(2)).view_as(kernel)
        return kernel.reshape(len(out.channels), len(into.channels), k, k)


def expand(terms: list[tuple[KernelTerm, Tensor | None]]) -> Tensor:
    """Return ``sum_t s_t K_t`` of terms between the same fields; None stands for 1.

    The sum is taken between irreps, before anything is moved.
    """
    first, _ = terms[0]
    rows = []
    for o in range(len(first.out_groups)):
        row = []
        for i in range(len(first.in_groups)):
            found = [
                [_times(strength, piece) for piece in some]
                for term, strength in terms
                for some in [term._pieces(o, i)]
            ]
            row.append(
                first._assemble(o, i, [_sum(p) for p in zip(*found, strict=True)])
            )
        rows.append(torch.cat(row, dim=1))
    return first.out_order(first.in_order(torch.cat(rows), dim=1))


def _times(strength: Tensor | None, piece: Tensor | None) -> Tensor | None:
    return piece if piece is None or strength is None else strength * piece


def _sum(pieces: tuple[Tensor | None, ...]) -> Tensor | None:
    there = [piece for piece in pieces if piece is not None]
    return functools.reduce(torch.add, there) if there else None
