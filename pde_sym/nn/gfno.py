"""Fourier layers whose weights the turns and flips of the square share."""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from pde_sym.errors import InputError
from pde_sym.nn._escnn import GSpace
from pde_sym.nn.field_types import element_matrix, group_name, is_exact_on_grid
from pde_sym.nn.fno import spectral_convolution
from pde_sym.nn.kernel_space import TRIVIAL
from pde_sym.nn.layer import RelaxedLayer


class GroupSpectralConv(RelaxedLayer):
    """A spectral convolution between regular fields that commutes with a group.

    The kernel between the components of h and h' is that of ``h'^-1 h``, turned:
    ``K_{h'h}(k) = W_{h'^-1 h}(M(h')^-1 k)`` for modes ``|k_j| <= M``.

    Parameters
    ----------
    space
        The plane with its group: C1, C2, C4, D1, D2 or D4.
    fields_in, fields_out
        Number of regular fields before and after.
    modes
        The highest mode M per axis.

    Raises
    ------
    InputError
        When an element of the group does not map the square grid onto itself.
    """

    formula: ClassVar[str] = "out_h'(k) = sum_h W_{h'^-1 h}(h'^-1 k) f_h(k), |k_j| <= M"
    source: ClassVar[str] = (
        "Helwig et al. 2023, Group Equivariant Fourier Neural Operators for Partial "
        "Differential Equations (arXiv 2306.05697), section 4"
    )

    def __init__(
        self, space: GSpace, fields_in: int, fields_out: int, modes: int
    ) -> None:
        super().__init__()
        order = check_turns_modes(space)
        size = 2 * modes + 1
        self.channels_in = order * fields_in
        weight = torch.randn(order, fields_out, fields_in, size**2)
        # As small as in `SpectralConv`.
        self.weight = nn.Parameter(weight / (self.channels_in * order * fields_out))
        self.size = size
        self.quotient: Tensor
        self.turned: Tensor
        self.register_buffer("quotient", _quotients(space), persistent=False)
        self.register_buffer("turned", _turned_modes(space, modes), persistent=False)

    def kernel(self) -> Tensor:
        """Return the real weights of `spectral_convolution`, all channels by all."""
        order, fields_out, fields_in, _ = self.weight.shape
        rows = [
            self.weight[quotient][..., turned]
            for quotient, turned in zip(self.quotient, self.turned, strict=True)
        ]
        # (h', h, out, in, k) to channels that count fields first, then components.
        expanded = torch.stack(rows).permute(2, 0, 3, 1, 4)
        return expanded.reshape(
            order * fields_out, order * fields_in, self.size, self.size
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, |G| fields_in, x, y)`` to ``(B, |G| fields_out, x, y)``."""
        if x.ndim != 4 or x.shape[1] != self.channels_in:
            raise InputError(
                f"expected input (batch, {self.channels_in}, x, y), "
                f"got shape {tuple(x.shape)}"
            )
        return spectral_convolution(x, self.kernel())

    def relaxed_parameters(self) -> Iterator[nn.Parameter]:
        yield from ()

    def relaxation(self) -> Tensor:
        """Return 0: the layer is strict."""
        return self.weight.new_zeros(())

    def parameters_per_part(self) -> dict[str, int]:
        return {TRIVIAL: self.weight.numel()}


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
