"""Pictures of a data set: frames of a plane, place and time of a line, or curves."""

import io
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from data_gen.recipes import read_recipe
from pde_sym.fields import FieldSpec, with_unit
from pde_sym.store import make_folder, open_entry, read_manifest, write_file

Values = NDArray[np.floating]

MAX_FRAMES = 6
CURVES = (("#0072b2", "-"), ("#d55e00", "--"), ("#009e73", "-."), ("#cc79a7", ":"))
"""Colours that the colour-blind tell apart, and dashes for prints without any."""


def draw(folder: Path, pictures: Path) -> list[str]:
    """Draw the first test trajectory, a file per channel; return the files.

    A system that is one point has a file per field, of its components against time.
    """
    manifest, recipe = read_manifest(folder), read_recipe(folder)
    lengths = recipe.grid.lengths
    with open_entry(folder, manifest.of(manifest.shown())[0]) as reader:
        states, times, spec = reader.states(slice(0, 1))[0], reader.times, reader.fields
    make_folder(pictures)
    if recipe.grid.num_points == 1:
        return _save(_curves(states[:, :, 0, 0, 0], times, spec), pictures)
    units = [field.unit for field in spec for _ in range(field.components)]
    figures = {}
    for channel, (name, unit) in enumerate(zip(spec.channel_names, units, strict=True)):
        u = states[:, channel]
        norm, cmap = colours(u)
        if len(lengths) == 1:
            figure, axes = _line(u, times, lengths[0], norm, cmap)
        else:
            figure, axes = _plane(u, times, lengths, norm, cmap)
        figure.colorbar(
            ScalarMappable(norm, cmap), ax=axes, label=with_unit(name, unit)
        )
        figures[name] = figure
    return _save(figures, pictures)


def _save(figures: dict[str, Figure], pictures: Path) -> list[str]:
    files = []
    for name, figure in figures.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=150)
        files.append(str(pictures / f"{name}.png"))
        write_file(Path(files[-1]), buffer.getvalue())
    return files


def _curves(values: Values, times: Values, spec: FieldSpec) -> dict[str, Figure]:
    """Return a figure per field of values ``(frames, channels)``.

    The rows of a tensor have a panel each.
    """
    figures = {}
    for field, channels in zip(spec, spec.slices().values(), strict=True):
        num = field.component_shape[0] if field.rank.tensor_order == 2 else 1
        figure = Figure(figsize=(6.4, 0.8 + 2.4 * num), layout="constrained")
        panels = figure.subplots(num, sharex=True, sharey=True, squeeze=False)[:, 0]
        names = np.array(FieldSpec.of(field).channel_names).reshape(num, -1)
        curves = values[:, channels].T.reshape(*names.shape, -1)
        for axis, labels, row in zip(panels, names, curves, strict=True):
            for name, u, (colour, dash) in zip(labels, row, CURVES, strict=False):
                axis.plot(
                    times, u, color=colour, linestyle=dash, label=with_unit(name, "")
                )
            axis.set(ylabel=with_unit(field.name, field.unit))
            if len(labels) > 1:
                axis.legend()
        panels[-1].set(xlabel="time t [T]")
        figures[field.name] = figure
    return figures


def colours(u: Values) -> tuple[Normalize, str]:
    """Return limits and colour map: symmetric about zero for fields of both signs."""
    low, high = float(u.min()), float(u.max())
    if low < 0 < high:
        largest = max(-low, high)
        return Normalize(-largest, largest), "RdBu_r"
    return Normalize(low, high), "cividis"


def _plane(
    u: Values, times: Values, lengths: tuple[float, ...], norm: Normalize, cmap: str
) -> tuple[Figure, list[Axes]]:
    chosen = np.unique(np.linspace(0, len(times) - 1, MAX_FRAMES).round().astype(int))
    figure = Figure(figsize=(2 * len(chosen) + 0.8, 2.5), layout="constrained")
    axes = list(figure.subplots(1, len(chosen), sharey=True, squeeze=False)[0])
    extent = (0.0, lengths[0], 0.0, lengths[1])
    for axis, frame in zip(axes, chosen, strict=True):
        # Arrays are indexed (x, y), pictures (row, column) from the top.
        axis.imshow(u[frame].T, origin="lower", extent=extent, norm=norm, cmap=cmap)
        axis.set(title=f"t = {times[frame]:.3g} T", xlabel="x [L]")
    axes[0].set_ylabel("y [L]")
    return figure, axes


def _line(
    u: Values, times: Values, length: float, norm: Normalize, cmap: str
) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axis = figure.add_subplot()
    x = np.arange(u.shape[1]) * length / u.shape[1]
    axis.pcolormesh(x, times, u, norm=norm, cmap=cmap, shading="nearest")
    axis.set(xlabel="x [L]", ylabel="time t [T]")
    return figure, [axis]
