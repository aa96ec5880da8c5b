"""``pde-sym report``: one self-contained page on evaluated runs, a sweep, or sweeps.

The page states what was measured; what follows from it is left to the reader.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from experiments import page
from experiments.commands import data_folder, made_data, near, spoken, trained
from experiments.evaluation import UNKNOWN, Evaluation, is_imported
from experiments.overview import report_sweeps
from experiments.page import Download, Picture, Player
from experiments.phase_page import report_sweep
from experiments.report_data import as_csv
from experiments.report_figures import draw_all
from experiments.results import STEPS, Result, Spread, result
from experiments.series import (
    find_runs,
    group_by_seed,
    read_evaluations,
    read_settings,
)
from experiments.sweep_table import TABLE_FILE
from pde_sym.errors import InputError
from pde_sym.systems import SYSTEMS, BreakingTerm

MOTIONS = {
    2: "Of T² x D4, the shifts, turns and flips of the square torus",
    1: "Of the shifts T_x of the line, C1 standing for none",
    0: "Of the rotations of space and of the body",
}
"""What may survive, by the number of axes."""
BOX_MOTIONS = "Of D4, the turns and flips of the box with walls"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="folders with evaluated runs, or such runs; or those of sweeps",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.html",
        help="the page; figures go beside it, into figures/ (FOLDER/report.html; of "
        "several sweeps overview.html beside their folders)",
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")


def run(arguments: argparse.Namespace) -> int:
    given = arguments.folders
    is_sweep = any((folder / TABLE_FILE).exists() for folder in given)
    several = is_sweep and len(given) > 1
    usual = given[0].parent / "overview.html" if several else given[0] / "report.html"
    out = arguments.out or usual
    if out.suffix.lower() not in {".html", ".htm"}:
        raise InputError(f"--out {out}: expected a suffix .html")
    if several:
        return report_sweeps(given, out, as_json=arguments.json)
    if is_sweep:
        return report_sweep(given[0], out, as_json=arguments.json)
    folders = find_runs(arguments.folders)
    evaluations = read_evaluations(folders)
    series = group_by_seed(evaluations)
    results = [result(one) for one in series]
    pictures = draw_all(folders, evaluations, series, out)
    text = write_page(folders, evaluations, results, pictures, out)
    page.write(out, text, pictures)
    if arguments.json:
        print(json.dumps({"page": str(out), "results": [asdict(r) for r in results]}))
    else:
        print(out)
    return 0


# Page -------------------------------------------------------------------------------


def write_page(
    folders: Sequence[Path],
    evaluations: Sequence[Evaluation],
    results: Sequence[Result],
    pictures: Sequence[Picture | Player],
    out: Path,
) -> str:
    """Return the page that is to lie at `out`, from where commands are told."""
    first = evaluations[0]
    intact = "physics unknown" if is_imported(first) else "intact"
    named = ", ".join(f"{k} {v:g}" for k, v in first.strengths.items()) or intact
    return page.page(
        f"{first.system}, {named}: {len(evaluations)} evaluated runs",
        [
            *data_section(first),
            *_made_data(folders, out),
            *result_section(first, results),
            page.downloads([result_data(results)]),
            page.commands(_evaluated(folders, out)),
            *floor_section(first),
            *map(page.figure, pictures),
            *settings_section(folders, evaluations, out),
        ],
    )


def data_section(first: Evaluation) -> list[str]:
    """Return what the data are and what is broken in them."""
    system = next(
        (s for s in SYSTEMS if s.model_fields["kind"].default == first.system), None
    )
    equation = f": {system.equation}" if system else ""
    kinds: dict[str, type[BreakingTerm]] = (
        {kind.model_fields["kind"].default: kind for kind in system.terms}
        if system
        else {}
    )
    rows = []
    for name, strength in first.strengths.items():
        kind = kinds.get(name)
        leaves = kind.model_validate({}).survivors.name if kind else ""
        breaks = ", ".join(sorted(kind.model_validate({}).breaks)) if kind else ""
        rows.append(
            [name, f"{strength:g}", kind.equation if kind else "", leaves, breaks]
        )
    parts = [
        page.heading("Data"),
        page.paragraph(
            f"System {first.system}{equation}. {motions(first)}, survives: "
            f"{first.subgroup}. Test data: "
            f"{first.trajectories} trajectories of {len(first.times)} frames up to "
            f"t = {first.times[-1]:g} T."
        ),
    ]
    if rows:
        columns = ["breaking term", "strength", "equation", "leaves", "also breaks"]
        parts.append(page.table(columns, rows, style="texts"))
    if is_imported(first):
        parts.append(page.paragraph(f"{UNKNOWN.capitalize()}.", "note"))
    return parts


def motions(first: Evaluation) -> str:
    """Return what may survive as text; a plane without shifts is a box."""
    is_box = first.num_axes == 2 and not first.shift_spectrum
    return BOX_MOTIONS if is_box else MOTIONS[first.num_axes]


def result_section(first: Evaluation, results: Sequence[Result]) -> list[str]:
    """Return the table of results and the strict floors."""
    step = min(STEPS, len(first.vrmse))
    several = any(r.seeds > 1 for r in results)
    spread = " Below a mean over seeds: lowest to highest." if several else ""
    columns = [
        "model",
        "parameters",
        "updates",
        "seeds",
        "VRMSE, 1 step",
        f"VRMSE, {step} steps",
        f"VRMSE, {len(first.vrmse)} steps",
        f"drift of {first.invariants[0].name.replace('_', ' ')}"
        if first.invariants
        else "drift",
        "defect",
        "at most",
        "defect / solver's",
    ]
    rows = [
        [
            r.label,
            f"{r.parameters}",
            f"{r.updates}",
            f"{r.seeds}",
            r.one_step_vrmse.cell(".4f"),
            r.steps_vrmse.cell(".4f"),
            r.last_vrmse.cell(".4f"),
            r.drift.cell(".1e") if r.drift else "–",
            r.model_defect.cell(".2e") if r.model_defect else "–",
            r.certificate.cell(".2e") if r.certificate else "–",
            r.defect_ratio.cell(".2f") if r.defect_ratio else "–",
        ]
        for r in results
    ]
    persistence = first.persistence_vrmse
    truth = f"{first.invariants[0].truth_drift[-1]:.1e}" if first.invariants else "–"
    solver = results[0].solver_defect
    reference = ["truth, solver", "", "", "", "0", "0", "0", truth]
    reference += [f"{solver:.2e}", "", "1"] if solver else ["–", "", "–"]
    still = ["no change", "", "", "", f"{persistence[0]:.4f}"]
    still += [f"{persistence[step - 1]:.4f}", f"{persistence[-1]:.4f}", "", "", "", ""]
    return [
        page.heading("Results"),
        page.table(columns, rows, reference=[reference, still]),
        page.paragraph(
            "VRMSE of 1 step: over all pairs of consecutive test frames (of the "
            "prediction that nothing changes: from the first frame); of more steps: of "
            "rollouts from the first frame. Drift: at the last frame, relative to the "
            "start. Defect: mean over the elements that the physics breaks. At most: "
            "what the weights allow, where that is known for all of them." + spread,
            "note",
        ),
    ]


def result_data(results: Sequence[Result]) -> Download:
    """Return the table of results, with mean and range over seeds in columns."""
    rows = []
    for one in results:
        row: dict[str, str | float | int | None] = {}
        for name, value in vars(one).items():
            if isinstance(value, Spread):
                row |= {f"{name}_{key}": v for key, v in vars(value).items()}
            else:
                row[name] = value
        rows.append(row)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return as_csv(
        "results.csv", columns, ([row.get(c) for c in columns] for row in rows)
    )


def floor_section(first: Evaluation) -> list[str]:
    """Return the errors that strictly equivariant models cannot go under."""
    if not first.strict_floors:
        return []
    floors = [[name, f"{value:.2e}"] for name, value in first.strict_floors.items()]
    return [
        page.heading("Floors of strict equivariance"),
        page.table(["strict under", "relative error of one step, at least"], floors),
        page.paragraph(
            "sqrt(E ‖Φ(g x) − PΦ(g x)‖² / E ‖Φ(g x)‖²) with PΦ = mean_g g⁻¹ Φ(g ·), Φ "
            "the solver, over test inputs and all their images under the group: on "
            "these no model that is exactly equivariant can have a lower error. Shifts "
            "are those by fractions of the box.",
            "note",
        ),
    ]


def _made_data(folders: Sequence[Path], out: Path) -> list[str]:
    """Return what made the data, with the recipe that it reads."""
    command, recipe = made_data(data_folder(folders[0]), out)
    return [page.downloads(recipe), page.commands([command])] if command else []


def _evaluated(folders: Sequence[Path], out: Path) -> list[str]:
    """Return what measured the runs, and what wrote the page."""
    runs = [near(folder, out) for folder in folders]
    return [spoken(["evaluate", *runs]), spoken(["report", *runs, "--out", out.name])]


def settings_section(
    folders: Sequence[Path], evaluations: Sequence[Evaluation], out: Path
) -> list[str]:
    """Return the recipe's hash, and the settings of every run with its command."""
    parts = [
        page.heading("Runs"),
        page.paragraph(f"Hash of the data's recipe: {evaluations[0].recipe}", "note"),
    ]
    for folder, one in zip(folders, evaluations, strict=True):
        settings = read_settings(folder)
        title = f"{one.run}: VRMSE of 1 step {one.one_step_vrmse:.4f}"
        text = json.dumps(settings, indent=1)
        command = trained(folder, settings, out)
        parts.append(page.details(title, f"{command}\n\n{text}" if command else text))
    return parts
