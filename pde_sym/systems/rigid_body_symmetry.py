"""Rotations of body and space: the group of the rigid body, and how it acts.

A rotation Q of the body renames its axes: ``Pi -> Q Pi``, ``Gamma -> Q Gamma``,
``R -> R Q^T``. A rotation S of space moves the body: ``R -> S R``, while the vertical
``e_z = R Gamma`` stays where it is: ``Gamma -> Gamma + R^T (S^T - 1) e_z``.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import NDArray

from pde_sym.errors import InputError
from pde_sym.fields import FieldSpec

if TYPE_CHECKING:  # torch is slow to import
    from torch import Tensor

Array = NDArray[np.float64]
Vector = tuple[float, float, float]

AXES: tuple[Vector, ...] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
"""The principal axes."""


@dataclass(frozen=True)
class Rotation:
    """A rotation of the body or of space by an angle about an axis.

    Parameters
    ----------
    of
        What is rotated.
    axis
        Axis, of any length above 0, in the frame of what is rotated.
    angle
        In degrees, counterclockwise.
    """

    of: Literal["body", "space"]
    axis: Vector
    angle: float

    @property
    def name(self) -> str:
        """For instance ``body, 180 about (1, 0, 0)``."""
        x, y, z = (f"{component:.3g}" for component in self.axis)
        return f"{self.of}, {self.angle:g} about ({x}, {y}, {z})"

    def inverse(self) -> Self:
        return type(self)(self.of, self.axis, -self.angle)

    @property
    def matrix(self) -> Array:
        """``1 + sin hat(n) + (1 - cos) hat(n)^2``, ``(3, 3)``; half turns are exact."""
        turned = math.remainder(self.angle, 360.0)
        cos = math.cos(math.radians(turned))
        sin = 0.0 if abs(turned) == 180.0 else math.sin(math.radians(turned))
        x, y, z = (component / math.hypot(*self.axis) for component in self.axis)
        cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
        return np.eye(3) + sin * cross + (1 - cos) * cross @ cross


@dataclass(frozen=True)
class BodySymmetry:
    """The rotations of body and of space that commute with the motion.

    A rotation of the body survives when it fixes the inertia tensor and the vectors
    that are attached to the body; a rotation of space survives when it fixes the
    vertical, if there is one. (A rotation of the body that turns the centre of mass
    round survives too if Gamma changes sign with it; it is no member.)

    Parameters
    ----------
    inertias
        Principal moments that must be fixed, one triple or several.
    vectors
        Vectors fixed in the body: rotor, torque, centre of mass.
    vertical
        Whether space has a direction, the third axis.
    """

    inertias: tuple[Vector, ...]
    vectors: tuple[Vector, ...] = ()
    vertical: bool = False

    def __and__(self, other: "BodySymmetry") -> "BodySymmetry":
        return BodySymmetry(
            tuple(dict.fromkeys(self.inertias + other.inertias)),
            tuple(dict.fromkeys(self.vectors + other.vectors)),
            self.vertical or other.vertical,
        )

    def __contains__(self, rotation: Rotation) -> bool:
        turn = rotation.matrix
        if rotation.of == "space":
            return not self.vertical or _close(turn[:, 2], np.eye(3)[2])
        return all(
            _close(turn @ np.diag(i) @ turn.T, np.diag(i)) for i in self.inertias
        ) and all(_close(turn @ np.array(v), np.array(v)) for v in self.vectors)

    @property
    def space(self) -> str:
        """``SO(3)``, or ``SO(2)`` about the vertical."""
        return "SO(2)" if self.vertical else "SO(3)"

    @property
    def body(self) -> str:
        """``SO(3)``, ``O(2)``, ``SO(2)``, ``D2``, ``C2`` or ``C1``, with its axis."""
        if all(Rotation("body", axis, 57.0) in self for axis in AXES):
            return "SO(3)"
        half_turns = [a for a in AXES if Rotation("body", a, 180.0) in self]
        for axis in (*AXES, *self.vectors):
            if Rotation("body", axis, 57.0) in self:
                circle = "O(2)" if len(half_turns) == 3 else "SO(2)"
                return f"{circle} about {_shown(axis)}"
        if len(half_turns) == 3:
            return "D2"
        for axis in (*AXES, *self.vectors):
            if Rotation("body", axis, 180.0) in self:
                return f"C2 about {_shown(axis)}"
        return "C1"

    @property
    def name(self) -> str:
        """For instance ``SO(3) of space x D2 of the body``."""
        return f"{self.space} of space x {self.body} of the body"


def _close(a: Array, b: Array) -> bool:
    return bool(np.allclose(a, b, rtol=0, atol=1e-9 * float(np.abs(b).max())))


def _shown(axis: Vector) -> str:
    if axis in AXES:
        return f"axis {AXES.index(axis) + 1}"
    return f"({', '.join(f'{component:.3g}' for component in axis)})"


BODY_PROBES = (
    *(Rotation("body", axis, 180.0) for axis in AXES),
    *(Rotation("body", axis, 40.0) for axis in AXES),
)
SPACE_PROBES = (
    Rotation("space", (1.0, 0.0, 0.0), 180.0),
    Rotation("space", (1.0, 2.0, 2.0), 40.0),
    Rotation("space", (0.0, 0.0, 1.0), 40.0),
)
PROBES = BODY_PROBES + SPACE_PROBES
"""What defects are measured under, the counterpart of `diagnostics.probes`."""


@dataclass(frozen=True)
class BodyAction:
    """The action of rotations on states of a rigid body.

    Parameters
    ----------
    spec
        The body's own fields.
    """

    spec: FieldSpec

    def __call__(self, rotation: Rotation, state: "Tensor") -> "Tensor":
        """Return the turned state, ``(batch, channels, 1, 1, 1)`` as the given one.

        Raises
        ------
        InputError
            When space is rotated off the vertical and the state has a vertical but no
            attitude: what the body sees of that depends on how it stands.
        """
        from pde_sym.systems.rigid_body_rotations import applied, product

        columns, where = state.flatten(1).clone(), self.spec.slices()
        turn = columns.new_tensor(rotation.matrix)
        vertical, attitude = where.get("gravity_direction"), where.get("attitude")
        if rotation.of == "body":
            for part in (where["angular_momentum"], vertical):
                if part is not None:
                    columns[:, part] = applied(turn, columns[:, part])
            if attitude is not None:
                before = columns[:, attitude].unflatten(1, (3, 3))
                columns[:, attitude] = product(before, turn.T).flatten(1)
        elif attitude is not None:
            before = columns[:, attitude].unflatten(1, (3, 3))
            if vertical is not None:
                # What Gamma = R^T e_z gains; nothing, bit for bit, about the vertical.
                gained = turn[2] - turn.new_tensor([0.0, 0.0, 1.0])
                columns[:, vertical] += applied(before.mT, gained)
            columns[:, attitude] = product(turn, before).flatten(1)
        elif vertical is not None and not _close(rotation.matrix[:, 2], np.eye(3)[2]):
            raise InputError(
                f"{rotation.name}: needs the attitude, ask for it with attitude=true"
            )
        return columns.reshape(state.shape)
