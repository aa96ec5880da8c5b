"""What layers that act on one field at a time share."""

from collections.abc import Callable
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from pde_sym.nn._escnn import FieldType, Representation
from pde_sym.nn.field_types import irrep_blocks
from pde_sym.nn.periodic import check_map


class ConstantModule(nn.Module):
    """A module whose buffers follow it to a device and keep their precision.

    They are rebuilt by the constructor, never saved, and cast where they are used.
    """

    def keep(self, name: str, constant: Tensor | None) -> None:
        """Hold `constant` as a buffer that is not saved."""
        self.register_buffer(name, constant, persistent=False)

    def kept(self, name: str, like: Tensor) -> Tensor:
        """Return a constant in the precision of `like`."""
        return self.get_buffer(name).to(like.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # A cast to float32 and back must not cost the constants their precision.
        exact = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)
        for name, value in exact.items():
            self._buffers[name] = value.to(self.get_buffer(name).device)
        return self


def check_channels(x: Tensor, fields: FieldType) -> None:
    """Raise `InputError` unless `x` is ``(B, C, x, y)``, the channels of `fields`."""
    check_map(x, fields.size)


def channels_of_fields(fields: FieldType) -> Tensor:
    """Return the 0/1 matrix ``(fields, channels)`` of which channel is whose."""
    sizes = torch.tensor([rep.size for rep in fields.representations])
    owner = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    return nn.functional.one_hot(owner, len(sizes)).T.double()


def is_invariant(rep: Representation) -> bool:
    """Return whether the group leaves every component of the field as it is."""
    return all(rep.group.irrep(*irrep).is_trivial() for irrep in rep.irreps)


def invariant_directions(fields: FieldType) -> Tensor:
    """Return orthonormal columns ``(channels, n)`` that span what the group leaves."""
    blocks = []
    for rep in fields.representations:
        free = [b for b in irrep_blocks(rep) if b.irrep.is_trivial()]
        columns = free[0].columns[:, :, 0] if free else np.zeros((rep.size, 0))
        blocks.append(torch.from_numpy(columns))
    return torch.block_diag(*blocks)
