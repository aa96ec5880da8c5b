"""What cells of these pages share: tables of terms, and pictures of simulations."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from IPython.core.getipython import get_ipython
from IPython.core.pylabtools import select_figure_formats
from IPython.display import Markdown
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from experiments.drawing import STYLE, label_box, new_figure, show_field, value_range
from experiments.systems import describe
from pde_sym.fields import with_unit
from pde_sym.simulation import Simulation
from pde_sym.systems import System

BLACK, BLUE, RED, GREEN = "#000000", "#0072b2", "#d55e00", "#009e73"
"""Colours that the colour-blind tell apart."""

mpl.rcParams.update(STYLE)
if notebook := get_ipython():
    # A figure that ends a cell is shown, without pyplot too.
    select_figure_formats(notebook, {"png"}, dpi=110)


def terms(system: type[System]) -> Markdown:
    """Return the system's breaking terms as a table."""
    known = describe(system)
    rows = [
        "| term | equation | leaves | breaks besides |",
        "|---|---|---|---|",
    ]
    for term in known["breaking"]:
        broken = ", ".join(term["breaks"]) or "nothing"
        cells = (f"`{term['name']}`", f"`{term['equation']}`", term["leaves"], broken)
        rows.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
    return Markdown("\n".join(rows))


def invariants(system: type[System]) -> Markdown:
    """Return the system's invariants as a table."""
    rows = ["| on disk | meaning | unit |", "|---|---|---|"]
    for one in system.invariants:
        meaning = one.meaning.replace("|", "\\|")
        rows.append(f"| `{one.name}` | `{meaning}` | {one.unit or '1'} |")
    return Markdown("\n".join(rows))


def strips(runs: dict[str, Simulation], channel: int, frames: Sequence[int]) -> Figure:
    """Return one channel of simulations at some frames, a row for each."""
    figure = new_figure(1.75 * len(frames) + 1.6, 1.8 * len(runs) + 0.3)
    panels = figure.subplots(len(runs), len(frames), squeeze=False)
    every = np.concatenate(
        [np.asarray(run)[0, frames, channel].ravel() for run in runs.values()]
    )
    cmap, norm = value_range(every)
    for number, (label, run) in enumerate(runs.items()):
        row = panels[number]
        for axes, frame in zip(row, frames, strict=True):
            values = np.asarray(run)[0, frame, channel]
            show_field(axes, values, run.grid.lengths, cmap, norm)
            if number == 0:
                axes.set_title(f"t = {run.times[frame]:.3g} T")
        row[0].set_ylabel(label)
    first = next(iter(runs.values()))
    fields = first.fields
    units = [field.unit for field in fields for _ in range(field.components)]
    label = with_unit(fields.channel_names[channel], units[channel])
    label_box(panels[-1, 0], first.grid.lengths)
    panels[-1, 0].set_ylabel(f"{list(runs)[-1]}\ny [L]")
    figure.colorbar(
        ScalarMappable(norm, cmap), ax=panels, label=label, fraction=0.05, pad=0.02
    )
    return figure


def space_time(axes: Axes, run: Simulation, trajectory: int = 0) -> Any:
    """Draw a line's states, place to the right and time upwards."""
    u = np.asarray(run)[trajectory, :, 0]
    cmap, norm = value_range(u)
    axes.grid(visible=False)
    axes.set(xlabel="x [L]", ylabel="time t [T]")
    x = run.grid.coordinates(0)
    return axes.pcolormesh(x, run.times, u, cmap=cmap, norm=norm, shading="nearest")


__all__ = [
    "BLACK",
    "BLUE",
    "GREEN",
    "RED",
    "invariants",
    "label_box",
    "new_figure",
    "space_time",
    "strips",
    "terms",
]
