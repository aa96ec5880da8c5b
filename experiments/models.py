"""``pde-sym models``: the model families, with parameters and cost side by side."""

import argparse
import json
import time
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from data_gen.recipes import read_recipe
from experiments.runs import task_of
from experiments.table import print_table
from pde_sym.dataset import TrajectoryDataset
from pde_sym.errors import InputError
from pde_sym.nn import Family, ModelConfig, Task, count_parameters, match_width
from pde_sym.systems import SYSTEMS

BATCH = 16
REPEATS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="for the fields of this data set"
    )
    parser.add_argument(
        "--match-parameters",
        type=int,
        metavar="N",
        help="show each family at about N parameters (its own default width)",
    )
    parser.add_argument(
        "--resolution", type=int, default=32, metavar="N", help="of the timing (32)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    torch.set_num_threads(1)
    if not 8 <= arguments.resolution <= 512:
        raise InputError(f"--resolution {arguments.resolution}: expected 8 to 512")
    task = _task(arguments.data)
    rows = _rows(arguments.match_parameters, task)
    _add_times(rows, task, arguments.resolution)
    if arguments.json:
        print(json.dumps(rows))
        return 0
    print_table(
        f"one update and one step on {arguments.resolution}^2 points, a batch of "
        f"{BATCH}, one thread",
        ["model", "group", "width", "parameters", "update [ms]", "step [ms]"],
        [
            [
                row["model"],
                row["group"] or "translations",
                str(row["config"]["width"]),
                str(row["parameters"]),
                f"{row['update_ms']:.0f}",
                f"{row['step_ms']:.0f}",
            ]
            for row in rows
        ],
    )
    for row in rows:
        print(f"{row['model']:10} {row['about']}")
    return 0


def families() -> tuple[type[Family], ...]:
    """Return the classes of every model family."""
    union, *_ = get_args(ModelConfig)
    return get_args(union)


def _rows(num_parameters: int | None, task: Task) -> list[dict[str, Any]]:
    """Describe the families that have a network, of about the asked size."""
    rows = []
    for kind in families():
        if task.num_axes in kind.axes:
            try:
                rows.append(describe(kind, num_parameters, task))
            except InputError:
                if num_parameters is None:
                    raise
    return rows


def describe(kind: type, num_parameters: int | None, task: Task) -> dict[str, Any]:
    """Return name, settings, group and parameters of a family on a task."""
    config = kind()
    if num_parameters is not None:
        config = match_width(config, task, num_parameters)
    return {
        "model": config.kind,
        "about": " ".join((kind.__doc__ or "").split("\n\n")[0].split()),
        "group": getattr(config, "group", None),
        "config": config.model_dump(mode="json"),
        "parameters": count_parameters(config.build(task)),
    }


def _task(folder: Path | None) -> Task:
    """Return the task of a data set, or that of a hidden, uneven medium."""
    if folder is None:
        return Task(state=SYSTEMS[0].fields, breaks_translation=True)
    dataset = TrajectoryDataset(folder, "train", window=2)
    return task_of(dataset, read_recipe(folder).system)


def _add_times(rows: list[dict[str, Any]], task: Task, resolution: int) -> None:
    """Measure all families in turns, so that a busy machine slows all of them."""
    by_name = {kind.model_fields["kind"].default: kind for kind in families()}
    nets = [by_name[row["model"]](**row["config"]).build(task) for row in rows]
    points = task.num_axes * [resolution] or [1, 1, 1]
    x = torch.randn(BATCH, task.inputs.num_channels, *points)
    for row in rows:
        row |= {"update_ms": float("inf"), "step_ms": float("inf")}
    for _ in range(REPEATS + 1):
        for row, net in zip(rows, nets, strict=True):
            row["update_ms"] = min(row["update_ms"], _milliseconds(_update, net, x))
            row["step_ms"] = min(row["step_ms"], _milliseconds(_step, net, x))


def _update(net: nn.Module, x: Tensor) -> None:
    net.train()
    net(x).square().mean().backward()


@torch.no_grad()
def _step(net: nn.Module, x: Tensor) -> None:
    net.eval()
    net(x)


def _milliseconds(work: Any, *arguments: Any) -> float:
    start = time.perf_counter()
    work(*arguments)
    return round(1e3 * (time.perf_counter() - start), 3)
