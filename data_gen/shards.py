"""A shard as a pure function of recipe and indices."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

from data_gen.recipes import Recipe
from pde_sym.errors import SimulationError
from pde_sym.seeds import Split, Stream, generator, shared_generator
from pde_sym.simulate import simulate
from pde_sym.store import Shard


def make_shard(recipe: Recipe, split: Split, start: int, count: int) -> Shard:
    """Simulate trajectories ``start .. start + count - 1`` of a split.

    Raises
    ------
    SimulationError
        When a trajectory leaves the finite numbers.
    InputError
        When recipe and grid do not fit.
    """
    indices = range(start, start + count)
    initial = np.stack(
        [
            recipe.system.sample_initial(
                recipe.law,
                recipe.grid,
                generator(recipe.seed, split, i, Stream.INITIAL),
                i,
            )
            for i in indices
        ]
    )
    environment = _environment(recipe, split, indices)
    try:
        with one_thread():
            result = simulate(
                recipe.system,
                recipe.grid,
                torch.from_numpy(initial),
                torch.from_numpy(environment),
                dt=recipe.frame_spacing,
                num_frames=recipe.frames,
            )
    except SimulationError as error:
        raise SimulationError(
            f"{split} trajectories {start} to {start + count - 1}: {error}"
        ) from error
    # What overflows in float32 is refused by the store, which names it.
    with np.errstate(over="ignore"):
        states = result.states.numpy().astype(recipe.dtype)
    return Shard(
        states=states,
        fields=recipe.system.fields,
        environment=environment.astype(recipe.dtype),
        environment_fields=recipe.system.environment_fields,
        environment_kind=recipe.environment,
        times=recipe.times,
        grid=recipe.grid,
        scalars=recipe.system.scalars(),
        invariants={name: v.numpy() for name, v in result.invariants.items()},
        budgets={name: v.numpy() for name, v in result.budgets.items()},
        system=recipe.system.kind,
        config=recipe.model_dump(mode="json"),
    )


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
    draw: Callable[..., np.ndarray] = recipe.system.sample_environment
    stream = Stream.ENVIRONMENT
    if recipe.environment == "hidden":
        return draw(recipe.grid, shared_generator(recipe.seed, stream))[None]
    return np.stack(
        [draw(recipe.grid, generator(recipe.seed, split, i, stream)) for i in indices]
    )
