"""Trajectories of one system whose breaking strengths differ."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pde_sym.errors import Lost, LostTrajectoryError
from pde_sym.fields import Field, FieldSpec
from pde_sym.grid import PeriodicGrid
from pde_sym.systems.base import STRENGTH, Budget, Invariant, Solver, System

T = TypeVar("T")
Member: TypeAlias = tuple[list[int], System, Tensor]
"""Places in a batch, the system that they share, and their environments."""


@dataclass(frozen=True)
class Ensemble:
    """A system with a strength per trajectory for some of its terms.

    The strengths are the last channels of the environment, one uniform field
    ``strength_NAME`` per term: they move with a state, as a scalar does, and a model
    reads them as it reads any given field.

    Parameters
    ----------
    nominal
        The system with its terms, at the largest strength of those that vary.
    varying
        Names of the terms whose strength varies, each among those of `nominal`.
    """

    nominal: System
    varying: tuple[str, ...]

    @property
    def fields(self) -> FieldSpec:
        return self.nominal.fields

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        return self.nominal.invariants

    @property
    def environment_fields(self) -> FieldSpec:
        """The environment of the system, then the strengths."""
        strengths = (Field(name=STRENGTH + n, prognostic=False) for n in self.varying)
        return self.nominal.environment_fields + FieldSpec.of(*strengths)

    def member(self, strengths: tuple[float, ...]) -> System:
        """Return the system at those strengths, in the order of `varying`."""
        chosen = dict(zip(self.varying, strengths, strict=True))
        terms = tuple(
            term.model_copy(update={"strength": chosen.get(term.kind, term.strength)})
            for term in self.nominal.breaking
        )
        return self.nominal.model_copy(update={"breaking": terms})

    def sample_environment(
        self,
        grid: PeriodicGrid,
        generator: np.random.Generator,
        strengths: tuple[float, ...],
    ) -> NDArray[np.float64]:
        """Draw an environment ``(channels, *grid.shape)`` at those strengths."""
        drawn = self.member(strengths).sample_environment(grid, generator)
        uniform = [np.full((1, *grid.shape), strength) for strength in strengths]
        return np.concatenate([drawn, *uniform])

    def complete(self, state: Tensor, grid: PeriodicGrid) -> Tensor:
        return self.nominal.complete(state, grid)

    def solver(
        self,
        grid: PeriodicGrid,
        environment: Tensor,
        dt: float,
        refinement: int = 1,
    ) -> Solver:
        """Return a step for trajectories in the order of `environment`."""
        return _Solvers(
            [
                (where, system.solver(grid, own, dt, refinement))
                for where, system, own in self._members(environment)
            ]
        )

    def measure(self, state: Tensor, grid: PeriodicGrid, environment: Tensor) -> Budget:
        return _scattered(
            [
                (where, system.measure(state[where], grid, own))
                for where, system, own in self._members(environment)
            ]
        )

    def rates(self, state: Tensor, grid: PeriodicGrid, environment: Tensor) -> Budget:
        return _scattered(
            [
                (where, system.rates(state[where], grid, own))
                for where, system, own in self._members(environment)
            ]
        )

    def scheme_rates(
        self, state: Tensor, grid: PeriodicGrid, environment: Tensor
    ) -> Budget:
        return _scattered(
            [
                (where, system.scheme_rates(state[where], grid, own))
                for where, system, own in self._members(environment)
            ]
        )

    def _members(self, environment: Tensor) -> list[Member]:
        """Return, per set of strengths, who has it, the system and their environment.

        Systems of equal strengths advance as one batch.
        """
        number = len(self.varying)
        strengths = environment[:, -number:].flatten(2)[:, :, 0].tolist()
        owners: dict[tuple[float, ...], list[int]] = {}
        for index, row in enumerate(strengths):
            owners.setdefault(tuple(row), []).append(index)
        return [
            (where, self.member(row), environment[where, :-number])
            for row, where in owners.items()
        ]


Dynamics: TypeAlias = System | Ensemble
"""What is simulated and measured: a system, or several side by side."""


class _Solvers:
    """Solvers side by side, each for its own trajectories of a batch."""

    def __init__(self, parts: list[tuple[list[int], Solver]]) -> None:
        self._parts = parts

    def __call__(self, state: Tensor) -> Tensor:
        done = self._done(lambda solver, own: solver(own), state)
        return self._gathered(done, state)

    def step(self, state: Tensor) -> tuple[Tensor, Budget]:
        done = self._done(lambda solver, own: solver.step(own), state)
        following = self._gathered([states for states, _ in done], state)
        places = [where for where, _ in self._parts]
        budgets = [budget for _, budget in done]
        return following, _scattered(list(zip(places, budgets, strict=True)))

    def _done(self, advance: Callable[[Solver, Tensor], T], state: Tensor) -> list[T]:
        """Return what each solver makes of its own states."""
        done: list[T] = []
        lost: list[Lost] = []
        for where, solver in self._parts:
            try:
                done.append(advance(solver, state[where]))
            except LostTrajectoryError as error:
                lost += error.renumbered(where).lost
        if lost:
            raise LostTrajectoryError(lost)
        return done

    def _gathered(self, states: list[Tensor], like: Tensor) -> Tensor:
        result = like.new_empty(like.shape)
        for (where, _), part in zip(self._parts, states, strict=True):
            result[where] = part
        return result


def _scattered(parts: list[tuple[list[int], Budget]]) -> Budget:
    """Return one budget in the order of the batch."""
    order = torch.tensor([index for where, _ in parts for index in where]).argsort()
    return {
        name: torch.cat([budget[name] for _, budget in parts])[order]
        for name in parts[0][1]
    }
