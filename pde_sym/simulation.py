"""Simulated trajectories in memory, as arrays of NumPy, torch or xarray."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from pde_sym.draws import draw_environment, draw_initial
from pde_sym.errors import InputError
from pde_sym.fields import FieldSpec
from pde_sym.grid import PeriodicGrid
from pde_sym.initial_conditions import InitialLaw
from pde_sym.interchange import as_state, to_xarray
from pde_sym.samples import Samples
from pde_sym.seeds import Split
from pde_sym.simulate import Trajectories, simulate
from pde_sym.systems import System


@dataclass(frozen=True)
class Simulation(Trajectories):
    """Trajectories of a system; ``np.asarray`` of it are its states.

    Parameters
    ----------
    states
        ``(trajectories, frames, channels, *points)``, float64.
    invariants, budgets
        ``(trajectories, frames)`` by name.
    system, grid, dt
        What was simulated, where the points are, and the time between frames.
    environment
        ``(trajectories, channels, *points)``, or one for all.
    """

    system: System
    grid: PeriodicGrid
    dt: float
    environment: Tensor
    is_given: bool
    """Whether there is an environment for each trajectory, which models may read."""

    @property
    def fields(self) -> FieldSpec:
        """What the channels mean."""
        return self.system.fields

    @property
    def times(self) -> NDArray[np.float64]:
        """Time of each frame."""
        return self.dt * np.arange(self.states.shape[1])

    def __array__(
        self, dtype: DTypeLike = None, copy: bool | None = None
    ) -> NDArray[Any]:
        states = self.states.numpy()
        return np.array(states, dtype) if copy else np.asarray(states, dtype)

    def to_xarray(self) -> Any:
        """Return an ``xarray.Dataset`` of the fields; `InputError` without xarray."""
        return to_xarray(self.states, self.fields, self.grid, self.times)

    def samples(self) -> Samples:
        """Return what diagnostics read: prognostic fields, in float32."""
        number = len(self.states)
        return Samples(
            self.system,
            self.grid,
            self.states[:, :, self.fields.prognostic_channels].float(),
            self.environment.expand(number, *self.environment.shape[1:]),
            self.is_given and len(self.system.environment_fields) > 0,
            self.dt,
        )


def simulated(
    system: System,
    trajectories: int = 1,
    frames: int = 21,
    *,
    resolution: int | None = None,
    length: float | None = None,
    dt: float | None = None,
    initial: Any = None,
    environment: Any = None,
    given: bool = False,
    seed: int = 0,
    split: Split | str = Split.TRAIN,
) -> Simulation:
    """Return trajectories of a system, the same as ``pde-sym generate`` stores.

    Parameters
    ----------
    trajectories
        How many; with an array of initial states as many as it has.
    frames
        Per trajectory, the initial state included.
    resolution, length, dt
        Points per axis, side of the box, time between frames: the system's own when
        absent.
    initial
        A law of initial states, or the states, ``(trajectories, channels, *points)``:
        an array, a tensor, or of xarray. The system's own law when absent.
    environment
        The same of the environment, or one for all; drawn when absent.
    given
        Whether an environment is drawn for each trajectory, instead of one for all.
    seed, split
        Which random numbers.

    Raises
    ------
    InputError
        When an argument does not fit the system.
    LostTrajectoryError
        When some do not reach a frame; it says which, at what step, time and field.
    """
    points = system.default_resolution if resolution is None else resolution
    side = system.default_length if length is None else length
    split, dt = Split(split), system.default_dt if dt is None else dt
    law = system.initial_laws[0].model_validate({}) if initial is None else initial
    if not isinstance(law, InitialLaw):
        axes = system.grid(points, side).num_axes
        start = as_state(law, system.fields, axes)
        if start.ndim != axes + 2 or len({*start.shape[2:]}) != 1:
            raise InputError(
                "initial: expected (trajectories, channels, *points) with as many "
                f"points along each axis, got {tuple(start.shape)}"
            )
        trajectories, grid = len(start), system.grid(start.shape[-1], side)
    else:
        grid = system.grid(points, side)
        numbers = range(trajectories)
        drawn = draw_initial(system, law, grid, seed, split, numbers)
        start = torch.from_numpy(drawn)
    if environment is None:
        surroundings = torch.from_numpy(
            draw_environment(
                system, grid, seed, split, range(trajectories), shared=not given
            )
        )
    else:
        surroundings = as_state(environment, system.environment_fields, grid.num_axes)
    done = simulate(system, grid, start, surroundings, dt=dt, num_frames=frames)
    return Simulation(
        **vars(done),
        system=system,
        grid=grid,
        dt=dt,
        environment=surroundings,
        is_given=given,
    )
