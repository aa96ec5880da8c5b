"""Curves and charts of evaluated surrogates: plain values in, figures out."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from experiments.drawing import Floats, new_figure, styled
from experiments.evaluation import Evaluation
from experiments.series import Look, Series
from pde_sym.errors import InputError
from pde_sym.evaluation import ElementDefect, IrrepShare

SOLVER = "#000000"
GREY = "#767676"
ROUND_OFF = 1e-6
"""Relative defect that counts as round-off in float32."""
DEFECT_FLOOR = 1e-9
"""Defects below, those of exact symmetries in float64, are drawn in one place."""
SHARE_FLOOR = ROUND_OFF**2
"""Shares go with the square of defects."""
# Curves -----------------------------------------------------------------------------


def draw_curve(axes: Axes, times: Floats, series: Series, values: Floats) -> None:
    """Draw the mean over seeds, with a band from the lowest to the highest."""
    # A logarithmic axis has no place for zeros, nor for the start of a drift.
    values = np.where(values > 0, values, np.nan)
    if np.isnan(values).all():
        return
    look = series.look
    known = np.isfinite(values)
    mean = np.where(
        known.all(0), np.nansum(values, 0) / np.maximum(known.sum(0), 1), np.nan
    )
    axes.plot(
        times,
        mean,
        label=series.label,
        markevery=max(1, len(times) // 8),
        **line_style(look),
    )
    if len(values) > 1:
        axes.fill_between(
            times, values.min(0), values.max(0), color=look.colour, alpha=0.18, lw=0
        )


def line_style(look: Look) -> dict[str, Any]:
    return {
        "color": look.colour,
        "linestyle": look.line,
        "marker": look.marker,
        "markerfacecolor": look.colour if look.filled else "white",
    }


def marker_style(look: Look) -> dict[str, Any]:
    return {**line_style(look), "linestyle": "none"}


@styled
def error_curve(series: Sequence[Series]) -> Figure:
    """Return the VRMSE of rollouts against time."""
    figure = new_figure(7.5, 4.4)
    axes = figure.add_subplot()
    first = series[0].first
    times = np.array(first.times[1:])
    axes.plot(times, first.persistence_vrmse, "--", color=GREY, label="no change")
    for one in series:
        draw_curve(axes, times, one, one.values(lambda e: e.vrmse))
    axes.set_yscale("log")
    axes.set_xlabel("time t [T]")
    axes.set_ylabel("VRMSE of the rollout")
    axes.legend(**beside())
    return figure


def beside() -> dict[str, Any]:
    """Return where legends go: right of the axes, over no curve."""
    return {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}


def invariant_names(first: Evaluation) -> list[tuple[str, ...]]:
    """Return the names of invariants; those with equal series stand together."""
    found: dict[tuple[tuple[float, ...], ...], list[str]] = {}
    for one in first.invariants:
        key = (one.truth_drift, one.model_drift, one.model_residual)
        found.setdefault(key, []).append(one.name)
    return [tuple(names) for names in found.values()]


def legend_above(figure: Figure, handles: Sequence[Artist], labels: list[str]) -> None:
    """Put a legend above all panels, in as many columns as the width has room for."""
    inches = 0.6 + 0.09 * max(map(len, labels))
    columns = min(5, len(labels), max(1, int(figure.get_figwidth() / inches)))
    figure.legend(handles, labels, loc="outside upper center", ncols=columns)


@styled
def drift_curve(series: Sequence[Series], invariant: str | None = None) -> Figure:
    """Return drift and budget residual of the invariants along rollouts.

    Raises
    ------
    InputError
        When there is no invariant of that name.
    """
    first = series[0].first
    known = [i.name for i in first.invariants]
    if not known:
        raise InputError("drift: imported data have no invariants that are known")
    if invariant is not None and invariant not in known:
        raise InputError(f"invariant {invariant!r}: expected one of {', '.join(known)}")
    rows = [(invariant,)] if invariant is not None else invariant_names(first)
    figure = new_figure(10.0, 0.7 + 3.1 * len(rows))
    panels = figure.subplots(len(rows), 2, squeeze=False, sharex=True)
    times = np.array(first.times)
    for row, names in zip(panels, rows, strict=True):
        number = known.index(names[0])
        title = ", ".join(n.replace("_", " ") for n in names)
        for axes, kind in zip(row, ("drift", "residual"), strict=True):
            _draw_drift(axes, times, series, number, kind)
        row[0].set_title(f"{title}: drift")
        row[1].set_title(f"{title}: drift not explained by the budget")
        row[0].set_ylabel("relative to I(0)")
    for axes in panels[-1]:
        axes.set_xlabel("time t [T]")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    legend_above(figure, handles, labels)
    return figure


def _draw_drift(
    axes: Axes, times: Floats, series: Sequence[Series], number: int, kind: str
) -> None:
    def of(which: str) -> Callable[[Evaluation], Sequence[float]]:
        return lambda e: getattr(e.invariants[number], f"{which}_{kind}")

    truth = np.array(of("truth")(series[0].first))
    truth = np.where(truth > 0, truth, np.nan)
    axes.plot(times, truth, color=SOLVER, lw=1.4, label="truth", zorder=3)
    for one in series:
        draw_curve(axes, times, one, one.values(of("model")))
    axes.set_yscale("log")


# Symmetry ---------------------------------------------------------------------------


def element_name(name: str) -> str:
    """Return ``turn 90°`` for ``turn 90``, ``shift (1/32, 0)`` for its decimals.

    Shifts of a line have one number.
    """
    if name.startswith("shift "):
        parts = [_fraction(p) for p in name.removeprefix("shift ").split(",")]
        return f"shift ({', '.join(parts)})" if parts[1:] else f"shift {parts[0]}"
    words = name.split(", ")
    words = [f"{w}°" if w.startswith("turn ") else w for w in words]
    return " + ".join(words)


def _fraction(text: str) -> str:
    return str(Fraction(text.strip()).limit_denominator(4096))


def offsets(number: int) -> Floats:
    """Return where several markers of one row go."""
    return np.linspace(-0.27, 0.27, number) if number > 1 else np.zeros(1)


def draw_seeds(axes: Axes, place: float, values: Floats, look: Look) -> None:
    """Draw the mean over seeds as a marker and their range as a line."""
    style = marker_style(look)
    axes.plot(values.mean(), place, zorder=3, **style)
    if len(values) > 1:
        axes.plot([values.min(), values.max()], [place] * 2, color=look.colour, lw=1.5)


@styled
def defect_chart(series: Sequence[Series]) -> Figure:
    """Return the defect per group element, and its ratio to the solver's."""
    elements = series[0].first.defects
    broken = [i for i, d in enumerate(elements) if d.survives is False]
    panels = 2 if broken else 1
    height = max(0.42, 0.1 * len(series))
    figure = new_figure(10.0 if broken else 7.5, 1.5 + height * len(elements))
    row = figure.subplots(
        1, panels, sharey=True, squeeze=False, width_ratios=[1.35, 1][:panels]
    )[0]
    solver = known_shares(elements)
    models = [one.values(lambda e: [d.model for d in e.defects]) for one in series]
    high = max(ROUND_OFF, *solver, *(values.max() for values in models))
    floor = DEFECT_FLOOR / 10
    for one, values, shift in zip(series, models, offsets(len(series)), strict=True):
        for i in range(len(elements)):
            shown = np.where(values[:, i] < DEFECT_FLOOR, floor, values[:, i])
            draw_seeds(row[0], i + shift, shown, one.look)
            if i in broken and solver[i] > 0:
                draw_seeds(row[1], i + shift, values[:, i] / solver[i], one.look)
    _draw_solver(row[0], np.where(solver < DEFECT_FLOOR, floor, solver))
    _mark_log_axis(row[0], floor, "< $10^{-9}$", ROUND_OFF, high)
    row[0].set_xlabel("relative defect  E ‖f(g x) − g f(x)‖ / ‖f(x)‖")
    row[0].set_yticks(
        range(len(elements)),
        [element_name(d.element) + (" (kept)" if d.survives else "") for d in elements],
    )
    for axes in row:
        _draw_rows(axes, len(elements))
    if broken:
        row[1].axvline(1.0, color=SOLVER, lw=1.6)
        row[1].set_xlim(left=-0.06)
        row[1].set_xlabel("defect of the model / defect of the solver")
    _legend_of_markers(figure, series, with_solver=len(solver) > 0)
    return figure


