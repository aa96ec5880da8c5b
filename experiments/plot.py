"""``pde-sym plot``: one figure of evaluated runs, or of data sets."""

import argparse
import json
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from experiments.animation import FILM, FORMATS, animate
from experiments.data_figures import (
    Track,
    budget_figure,
    fields_figure,
    portrait_figure,
    power_figure,
    read_tracks,
    space_time_figure,
)
from experiments.drawing import SUFFIXES, encode, units
from experiments.evaluation import Evaluation, Pictures, read_pictures
from experiments.figures import (
    defect_chart,
    drift_curve,
    error_curve,
    spectrum_chart,
)
from experiments.loops import kelvin_figure, polhode_figure
from experiments.rose import rose_chart
from experiments.series import (
    find_runs,
    group_by_seed,
    read_evaluations,
    run_labels,
    run_looks,
)
from experiments.strip import rollout_strip
from pde_sym.errors import InputError, OutputError
from pde_sym.store import files
from pde_sym.store.folder import MANIFEST

OF_RUNS = {
    "rollout": "truth, predictions and errors at a few times",
    "error": "error against time",
    "drift": "drift of invariants, and what budgets do not explain of it",
    "defect": "defect of equivariance by element, beside the solver's",
    "rose": "the same by angle of turns and mirrors",
    "spectrum": "what is broken, by irrep",
    "animation": "truth, predictions and errors, moving",
}
OF_DATA: dict[str, tuple[str, Callable[[Sequence[Track]], Figure]]] = {
    "fields": ("every field of a plane at a few times", fields_figure),
    "space-time": ("place against time, of a line or along x", space_time_figure),
    "portrait": ("phase portraits of a body or a line", portrait_figure),
    "polhode": ("angular momentum on its sphere", polhode_figure),
    "power": ("power by wave number, first and last frame", power_figure),
    "kelvin": ("a loop that a flow carries, its circulation", kelvin_figure),
    "budget": ("change of invariants, with what budgets explain", budget_figure),
}
KINDS = (*OF_RUNS, *OF_DATA)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    of_data = {name: text for name, (text, _) in OF_DATA.items()}
    runs, data = (
        "\n".join(f"  {name:11} {text}" for name, text in kinds.items())
        for kinds in (OF_RUNS, of_data)
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        f"kinds, of evaluated runs:\n{runs}\n"
        f"of data sets, predictions (`pde-sym rollout`) among them:\n{data}"
    )
    parser.add_argument("kind", choices=KINDS, metavar="KIND", help="see below")
    parser.add_argument(
        "folders",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="evaluated runs, or folders with runs, whose seeds are one curve; or data "
        "sets, the first in black",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="a .png, .svg or .pdf; an animation: .png, .gif, .mp4 (FOLDER/KIND.png)",
    )
    parser.add_argument(
        "--trajectory",
        type=int,
        default=0,
        metavar="N",
        help="which test trajectory, of runs: of those kept (0)",
    )
    parser.add_argument(
        "--invariant", metavar="NAME", help="of drift and budget: only this one (all)"
    )
    parser.add_argument(
        "--show", action="store_true", help="open the file in a window, too"
    )
    parser.add_argument("--json", action="store_true", help="print the file as JSON")


def run(arguments: argparse.Namespace) -> int:
    kind, of_data = arguments.kind, arguments.kind in OF_DATA
    folders = arguments.folders if of_data else find_runs(arguments.folders)
    # A data set lists its files, and nothing that was not asked for goes beside them.
    beside = folders[0].parent if of_data else folders[0]
    name = f"{folders[0].resolve().name}-{kind}" if of_data else kind
    out = arguments.out or beside / f"{name}.png"
    allowed = (*FORMATS, FILM) if kind == "animation" else SUFFIXES
    suffix = out.suffix.lower()
    if suffix not in allowed:
        raise InputError(f"--out {out}: expected a suffix {', '.join(allowed)}")
    if arguments.invariant is not None and kind not in {"drift", "budget"}:
        raise InputError(f"--invariant: of drift and budget, not of {kind}")
    if of_data:
        data = encode(draw_data(arguments, folders), suffix)
    else:
        data = draw(arguments, folders, read_evaluations(folders), suffix)
    files.make_folder(out.parent)
    files.write_file(out, data)
    print(json.dumps({"file": str(out)}) if arguments.json else out)
    if arguments.show and not webbrowser.open(out.resolve().as_uri()):
        raise OutputError(f"--show: no program here opens {out}; it is written")
    return 0


def draw_data(arguments: argparse.Namespace, folders: Sequence[Path]) -> Figure:
    """Return the figure of data sets that was asked for."""
    for folder in folders:
        if not (folder / MANIFEST).exists():
            of_runs = ", ".join(OF_RUNS)
            raise InputError(
                f"{folder}: no data set, of which {arguments.kind} is; of runs are "
                f"{of_runs}"
            )
    tracks = read_tracks(folders, arguments.trajectory)
    if arguments.kind == "budget":
        return budget_figure(tracks, arguments.invariant)
    return OF_DATA[arguments.kind][1](tracks)


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
    charts = {
        "error": error_curve,
        "defect": defect_chart,
        "rose": rose_chart,
        "spectrum": spectrum_chart,
    }
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
