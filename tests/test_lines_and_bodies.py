"""From data on a line to a report; what is measured and drawn of lines and bodies."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluations import FRAMES, make_evaluation, write
from matplotlib.collections import QuadMesh
from PIL import Image
from torch import nn

from experiments.__main__ import main
from experiments.animation import animate
from experiments.drawing import units
from experiments.evaluation import Pictures, read_evaluation
from experiments.figures import by_wave_number, element_name, spectrum_chart
from experiments.series import FAMILIES, group_by_seed
from experiments.strip import rollout_strip
from pde_sym.boosts import Boost, BoostAction
from pde_sym.dataset import TrajectoryDataset
from pde_sym.errors import InputError
from pde_sym.evaluation import (
    IrrepShare,
    element_defects,
    spectrum,
    strict_floors,
)
from pde_sym.fields import Field, FieldSpec
from pde_sym.grid import PeriodicGrid
from pde_sym.learning import task_of
from pde_sym.maps import make_maps, shifts_of, strict_groups
from pde_sym.nn import Normalisation, Surrogate
from pde_sym.samples import Samples
from pde_sym.symmetry import shift_group

POINTS = 32
LINE = PeriodicGrid(shape=(POINTS,), lengths=(16.0,))
U = FieldSpec.of(Field(name="u", unit="L / T"))
SMALL = ["--set", "training.batch_size=4", "--set", "training.evaluate_every=2"]
MODELS = {"modulated": 8, "strict": 8, "cnn": 8}


def generate(folder: Path, *words: str) -> Path:
    base = ["--train", "4", "--valid", "2", "--test", "2", "--out", str(folder)]
    assert main(["generate", *words, *base]) == 0
    return folder


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with runs on a line that a current passes."""
    folder = tmp_path_factory.mktemp("line")
    words = "kdv --break potential=0.5 --resolution 32 --frames 6 --set length=16"
    data = generate(folder / "data", *words.split(), "--set", "initial.modes=2")
    runs = []
    for model, width in MODELS.items():
        runs.append(str(folder / "runs" / model))
        options = ["--model", model, "--width", str(width), "--updates", "4", *SMALL]
        assert main(["train", "--data", str(data), "--out", runs[-1], *options]) == 0
    assert main(["evaluate", *runs]) == 0
    return folder / "runs"


@pytest.mark.parametrize("model", MODELS)
def test_lines_are_measured_under_shifts_and_boosts(results: Path, model: str) -> None:
    one = read_evaluation(results / model)
    assert (one.num_axes, one.group, one.subgroup) == (1, None, "C1")
    found = {d.element: d for d in one.defects}
    assert list(found) == [
        "shift 0.03125",
        "shift 0.25",
        "shift 0.0104167",
        "boost 0.5",
    ]
    assert not any(d.survives for d in one.defects)
    assert all(d.solver and d.solver > 1e-4 for d in one.defects)
    whole = [found["shift 0.03125"].model, found["shift 0.25"].model]
    assert (max(whole) < 1e-6) == (model == "strict")
    # A relaxed frame starts exact and had four updates to leave it.
    assert found["boost 0.5"].model > (1e-3 if model == "modulated" else 1e-2)
    assert one.point_spectrum == ()
    assert [s.irrep for s in one.shift_spectrum] == [
        "trivial", "mode (1)", "mode (2)", "mode (3)", "mode (4)",
    ]  # fmt: skip
    for which in ("solver", "model"):
        shares = [getattr(s, which) for s in one.shift_spectrum]
        assert sum(shares) == pytest.approx(1)
        strict = which == "model" and model == "strict"
        assert (sum(shares[1:]) < 1e-12) == strict
    assert list(one.strict_floors) == ["shifts"]
    assert 1e-3 < one.strict_floors["shifts"] < 1
    assert one.persistence_vrmse[-1] > 0.1


@pytest.mark.parametrize("kind", ["rollout", "animation"])
def test_plot_draws_lines(results: Path, tmp_path: Path, kind: str) -> None:
    out = tmp_path / f"{kind}.png"
    assert main(["plot", kind, str(results), "--out", str(out)]) == 0
    with Image.open(out) as image:
        image.load()


