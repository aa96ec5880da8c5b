"""Truth, predictions and errors of rollouts as a table of pictures."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.image import AxesImage

from experiments.drawing import (
    ERROR_MAP,
    draw_environment,
    error_range,
    label_box,
    new_figure,
    show_field,
    styled,
    value_range,
)
from experiments.evaluation import Pictures
from experiments.series import Look
from experiments.space_time import body_curves, line_strip
from pde_sym.fields import with_unit


@styled
def rollout_strip(
    rollouts: Mapping[str, Pictures],
    unit: Mapping[str, str],
    trajectory: int = 0,
    channel: int = 0,
    looks: Mapping[str, Look] | None = None,
) -> Figure:
    """Return truth, predictions and errors at a few times.

    On a line place stands against time; of a body every component does.

    Parameters
    ----------
    rollouts
        Label -> rollouts on the same trajectories.
    unit
        Unit per field.
    trajectory, channel
        Which of those that were kept.
    looks
        Label -> how curves are drawn.
    """
    first = next(iter(rollouts.values()))
    if len(first.lengths) == 1:
        return line_strip(rollouts, unit, trajectory, channel)
    if len(first.lengths) == 3:
        return body_curves(rollouts, unit, looks or {}, trajectory)
    frames = sorted({*np.linspace(0, len(first.times) - 1, 6).round().astype(int)})
    rows, columns = 1 + 2 * len(rollouts), len(frames) + 1
    figure = new_figure(1.42 * columns + 0.4, 1.42 * rows + 0.3)
    grid = figure.add_gridspec(rows, columns, width_ratios=[*[1] * (columns - 1), 1.15])
    truth = first.truth[trajectory, :, channel]
    cmap, norm = value_range(truth)
    errors = {
        label: one.prediction[trajectory, :, channel] - truth
        for label, one in rollouts.items()
    }
    spread = error_range([e[frames] for e in errors.values()])
    field = error = None
    for column, frame in enumerate(frames):
        axes = figure.add_subplot(grid[0, column])
        field = show_field(axes, truth[frame], first.lengths, cmap, norm)
        time = f"t = {first.times[frame]:.3g}"
        axes.set_title(time if column else f"truth, {time}")
        if column == 0:
            label_box(axes, first.lengths)
        for number, (label, one) in enumerate(rollouts.items()):
            cells = [figure.add_subplot(grid[2 * number + i, column]) for i in (1, 2)]
            if column == 0:
                _name_rows(cells, label)
                continue
            state = one.prediction[trajectory, frame, channel]
            show_field(cells[0], state, first.lengths, cmap, norm)
            error = show_field(
                cells[1], errors[label][frame], first.lengths, ERROR_MAP, spread
            )
    name = first.channels[channel]
    scales = tuple(
        (image, with_unit(words, unit.get(name, "")))
        for image, words in ((field, name), (error, "prediction\n− truth"))
    )
    _draw_side(figure, grid, first, trajectory, unit, scales)
    return figure


def _name_rows(cells: Sequence[Axes], label: str) -> None:
    """Write the names of a prediction's rows where the initial state would repeat."""
    text = textwrap.fill(label, 13)
    for axes, words in zip(
        cells, (f"{text}\nprediction", "prediction\n− truth"), strict=True
    ):
        axes.set_axis_off()
        axes.text(0.96, 0.5, words, ha="right", va="center", transform=axes.transAxes)


def _draw_side(
    figure: Figure,
    grid: GridSpec,
    pictures: Pictures,
    trajectory: int,
    unit: Mapping[str, str],
    scales: Sequence[tuple[AxesImage | None, str]],
) -> None:
    """Fill the last column: the environment's channels, then the colour scales."""
    names = pictures.environment_channels[: grid.nrows - len(scales)]
    for row, name in enumerate(names):
        axes = figure.add_subplot(grid[row, -1])
        draw_environment(figure, axes, pictures, trajectory, row, unit.get(name, ""))
    height = (grid.nrows - len(names)) // len(scales)
    for number, (image, title) in enumerate(scales):
        if image is None:
            continue
        start = len(names) + number * height
        host = figure.add_subplot(grid[start : start + height, -1])
        host.set_axis_off()
        bar = host.inset_axes((0.1, 0.06, 0.12, 0.88))
        figure.colorbar(image, cax=bar, label=title)
        # The cell is wide enough, and a long label must not push the pictures apart.
        bar.set_in_layout(False)
