"""Random motions of training data, and what a network may be charged for not following.

Everything is drawn from a pure function of (seed, update, purpose), so that a run that
was stopped goes on with the motions that it would have had.
"""

from abc import abstractmethod
from collections.abc import Sequence
from enum import IntEnum
from typing import Literal, Self

import numpy as np
import torch
from pydantic import PositiveFloat, model_validator
from torch import Tensor

from pde_sym.config import Frozen
from pde_sym.errors import InputError
from pde_sym.fields import FieldSpec
from pde_sym.grid import PeriodicGrid, WalledGrid
from pde_sym.nn.families.base import Task
from pde_sym.nn.surrogate import Surrogate
from pde_sym.ranks import ALONE, Ranks
from pde_sym.symmetry import GroupElement, act, point_group


class Purpose(IntEnum):
    """What the random numbers of an update are for."""

    AUGMENTATION = 0
    PENALTY = 1


def draws(seed: int, update: int, purpose: Purpose) -> np.random.Generator:
    """Return the random numbers of one update of a training, for one purpose."""
    sequence = np.random.SeedSequence(seed, spawn_key=(update, int(purpose)))
    return np.random.Generator(np.random.Philox(sequence))


class Motions(Frozen):
    """Motions of the torus that only permute grid points, drawn with equal chances.

    Parameters
    ----------
    group
        Turns and flips: C1, C2, C4, D1, D2 or D4. A line has none but C1.
    shifts
        Whether to shift as well, by any whole number of grid steps on each axis.
    """

    group: Literal["C1", "C2", "C4", "D1", "D2", "D4"] = "D4"
    shifts: bool = True

    @model_validator(mode="after")
    def _moves_something(self) -> Self:
        if self.group == "C1" and not self.shifts:
            raise ValueError("group C1 without shifts holds the identity alone")
        return self

    def check(self, task: Task) -> None:
        """Raise `InputError` when the fields of `task` cannot carry these motions."""
        if task.num_axes == 0:
            raise InputError(
                f"group {self.group}: turns, flips and shifts move fields in space; "
                "a body has no axes"
            )
        if task.num_axes == 1 and self.group != "C1":
            raise InputError(
                f"group {self.group}: a line has shifts alone, expected group C1"
            )
        if task.walls is not None and self.shifts:
            raise InputError(
                f"group {self.group} with shifts: there are none between walls; "
                "expected shifts = false"
            )
        for field in task.inputs:
            order = field.rank.tensor_order
            if self.group != "C1" and order and field.components != 2**order:
                raise InputError(
                    f"group {self.group}: a turn acts on a {field.rank.value} of "
                    f"{2**order} components, field {field.name!r} has "
                    f"{field.components}; expected group C1"
                )

    def draw(
        self, rng: np.random.Generator, count: int, shape: Sequence[int]
    ) -> list[GroupElement]:
        """Draw `count` motions of a grid of `shape`."""
        elements = point_group(self.group).elements
        chosen = [elements[i] for i in rng.integers(len(elements), size=count)]
        if not self.shifts:
            return chosen
        steps = rng.integers(shape, size=(count, len(shape))) / np.asarray(shape)
        whole = np.pad(steps, ((0, 0), (0, 2 - len(shape))))
        return [
            GroupElement(element.turns, element.flip, (x, y))
            for element, (x, y) in zip(chosen, whole.tolist(), strict=True)
        ]


def move(
    elements: Sequence[GroupElement], values: Tensor, spec: FieldSpec, task: Task
) -> Tensor:
    """Return ``g_b values_b`` for each sample b of ``(B, ..., C, *points)``.

    Of the task only the axes and the walls count. The grid has as many points per
    length on every axis: a quarter turn of a square grid is one of a square box.

    Raises
    ------
    InputError
        When a quarter turn meets a grid that is not square, and as `act` does.
    """
    shape = tuple(values.shape[-task.num_axes :])
    kind = PeriodicGrid if task.walls is None else WalledGrid
    grid = kind(shape=shape, lengths=tuple(map(float, shape)))
    pairs = zip(elements, values, strict=True)
    return torch.stack([act(element, sample, spec, grid) for element, sample in pairs])


class Augmentation(Frozen):
    """A way to make other training windows of those that are stored."""

    kind: str

    @abstractmethod
    def check(self, task: Task) -> None:
        """Raise `InputError` when the fields of `task` cannot be changed this way."""

    def frames(self, window: int) -> int:
        """Return the stored frames that a window of so many is made of."""
        return window

    @abstractmethod
    def __call__(
        self,
        states: Tensor,
        given: Tensor | None,
        task: Task,
        rng: np.random.Generator,
    ) -> tuple[Tensor, Tensor | None]:
        """Return changed ``(B, window, C, *points)`` and ``(B, C_given, *points)``.

        The windows that go in have `frames` of them.
        """


class GroupAugmentation(Motions, Augmentation):
    """Whole windows, given fields included, each moved by one random motion."""

    kind: Literal["group"] = "group"

    def __call__(
        self,
        states: Tensor,
        given: Tensor | None,
        task: Task,
        rng: np.random.Generator,
    ) -> tuple[Tensor, Tensor | None]:
        elements = self.draw(rng, len(states), states.shape[-task.num_axes :])
        moved = move(elements, states, task.state, task)
        if given is None or task.given is None:
            return moved, given
        return moved, move(elements, given, task.given, task)


class EquivariancePenalty(Motions):
    """A charge on the defect of the network itself, with one motion per sample.

    ``E ||f(g x) - g f(x)||^2 / E ||f(x)||^2`` of the normalised increment f; x is the
    first frame of a window and its given fields. The size has a gradient too: without
    it a network escapes the charge by predicting nothing, with it by symmetry alone.
    REMUL with constant weights, made relative: Elhag, Rusch, Di Giovanni and Bronstein
    2024, Relaxed Equivariance via Multitask Learning (arXiv 2410.17878).

    Parameters
    ----------
    weight
        Factor on it in the loss, beta of the paper. The loss of a step that changes
        little is small from the start: 1 would be all that counts.
    """

    weight: PositiveFloat = 0.01

    def __call__(
        self,
        surrogate: Surrogate,
        state: Tensor,
        given: Tensor | None,
        rng: np.random.Generator,
        ranks: Ranks = ALONE,
    ) -> Tensor:
        """Return the defect of ``(B, C, *points)`` and given fields, without weight.

        Each rank measures its share of the samples; the means are over all of them.
        """
        task, mine = surrogate.task, ranks.share(len(state))
        elements = self.draw(rng, len(state), state.shape[-task.num_axes :])[mine]
        state, given = state[mine], None if given is None else given[mine]
        moved = None
        if given is not None and task.given is not None:
            moved = move(elements, given, task.given, task)
        out = surrogate.normalised_increment(state, given)
        turned_before = surrogate.normalised_increment(
            move(elements, state, task.state, task), moved
        )
        turned_after = move(elements, out, task.state, task)
        size = ranks.mean(out.square()).clamp_min(torch.finfo(out.dtype).tiny)
        return ranks.mean((turned_before - turned_after).square()) / size