def test_a_report_on_lines_speaks_of_lines(results: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert main(["report", str(results), "--out", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert len(list((tmp_path / "figures").glob("*.png"))) == 5
    assert 'class="player"' in text
    for words in ("shifts T_x of the line", "place to the right", "strict", "C1"):
        assert words in text
    for words in ("square torus", "D4:", "(C4)"):
        assert words not in text


def test_intact_kdv_keeps_boosts_and_strict_networks_do_too(tmp_path: Path) -> None:
    words = "kdv --resolution 32 --frames 4 --set length=16 --set initial.modes=2"
    data = generate(tmp_path / "data", *words.split())
    for model, galilei in (("strict", "null"), ("free", "false")):
        options = ["--model", "strict", "--updates", "2", *SMALL]
        options += ["--set", f"model.galilei={galilei}", "--out", str(tmp_path / model)]
        assert main(["train", "--data", str(data), *options]) == 0
        assert main(["evaluate", str(tmp_path / model)]) == 0
        *shifts, boost = read_evaluation(tmp_path / model).defects
        assert boost.survives
        # States are boosted in the float32 of the files.
        assert boost.solver is not None
        assert boost.solver < 1e-6
        assert (boost.model < 1e-6) == (model == "strict")
        assert (boost.model > 1e-2) == (model == "free")
        assert all(d.survives for d in shifts)
        assert shifts[0].model < 1e-6


def test_a_body_is_measured_under_its_own_rotations(tmp_path: Path) -> None:
    """A step that changes nothing commutes with all of them, the solver does not."""
    words = "rigid_body --break gyrostat=0.5 --frames 4"
    data = generate(tmp_path / "data", *words.split())
    test = Samples.read(data)
    task = task_of(TrajectoryDataset(data, "test", window=2), test.system)
    still = nn.Module()
    still.forward = torch.zeros_like  # type: ignore[method-assign]
    step = Surrogate(still, task, Normalisation.identity(task))
    maps = make_maps(test, step)
    rows = element_defects(maps, test, step, task)
    assert len(rows) == len(test.system.probes(test.grid)) > 3
    assert max(row.model for row in rows) < 1e-6
    for row in rows:
        assert row.solver is not None
        assert (row.solver < 1e-6) == row.survives
    assert any(not row.survives for row in rows)
    assert spectrum(maps, shifts_of(test)) == ()
    assert strict_floors(maps, strict_groups(test)) == {}


def test_a_body_goes_from_data_to_a_report(tmp_path: Path) -> None:
    words = "rigid_body --break gravity=0.3 --frames 4"
    data = generate(tmp_path / "data", *words.split())
    run, page = tmp_path / "runs" / "mlp", tmp_path / "page.html"
    options = ["--model", "mlp", "--width", "8", "--updates", "2", *SMALL]
    assert main(["train", "--data", str(data), "--out", str(run), *options]) == 0
    assert main(["evaluate", str(run)]) == 0
    one = read_evaluation(run)
    assert one.num_axes == 0
    assert one.subgroup.endswith("of the body")
    assert {d.survives for d in one.defects} == {True, False}
    assert main(["report", str(run), "--out", str(page)]) == 0
    drawn = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert drawn == {"rollout", "error", "drift", "defect"}


# Motions


def test_boosts_act_on_a_state_and_leave_what_is_given() -> None:
    """cos k x at c = 0.5, where a boost of 1 moves it by a fifth of the box."""
    x = LINE.coordinates(0) / 16.0
    state = torch.from_numpy(np.stack([np.cos(2 * np.pi * x), 0 * x + 3])[None])
    action = BoostAction(U, LINE, 0.2)
    moved = action(Boost(0.5), state)
    expected = torch.from_numpy(np.cos(2 * np.pi * (x - 0.1)) + 0.5)
    assert torch.allclose(moved[0, 0], expected, atol=1e-14)
    assert torch.equal(moved[0, 1], state[0, 1])
    back = action(Boost(0.5).inverse(), moved)
    assert torch.allclose(back, state, atol=1e-14)
    with pytest.raises(InputError, match="one scalar on a line"):
        BoostAction(U, PeriodicGrid.square(8), 0.2)


def test_shifts_of_a_line_form_a_group_with_a_mode_each() -> None:
    group = shift_group(8, 1)
    assert len(group) == 8
    assert [i.name for i in group.irreps][1:] == [f"mode ({m})" for m in (1, 2, 3, 4)]
    assert [i.dimension for i in group.irreps] == [1, 2, 2, 2, 1]
    assert all(g.shift[1] == 0 for g in group)
    shares = [IrrepShare(irrep=i.name, solver=1, model=2) for i in group.irreps[1:]]
    assert [s.irrep for s in by_wave_number(shares)] == [
        "|m| = 1", "|m| = 2", "|m| = 3", "|m| = 4",
    ]  # fmt: skip
    assert element_name("shift 0.25") == "shift 1/4"
    assert element_name("boost 0.5") == "boost 0.5"


# Pictures


def make(points: tuple[int, ...], channels: int = 1) -> Pictures:
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((2, FRAMES, channels, *points)).astype(np.float32)
    is_line = len(points) == 1
    return Pictures(
        times=np.arange(FRAMES) * 0.5,
        truth=truth,
        prediction=truth + 0.25,
        environment=rng.uniform(0, 1, (2, int(is_line), *points)).astype(np.float32),
        channels=("u",) if is_line else ("momentum_x", "momentum_y", "momentum_z"),
        environment_channels=("depth",) if is_line else (),
        lengths=tuple(16.0 for _ in points),
    )


def test_place_stands_to_the_right_and_time_upwards() -> None:
    pictures = make((POINTS,))
    figure = rollout_strip({"a": pictures, "b": pictures}, units("kdv"), 1)
    titles = {axes.get_title(): axes for axes in figure.axes}
    assert {"truth", "depth", "a: prediction", "b: prediction"} <= set(titles)
    limits = {}
    for name in ("truth", "a: prediction", "prediction − truth"):
        (mesh,) = (c for c in titles[name].collections if isinstance(c, QuadMesh))
        assert mesh.cmap is not None
        limits[name] = (mesh.cmap.name, *mesh.get_clim())
        if name == "truth":
            values = np.asarray(mesh.get_array())
            np.testing.assert_array_equal(values, pictures.truth[1, :, 0])
            edges: Any = np.asarray(mesh.get_coordinates())
            # A point is the middle of its cell: half a spacing to each side.
            np.testing.assert_allclose(edges[0, [0, -1], 0], [-0.25, 15.75])
            np.testing.assert_allclose(edges[[0, -1], 0, 1], [-0.25, 2.75])
    largest = np.abs(pictures.truth[1]).max()
    assert limits["truth"] == limits["a: prediction"] == ("RdBu_r", -largest, largest)
    name, low, high = limits["prediction − truth"]
    assert (name, low) == ("PuOr_r", -high)
    assert high == pytest.approx(0.25)
    labels = {axes.get_ylabel() for axes in figure.axes}
    assert {"time t [T]", "u [L / T]", "prediction − truth\nu [L / T]"} <= labels
    assert {axes.get_xlabel() for axes in figure.axes} >= {"x [L]"}


def test_lines_move_in_animations() -> None:
    data = animate({"a": make((POINTS,))}, units("kdv"))
    with Image.open(io.BytesIO(data)) as image:
        assert getattr(image, "n_frames", 1) == FRAMES
        first = np.asarray(image.convert("RGB"))
        image.seek(FRAMES - 1)
        assert (first != np.asarray(image.convert("RGB"))).any()


def test_bodies_are_curves_of_their_components() -> None:
    pictures = make((1, 1, 1), 3)
    looks = {"a": FAMILIES["cnn"][1]}
    figure = rollout_strip({"a": pictures}, {"momentum_x": "M"}, 0, looks=looks)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["momentum x [M]", "momentum y", "momentum z"]
    for number, axes in enumerate(figure.axes):
        truth, prediction = axes.lines
        expected = pictures.truth[0, :, number, 0, 0, 0]
        np.testing.assert_array_equal(np.asarray(truth.get_ydata()), expected)
        assert prediction.get_color() == looks["a"].colour
        assert axes.get_xlabel() == "time t [T]"
    with pytest.raises(InputError, match="plot rollout"):
        animate({"a": pictures}, {})


def test_bodies_have_no_spectrum_of_the_plane(tmp_path: Path) -> None:
    nothing: Any = {"point_spectrum": (), "shift_spectrum": (), "strict_floors": {}}
    body = make_evaluation("cnn", num_axes=0, system="rigid_body", **nothing)
    with pytest.raises(InputError, match="a body has no turns"):
        spectrum_chart(group_by_seed([body]))
    run = write(tmp_path / "run", body)
    values = json.loads((run / "evaluation.json").read_text())
    assert values["num_axes"] == 0
