"""The page of a sweep: error, ratio, defect, spectrum, drift and cost by family.

The page states what was measured; what follows from it is left to the reader.
"""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from experiments import page
from experiments.commands import made_sweep, near, spoken
from experiments.drawing import encode
from experiments.page import Cell as PageCell
from experiments.page import Download, Picture
from experiments.phase_figures import (
    conservation_chart,
    cost_chart,
    defect_scatter,
    in_order,
    label,
    largest,
    phase_diagram,
    ratio_chart,
    rollout_ratio,
    size_chart,
    strengths_of,
)
from experiments.phase_spectrum import spectrum_panels
from experiments.statistics import Interval
from experiments.sweep_summary import Agreement, Cell, Summary, summarise
from experiments.sweep_table import Table, csv_of, read_table
from pde_sym.config import canonical_json

INTERVALS = (
    "Markers: median over seeds; bars: 95 % by the bootstrap over seeds. A run that "
    "left the finite numbers counts as an infinite error."
)
CAPTIONS = {
    "phase": (
        "Error against strength",
        "VRMSE after 10 steps of rollouts from the first test frame. Grey: the "
        "prediction that nothing changes, and the solver itself on half the points "
        "per axis. Further panels: test data whose initial states follow another law "
        "than those of the training, or were moved by motions that it never showed; "
        "and the training trajectories, later on.",
    ),
    "ratio": (
        "Relaxed against the best of strict and free",
        "Error of each relaxed family over the lowest of the strict and free ones. The "
        "bootstrap is paired by seed, and the best of the others is chosen again in "
        "each resample. Grey: up to 1.1.",
    ),
    "defect": (
        "Does the model break what the solver breaks?",
        "E ‖f(g x) − g f(x)‖ / ‖f(x)‖ of one step, mean over the motions g that the "
        "term breaks: model against solver, one marker per strength.",
    ),
    "spectrum": (
        "Breaking spectrum at the largest strength",
        "E ‖f_σ‖² / Σ_τ E ‖f_τ‖² by irrep σ of D4, and by wave number |m| of shifts; "
        "black: the solver. The trivial share is not drawn; all up to 10⁻¹² stands at "
        "10⁻¹², which is round-off.",
    ),
    "conservation": (
        "Invariants at the last frame",
        "Left: |I(T) − I(0)|; right: what of it the closed-form budget along the "
        "model's own rollout does not explain; both relative to I(0). Black: truth; "
        "on the right that is the error of the quadrature over frames.",
    ),
    "size": ("Error against the training set", "VRMSE after 10 steps, median."),
    "cost": (
        "Error against cost",
        "Floating-point operations of one step of one state; Fourier transforms are "
        "not counted.",
    ),
}
"""Title and caption of every figure."""


def report_sweep(folder: Path, out: Path, *, as_json: bool) -> int:
    """Write the page of the sweep in a folder; print where, or its summary.

    Raises
    ------
    DataError
        When its table is damaged.
    """
    table = read_table(folder)
    summary = summarise(table)
    write_sweep_page(table, summary, out, folder)
    print(canonical_json(summary) if as_json else out)
    return 0


def write_sweep_page(table: Table, summary: Summary, out: Path, folder: Path) -> None:
    """Write the page, and its figures into ``figures/`` beside it.

    `folder` is that of the sweep, of which the commands tell.
    """
    made = [spoken(["report", near(folder, out), "--out", out.name])]
    drawn: dict[str, Figure | None] = {
        "phase": phase_diagram(summary),
        "ratio": ratio_chart(summary) if _is_compared(summary) else None,
        "defect": defect_scatter(summary),
        "spectrum": spectrum_panels(table, summary),
        "conservation": conservation_chart(table, summary),
        "size": size_chart(summary),
        "cost": cost_chart(summary),
    }
    pictures = [
        Picture(name, title, f"{caption} {INTERVALS}", encode(figure, ".png"), made)
        for name, (title, caption) in CAPTIONS.items()
        if (figure := drawn[name]) is not None
    ]
    text = page.page(
        summary.title,
        [
            *_what(table, summary),
            *_data(table, summary, folder, out),
            *_errors(summary),
            *_ratios(summary),
            *_agreement(summary),
            *map(page.figure, pictures),
            *_cost(summary),
        ],
    )
    page.write(out, text, pictures)


def _is_compared(summary: Summary) -> bool:
    return any(cell.ratios for cell in largest(summary))


def _what(table: Table, summary: Summary) -> list[str]:
    strengths = ", ".join(f"{s:g}" for s in strengths_of(summary))
    cells = largest(summary)
    return [
        page.paragraph(
            f"System {summary.system}, broken by {summary.term.replace('_', ' ')}: "
            f"{table.equation}. Strengths {strengths}; {len(table.rows)} runs, up to "
            f"{max(c.seeds for c in cells)} seeds, {cells[0].size} training "
            "trajectories in the tables."
        )
    ]


