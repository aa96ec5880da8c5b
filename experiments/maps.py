"""Solver and surrogate as maps of the same test inputs, and the motions of these."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_gen.recipes import Recipe, read_recipe
from pde_sym.boosts import Boost, BoostAction
from pde_sym.config import canonical_json
from pde_sym.dataset import TrajectoryDataset
from pde_sym.diagnostics import Action, in_batches, semidirect
from pde_sym.nn import Surrogate
from pde_sym.simulate import Step
from pde_sym.symmetry import Group, GroupElement, point_group, shift_group

BATCH = 32
"""States that go through a map at once."""
MAX_INPUTS = 32
"""Test states on which defects and spectra are measured."""
LINE_SHIFTS = 8
MEMORY_BYTES = 64 << 20
"""Results that are kept of one solver."""
MEMORIES = 6
"""Solvers whose results are kept."""
BOOST = Boost(0.5)
"""The boost that defects of KdV are measured under, of the size of its states."""

Motion = Callable[[Any, Tensor], Tensor]
"""How motions act on states."""


@dataclass(frozen=True)
class Test:
    """The test data of a run: what every diagnostic reads.

    `states` is ``(trajectories, frames, channels, *points)`` in float32; `environment`
    is ``(trajectories, channels, *points)`` in float64; `is_given` says whether it
    moves with the state and is read by the model.
    """

    recipe: Recipe
    states: Tensor
    environment: Tensor
    is_given: bool
    dt: float

    @classmethod
    def read(cls, folder: Path) -> "Test":
        dataset = TrajectoryDataset(folder, "test", window=2)
        return cls(
            read_recipe(folder),
            dataset.load_all()["states"],
            dataset.load_environment(),
            len(dataset.given_fields) > 0,
            dataset.dt,
        )


@dataclass(frozen=True)
class Maps:
    """Solver and surrogate as maps of the same inputs.

    An input is a state, followed by the environment where that is given.
    """

    solver: Step
    model: Step
    inputs: Tensor
    after: Motion
    before: Motion


class Remembered:
    """A step that is not repeated for inputs that it has met: another model's turn.

    Solver and motions are the same for every model on the same data, and the solver
    takes most of an evaluation.
    """

    def __init__(self, step: Step) -> None:
        self.step = step
        self._results: dict[bytes, Tensor] = {}
        self._bytes = 0

    def __call__(self, states: Tensor) -> Tensor:
        values = states.contiguous().numpy()
        key = hashlib.sha256(values.tobytes() + str(values.shape).encode()).digest()
        if key in self._results:
            return self._results[key].clone()
        result = self.step(states)
        self._bytes += result.numel() * result.element_size()
        if self._bytes <= MEMORY_BYTES:
            self._results[key] = result.clone()
        return result


_memories: OrderedDict[str, Remembered] = OrderedDict()


def _remembered(test: Test, step: Step) -> Remembered:
    """Return `step` with what this process knows of the solver of these data."""
    surroundings = test.environment[:1].contiguous().numpy().tobytes()
    key = canonical_json(test.recipe) + hashlib.sha256(surroundings).hexdigest()
    if key not in _memories:
        _memories[key] = Remembered(step)
    _memories.move_to_end(key)
    while len(_memories) > MEMORIES:
        _memories.popitem(last=False)
    return _memories[key]


def make_maps(test: Test, surrogate: Surrogate) -> Maps:
    """Return solver and surrogate as maps of the same test inputs."""
    system, grid = test.recipe.dynamics, test.recipe.grid
    frames = (0, (test.states.shape[1] - 1) // 2)
    number = MAX_INPUTS // len(frames)
    states = torch.cat([test.states[:number, f] for f in frames])
    environment = torch.cat(len(frames) * [test.environment[:number]])
    channels = system.fields.prognostic().num_channels
    after, before = _actions(test)
    kept = system.fields.prognostic_channels

    def advance(u: Tensor, surroundings: Tensor) -> Tensor:
        phi = system.solver(grid, surroundings, test.dt)
        return phi(system.complete(u, grid))[:, kept]

    if not test.is_given:
        # One environment for all: it stays where it is when a state moves.
        return Maps(
            solver=_remembered(
                test, in_batches(lambda u: advance(u.double(), environment[:1]), BATCH)
            ),
            model=in_batches(lambda u: surrogate(u).double(), BATCH),
            inputs=states,
            after=after,
            before=after,
        )

    def solver(x: Tensor) -> Tensor:
        wide = x.double()
        return advance(wide[:, :channels], wide[:, channels:])

    def model(x: Tensor) -> Tensor:
        return surrogate(x[:, :channels], x[:, channels:]).double()

    return Maps(
        solver=_remembered(test, in_batches(solver, BATCH)),
        model=in_batches(model, BATCH),
        inputs=torch.cat([states, environment.float()], dim=1),
        after=after,
        before=before,
    )


def _actions(test: Test) -> tuple[Motion, Motion]:
    """Return how motions act on states, and on states with their environment."""
    system, grid = test.recipe.dynamics, test.recipe.grid
    spec = system.fields.prognostic()
    if grid.num_points > 1:
        return Action(spec, grid), Action(spec + system.environment_fields, grid)
    of_body = test.recipe.system.action(grid)

    def before(motion: Any, x: Tensor) -> Tensor:
        state, strengths = x.split(
            [spec.num_channels, x.shape[1] - spec.num_channels], 1
        )
        return torch.cat([of_body(motion, state), strengths], dim=1)

    return of_body, before


def boost_actions(test: Test, boost: float) -> tuple[BoostAction, BoostAction]:
    """Return how boosts act on states after a step, and on inputs before it.

    Parameters
    ----------
    boost
        Part of the box that a boost of 1 moves a state in one step.
    """
    spec, grid = test.recipe.dynamics.fields, test.recipe.grid
    return BoostAction(spec, grid, boost), BoostAction(spec, grid, 0.0)


def shifts_of(test: Test) -> Group | None:
    """Return the shifts whose modes are told apart; None for bodies."""
    grid = test.recipe.grid
    if grid.num_points == 1:
        return None
    if grid.num_axes == 1:
        return shift_group(LINE_SHIFTS if grid.shape[0] % LINE_SHIFTS == 0 else 2, 1)
    return shift_group(4 if grid.shape[0] % 4 == 0 else 2)


def strict_groups(test: Test) -> dict[str, Sequence[GroupElement]]:
    """Return the groups that strict models are strict under, by name."""
    shifts = shifts_of(test)
    if shifts is None:
        return {}
    if test.recipe.grid.num_axes == 1:
        return {"shifts": shifts.elements}
    return {
        name: semidirect(point_group(point), shifts)
        for name, point in (
            ("shifts", "C1"),
            ("shifts, C4", "C4"),
            ("shifts, D4", "D4"),
        )
    }
