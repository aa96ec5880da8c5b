"""Test data whose initial states are moved by motions that training never showed.

Where the law of initial states is invariant under a motion, moved states follow the
same law, and such test data say nothing new. Where training states are aligned, as
shear layers along one axis, they tell alignment of the *distribution*, which any
network may use, from breaking of the *dynamics*, which is the same for every state.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_gen.recipes import Recipe
from data_gen.shards import beginning
from pde_sym.errors import InputError
from pde_sym.seeds import Split
from pde_sym.store import files


def check_motions(recipe: Recipe, names: Sequence[str]) -> None:
    """Raise `InputError` when the system lacks a motion, or an environment would move.

    Parameters
    ----------
    recipe
        Of the intact system.
    names
        Of motions that defects are measured under, as "turn 90".
    """
    known = [
        motion.name
        for motion in recipe.system.probes(recipe.grid)
        if recipe.system.keeps(motion)
    ]
    for name in names:
        if name not in known:
            raise InputError(f"moved: expected some of {known}, got {name!r:.80}")
    if names and recipe.environment_kind == "given":
        raise InputError(
            "moved: an environment that is given would have to move with the states; "
            "expected a hidden one"
        )


def moved_recipe(
    recipe: Recipe, names: Sequence[str], count: int, path: Path
) -> Recipe:
    """Return the recipe whose test states are those of `recipe`, moved in turns.

    Trajectory i starts from the state that `recipe` draws for test trajectory i, moved
    by motion i modulo their number; the solver goes on from there.

    Parameters
    ----------
    names
        Of the motions.
    count
        Number of test trajectories.
    path
        Where the initial states are written, a ``.npy``.
    """
    system, grid = recipe.system, recipe.grid
    motions = {motion.name: motion for motion in system.probes(grid)}
    act = system.action(grid)
    states, _ = beginning(recipe, Split.TEST, range(count))
    moved = np.concatenate(
        [
            act(motions[names[i % len(names)]], torch.from_numpy(state)[None]).numpy()
            for i, state in enumerate(states)
        ]
    )
    law: dict[str, Any] = {
        "kind": type(system).initial_laws[0].model_fields["kind"].default
    }
    channels = system.fields.slices()
    if "vorticity" in channels:
        law["field"] = _stored(path, moved[:, channels["vorticity"].start])
        if "tracer" in channels:
            place = path.with_stem(f"{path.stem}-tracer")
            tracer = _stored(place, moved[:, channels["tracer"].start])
            law["tracer"] = {"kind": "random_field", "field": tracer}
    else:
        # A body is a row of its channels, a field on a grid its values.
        law["field"] = _stored(
            path, moved.reshape(count, -1) if grid.num_points == 1 else moved[:, 0]
        )
    return Recipe.parse({**recipe.model_dump(), "initial": law}, where="moved")


def _stored(path: Path, values: np.ndarray) -> str:
    buffer = io.BytesIO()
    np.save(buffer, values)
    files.make_folder(path.parent)
    files.write_file(path, buffer.getvalue())
    return str(path)
