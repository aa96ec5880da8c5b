"""The linear layer between features of SO(3) with adjustable symmetry."""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from pde_sym.errors import InputError
from pde_sym.nn.layer import RelaxedLayer
from pde_sym.nn.so3 import (
    HIGHEST,
    PARTS,
    SO3Type,
    map_basis,
    named_parts,
    part_name,
    parts_between,
    traceless,
)

_Pair = tuple[int, int]
"""l of the output, l of the input."""


class SO3Linear(RelaxedLayer):
    """Linear maps between numbers, vectors and tensors: strict, in parts, modulated.

    ``y = W x + b`` with ``W = (1 + alpha) W_0 (1 + delta) + sum_L W_L``. Schur leaves
    W_0 one weight for each pair of features of the same l; part L is
    ``(W_L)_oi = sum_M w_oiM B_M`` (`so3.map_basis`): weights ``w_oi`` that are a
    vector (L = 1), a symmetric traceless matrix (L = 2), ... which the body hides.
    A bias of a vector is a part L = 1 too, that of a tensor L = 2: maps from a number.
    alpha and delta are a matrix for each feature, orthogonal to 1, which commutes. All
    but W_0 and the bias of numbers starts at zero: the layer starts equivariant.

    Parameters
    ----------
    in_type, out_type
        Features before and after.
    parts
        Names of the parts that are learned beside the trivial one: ``l1`` to ``l4``.
    modulated
        Whether alpha, delta and the biases are learned.

    Raises
    ------
    InputError
        For an unknown part, or when no feature before has the l of one after and
        there is nothing but them.
    """

    formula: ClassVar[str] = "y = ((1 + alpha) W_0 (1 + delta) + sum_L W_L) x + b"
    source: ClassVar[str] = (
        "W_0: Thomas et al. 2018, Tensor field networks, section 4.1.3 (self-"
        "interaction); the parts by irrep and the factors are this package's own"
    )

    def __init__(
        self,
        in_type: SO3Type,
        out_type: SO3Type,
        *,
        parts: Sequence[str] = (),
        modulated: bool = False,
    ) -> None:
        super().__init__()
        chosen = named_parts(parts)
        if not any(map(min, in_type.counts, out_type.counts)) and not parts:
            raise InputError(
                f"no rotation-equivariant map from {in_type.counts} to "
                f"{out_type.counts} scalars, vectors and tensors"
            )
        self.in_type = in_type
        self.out_type = out_type
        degrees = range(HIGHEST + 1)
        self.weights: nn.ParameterList = nn.ParameterList(
            torch.randn(after, before) / math.sqrt(max(before, 1))
            for after, before in zip(out_type.counts, in_type.counts, strict=True)
        )
        self.bias: nn.Parameter = nn.Parameter(torch.zeros(out_type.counts[0]))
        self.parts: nn.ParameterDict = nn.ParameterDict(
            {
                _key(part, after, before): torch.zeros(
                    out_type.counts[after], in_type.counts[before], 2 * part + 1
                )
                for part, after, before in itertools.product(chosen, degrees, degrees)
                if part in parts_between(after, before)
                and out_type.counts[after] * in_type.counts[before]
            }
        )
        # No buffers: a cast to float32 and back must not cost their precision.
        self._bases = {
            (part, after, before): torch.from_numpy(map_basis(after, before, part))
            for after, before in itertools.product(degrees, degrees)
            for part in parts_between(after, before)
        }
        self.extra_bias: nn.ParameterDict = nn.ParameterDict(
            {
                part_name(ell): torch.zeros(out_type.counts[ell], 2 * ell + 1)
                for ell in degrees[1:]
                if (modulated or ell in chosen) and out_type.counts[ell]
            }
        )
        self.alpha: nn.ParameterDict | None = _factors(out_type) if modulated else None
        self.delta: nn.ParameterDict | None = _factors(in_type) if modulated else None

    def forward(self, x: Tensor) -> Tensor:
        """Return the features after the layer, ``(..., out) <- (..., in)``.

        Raises
        ------
        InputError
            When the features are not those of `in_type`.
        """
        if x.shape[-1] != self.in_type.size:
            raise InputError(
                f"expected features (..., {self.in_type.size}), got {tuple(x.shape)}"
            )
        return nn.functional.linear(x, self.matrix(), self.offset())

    def matrix(self) -> Tensor:
        """Return W with everything learned in it, shape ``(out.size, in.size)``."""
        degrees = range(HIGHEST + 1)
        rows = [
            torch.cat([self._block(after, before) for before in degrees], 1)
            for after in degrees
        ]
        return torch.cat(rows)

    def offset(self) -> Tensor:
        """Return b with everything learned in it, shape ``(out.size,)``."""
        pieces: list[Tensor] = [self.bias]
        for ell, width in enumerate(self.out_type.widths[1:], 1):
            name = part_name(ell)
            known = name in self.extra_bias
            rows = self.extra_bias[name] if known else self.bias.new_zeros(width)
            pieces.append(rows.flatten())
        return torch.cat(pieces)

    def _block(self, after: int, before: int) -> Tensor:
        """Return the maps from features of one l to those of one, as a matrix."""
        height, width = 2 * after + 1, 2 * before + 1
        rows, columns = self.out_type.counts[after], self.in_type.counts[before]
        block = self.bias.new_zeros(rows, height, columns, width)
        if after == before:
            unit = torch.eye(height).to(self.bias)
            block = torch.einsum("oi,ab->oaib", self.weights[after], unit)
            if self.alpha is not None and self.delta is not None and after:
                left = unit + self._matrices(self.alpha[str(after)], after)
                right = unit + self._matrices(self.delta[str(after)], after)
                block = torch.einsum(
                    "oac,oi,icb->oaib", left, self.weights[after], right
                )
        for part in parts_between(after, before):
            if (key := _key(part, after, before)) in self.parts:
                basis = self._bases[part, after, before].to(self.bias)
                block = block + torch.einsum("oiM,Mab->oaib", self.parts[key], basis)
        return block.reshape(rows * height, columns * width)

    def _matrices(self, weights: Tensor, ell: int) -> Tensor:
        """Return matrices orthogonal to 1, ``(n, 2 l + 1, 2 l + 1)``, by weights."""
        parts = [self._bases[part, ell, ell] for part in parts_between(ell, ell)[1:]]
        return torch.tensordot(weights, torch.cat(parts).to(weights), dims=1)

    def relaxed_parameters(self) -> Iterator[nn.Parameter]:
        terms = (self.parts, self.extra_bias, self.alpha, self.delta)
        for term in terms:
            if term is not None:
                yield from term.parameters()

    def relaxation(self) -> Tensor:
        """Return ``||relaxed weights|| / ||other weights||``: 0 iff equivariant."""
        return _norm(self.relaxed_parameters()) / _norm([*self.weights, self.bias])

    def penalty(self) -> Tensor:
        """Return the mean squares of the relaxed weights, those of W in units of W_0's.

        ``sum_L mean(n w_oiM^2)`` with n features of the l of i before, plus those of
        alpha, of delta and of the relaxed biases, which have no unit.
        """
        total = zero = self.bias.new_zeros(1)
        for part in PARTS[1:]:
            scaled = [
                (weight * math.sqrt(self.in_type.counts[int(key[-1])])).flatten()
                for key, weight in self.parts.items()
                if key.startswith(part)
            ]
            total = total + _mean_square([zero, *scaled])
        for term in (self.alpha, self.delta, self.extra_bias):
            if term is not None:
                flat = [weight.flatten() for weight in term.values()]
                total = total + _mean_square([zero, *flat])
        return total.squeeze()

    def parameters_per_part(self) -> dict[str, int]:
        numbers = dict.fromkeys(PARTS, 0) | {"factors": 0}
        numbers["trivial"] = sum(w.numel() for w in [*self.weights, self.bias])
        for key, weight in self.parts.items():
            numbers[key.split("_")[0]] += weight.numel()
        for name, bias in self.extra_bias.items():
            numbers[name] += bias.numel()
        for term in (self.alpha, self.delta):
            if term is not None:
                numbers["factors"] += sum(w.numel() for w in term.parameters())
        return {name: number for name, number in numbers.items() if number}

    @torch.no_grad()
    def coefficients(self) -> dict[str, Tensor]:
        """Return the coefficients of W and b along the parts, by name.

        One row ``(2 L + 1,)`` for every pair of features that has the part, whatever
        it was made of: parts or factors.
        """
        pieces = _blocks(self.matrix(), self.out_type, self.in_type)
        rows: dict[str, list[Tensor]] = {name: [] for name in PARTS}
        for (after, before), block in pieces.items():
            for part in parts_between(after, before):
                basis = self._bases[part, after, before].to(block)
                along = torch.einsum("oaib,Mab->oiM", block, basis)
                rows[part_name(part)].append(along.flatten(0, 1))
        biases = self.out_type.split(self.offset())
        for ell, bias in enumerate(biases):
            rows[part_name(ell)].append(bias)
        return {name: torch.cat(row) for name, row in rows.items() if row}

    def weight_spectrum(self) -> dict[str, float]:
        """Return ``||W_L||^2 / ||W||^2``, biases included, by part.

        Identifiable for one layer only: in a network hidden features can be turned, and
        `so3_spectrum.body_spectrum` judges the function.
        """
        energies = {n: float(c.square().sum()) for n, c in self.coefficients().items()}
        total = sum(energies.values())
        return {name: energy / total for name, energy in energies.items()}

    def direction(self, part: str) -> Tensor:
        """Return what in the body a part points along: its leading coefficients.

        For ``l1`` a unit vector ``(3,)``, for ``l2`` a symmetric traceless matrix
        ``(3, 3)`` of norm 1; either up to its sign. Meaningless where the part is 0.

        Raises
        ------
        InputError
            For another part.
        """
        return leading_direction(part, self.coefficients()[part])


