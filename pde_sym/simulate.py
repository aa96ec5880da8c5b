"""The only time loop: the same for a solver and for a surrogate."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pde_sym.errors import LostTrajectoryError, SimulationError
from pde_sym.grid import PeriodicGrid
from pde_sym.systems.base import Budget, check_finite
from pde_sym.systems.ensemble import Dynamics

Step = Callable[[Tensor], Tensor]
"""Maps a state ``(batch, channels, x, y)`` to the state one frame later."""


def frames(step: Step, state: Tensor, num_steps: int) -> Iterator[Tensor]:
    """Yield the state after 0, 1, .., `num_steps` steps.

    Raises
    ------
    SimulationError
        When a state is not finite; it names step and trajectory.
    """
    yield state
    for number in range(1, num_steps + 1):
        state = step(state)
        finite = state.isfinite().flatten(1).all(dim=1)
        if not finite.all():
            lost = finite.logical_not().nonzero()[0].item()
            raise SimulationError(
                f"trajectory {lost} is not finite at step {number} of {num_steps}"
            )
        yield state


def rollout(step: Step, state: Tensor, num_steps: int) -> Tensor:
    """Return the frames stacked along time, ``(batch, num_steps + 1, ..)``."""
    return torch.stack(list(frames(step, state, num_steps)), dim=1)


@dataclass(frozen=True)
class Trajectories:
    """A batch of simulated trajectories.

    Parameters
    ----------
    states
        ``(batch, frames, channels, x, y)``.
    invariants
        Each invariant per trajectory and frame, ``(batch, frames)``.
    budgets
        The change since frame 0 that the closed forms explain, ``(batch, frames)``.
    """

    states: Tensor
    invariants: Budget
    budgets: Budget

    def cpu(self) -> "Trajectories":
        """Return the same in main memory."""
        moved = (
            {name: values.cpu() for name, values in series.items()}
            for series in (self.invariants, self.budgets)
        )
        return Trajectories(self.states.cpu(), *moved)


def simulate(
    system: Dynamics,
    grid: PeriodicGrid,
    initial: Tensor,
    environment: Tensor,
    *,
    dt: float,
    num_frames: int,
    refinement: int = 1,
) -> Trajectories:
    """Integrate `system` from ``initial`` and measure its invariants at each frame.

    With a `refinement` the solver's own steps are that many times finer.

    Raises
    ------
    LostTrajectoryError
        When some do not reach a frame; it says which, at what step, time and field.
    """
    solver = system.solver(grid, environment, dt, refinement)
    changes: list[Budget] = []

    def step(state: Tensor) -> Tensor:
        reached = len(changes)
        try:
            following, change = solver.step(state)
            check_finite(following, system.fields, dt)
        except LostTrajectoryError as error:
            raise error.since_start(reached + 1, reached * dt) from error
        changes.append(change)
        return following

    states = rollout(step, initial, num_frames - 1)
    measured = [system.measure(u, grid, environment) for u in states.unbind(dim=1)]
    names = [invariant.name for invariant in system.invariants]
    start = torch.zeros_like(measured[0][names[0]])
    return Trajectories(
        states,
        {n: torch.stack([m[n] for m in measured], dim=1) for n in names},
        {
            n: torch.stack([start, *(c[n] for c in changes)], dim=1).cumsum(dim=1)
            for n in names
        },
    )