def _data(table: Table, summary: Summary, folder: Path, out: Path) -> list[str]:
    """Return links to all numbers of the page, and what made them."""
    command, recipe = made_sweep(folder, out)
    text = canonical_json(summary).encode()
    return [
        page.heading("Data"),
        page.paragraph(
            "Every figure and table below shows these numbers: one row per run; "
            "medians, ratios and agreement by family and strength."
        ),
        page.downloads(
            [
                Download("table.csv", csv_of(table).encode()),
                Download("summary.json", text, "application/json"),
                *recipe,
            ]
        ),
        page.commands([command] if command else []),
    ]


def _errors(summary: Summary) -> list[str]:
    rows = [
        [
            label(family),
            *(shown_interval(c.test) if c else PageCell("–") for c in cells),
        ]
        for family, cells in _grid(summary)
    ]
    floors = []
    for name, text in (("persistence", "no change"), ("coarse", "coarse solver")):
        found = [
            summary.floors.get(f"{s:g}", {}).get(name) for s in strengths_of(summary)
        ]
        floors.append([text, *("–" if f is None else f"{f.steps:.4f}" for f in found)])
    return [
        page.heading("VRMSE after 10 steps"),
        page.table(_columns(summary), rows, reference=floors),
        page.paragraph(f"Below a median: its interval. {INTERVALS}", "note"),
    ]


def _ratios(summary: Summary) -> list[str]:
    if not _is_compared(summary):
        return []
    rows = []
    for family, cells in _grid(summary):
        found = [rollout_ratio(cell) if cell else None for cell in cells]
        shown = [shown_interval(one, 3) if one else PageCell("–") for one in found]
        if any(cell.text != "–" for cell in shown):
            rows.append([label(family), *shown])
    return [
        page.heading("Over the best of strict and free"),
        page.table(_columns(summary), rows),
        page.paragraph(
            "Ratio of medians, paired by seed; the best of the others is chosen again "
            "in each resample.",
            "note",
        ),
    ]


def _agreement(summary: Summary) -> list[str]:
    rows = [[label(one.family), *agreement(one)] for one in agreements(summary)]
    return [
        page.heading("Defect of the model against that of the solver"),
        page.table(["family", *AGREEMENT], rows),
        page.paragraph(AGREEMENT_NOTE, "note"),
    ]


AGREEMENT = (
    "correlation",
    "slope",
    "at 0",
    "leading irrep of D4",
    "leading wave number",
)
"""Columns of `agreement`."""
AGREEMENT_NOTE = (
    "Least squares through the medians at all strengths. Leading: in how many runs the "
    "largest share outside the trivial one is that of the solver, of those at "
    "strengths where the solver's share is above the family's own at strength 0."
)


def agreements(summary: Summary) -> list[Agreement]:
    """Return those of the largest training set that have a line."""
    size = max(one.size for one in summary.agreements)
    return [one for one in summary.agreements if one.size == size and one.defect]


def agreement(one: Agreement) -> list[str]:
    """Return how a family follows the solver, a text a column."""
    named = (
        "–" if group not in one.leading else "{} of {}".format(*one.leading[group])
        for group in ("turns and flips", "shifts")
    )
    found = one.defect
    if found is None:
        return ["–", "–", "–", *named]
    numbers = f"{found.correlation:.3f}", f"{found.slope:.3f}", f"{found.intercept:.1e}"
    return [*numbers, *named]


def _cost(summary: Summary) -> list[str]:
    rows = []
    for family, cells in _grid(summary):
        known = [c for c in cells if c]
        rows.append(
            [
                label(family),
                f"{known[0].parameters}",
                "–" if known[0].flops is None else f"{known[0].flops / 1e6:.1f}",
                f"{max(c.train_seconds for c in known):.0f}",
                f"{summary.tuning_runs.get(family, 0)}",
                f"{summary.tuning_seconds.get(family, 0.0):.0f}",
                f"{sum(c.failed for c in known)}",
            ]
        )
    columns = ["family", "parameters", "10⁶ operations per step", "s per training"]
    columns += ["tuning runs", "s of tuning", "failed"]
    return [
        page.heading("Cost"),
        page.table(columns, rows),
        page.paragraph("Seconds are of one core.", "note"),
        page.details("Summary as JSON", canonical_json(summary)),
    ]


def _grid(summary: Summary) -> list[tuple[str, list[Cell | None]]]:
    """Return each family with its cells by strength, of the largest training set."""
    cells = largest(summary)
    by_place = {(c.family, c.strength): c for c in cells}
    return [
        (family, [by_place.get((family, s)) for s in strengths_of(summary)])
        for family in in_order(cells)
    ]


def _columns(summary: Summary) -> Sequence[str]:
    return ["family", *(f"{s:g}" for s in strengths_of(summary))]


def shown_interval(found: Interval, digits: int = 4) -> PageCell:
    if found.value is None:
        return PageCell("failed")
    high = "∞" if found.high is None else f"{found.high:.{digits}f}"
    low = "∞" if found.low is None else f"{found.low:.{digits}f}"
    return PageCell(f"{found.value:.{digits}f}", f"{low} to {high}")
