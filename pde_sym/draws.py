"""What trajectories begin with: initial states and environments, drawn by number.

Trajectory i of a split has numbers of its own, see `pde_sym.seeds`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pde_sym.grid import PeriodicGrid
from pde_sym.initial_conditions import InitialLaw
from pde_sym.seeds import Split, Stream, generator, shared_generator
from pde_sym.systems import System
from pde_sym.systems.ensemble import Dynamics

Ranges = Mapping[str, tuple[float, float]]
"""Terms whose strength is drawn, uniform between two numbers."""


def draw_initial(
    system: System,
    law: InitialLaw,
    grid: PeriodicGrid,
    seed: int,
    split: Split,
    indices: Sequence[int],
) -> NDArray[np.float64]:
    """Return the initial states ``(trajectories, channels, *points)``."""
    return np.stack(
        [
            system.sample_initial(
                law, grid, generator(seed, split, i, Stream.INITIAL), i
            )
            for i in indices
        ]
    )


def draw_environment(
    dynamics: Dynamics,
    grid: PeriodicGrid,
    seed: int,
    split: Split,
    indices: Sequence[int],
    *,
    shared: bool,
    ranges: Ranges | None = None,
    dtype: DTypeLike = np.float64,
) -> NDArray[np.float64]:
    """Return the environments ``(trajectories, channels, *points)``.

    Parameters
    ----------
    shared
        One for all, with a first axis of 1.
    ranges
        Of an ensemble, the strengths that are drawn; none when they are shared.
    dtype
        The precision that strengths are rounded to: that of the disk.
    """
    if isinstance(dynamics, System) and shared:
        own = shared_generator(seed, Stream.ENVIRONMENT)
        return dynamics.sample_environment(grid, own)[None]
    rows = []
    for i in indices:
        own = generator(seed, split, i, Stream.ENVIRONMENT)
        if isinstance(dynamics, System):
            rows.append(dynamics.sample_environment(grid, own))
            continue
        draw = generator(seed, split, i, Stream.STRENGTH).uniform
        # What is simulated is what is stored.
        strengths = tuple(
            float(np.asarray(draw(*(ranges or {})[name])).astype(dtype))
            for name in dynamics.varying
        )
        rows.append(dynamics.sample_environment(grid, own, strengths))
    return np.stack(rows)
