"""The rotation head: fields of a body whose lengths a network cannot change."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec, Rank
from pde_sym.nn.layer import ScaledNetwork
from pde_sym.nn.so3_fields import ATTITUDE


def turning(vectors: Tensor, half: Tensor) -> Tensor:
    """Return ``exp(hat(omega)) v - v`` with ``omega = 2 arctan(|w|) w / |w|``.

    By Cayley's formula ``2 (w x v + w x (w x v)) / (1 + |w|^2)``: smooth, without the
    cancellation of a difference, and the length of v is kept exactly. It reaches every
    rotation by less than half a turn.

    Parameters
    ----------
    vectors, half
        v and w, each ``(..., 3)``.
    """
    half = half.expand_as(vectors)
    once = torch.linalg.cross(half, vectors)
    twice = torch.linalg.cross(half, once)
    return 2 * (once + twice) / (1 + half.square().sum(-1, keepdim=True))


def head_fields(state: FieldSpec, rotated: Sequence[str]) -> FieldSpec:
    """Return what a network under a `RotationHead` gives: a vector w per such field.

    Raises
    ------
    InputError
        When a name is no vector of the state and not the attitude.
    """
    able = [f.name for f in state if f.name == ATTITUDE or _is_vector(f)]
    for name in rotated:
        if name not in able:
            raise InputError(
                f"rotated field {name!r}: expected some of {', '.join(able) or 'none'},"
                " the vectors of 3 components and the attitude of the state"
            )
    return FieldSpec(
        fields=tuple(
            Field(name=f.name, rank=Rank.VECTOR, components=3)
            if f.name in rotated
            else f
            for f in state
        )
    )


class RotationHead(ScaledNetwork):
    """Some fields of the state are turned, the others get increments.

    ``v' = exp(hat(omega)) v`` (see `turning`) for a vector v, for instance the angular
    momentum, keeps ``|v|``; ``R' = R exp(hat(omega))^T`` keeps the attitude R a
    rotation. omega is what `net` gives; the head gives increments in their scale, as
    every network does. It is as equivariant as `net`, for omega turns with the body.

    Parameters
    ----------
    net
        Maps the inputs to increments of `head_fields`.
    state
        The fields of the state, which come first among the inputs.
    rotated
        Names of the fields that are turned.

    Raises
    ------
    InputError
        When a name is no vector of the state and not the attitude.
    """

    def __init__(self, net: nn.Module, state: FieldSpec, rotated: Sequence[str]):
        super().__init__()
        self.net = net
        self.state = state
        self.rotated: tuple[str, ...] = tuple(rotated)
        self.outputs: FieldSpec = head_fields(state, rotated)
        ones = torch.ones(state.num_channels, dtype=torch.float64)
        self.use_scales(ones, ones)

    def use_scales(self, std: Tensor, increment_std: Tensor) -> None:
        # Of one field all channels have the same.
        ratio = (increment_std / std).tolist()
        where = self.state.slices()
        self._steps = {name: ratio[where[name].start] for name in self.rotated}

    def forward(self, x: Tensor) -> Tensor:
        """Return increments, ``(B, C_state, *points) <- (B, C_in, *points)``."""
        before, given = self.state.slices(), self.outputs.slices()
        raw, increments = self.net(x), []
        for field in self.state:
            part = raw[:, given[field.name]]
            if field.name in self.rotated:
                old = x[:, before[field.name]].movedim(1, -1)
                vectors = old.unflatten(-1, (-1, 3))
                step = self._steps[field.name]
                half = (step / 2) * part.movedim(1, -1)[..., None, :]
                part = (turning(vectors, half) / step).flatten(-2).movedim(-1, 1)
            increments.append(part)
        return torch.cat(increments, 1)


def _is_vector(field: Field) -> bool:
    return field.rank is Rank.VECTOR and field.components == 3
