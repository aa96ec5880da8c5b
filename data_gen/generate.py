"""``pde-sym generate``: simulate a data set."""

import argparse
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from data_gen.build import build
from data_gen.cost import GIB, Caps, check_cost, estimate
from data_gen.recipes import NAMED, Recipe, named, resolve
from pde_sym import devices, executor
from pde_sym.config import canonical_json
from pde_sym.errors import InputError, SimulationError
from pde_sym.progress import progress
from pde_sym.seeds import Split
from pde_sym.store import Manifest

HELP = "simulate trajectories with a chosen amount of symmetry breaking"

MOST_NAMED = 10
"""Lost trajectories that have a line of their own."""
INTERRUPTED = 130
TERMINATED = 143


class Terminated(BaseException):
    """SIGTERM came."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.epilog = (
        "A trajectory that leaves the finite numbers is left out, the others are not "
        "touched; exit code 5 then, and the manifest says which and where."
    )
    parser.add_argument(
        "system", nargs="?", help="name of the system, for instance heat"
    )
    parser.add_argument(
        "--break",
        dest="breaks",
        action="append",
        default=[],
        metavar="NAME=STRENGTH",
        help="add a breaking term; 0 is the intact system; LOW..HIGH draws a strength "
        "for each trajectory, which models may read",
    )
    parser.add_argument(
        "--set",
        dest="sets",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set a parameter: conductivity=0.5, bubbles.count=4, initial.modes=3, "
        "bubbles.field=FILE.npy",
    )
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help=f"a recipe that is at hand; options win over it: {', '.join(NAMED)}",
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE.toml", help="a recipe; options win over it"
    )
    number: dict[str, Any] = {"type": int, "metavar": "N"}
    real: dict[str, Any] = {"type": float}
    parser.add_argument(
        "--resolution", **number, help="points per axis, even (the system's own)"
    )
    parser.add_argument(
        "--frames", **number, help="frames per trajectory, the first one included (21)"
    )
    parser.add_argument(
        "--dt",
        **real,
        metavar="TIME",
        help="time between frames, in units of time (the system's own)",
    )
    for split, count in (("train", 64), ("valid", 8), ("test", 16)):
        parser.add_argument(
            f"--{split}", **number, default=count, help=f"trajectories ({count})"
        )
    parser.add_argument(
        "--split-by",
        choices=("trajectory", "time"),
        help="trajectory: each split has its own; time: valid and test go on where "
        "train and valid end (trajectory)",
    )
    parser.add_argument(
        "--gap", **number, help="frames left out between splits by time (0)"
    )
    parser.add_argument("--seed", **number, help="root of all random numbers (0)")
    parser.add_argument(
        "--environment",
        choices=("hidden", "given"),
        help="one environment for all that models do not see, or one for each that "
        "they may read (hidden, unless strengths are drawn)",
    )
    parser.add_argument(
        "--dtype", choices=("float32", "float64"), help="precision on disk (float32)"
    )
    purpose = "where to simulate; the bytes of the two differ by rounding"
    devices.add_argument(parser, "auto", purpose)
    executor.add_arguments(parser)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the data set"
    )
    parser.add_argument(
        "--max-gib", **real, metavar="GIB", help="limit of disk (64) and memory (4)"
    )
    parser.add_argument(
        "--max-point-steps",
        **number,
        help="limit of grid points x frames x trajectories (10^13)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what it would cost, make nothing"
    )
    parser.add_argument("--json", action="store_true", help="report as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    options = ("resolution", "frames", "dt", "seed", "environment", "dtype")
    options += ("split_by", "gap")
    if arguments.recipe is not None and arguments.config is not None:
        raise InputError("--recipe and --config: give one of them")
    recipe = resolve(
        arguments.system,
        arguments.breaks,
        arguments.sets,
        arguments.config if arguments.recipe is None else named(arguments.recipe),
        {name: getattr(arguments, name) for name in options},
    )
    counts, device = _counts(arguments), devices.chosen_device(arguments.device)
    cost = estimate(recipe, counts)
    check_cost(cost, Caps.of(arguments.max_gib, arguments.max_point_steps))
    if arguments.dry_run:
        report = {"recipe": json.loads(canonical_json(recipe)), **cost.model_dump()}
        line = (
            f"{sum(counts.values())} trajectories: {cost.disk_bytes / GIB:.3g} GiB on "
            f"disk, {cost.memory_bytes / GIB:.3g} GiB of memory, "
            f"{cost.point_steps:.3g} point-steps"
        )
        print(json.dumps(report) if arguments.json else line)
        return 0
    try:
        with _termination():
            return _generate(recipe, counts, device, arguments)
    except (KeyboardInterrupt, Terminated) as error:
        print(
            f"{arguments.out}: stopped; the same command goes on where it was",
            file=sys.stderr,
        )
        return TERMINATED if isinstance(error, Terminated) else INTERRUPTED


def _counts(arguments: argparse.Namespace) -> dict[Split, int]:
    counts = {split: getattr(arguments, split.value) for split in Split}
    for split, count in counts.items():
        least = 1 if split is Split.TRAIN else 0
        if count < least:
            raise InputError(f"--{split} {count}: expected a number >= {least}")
    return counts


def _generate(
    recipe: Recipe, counts: dict[Split, int], device: str, arguments: argparse.Namespace
) -> int:
    folder, start = arguments.out, time.monotonic()
    total = sum(counts.values())
    with (
        executor.executor(arguments.workers, arguments.scheduler) as run,
        progress("simulating", total, "trajectories") as finished,
    ):
        manifest = build(recipe, counts, folder, finished, device, run)
    seconds = time.monotonic() - start
    size = sum(entry.bytes for entry in manifest.shards)
    report = {
        "path": str(folder),
        "trajectories": manifest.held(),
        "lost": manifest.lost_rows(),
        "files": len(manifest.shards),
        "bytes": size,
        "device": device,
        "seconds": round(seconds, 3),
    }
    numbers = ", ".join(
        f"{number} {split}" for split, number in manifest.held().items()
    )
    line = (
        f"{folder}: {numbers} trajectories of {recipe.system.kind}, "
        f"{size / 1e6:.1f} MB in {len(manifest.shards)} files, {seconds:.1f} s"
    )
    print(json.dumps(report) if arguments.json else line)
    return _tell_of_lost(folder, manifest)


def _tell_of_lost(folder: Path, manifest: Manifest) -> int:
    """Print a line for each lost trajectory; return the exit code."""
    lost = manifest.lost()
    if not lost:
        return 0
    lines = [f"lost: {split} {one}" for split, one in lost[:MOST_NAMED]]
    if len(lost) > MOST_NAMED:
        lines.append(f"lost: {len(lost) - MOST_NAMED} more")
    asked = sum(manifest.counts.values())
    lines.append(f"{folder}: finished without {len(lost)} of {asked} trajectories")
    print("\n".join(lines), file=sys.stderr)
    return SimulationError.exit_code


@contextmanager
def _termination() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that temporary files are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
