"""Laws of initial states of the rigid body, as values.

A law draws all that a body may have, in the order of `FIELDS`; a body picks its own
fields (`RigidBody.sample_initial`). Bodies with and without a term are paired then. An
own array holds the body's own fields alone, whose channels its `FieldSpec` names.
"""

import math
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Documented
from pydantic import model_validator

from pde_sym.arrays import ArrayFile
from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec, Rank
from pde_sym.grid import PeriodicGrid
from pde_sym.initial_conditions import InitialLaw

Array = NDArray[np.float64]

ANGULAR_MOMENTUM = "M L^2 / T"
FIELDS = FieldSpec.of(
    Field(
        name="angular_momentum", rank=Rank.VECTOR, unit=ANGULAR_MOMENTUM, components=3
    ),
    Field(name="gravity_direction", rank=Rank.VECTOR, components=3),
    Field(name="attitude", rank=Rank.TENSOR, components=9),
    *(Field(name=f"phase_{part}") for part in ("cos", "sin")),
)
"""Pi and Gamma in the body frame, the rotation matrix R from the body to space, row
after row, and the phase of the modulation."""
EXACTNESS = 1e-6
"""How far an own attitude may be from a rotation: single precision is near enough."""


class RandomSpin(InitialLaw):
    """A body turned and spun at random: invariant under rotations of body and space.

    Pi has uniform direction and uniform size; the attitude is uniform on SO(3) and the
    vertical in the body frame is that of the attitude. A modulation starts at phase 0.
    """

    kind: Literal["random_spin"] = "random_spin"
    smallest: float = Documented(default=0.8, ge=0.0, le=1e6)
    """Least size of the angular momentum."""
    largest: float = Documented(default=1.2, ge=0.0, le=1e6)
    """Largest size of the angular momentum."""
    field: ArrayFile | None = None
    """Own initial states, (channels) for all or (n, channels): trajectory i has number
    i. Of the body's fields, in their order; see `own_state`."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.largest < self.smallest:
            raise ValueError(
                f"largest={self.largest} is below smallest={self.smallest}"
            )
        return self

    def sample(
        self,
        grid: PeriodicGrid,
        generator: np.random.Generator,
        index: int = 0,
    ) -> Array:
        """Draw a state ``(channels, 1, 1, 1)`` of all `FIELDS`."""
        if self.field is not None:
            return own_state(self.field.values(), FIELDS, grid, index)
        momentum = _unit(generator, 3)
        momentum *= generator.uniform(self.smallest, self.largest)
        return _state(momentum, _unit(generator, 4), grid)


class NearAxis(InitialLaw):
    """A body that spins nearly about one of its axes.

    ``Pi = size (cos(tilt) e + sin(tilt) n)`` with n a uniform direction across the axis
    e; about the middle axis the body flips (the tennis racket).
    """

    kind: Literal["near_axis"] = "near_axis"
    axis: Literal[1, 2, 3] = 2
    """The axis e."""
    size: float = Documented(default=1.0, gt=0.0, le=1e6)
    """Size of the angular momentum."""
    tilt: float = Documented(default=1.0, ge=0.0, le=90.0)
    """Angle between Pi and the axis, in degrees."""

    def sample(
        self,
        grid: PeriodicGrid,
        generator: np.random.Generator,
        index: int = 0,  # noqa: ARG002
    ) -> Array:
        """Draw a state ``(channels, 1, 1, 1)`` of all `FIELDS`."""
        angle = generator.uniform(0.0, 2 * math.pi)
        tilt = math.radians(self.tilt)
        along, across = math.cos(tilt), math.sin(tilt)
        momentum = self.size * np.array(
            [along, across * math.cos(angle), across * math.sin(angle)]
        )
        return _state(np.roll(momentum, self.axis - 1), _unit(generator, 4), grid)


def _unit(generator: np.random.Generator, size: int) -> Array:
    """Draw a uniform point of the sphere."""
    normal = generator.standard_normal(size)
    return normal / np.linalg.norm(normal)


def _state(momentum: Array, quaternion: Array, grid: PeriodicGrid) -> Array:
    """Return all `FIELDS`, ``(channels, 1, 1, 1)``, of a body whose attitude is given.

    The vertical in the body frame is the third row of R: ``R^T e_z``.
    """
    import torch  # slow to import

    from pde_sym.systems.rigid_body_rotations import matrix_of

    attitude = matrix_of(torch.from_numpy(quaternion)).numpy()
    columns = np.concatenate([momentum, attitude[2], attitude.ravel(), [1.0, 0.0]])
    return columns.reshape(FIELDS.num_channels, *grid.shape)


def own_state(values: Array, spec: FieldSpec, grid: PeriodicGrid, index: int) -> Array:
    """Return a state ``(channels, 1, 1, 1)`` out of an own array.

    The direction of gravity and the phase may have any length above 0, and an attitude
    is replaced by the nearest rotation. Where a state has both, the direction of
    gravity must be that of the attitude, ``R^T e_z``.

    Raises
    ------
    InputError
        When the array does not fit the fields or the trajectory, or when a field of the
        state is not what it claims.
    """
    number = spec.num_channels
    stack = values[None] if values.ndim == 1 else values
    if stack.ndim != 2 or stack.shape[1] != number:
        raise InputError(
            f"initial.field: expected shape ({number},) or (n, {number}), the channels "
            f"{', '.join(spec.channel_names)}, got {values.shape}"
        )
    if values.ndim == 2 and index >= len(stack):
        raise InputError(
            f"initial.field: trajectory {index} asked for, the file has {len(stack)}"
        )
    state, where = stack[min(index, len(stack) - 1)].copy(), spec.slices()
    vertical, phase = where.get("gravity_direction"), where.get("phase_cos")
    if vertical is not None:
        state[vertical] = _direction(state[vertical], "gravity_direction", index)
    if phase is not None:
        both = slice(phase.start, phase.start + 2)
        state[both] = _direction(state[both], "(phase_cos, phase_sin)", index)
    if "attitude" in where:
        turn = _rotation(state[where["attitude"]].reshape(3, 3), index)
        state[where["attitude"]] = turn.ravel()
        if vertical is not None:
            if np.abs(state[vertical] - turn[2]).max() > EXACTNESS:
                raise InputError(
                    f"initial.field: trajectory {index}: expected gravity_direction "
                    "along the third row of the attitude, the vertical seen by the "
                    f"body, got {state[vertical]}"
                )
            state[vertical] = turn[2]
    return state.reshape(number, *grid.shape)


def _direction(vector: Array, name: str, index: int) -> Array:
    """Return the vector at length 1."""
    largest = np.abs(vector).max()
    if not largest > 0:
        raise InputError(
            f"initial.field: trajectory {index}: {name} needs a length above 0"
        )
    vector = vector / largest  # so that no square overflows
    return vector / np.linalg.norm(vector)


def _rotation(turn: Array, index: int) -> Array:
    """Return the nearest rotation to a matrix that nearly is one."""
    import torch  # slow to import

    from pde_sym.systems.rigid_body_rotations import matrix_of, quaternion_of

    with np.errstate(over="ignore", invalid="ignore"):
        missed = float(np.abs(turn @ turn.T - np.eye(3)).max())
        volume = float(np.linalg.det(turn))
    if not (missed <= EXACTNESS and volume > 0):
        raise InputError(
            f"initial.field: trajectory {index}: expected the rows of a rotation "
            f"matrix as attitude, got the determinant {volume:.3g} and R R^T - 1 of up "
            f"to {missed:.2g}"
        )
    return matrix_of(quaternion_of(torch.from_numpy(turn))).numpy()
