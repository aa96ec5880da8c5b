"""The breaking spectra of a sweep: which symmetry is broken, solver beside models."""

from collections.abc import Sequence
from statistics import median

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.drawing import new_figure, styled
from experiments.figures import SOLVER, marker_style
from experiments.phase_figures import in_order, label, largest, looks, one_legend
from experiments.series import Look
from experiments.sweep_summary import Summary
from experiments.sweep_table import Measured, Row, Table

SHARE_FLOOR = 1e-12
"""Shares below are round-off, and stand here."""


@styled
def spectrum_panels(table: Table, summary: Summary) -> Figure | None:
    """Return the solver's and the models' breaking spectra at the largest strength."""
    size = max(row.size for row in table.rows)
    strength = max(row.strength for row in table.rows)
    rows = [
        r for r in table.rows
        if (r.size, r.strength) == (size, strength) and r.spectrum
    ]  # fmt: skip
    if not rows:
        return None
    # A group that nobody breaks is not drawn.
    names = [
        name
        for name in sorted(rows[0].spectrum, key=rank)
        if any(_is_broken(row, _of_shifts(name)) for row in rows)
    ]
    groups = [
        ([n for n in names if _of_shifts(n) == of_shifts], title)
        for of_shifts, title in ((False, "turns and flips"), (True, "shifts"))
    ]
    groups = [(members, title) for members, title in groups if members]
    if not groups:
        return None
    figure = new_figure(5.5 * len(groups), 1.9 + 0.75 * max(len(m) for m, _ in groups))
    cells = largest(summary)
    families = [f for f in in_order(cells) if any(r.family == f for r in rows)]
    panels = figure.subplots(1, len(groups), squeeze=False)[0]
    for axes, (members, title) in zip(panels, groups, strict=True):
        _draw_spectrum(axes, rows, families, members, looks(cells))
        axes.set_title(title)
        axes.set_xlabel("share of the one-step map")
    one_legend(figure)
    return figure


def _of_shifts(name: str) -> bool:
    return name.startswith("|m|")


def rank(name: str) -> tuple[float, str]:
    """Return where an irrep stands: of D4 by name, of shifts by wave number."""
    if not _of_shifts(name):
        return 0.0, name
    number = name.removeprefix("|m| = ")
    root = number.removeprefix("√")
    return float(root) if root != number else float(root) ** 2, name


def _is_broken(row: Row, of_shifts: bool) -> bool:
    shares = [s for n, s in row.spectrum.items() if _of_shifts(n) == of_shifts]
    return any(max(s.solver, s.model) > SHARE_FLOOR for s in shares)


def _draw_spectrum(
    axes: Axes,
    rows: Sequence[Row],
    families: Sequence[str],
    members: Sequence[str],
    styles: dict[str, Look],
) -> None:
    def shown(values: Sequence[Measured], which: str) -> float:
        return max(SHARE_FLOOR, median(getattr(v, which) for v in values))

    offsets = np.linspace(-0.3, 0.3, len(families)) if families[1:] else np.zeros(1)
    for family, shift in zip(families, offsets, strict=True):
        own = [r.spectrum for r in rows if r.family == family]
        values = [shown([s[m] for s in own], "model") for m in members]
        places = np.arange(len(members)) + shift
        axes.plot(values, places, label=label(family), **marker_style(styles[family]))
    solver = [shown([rows[0].spectrum[m]], "solver") for m in members]
    for place, value in enumerate(solver):
        axes.plot([value] * 2, [place - 0.42, place + 0.42], color=SOLVER, lw=2.2,
                  label="solver" if place == 0 else None)  # fmt: skip
    axes.set_xscale("log")
    axes.set_yticks(range(len(members)), members)
    axes.set_ylim(len(members) - 0.5, -0.5)
