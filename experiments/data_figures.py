"""Figures of data sets: what a solver, a stranger or a surrogate put on the disk.

Several data sets stand in one figure, the first of them in black: predictions beside
the data that they begin with, for instance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.drawing import (
    Floats,
    label_box,
    new_figure,
    show_field,
    styled,
    value_range,
)
from experiments.series import FAMILIES
from pde_sym.errors import InputError
from pde_sym.fields import with_unit
from pde_sym.grid import PeriodicGrid, WalledGrid
from pde_sym.store import Shard, open_entry, read_manifest

CURVES = (("#000000", "-"), *((k.colour, k.line) for _, k in FAMILIES.values()))
"""Colour and dashes of each data set."""
FINER = 4
"""Points of a curve for each point of a grid."""
MOMENTS = 6
"""Frames of a field that are drawn."""


@dataclass(frozen=True)
class Track:
    """One trajectory of a data set.

    Parameters
    ----------
    label
        Name of its folder.
    shard
        The file that holds it.
    number
        Its place there.
    """

    label: str
    shard: Shard
    number: int

    @property
    def states(self) -> Floats:
        """``(frames, channels, *points)``."""
        return self.shard.states[self.number]

    @property
    def times(self) -> Floats:
        return self.shard.times

    @property
    def grid(self) -> PeriodicGrid:
        return self.shard.grid

    @property
    def num_axes(self) -> int:
        """0 of a body, which is one point."""
        return 0 if self.grid.num_points == 1 else self.grid.num_axes

    @property
    def channels(self) -> list[tuple[str, str]]:
        """Name and unit of each channel."""
        units = [f.unit for f in self.shard.fields for _ in range(f.components)]
        return list(zip(self.shard.fields.channel_names, units, strict=True))

    def field(self, name: str) -> Floats:
        """Return the channels of a field, ``(frames, components, *points)``."""
        if name not in self.shard.fields.names:
            known = ", ".join(self.shard.fields.names)
            raise InputError(f"{self.label}: no field {name}; it has {known}")
        return self.states[:, self.shard.fields.slices()[name]]


def read_tracks(folders: Sequence[Path], trajectory: int) -> list[Track]:
    """Read a trajectory of the test data, or of the training data without any.

    Raises
    ------
    InputError
        When a data set has not so many, or other fields or points than the first.
    DataError
        When a file is missing or damaged.
    """
    tracks = []
    for folder in folders:
        manifest = read_manifest(folder)
        split = manifest.shown()
        numbers = manifest.numbers(split)
        if trajectory not in numbers:
            raise InputError(
                f"--trajectory {trajectory}: {folder} has {len(numbers)} of {split}"
            )
        entry = next(e for e in manifest.of(split) if trajectory in e.numbers)
        with open_entry(folder, entry) as reader:
            shard = reader.load()
        number = entry.numbers.index(trajectory)
        tracks.append(Track(folder.resolve().name, shard, number))
        first = tracks[0].shard
        if (shard.fields, shard.grid) != (first.fields, first.grid):
            raise InputError(
                f"{folders[0]} and {folder}: other fields or another grid; compare "
                "data with their predictions"
            )
    return tracks


def _expect_axes(tracks: Sequence[Track], kind: str, *able: int) -> None:
    names = {0: "a body", 1: "a line", 2: "a plane"}
    found = tracks[0].num_axes
    if found not in able:
        wanted = " or ".join(names[n] for n in able)
        raise InputError(
            f"{kind}: expected data of {wanted}, these are of {found} axes"
        )


def _name(axes: Axes, text: str) -> None:
    axes.set_title(text.replace("_", " "))


def _legend(figure: Figure, axes: Axes, number: int) -> None:
    """Tell the data sets apart above the panels, where there are several."""
    handles, labels = axes.get_legend_handles_labels()
    if number > 1:
        figure.legend(handles, labels, loc="outside upper center", ncols=min(4, number))


@styled
def fields_figure(tracks: Sequence[Track]) -> Figure:
    """Return every channel of planes at a few times, one scale for each channel."""
    _expect_axes(tracks, "fields", 2)
    first = tracks[0]
    frames = np.linspace(0, len(first.times) - 1, MOMENTS).round().astype(int)
    frames = np.unique(frames)
    rows = len(tracks) * len(first.channels)
    lengths = first.grid.lengths
    tall = 1.5 * min(2.5, lengths[1] / lengths[0])
    figure = new_figure(1.5 * len(frames) + 1.6, tall * rows + 0.6)
    panels = figure.subplots(rows, len(frames), squeeze=False)
    for channel, (name, unit) in enumerate(first.channels):
        shown = [one.states[:, channel] for one in tracks]
        own = panels[channel * len(tracks) : (channel + 1) * len(tracks)]
        cmap, norm = value_range(np.stack([u[frames[frames < len(u)]] for u in shown]))
        image = None
        for row, one, u in zip(own, tracks, shown, strict=True):
            for axes, frame in zip(row, frames, strict=True):
                image = show_field(axes, u[frame], lengths, cmap, norm)
                _name(axes, f"t = {one.times[frame]:.3g}")
            row[0].set_ylabel(one.label if len(tracks) > 1 else "")
        assert image is not None
        figure.colorbar(image, ax=list(own.flat), label=with_unit(name, unit))
    if len(tracks) == 1:
        label_box(panels[-1, 0], lengths)
    return figure


@styled
def space_time_figure(tracks: Sequence[Track]) -> Figure:
    """Return place against time: of a line, or of a plane along x in its middle."""
    _expect_axes(tracks, "space-time", 1, 2)
    first = tracks[0]
    rows, columns = len(first.channels), len(tracks)
    figure = new_figure(3.6 * columns + 1.4, 2.8 * rows + 0.4)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    x, middle = first.grid.coordinates(0), first.grid.shape[-1] // 2
    for channel, (name, unit) in enumerate(first.channels):
        shown = [one.states[:, channel] for one in tracks]
        if first.num_axes == 2:
            shown = [u[:, :, middle] for u in shown]
        cmap, norm = value_range(np.concatenate(shown))
        mesh = None
        for axes, one, u in zip(panels[channel], tracks, shown, strict=True):
            axes.grid(visible=False)
            mesh = axes.pcolormesh(
                x, one.times, u, cmap=cmap, norm=norm, shading="nearest"
            )
            mesh.set_rasterized(True)
            if channel == 0:
                _name(axes, one.label)
        panels[channel, 0].set_ylabel("time t [T]")
        assert mesh is not None
        figure.colorbar(mesh, ax=list(panels[channel]), label=with_unit(name, unit))
    for axes in panels[-1]:
        axes.set_xlabel("x [L]")
    return figure


@styled
def portrait_figure(tracks: Sequence[Track]) -> Figure:
    """Return phase portraits.

    Of a body the angular momentum, component against component; of a line its first
    channel u against its slope u_x, all points of a frame in one loop.
    """
    _expect_axes(tracks, "portrait", 0, 1)
    if tracks[0].num_axes == 1:
        return _slopes(tracks)
    figure = new_figure(10.0, 3.9)
    row = figure.subplots(1, 3)
    for axes, (i, j) in zip(row, ((0, 1), (1, 2), (2, 0)), strict=True):
        for one, (colour, dash) in zip(tracks, CURVES, strict=False):
            pi = one.field("angular_momentum").reshape(len(one.times), 3)
            axes.plot(pi[:, i], pi[:, j], dash, color=colour, label=one.label)
            axes.plot(*pi[0, [i, j]], "o", color=colour)
        axes.set(xlabel=f"Π{'xyz'[i]}", ylabel=f"Π{'xyz'[j]}")
        axes.set_aspect("equal", adjustable="datalim")
    _legend(figure, row[0], len(tracks))
    return figure


def _slopes(tracks: Sequence[Track]) -> Figure:
    first = tracks[0]
    name, unit = first.channels[0]
    length = len(first.times)
    frames = sorted({0, length // 2, length - 1})
    figure = new_figure(3.4 * len(frames) + 0.4, 3.9)
    row = figure.subplots(1, len(frames), sharex=True, sharey=True, squeeze=False)[0]
    for axes, frame in zip(row, frames, strict=True):
        for one, (colour, dash) in zip(tracks, CURVES, strict=False):
            u = one.states[min(frame, len(one.times) - 1), 0].astype(np.float64)
            curve, slope = polynomial(u, one.grid.lengths[0])
            loop = np.r_[0 : len(curve), 0]
            axes.plot(curve[loop], slope[loop], dash, color=colour, label=one.label)
        _name(axes, f"t = {first.times[frame]:.3g} T")
        axes.set_xlabel(with_unit(name, unit))
    row[0].set_ylabel(f"slope of {name} along x")
    _legend(figure, row[0], len(tracks))
    return figure


def polynomial(values: Floats, length: float) -> tuple[Floats, Floats]:
    """Return the trigonometric polynomial of a line and its slope, on a finer grid.

    Its last mode, of which a grid does not tell the phase, is left out.
    """
    waves = np.fft.rfft(values)[: (len(values) + 1) // 2]
    slopes = 2j * np.pi * np.arange(len(waves)) / length * waves
    number = FINER * len(values)
    curve, slope = (FINER * np.fft.irfft(w, number) for w in (waves, slopes))
    return curve, slope


@styled
def power_figure(tracks: Sequence[Track]) -> Figure:
    """Return spectra of every channel at the first and the last frame.

    Sums of |u_m|² / N² over modes m of the unit box with |m| rounded to a whole number,
    N the number of points: together they are the mean of u².
    """
    _expect_axes(tracks, "power", 1, 2)
    if isinstance(tracks[0].grid, WalledGrid):
        raise InputError("power: expected periodic data; between walls are no modes")
    names = tracks[0].channels
    figure = new_figure(3.4 * len(names) + 1.2, 3.9)
    row = figure.subplots(1, len(names), squeeze=False)[0]
    for channel, (axes, (name, unit)) in enumerate(zip(row, names, strict=True)):
        for one, (colour, dash) in zip(tracks, CURVES, strict=False):
            for frame, width, when in ((0, 0.9, "first"), (-1, 2.2, "last")):
                power = shell_power(one.states[frame, channel], one.num_axes)
                shells = np.arange(len(power))
                text = f"{one.label}, {when} frame"
                axes.plot(
                    shells[1:], power[1:], dash, color=colour, lw=width, label=text
                )
        top = max(float(np.max(line.get_ydata())) for line in axes.lines)
        axes.set_xscale("log")
        if top > 0:
            # What is only round-off would take most of the axis.
            axes.set_yscale("log")
            axes.set_ylim(1e-14 * top, 3 * top)
        axes.set_xlabel("wave number |m|")
        axes.set_ylabel(f"power of {with_unit(name, unit)} squared")
    handles, labels = row[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    return figure


def shell_power(values: Floats, num_axes: int) -> Floats:
    """Return ``sum |u_m|^2 / N^2`` by |m|, rounded; their sum is the mean of u^2."""
    waves = np.fft.fftn(values.astype(np.float64)) / values.size
    modes = [np.fft.fftfreq(n, 1 / n) for n in values.shape]
    mesh = np.meshgrid(*modes, indexing="ij")[:num_axes]
    radius = np.sqrt(sum(m**2 for m in mesh)).round().astype(int)
    power = np.bincount(radius.ravel(), (np.abs(waves) ** 2).ravel())
    return power.astype(np.float64)


@styled
def budget_figure(tracks: Sequence[Track], invariant: str | None = None) -> Figure:
    """Return the change of each invariant, what its budget explains, and the gap.

    The closed-form budget is a thin line; the band between the two is what it does not
    explain: the error of a solver, or what a surrogate makes or loses.

    Raises
    ------
    InputError
        When none is stored, or none of that name.
    """
    known = list(tracks[0].shard.invariants)
    if not known:
        raise InputError(f"budget: {tracks[0].label} stores no invariants")
    if invariant is not None and invariant not in known:
        raise InputError(f"invariant {invariant!r}: expected one of {', '.join(known)}")
    names = known if invariant is None else [invariant]
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(4.9 * columns, 2.7 * rows + 0.8)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True)
    for axes, name in zip(panels.flat, names, strict=False):
        for one, (colour, dash) in zip(tracks, CURVES, strict=False):
            value = one.shard.invariants[name][one.number]
            change, explained = value - value[0], one.shard.budgets[name][one.number]
            axes.plot(one.times, change, dash, color=colour, label=one.label)
            axes.plot(one.times, explained, dash, color=colour, lw=0.8)
            axes.fill_between(
                one.times, change, explained, color=colour, alpha=0.25, lw=0
            )
        start = float(tracks[0].shard.invariants[name][tracks[0].number][0])
        _name(axes, f"{name}, at first {start:.3g}")
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    for axes in panels.flat[len(names) :]:
        axes.set_axis_off()
    for axes in panels[:, 0]:
        axes.set_ylabel("I(t) − I(0)")
    for axes in panels[-1]:
        axes.set_xlabel("time t [T]")
    _legend(figure, panels[0, 0], len(tracks))
    return figure