def leading_direction(part: str, rows: Tensor) -> Tensor:
    """Return the right singular vector of coefficients ``(n, 2 L + 1)`` of a part.

    Raises
    ------
    InputError
        Unless the part is ``l1`` or ``l2``.
    """
    if part not in (part_name(1), part_name(2)):
        raise InputError(f"part {part!r}: only l1 and l2 are a direction or a matrix")
    leading = torch.linalg.svd(rows.double(), full_matrices=False)[2][0]
    if part == part_name(1):
        return leading
    return torch.tensordot(leading, torch.as_tensor(traceless()).to(leading), dims=1)


def _key(part: int, after: int, before: int) -> str:
    """Return for instance ``l1_20``: the part L = 1 to tensors from numbers."""
    return f"{part_name(part)}_{after}{before}"


def _mean_square(weights: list[Tensor]) -> Tensor:
    """Return the mean square, 0 without any; the first one is a 0 that is not one."""
    flat = torch.cat(weights)
    return flat.square().sum() / max(1, len(flat) - 1)


def _factors(fields: SO3Type) -> nn.ParameterDict:
    """Return the weights of alpha: a matrix less its trace for each feature."""
    return nn.ParameterDict(
        {
            str(ell): torch.zeros(fields.counts[ell], (2 * ell + 1) ** 2 - 1)
            for ell in range(1, HIGHEST + 1)
        }
    )


def _blocks(matrix: Tensor, out: SO3Type, into: SO3Type) -> dict[_Pair, Tensor]:
    """Return ``(n_out, 2 l_out + 1, n_in, 2 l_in + 1)`` for every pair of l."""
    result = {}
    for after, rows in enumerate(matrix.split(out.widths)):
        for before, block in enumerate(rows.split(into.widths, 1)):
            shape = (out.counts[after], -1, into.counts[before], 2 * before + 1)
            if block.numel():
                result[after, before] = block.reshape(shape)
    return result


def _norm(weights: Iterable[Tensor]) -> Tensor:
    """Return the joint 2-norm; its slope at zero is zero, not infinite."""
    flat = [weight.flatten() for weight in weights]
    return torch.linalg.vector_norm(torch.cat(flat or [torch.zeros(1)]))
