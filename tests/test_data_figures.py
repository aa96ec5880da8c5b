"""Figures of data sets, and `plot` on them."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluations import make_evaluation
from PIL import Image

from experiments import animation, plot
from experiments.__main__ import command_parser, main
from experiments.animation import FILM, animate, as_film
from experiments.data_figures import (
    Track,
    budget_figure,
    fields_figure,
    portrait_figure,
    power_figure,
    shell_power,
    space_time_figure,
)
from experiments.loops import (
    MARKERS,
    carried_by_frames,
    kelvin_figure,
    polhode_figure,
    polhodes,
    wrapped,
)
from experiments.rose import angle_of, rose_chart
from experiments.series import group_by_seed
from pde_sym.errors import InputError, OutputError
from pde_sym.fields import Field, FieldSpec, Rank
from pde_sym.grid import PeriodicGrid
from pde_sym.store import Shard
from pde_sym.symmetry import point_group

FRAMES = 9
VELOCITY = Field(name="velocity", rank=Rank.VECTOR, unit="L / T", components=2)
MOMENTUM = Field(name="angular_momentum", rank=Rank.VECTOR, components=3)


def track(
    values: np.ndarray, field: Field, shape: tuple[int, ...], label: str = "a"
) -> Track:
    """Return a trajectory of values ``(frames, channels, *points)`` on boxes of 2."""
    none = np.zeros((1, 0, *shape))
    change = np.linspace(0, 1, len(values))[None]
    shard = Shard(
        states=values[None],
        fields=FieldSpec.of(field),
        environment=none,
        environment_fields=FieldSpec.of(),
        environment_kind="hidden",
        times=0.1 * np.arange(len(values)),
        grid=PeriodicGrid(shape=shape, lengths=(2.0,) * len(shape)),
        scalars={"I1": 1.0, "I2": 1.5, "I3": 2.0},
        strengths={},
        invariants={"energy": 3.0 + change},
        budgets={"energy": 0.5 * change},
        system="imagined",
        config={},
    )
    return Track(label, shard, 0)


def shear(decay: float = 0.0) -> Track:
    """Return the flow ``u = (exp(-decay t) sin(pi y), 0)``, steady without decay."""
    y = np.arange(16) / 8
    sizes = np.exp(-decay * 0.1 * np.arange(FRAMES))
    values = np.zeros((FRAMES, 2, 16, 16))
    values[:, 0] = sizes[:, None, None] * np.sin(np.pi * y)
    return track(values, VELOCITY, (16, 16))


def body(length: float = 2.0) -> Track:
    turn = 0.3 * np.arange(FRAMES)
    pi = length * np.stack([np.cos(turn), np.sin(turn), 0 * turn], 1)
    return track(pi.reshape(FRAMES, 3, 1, 1, 1), MOMENTUM, (1, 1, 1))


# Bodies


def test_polhodes_keep_length_and_energy() -> None:
    inertia = np.array([2.0, 1.0, 1.7])
    curves = polhodes(inertia, 3.0)
    assert len(curves) > 20
    for curve in curves:
        np.testing.assert_allclose((curve**2).sum(1), 9.0)
        energy = (curve**2 / inertia).sum(1) / 2
        np.testing.assert_allclose(energy, energy[0])
    assert np.ptp((curves[0] ** 2 / inertia[::-1]).sum(1)) > 1e-3
    # About both axes whose energy is extreme, on both sides of each.
    sides = {(int(np.abs(c).mean(0).argmax()), c.mean(0).sum() > 0) for c in curves}
    assert sides == {(0, True), (0, False), (1, True), (1, False)}
    assert polhodes(np.ones(3), 1.0) == []


def test_the_momentum_is_drawn_on_its_sphere() -> None:
    figure = polhode_figure([body(), replace(body(1.0), label="b")])
    front = figure.axes[0]
    drawn = [line for line in front.lines if line.get_label() == "a"]
    x, y, z = drawn[0].get_data_3d()  # pyright: ignore[reportAttributeAccessIssue]
    seen = np.isfinite(x)
    np.testing.assert_allclose((x**2 + y**2 + z**2)[seen], 4.0)
    assert 0 < seen.sum() < FRAMES
    with pytest.raises(InputError, match="of a body"):
        polhode_figure([shear()])


def test_portraits_of_bodies_and_lines() -> None:
    panels = portrait_figure([body()]).axes
    assert [axes.get_xlabel() for axes in panels] == ["Πx", "Πy", "Πz"]
    u = np.sin(np.pi * np.arange(16) / 8)
    line = track(np.stack([u, 2 * u])[:, None], Field(name="u"), (16,))
    first, last = portrait_figure([line]).axes[:: len(portrait_figure([line]).axes) - 1]
    for axes, size in ((first, 1.0), (last, 2.0)):
        x, slope = axes.lines[0].get_data()
        # (u / a)^2 + (u_x / (pi a))^2 = 1, and the loop is closed.
        circle = np.asarray(x) ** 2 + (np.asarray(slope) / np.pi) ** 2
        np.testing.assert_allclose(circle, size**2)
        assert len(circle) == 4 * 16 + 1
    with pytest.raises(InputError, match="a body or a line"):
        portrait_figure([shear()])


# Planes


def test_a_shear_carries_a_loop_and_keeps_its_circulation() -> None:
    times, loops, around = carried_by_frames(shear())
    np.testing.assert_allclose(times, [0, 0.2, 0.4, 0.6, 0.8])
    moved = loops[0] + 0.8 * np.stack(
        [np.sin(np.pi * loops[0][:, 1]), np.zeros(MARKERS)], 1
    )
    np.testing.assert_allclose(loops[-1], moved, atol=1e-12)
    np.testing.assert_allclose(around, around[0], rtol=1e-6)
    assert abs(around[0]) > 0.1
    *_, decayed = carried_by_frames(shear(decay=1.0))
    assert decayed[-1] / decayed[0] == pytest.approx(math.exp(-0.8), rel=1e-6)


def test_a_loop_is_torn_where_it_leaves_the_box() -> None:
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    loop = np.stack([np.cos(turn), np.sin(turn)], 1) * 0.4
    inside = wrapped(loop + 1.0, (2.0, 2.0))
    np.testing.assert_allclose(inside[:-1], loop + 1.0)
    torn = wrapped(loop, (2.0, 2.0))
    assert np.isnan(torn).any(1).sum() == 4
    steps = np.abs(np.diff(torn, axis=0))
    assert np.nanmax(steps) < 0.1


def test_kelvin_wants_a_flow() -> None:
    figure = kelvin_figure([shear(), replace(shear(0.5), label="b")])
    labels = [line.get_label() for line in figure.axes[2].lines]
    assert labels == ["a", "b"]
    scalar = track(np.zeros((3, 1, 8, 8)), Field(name="u"), (8, 8))
    with pytest.raises(InputError, match="velocity"):
        kelvin_figure([scalar])
    with pytest.raises(InputError, match="torus"):
        kelvin_figure([body()])


def test_power_adds_up_and_stands_at_its_wave_number(rng) -> None:
    u = rng.standard_normal((12, 10))
    assert shell_power(u, 2).sum() == pytest.approx((u**2).mean())
    x, y = np.meshgrid(np.arange(16), np.arange(16), indexing="ij")
    power = shell_power(np.cos(2 * np.pi * (3 * x + 4 * y) / 16), 2)
    assert power[5] == pytest.approx(0.5)
    assert power.sum() == pytest.approx(0.5)
    figure = power_figure([shear()])
    assert [a.get_xlabel() for a in figure.axes] == ["wave number |m|"] * 2


def test_fields_share_a_scale_and_space_time_its_axes() -> None:
    tracks = [shear(), replace(shear(1.0), label="b")]
    figure = fields_figure(tracks)
    images = [axes.images[0] for axes in figure.axes if axes.images]
    assert len(images) == 2 * 2 * 6
    for channel in (images[:12], images[12:]):
        assert len({(i.norm.vmin, i.norm.vmax) for i in channel}) == 1
    assert -np.array(images[0].norm.vmin) == images[0].norm.vmax
    meshes = [axes.collections[0] for axes in space_time_figure(tracks).axes[:4]]
    middle = shear().states[:, 0, :, 8]
    np.testing.assert_allclose(
        np.array(meshes[0].get_array()).reshape(FRAMES, 16), middle
    )
    with pytest.raises(InputError, match="a plane"):
        fields_figure([body()])


def test_the_band_of_a_budget_is_what_it_does_not_explain() -> None:
    axes = budget_figure([shear()]).axes[0]
    change, explained = (np.asarray(line.get_ydata()) for line in axes.lines)
    np.testing.assert_allclose(change, np.linspace(0, 1, FRAMES))
    np.testing.assert_allclose(explained, change / 2)
    (band,) = axes.collections
    heights = np.asarray(band.get_paths()[0].vertices)[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((0.0, 1.0))
    with pytest.raises(InputError, match="energy"):
        budget_figure([shear()], "mass")
    bare = replace(shear(), shard=replace(shear().shard, invariants={}, budgets={}))
    with pytest.raises(InputError, match="stores no invariants"):
        budget_figure([bare])


# Roses


def test_angles_are_those_of_the_matrices() -> None:
    for element in point_group("D4").elements[1:]:
        found = angle_of(element.name)
        assert found is not None
        flips, degrees = found
        assert flips == element.flip
        matrix = np.array(element.matrix)
        unit = np.array(
            [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]
        )
        if flips:  # the mirror stays
            np.testing.assert_allclose(matrix @ unit, unit, atol=1e-12)
        else:  # the first axis goes there
            np.testing.assert_allclose(matrix @ [1, 0], unit, atol=1e-12)
    assert angle_of("shift 0.25, 0") is None
    assert angle_of("boost 0.5") is None


def test_a_rose_has_the_defects_of_the_charts() -> None:
    series = group_by_seed([make_evaluation("cnn", s) for s in (0, 1)])
    turns, flips = rose_chart(series).axes
    assert [line.get_label() for line in turns.lines] == ["solver", "free CNN"]
    angle, size = (np.asarray(v) for v in turns.lines[0].get_data())
    assert size[np.isclose(angle, np.pi / 2)].tolist() == [0.04]
    angle, size = (np.asarray(v) for v in flips.lines[1].get_data())
    assert set(size.tolist()) == {0.01}
    shifts = tuple(d for d in make_evaluation().defects if "shift" in d.element)
    with pytest.raises(InputError, match="of a plane"):
        rose_chart(group_by_seed([make_evaluation(defects=shifts)]))


# The command


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plots") / "body"
    words = "rigid_body --frames 6 --train 1 --valid 0 --test 2"
    assert main(["generate", *words.split(), "--out", str(folder)]) == 0
    return folder


def test_plot_draws_data_sets_and_leaves_them_whole(data: Path, capsys) -> None:
    before = sorted(p for p in data.rglob("*"))
    assert main(["plot", "polhode", str(data), str(data), "--trajectory", "1"]) == 0
    out = data.parent / "body-polhode.png"
    assert capsys.readouterr().out == f"{out}\n"
    with Image.open(out) as image:
        image.load()
    assert sorted(p for p in data.rglob("*")) == before
    assert main(["verify", str(data)]) == 0


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["fields"], "of a plane"),
        (["polhode", "--trajectory", "2"], "has 2 of test"),
        (["budget", "--invariant", "mass"], "energy"),
        (["polhode", "--invariant", "energy"], "drift and budget"),
        (["polhode", "--out", "a.gif"], ".png, .svg, .pdf"),
        (["error"], "neither a run"),
    ],
)
def test_what_data_do_not_have_is_said_in_one_line(data, capsys, words, reason) -> None:
    kind, *options = words
    assert main(["plot", kind, str(data), *options]) == InputError.exit_code
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1


def test_help_names_every_kind() -> None:
    text = command_parser("plot", plot).format_help()
    for kind in plot.KINDS:
        assert f"\n  {kind} " in text


@pytest.mark.parametrize("opens", [True, False])
def test_show_opens_the_file(data: Path, tmp_path: Path, monkeypatch, opens) -> None:
    asked = []

    def window(address: str) -> bool:
        asked.append(address)
        return opens

    monkeypatch.setattr("webbrowser.open", window)
    out = tmp_path / "a.svg"
    words = ["plot", "budget", str(data), "--out", str(out), "--show"]
    assert main(words) == (0 if opens else OutputError.exit_code)
    assert asked == [out.as_uri()]
    assert out.exists()


# Films


def test_a_film_holds_its_frames(tmp_path: Path) -> None:
    """The encoder here writes down what it is given."""
    encoder = tmp_path / "encoder"
    encoder.write_text('#!/bin/sh\nfor out; do :; done\ncat > "$out"\n')
    encoder.chmod(0o755)
    shots = [Image.new("RGB", (5, 4), (n, 0, 0)) for n in range(3)]
    data = np.frombuffer(as_film(shots, str(encoder)), np.uint8).reshape(-1, 4, 4, 3)
    held = animation.LAST_MS // animation.FRAME_MS
    assert data[:, 0, 0, 0].tolist() == [0, 1, 2, *[2] * held]
    encoder.write_text("#!/bin/sh\necho no such codec >&2\nexit 3\n")
    with pytest.raises(OutputError, match="no such codec"):
        as_film(shots, str(encoder))


def test_without_an_encoder_there_is_no_film(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(InputError, match="imageio-ffmpeg"):
        animate({}, {}, suffix=FILM)
