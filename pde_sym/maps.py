"""Solver and model as maps of the same inputs, and the motions of these."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pde_sym.boosts import Boost, BoostAction
from pde_sym.config import canonical_json
from pde_sym.diagnostics import Action, in_batches, semidirect
from pde_sym.grid import WalledGrid
from pde_sym.samples import Samples
from pde_sym.simulate import Step
from pde_sym.symmetry import Group, GroupElement, point_group, shift_group
from pde_sym.systems.unknown import Unknown

BATCH = 32
"""States that go through a map at once."""
MAX_INPUTS = 32
"""States on which defects and spectra are measured."""
LINE_SHIFTS = 8
MEMORY_BYTES = 64 << 20
"""Results that are kept of one solver."""
MEMORIES = 6
"""Solvers whose results are kept."""
BOOST = Boost(0.5)
"""The boost that defects of KdV are measured under, of the size of its states."""

Motion = Callable[[Any, Tensor], Tensor]
"""How motions act on states."""
Model = Callable[..., Tensor]
"""A surrogate, or any function of a state ``(batch, channels, *points)``, and of the
given fields where there are any, that returns the state one frame later."""


@dataclass(frozen=True)
class Maps:
    """Solver and model as maps of the same inputs.

    An input is a state, followed by the environment where that is given; there is no
    solver of imported data.
    """

    solver: Step | None
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


_memories: OrderedDict[tuple[type, str], Remembered] = OrderedDict()


def _remembered(samples: Samples, step: Step) -> Remembered:
    """Return `step` with what this process knows of the solver of these data."""
    surroundings = samples.environment[:1].contiguous().numpy().tobytes()
    physics = {
        "system": samples.system.model_dump(mode="json"),
        "drawn": list(samples.given_fields.names),
        "grid": samples.grid.model_dump(mode="json"),
        "dt": samples.dt,
        "environment": hashlib.sha256(surroundings).hexdigest(),
    }
    # The class too: two of one name may have been defined one after the other.
    key = (type(samples.system), canonical_json(physics))
    if key not in _memories:
        _memories[key] = Remembered(step)
    _memories.move_to_end(key)
    while len(_memories) > MEMORIES:
        _memories.popitem(last=False)
    return _memories[key]


def _solver(samples: Samples, step: Step) -> Step | None:
    if isinstance(samples.system, Unknown):
        return None
    return _remembered(samples, in_batches(step, BATCH))


def make_maps(samples: Samples, predict: Model) -> Maps:
    """Return solver and model as maps of the same inputs."""
    system, grid = samples.dynamics, samples.grid
    frames = (0, (samples.states.shape[1] - 1) // 2)
    number = MAX_INPUTS // len(frames)
    states = torch.cat([samples.states[:number, f] for f in frames])
    environment = torch.cat(len(frames) * [samples.environment[:number]])
    channels = system.fields.prognostic().num_channels
    after, before = _actions(samples)
    kept = system.fields.prognostic_channels

    def advance(u: Tensor, surroundings: Tensor) -> Tensor:
        phi = system.solver(grid, surroundings, samples.dt)
        return phi(system.complete(u, grid))[:, kept]

    if not samples.is_given:
        # One environment for all: it stays where it is when a state moves.
        return Maps(
            solver=_solver(samples, lambda u: advance(u.double(), environment[:1])),
            model=in_batches(lambda u: predict(u).double(), BATCH),
            inputs=states,
            after=after,
            before=after,
        )

    def solver(x: Tensor) -> Tensor:
        wide = x.double()
        return advance(wide[:, :channels], wide[:, channels:])

    def model(x: Tensor) -> Tensor:
        return predict(x[:, :channels], x[:, channels:]).double()

    return Maps(
        solver=_solver(samples, solver),
        model=in_batches(model, BATCH),
        inputs=torch.cat([states, environment.float()], dim=1),
        after=after,
        before=before,
    )


def _actions(samples: Samples) -> tuple[Motion, Motion]:
    """Return how motions act on states, and on states with their environment."""
    system, grid = samples.dynamics, samples.grid
    spec = system.fields.prognostic()
    if grid.num_points > 1:
        return Action(spec, grid), Action(spec + system.environment_fields, grid)
    of_body = samples.system.action(grid)

    def before(motion: Any, x: Tensor) -> Tensor:
        state, strengths = x.split(
            [spec.num_channels, x.shape[1] - spec.num_channels], 1
        )
        return torch.cat([of_body(motion, state), strengths], dim=1)

    return of_body, before


def boost_actions(samples: Samples, boost: float) -> tuple[BoostAction, BoostAction]:
    """Return how boosts act on states after a step, and on inputs before it.

    Parameters
    ----------
    boost
        Part of the box that a boost of 1 moves a state in one step.
    """
    spec, grid = samples.dynamics.fields, samples.grid
    return BoostAction(spec, grid, boost), BoostAction(spec, grid, 0.0)


def shifts_of(samples: Samples) -> Group | None:
    """Return the shifts whose modes are told apart; None for bodies and in boxes."""
    grid = samples.grid
    if grid.num_points == 1 or isinstance(grid, WalledGrid):
        return None
    if grid.num_axes == 1:
        return shift_group(LINE_SHIFTS if grid.shape[0] % LINE_SHIFTS == 0 else 2, 1)
    return shift_group(4 if grid.shape[0] % 4 == 0 else 2)


def turns_of(samples: Samples) -> Group | None:
    """Return the turns and flips of a plane's box: D4, or D2 when it is no square."""
    if samples.grid.num_axes != 2:
        return None
    return point_group("D4" if samples.grid.is_square else "D2")


def strict_groups(samples: Samples) -> dict[str, Sequence[GroupElement]]:
    """Return the groups that strict models are strict under, by name."""
    if isinstance(samples.grid, WalledGrid):
        return {name: point_group(name).elements for name in ("C4", "D4")}
    shifts = shifts_of(samples)
    if shifts is None:
        return {}
    if samples.grid.num_axes == 1:
        return {"shifts": shifts.elements}
    return {
        name: semidirect(point_group(point), shifts)
        for name, point in (
            ("shifts", "C1"),
            ("shifts, C4", "C4"),
            ("shifts, D4", "D4"),
        )
    }
