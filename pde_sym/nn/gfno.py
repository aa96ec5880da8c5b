"""Fourier layers whose weights the turns and flips of the square share."""

import math
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from pde_sym.errors import InputError
from pde_sym.nn._escnn import GSpace
from pde_sym.nn.conv import STRICT
from pde_sym.nn.field_types import (
    element_matrix,
    group_name,
    is_exact_on_grid,
    regular_type,
)
from pde_sym.nn.fieldwise import ConstantModule
from pde_sym.nn.fno import spectral_convolution
from pde_sym.nn.kernel_layer import norm
from pde_sym.nn.kernel_space import TRIVIAL, available_parts, kernel_basis
from pde_sym.nn.layer import RelaxedLayer
from pde_sym.nn.periodic import check_map
from pde_sym.nn.relaxation import Penalised, Relaxation
from pde_sym.nn.terms import FibreTerm


class GroupSpectralConv(RelaxedLayer):
    """A spectral convolution between regular fields: of a group, or relaxed from it.

    The kernel between the components of h and h' is that of ``h'^-1 h``, turned, for
    modes ``|k_j| <= M``:

        K_{h'h}(k) = V(h'; h'^-1 h, M(h')^-1 k),    V(h'; q, k) = W_q(k) + ...

    It commutes with the group where V does not depend on h'. The group acts on that
    argument alone, ``(g.V)(h') = V(g^-1 h')``: the isotypic parts of the kernel are
    those of functions on the group,

        V(h'; q, k) = W_q(k) + sum_sigma sum_j a_sigma,j(h') W_sigma,j,q(k),

    a_sigma,j an orthonormal basis of part sigma with mean square 1. Modulated, the
    kernel is ``(1 + alpha_h') K_{h'h} (1 + delta_h)``, alpha and delta with mean zero
    over each field. All but W starts at zero.

    Parameters
    ----------
    space
        The plane with its group: C1, C2, C4, D1, D2 or D4.
    fields_in, fields_out
        Number of regular fields before and after.
    modes
        The highest mode M per axis.
    relaxation
        What may leave the symmetry: `Strict`, `Modulated`, or `Isotypic` with a
        penalty. Shifts stay exact: factors in position have no meaning here.

    Raises
    ------
    InputError
        When an element of the group does not map the square grid onto itself, for
        parts or subgroups that it has not, or that are held in another way.
    """

    formula: ClassVar[str] = (
        "out_h'(k) = sum_h (1 + alpha_h') V(h'; h'^-1 h, h'^-1 k) (1 + delta_h) "
        "f_h(k), V(h') = W + sum_sigma a_sigma(h') W_sigma, |k_j| <= M"
    )
    source: ClassVar[str] = (
        "W: Helwig et al. 2023, Group Equivariant Fourier Neural Operators for Partial "
        "Differential Equations (arXiv 2306.05697), section 4; parts and factors are "
        "this package's own"
    )

    def __init__(
        self,
        space: GSpace,
        fields_in: int,
        fields_out: int,
        modes: int,
        relaxation: Relaxation = STRICT,
    ) -> None:
        super().__init__()
        order = check_turns_modes(space)
        if not isinstance(relaxation.held, Penalised):
            raise InputError(
                f"spectral parts are penalised, got hold {relaxation.held.kind!r}; use "
                "'penalised'"
            )
        self.setting = relaxation
        self.size: int = 2 * modes + 1
        self.channels_in: int = order * fields_in
        # As small as in `SpectralConv`.
        self.init_std: float = 1 / (self.channels_in * order * fields_out)
        shape = (order, fields_out, fields_in, self.size**2)
        self.weight: nn.Parameter = nn.Parameter(torch.randn(shape) * self.init_std)
        keep = relaxation.relax_to
        self.parts: _Functions = _Functions(space, relaxation, shape)
        before, after = (regular_type(space, n) for n in (fields_in, fields_out))
        is_fibre = relaxation.relaxes_fibre
        self.fibre_in: FibreTerm | None = FibreTerm(before, keep) if is_fibre else None
        self.fibre_out: FibreTerm | None = FibreTerm(after, keep) if is_fibre else None
        self.quotient: Tensor
        self.turned: Tensor
        self.register_buffer("quotient", _quotients(space), persistent=False)
        self.register_buffer("turned", _turned_modes(space, modes), persistent=False)

    def kernel(self) -> Tensor:
        """Return the real weights of `spectral_convolution`, all channels by all."""
        kernel = self._expanded(self.parts(self.weight))
        if self.fibre_in is None or self.fibre_out is None:
            return kernel
        kernel = self.fibre_out(kernel)
        return self.fibre_in(kernel.transpose(0, 1)).transpose(0, 1)

    def _expanded(self, values: Sequence[Tensor]) -> Tensor:
        """Return the kernel of ``V(h')`` for every h'."""
        order, fields_out, fields_in, _ = self.weight.shape
        rows = [
            value[quotient][..., turned]
            for value, quotient, turned in zip(
                values, self.quotient, self.turned, strict=True
            )
        ]
        # (h', h, out, in, k) to channels that count fields first, then components.
        expanded = torch.stack(rows).permute(2, 0, 3, 1, 4)
        return expanded.reshape(
            order * fields_out, order * fields_in, self.size, self.size
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, |G| fields_in, x, y)`` to ``(B, |G| fields_out, x, y)``."""
        check_map(x, self.channels_in)
        return spectral_convolution(x, self.kernel())

    def relaxed_parameters(self) -> Iterator[nn.Parameter]:
        for term in (self.parts, self.fibre_in, self.fibre_out):
            if term is not None:
                yield from term.parameters()

    def relaxation(self) -> Tensor:
        """Return ``||K - K_0|| / ||K_0||``, K_0 the kernel of W alone."""
        strict = self._expanded(len(self.quotient) * [self.weight])
        return norm([self.kernel() - strict], strict) / norm([strict], strict)

    def penalty(self) -> Tensor:
        """Return the sum of the mean squares of all W_sigma, alpha and delta.

        W_sigma is in units of W's start and has the factor of `Penalised`.
        """
        held, total = self.setting.held, self.weight.new_zeros(())
        factors = dict(held.factors) if isinstance(held, Penalised) else {}
        for name, weight in self.parts.weights.items():
            square = weight.square().mean() / self.init_std**2
            total = total + factors.get(name, 1.0) * square
        for term in (self.fibre_in, self.fibre_out):
            for weight in () if term is None else term.weights:
                if weight.numel():
                    total = total + weight.square().mean()
        return total

    def parameters_per_part(self) -> dict[str, int]:
        fibre = [
            w for t in (self.fibre_in, self.fibre_out) if t for w in t.parameters()
        ]
        numbers = {
            TRIVIAL: self.weight.numel(),
            **{name: weight.numel() for name, weight in self.parts.weights.items()},
            "fibre": sum(weight.numel() for weight in fibre),
        }
        return {name: number for name, number in numbers.items() if number}


class _Functions(ConstantModule):
    """``W + sum_sigma sum_j a_sigma,j(h') W_sigma,j`` for every element h'."""

    def __init__(
        self, space: GSpace, relaxation: Relaxation, shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        names = relaxation.kernel_parts(available_parts(space)[1:])
        bases = kernel_basis(
            space.trivial_repr, space.regular_repr, space, 1, "auto", names,
            relaxation.relax_to,
        )  # fmt: skip
        self.order: int = shape[0]
        self.weights: nn.ParameterDict = nn.ParameterDict()
        for name in names:
            functions = bases[name].flatten(1) * math.sqrt(self.order)
            if len(functions):
                self.keep(f"functions of {name}", functions)
                self.weights[name] = nn.Parameter(torch.zeros(len(functions), *shape))

    def forward(self, weight: Tensor) -> list[Tensor]:
        values = self.order * [weight]
        for name, part in self.weights.items():
            functions = self.kept(f"functions of {name}", weight)
            added = torch.tensordot(functions.T, part, dims=1)
            values = [value + one for value, one in zip(values, added, strict=True)]
        return values


def check_turns_modes(space: GSpace) -> int:
    """Return the order of the group.

    Raises
    ------
    InputError
        When an element of the group does not map the square grid onto itself.
    """
    if not is_exact_on_grid(space):
        raise InputError(
            f"{group_name(space)}: Fourier modes of a square grid are shared by C1, "
            "C2, C4, D1, D2 and D4"
        )
    return len(space.fibergroup.elements)


def _quotients(space: GSpace) -> Tensor:
    """Return the number of ``h'^-1 h`` for the components h' and h, ``(|G|, |G|)``."""
    # The regular representation moves component h to g h: column to row of its 1.
    tables = [
        np.argmax(space.regular_repr(~g), axis=0) for g in space.fibergroup.elements
    ]
    return torch.from_numpy(np.stack(tables))


def _turned_modes(space: GSpace, modes: int) -> Tensor:
    """Return where ``M(h')^-1 k`` stands among the modes, for each h' and k."""
    k = np.arange(-modes, modes + 1)
    grid = np.stack(np.meshgrid(k, k, indexing="ij")).reshape(2, -1)
    rows = []
    for element in space.fibergroup.elements:
        x, y = np.rint(element_matrix(space, element).T @ grid).astype(np.int64) + modes
        rows.append(x * len(k) + y)
    return torch.from_numpy(np.stack(rows))
