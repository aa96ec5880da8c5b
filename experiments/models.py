"""``pde-sym models``: the model families, with parameters and cost side by side."""

import argparse
import json
import time
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from experiments.table import print_table
from pde_sym.dataset import TrajectoryDataset
from pde_sym.errors import InputError
from pde_sym.learning import task_of
from pde_sym.nn import (
    Family,
    ModelConfig,
    Task,
    count_parameters,
    match_width,
    relaxed_layers,
)
from pde_sym.systems import Heat, KdV, RigidBody

BATCH = 16
REPEATS = 3
RESOLUTION = 32
PLACES = {2: "plane", 1: "line", 0: "body"}
"""What data with so many axes lie on."""


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
        "--resolution",
        type=int,
        metavar="N",
        help=f"points per axis, for the timing ({RESOLUTION}, or those of the data)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, exact names")


def run(arguments: argparse.Namespace) -> int:
    torch.set_num_threads(1)
    points = arguments.resolution
    if points is not None and not 8 <= points <= 512:
        raise InputError(f"--resolution {points}: expected 8 to 512")
    own = None if arguments.data is None else _task_of(arguments.data)
    rows, works = [], []
    for family in families():
        task = own or example(max(family.axes), points or RESOLUTION)
        row, net = describe(family, arguments.match_parameters, task)
        rows.append(row)
        if net is not None:
            works.append((row, net, _inputs(task, points or task.resolution)))
    _add_times(works)
    if arguments.json:
        print(json.dumps(rows))
    else:
        _print(rows)
    return 0


def families() -> tuple[type[Family], ...]:
    """Return the classes of every model family."""
    union, *_ = get_args(ModelConfig)
    return get_args(union)


def example(num_axes: int, resolution: int) -> Task:
    """Return a small task on so many axes, in which the place matters."""
    systems = {2: Heat, 1: KdV, 0: RigidBody}
    return Task(
        state=systems[num_axes]().fields.prognostic(),
        breaks_translation=num_axes > 0,
        resolution=resolution if num_axes else None,
        num_axes=num_axes,
    )


def describe(
    family: type[Family], num_parameters: int | None, task: Task
) -> tuple[dict[str, Any], nn.Module | None]:
    """Return what there is to say of a family on a task, and its network.

    Without a network for the task, ``unavailable`` says why.
    """
    kind = family.model_fields["kind"].default
    row: dict[str, Any] = {
        "model": kind,
        "about": " ".join((family.__doc__ or "").split("\n\n")[0].split()),
        "axes": sorted(family.axes),
        "group": None,
        "task": PLACES[task.num_axes],
        "unavailable": None,
        "config": None,
        "parameters": None,
        "parts": {},
        "layers": [],
        "update_ms": None,
        "step_ms": None,
    }
    try:
        config = family.model_validate({})
        row["group"] = getattr(config, "group", None)
        # What does not serve the task is said before any width is looked for.
        net = config.build(task)
        if num_parameters is not None:
            config = match_width(config, task, num_parameters)
            net = config.build(task)
    except InputError as error:
        return row | {"unavailable": str(error)}, None
    row["config"] = config.model_dump(mode="json")
    row["parameters"] = count_parameters(net)
    row["parts"], row["layers"] = _parts(net), _layers(net)
    return row, net


def _parts(net: nn.Module) -> dict[str, int]:
    """Return the weights of each part of all layers that can be relaxed."""
    total: dict[str, int] = {}
    for layer in relaxed_layers(net):
        for name, number in layer.parameters_per_part().items():
            total[name] = total.get(name, 0) + number
    return total


def _layers(net: nn.Module) -> list[dict[str, str]]:
    """Return name, formula and source of each kind of layer that can be relaxed."""
    kinds = dict.fromkeys(type(layer) for layer in relaxed_layers(net))
    return [
        {"layer": kind.__name__, "formula": kind.formula, "source": kind.source}
        for kind in kinds
    ]


def _task_of(folder: Path) -> Task:
    dataset = TrajectoryDataset(folder, "train", window=2)
    return task_of(dataset)


def _inputs(task: Task, points: int | None) -> Tensor:
    shape = task.array_axes * [points or 1] if task.num_axes else [1, 1, 1]
    return torch.randn(BATCH, task.inputs.num_channels, *shape)


def _add_times(works: list[tuple[dict[str, Any], nn.Module, Tensor]]) -> None:
    """Measure all families in turns, so that a busy machine slows all of them."""
    for row, _, _ in works:
        row |= {"update_ms": float("inf"), "step_ms": float("inf")}
    for _ in range(REPEATS + 1):
        for row, net, x in works:
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


def _print(rows: list[dict[str, Any]]) -> None:
    names = ["model", "group", "for", "shown on", "width", "parameters", "relaxing"]
    table = []
    for row in rows:
        cells = [row["model"], row["group"] or "-"]
        cells += [", ".join(PLACES[axes] for axes in row["axes"]), row["task"]]
        if row["config"] is None:
            table.append([*cells, *5 * ["-"]])
            continue
        relaxing = sum(n for part, n in row["parts"].items() if part != "trivial")
        cells += [str(row["config"]["width"]), str(row["parameters"]), str(relaxing)]
        table.append([*cells, f"{row['update_ms']:.1f}", f"{row['step_ms']:.1f}"])
    print_table(
        f"one update and one step of a batch of {BATCH}, one thread",
        [*names, "update [ms]", "step [ms]"],
        table,
    )
    longest = max(len(row["model"]) for row in rows)
    for row in rows:
        print(f"{row['model']:{longest}}  {row['unavailable'] or row['about']}")
    layers = {entry["layer"]: entry for row in rows for entry in row["layers"]}
    for name, entry in layers.items():
        users = [r["model"] for r in rows if entry in r["layers"]]
        print(f"\n{name} ({', '.join(users)})\n  {entry['formula']}")
        print(f"  {entry['source']}")
