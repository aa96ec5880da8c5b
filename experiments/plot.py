"""``pde-sym plot``: one figure of evaluated runs."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from experiments.animation import FORMATS, animate
from experiments.drawing import SUFFIXES, encode, units
from experiments.evaluation import Evaluation, Pictures, read_pictures
from experiments.figures import (
    defect_chart,
    drift_curve,
    error_curve,
    spectrum_chart,
)
from experiments.series import (
    find_runs,
    group_by_seed,
    read_evaluations,
    run_labels,
    run_looks,
)
from experiments.strip import rollout_strip
from pde_sym.errors import InputError
from pde_sym.store import files

KINDS = ("rollout", "error", "drift", "defect", "spectrum", "animation")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="evaluated runs, or folders with runs; seeds of one model are one curve",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="a .png, .svg or .pdf; of an animation .png or .gif (RUN/KIND.png)",
    )
    parser.add_argument(
        "--trajectory",
        type=int,
        default=0,
        metavar="N",
        help="of rollout and animation: which test trajectory of those kept (0)",
    )
    parser.add_argument(
        "--invariant", metavar="NAME", help="of drift: only this invariant (all)"
    )
    parser.add_argument("--json", action="store_true", help="print the file as JSON")


def run(arguments: argparse.Namespace) -> int:
    folders = find_runs(arguments.runs)
    out = arguments.out or folders[0] / f"{arguments.kind}.png"
    allowed = FORMATS if arguments.kind == "animation" else SUFFIXES
    suffix = out.suffix.lower()
    if suffix not in allowed:
        raise InputError(f"--out {out}: expected a suffix {', '.join(allowed)}")
    evaluations = read_evaluations(folders)
    data = draw(arguments, folders, evaluations, suffix)
    files.make_folder(out.parent)
    files.write_file(out, data)
    print(json.dumps({"file": str(out)}) if arguments.json else out)
    return 0


def draw(
    arguments: argparse.Namespace,
    folders: Sequence[Path],
    evaluations: Sequence[Evaluation],
    suffix: str,
) -> bytes:
    """Return the bytes of the figure that was asked for."""
    kind = arguments.kind
    if kind in {"rollout", "animation"}:
        rollouts = read_rollouts(folders, evaluations, arguments.trajectory)
        unit = units(evaluations[0].system)
        looks, number = run_looks(evaluations), arguments.trajectory
        if kind == "animation":
            return animate(rollouts, unit, number, suffix=suffix, looks=looks)
        return encode(rollout_strip(rollouts, unit, number, looks=looks), suffix)
    series = group_by_seed(evaluations)
    if kind == "drift":
        return encode(drift_curve(series, arguments.invariant), suffix)
    charts = {"error": error_curve, "defect": defect_chart, "spectrum": spectrum_chart}
    return encode(charts[kind](series), suffix)


def read_rollouts(
    folders: Sequence[Path], evaluations: Sequence[Evaluation], trajectory: int
) -> dict[str, Pictures]:
    """Read the rollouts of runs under their labels.

    Raises
    ------
    InputError
        When a run has not kept that trajectory.
    """
    pictures = [read_pictures(folder) for folder in folders]
    for folder, one in zip(folders, pictures, strict=True):
        if not 0 <= trajectory < len(one.truth):
            raise InputError(
                f"--trajectory {trajectory}: {folder} keeps 0 to {len(one.truth) - 1}"
            )
    return dict(zip(run_labels(evaluations), pictures, strict=True))
