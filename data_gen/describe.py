"""``pde-sym describe``: what a data set holds, and how symmetric its solver is.

The data defect of a symmetry g is measured on the solver Phi over one frame, from the
stored initial states and in their environment:

    || Phi(g u) - g Phi(u) || / || Phi(u) ||,   mean over trajectories.

Time error and spectral tail of each field are those of `data_gen.accuracy`. The part of
an invariant's drift that is the scheme's own, upwinding say, is ``int I' dt`` of
`System.scheme_rates` by the trapezoidal rule over frames.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_gen.accuracy import accuracy
from data_gen.importing import is_imported, show_imported
from data_gen.recipes import Recipe, read_recipe
from data_gen.shards import one_thread
from pde_sym.diagnostics import Action, Defect, defects
from pde_sym.errors import LostTrajectoryError
from pde_sym.progress import progress
from pde_sym.store import (
    Manifest,
    Shard,
    open_entries,
    open_entry,
    read_manifest,
)
from pde_sym.systems.ensemble import Dynamics

HELP = "sizes, ranges, invariants, surviving symmetries and the data's defect"

MAX_TRAJECTORIES = 16
"""Initial states on which the defect is measured."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("data", type=Path, metavar="DIR", help="folder of a data set")
    parser.add_argument(
        "--pictures", type=Path, metavar="FOLDER", help="also draw strips of frames"
    )
    parser.add_argument("--json", action="store_true", help="report as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    manifest = read_manifest(arguments.data)
    if is_imported(manifest):
        return show_imported(arguments.data, manifest, as_json=arguments.json)
    report = describe(arguments.data)
    if arguments.pictures is not None:
        from data_gen.pictures import draw  # matplotlib is slow to import

        report["pictures"] = draw(arguments.data, arguments.pictures)
    if arguments.json:
        print(json.dumps(report))
    else:
        _show(report)
    return 0


@one_thread()
def describe(folder: Path) -> dict[str, Any]:
    """Measure a data set; `DataError` when it is damaged."""
    manifest, recipe = read_manifest(folder), read_recipe(folder)
    system = recipe.system
    with progress("reading", len(manifest.shards), "files") as finished:
        shards = _load(folder, manifest, finished)
        fields, invariants = _measure(shards, recipe)
    prediction = manifest.prediction
    return {
        "path": str(folder),
        "prediction": None if prediction is None else prediction.model_dump(),
        "system": system.kind,
        "equation": [
            system.equation,
            *(t.equation for t in system.breaking if t.strength > 0),
        ],
        "strengths": {t.kind: t.strength for t in system.breaking},
        "strength_ranges": recipe.strengths,
        "environment": recipe.environment_kind,
        "resolution": list(recipe.grid.shape),
        "length": recipe.length,
        "frames": recipe.frames,
        "dt": recipe.frame_spacing,
        "seed": recipe.seed,
        "trajectories": manifest.held(),
        "lost": manifest.lost_rows(),
        "files": len(manifest.shards),
        "bytes": sum(entry.bytes for entry in manifest.shards),
        "fields": fields,
        "invariants": invariants,
        "subgroup": system.survivors.name,
        "properties": sorted(p.value for p in system.properties),
        "broken_properties": sorted(
            p.value for p in system.intact_properties - system.properties
        ),
        "defect": data_defect(folder, manifest, recipe),
        # Of the solver: it says nothing of a prediction.
        "accuracy": {} if prediction else _accuracy(folder, recipe, manifest),
    }


def _accuracy(folder: Path, recipe: Recipe, manifest: Manifest) -> dict[str, Any]:
    """Return time error and spectral tail; nothing where finer steps get lost."""
    split = manifest.shown()
    with open_entry(folder, manifest.of(split)[0]) as reader:
        stored = reader.load()
    try:
        return accuracy(recipe, split, manifest.numbers(split), stored)
    except LostTrajectoryError:
        return {}


def _load(folder: Path, manifest: Manifest, finished: Any) -> Iterator[Shard]:
    for reader in open_entries(folder, manifest.shards):
        yield reader.load()
        finished(1)


def _measure(
    shards: Iterator[Shard], recipe: Recipe
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return ranges and changes per field; drift, scheme and residual per invariant."""
    low: dict[str, float] = {}
    high: dict[str, float] = {}
    changes: dict[str, list[np.ndarray]] = {f.name: [] for f in recipe.system.fields}
    names = [invariant.name for invariant in recipe.system.invariants]
    drift, own, residual = (dict.fromkeys(names, 0.0) for _ in range(3))
    for shard in shards:
        for name, channels in shard.fields.slices().items():
            u = shard.states[:, :, channels].astype(np.float64)
            low[name] = min(low.get(name, np.inf), float(u.min()))
            high[name] = max(high.get(name, -np.inf), float(u.max()))
            inner = tuple(range(2, u.ndim))
            moved = np.sqrt((np.diff(u, axis=1) ** 2).sum(axis=inner))
            size = np.sqrt((u[:, :-1] ** 2).sum(axis=inner))
            changes[name].append((moved / np.maximum(size, 1e-300)).ravel())
        for name in names:
            values, budget = shard.invariants[name], shard.budgets[name]
            change = values - values[:, :1]
            drift[name] = max(drift[name], float(np.abs(change).max()))
            residual[name] = max(residual[name], float(np.abs(change - budget).max()))
        for name, part in _of_scheme(recipe.dynamics, shard).items():
            own[name] = max(own[name], part)
    fields = {
        field.name: {
            "unit": field.unit,
            "min": low[field.name],
            "max": high[field.name],
            "change": float(np.median(np.concatenate(changes[field.name]))),
        }
        for field in recipe.system.fields
    }
    invariants = {
        i.name: {
            "unit": i.unit,
            "meaning": i.meaning,
            "drift": drift[i.name],
            "scheme": own[i.name],
            "residual": residual[i.name],
        }
        for i in recipe.system.invariants
    }
    return fields, invariants


def _of_scheme(system: Dynamics, shard: Shard) -> dict[str, float]:
    """Return the largest change of each invariant that the scheme itself makes."""
    environment = torch.from_numpy(shard.environment.astype(np.float64))
    given = environment.expand(len(shard.states), *environment.shape[1:])
    rates: dict[str, list[Tensor]] = {}
    for frame in np.moveaxis(shard.states, 1, 0):
        state = torch.from_numpy(frame.astype(np.float64))
        for name, rate in system.scheme_rates(state, shard.grid, given).items():
            rates.setdefault(name, []).append(rate)
    times = torch.from_numpy(shard.times)
    changes = {
        name: torch.cumulative_trapezoid(torch.stack(series, 1), times)
        for name, series in rates.items()
    }
    return {name: float(change.abs().max()) for name, change in changes.items()}


def data_defect(
    folder: Path, manifest: Manifest, recipe: Recipe
) -> list[dict[str, Any]]:
    """Return the solver's relative defect per element, on stored initial states.

    ``defect`` moves the state alone. Where the environment is given, ``joint`` moves
    state and environment together, which leaves the equation as it was unless a term
    has a direction of its own.
    """
    states, environment = _initial_states(folder, manifest)
    system, grid, dt = recipe.dynamics, recipe.grid, recipe.frame_spacing
    after: Any = recipe.system.action(grid)
    chosen: Any = recipe.system.probes(grid)
    number = system.fields.num_channels
    phi = system.solver(grid, environment, dt)

    def joint_phi(x: Tensor) -> Tensor:
        return system.solver(grid, x[:, number:], dt)(x[:, :number])

    with one_thread():
        alone = defects(phi, states, chosen, after)
        together: list[Defect] = []
        moves = len(system.environment_fields) > 0 and grid.num_points > 1
        if recipe.environment_kind == "given" and moves:
            before = Action(system.fields + system.environment_fields, grid)
            inputs = torch.cat([states, environment], dim=1)
            together = defects(joint_phi, inputs, chosen, after, before)
    rows: list[dict[str, Any]] = [
        {
            "element": d.element.name,
            "survives": recipe.system.keeps(d.element),
            "defect": d.mean,
        }
        for d in alone
    ]
    for row, d in zip(rows, together, strict=False):
        row["joint"] = d.mean
    return rows


def _initial_states(folder: Path, manifest: Manifest) -> tuple[Tensor, Tensor]:
    """Return frame 0 of test trajectories, or of others where there is no test."""
    chosen = slice(0, MAX_TRAJECTORIES)
    with open_entry(folder, manifest.of(manifest.shown())[0]) as reader:
        states = reader.states(chosen, slice(0, 1))[:, 0].astype(np.float64)
        environment = reader.environment(chosen).astype(np.float64)
    return torch.from_numpy(states), torch.from_numpy(environment)


def _show(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()

    def table(title: str, *columns: str) -> Table:
        result = Table(title=title, title_justify="left")
        for number, column in enumerate(columns):
            result.add_column(column, justify="right" if number else "left")
        return result

    counts = ", ".join(f"{n} {split}" for split, n in report["trajectories"].items())
    points = " x ".join(map(str, report["resolution"]))
    console.print(
        f"{report['path']}: {report['system']}, {counts} trajectories of "
        f"{report['frames']} frames, {points} points, "
        f"dt {report['dt']:g}, {report['bytes'] / 1e6:.1f} MB in "
        f"{report['files']} files, environment {report['environment']}",
        highlight=False,
        soft_wrap=True,
    )
    if report["prediction"]:
        by = report["prediction"]
        console.print(
            f"  predicted by the run {by['run']} ({by['model']})", highlight=False
        )
    if report["lost"]:
        console.print(
            f"  {len(report['lost'])} more are missing: they left the finite numbers",
            highlight=False,
        )
    ranges = {k: f"{a:g} to {b:g}" for k, (a, b) in report["strength_ranges"].items()}
    strengths = ", ".join(
        f"{k} {ranges.get(k, format(v, 'g'))}" for k, v in report["strengths"].items()
    )
    for line in (*report["equation"], f"breaking: {strengths or 'none'}"):
        console.print(f"  {line}", highlight=False, markup=False)
    fields = table(
        "fields",
        "field",
        "unit",
        "min",
        "max",
        "change per frame",
        "time error",
        "tail",
    )
    for name, row in report["fields"].items():
        numbers = (f"{row[key]:.4g}" for key in ("min", "max", "change"))
        exact = report["accuracy"].get(name, {"error": None, "tail": None})
        errors = ("" if e is None else f"{e:.1e}" for e in exact.values())
        fields.add_row(name, row["unit"], *numbers, *errors)
    numbers = ("largest drift", "the scheme's own", "budget residual")
    invariants = table("invariants", "name", "unit", *numbers)
    for name, row in report["invariants"].items():
        own = f"{row['scheme']:.2e}" if row["scheme"] else "-"
        drift, residual = f"{row['drift']:.2e}", f"{row['residual']:.2e}"
        invariants.add_row(name, row["unit"], drift, own, residual)
    joint = any("joint" in row for row in report["defect"])
    columns = ("element", "survives", "defect") + (("joint",) if joint else ())
    defect = table(f"solver's defect; survives: {report['subgroup']}", *columns)
    for row in report["defect"]:
        cells = [row["element"], "yes" if row["survives"] else "no"]
        cells += [f"{row[key]:.2e}" for key in columns[2:]]
        defect.add_row(*cells)
    for each in (fields, invariants, defect):
        console.print(each)
    for what in ("properties", "broken_properties"):
        names = ", ".join(report[what]) or "none"
        console.print(
            f"{what.replace('_', ' ')}: {names}", highlight=False, markup=False
        )
