"""Defects by angle: turns at the angle that they turn by, flips at their mirror."""

import math
import re
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.projections.polar import PolarAxes

from experiments.drawing import new_figure, styled
from experiments.figures import SOLVER, legend_above, line_style
from experiments.series import Series
from pde_sym.errors import InputError
from pde_sym.evaluation import ElementDefect


def angle_of(element: str) -> tuple[bool, float] | None:
    """Return whether an element of D4 flips, and its angle in degrees; else None.

    A turn has the angle that it turns by. ``flip, turn a`` is y -> -y, then a turn by
    a: a mirror at the angle a / 2, and at the one opposite.
    """
    found = re.fullmatch(r"(flip)?(?: y)?(?:, )?(?:turn (\d+))?", element)
    if found is None or not element:
        return None
    turned = float(found[2] or 0)
    return (True, turned / 2) if found[1] else (False, turned)


@styled
def rose_chart(series: Sequence[Series]) -> Figure:
    """Return the defect of solver and models against the angle of turns and mirrors.

    Raises
    ------
    InputError
        When the data have no turns and flips, as lines and bodies.
    """
    rows = [(angle_of(d.element), d) for d in series[0].first.defects]
    known = [(angle, n) for n, (angle, _) in enumerate(rows) if angle is not None]
    if not known:
        raise InputError("rose: expected data of a plane, with turns and flips")
    figure = new_figure(9.6, 5.0)
    for place, (flips, title) in enumerate(
        ((False, "turns, by their angle"), (True, "flips, by their mirror")), start=1
    ):
        axes = figure.add_subplot(1, 2, place, projection="polar")
        assert isinstance(axes, PolarAxes)
        chosen = [(degrees, n) for (is_flip, degrees), n in known if is_flip == flips]
        # A mirror is a line: it is seen on both sides.
        ends = (
            [(d + 180 * k, n) for k in range(2) for d, n in chosen] if flips else chosen
        )
        for label, values, style in _curves(series):
            points = [(math.radians(d), values[n]) for d, n in ends]
            angle, size = np.array(sorted(points)).T
            if flips:
                loop = np.r_[0 : len(angle), 0]
                axes.plot(angle[loop], size[loop], label=label, **style)
            else:  # spokes: three turns make no outline
                axes.vlines(angle, 0, size, color=style["color"], lw=0.8)
                axes.plot(angle, size, label=label, **{**style, "linestyle": "none"})
        axes.set_title(title, pad=14)
        axes.set_rlabel_position(20)
        axes.set_rlim(0, None)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    legend_above(figure, handles, labels)
    return figure


def _curves(series: Sequence[Series]) -> list[tuple[str, np.ndarray, dict]]:
    """Return label, defect per element and style of solver and models."""
    elements: Sequence[ElementDefect] = series[0].first.defects
    curves = []
    if all(d.solver is not None for d in elements):
        solver = np.array([d.solver for d in elements])
        style = {"color": SOLVER, "linestyle": "-", "lw": 2.4, "marker": "."}
        curves.append(("solver", solver, style))
    for one in series:
        mean = one.values(lambda e: [d.model for d in e.defects]).mean(0)
        curves.append((one.label, mean, line_style(one.look)))
    return curves
