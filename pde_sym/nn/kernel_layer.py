"""What the published relaxed convolutions share: a kernel and a bias from weights."""

import functools
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, Self

import torch
from torch import Tensor, nn

from pde_sym.errors import InputError
from pde_sym.nn._escnn import FieldType, GSpace, Representation
from pde_sym.nn.field_types import field_groups, group_name
from pde_sym.nn.kernel_space import (
    TRIVIAL,
    Band,
    check_kernel_size,
    kernel_basis,
    resolve_band,
)
from pde_sym.nn.kernel_term import KernelTerm
from pde_sym.nn.layer import RelaxedLayer
from pde_sym.nn.periodic import check_map, wrap
from pde_sym.nn.position import PositionTerm
from pde_sym.nn.relaxation import DEFAULT_BANKS
from pde_sym.nn.terms import BiasTerm


class KernelLayer(RelaxedLayer):
    """A periodic convolution, ``out(x) = sum_o K(o) (1 + a(x + o)) f(x + o) + b``.

    Subclasses say what K is; b is the invariant bias and a(x), absent by default, are
    learned factors in position, zero at the start.

    Parameters
    ----------
    in_type, out_type
        Fields before and after, on the same plane.
    kernel_size
        Points per axis, odd.
    band
        Which kernels are steerable; see `kernel_basis`.
    position_modes, position_banks
        Highest Fourier mode and number of the fields that a(x) is mixed from.

    Raises
    ------
    InputError
        For an even kernel, types of two planes, or a band the group does not have.
    """

    def __init__(
        self,
        in_type: FieldType,
        out_type: FieldType,
        kernel_size: int,
        *,
        band: Band = "auto",
        position_modes: int = 0,
        position_banks: int = DEFAULT_BANKS,
    ) -> None:
        super().__init__()
        if in_type.gspace != out_type.gspace:
            raise InputError(
                "expected both field types on one plane, got "
                f"{group_name(in_type.gspace)} and {group_name(out_type.gspace)}; "
                "build both from the same gspace"
            )
        check_kernel_size(kernel_size)
        resolve_band(in_type.gspace, band)
        self.in_type = in_type
        self.out_type = out_type
        self.kernel_size = kernel_size
        self.band: Band = band
        self.bias: BiasTerm = BiasTerm(out_type)
        self.position: PositionTerm | None = None
        if position_modes:
            self.position = PositionTerm(in_type, position_modes, position_banks)
        self._kept: tuple[list[tuple[Tensor, int]], tuple[Tensor, Tensor]] | None = None

    @abstractmethod
    def effective_kernel(self) -> Tensor:
        """Return K with everything learned in it, shape ``(C_out, C_in, k, k)``."""

    def effective_bias(self) -> Tensor:
        """Return b, shape ``(C_out,)``."""
        return self.bias()

    @abstractmethod
    def relaxing_weights(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that K and b leave the symmetry with."""

    def relaxed_parameters(self) -> Iterator[nn.Parameter]:
        yield from self.relaxing_weights()
        if self.position is not None:
            yield from self.position.weights

    def parameters_per_part(self) -> dict[str, int]:
        relaxing = {id(p) for p in self.relaxing_weights()}
        position = [] if self.position is None else list(self.position.parameters())
        known = relaxing | {id(p) for p in position}
        parts = {
            TRIVIAL: [p for p in self.parameters() if id(p) not in known],
            "relaxed": [p for p in self.parameters() if id(p) in relaxing],
            "position": position,
        }
        numbers = {name: sum(p.numel() for p in some) for name, some in parts.items()}
        return {name: number for name, number in numbers.items() if number}

    def position_weights(self) -> list[Tensor]:
        """Return the weights of the factors in position, none where there are none."""
        return [] if self.position is None else list(self.position.weights)

    def steerable_term(self) -> KernelTerm:
        """Return a steerable kernel between the layer's fields, freshly drawn.

        Raises
        ------
        InputError
            When there is none.
        """
        term = KernelTerm(self.in_type, self.out_type, self.kernel_size, self.band)
        if term.is_empty:
            raise InputError(
                f"no {self.kernel_size} x {self.kernel_size} kernel of "
                f"{group_name(self.in_type.gspace)} maps {self.in_type} to "
                f"{self.out_type}; use a larger kernel"
            )
        return term

    def check_input(self, x: Tensor) -> None:
        """Raise `InputError` unless `x` has the layer's channels on a large grid."""
        check_map(x, self.in_type.size, self.kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """Return the fields after the layer, ``(B, C_in, x, y) -> (B, C_out, x, y)``.

        Raises
        ------
        InputError
            When the channels are not those of `in_type` or the grid is smaller than
            the kernel.
        """
        self.check_input(x)
        if self.position is not None:
            x = self.position(x)
        kernel, bias = self._kernel_and_bias()
        return nn.functional.conv2d(wrap(x, self.kernel_size), kernel, bias)

    def train(self, mode: bool = True) -> Self:
        self._kept = None
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}

    def _expand(self) -> tuple[Tensor, Tensor]:
        with torch.autocast(next(self.parameters()).device.type, enabled=False):
            return self.effective_kernel().contiguous(), self.effective_bias()

    def _kernel_and_bias(self) -> tuple[Tensor, Tensor]:
        """Return kernel and bias, in eval mode those kept until a weight changes."""
        weights = list(self.parameters())
        is_learning = torch.is_grad_enabled() and any(w.requires_grad for w in weights)
        # Under torch.func the weights are stand-ins, which have no version.
        is_plain = all(isinstance(w, nn.Parameter) for w in weights)
        if self.training or is_learning or not is_plain:
            return self._expand()
        if self._kept is None or not _is_current(self._kept[0], weights):
            with torch.inference_mode(False), torch.no_grad():
                versions = [(w.detach(), w._version) for w in weights]
                self._kept = (versions, self._expand())
        return self._kept[1]


def _is_current(kept: list[tuple[Tensor, int]], weights: list[nn.Parameter]) -> bool:
    """Return whether no weight was replaced or written since; `kept` owns storage."""
    return len(kept) == len(weights) and all(
        old.data_ptr() == new.data_ptr()
        and old.dtype == new.dtype
        and version == new._version
        for (old, version), new in zip(kept, weights, strict=True)
    )


def norm(tensors: Iterable[Tensor], like: Tensor) -> Tensor:
    """Return the joint 2-norm; its slope at zero is zero, not infinite."""
    flat = [t.flatten() for t in tensors if t.numel()]
    return torch.linalg.vector_norm(torch.cat(flat or [like.new_zeros(1)]))


def steerable_part(
    kernel: Tensor, in_type: FieldType, out_type: FieldType, band: Band = "auto"
) -> Tensor:
    """Return P K, the projection of a kernel on the steerable ones.

    On groups that are exact on the grid it is the group average,
    ``P K(o) = mean_g rho_out(g) K(M(g)^-1 o) rho_in(g)^-1``.

    Parameters
    ----------
    kernel
        Any kernel, shape ``(C_out, C_in, k, k)``.
    in_type, out_type
        What its channels are.
    band
        As in `kernel_basis`.
    """
    size = kernel.shape[-1]
    result = torch.zeros_like(kernel)
    for out in field_groups(out_type):
        for into in field_groups(in_type):
            rho_out, rho_in = out.representation, into.representation
            basis = _steerable_basis(rho_in, rho_out, in_type.gspace, size, band)
            basis = basis.to(kernel)
            rows = torch.tensor(out.channels, device=kernel.device)[:, None]
            columns = torch.tensor(into.channels, device=kernel.device)[None]
            block = kernel[rows, columns].unflatten(0, (-1, rho_out.size))
            pairs = block.unflatten(2, (-1, rho_in.size)).transpose(1, 2)
            projected = (pairs.flatten(2) @ basis.T @ basis).view_as(pairs)
            block = projected.transpose(1, 2).flatten(2, 3).flatten(0, 1)
            result = result.index_put((rows, columns), block)
    return result


@functools.cache
def _steerable_basis(
    rho_in: Representation,
    rho_out: Representation,
    space: GSpace,
    kernel_size: int,
    band: Band,
) -> Tensor:
    """Return an orthonormal basis of the steerable kernels, one in each row."""
    bases = kernel_basis(rho_in, rho_out, space, kernel_size, band, ())
    return bases[TRIVIAL].flatten(1)
