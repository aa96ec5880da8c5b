"""Heads: from the fields inside a network to numbers and to typed fields."""

import torch
from torch import Tensor, nn

from pde_sym.fields import FieldSpec
from pde_sym.nn._escnn import FieldType
from pde_sym.nn.conv import STRICT, SteerableConv2d
from pde_sym.nn.field_types import field_type
from pde_sym.nn.fieldwise import (
    ConstantModule,
    channels_of_fields,
    check_channels,
    invariant_directions,
    is_invariant,
)
from pde_sym.nn.kernel_space import Band
from pde_sym.nn.relaxation import Relaxation

_SMALL = 1e-12


class InvariantHead(ConstantModule):
    """Numbers that no turn, flip or shift of the input changes.

    ``y = W [mean_x Q^T c, rms_x (1 - Q Q^T) c_i] + b``: the means over space of all
    invariant components, whose orthonormal directions are the columns of Q, and for
    each field the root mean square of its others, which no linear map could see.

    Parameters
    ----------
    fields
        The fields before.
    num_outputs
        How many numbers.
    """

    def __init__(self, fields: FieldType, num_outputs: int) -> None:
        super().__init__()
        self.in_type = fields
        directions = invariant_directions(fields)
        self.keep("directions", directions)
        others = torch.eye(fields.size).double() - directions @ directions.T
        self.keep("others", others)
        moves = torch.tensor([not is_invariant(r) for r in fields.representations])
        members = channels_of_fields(fields)[moves]
        self.keep("averages", members / members.sum(1, keepdim=True))
        count = directions.shape[1] + len(members)
        self.linear: nn.Linear = nn.Linear(count, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, x, y)`` to ``(B, num_outputs)``."""
        check_channels(x, self.in_type)
        means = x.mean((2, 3)) @ self.kept("directions", x)
        rest = torch.einsum("dc,bcxy->bdxy", self.kept("others", x), x)
        squares = rest.square().mean((2, 3)) @ self.kept("averages", x).T
        return self.linear(torch.cat([means, (squares + _SMALL).sqrt()], 1))


class EquivariantHead(nn.Module):
    """Typed fields, or one value of each for the whole plane, that turn as they should.

    Parameters
    ----------
    fields
        The fields before.
    spec
        What is wanted: scalars, pseudoscalars, vectors, tensors.
    kernel_size, band, relaxation
        Of the convolution between them, as of `SteerableConv2d`.
    pool
        Whether to take the mean over space: a total force, a mean flow.

    Raises
    ------
    InputError
        When no steerable kernel of that size leads to the fields.
    """

    def __init__(
        self,
        fields: FieldType,
        spec: FieldSpec,
        kernel_size: int = 1,
        *,
        band: Band = "auto",
        relaxation: Relaxation = STRICT,
        pool: bool = False,
    ) -> None:
        super().__init__()
        self.in_type = fields
        self.out_type: FieldType = field_type(spec, fields.gspace)
        self.pool = pool
        self.convolution: SteerableConv2d = SteerableConv2d(
            fields, self.out_type, kernel_size, band=band, relaxation=relaxation
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, x, y)`` to ``(B, C_out, x, y)``, or ``(B, C_out)`` if pooled."""
        out = self.convolution(x)
        return out.mean((2, 3)) if self.pool else out
