"""The steerable convolution with adjustable symmetry."""

import functools
import math
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn

from pde_sym.nn._escnn import FieldType
from pde_sym.nn.field_types import field_groups
from pde_sym.nn.kernel_layer import KernelLayer, norm
from pde_sym.nn.kernel_space import (
    TRIVIAL,
    Band,
    available_parts,
    part_energies,
    part_names,
)
from pde_sym.nn.kernel_term import KernelTerm, expand
from pde_sym.nn.position import PositionTerm
from pde_sym.nn.relaxation import (
    Constrained,
    Free,
    Likelihood,
    Penalised,
    Prior,
    Relaxation,
    Strict,
)
from pde_sym.nn.terms import BiasTerm, FibreTerm

STRICT = Strict()


class SteerableConv2d(KernelLayer):
    """Periodic convolution whose weight sharing is exact, or relaxed by learning.

    ``out(x) = sum_o K(o) [(1 + a(x + o)) f(x + o)] + b`` with, depending on the
    relaxation, ``K = (1 + alpha) K_0 (1 + delta) + sum_sigma K_sigma``. All but the
    steerable K_0 and the invariant bias starts at zero: the layer starts equivariant.

    Parameters
    ----------
    in_type, out_type
        Fields before and after, on the same plane.
    kernel_size
        Points per axis, odd.
    band
        Which kernels K_0 and the parts may be; see `kernel_basis`.
    relaxation
        What may leave the symmetry.

    Raises
    ------
    InputError
        For an even kernel, types of two planes, an unknown part or band, or when no
        steerable kernel exists between the fields.

    Notes
    -----
    In eval mode the expanded kernel is kept until a weight changes. A write through
    ``weight.data`` in place is invisible to PyTorch: call ``train()`` after one.
    """

    formula: ClassVar[str] = (
        "out(x) = sum_o ((1 + alpha) K_0(o) (1 + delta) + sum_sigma K_sigma(o)) "
        "(1 + a(x + o)) f(x + o) + b"
    )
    source: ClassVar[str] = (
        "K_0: Weiler and Cesa 2019, General E(2)-equivariant steerable CNNs, eq. 4; "
        "the parts by irrep and the factors are this package's own"
    )

    def __init__(
        self,
        in_type: FieldType,
        out_type: FieldType,
        kernel_size: int,
        *,
        band: Band = "auto",
        relaxation: Relaxation = STRICT,
    ) -> None:
        super().__init__(in_type, out_type, kernel_size, band=band)
        self.setting = relaxation
        self.kernel: KernelTerm
        self.parts: nn.ModuleDict
        self.kernel, self.parts = self._kernels()
        self.strengths: nn.ParameterDict = nn.ParameterDict()
        self.multipliers: nn.ParameterDict = nn.ParameterDict()
        held = relaxation.held
        if isinstance(held, Constrained | Likelihood):
            self.strengths.update(
                {n: nn.Parameter(torch.zeros(())) for n in self.parts}
            )
        if isinstance(held, Constrained):
            for name in self.parts:
                self.multipliers[name] = nn.Parameter(torch.zeros(()), False)
        keep = relaxation.relax_to
        is_fibre = relaxation.relaxes_fibre
        self.fibre_out: FibreTerm | None = (
            FibreTerm(out_type, keep) if is_fibre else None
        )
        self.fibre_in: FibreTerm | None = FibreTerm(in_type, keep) if is_fibre else None
        self.extra_bias: BiasTerm | None = (
            BiasTerm(out_type, keep) if relaxation.relaxes_bias else None
        )
        if relaxation.modes:
            self.position: PositionTerm | None = PositionTerm(
                in_type,
                relaxation.modes,
                relaxation.banks,
                None if keep == "C1" else keep,
            )

    def _kernels(self) -> tuple[KernelTerm, nn.ModuleDict]:
        """Return the steerable kernels and the parts that may leave the symmetry."""
        held = self.setting.held
        names = self.setting.kernel_parts(
            available_parts(self.in_type.gspace, self.band)[1:]
        )
        make = functools.partial(
            KernelTerm, self.in_type, self.out_type, self.kernel_size, self.band
        )
        std = 0.0 if isinstance(held, Penalised | Prior) else 1.0
        kernel, keep = self.steerable_term(), self.setting.relax_to
        found = {name: make(name, keep, std) for name in names}
        found = {name: part for name, part in found.items() if not part.is_empty}
        if isinstance(held, Free):
            # All parts together then have the entries of one free kernel.
            total = kernel.rank + sum(part.rank for part in found.values())
            for term in (kernel, *found.values()):
                for weight in term.weights:
                    weight.data *= math.sqrt(kernel.rank / total)
        return kernel, nn.ModuleDict(found)

    def effective_kernel(self) -> Tensor:
        """Return K with everything learned in it, shape ``(C_out, C_in, k, k)``."""
        parts = [(part, self._strength(name)) for name, part in self._parts()]
        if self.fibre_out is None or self.fibre_in is None:
            return expand([(self.kernel, None), *parts])
        kernel = self.fibre_out(self.kernel())
        kernel = self.fibre_in(kernel.transpose(0, 1)).transpose(0, 1)
        return kernel + expand(parts) if parts else kernel

    def effective_bias(self) -> Tensor:
        return (
            self.bias() if self.extra_bias is None else self.bias() + self.extra_bias()
        )

    def _parts(self) -> list[tuple[str, KernelTerm]]:
        return [(n, p) for n, p in self.parts.items() if isinstance(p, KernelTerm)]

    def _strength(self, name: str) -> Tensor | None:
        if name not in self.strengths:
            return None
        strength = self.strengths[name]
        is_bounded = isinstance(self.setting.held, Likelihood)
        return strength.tanh() if is_bounded else strength

    def relaxation(self) -> Tensor:
        """Return ``||relaxed weights|| / ||other weights||``: 0 iff equivariant."""
        plain = [*self.kernel.parameters(), *self.bias.parameters()]
        if self.position is not None:
            plain.append(self.position.mixing)
        known = {id(p) for p in self.parts.parameters()}
        known |= {id(p) for p in self.strengths.parameters()}
        relaxed = [p for p in self.relaxed_parameters() if id(p) not in known]
        # A part counts as much as its strength lets it.
        relaxed += [
            weight if strength is None else strength * weight
            for name, part in self._parts()
            for strength in [self._strength(name)]
            for weight in part.parameters()
        ]
        return norm(relaxed, plain[0]) / norm(plain, plain[0])

    def penalty(self) -> Tensor:
        """Return the penalty on what relaxes K; see `Penalised` and `Prior`.

        Weights of kernels are in units of K_0's start. The mean squares of alpha,
        delta, the relaxed biases and the position weights are added, which have no
        unit; strengths are penalised in place of the weights that they multiply.
        """
        held, unit = self.setting.held, self.kernel.init_std**2
        factors = dict(held.factors) if isinstance(held, Penalised) else {}
        usual = 1 / (2 * held.relaxed_std**2) if isinstance(held, Prior) else 1.0
        total = self.kernel.weights[0].new_zeros(())
        for name, part in self.parts.items():
            if name in self.strengths:
                total = total + self.strengths[name].square()
                continue
            total = total + factors.get(name, usual) * _mean_square(part) / unit
        if isinstance(held, Prior):
            equivariant = _mean_square(self.kernel) / unit
            total = total + equivariant / (2 * held.equivariant_std**2)
        # What is left out is where a network that is held elsewhere breaks its group.
        for term in (self.fibre_out, self.fibre_in, self.extra_bias):
            if term is not None:
                total = total + usual * _mean_square(term)
        if self.position is not None:
            total = total + usual * _mean_square(self.position.weights)
        return total

    def lagrangian(self) -> Tensor:
        """Return ``sum_sigma lambda_sigma |gamma_sigma|``; see `Constrained`."""
        total = self.kernel.weights[0].new_zeros(())
        for name, multiplier in self.multipliers.items():
            total = total + multiplier * self.strengths[name].abs()
        return total

    @torch.no_grad()
    def after_update(self) -> None:
        """Move the multipliers towards the constraints; see `Constrained`."""
        held = self.setting.held
        if isinstance(held, Constrained):
            for name, multiplier in self.multipliers.items():
                excess = self.strengths[name].abs() - multiplier / held.rho
                multiplier.copy_((multiplier + held.rate * excess).clamp(min=0.0))

    def kernel_spectrum(self) -> dict[str, float]:
        """Return ``||K_sigma||^2 / ||K||^2`` of the effective kernel, by part."""
        with torch.no_grad():
            kernel = self.effective_kernel()
        space, k = self.in_type.gspace, self.kernel_size
        energies = dict.fromkeys(part_names(space, self.band), 0.0)
        for out in field_groups(self.out_type):
            for into in field_groups(self.in_type):
                rho_out, rho_in = out.representation, into.representation
                block = kernel[list(out.channels)][:, list(into.channels)]
                fields = block.reshape(-1, rho_out.size, len(into.channels), k, k)
                pairs = fields.unflatten(2, (-1, rho_in.size)).transpose(1, 2)
                shares = part_energies(
                    pairs.flatten(0, 1), rho_in, rho_out, space, self.band
                )
                for name, energy in shares.items():
                    energies[name] += energy
        total = sum(energies.values())
        return {name: energy / total for name, energy in energies.items()}

    def relaxing_weights(self) -> Iterator[nn.Parameter]:
        terms = (self.parts, self.fibre_out, self.fibre_in, self.extra_bias)
        for term in terms:
            if term is not None:
                yield from term.parameters()
        yield from self.strengths.parameters()

    def parameters_per_part(self) -> dict[str, int]:
        terms: dict[str, list[nn.Module | None]] = {
            TRIVIAL: [self.kernel, self.bias],
            **{name: [part] for name, part in self.parts.items()},
            "strength": [self.strengths],
            "fibre": [self.fibre_in, self.fibre_out],
            "bias": [self.extra_bias],
            "position": [self.position],
        }
        numbers = {
            name: sum(p.numel() for term in some if term for p in term.parameters())
            for name, some in terms.items()
        }
        return {name: number for name, number in numbers.items() if number}


def _mean_square(term: nn.Module) -> Tensor:
    """Return the mean square of the parameters of a term, 0 without any."""
    weights = torch.cat([w.flatten() for w in term.parameters()])
    return weights.square().sum() / max(1, len(weights))
