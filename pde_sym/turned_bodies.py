"""Other motions of a body made of stored ones by renaming the axes of its frame.

``Pi -> Q Pi``, ``Gamma -> Q Gamma``, ``R -> R Q^T`` is a motion again when Q fixes the
inertia and what is attached to the body (Marsden and Ratiu 1999, Introduction to
Mechanics and Symmetry, sections 1.4 and 15.7).
"""

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pde_sym.augmentation import Augmentation
from pde_sym.errors import InputError
from pde_sym.nn.families.base import Task
from pde_sym.systems.rigid_body_symmetry import AXES, BodyAction, Rotation

BODY_FIELD = "angular_momentum"


class FrameAugmentation(Augmentation):
    """Windows of a body, each in a frame that is turned by one random rotation.

    Parameters
    ----------
    group
        D2: the identity and the half turns about the three principal axes, with equal
        chances, which every inertia keeps. O(2): turns by any angle about the third
        axis and half turns about any axis across it, which are kept where the first two
        moments are equal. Whether the body has that symmetry is not asked.
    """

    kind: Literal["frame"] = "frame"
    group: Literal["D2", "O(2)"] = "D2"

    def check(self, task: Task) -> None:
        """Raise `InputError` when there is no body, or something else is given."""
        if BODY_FIELD not in task.state.slices():
            raise InputError(
                f"kind frame: turns the frame of a body, expected a state with "
                f"{BODY_FIELD}, got {', '.join(task.state.slices())}"
            )
        if task.given is not None:
            raise InputError(
                "kind frame: how given fields turn with the body is not known, got "
                f"{', '.join(task.given.slices())}"
            )

    def draw(self, rng: np.random.Generator, count: int) -> list[Rotation]:
        """Draw `count` rotations of the body."""
        chance = rng.uniform(size=(count, 2))
        return [self._rotation(*pair) for pair in chance.tolist()]

    def _rotation(self, which: float, angle: float) -> Rotation:
        if self.group == "D2":
            choice = int(4 * which)
            return Rotation("body", AXES[choice % 3], 180.0 if choice < 3 else 0.0)
        if which < 0.5:
            return Rotation("body", AXES[2], 360.0 * angle)
        across = math.pi * angle
        return Rotation("body", (math.cos(across), math.sin(across), 0.0), 180.0)

    def __call__(
        self,
        states: Tensor,
        given: Tensor | None,
        task: Task,
        rng: np.random.Generator,
    ) -> tuple[Tensor, Tensor | None]:
        turned = BodyAction(task.state)
        pairs = zip(self.draw(rng, len(states)), states, strict=True)
        moved = torch.stack([turned(rotation, window) for rotation, window in pairs])
        return moved, given
