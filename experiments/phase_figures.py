"""Figures of a sweep: what each family does as the breaking grows."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from experiments.drawing import Floats, new_figure, styled
from experiments.figures import GREY, SOLVER, legend_above, line_style, marker_style
from experiments.series import Look
from experiments.statistics import Interval
from experiments.sweep_summary import Cell, Summary
from experiments.sweep_table import Measured, Scores, Table

LOOKS = {
    "strict": (
        Look("#0072B2", "s", "--"),
        Look("#56B4E9", "p", "--"),
        Look("#0072B2", "h", ":", filled=False),
        Look("#56B4E9", "8", ":", filled=False),
    ),
    "free": (
        Look("#009E73", "^", "-."),
        Look("#009E73", "v", ":", filled=False),
        Look("#44AA99", "<", "-."),
        Look("#117733", ">", ":", filled=False),
    ),
    "relaxed": (
        Look("#D55E00", "o", "-"),
        Look("#CC79A7", "D", "-"),
        Look("#E69F00", "P", "-"),
        Look("#882255", "X", "-"),
        Look("#D55E00", "o", ":", filled=False),
        Look("#CC79A7", "D", ":", filled=False),
        Look("#E69F00", "P", ":", filled=False),
        Look("#882255", "X", ":", filled=False),
        Look("#D55E00", "d", "-"),
        Look("#E69F00", "H", "-"),
        Look("#882255", "d", ":", filled=False),
    ),
    "other": (Look("#767676", "*", "-"), Look("#767676", "h", ":", filled=False)),
}
"""Blues are strict, greens free, warm colours relaxed; markers tell them apart."""


def looks(cells: Sequence[Cell]) -> dict[str, Look]:
    """Return the look of every family."""
    roles: dict[str, list[str]] = {}
    for cell in cells:
        members = roles.setdefault(cell.role, [])
        if cell.family not in members:
            members.append(cell.family)
    return {
        name: LOOKS[role][number % len(LOOKS[role])]
        for role, members in roles.items()
        for number, name in enumerate(members)
    }


def label(name: str) -> str:
    return name.replace("_", " ")


def in_order(cells: Sequence[Cell]) -> list[str]:
    """Return the families: strict, free, relaxed, others."""
    order = list(LOOKS)
    names = dict.fromkeys((order.index(c.role), c.family) for c in cells)
    ranks = sorted(rank for rank, _ in names)
    return [n for r in dict.fromkeys(ranks) for rank, n in names if rank == r]


def largest(summary: Summary) -> list[Cell]:
    """Return the cells of the largest training set."""
    size = max(cell.size for cell in summary.cells)
    return [cell for cell in summary.cells if cell.size == size]


def numbers(values: Sequence[float | None]) -> Floats:
    """Return an array in which None is not a number."""
    return np.array(values, dtype=np.float64)


def strengths_of(summary: Summary) -> list[float]:
    return sorted({cell.strength for cell in summary.cells})


# Against strength -------------------------------------------------------------------


@styled
def phase_diagram(summary: Summary) -> Figure:
    """Return the rollout error against strength, beside what needs no model."""
    cells, strengths = largest(summary), strengths_of(summary)
    every: list[tuple[str, str, Callable[[Cell], Interval | None]]] = [
        ("test data", "", lambda c: c.test),
        ("test data of another law", "shifted_", lambda c: c.shifted),
        ("test data moved", "moved_", lambda c: c.moved),
        ("training trajectories, later", "future_", lambda c: c.future),
    ]
    panels = [panel for panel in every if any(panel[2](cell) for cell in cells)]
    figure = new_figure((6.5, 11.0, 14.0, 17.0)[len(panels) - 1], 4.9)
    row = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (title, prefix, pick) in zip(row, panels, strict=True):
        _draw_floors(axes, summary, strengths, prefix)
        _draw_families(axes, cells, strengths, pick)
        axes.set_title(title)
        _log(axes, "y")
    row[0].set_ylabel("VRMSE after 10 steps")
    _finish(figure, summary, row)
    return figure


@styled
def ratio_chart(summary: Summary) -> Figure:
    """Return relaxed error over that of the best strict or free family."""
    figure = new_figure(7.0, 4.6)
    axes = figure.add_subplot()
    draw_ratios(axes, summary, looks(largest(summary)))
    _finish(figure, summary, [axes])
    return figure


def rollout_ratio(cell: Cell) -> Interval | None:
    """Return the ratio after 10 steps, None of families that are not compared."""
    found = [r for r in cell.ratios if r.measure == "10 steps"]
    return found[0].of_medians if found else None


def draw_ratios(axes: Axes, summary: Summary, styles: dict[str, Look]) -> None:
    axes.axhline(1.0, color=SOLVER, lw=1.4)
    axes.axhspan(1.0, 1.1, color=GREY, alpha=0.18, lw=0)
    cells, strengths = largest(summary), strengths_of(summary)
    _draw_families(axes, cells, strengths, rollout_ratio, styles)
    _log(axes, "y", (1, 1.5, 2, 3, 5, 7))
    axes.set_ylabel("error / best of strict and free")


@styled
def conservation_chart(table: Table, summary: Summary) -> Figure | None:
    """Return drift and budget residual of each invariant against strength."""
    cells, strengths = largest(summary), strengths_of(summary)
    names = list(dict.fromkeys(n for cell in cells for n in cell.drift))
    if not names:
        return None
    figure = new_figure(11.0, 1.2 + 2.7 * len(names))
    panels = figure.subplots(len(names), 2, squeeze=False, sharex=True)
    for row, name in zip(panels, names, strict=True):
        for axes, kind in zip(row, ("drift", "residual"), strict=True):

            def pick(cell: Cell, name: str = name, kind: str = kind) -> Interval | None:
                return getattr(cell, kind).get(name)

            _draw_truth(axes, table, strengths, kind, name)
            _draw_families(axes, cells, strengths, pick)
            axes.set_yscale("log")
        title = name.replace("_", " ")
        row[0].set_title(f"{title}: drift")
        row[1].set_title(f"{title}: drift not explained by the budget")
        row[0].set_ylabel("relative to I(0)")
    _finish(figure, summary, panels[-1])
    return figure


def _draw_truth(
    axes: Axes, table: Table, strengths: Sequence[float], kind: str, name: str
) -> None:
    values = []
    for strength in strengths:
        rows = (r for r in table.rows if r.strength == strength and r.test)
        found: list[Measured] = [getattr(r, kind)[name] for r in rows]
        # A logarithmic axis has no place for zeros.
        values.append(found[0].solver or None if found else None)
    if any(values):
        places = range(len(strengths))
        axes.plot(places, numbers(values), color=SOLVER, lw=1.4, label="truth")


def _draw_families(
    axes: Axes,
    cells: Sequence[Cell],
    strengths: Sequence[float],
    pick: Callable[[Cell], Interval | None],
    styles: dict[str, Look] | None = None,
) -> None:
    """Draw a quantity of each family, strengths side by side."""
    drawn = [f for f in in_order(cells) if any(pick(c) for c in cells if c.family == f)]
    styles, spread = styles or looks(cells), 0.035
    for number, family in enumerate(drawn):
        shift = spread * (number - (len(drawn) - 1) / 2)
        places, values, low, high = [], [], [], []
        for cell in cells:
            found = pick(cell) if cell.family == family else None
            if found is None:
                continue
            # Where most runs were lost the line has a gap.
            value = found.value or math.nan
            places.append(strengths.index(cell.strength) + shift)
            values.append(value if value > 0 else math.nan)
            low.append(value if found.low is None else found.low)
            high.append(math.inf if found.high is None else found.high)
        if not any(math.isfinite(value) for value in values):
            continue
        axes.plot(places, values, label=label(family), **line_style(styles[family]))
        colour = styles[family].colour
        for place, value, a, b in zip(places, values, low, high, strict=True):
            if math.isfinite(value):
                _draw_bar(axes, place, a, b, colour)
    axes.set_xticks(range(len(strengths)), [f"{s:g}" for s in strengths])


def _draw_bar(axes: Axes, place: float, low: float, high: float, colour: str) -> None:
    """Draw an interval; one without an end goes up to the top, wherever that is."""
    limits = axes.dataLim.frozen()
    top = high if math.isfinite(high) else 1e6 * low
    axes.plot([place] * 2, [low, top], color=colour, lw=1.3)
    if not math.isfinite(high):
        axes.dataLim.set(limits)


def _draw_floors(
    axes: Axes, summary: Summary, strengths: Sequence[float], prefix: str
) -> None:
    for name, text, line in (
        ("persistence", "no change", "--"),
        ("coarse", "solver on half the points", ":"),
    ):
        found: list[Scores | None] = [
            summary.floors.get(f"{s:g}", {}).get(prefix + name) for s in strengths
        ]
        values = [math.nan if f is None else f.steps for f in found]
        if not all(map(math.isnan, values)):
            axes.plot(range(len(strengths)), values, line, color=GREY, label=text)


def _finish(figure: Figure, summary: Summary, lowest: Sequence[Axes]) -> None:
    for axes in lowest:
        axes.set_xlabel(f"strength of {summary.term.replace('_', ' ')}")
    one_legend(figure)


def _log(
    axes: Axes, which: Literal["x", "y"], steps: Sequence[float] = (1, 2, 5)
) -> None:
    """Make an axis logarithmic, with plain numbers on it."""
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def one_legend(figure: Figure) -> None:
    """Name what is drawn in any panel, once and above all of them."""
    named: dict[str, Artist] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        named |= dict(zip(labels, handles, strict=True))
    legend_above(figure, list(named.values()), list(named))


# Against the solver -----------------------------------------------------------------


@styled
def defect_scatter(summary: Summary) -> Figure | None:
    """Return the model's defect against the solver's, with the identity."""
    cells = [c for c in largest(summary) if c.model_defect and c.solver_defect]
    if not cells:
        return None
    figure = new_figure(7.6, 6.2)
    axes = figure.add_subplot()
    draw_defects(axes, cells, looks(largest(summary)))
    axes.set_ylabel("defect of the model")
    one_legend(figure)
    return figure


def draw_defects(axes: Axes, cells: Sequence[Cell], styles: dict[str, Look]) -> None:
    """Draw the defects of cells that have them, and the identity."""
    solver = numbers([c.solver_defect for c in cells])
    found = [c.model_defect for c in cells]
    model, low, high = (
        numbers([getattr(one, end) for one in found])
        for end in ("value", "low", "high")
    )
    top = 1.05 * solver.max()
    axes.plot([0, top], [0, top], color=SOLVER, lw=1.4, label="model = solver")
    for family in in_order(cells):
        own = [i for i, c in enumerate(cells) if c.family == family]
        look = styles[family]
        axes.plot(solver[own], model[own], label=label(family), **line_style(look))
        axes.vlines(solver[own], low[own], high[own], color=look.colour, lw=1.3)
    # Small defects have long numbers, which would run into each other.
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel("defect of the solver, mean over broken motions")


# Against cost -----------------------------------------------------------------------


@styled
def size_chart(summary: Summary) -> Figure | None:
    """Return the error against the training set, at the ends and in the middle."""
    sizes = sorted({cell.size for cell in summary.cells})
    if not sizes[1:]:
        return None
    strengths = strengths_of(summary)
    chosen = sorted({strengths[0], strengths[len(strengths) // 2], strengths[-1]})
    figure = new_figure(3.7 * len(chosen), 4.6)
    panels = figure.subplots(1, len(chosen), squeeze=False, sharey=True)[0]
    styles = looks(summary.cells)
    for axes, strength in zip(panels, chosen, strict=True):
        for family in in_order(summary.cells):
            own = sorted(
                (c for c in summary.cells
                 if (c.family, c.strength) == (family, strength)
                 and c.test.value is not None),
                key=lambda c: c.size,
            )  # fmt: skip
            axes.plot(
                numbers([c.size for c in own]), numbers([c.test.value for c in own]),
                label=label(family), **line_style(styles[family]),
            )  # fmt: skip
        _log(axes, "y")
        _log(axes, "x")
        axes.set_title(f"{summary.term.replace('_', ' ')} {strength:g}")
        axes.set_xlabel("training trajectories")
        axes.set_xticks(sizes, [str(s) for s in sizes])
    panels[0].set_ylabel("VRMSE after 10 steps")
    one_legend(figure)
    return figure


@styled
def cost_chart(summary: Summary) -> Figure:
    """Return the error against the operations of a step, one marker per strength."""
    cells = [c for c in largest(summary) if c.flops and c.test.value]
    strengths = strengths_of(summary)
    chosen = sorted({strengths[0], strengths[len(strengths) // 2], strengths[-1]})
    styles = looks(largest(summary))
    # A legend of many families needs room of its own.
    figure = new_figure(max(7.5, 3.7 * len(chosen)), 4.0 + 0.08 * len(styles))
    panels = figure.subplots(1, len(chosen), squeeze=False, sharey=True)[0]
    for axes, strength in zip(panels, chosen, strict=True):
        for family in in_order(cells):
            own = [c for c in cells if (c.family, c.strength) == (family, strength)]
            axes.plot(
                numbers([c.flops for c in own]) / 1e6,
                numbers([c.test.value for c in own]),
                label=label(family), **marker_style(styles[family]),
            )  # fmt: skip
        _log(axes, "y")
        _log(axes, "x")
        axes.set_title(f"{summary.term.replace('_', ' ')} {strength:g}")
        axes.set_xlabel("operations per step [10⁶]")
    panels[0].set_ylabel("VRMSE after 10 steps")
    one_legend(figure)
    return figure
