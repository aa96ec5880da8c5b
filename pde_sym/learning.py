"""From data to a trained surrogate: what a network of one's own needs."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pde_sym.dataset import MemoryWindows, TrajectoryDataset
from pde_sym.errors import InputError
from pde_sym.grid import PeriodicGrid, WalledGrid
from pde_sym.nn import Family, Normalisation, Surrogate, Task
from pde_sym.nn.walls import Walls
from pde_sym.objective import TrainConfig
from pde_sym.samples import Samples, dynamics_of
from pde_sym.systems import System
from pde_sym.systems.ensemble import Ensemble
from pde_sym.systems.kdv import KdV
from pde_sym.systems.kdv_terms import BOOST_SPEED, KdVProperty
from pde_sym.systems.plume import Plume
from pde_sym.systems.unknown import Unknown
from pde_sym.training import Rollouts, Windows
from pde_sym.training import fit as train
from pde_sym.training_state import load_best

MEMORY_BYTES = 2 << 30
"""Training data up to this size are held in memory."""
SCALE_TRAJECTORIES = 64
"""Training trajectories that the normalisation is measured on."""


def task_of(data: TrajectoryDataset | Samples, system: System | None = None) -> Task:
    """Return what a surrogate of these data predicts and may read.

    `system` is that of the data, found there when absent.

    Raises
    ------
    InputError
        When no network is made for such a grid.
    """
    grid, system = data.grid, system or _system_of(data)
    if isinstance(system, Unknown):
        _check_grid(grid)
    is_given = len(data.given_fields) > 0
    survivors = system.joint_survivors if is_given else system.survivors
    is_body, is_kdv = grid.num_points == 1, isinstance(system, KdV)
    return Task(
        state=data.fields,
        given=data.given_fields if is_given else None,
        breaks_translation=not (
            is_body or survivors.translations >= set(grid.axis_names)
        ),
        resolution=None if is_body else min(grid.shape),
        num_axes=0 if is_body else grid.num_axes,
        walls=_walls_of(system, grid),
        kept_modes=system.kept_modes,
        boost=BOOST_SPEED * data.dt / grid.lengths[0] if is_kdv else None,
        breaks_boosts=is_kdv and KdVProperty.GALILEI not in system.properties,
        breaks_scaling=is_kdv and KdVProperty.SCALING not in system.properties,
    )


def _walls_of(system: System, grid: PeriodicGrid) -> Walls | None:
    if isinstance(system, Unknown) and isinstance(grid, WalledGrid):
        return "slip"  # the images of plain fields, which ask for nothing more
    return system.walls if isinstance(system, Plume) else None


def _check_grid(grid: PeriodicGrid) -> None:
    """Refuse what imported data may have and no system of ours has."""
    if grid.num_points > 1 and grid.num_axes > 2:
        raise InputError(
            f"data on {grid.num_axes} axes: networks are for lines and planes; import "
            "slices"
        )
    if grid.num_axes == 1 and isinstance(grid, WalledGrid):
        raise InputError(
            "data on a line between walls: networks on lines are periodic; expected a "
            "periodic line or a plane"
        )


def _system_of(data: TrajectoryDataset | Samples) -> System:
    if isinstance(data, Samples):
        return data.system
    dynamics = dynamics_of(
        data.config, str(data.folder), data.fields, data.environment_fields
    )
    return dynamics.nominal if isinstance(dynamics, Ensemble) else dynamics


def measure_scales(dataset: TrajectoryDataset, task: Task) -> Normalisation:
    """Return the normalisation of the training trajectories in use, or of some."""
    few = TrajectoryDataset(
        dataset.folder,
        dataset.split,
        window=2,
        num_trajectories=min(dataset.num_trajectories, SCALE_TRAJECTORIES),
        subset_seed=dataset.subset_seed,
    )
    items = few.load_all()
    states = items["states"]
    return Normalisation.of(task, states[:, :-1], states[:, 1:], items.get("given"))


def training_windows(dataset: TrajectoryDataset) -> Windows:
    """Return the windows of a data set, from memory when they fit."""
    if len(dataset) == 0:
        raise InputError(f"{dataset.folder}: no windows of {dataset.window} frames")
    states = dataset.num_trajectories * dataset.num_frames * dataset.fields.num_channels
    if 4 * dataset.grid.num_points * states > MEMORY_BYTES:
        return dataset
    items = dataset.load_all()
    return MemoryWindows(items["states"], items.get("given"), dataset.window)


def validation_rollouts(folder: Path, horizon: int) -> Rollouts:
    """Return the validation trajectories up to `horizon` steps."""
    items = TrajectoryDataset(folder, "valid", window=1).load_all()
    return Rollouts(items["states"][:, : horizon + 1], items.get("given"))


def fit(
    net: nn.Module | Family,
    data: Path | str,
    training: TrainConfig | None = None,
    *,
    out: Path | str | None = None,
    device: str = "cpu",
    report: Callable[[dict[str, Any]], None] = lambda _: None,
) -> Surrogate:
    """Train a network on a data set; return it with its best weights, as a time step.

    It comes back on the CPU, wherever it was trained.

    The network gets states less their mean in units of their spread, followed by the
    given fields where there are any, and returns the change over one frame in units of
    its own spread: ``(batch, C_state + C_given, *points)`` to
    ``(batch, C_state, *points)``.

    Parameters
    ----------
    net
        Any module, or the settings of a model family, for instance
        ``ModulatedConfig(group="C4")``, whose network is built for the data.
    data
        Folder of a data set with training and validation trajectories.
    training
        How; the defaults of `TrainConfig` when absent.
    out
        Folder of checkpoints and ``metrics.jsonl``; a training that was interrupted
        goes on there. Nothing is kept when absent.
    device
        Where to train, for instance ``cuda``.
    report
        Called with each row of metrics.

    Raises
    ------
    InputError
        When a setting does not fit the data.
    SimulationError
        When loss, gradient or validation error is not finite; it names the update.
    """
    training = training or TrainConfig()
    dataset = TrajectoryDataset(
        data,
        "train",
        window=training.window,
        num_trajectories=training.trajectories,
        subset_seed=training.seed,
    )
    task = task_of(dataset)
    if isinstance(net, Family):
        net = built(net, task, training.seed)
    surrogate = Surrogate(net, task, measure_scales(dataset, task))
    windows = training_windows(dataset)
    _check_step(surrogate, windows)
    valid = validation_rollouts(Path(data), training.horizon)
    with tempfile.TemporaryDirectory() as nowhere:
        folder = Path(nowhere if out is None else out)
        surrogate.to(device)
        train(surrogate, windows, valid, training, folder, report=report)
        surrogate.cpu()
        load_best(surrogate, folder)
    return surrogate.eval()


@torch.no_grad()
def _check_step(surrogate: Surrogate, windows: Windows) -> None:
    """Take one step, so that what does not fit the data is told at once."""
    states, given = windows.batch([0])
    before, expected = states[:, 0], surrogate.task.inputs.num_channels
    reads = f"({len(before)}, {expected}, {', '.join(map(str, before.shape[2:]))})"
    try:
        change = surrogate.normalised_increment(before, given)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"net: does not take an input {reads} ({reason})") from error
    if change.shape != before.shape:
        raise InputError(
            f"net: expected an output {tuple(before.shape)} from an input {reads}, "
            f"got {tuple(change.shape)}"
        )


def built(family: Family, task: Task, seed: int) -> nn.Module:
    """Return the network of a family for a task, with the first weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return family.build(task)
