"""From the fields of a body to features of SO(3), and back."""

import math

import numpy as np
import torch
from torch import Tensor

from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec, Rank
from pde_sym.nn.so3 import HIGHEST, SO3Type, generators, traceless

ATTITUDE = "attitude"
"""The one matrix that is no tensor of the body: it leads from the body to space."""


class BodyFields:
    """How rotations Q of the body frame act on fields of a body.

    A scalar stays, a vector goes to ``Q v``, a tensor as the inertia to ``Q T Q^T``
    and the attitude R to ``R Q^T``: its rows are vectors in the body. A tensor is a
    number (its trace), a vector (its antisymmetric part) and a traceless matrix. The
    change of basis between channels and features is orthogonal.

    Parameters
    ----------
    spec
        The fields. A pseudoscalar counts as scalar: no reflection acts.

    Raises
    ------
    InputError
        When a vector has not 3 components or a tensor not 9.
    """

    def __init__(self, spec: FieldSpec) -> None:
        self.spec = spec
        rows: list[list[np.ndarray]] = [[] for _ in range(HIGHEST + 1)]
        for field, channels in zip(spec, spec.slices().values(), strict=True):
            for ell, features in _features(field):
                row = np.zeros((len(features), spec.num_channels))
                row[:, channels] = features
                rows[ell].append(row)
        self.type: SO3Type = SO3Type((len(rows[0]), len(rows[1]), len(rows[2])))
        """The features that the channels are."""
        self._basis = torch.from_numpy(np.concatenate([r for of in rows for r in of]))

    def features(self, channels: Tensor) -> Tensor:
        """Return features of channels, ``(..., size) <- (..., num_channels)``."""
        return channels @ self._basis.to(channels).T

    def channels(self, features: Tensor) -> Tensor:
        """Return channels of features, the inverse of `features`."""
        return features @ self._basis.to(features)

    def turn(self, rotation: Tensor, channels: Tensor) -> Tensor:
        """Return channels ``(..., num_channels)`` after rotations ``(..., 3, 3)``.

        Leading axes of both are broadcast together.
        """
        return self.channels(self.type.turn(rotation, self.features(channels)))


def _features(field: Field) -> list[tuple[int, np.ndarray]]:
    """Return l and rows ``(2 l + 1, components)`` of each feature of a field."""
    if field.rank in (Rank.SCALAR, Rank.PSEUDOSCALAR):
        return [(0, row[None]) for row in np.eye(field.components)]
    wanted = 3 if field.rank is Rank.VECTOR else 9
    if field.components != wanted:
        raise InputError(
            f"field {field.name!r}: rotations of a body act on a {field.rank.value} of "
            f"{wanted} components, got {field.components}"
        )
    if field.rank is Rank.VECTOR:
        return [(1, np.eye(3))]
    if field.name == ATTITUDE:
        return [(1, rows) for rows in np.eye(9).reshape(3, 3, 9)]
    parts = [
        np.eye(3)[None] / math.sqrt(3),
        generators(1) / math.sqrt(2),
        traceless(),
    ]
    return [(ell, part.reshape(-1, 9)) for ell, part in enumerate(parts)]