def known_shares(rows: Sequence[ElementDefect | IrrepShare]) -> Floats:
    """Return what the solver has of each row; nothing where there is no solver."""
    return np.array([row.solver for row in rows if row.solver is not None])


def _draw_solver(axes: Axes, values: Floats) -> None:
    places = np.arange(len(values))
    axes.vlines(values, places - 0.4, places + 0.4, color=SOLVER, lw=2.4, zorder=2.5)


def _draw_rows(axes: Axes, number: int) -> None:
    """Show which markers belong together; the first row is the upper one."""
    axes.set_ylim(number - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    for i in range(0, number, 2):
        axes.axhspan(i - 0.5, i + 0.5, color="#f3f3f3", lw=0, zorder=-1)


def _mark_log_axis(
    axes: Axes, floor: float, lowest: str, noise: float, high: float
) -> None:
    """Make the axis logarithmic, with a place at `floor` for what is lower."""
    axes.set_xscale("log")
    axes.set_xlim(floor / 2, 10 ** (math.log10(high) + 0.4))
    axes.axvspan(floor / 2, noise, color="#0072B2", alpha=0.09, lw=0, zorder=0)
    decades = range(round(math.log10(floor)) + 1, math.ceil(math.log10(high)) + 1)
    step = max(1, math.ceil(len(decades) / 7))
    chosen = [d for d in decades if d % step == 0]
    labels = [lowest, *(f"$10^{{{d}}}$" for d in chosen)]
    axes.set_xticks([floor, *(10.0**d for d in chosen)], labels)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.annotate(
        "round-off",
        (math.sqrt(floor / 2 * noise), 1.0),
        xycoords=axes.get_xaxis_transform(),
        ha="center",
        va="bottom",
        color="#0072B2",
        fontsize=10,
    )


def _legend_of_markers(
    figure: Figure, series: Sequence[Series], *, with_solver: bool
) -> None:
    axes = figure.axes[0]
    if with_solver:
        axes.plot(
            [], [], color=SOLVER, marker="|", ms=12, mew=2.4, ls="none", label="solver"
        )
    for one in series:
        axes.plot([], [], label=one.label, **marker_style(one.look))
    handles, labels = axes.get_legend_handles_labels()
    legend_above(figure, handles, labels)


def by_wave_number(shares: Sequence[IrrepShare]) -> tuple[IrrepShare, ...]:
    """Add the shares of all modes (m_x, m_y) with one |m|, in the order of |m|.

    On a line a mode (m) is one alone.
    """
    modes = [
        tuple(int(part) for part in share.irrep.removeprefix("mode (")[:-1].split(","))
        for share in shares
    ]
    # Modes of a plane are residues: of n steps, n - 1 stands for -1.
    n = 1 + max((max(mode) for mode in modes), default=0)
    squares = [
        mode[0] ** 2 if len(mode) == 1 else sum(min(m, n - m) ** 2 for m in mode)
        for mode in modes
    ]
    result = []
    for square in sorted(set(squares)):
        chosen = [s for s, q in zip(shares, squares, strict=True) if q == square]
        root = math.isqrt(square)
        name = f"|m| = {root}" if root**2 == square else f"|m| = √{square}"
        result.append(
            IrrepShare(
                irrep=name,
                solver=None
                if chosen[0].solver is None
                else float(known_shares(chosen).sum()),
                model=sum(s.model for s in chosen),
            )
        )
    return tuple(result)


@styled
def spectrum_chart(series: Sequence[Series]) -> Figure:
    """Return the shares of solver and models in the irreps of D4 and of shifts.

    Lines have shifts alone.

    Raises
    ------
    InputError
        When there are no such groups, as for a body.
    """

    def points(e: Evaluation) -> tuple[IrrepShare, ...]:
        return tuple(s for s in e.point_spectrum if s.irrep != "trivial")

    def shifts(e: Evaluation) -> tuple[IrrepShare, ...]:
        return by_wave_number([s for s in e.shift_spectrum if s.irrep != "trivial"])

    panels = [
        (pick, title)
        for pick, title in (
            (points, "turns and flips: irreps of D4"),
            (shifts, "shifts: Fourier modes m"),
        )
        if pick(series[0].first)
    ]
    if not panels:
        raise InputError("a body has no turns, flips or shifts in space to draw")
    figure = new_figure(5.0 * len(panels), 4.4)
    row = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (pick, title) in zip(row, panels, strict=True):
        _draw_shares(axes, series, pick)
        axes.set_xlabel("share of the one-step map")
        axes.set_title(title, pad=20)
    with_solver = known_shares(panels[0][0](series[0].first)).size > 0
    _legend_of_markers(figure, series, with_solver=with_solver)
    return figure


def _draw_shares(
    axes: Axes,
    series: Sequence[Series],
    pick: Callable[[Evaluation], tuple[IrrepShare, ...]],
) -> None:
    rows = pick(series[0].first)
    solver = known_shares(rows)
    models = [one.values(lambda e: [s.model for s in pick(e)]) for one in series]
    known = np.concatenate([solver, *(m.ravel() for m in models)])
    known = known[known >= SHARE_FLOOR]
    low, high = (known.min(), known.max()) if known.size else (1e-4, 1e-2)
    # All round-off stands in one place: its decades would take most of the axis.
    floor = 10.0 ** (math.floor(math.log10(low)) - 1)

    def shown(values: Sequence[float] | Floats) -> Floats:
        return np.where(np.asarray(values) < SHARE_FLOOR, floor, values)

    for one, shares, shift in zip(series, models, offsets(len(series)), strict=True):
        for i in range(len(rows)):
            draw_seeds(axes, i + shift, shown(shares[:, i]), one.look)
    _draw_solver(axes, shown(solver))
    _mark_log_axis(axes, floor, "< $10^{-12}$", floor * 10**0.5, float(high))
    axes.set_yticks(range(len(rows)), [s.irrep for s in rows])
    _draw_rows(axes, len(rows))
