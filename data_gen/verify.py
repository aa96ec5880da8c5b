"""``pde-sym verify``: check a data set to the bit and in its physics."""

import argparse
import json
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from data_gen.importing import is_imported, show_imported
from data_gen.recipes import Recipe, read_recipe
from data_gen.shards import one_thread, scalars_of
from pde_sym.diagnostics import measured_sizes
from pde_sym.errors import DataError
from pde_sym.progress import progress
from pde_sym.seeds import Split
from pde_sym.store import (
    Manifest,
    Shard,
    ShardReader,
    compute_statistics,
    open_entries,
    read_manifest,
    read_statistics,
)
from pde_sym.store.folder import MANIFEST, STATISTICS
from pde_sym.systems import Property
from pde_sym.systems.ensemble import Dynamics

Series: TypeAlias = dict[str, NDArray[np.float64]]
"""Per invariant, ``(trajectories, frames)``."""

HELP = "check hashes, schema and physics of a data set"

STORED_TOLERANCE = {"float32": 1e-6, "float64": 1e-12}
"""Of invariants that are computed again from stored fields, relative to their size."""
VALUES_AT_ONCE = 1 << 14
"""Of states that are measured in one call: many frames, and few enough for a cache."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("data", type=Path, metavar="DIR", help="folder of a data set")
    parser.add_argument("--json", action="store_true", help="report as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    manifest = read_manifest(arguments.data)
    if is_imported(manifest):
        return show_imported(arguments.data, manifest, as_json=arguments.json)
    report = verify(arguments.data)
    missing = f" ({report['missing']} are missing)" if report["missing"] else ""
    budgets = f", budgets close to {report['budget']:.1e}"
    if report["prediction"]:
        budgets = "; predictions, whose budgets need not close"
    line = (
        f"{arguments.data}: sound; {report['files']} files, "
        f"{report['trajectories']} trajectories{missing}, invariants recompute to "
        f"{report['stored']:.1e}{budgets}"
    )
    print(json.dumps(report) if arguments.json else line)
    return 0


@one_thread()
def verify(folder: Path) -> dict[str, Any]:
    """Check a data set; return what was measured.

    Raises
    ------
    DataError
        Naming the first file and reason.
    """
    manifest = read_manifest(folder)
    recipe = read_recipe(folder)
    _check_files(folder, manifest)
    stored = budget = 0.0
    with progress("verifying", len(manifest.shards), "files") as finished:
        readers = open_entries(folder, manifest.shards)
        for entry, reader in zip(manifest.shards, readers, strict=True):
            reader.check_schema()
            _check_header(reader, recipe, manifest, entry.split)
            shard = reader.load()
            values, sizes = measured(recipe.dynamics, shard)
            stored = max(
                stored, _check_invariants(reader.path, shard, recipe, values, sizes)
            )
            if manifest.prediction is None:  # a prediction owes nothing to physics
                budget = max(budget, _check_budgets(reader.path, shard, recipe, sizes))
                _check_maximum(reader.path, shard, recipe)
            finished(1)
    if manifest.prediction is None:  # else they are those of the training data
        _check_statistics(folder, manifest)
    return {
        "path": str(folder),
        "sound": True,
        "prediction": manifest.prediction is not None,
        "files": len(manifest.shards),
        "trajectories": sum(manifest.held().values()),
        "missing": len(manifest.lost()),
        "stored": stored,
        "budget": budget,
    }


def _check_files(folder: Path, manifest: Manifest) -> None:
    """Check that the folder holds the listed files and no others."""
    listed = {entry.file: entry.bytes for entry in manifest.shards}
    for file, size in listed.items():
        path = folder / file
        if not path.is_file():
            raise DataError(f"{path}: missing; repeat the command that made it")
        if path.stat().st_size != size:
            raise DataError(
                f"{path}: {path.stat().st_size} bytes, the manifest says {size}"
            )
    for path in sorted((folder / "data").rglob("*")):
        if not path.is_dir() and path.relative_to(folder).as_posix() not in listed:
            raise DataError(f"{path}: not listed in {MANIFEST}; clients would read it")


def _check_header(
    reader: ShardReader, recipe: Recipe, manifest: Manifest, split: Split
) -> None:
    for what, found, expected in (
        ("config", reader.config, manifest.config),
        ("fields", reader.fields, recipe.system.fields),
        (
            "environment fields",
            reader.environment_fields,
            recipe.dynamics.environment_fields,
        ),
        ("environment", reader.environment_kind, recipe.environment_kind),
        ("grid", reader.grid, recipe.grid),
        ("times", reader.times.tolist(), recipe.times(split).tolist()),
        ("scalars", reader.scalars, scalars_of(recipe)),
    ):
        if found != expected:
            raise DataError(f"{reader.path}: its {what} is not what the recipe says")


def _check_invariants(
    path: Path, shard: Shard, recipe: Recipe, values: Series, sizes: Series
) -> float:
    """Compare the invariants with those of the stored fields; return the worst error.

    `values` and `sizes` are what `measured` found.
    """
    tolerance = STORED_TOLERANCE[recipe.dtype]
    worst = 0.0
    for name, stored in shard.invariants.items():
        error = _relative(values[name] - stored, sizes[name])
        if error > tolerance:
            raise DataError(
                f"{path}: {name} differs from the stored fields by {error:.1e} of its "
                f"size, more than {tolerance:.0e}"
            )
        worst = max(worst, error)
    return worst


def measured(system: Dynamics, shard: Shard) -> tuple[Series, Series]:
    """Return the invariants of all frames, and their sizes; see `measured_sizes`."""
    num, frames = shard.states.shape[:2]
    states = torch.from_numpy(shard.states).flatten(0, 1)
    environment = torch.from_numpy(shard.environment.astype(np.float64))
    at_once = max(1, VALUES_AT_ONCE // states[0].numel())
    found: tuple[dict[str, list[Tensor]], ...] = ({}, {})
    is_hidden = shard.environment_kind == "hidden"
    for rows in torch.arange(num * frames).split(at_once):
        around = environment if is_hidden else environment[rows // frames]
        some = measured_sizes(system, shard.grid, states[rows].double(), around)
        for series, budget in zip(found, some, strict=True):
            for name, part in budget.items():
                series.setdefault(name, []).append(part)
    values, sizes = (
        {n: torch.cat(parts).view(num, frames).numpy() for n, parts in series.items()}
        for series in found
    )
    return values, sizes


def _relative(error: np.ndarray, sizes: np.ndarray) -> float:
    """Return the largest error over the largest size of each trajectory."""
    size = np.abs(sizes).max(axis=1) + np.finfo(np.float64).tiny
    return float((np.abs(error).max(axis=1) / size).max())


def _check_budgets(path: Path, shard: Shard, recipe: Recipe, sizes: Series) -> float:
    """Compare each invariant's change with its budget; return the worst residual."""
    worst = 0.0
    for invariant in recipe.system.invariants:
        name = invariant.name
        values, budget = shard.invariants[name], shard.budgets[name]
        if (budget[:, 0] != 0).any():
            raise DataError(f"{path}: {name}_budget does not start at 0")
        size = np.maximum(np.abs(values), sizes[name])
        residual = _relative(values - values[:, :1] - budget, size)
        if residual > invariant.residual:
            raise DataError(
                f"{path}: {name} changes by {residual:.1e} of its size beyond its "
                f"budget, more than {invariant.residual:.0e}"
            )
        worst = max(worst, residual)
    return worst


