"""Layers without symmetry of their own, and the nonlinearity that keeps it."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from pde_sym.errors import InputError
from pde_sym.nn._escnn import FieldType
from pde_sym.nn.field_types import is_permutation


class Pointwise(nn.Module):
    """A function of each channel, exact on fields whose channels the group permutes.

    Parameters
    ----------
    fields
        The fields it acts on.
    function
        A function of one real variable, applied entry by entry.

    Raises
    ------
    InputError
        When the group does more than permute channels, as for vectors.
    """

    def __init__(
        self,
        fields: FieldType,
        function: Callable[[Tensor], Tensor] = nn.functional.gelu,
    ) -> None:
        super().__init__()
        for rep in dict.fromkeys(fields.representations):
            if not is_permutation(rep):
                raise InputError(
                    f"a pointwise function of {rep.name!r} is not equivariant: "
                    "expected regular, quotient or trivial fields"
                )
        self.in_type = fields
        self.out_type = fields
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class PositionChannels(nn.Module):
    """Appends sin and cos of ``2 pi x / L`` per axis: four channels of position."""

    num_channels = 4

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, x, y)`` to ``(B, C + 4, x, y)``."""
        axes = [
            2 * math.pi * torch.arange(n, device=x.device, dtype=torch.float64) / n
            for n in x.shape[-2:]
        ]
        along_x, along_y = torch.meshgrid(*axes, indexing="ij")
        waves = [f(a) for a in (along_x, along_y) for f in (torch.sin, torch.cos)]
        channels = torch.stack(waves).to(x.dtype).expand(len(x), -1, -1, -1)
        return torch.cat([x, channels], dim=1)
