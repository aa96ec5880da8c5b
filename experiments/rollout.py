"""``pde-sym rollout``: predictions of a surrogate as a data set folder.

The folder has The Well's layout like any other; its manifest says by which run it was
predicted. What is lost on the way, because it leaves the finite numbers, is left out
and named, as `pde-sym generate` does.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.runs import Run, load_surrogate, read_run
from pde_sym.config import fingerprint
from pde_sym.dataset import TrajectoryDataset
from pde_sym.diagnostics import invariant_drift
from pde_sym.errors import InputError, Lost, OutputError, SimulationError
from pde_sym.nn import Surrogate
from pde_sym.progress import progress
from pde_sym.samples import dynamics_of
from pde_sym.seeds import Split
from pde_sym.store import (
    Manifest,
    Shard,
    ShardEntry,
    encode,
    lock,
    make_folder,
    open_entry,
    read_manifest,
    read_statistics,
    write_file,
    write_manifest,
)
from pde_sym.store.files import LOCK, TEMPORARY, read_file
from pde_sym.store.folder import MANIFEST, STATISTICS, Prediction, sha256

MAX_STATISTICS = 1 << 26


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="a trained run")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="initial states (those of the run)"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of predictions"
    )
    parser.add_argument(
        "--split",
        choices=[split.value for split in Split],
        default="test",
        help="whose first frames to begin with (test)",
    )
    parser.add_argument(
        "--steps", type=int, metavar="N", help="steps to predict (those of the data)"
    )
    parser.add_argument("--json", action="store_true", help="report as JSON")


def run(arguments: argparse.Namespace) -> int:
    torch.set_num_threads(1)
    one = read_run(arguments.run, arguments.data)
    manifest = predict(one, arguments.out, Split(arguments.split), arguments.steps)
    split = Split(arguments.split)
    held, lost = len(manifest.numbers(split)), manifest.lost()
    report = {
        "path": str(arguments.out),
        "run": str(arguments.run),
        "split": split.value,
        "trajectories": held,
        "lost": manifest.lost_rows(),
        "frames": manifest.config["frames"],
        "bytes": sum(entry.bytes for entry in manifest.shards),
    }
    line = (
        f"{arguments.out}: {held} {split} trajectories of {report['frames']} frames, "
        f"predicted by {one.name}"
    )
    print(json.dumps(report) if arguments.json else line)
    for _, each in lost[:10]:
        print(f"lost: {split} {each}", file=sys.stderr)
    return SimulationError.exit_code if lost else 0


def predict(one: Run, out: Path, split: Split, steps: int | None = None) -> Manifest:
    """Write the rollouts of a run from the first frames of a split; see the module.

    Raises
    ------
    InputError
        When the data have other fields than the run, or the steps do not fit them.
    OutputError
        When the folder holds something else or is in use.
    SimulationError
        When all trajectories of a file are lost.
    """
    source, surrogate = read_manifest(one.data), load_surrogate(one)
    data = TrajectoryDataset(one.data, split, window=1)
    _check_task(one, data)
    steps = data.num_frames - 1 if steps is None else steps
    by_time = source.config.get("split_by") == "time"
    if steps < 1 or (by_time and steps != data.num_frames - 1):
        wanted = f"{data.num_frames - 1}, the splits are by time" if by_time else ">= 1"
        raise InputError(f"--steps {steps}: expected {wanted}")
    asked = Manifest(
        config=source.config | {"frames": steps + 1},
        counts=dict.fromkeys(Split, 0) | {split: source.counts[split]},
        prediction=_prediction(one, source, surrogate),
    )
    make_folder(out)
    with lock(out):
        manifest = _continued(out, asked)
        for name in Split:
            make_folder(out / "data" / name)
        entries = source.of(split)
        with progress("predicting", len(entries), "files") as finished:
            for entry in entries:
                if entry.file not in {done.file for done in manifest.shards}:
                    with open_entry(one.data, entry) as reader:
                        shard = reader.load()
                    manifest = _add(out, manifest, entry, shard, surrogate, steps)
                finished(1)
        return _finish(one.data, out, manifest)


def _check_task(one: Run, data: TrajectoryDataset) -> None:
    task, given = one.config.task, data.given_fields if len(data.given_fields) else None
    axes = 0 if data.grid.num_points == 1 else data.grid.num_axes
    if (data.fields, given, axes) != (task.state, task.given, task.num_axes):
        raise InputError(
            f"{data.folder}: {one.folder} predicts {task.inputs.names} on "
            f"{task.num_axes} axes, these data have "
            f"{(data.fields + data.given_fields).names} on {axes}"
        )


def _prediction(one: Run, source: Manifest, surrogate: Surrogate) -> Prediction:
    weights = hashlib.sha256()
    for name, value in sorted(surrogate.state_dict().items()):
        weights.update(name.encode() + value.contiguous().numpy().tobytes())
    return Prediction(
        run=one.name,
        model=one.config.model.kind,
        settings=one.config.settings,
        weights=weights.hexdigest(),
        data=fingerprint(source.config),
    )


def _continued(out: Path, asked: Manifest) -> Manifest:
    """Return the manifest that is there, or the one that is asked for."""
    if not (out / MANIFEST).exists():
        names = (path.name for path in out.iterdir())
        others = [n for n in names if n != LOCK and not n.startswith(TEMPORARY)]
        if {*others} - {"data"}:
            raise OutputError(
                f"{out}: holds {min(others)!r} and no {MANIFEST}; choose an empty or "
                "new folder"
            )
        return asked
    there = read_manifest(out, complete=False)
    same = {"config", "counts", "prediction"}
    if there.model_dump(include=same) != asked.model_dump(include=same):
        raise OutputError(
            f"{out}: holds other data or predictions of another run; choose another "
            "folder"
        )
    return there


def _add(
    out: Path,
    manifest: Manifest,
    entry: ShardEntry,
    shard: Shard,
    surrogate: Surrogate,
    steps: int,
) -> Manifest:
    predicted, lost = predicted_shard(shard, surrogate, steps, manifest.config)
    numbers = entry.numbers
    lost = [Lost(numbers[x.index], x.field, x.reason, x.time, x.step) for x in lost]
    image = encode(predicted)
    made = ShardEntry(
        file=entry.file,
        split=entry.split,
        start=entry.start,
        count=entry.count,
        sha256=sha256(image),
        bytes=len(image),
        lost=tuple(sorted([*entry.lost, *lost], key=lambda one: one.index)),
    )
    write_file(made.path(out), image)
    manifest = manifest.with_shard(made)
    write_manifest(out, manifest)
    return manifest


@torch.no_grad()
def predicted_shard(
    shard: Shard, surrogate: Surrogate, steps: int, config: dict[str, Any]
) -> tuple[Shard, list[Lost]]:
    """Return rollouts from the first frames of a shard, and which were lost.

    Derived fields follow from the predicted ones, invariants are measured on them, and
    budgets are integrated by the trapezoidal rule over frames.

    Raises
    ------
    SimulationError
        When all are lost.
    """
    dynamics = dynamics_of(config, "the data", shard.fields, shard.environment_fields)
    kept, dt = shard.fields.prognostic_channels, float(shard.times[1] - shard.times[0])
    around = torch.from_numpy(shard.environment.astype(np.float64))
    given = around.float() if surrogate.task.given is not None else None
    state = torch.from_numpy(shard.states[:, 0][:, kept]).float()
    frames = [state]
    for _ in range(steps):
        frames.append(surrogate(frames[-1], given))
    states = torch.stack(frames, dim=1)
    lost = _lost(states, surrogate, dt)
    rows = sorted(set(range(len(states))) - {one.index for one in lost})
    if not rows:
        raise SimulationError(f"all trajectories are lost, the first one so: {lost[0]}")
    if shard.environment_kind == "given":
        around = around[rows]
    full = _completed(dynamics, states[rows].double(), shard)
    environment = around.expand(len(rows), *around.shape[1:])
    ones = dict.fromkeys((i.name for i in dynamics.invariants), torch.tensor(1.0))
    drift = invariant_drift(dynamics, shard.grid, full, environment, dt, ones)
    start = dynamics.measure(full[:, 0], shard.grid, environment)
    return Shard(
        states=full.numpy().astype(shard.states.dtype),
        fields=shard.fields,
        environment=shard.environment[rows]
        if shard.environment_kind == "given"
        else shard.environment,
        environment_fields=shard.environment_fields,
        environment_kind=shard.environment_kind,
        times=shard.times[0] + dt * np.arange(steps + 1),
        grid=shard.grid,
        scalars=shard.scalars,
        strengths={name: v[rows] for name, v in shard.strengths.items()},
        invariants={
            n: (start[n][:, None] + d.change).numpy() for n, d in drift.items()
        },
        budgets={name: d.explained.numpy() for name, d in drift.items()},
        system=shard.system,
        config=config,
    ), lost


def _completed(dynamics: Any, states: Tensor, shard: Shard) -> Tensor:
    """Return states with their derived fields, ``(batch, frames, channels, ..)``."""
    flat = dynamics.complete(states.flatten(0, 1), shard.grid)
    return flat.unflatten(0, states.shape[:2])


def _lost(states: Tensor, surrogate: Surrogate, dt: float) -> list[Lost]:
    """Return the trajectories with a number that is not finite, and where."""
    finite = states.isfinite().flatten(3).all(3)
    lost = []
    for index in (~finite.all(2).all(1)).nonzero().flatten().tolist():
        step = int((~finite[index].all(1)).nonzero()[0])
        channel = int((~finite[index, step]).nonzero()[0])
        field = surrogate.task.state.channel_names[channel]
        lost.append(Lost(index, field, "is not finite", step * dt, step))
    return lost


def _finish(data: Path, out: Path, manifest: Manifest) -> Manifest:
    """Copy the statistics of the training data, which scale predictions too."""
    read_statistics(data, read_manifest(data))
    statistics = read_file(data / STATISTICS, MAX_STATISTICS)
    write_file(out / STATISTICS, statistics)
    done = {"stats_sha256": sha256(statistics), "complete": True}
    manifest = manifest.model_copy(update=done)
    write_manifest(out, manifest)
    return manifest
