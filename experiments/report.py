"""``pde-sym report``: one self-contained page on several evaluated runs, or a sweep.

The page states what was measured; what follows from it is left to the reader.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from experiments import page
from experiments.animation import animate
from experiments.drawing import encode, units
from experiments.evaluation import Evaluation
from experiments.figures import (
    defect_chart,
    drift_curve,
    error_curve,
    spectrum_chart,
)
from experiments.page import Picture
from experiments.phase_page import report_sweep
from experiments.plot import read_rollouts
from experiments.results import STEPS, Result, mean_defect, result
from experiments.series import (
    Series,
    find_runs,
    group_by_seed,
    read_evaluations,
    read_settings,
    run_looks,
)
from experiments.strip import rollout_strip
from experiments.sweep_table import TABLE_FILE
from pde_sym.errors import InputError
from pde_sym.store import files
from pde_sym.systems import SYSTEMS, BreakingTerm

ROLLOUT_CAPTIONS = {
    2: "Truth, prediction and prediction − truth. One colour scale for all states, one "
    "for all errors. Look for errors that stay at one place.",
    1: "Truth, prediction and prediction − truth, place to the right and time upwards. "
    "One colour scale for all states, one for all errors. Look for errors that stay at "
    "one place, upright streaks.",
    0: "Every component against time, truth and predictions.",
}
"""What the picture of rollouts shows, by the number of axes."""
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
        help="folders with evaluated runs, or such runs; or the folder of a sweep",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.html",
        help="the page; figures go beside it, into figures/ (FOLDER/report.html)",
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")


def run(arguments: argparse.Namespace) -> int:
    out = arguments.out or arguments.folders[0] / "report.html"
    if out.suffix.lower() not in {".html", ".htm"}:
        raise InputError(f"--out {out}: expected a suffix .html")
    if any((folder / TABLE_FILE).exists() for folder in arguments.folders):
        return report_sweep(arguments.folders, out, as_json=arguments.json)
    folders = find_runs(arguments.folders)
    evaluations = read_evaluations(folders)
    series = group_by_seed(evaluations)
    results = [result(one) for one in series]
    pictures = draw_all(folders, evaluations, series)
    text = write_page(folders, evaluations, results, pictures)
    place = out.parent / "figures"
    files.make_folder(place)
    for picture in pictures:
        files.write_file(place / f"{picture.name}.png", picture.png)
    files.write_file(out, text.encode())
    if arguments.json:
        print(json.dumps({"page": str(out), "results": [asdict(r) for r in results]}))
    else:
        print(out)
    return 0


# Figures ----------------------------------------------------------------------------


def draw_all(
    folders: Sequence[Path], evaluations: Sequence[Evaluation], series: Sequence[Series]
) -> list[Picture]:
    """Draw every figure; rollouts are those of the lowest seed of each model."""
    place = dict(zip(map(id, evaluations), folders, strict=True))
    shown = [one.first for one in series]
    rollouts = read_rollouts([place[id(e)] for e in shown], shown, 0)
    unit, looks = units(shown[0].system), run_looks(shown)
    drawn = {
        "rollout": encode(rollout_strip(rollouts, unit, looks=looks), ".png"),
        "error": encode(error_curve(series), ".png"),
        "drift": encode(drift_curve(series), ".png"),
        "defect": encode(defect_chart(series), ".png"),
    }
    if shown[0].num_axes:
        drawn["animation"] = animate(rollouts, unit, looks=looks)
        drawn["spectrum"] = encode(spectrum_chart(series), ".png")
    texts = captions(series)
    return [Picture(n, *texts[n], drawn[n]) for n in texts if n in drawn]


def captions(series: Sequence[Series]) -> dict[str, tuple[str, str]]:
    """Return title and caption of every figure."""
    first = series[0].first
    several = max(len(one.evaluations) for one in series) > 1
    band = " Line: mean over seeds; band: lowest to highest." if several else ""
    bar = " Marker: mean over seeds; bar: lowest to highest." if several else ""
    seeds = ", ".join(f"{one.label}: seed {one.first.seed}" for one in series)
    solver = mean_defect(first, "solver")
    broken = "" if solver is None else f" Solver, mean over broken ones: {solver:.2e}."
    return {
        "rollout": (
            "Rollouts of one test trajectory",
            f"{ROLLOUT_CAPTIONS[first.num_axes]} Every model starts from the first "
            f"frame and reads its own output. ({seeds})",
        ),
        "animation": (
            "The same rollouts, moving",
            f"{len(first.times)} frames, {first.times[1]:g} T apart; above states, "
            f"below {'the environment and ' if first.num_axes == 2 else ''}"
            "prediction − truth.",
        ),
        "error": (
            "Error along rollouts",
            "VRMSE = sqrt(⟨(u − v)²⟩ / ⟨(v − ⟨v⟩)²⟩) of prediction u and truth v, "
            f"⟨·⟩ the mean over space; mean over {first.trajectories} test "
            "trajectories. Grey: the prediction that nothing changes, which a useful "
            f"model stays below.{band}",
        ),
        "drift": (
            "Invariants along rollouts",
            "Left: |I(t) − I(0)|; right: |I(t) − I(0) − ∫ (dI/dt) dt|, with dI/dt in "
            "closed form from the states, integrated by the trapezoidal rule over "
            "frames. Both are root mean squares over trajectories, relative to that "
            "of I(0). Left, the truth shows what the physics does; right, it shows "
            "the error of the quadrature, and a model as low as it keeps the budget. "
            f"{invariants(first)}{band}",
        ),
        "defect": (
            "Defect of equivariance, element by element",
            "E ‖f(g x) − g f(x)‖ / ‖f(x)‖ of one step f, for the solver and for the "
            "models on the same test inputs; where something is broken, right: model "
            "over solver. At 1 a model breaks a symmetry as much as the data; left of "
            "it, less. Blue: no more than round-off. (kept): the physics keeps this."
            f"{broken}{bar}",
        ),
        "spectrum": (
            "Breaking spectrum",
            "E ‖f_σ‖² / Σ_τ E ‖f_τ‖² with f_σ(x) = d_σ / (c_σ |G|) Σ_g χ_σ(g) "
            "g⁻¹ f(g x), by irrep σ: which symmetry is broken, not only how much. "
            f"Not drawn: the trivial share, the equivariant part{trivial(series)}. "
            "Shifts: by fractions of the box; shares of modes of one |m| are added, "
            f"and modes count modulo the number of shifts per axis.{bar}",
        ),
    }


def invariants(first: Evaluation) -> str:
    return "; ".join(f"{i.name} = {i.meaning}" for i in first.invariants) + "."


def trivial(series: Sequence[Series]) -> str:
    """Return the trivial shares under D4 as text, where there is D4."""

    def share(e: Evaluation, which: str) -> float:
        return sum(getattr(s, which) for s in e.point_spectrum if s.irrep == "trivial")

    if not series[0].first.point_spectrum:
        return ""
    parts = [f"D4: solver {share(series[0].first, 'solver'):.6f}"]
    for one in series:
        parts.append(
            f"{one.label} {one.values(lambda e: share(e, 'model')).mean():.6f}"
        )
    return f" ({', '.join(parts)})"


# Page -------------------------------------------------------------------------------


def write_page(
    folders: Sequence[Path],
    evaluations: Sequence[Evaluation],
    results: Sequence[Result],
    pictures: Sequence[Picture],
) -> str:
    """Return the page."""
    first = evaluations[0]
    named = ", ".join(f"{k} {v:g}" for k, v in first.strengths.items()) or "intact"
    return page.page(
        f"{first.system}, {named}: {len(evaluations)} evaluated runs",
        [
            *data_section(first),
            *result_section(first, results),
            *floor_section(first),
            *map(page.figure, pictures),
            *settings_section(folders, evaluations),
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
        f"drift of {first.invariants[0].name.replace('_', ' ')}",
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
            r.drift.cell(".1e"),
            r.model_defect.cell(".2e") if r.model_defect else "–",
            r.certificate.cell(".2e") if r.certificate else "–",
            r.defect_ratio.cell(".2f") if r.defect_ratio else "–",
        ]
        for r in results
    ]
    persistence = first.persistence_vrmse
    truth = first.invariants[0].truth_drift[-1]
    solver = results[0].solver_defect
    reference = ["truth, solver", "", "", "", "0", "0", "0", f"{truth:.1e}"]
    reference += [f"{solver:.2e}", "", "1"] if solver else ["–", "", "–"]
    still = ["no change", "", "", "", f"{persistence[0]:.4f}"]
    still += [f"{persistence[step - 1]:.4f}", f"{persistence[-1]:.4f}", "", "", "", ""]
    return [
        page.heading("Results"),
        page.table(columns, [*rows, reference, still]),
        page.paragraph(
            "VRMSE of 1 step: over all pairs of consecutive test frames (of the "
            "prediction that nothing changes: from the first frame); of more steps: of "
            "rollouts from the first frame. Drift: at the last frame, relative to the "
            "start. Defect: mean over the elements that the physics breaks. At most: "
            "what the weights allow, where that is known for all of them." + spread,
            "note",
        ),
    ]


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


def settings_section(
    folders: Sequence[Path], evaluations: Sequence[Evaluation]
) -> list[str]:
    """Return the recipe's hash and the settings of every run."""
    parts = [
        page.heading("Runs"),
        page.paragraph(f"Hash of the data's recipe: {evaluations[0].recipe}", "note"),
    ]
    for folder, one in zip(folders, evaluations, strict=True):
        settings = read_settings(folder)
        title = f"{one.run}: VRMSE of 1 step {one.one_step_vrmse:.4f}"
        parts.append(page.details(title, json.dumps(settings, indent=1)))
    return parts