def _check_maximum(path: Path, shard: Shard, recipe: Recipe) -> None:
    """Check that no frame leaves the range of the one before, where that is claimed."""
    if Property.MAXIMUM_PRINCIPLE not in recipe.system.properties:
        return
    states = shard.states.astype(np.float64).reshape(*shard.states.shape[:2], -1)
    high, low = states.max(axis=2), states.min(axis=2)
    allowed = STORED_TOLERANCE[recipe.dtype] * np.abs(states).max(axis=(1, 2))
    beyond = np.maximum(np.diff(high, axis=1), -np.diff(low, axis=1)).max(axis=1)
    if (beyond > allowed).any():
        raise DataError(
            f"{path}: trajectory {int((beyond - allowed).argmax())} of the file breaks "
            f"the maximum principle by {beyond.max():.1e}"
        )


def _check_statistics(folder: Path, manifest: Manifest) -> None:
    stored = read_statistics(folder, manifest)
    shards = open_entries(folder, manifest.of(Split.TRAIN))
    computed = yaml.safe_load(compute_statistics(shards))
    for key, fields in computed.items():
        if set(stored[key]) != set(fields):
            raise DataError(f"{folder / STATISTICS}: {key} has other fields")
        for name, value in fields.items():
            # Sums may round differently on another processor.
            scale = np.abs(computed["rms"][name]).max()
            if not np.allclose(stored[key][name], value, rtol=1e-9, atol=1e-9 * scale):
                raise DataError(
                    f"{folder / STATISTICS}: {key} of {name} is {stored[key][name]}, "
                    f"the training split gives {value}"
                )
