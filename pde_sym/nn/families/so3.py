"""Networks for a rigid body: equivariant under rotations of its frame, or free."""

import itertools
from abc import abstractmethod
from typing import ClassVar, Literal, Self

import torch
from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from torch import Tensor, nn
from typing_extensions import override

from pde_sym.fields import Field as StateField
from pde_sym.fields import FieldSpec, Rank
from pde_sym.nn.families.base import Family, Task
from pde_sym.nn.so3 import SO3Type, named_parts
from pde_sym.nn.so3_head import RotationHead, head_fields
from pde_sym.nn.so3_network import SO3Network

_Vector = tuple[float, float, float]


class BodyFamily(Family):
    """Families of networks for bodies, which are points.

    Parameters
    ----------
    depth
        Number of linear layers.
    rotated
        Fields that are turned instead of changed, so that their length is kept
        exactly: ``angular_momentum``, ``gravity_direction``, ``attitude``.
    """

    axes: ClassVar[tuple[int, ...]] = (0,)
    depth: int = Field(default=4, ge=1)
    rotated: tuple[str, ...] = ()

    @abstractmethod
    def _network(self, inputs: FieldSpec, outputs: FieldSpec) -> nn.Module:
        """Return a network ``(B, C_in, *points) -> (B, C_out, *points)``."""

    def _build(self, task: Task) -> nn.Module:
        net = self._network(task.inputs, head_fields(task.state, self.rotated))
        return RotationHead(net, task.state, self.rotated) if self.rotated else net


class SO3Family(BodyFamily):
    """Networks of numbers, vectors and tensors in the frame of the body.

    Each layer but the last is followed by a product: the step of a body that reads its
    inertia, a series ``Pi x I^-1 Pi + ..``, needs three of them, a depth of 4.

    Parameters
    ----------
    width
        Copies of number, vector and tensor in each half of a product.
    inertia
        Principal moments that the network reads, by the tensor ``I^-1`` over a third
        of its trace; None hides them.
    directions
        Vectors fixed in the body that it reads, for instance to the centre of mass.
    """

    group: ClassVar[str] = "SO(3)"
    width: PositiveInt = 8
    inertia: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    directions: tuple[_Vector, ...] = ()

    @abstractmethod
    def relaxation(self) -> tuple[tuple[str, ...], bool]:
        """Return the parts that the layers learn, and whether they are modulated."""

    @property
    def order(self) -> SO3Type | None:
        """Features of the body that are learned: none."""
        return None

    @property
    def attached(self) -> tuple[FieldSpec, Tensor] | None:
        """What is fixed in the body and read: fields and values per channel."""
        fields: list[StateField] = []
        values: list[Tensor] = []
        if self.inertia is not None:
            inverse = torch.tensor(self.inertia, dtype=torch.float64).reciprocal()
            fields.append(
                StateField(name="inverse_inertia", rank=Rank.TENSOR, components=9)
            )
            values.append(torch.diag(inverse / inverse.mean()).flatten())
        for number, direction in enumerate(self.directions, 1):
            fields.append(
                StateField(name=f"axis_{number}", rank=Rank.VECTOR, components=3)
            )
            values.append(torch.tensor(direction, dtype=torch.float64))
        return (FieldSpec.of(*fields), torch.cat(values)) if fields else None

    @override
    def _network(self, inputs: FieldSpec, outputs: FieldSpec) -> nn.Module:
        parts, modulated = self.relaxation()
        return SO3Network(
            inputs,
            outputs,
            self.width,
            self.depth,
            parts=parts,
            modulated=modulated,
            attached=self.attached,
            hidden=self.order,
        )


class SO3Config(SO3Family):
    """Exactly equivariant under rotations of the body, with all that is attached."""

    kind: Literal["so3"] = "so3"

    @override
    def relaxation(self) -> tuple[tuple[str, ...], bool]:
        return (), False


class SO3IsotypicConfig(SO3Family):
    """Equivariant layers plus learned maps of other irreps: what the body hides.

    Parameters
    ----------
    parts
        Irreps to learn: a hidden axis is ``l1``, a hidden inertia ``l2``.
    modulated
        Whether the strict maps get learned factors per component of a feature,
        instead of parts when `parts` is empty, or beside them.
    """

    kind: Literal["so3_isotypic"] = "so3_isotypic"
    parts: tuple[str, ...] = ("l1", "l2")
    modulated: bool = False

    @model_validator(mode="after")
    def _parts_exist(self) -> Self:
        named_parts(self.parts)
        return self

    @override
    def relaxation(self) -> tuple[tuple[str, ...], bool]:
        return self.parts, self.modulated


class SO3HiddenConfig(SO3Family):
    """Equivariant with all that is attached, and with learned vectors and tensors.

    The least that a body can be relaxed by: it has the width of a strict network, and
    is one until data say that something is hidden; see `OrderParameters`.

    Parameters
    ----------
    vectors
        Learned vectors; a hidden axis is one.
    tensors
        Learned symmetric traceless tensors; a hidden moment of inertia is one.
    """

    kind: Literal["so3_hidden"] = "so3_hidden"
    vectors: NonNegativeInt = 1
    tensors: NonNegativeInt = 1

    @model_validator(mode="after")
    def _something_is_learned(self) -> Self:
        if not self.vectors + self.tensors:
            raise ValueError(
                "vectors = 0 and tensors = 0: nothing is hidden; expected one, or so3"
            )
        return self

    @override
    def relaxation(self) -> tuple[tuple[str, ...], bool]:
        return (), False

    @property
    @override
    def order(self) -> SO3Type:
        return SO3Type((0, self.vectors, self.tensors))


class MLP(nn.Module):
    """A free network of the channels at each point, with GELU between its layers."""

    def __init__(self, channels_in: int, channels_out: int, width: int, depth: int):
        super().__init__()
        sizes = [channels_in, *(depth - 1) * [width], channels_out]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(sizes):
            if layers:
                layers.append(nn.GELU())
            layers.append(nn.Linear(before, after))
        self.layers: nn.Sequential = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C_in, *points)`` to ``(B, C_out, *points)``."""
        return self.layers(x.movedim(1, -1)).movedim(-1, 1)


class MLPConfig(BodyFamily):
    """A free network of dense layers, for bodies.

    Parameters
    ----------
    width
        Hidden channels.
    """

    kind: Literal["mlp"] = "mlp"
    width: PositiveInt = 64

    @override
    def _network(self, inputs: FieldSpec, outputs: FieldSpec) -> nn.Module:
        return MLP(inputs.num_channels, outputs.num_channels, self.width, self.depth)
