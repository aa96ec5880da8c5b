"""A shard as a pure function of recipe and indices."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from data_gen.recipes import Recipe
from pde_sym.draws import draw_environment, draw_initial
from pde_sym.errors import Lost, LostTrajectoryError, SimulationError
from pde_sym.seeds import Split
from pde_sym.simulate import Trajectories, simulate
from pde_sym.store import Shard
from pde_sym.systems.base import STRENGTH


def surviving_shard(
    recipe: Recipe, split: Split, start: int, count: int, device: str = "cpu"
) -> tuple[Shard, tuple[Lost, ...]]:
    """Simulate trajectories ``start .. start + count - 1`` but for those that are lost.

    When some are lost, the others are simulated again without them: a shard depends on
    recipe and indices alone.

    Raises
    ------
    SimulationError
        When all are lost.
    InputError
        When recipe and grid do not fit.
    """
    lost: list[Lost] = []
    while True:
        try:
            without = {one.index for one in lost}
            shard = make_shard(recipe, split, start, count, without, device)
        except LostTrajectoryError as error:
            lost = sorted([*lost, *error.lost], key=lambda one: one.index)
            if len(lost) == count:
                raise SimulationError(
                    f"all {split} trajectories from {start} to {start + count - 1} are "
                    f"lost, the first one so: {lost[0]}; {error.advice}"
                ) from error
        else:
            return shard, tuple(lost)


def make_shard(
    recipe: Recipe,
    split: Split,
    start: int,
    count: int,
    without: Collection[int] = (),
    device: str = "cpu",
) -> Shard:
    """Simulate trajectories ``start .. start + count - 1`` of a split on a device.

    Those `without` are left out.

    Raises
    ------
    LostTrajectoryError
        When some leave the finite numbers, or those of the precision on disk; it has
        their numbers in the split.
    InputError
        When recipe and grid do not fit.
    """
    indices = [i for i in range(start, start + count) if i not in without]
    try:
        return _simulated(recipe, split, indices, device)
    except LostTrajectoryError as error:
        raise error.renumbered(indices) from error


def _simulated(
    recipe: Recipe, split: Split, indices: Sequence[int], device: str
) -> Shard:
    first = recipe.first_frame(split)
    initial, environment = beginning(recipe, recipe.source(split), indices)
    frames = first + recipe.frames
    result = integrate(recipe, initial, environment, frames, device=device)
    # What overflows in float32 is lost.
    with np.errstate(over="ignore"):
        states = result.states[:, first:].numpy().astype(recipe.dtype)
    shard = Shard(
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
    _check_stored(shard, first)
    return shard


def _check_stored(shard: Shard, first: int) -> None:
    """Raise `LostTrajectoryError` for what the file could not hold."""
    channels = shard.fields.slices()
    parts = {name: shard.states[:, :, part] for name, part in channels.items()}
    parts |= shard.invariants
    parts |= {f"the budget of {name}": b for name, b in shard.budgets.items()}
    lost: dict[int, Lost] = {}
    for name, values in parts.items():
        finite = np.isfinite(values).reshape(*shard.states.shape[:2], -1).all(axis=2)
        for index in np.flatnonzero(~finite.all(axis=1)).tolist():
            frame = int(finite[index].argmin())
            time, reason = float(shard.times[frame]), f"overflows {values.dtype}"
            lost.setdefault(index, Lost(index, name, reason, time, first + frame))
    if lost:
        raise LostTrajectoryError(lost.values())


def beginning(
    recipe: Recipe, source: Split, indices: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the initial states and the environments of some trajectories."""
    initial = draw_initial(
        recipe.system, recipe.law, recipe.grid, recipe.seed, source, indices
    )
    environment = draw_environment(
        recipe.dynamics,
        recipe.grid,
        recipe.seed,
        source,
        indices,
        shared=recipe.environment_kind == "hidden",
        ranges=recipe.strengths,
        dtype=recipe.dtype,
    )
    return initial, environment


def integrate(
    recipe: Recipe,
    initial: np.ndarray,
    environment: np.ndarray,
    frames: int,
    refinement: int = 1,
    device: str = "cpu",
) -> Trajectories:
    """Return trajectories of so many frames from their beginning, in main memory.

    The device decides how they are made: in compiled loops on the CPU, in torch
    elsewhere, which is the same but for rounding.
    """
    with one_thread():
        return simulate(
            recipe.dynamics,
            recipe.grid,
            torch.from_numpy(initial).to(device),
            torch.from_numpy(environment).to(device),
            dt=recipe.frame_spacing,
            num_frames=frames,
            refinement=refinement,
        ).cpu()


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
    """Run torch and linear algebra on one thread.

    Sums may round differently on more, and threads of several processes get into each
    other's way: beside a busy core the inverses of small matrices that solitons are
    made of take a hundred times as long on two threads as on one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)
