"""A shard in memory: trajectories of one system, whatever the file format."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pde_sym.errors import InputError
from pde_sym.fields import FieldSpec
from pde_sym.grid import PeriodicGrid

EnvironmentKind = Literal["hidden", "given"]
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Shard:
    """Trajectories of one system on one grid.

    Parameters
    ----------
    states
        ``(trajectories, frames, channels, x, y)``, float32 or float64.
    fields
        What the channels of the states mean.
    environment
        ``(trajectories, channels, x, y)``, or one for all with first axis 1.
    environment_fields
        What the channels of the environment mean; there may be none.
    environment_kind
        ``hidden``: one environment that models may not read; ``given``: one per
        trajectory that they may.
    times
        Time of each frame, ``(frames,)``.
    grid
        Where the points are.
    scalars
        Constants by name, for instance the strength of each breaking term.
    strengths
        What of the scalars differs between trajectories, ``(trajectories,)`` by name.
    invariants, budgets
        Each invariant, and its change since frame 0 that the closed forms explain:
        ``(trajectories, frames)`` by name.
    system
        Name of the system.
    config
        The resolved recipe, without anything that differs between equal commands.
    """

    states: Floats
    fields: FieldSpec
    environment: Floats
    environment_fields: FieldSpec
    environment_kind: EnvironmentKind
    times: NDArray[np.float64]
    grid: PeriodicGrid
    scalars: dict[str, float]
    strengths: dict[str, NDArray[np.float64]]
    invariants: dict[str, NDArray[np.float64]]
    budgets: dict[str, NDArray[np.float64]]
    system: str
    config: dict[str, Any]

    def __post_init__(self) -> None:
        num, frames, space = *self.states.shape[:2], self.grid.shape
        one_for_all = self.environment_kind == "hidden"
        _expect("states", self.states, (num, frames, self.fields.num_channels, *space))
        _expect(
            "environment",
            self.environment,
            (1 if one_for_all else num, self.environment_fields.num_channels, *space),
        )
        _expect("times", self.times, (frames,))
        for name, values in self.strengths.items():
            _expect(name, values, (num,))
        for name, values in (*self.invariants.items(), *self.budgets.items()):
            _expect(name, values, (num, frames))
        if self.states.dtype not in (np.float32, np.float64):
            raise InputError(f"states are float32 or float64, got {self.states.dtype}")
        if set(self.invariants) != set(self.budgets):
            raise InputError(
                f"every invariant has a budget: got {sorted(self.invariants)} "
                f"and {sorted(self.budgets)}"
            )


def _expect(name: str, values: Floats, shape: tuple[int, ...]) -> None:
    if values.shape != shape:
        raise InputError(f"{name}: expected shape {shape}, got {values.shape}")
