"""Laws of initial states of the rigid body, as values.

A law draws all that a body may have, in the order of `FIELDS`; a body picks its own
fields (`RigidBody.sample_initial`). Bodies with and without a term are paired then.
"""

import math
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Documented
from pydantic import model_validator

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
    *(Field(name=f"attitude_{part}") for part in "wxyz"),
    *(Field(name=f"phase_{part}") for part in ("cos", "sin")),
)
"""Pi and Gamma in the body frame, the attitude as a unit quaternion, scalar first, and
the phase of the modulation."""


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
        index: int = 0,  # noqa: ARG002
    ) -> Array:
        """Draw a state ``(channels, 1, 1, 1)`` of all `FIELDS`."""
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


def _state(momentum: Array, attitude: Array, grid: PeriodicGrid) -> Array:
    """Return all `FIELDS`, ``(channels, 1, 1, 1)``."""
    w, x, y, z = attitude
    # The third row of the rotation matrix: R^T e_z.
    vertical = [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]
    columns = np.concatenate([momentum, vertical, attitude, [1.0, 0.0]])
    return columns.reshape(FIELDS.num_channels, *grid.shape)
