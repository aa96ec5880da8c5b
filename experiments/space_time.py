"""Rollouts on lines as pictures of place and time, and of bodies as curves of time."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.drawing import (
    ERROR_MAP,
    Floats,
    error_range,
    new_figure,
    styled,
    value_range,
)
from experiments.evaluation import Pictures
from experiments.series import OTHER, Look
from pde_sym.fields import with_unit

TRUTH = "#000000"
COMPONENTS = 3
"""Panels beside each other in the curves of a body."""


def places(pictures: Pictures) -> Floats:
    """Return the coordinates of the points of a line."""
    number = pictures.truth.shape[-1]
    return np.arange(number) * pictures.lengths[0] / number


def show_line(
    axes: Axes, pictures: Pictures, values: Floats, cmap: str, norm: Normalize
) -> QuadMesh:
    """Draw ``(frames, x)`` with x to the right and time upwards."""
    axes.grid(visible=False)
    mesh = axes.pcolormesh(
        places(pictures),
        pictures.times,
        values,
        cmap=cmap,
        norm=norm,
        shading="nearest",
    )
    mesh.set_rasterized(True)
    return mesh


def line_strip(
    rollouts: Mapping[str, Pictures],
    unit: Mapping[str, str],
    trajectory: int = 0,
    channel: int = 0,
) -> Figure:
    """Return truth, predictions and errors on a line, place against time.

    The parameters are those of `experiments.strip.rollout_strip`.
    """
    first = next(iter(rollouts.values()))
    rows = 1 + len(rollouts)
    figure = new_figure(9.0, 2.1 * rows + 0.4)
    panels = figure.subplots(rows, 2, sharex=True, squeeze=False)
    truth = first.truth[trajectory, :, channel]
    cmap, norm = value_range(truth)
    errors = [o.prediction[trajectory, :, channel] - truth for o in rollouts.values()]
    spread = error_range(errors)
    field = show_line(panels[0, 0], first, truth, cmap, norm)
    panels[0, 0].set_title("truth")
    draw_environment_of_line(panels[0, 1], first, trajectory, unit)
    error = field
    for row, (label, one), wrong in zip(
        panels[1:], rollouts.items(), errors, strict=True
    ):
        states = one.prediction[trajectory, :, channel]
        show_line(row[0], first, states, cmap, norm)
        error = show_line(row[1], first, wrong, ERROR_MAP, spread)
        row[0].set_title(f"{label}: prediction")
        row[1].set_title("prediction − truth")
        row[1].sharey(row[0])
    for axes in panels[:, 0]:
        axes.set_ylabel("time t [T]")
    for axes in panels[-1]:
        axes.set_xlabel("x [L]")
    text = with_unit(first.channels[channel], unit.get(first.channels[channel], ""))
    figure.colorbar(field, ax=list(panels[:, 0]), label=text)
    figure.colorbar(error, ax=list(panels[1:, 1]), label=f"prediction − truth\n{text}")
    return figure


def draw_environment_of_line(
    axes: Axes, pictures: Pictures, trajectory: int, unit: Mapping[str, str]
) -> None:
    """Draw the environment's channels against place, or nothing without any."""
    names = pictures.environment_channels
    if not names:
        axes.set_axis_off()
        return
    texts = [with_unit(name, unit.get(name, "")) for name in names]
    curves = zip(texts, pictures.environment[trajectory], strict=True)
    for (text, values), dash in zip(curves, itertools.cycle(("-", "--", ":"))):
        axes.plot(places(pictures), values, color=TRUTH, linestyle=dash, label=text)
    axes.set_title(texts[0] if len(texts) == 1 else "environment")
    if len(texts) > 1:
        axes.legend(loc="best")


def body_curves(
    rollouts: Mapping[str, Pictures],
    unit: Mapping[str, str],
    looks: Mapping[str, Look],
    trajectory: int = 0,
) -> Figure:
    """Return every component of a body against time, truth and predictions."""
    first = next(iter(rollouts.values()))
    names = first.channels
    rows = -(-len(names) // COMPONENTS)
    figure = new_figure(10.0, 0.8 + 2.2 * rows)
    panels = figure.subplots(rows, COMPONENTS, sharex=True, squeeze=False)
    for number, (axes, name) in enumerate(zip(panels.flat, names, strict=False)):
        truth = first.truth[trajectory, :, number].reshape(-1)
        axes.plot(first.times, truth, color=TRUTH, label="truth")
        for label, one in rollouts.items():
            states = one.prediction[trajectory, :, number].reshape(-1)
            axes.plot(one.times, states, **_line_style(label, looks))
        axes.set_title(with_unit(name, unit.get(name, "")))
    for axes in panels.flat[len(names) :]:
        axes.set_axis_off()
    for axes in panels[-1]:
        axes.set_xlabel("time t [T]")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper center", ncols=min(4, len(labels))
    )
    return figure


@styled
def moving_lines(
    rollouts: Mapping[str, Pictures],
    unit: Mapping[str, str],
    looks: Mapping[str, Look],
    trajectory: int,
    channel: int,
) -> tuple[Figure, list[tuple[Line2D, Floats]]]:
    """Return curves over a line, above states and below errors.

    Returns
    -------
    tuple
        The figure, and each curve with its values ``(frames, x)``.
    """
    first = next(iter(rollouts.values()))
    figure = new_figure(6.4, 5.0)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1.6, 1])
    x, truth = places(first), first.truth[trajectory, :, channel]
    (line,) = above.plot(x, truth[0], color=TRUTH, label="truth")
    moving, errors = [(line, truth)], []
    for label, one in rollouts.items():
        states = one.prediction[trajectory, :, channel]
        errors.append(states - truth)
        for axes, values in ((above, states), (below, errors[-1])):
            (line,) = axes.plot(x, values[0], **_line_style(label, looks))
            moving.append((line, values))
    _, norm = value_range(truth)
    assert norm.vmin is not None
    assert norm.vmax is not None
    room = 0.15 * (norm.vmax - norm.vmin)
    above.set_ylim(norm.vmin - room, norm.vmax + room)
    spread = error_range(errors)
    below.set_ylim(spread.vmin, spread.vmax)
    text = with_unit(first.channels[channel], unit.get(first.channels[channel], ""))
    above.set_ylabel(text)
    below.set_ylabel(f"prediction − truth\n{text}")
    below.set_xlabel("x [L]")
    handles, labels = above.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper")
    return figure, moving


def _line_style(label: str, looks: Mapping[str, Look]) -> dict[str, Any]:
    look = looks.get(label, OTHER)
    return {"color": look.colour, "linestyle": look.line, "label": label}
