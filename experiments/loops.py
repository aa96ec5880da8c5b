"""Curves of mechanics: polhodes on the momentum sphere, loops that a flow carries."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure

from experiments.data_figures import CURVES, Track
from experiments.drawing import (
    Floats,
    label_box,
    new_figure,
    show_field,
    styled,
    value_range,
)
from pde_sym.errors import InputError
from pde_sym.fields import with_unit
from pde_sym.grid import WalledGrid
from pde_sym.systems.flow_kelvin import circle, circulation, velocity_at

LEVELS = 14
"""Polhodes of the free body that are drawn."""
MARKERS = 192
"""Of a loop."""
LOOPS = 4
"""Times at which a loop is drawn."""


@styled
def polhode_figure(tracks: Sequence[Track]) -> Figure:
    """Return the angular momentum on the sphere of its first length.

    Thin lines are polhodes of the free body: where its energy
    ``Pi . I^-1 Pi / 2`` is the same. A body that conserves both stays on one of them;
    what leaves the sphere is drawn where it is.
    """
    if (
        tracks[0].num_axes != 0
        or "angular_momentum" not in tracks[0].shard.fields.names
    ):
        raise InputError("polhode: expected data of a body with its angular momentum")
    momenta = [o.field("angular_momentum").reshape(-1, 3).astype(float) for o in tracks]
    radius = float(np.linalg.norm(momenta[0][0]))
    figure = new_figure(9.6, 5.0)
    inertia = [tracks[0].shard.scalars.get(f"I{n}", 1.0) for n in (1, 2, 3)]
    for place, (high, along) in enumerate(((22, 35), (22, 215)), start=1):
        axes = figure.add_subplot(1, 2, place, projection="3d")
        eye = _direction(high, along)
        for line in polhodes(np.array(inertia), radius):
            axes.plot(
                *np.where(line @ eye > 0, line.T, np.nan), color="#999999", lw=0.7
            )
        for one, pi, (colour, dash) in zip(tracks, momenta, CURVES, strict=False):
            near = pi @ eye > 0
            axes.plot(
                *np.where(near, pi.T, np.nan), dash, color=colour, label=one.label
            )
            axes.plot(*np.where(near, np.nan, pi.T), dash, color=colour, alpha=0.25)
            axes.plot(*pi[:1].T, "o", color=colour, alpha=1.0 if near[0] else 0.25)
        axes.set(xlabel="Πx", ylabel="Πy", zlabel="Πz")
        axes.locator_params(nbins=3)
        axes.set_box_aspect((1, 1, 1))
        axes.view_init(high, along)
        axes.set_title("from the front" if place == 1 else "from behind")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def _direction(high: float, along: float) -> Floats:
    """Return the unit vector to an eye at those angles, in degrees."""
    up, round_ = np.radians([high, along])
    return np.array(
        [np.cos(up) * np.cos(round_), np.cos(up) * np.sin(round_), np.sin(up)]
    )


def polhodes(inertia: Floats, radius: float) -> list[Floats]:
    """Return curves ``(points, 3)`` of equal energy on a sphere.

    With ``s_i = Pi_i^2``: ``sum s_i = radius^2`` and ``sum s_i / (2 I_i) = E``. About
    the axis k whose energy is extreme they are
    ``Pi_i = sqrt(c / a_i) cos t``, ``Pi_j = sqrt(c / a_j) sin t`` with
    ``a_i = 1 / I_i - 1 / I_k`` and ``c = 2 E - radius^2 / I_k`` (Landau and Lifshitz,
    Mechanics, section 37).
    """
    if np.ptp(inertia) < 1e-12:
        return []
    order = np.argsort(inertia)
    angle = np.linspace(0, 2 * np.pi, 241)
    curves = []
    for k in (order[0], order[2]):
        i, j = (n for n in range(3) if n != k)
        ai, aj = (1 / inertia[n] - 1 / inertia[k] for n in (i, j))
        middle = 1 / inertia[order[1]] - 1 / inertia[k]
        for part in (np.arange(1, LEVELS // 2) / (LEVELS // 2)) ** 2:
            c = part * middle * radius**2
            line = np.zeros((len(angle), 3))
            with np.errstate(divide="ignore"):
                line[:, i] = np.sqrt(c / ai) * np.cos(angle)
                line[:, j] = np.sqrt(c / aj) * np.sin(angle)
            rest = radius**2 - (line**2).sum(1)
            if not np.isfinite(line).all() or rest.min() < 0:
                continue
            for sign in (1, -1):
                both = line.copy()
                both[:, k] = sign * np.sqrt(rest)
                curves.append(both)
    return curves


@styled
def kelvin_figure(tracks: Sequence[Track]) -> Figure:
    """Return a loop that each flow carries, and the circulation around it.

    The frames that are stored carry it (`carried_by_frames`); Kelvin's theorem keeps
    the circulation of an ideal flow, and a viscosity takes it away slowly.
    """
    first = tracks[0]
    if first.num_axes != 2 or isinstance(first.grid, WalledGrid):
        raise InputError("kelvin: expected a flow on a torus")
    figure = new_figure(4.2 * len(tracks) + 4.6, 4.2)
    row = figure.subplots(1, len(tracks) + 1, width_ratios=[*[1] * len(tracks), 1.1])
    name = "vorticity" if "vorticity" in first.shard.fields.names else "velocity"
    shown = [one.field(name)[-1, 0] for one in tracks]
    cmap, norm = value_range(np.stack(shown))
    image = None
    for axes, one, field, (colour, dash) in zip(
        row[:-1], tracks, shown, CURVES, strict=False
    ):
        image = show_field(axes, field, one.grid.lengths, cmap, norm)
        times, loops, around = carried_by_frames(one)
        for number, frame in enumerate(
            np.linspace(0, len(loops) - 1, LOOPS).round().astype(int)
        ):
            pieces = wrapped(loops[frame], one.grid.lengths)
            text = f"t = {times[frame]:.3g} T"
            axes.plot(
                *pieces.T, color=str(0.75 * (1 - number / (LOOPS - 1))), label=text
            )
        axes.set_title(f"{one.label}, t = {one.times[-1]:.3g} T")
        row[-1].plot(times, around, dash, color=colour, marker=".", label=one.label)
    label_box(row[0], first.grid.lengths)
    assert image is not None
    unit = next(u for n, u in first.channels if n.startswith(name))
    figure.colorbar(image, ax=list(row[:-1]), label=with_unit(name, unit))
    row[0].legend(loc="upper left", fontsize=8, frameon=True)
    row[-1].set_xlabel("time t [T]")
    row[-1].set_ylabel("circulation ∮ u·dX [L² / T]")
    low, high = row[-1].get_ylim()
    row[-1].set_ylim(min(low, 0.0), max(high, 0.0))
    row[-1].legend(loc="best")
    return figure


def carried_by_frames(track: Track) -> tuple[Floats, list[Floats], list[float]]:
    """Return times, loops ``(markers, 2)`` and circulations along stored frames.

    The classical Runge-Kutta method over two frames, the one between them in the middle
    of its step, starting from a circle about the middle of the box.
    """
    velocity = torch.from_numpy(track.field("velocity").astype(np.float64))
    grid, step = track.grid, 2 * float(track.times[1] - track.times[0])
    centre = (grid.lengths[0] / 2, grid.lengths[1] / 2)
    points = circle(centre, min(grid.lengths) / 5, MARKERS)
    chosen = range(0, len(velocity), 2)
    loops, around = [points.numpy()], [circulation(points, velocity[0], grid)]
    for frame in chosen[1:]:
        first, middle, last = velocity[frame - 2 : frame + 1]
        a = velocity_at(points, first, grid)
        b = velocity_at(points + step / 2 * a, middle, grid)
        c = velocity_at(points + step / 2 * b, middle, grid)
        d = velocity_at(points + step * c, last, grid)
        points = points + step / 6 * (a + 2 * b + 2 * c + d)
        loops.append(points.numpy())
        around.append(circulation(points, last, grid))
    return track.times[list(chosen)], loops, around


def wrapped(loop: Floats, lengths: Sequence[float]) -> Floats:
    """Return a closed loop inside the box, torn where it leaves it."""
    closed = np.concatenate([loop, loop[:1]])
    inside = closed % np.array(lengths)
    torn = (np.abs(np.diff(inside, axis=0)) > np.array(lengths) / 2).any(1)
    return np.insert(inside, np.flatnonzero(torn) + 1, np.nan, axis=0)
