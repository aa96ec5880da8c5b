"""Banks of steerable kernels, mixed by weights that may vary within an orbit.

Both of Wang, Walters and Yu's relaxations are ``K = sum_l w_l K_l``: w_l depends on
the group element in the relaxed group convolution, on the offset in the relaxed
steerable one. They are strict while w_l is constant on every orbit of the group.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from pde_sym.errors import InputError
from pde_sym.nn._escnn import FieldType, GSpace
from pde_sym.nn.field_types import (
    element_matrix,
    elements_of,
    group_name,
    is_continuous,
    is_exact_on_grid,
)
from pde_sym.nn.kernel_layer import KernelLayer, norm
from pde_sym.nn.kernel_space import kernel_basis
from pde_sym.nn.offsets import pixel_orbits

Argument = Literal["output", "input"]
"""Which group element the weights of a relaxed group convolution belong to."""


class BankedConv2d(KernelLayer):
    """``K = sum_l w_l K_l``, K_l steerable, w_l = 1 at the start.

    The banks start at He's variance over their number: so does the sum.

    Parameters
    ----------
    in_type, out_type, kernel_size
        As in `KernelLayer`.
    banks
        Number L of kernels K_l.
    settings
        Band and position factors, as in `KernelLayer`.

    Raises
    ------
    InputError
        As `KernelLayer`, and without any bank.
    """

    def __init__(
        self,
        in_type: FieldType,
        out_type: FieldType,
        kernel_size: int,
        *,
        banks: int = 1,
        **settings: Any,
    ) -> None:
        super().__init__(in_type, out_type, kernel_size, **settings)
        if banks < 1:
            raise InputError(f"banks: expected at least 1, got {banks}")
        self.banks: nn.ModuleList = nn.ModuleList(
            self.steerable_term() for _ in range(banks)
        )
        with torch.no_grad():
            for weight in self.banks.parameters():
                weight /= math.sqrt(banks)
        orbit = torch.tensor(self.orbits())
        self.weight: nn.Parameter = nn.Parameter(torch.ones(banks, len(orbit)))
        self._orbit: Tensor
        self.register_buffer("_orbit", orbit, persistent=False)
        self._num_orbits: int = int(orbit.max()) + 1

    @abstractmethod
    def orbits(self) -> list[int]:
        """Return the number of the orbit that each argument of w_l belongs to."""

    @abstractmethod
    def factors(self) -> Tensor:
        """Return w_l as ``(L, C_out, C_in, k, k)``, with 1 where it is constant."""

    def effective_kernel(self) -> Tensor:
        first, *others = zip(self.factors(), self.banks, strict=True)
        kernel = first[0] * first[1]()
        for factor, bank in others:
            kernel = kernel + factor * bank()
        return kernel

    def deviations(self) -> Tensor:
        """Return w_l less its mean over each orbit, exactly 0 where it is constant."""
        member = nn.functional.one_hot(self._orbit, self._num_orbits).to(self.weight)
        # Less one of the orbit first: what is constant then has no round-off.
        difference = self.weight - self.weight[:, member.argmax(0)[self._orbit]]
        return difference - difference @ (member / member.sum(0)) @ member.T

    def relaxing_weights(self) -> Iterator[nn.Parameter]:
        yield self.weight

    def relaxation(self) -> Tensor:
        """Return ``||w - orbit mean|| / ||orbit mean||``, position factors included."""
        broken = self.deviations()
        extra = self.position_weights()
        return norm([broken, *extra], broken) / norm([self.weight - broken], broken)

    def penalty(self) -> Tensor:
        """Return the mean square of w less its orbit means, and of position weights."""
        total = self.deviations().square().mean()
        for weight in self.position_weights():
            total = total + weight.square().mean()
        return total


class RelaxedGroupConv2d(BankedConv2d):
    """``psi(g, h) = sum_l w_l psi_l(g^-1 h)``, with w_l of g or of h.

    On regular fields, whose components are the values at the group's elements,
    ``psi_l(g^-1 h)`` is the entry (g, h) of a steerable kernel K_l: the filters are
    turned in space. Between a regular field and any other (lifting, read-out) w_l
    belongs to the element that the regular side has. The group is finite: SO(2) and
    O(2) have no regular fields, and no weight for each of their elements.

    Parameters
    ----------
    in_type, out_type, kernel_size, banks, settings
        As in `BankedConv2d`; one of the types consists of regular fields.
    argument
        ``output``: ``w_l(g)``, as in the authors' code; ``input``: ``w_l(h)``, as in
        the paper. Where that side is not regular the other is taken.

    Raises
    ------
    InputError
        As `BankedConv2d`; for SO(2) and O(2), and when neither side consists of
        regular fields.
    """

    formula: ClassVar[str] = "out(g) = sum_h sum_l w_l(g or h) psi_l(g^-1 h) * f(h) + b"
    source: ClassVar[str] = (
        "Wang, Walters and Yu 2022, Approximately Equivariant Networks for Imperfectly "
        "Symmetric Dynamics (arXiv 2201.11969), relaxed group convolution; equal "
        "initial weights: Wang, Hofgard, Gao, Walters and Smidt 2023 (arXiv 2310.02299)"
    )

    def __init__(
        self,
        in_type: FieldType,
        out_type: FieldType,
        kernel_size: int,
        *,
        argument: Argument = "output",
        **settings: Any,
    ) -> None:
        sides = {"output": out_type, "input": in_type}
        if argument not in sides:
            raise InputError(f"argument {argument!r}: expected 'output' or 'input'")
        if is_continuous(in_type.gspace):
            raise InputError(
                "a relaxed group convolution has a weight per group element, of which "
                f"{group_name(in_type.gspace)} has infinitely many; use C<N> or D<N>, "
                "for instance D8"
            )
        able = [side for side, fields in sides.items() if _is_regular(fields)]
        if not able:
            raise InputError(
                "a relaxed group convolution needs regular fields before or after it, "
                f"got {in_type} and {out_type}"
            )
        self.argument: Argument = argument if argument in able else able[0]  # type: ignore[assignment]
        super().__init__(in_type, out_type, kernel_size, **settings)

    def orbits(self) -> list[int]:
        # One, of all elements.
        return self.in_type.gspace.fibergroup.order() * [0]

    def factors(self) -> Tensor:
        fields = self.out_type if self.argument == "output" else self.in_type
        per_channel = self.weight.repeat(1, len(fields))
        axis = 1 if self.argument == "output" else 2
        shape = [len(self.weight), 1, 1, 1, 1]
        shape[axis] = fields.size
        return per_channel.view(shape)

    def weight_spectrum(self) -> dict[str, float]:
        """Return ``||P_sigma w||^2 / ||w||^2`` by irrep: which symmetry is broken.

        All components of w as a function on the group count, where Wang et al. 2023
        read the class functions alone, ``sum_g w(g) chi_sigma(g)``.
        """
        space = self.in_type.gspace
        bases = kernel_basis(space.trivial_repr, space.regular_repr, space, 1)
        weight = self.weight.detach().double()
        shares = {
            name: (weight @ basis.flatten(1).T.to(weight)).square().sum().item()
            for name, basis in bases.items()
            if len(basis)
        }
        total = sum(shares.values())
        return {name: share / total for name, share in shares.items()}


class RelaxedSteerableConv2d(BankedConv2d):
    """``K(o) = sum_l w_l(o) K_l(o)`` with a weight per offset o.

    What varies from orbit to orbit of the offsets is steerable and counts as nothing;
    the deviations within orbits relax. Orbits are those of the group where it is
    exact on the grid, else rings of equal radius.
    """

    formula: ClassVar[str] = "out(x) = sum_o sum_l w_l(o) K_l(o) f(x + o) + b"
    source: ClassVar[str] = (
        "Wang, Walters and Yu 2022, Approximately Equivariant Networks for Imperfectly "
        "Symmetric Dynamics (arXiv 2201.11969), relaxed steerable convolution, with "
        "equal initial weights and orbits in place of neighbouring pixels"
    )

    def orbits(self) -> list[int]:
        return offset_orbits(self.in_type.gspace, self.kernel_size)

    def factors(self) -> Tensor:
        k = self.kernel_size
        return self.weight.view(-1, 1, 1, k, k)


def offset_orbits(space: GSpace, kernel_size: int) -> list[int]:
    """Return the orbit's number of each offset of a kernel, row after row.

    Orbits are those of the group where it is exact on the grid, else sets of equal
    radius: weights that differ within a ring are not steerable between grid points.
    """
    if is_exact_on_grid(space):
        matrices = [element_matrix(space, g) for g in elements_of(space)]
        orbits = [block.samples.any(0) for block in pixel_orbits(matrices, kernel_size)]
        return np.argmax(orbits, axis=0).ravel().tolist()
    along = np.arange(kernel_size) - kernel_size // 2
    radius = along[:, None] ** 2 + along[None, :] ** 2
    return np.unique(radius, return_inverse=True)[1].ravel().tolist()


def _is_regular(fields: FieldType) -> bool:
    regular = fields.gspace.regular_repr
    return all(rep == regular for rep in fields.representations)
