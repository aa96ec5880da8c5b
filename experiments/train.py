"""``pde-sym train``: train a surrogate, or go on with one."""

import argparse
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from experiments.runs import (
    Run,
    RunConfig,
    build_surrogate,
    identity_of,
    write_run,
)
from experiments.tracking import tensorboard
from pde_sym import devices
from pde_sym.config import Frozen, assignment, literal, read_toml
from pde_sym.dataset import TrajectoryDataset
from pde_sym.errors import InputError
from pde_sym.learning import (
    measure_scales,
    task_of,
    training_windows,
    validation_rollouts,
)
from pde_sym.nn import (
    ModelConfig,
    Surrogate,
    check_fields,
    count_parameters,
    match_width,
)
from pde_sym.objective import TrainConfig, objective
from pde_sym.progress import Talk, progress, talking
from pde_sym.ranks import Ranks, joined
from pde_sym.store import files
from pde_sym.training import Windows, batch_indices, fit
from pde_sym.training_state import load_best

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""What asks to stop: a user, a system, and Slurm some time before its limit."""
TRIAL_UPDATES = 3
"""Of a dry run; the fastest counts."""


class Choices(Frozen):
    """What a user chooses; everything else about a run follows from the data."""

    model: ModelConfig
    training: TrainConfig = TrainConfig()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    number: dict[str, Any] = {"type": int, "metavar": "N"}
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="folder of a data set"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="RUN", help="folder of the run"
    )
    parser.add_argument("--model", help="family, see `pde-sym models`")
    parser.add_argument("--group", help="C<N> turns, D<N> turns and flips")
    parser.add_argument("--width", **number, help="hidden channels or regular fields")
    parser.add_argument(
        "--match-parameters", **number, help="choose the width with about N parameters"
    )
    parser.add_argument("--updates", **number, help="steps of the optimiser (2000)")
    parser.add_argument("--seed", **number, help="of weights and order of the data (0)")
    parser.add_argument(
        "--trajectories", **number, help="training trajectories to use (all)"
    )
    parser.add_argument(
        "--augment",
        metavar="GROUP|KIND",
        help="move each window at random: D4, C4, ... and shifts, or another kind",
    )
    parser.add_argument(
        "--set",
        dest="sets",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any other field: model.depth=3, training.equivariance_penalty.group=D4",
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE.toml", help="tables [model], [training]"
    )
    parser.add_argument(
        "--tensorboard", type=Path, metavar="DIR", help="also write scalars there"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say what it costs on the CPU, write nothing",
    )
    devices.add_argument(parser, "cpu", "where to train, one process alone on cuda")
    parser.add_argument("--json", action="store_true", help="report as JSON")
    parser.epilog = (
        "Several processes share every batch, one thread each, with torchrun: "
        "`torchrun --standalone --nproc-per-node 2 --max-restarts 3 --no-python "
        "pde-sym train ...`. Weights are those of one process up to rounding; when a "
        "process dies, all go on from the last checkpoint."
    )


def run(arguments: argparse.Namespace) -> int:
    # More threads than one lose against several runs side by side.
    torch.set_num_threads(1)
    with joined() as ranks, ExitStack() as quiet:
        if not ranks.is_first:
            quiet.enter_context(talking(Talk.QUIET))
        return _run(arguments, ranks)


def _run(arguments: argparse.Namespace, ranks: Ranks) -> int:
    choices, device = resolve(arguments), devices.chosen_device(arguments.device)
    if device == "cuda" and ranks.size > 1:
        raise InputError(
            f"--device cuda: expected one process, got {ranks.size}; several share a "
            "batch on the CPU"
        )
    dataset = training_data(arguments.data, choices.training)
    config = prepare(dataset, choices, arguments.match_parameters)
    windows = training_windows(dataset)
    check_fit(config, windows)
    if arguments.dry_run:
        return _tell_cost(config, windows, arguments.json) if ranks.is_first else 0
    current = Run(arguments.out, config, arguments.data)
    if not ranks.is_first:
        return _train(current, windows, lambda _: None, arguments.json, device, ranks)
    with tensorboard(arguments.tensorboard) as track:
        files.make_folder(current.folder)
        with files.lock(current.folder):
            write_run(current)
            return _train(current, windows, track, arguments.json, device, ranks)


def resolve(arguments: argparse.Namespace) -> Choices:
    """Return what the command line asks for; options win over the file."""
    values = read_toml(arguments.config) if arguments.config else {}
    model, training = (_table(values, name) for name in ("model", "training"))
    for table, key, value in (
        (model, "kind", arguments.model),
        (model, "group", arguments.group),
        (model, "width", arguments.width),
        (training, "updates", arguments.updates),
        (training, "seed", arguments.seed),
        (training, "trajectories", arguments.trajectories),
    ):
        if value is not None:
            table[key] = value
    if arguments.augment is not None:
        training["augmentation"] = _augmentation(arguments.augment)
    for text in arguments.sets:
        key, value = assignment(text, "--set")
        *tables, name = key.split(".")
        if not tables or tables[0] not in ("model", "training"):
            raise InputError(f"--set {key:.80}: expected model.KEY or training.KEY")
        table = values
        for part in tables:
            table = _table(table, part)
        table[name] = literal(value)
    if "kind" not in model:
        raise InputError("model: expected --model NAME, see `pde-sym models`")
    if arguments.width is not None and arguments.match_parameters is not None:
        raise InputError("expected --width or --match-parameters, got both")
    return Choices.parse(values, where=str(arguments.config or "options"))


def _augmentation(text: str) -> dict[str, Any]:
    """Return the settings that ``--augment TEXT`` stands for."""
    # Groups are a capital and a number; kinds of augmentation are words.
    is_group = text[:1].isupper()
    return {"kind": "group", "group": text} if is_group else {"kind": text}


def training_data(folder: Path, training: TrainConfig) -> TrajectoryDataset:
    """Return the training windows; subsets of one seed are nested."""
    return TrajectoryDataset(
        folder,
        "train",
        window=training.window,
        num_trajectories=training.trajectories,
        subset_seed=training.seed,
    )


def prepare(
    dataset: TrajectoryDataset, choices: Choices, num_parameters: int | None
) -> RunConfig:
    """Return the resolved run of the choices on a data set."""
    task = task_of(dataset)
    choices.training.check(task)
    model, training = choices.model, choices.training
    if num_parameters is not None:
        model = match_width(model, task, num_parameters)
    check_fields(model, task, training.batch_size * training.unroll)
    return RunConfig(
        data=identity_of(dataset.folder),
        task=task,
        normalisation=measure_scales(dataset, task),
        model=model,
        training=choices.training,
    )


@torch.no_grad()
def check_fit(config: RunConfig, windows: Windows) -> None:
    """Take one step, so that what does not fit the data is told before a run begins.

    Raises
    ------
    InputError
        When the network cannot be built for the data, or does not run on their grid.
    """
    states, given = windows.batch([0])
    build_surrogate(config).eval()(states[:, 0], given)


def _tell_cost(config: RunConfig, windows: Windows, as_json: bool) -> int:
    """Print what a training takes, from a few updates whose weights are thrown away."""
    surrogate, training = build_surrogate(config), config.training
    seconds = []
    for update in range(TRIAL_UPDATES):
        start = time.monotonic()
        size = training.batch_size
        indices = batch_indices(training.seed, update, size, len(windows))
        loss, _ = objective(surrogate, *windows.batch(indices), training, update)
        loss.backward()
        seconds.append(time.monotonic() - start)
    parameters = count_parameters(surrogate)
    cost = {
        "config": config.model_dump(mode="json"),
        "parameters": parameters,
        "windows": len(windows),
        "update_ms": round(1000 * min(seconds), 3),
        "seconds": round(min(seconds) * training.updates, 1),
        # Weights and two moments, in two checkpoints and the best weights.
        "disk_bytes": 4 * parameters * (2 * 3 + 1),
    }
    line = (
        f"{config.model.kind}, {parameters} parameters: {training.updates} updates of "
        f"{cost['update_ms']:.1f} ms, about {cost['seconds']:.0f} s besides "
        f"validation; {cost['disk_bytes'] / 1e6:.1f} MB"
    )
    print(json.dumps(cost) if as_json else line)
    return 0


def _train(
    current: Run,
    windows: Windows,
    track: Callable[[dict[str, Any]], None],
    as_json: bool,
    device: str,
    ranks: Ranks,
) -> int:
    config, start = current.config, time.monotonic()
    surrogate = build_surrogate(config).to(device)
    valid = validation_rollouts(current.data, config.training.horizon)
    with (
        _stop_signal() as stopped,
        progress(current.name, config.training.updates, "updates") as advance,
    ):
        seen = 0

        def report(row: dict[str, Any]) -> None:
            nonlocal seen
            advance(row["update"] - seen)
            seen = row["update"]
            track(row)

        done = fit(
            surrogate,
            windows,
            valid,
            config.training,
            current.folder,
            report=report,
            stop=lambda: stopped() is not None,
            ranks=ranks,
        )
    if not done and ranks.is_first:
        print(
            f"{current.folder}: stopped; the same command goes on where it was",
            file=sys.stderr,
        )
    if not done:
        # Without a signal of its own another rank had one.
        return 128 + (stopped() or signal.SIGTERM)
    if ranks.is_first:
        _tell_end(current, surrogate, time.monotonic() - start, as_json)
    return 0


def _tell_end(
    current: Run, surrogate: Surrogate, seconds: float, as_json: bool
) -> None:
    """Print what a training has come to; load the best weights for it."""
    config = current.config
    best = load_best(surrogate, current.folder)
    summary = {
        "run": str(current.folder),
        "model": config.model.model_dump(mode="json"),
        "parameters": count_parameters(surrogate),
        "updates": config.training.updates,
        "best_update": best["update"],
        "valid_vrmse": float.fromhex(best["best"]),
        "seconds": round(seconds, 1),
    }
    line = (
        f"{current.folder}: {config.model.kind}, {summary['parameters']} parameters; "
        f"VRMSE {summary['valid_vrmse']:.4f} over {config.training.horizon} steps of "
        f"validation rollouts at update {best['update']} of "
        f"{config.training.updates}; {summary['seconds']:.0f} s"
    )
    print(json.dumps(summary) if as_json else line)


def _table(values: dict[str, Any], key: str) -> dict[str, Any]:
    table = values.setdefault(key, {})
    if table is None:  # a table that was switched off is switched on again
        table = values[key] = {}
    if not isinstance(table, dict):
        raise InputError(f"{key}: expected a table, got {table!r:.80}")
    return table


@contextmanager
def _stop_signal() -> Iterator[Callable[[], int | None]]:
    """Yield a function that returns the signal that asked to stop, if one did.

    The loop then saves its state. A second Ctrl-C ends it at once; a second SIGTERM
    does not, for schedulers send theirs to a whole group, and launchers pass it on.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = {s: signal.getsignal(s) for s in STOP_SIGNALS}

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if number == signal.SIGINT:
            signal.signal(number, before[signal.SIGINT])

    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
