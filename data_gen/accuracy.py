"""How exact the trajectories of a data set are, in time and in space.

Some of its trajectories are made again, in float64, and once more with the solver's own
steps halved. For a method of order p the difference is the time error less a part
``2^-p`` of it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from data_gen.recipes import Recipe
from data_gen.shards import beginning, integrate
from pde_sym.diagnostics import spectral_tail
from pde_sym.errors import InputError
from pde_sym.grid import WalledGrid
from pde_sym.seeds import Split
from pde_sym.store import Shard

MAX_TRAJECTORIES = 4


def accuracy(
    recipe: Recipe,
    split: Split,
    numbers: Sequence[int],
    stored: Shard | None = None,
) -> dict[str, Any]:
    """Return the largest time error and spectral tail of a frame, by prognostic field.

    ``error`` is ``||u - u_fine|| / ||u_fine||`` and ``tail`` is `spectral_tail`, None
    where there are no Fourier modes.

    Parameters
    ----------
    recipe, split
        What the data set is of, and which part of it is measured.
    numbers
        Those of the trajectories that there are.
    stored
        Trajectories whose first frames are begun with where the recipe's own arrays
        are known by their hash only.

    Raises
    ------
    InputError
        When they are needed and not there.
    """
    first = recipe.first_frame(split)
    try:
        begun = beginning(recipe, recipe.source(split), numbers[:MAX_TRAJECTORIES])
    except InputError:
        if stored is None:
            raise
        begun, first = _first_frames(recipe, stored), 0
    usual, fine = (
        integrate(recipe, *begun, first + recipe.frames, refinement).states[:, first:]
        for refinement in (1, 2)
    )
    grid = recipe.grid
    has_modes = grid.num_points > 1 and not isinstance(grid, WalledGrid)
    kept, report = recipe.system.kept_modes, {}
    for field, channels in zip(
        recipe.system.fields, recipe.system.fields.slices().values(), strict=True
    ):
        if not field.prognostic:
            continue
        u, v = usual[:, :, channels], fine[:, :, channels]
        size = v.flatten(2).norm(dim=2)
        error = (u - v).flatten(2).norm(dim=2) / torch.where(size > 0, size, 1.0)
        tail = spectral_tail(v, grid, kept).max() if has_modes else None
        report[field.name] = {
            "error": float(error.max()),
            "tail": None if tail is None else float(tail),
        }
    return report


def _first_frames(recipe: Recipe, stored: Shard) -> tuple[np.ndarray, np.ndarray]:
    """Return states and environments, with what follows from the prognostic fields."""
    system, some = recipe.system, slice(MAX_TRAJECTORIES)
    states = torch.from_numpy(stored.states[some, 0].astype(np.float64))
    prognostic = states[:, system.fields.prognostic_channels]
    environment = stored.environment[some].astype(np.float64)
    return system.complete(prognostic, stored.grid).numpy(), environment
