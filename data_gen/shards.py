"""A shard as a pure function of recipe and indices."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from data_gen.recipes import Recipe
from pde_sym.errors import SimulationError
from pde_sym.seeds import Split, Stream, generator, shared_generator
from pde_sym.simulate import Trajectories, simulate
from pde_sym.store import Shard
from pde_sym.systems import System
from pde_sym.systems.base import STRENGTH


def make_shard(recipe: Recipe, split: Split, start: int, count: int) -> Shard:
    """Simulate trajectories ``start .. start + count - 1`` of a split.

    Raises
    ------
    SimulationError
        When a trajectory leaves the finite numbers.
    InputError
        When recipe and grid do not fit.
    """
    indices, source = range(start, start + count), recipe.source(split)
    first = recipe.first_frame(split)
    initial, environment = beginning(recipe, source, indices)
    try:
        result = integrate(recipe, initial, environment, first + recipe.frames)
    except SimulationError as error:
        raise SimulationError(
            f"{split} trajectories {start} to {start + count - 1}: {error}"
        ) from error
    # What overflows in float32 is refused by the store, which names it.
    with np.errstate(over="ignore"):
        states = result.states[:, first:].numpy().astype(recipe.dtype)
    return Shard(
        states=states,
        fields=recipe.system.fields,
        environment=environment.astype(recipe.dtype),
        environment_fields=recipe.dynamics.environment_fields,
        environment_kind=recipe.environment_kind,
        times=recipe.times(split),
        grid=recipe.grid,
        scalars=scalars_of(recipe),
        strengths=_per_trajectory(recipe, environment),
        invariants={
            name: v[:, first:].numpy() for name, v in result.invariants.items()
        },
        budgets={
            # From the first stored frame on.
            name: (v[:, first:] - v[:, first : first + 1]).numpy()
            for name, v in result.budgets.items()
        },
        system=recipe.system.kind,
        config=recipe.model_dump(mode="json"),
    )


def beginning(
    recipe: Recipe, source: Split, indices: range
) -> tuple[np.ndarray, np.ndarray]:
    """Return the initial states and the environments of some trajectories."""
    drawn = [
        recipe.system.sample_initial(
            recipe.law,
            recipe.grid,
            generator(recipe.seed, source, i, Stream.INITIAL),
            i,
        )
        for i in indices
    ]
    return np.stack(drawn), _environment(recipe, source, indices)


def integrate(
    recipe: Recipe,
    initial: np.ndarray,
    environment: np.ndarray,
    frames: int,
    refinement: int = 1,
) -> Trajectories:
    """Return trajectories of so many frames from their beginning."""
    with one_thread():
        return simulate(
            recipe.dynamics,
            recipe.grid,
            torch.from_numpy(initial),
            torch.from_numpy(environment),
            dt=recipe.frame_spacing,
            num_frames=frames,
            refinement=refinement,
        )


def scalars_of(recipe: Recipe) -> dict[str, float]:
    """Return the numbers that all trajectories of a data set share."""
    varying = {STRENGTH + name for name in recipe.strengths}
    return {k: v for k, v in recipe.system.scalars().items() if k not in varying}


def _per_trajectory(recipe: Recipe, environment: np.ndarray) -> dict[str, np.ndarray]:
    channels = recipe.dynamics.environment_fields.slices()
    corner = (0,) * recipe.grid.num_axes
    return {
        STRENGTH + name: environment[:, channels[STRENGTH + name].start][:, *corner]
        for name in sorted(recipe.strengths)
    }


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread.

    Sums may round differently on more, and threads of several processes get into each
    other's way.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _environment(recipe: Recipe, split: Split, indices: range) -> np.ndarray:
    dynamics, stream = recipe.dynamics, Stream.ENVIRONMENT
    if recipe.environment_kind == "hidden":
        shared = shared_generator(recipe.seed, stream)
        return recipe.system.sample_environment(recipe.grid, shared)[None]
    rows = []
    for i in indices:
        own = generator(recipe.seed, split, i, stream)
        if isinstance(dynamics, System):
            rows.append(dynamics.sample_environment(recipe.grid, own))
        else:
            strengths = _strengths(recipe, split, i)
            rows.append(dynamics.sample_environment(recipe.grid, own, strengths))
    return np.stack(rows)


def _strengths(recipe: Recipe, split: Split, index: int) -> tuple[float, ...]:
    """Draw the strengths of a trajectory, in the order of their names."""
    draw = generator(recipe.seed, split, index, Stream.STRENGTH).uniform
    # What is simulated is what is stored.
    return tuple(
        float(np.asarray(draw(*recipe.strengths[name])).astype(recipe.dtype))
        for name in sorted(recipe.strengths)
    )
