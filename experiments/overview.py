"""One page on several sweeps: whether relaxing pays, and what is broken by it."""

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import page
from experiments.commands import near, spoken
from experiments.drawing import encode, new_figure, styled
from experiments.page import Cell as PageCell
from experiments.page import Download, Picture
from experiments.phase_figures import (
    draw_defects,
    draw_ratios,
    in_order,
    label,
    largest,
    looks,
    one_legend,
    rollout_ratio,
    strengths_of,
)
from experiments.phase_page import (
    AGREEMENT,
    AGREEMENT_NOTE,
    agreement,
    agreements,
    shown_interval,
)
from experiments.series import Look
from experiments.sweep_summary import Cell, Summary, summarise
from experiments.sweep_table import read_table
from pde_sym.config import canonical_json
from pde_sym.errors import InputError

COLUMNS = 3
"""Panels side by side, at most."""
CAPTIONS = {
    "ratios": (
        "Relaxed against the best of strict and free",
        "VRMSE after 10 steps of each relaxed family over the lowest of the strict and "
        "free ones. Bars: 95 % by the bootstrap paired by seed, the best of the others "
        "chosen again in each resample. Grey: up to 1.1.",
    ),
    "defects": (
        "Does the model break what the solver breaks?",
        "E ‖f(g x) − g f(x)‖ / ‖f(x)‖ of one step, mean over the motions g that the "
        "term breaks; one marker per strength, median over seeds.",
    ),
}
"""Title and caption of every figure."""


def report_sweeps(folders: Sequence[Path], out: Path, *, as_json: bool) -> int:
    """Write the page on the sweeps in some folders; print where, or their summaries.

    Raises
    ------
    DataError
        When a folder has no table of a sweep, or a damaged one.
    InputError
        When two folders are of one name: the page could not tell them apart.
    """
    named = {folder.resolve().name: folder for folder in folders}
    if len(named) < len(folders):
        raise InputError(
            "a page on several sweeps: expected folders of different names, got "
            + ", ".join(map(str, folders))
        )
    summaries = {name: summarise(read_table(f)) for name, f in named.items()}
    drawn = {"ratios": ratio_panels(summaries), "defects": defect_panels(summaries)}
    made = [spoken(["report", *(near(f, out) for f in folders), "--out", out.name])]
    pictures = [
        Picture(name, title, caption, encode(figure, ".png"), made)
        for name, (title, caption) in CAPTIONS.items()
        if (figure := drawn[name]) is not None
    ]
    text = page.page(
        "Error against breaking strength",
        [
            *_what(summaries, named, out),
            *_ratios(summaries),
            *_agreement(summaries),
            *map(page.figure, pictures),
        ],
    )
    page.write(out, text, pictures)
    shown = {
        name: summary.model_dump(mode="json") for name, summary in summaries.items()
    }
    print(canonical_json(shown) if as_json else out)
    return 0


# Tables -----------------------------------------------------------------------------


def _what(
    summaries: dict[str, Summary], named: dict[str, Path], out: Path
) -> list[str]:
    systems = {summary.system for summary in summaries.values()}
    mechanisms = {(summary.system, summary.term) for summary in summaries.values()}
    runs = sum(cell.seeds for s in summaries.values() for cell in s.cells)
    pages = [
        (near(folder / "report.html", out), summaries[name].title)
        for name, folder in named.items()
        if (folder / "report.html").exists()
    ]
    data = [
        Download(f"{name}.json", canonical_json(summary).encode(), "application/json")
        for name, summary in summaries.items()
    ]
    return [
        page.paragraph(
            f"Sweeps: {len(summaries)}; systems: {len(systems)}; ways of breaking a "
            f"symmetry: {len(mechanisms)}; trained models: {runs}, besides tuning."
        ),
        page.links(pages),
        page.downloads(data),
    ]


def _ratios(summaries: dict[str, Summary]) -> list[str]:
    most = max(len(strengths_of(summary)) for summary in summaries.values())
    rows = []
    for summary in summaries.values():
        cells = {(c.family, c.strength): c for c in largest(summary)}
        for family in in_order(list(cells.values())):
            own = [cells.get((family, s)) for s in strengths_of(summary)]
            if any(cell and cell.ratios for cell in own):
                padding = [None] * (most - len(own))
                ratios = map(_ratio, [*own, *padding])
                rows.append([summary.title, label(family), *ratios])
    columns = ["experiment", "family", "intact"]
    columns += [f"strength {number}" for number in range(1, most)]
    return [
        page.heading("Error over that of the best of strict and free"),
        page.table(columns, rows),
        page.paragraph(
            "After 10 steps; ratio of medians over seeds. Below it the strength and "
            "the 95 % interval.",
            "note",
        ),
    ]


def _ratio(cell: Cell | None) -> PageCell:
    found = rollout_ratio(cell) if cell else None
    if cell is None or found is None:
        return PageCell("–")
    shown = shown_interval(found, 2)
    return PageCell(shown.text, f"at {cell.strength:g}: {shown.remark}")


def _agreement(summaries: dict[str, Summary]) -> list[str]:
    rows = [
        [summary.title, label(one.family), *agreement(one)]
        for summary in summaries.values()
        for one in agreements(summary)
    ]
    return [
        page.heading("Defect of the model against that of the solver"),
        page.table(["experiment", "family", *AGREEMENT], rows),
        page.paragraph(AGREEMENT_NOTE, "note"),
    ]


# Figures ----------------------------------------------------------------------------


def _styles(summaries: dict[str, Summary]) -> dict[str, Look]:
    """Return a look for each family, the same in all panels."""
    return looks([cell for summary in summaries.values() for cell in largest(summary)])


@styled
def ratio_panels(summaries: dict[str, Summary]) -> Figure | None:
    """Return the ratios of each sweep, None where no family is compared."""
    shown = [
        summary
        for summary in summaries.values()
        if any(cell.ratios for cell in largest(summary))
    ]
    if not shown:
        return None
    figure, panels = _panels(len(shown), sharey=True)
    for axes, summary in zip(panels, shown, strict=True):
        draw_ratios(axes, summary, _styles(summaries))
        axes.set_title(summary.title)
        axes.set_xlabel(f"strength of {summary.term.replace('_', ' ')}")
        if not _is_first(axes):
            axes.set_ylabel("")
    one_legend(figure)
    return figure


@styled
def defect_panels(summaries: dict[str, Summary]) -> Figure | None:
    """Return the defects of each sweep, None where none was measured."""
    measured = [
        (s.title, [c for c in largest(s) if c.model_defect and c.solver_defect])
        for s in summaries.values()
    ]
    shown = [(title, cells) for title, cells in measured if cells]
    if not shown:
        return None
    figure, panels = _panels(len(shown), sharey=False)
    for axes, (title, cells) in zip(panels, shown, strict=True):
        draw_defects(axes, cells, _styles(summaries))
        axes.set_title(title)
        axes.set_xlabel("defect of the solver")
        if _is_first(axes):
            axes.set_ylabel("defect of the model")
    one_legend(figure)
    return figure


def _panels(number: int, *, sharey: bool) -> tuple[Figure, list[Axes]]:
    rows = math.ceil(number / COLUMNS)
    columns = math.ceil(number / rows)
    figure = new_figure(4.6 * columns, 0.7 + 3.8 * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=sharey).ravel()
    for axes in panels[number:]:
        axes.remove()
    return figure, list(panels[:number])


def _is_first(axes: Axes) -> bool:
    """Return whether axes are the first of their row."""
    place = axes.get_subplotspec()
    return place is None or place.is_first_col()
