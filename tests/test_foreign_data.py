"""Data of others, of which no recipe is known: trained on, measured, predicted."""

from pathlib import Path

import foreign_files
import numpy as np
import pytest
import torch
from foreign_files import FRAMES, NUM, seeds_file, tensor_file, waves, well_file

from experiments.__main__ import main
from experiments.evaluation import Evaluation, read_evaluation, read_pictures
from experiments.figures import defect_chart, spectrum_chart
from experiments.report import write_page
from experiments.report_figures import captions
from experiments.results import result
from experiments.runs import load_surrogate, read_run
from experiments.series import group_by_seed
from pde_sym import Samples
from pde_sym.diagnostics import breaking_spectrum
from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec, Rank
from pde_sym.grid import PeriodicGrid
from pde_sym.learning import task_of
from pde_sym.maps import make_maps, turns_of
from pde_sym.store import sandbox
from pde_sym.symmetry import GroupElement, act
from pde_sym.systems import SYSTEMS
from pde_sym.systems.unknown import Unknown

SPLITS = ["--valid", "1", "--test", "2"]
SMALL = ["--set", "model.width=2", "--set", "model.depth=2", "--updates", "2"]


def bring(folder: Path, *words: str) -> Path:
    """Import a file that lies in a folder; return the data set."""
    out = folder / "data"
    file = ["import", str(folder / "theirs.h5"), *words]
    assert main([*file, *SPLITS, "--out", str(out)]) == 0
    return out


def train(folder: Path, model: str) -> Path:
    words = ["--data", str(folder / "data"), "--model", model, *SMALL]
    assert main(["train", *words, "--out", str(folder / model)]) == 0
    return folder / model


def study(folder: Path, *models: str) -> list[Evaluation]:
    """Train models, measure them and write what the first predicts."""
    runs = [train(folder, model) for model in models]
    assert main(["evaluate", *map(str, runs)]) == 0
    assert main(["rollout", str(runs[0]), "--out", str(folder / "predicted")]) == 0
    return [read_evaluation(run) for run in runs]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plane")
    well_file(folder / "theirs.h5", [16, 12])
    bring(folder)
    study(folder, "strict")
    return folder


def test_what_is_unknown_is_no_system_to_choose() -> None:
    kind = Unknown.model_fields["kind"].default
    assert kind == sandbox.SYSTEM
    assert kind not in {one.model_fields["kind"].default for one in SYSTEMS}


def test_the_well_not_made_by_us_is_measured(plane: Path) -> None:
    one, surrogate = (
        read_evaluation(plane / "strict"),
        load_surrogate(read_run(plane / "strict")),
    )
    # The same error from the numbers that were written, by the formula of VRMSE.
    density = waves([16, 12]).astype("f4")[-2:]
    states = np.stack([density, 0.5 * density, 0.1 * density], 2)
    given = np.cos(2 * np.pi * np.arange(16) / 16)[:, None].repeat(12, 1)
    before = torch.from_numpy(states[:, :-1].reshape(-1, 3, 16, 12))
    read = torch.from_numpy(given).float().expand(len(before), 1, 16, 12)
    with torch.no_grad():
        found = surrogate(before, read).numpy()
    after = states[:, 1:].reshape(found.shape)
    variance = after.var((2, 3), ddof=1) + 1e-7
    vrmse = np.sqrt(((found - after) ** 2).mean((2, 3)) / variance).mean()
    assert one.one_step_vrmse == pytest.approx(vrmse, rel=1e-4)
    assert (one.system, one.subgroup, one.invariants) == ("imported", "unknown", ())
    assert one.strict_floors == {}


def test_the_model_is_turned_and_the_solver_is_none(plane: Path) -> None:
    one = read_evaluation(plane / "strict")
    assert {d.solver for d in one.defects} == {None}
    assert {d.survives for d in one.defects} == {None}
    # The box is no square, and has no quarter turns.
    assert "turn 90" not in {d.element for d in one.defects}
    found = {d.element: d.model for d in one.defects}
    assert found["turn 180"] < 1e-5
    assert found["flip y"] > 1e-4
    assert {s.irrep: s.solver for s in one.point_spectrum}["trivial"] is None
    samples, surrogate = (
        Samples.read(plane / "data"),
        load_surrogate(read_run(plane / "strict")),
    )
    maps, group = make_maps(samples, surrogate), turns_of(samples)
    assert group is not None
    with torch.no_grad():
        shares = breaking_spectrum(
            maps.model, maps.inputs, group, maps.after, maps.before
        )
    assert {s.irrep: s.model for s in one.point_spectrum} == pytest.approx(shares)
    with pytest.raises(InputError, match="no solver"):
        samples.system.solver(samples.grid, samples.environment, samples.dt)


def test_predictions_of_foreign_data_are_a_data_set(plane: Path) -> None:
    predicted, data = (Samples.read(plane / name) for name in ("predicted", "data"))
    kept = read_pictures(plane / "strict").prediction
    np.testing.assert_allclose(predicted.states, kept, rtol=1e-5, atol=1e-6)
    assert predicted.states.shape == data.states.shape == (2, FRAMES, 3, 16, 12)
    assert main(["verify", str(plane / "predicted")]) == 0


def test_the_page_says_what_is_left_out(plane: Path, capsys) -> None:
    one = read_evaluation(plane / "strict")
    series = group_by_seed([one])
    text = write_page(
        [plane / "strict"], [one], [result(series[0])], [], plane / "report.html"
    )
    assert "physics unknown" in text
    assert "no solver and no invariants are known" in text
    assert "solver" not in captions(series)["spectrum"][1]
    for chart in (defect_chart, spectrum_chart):
        labels = [t.get_text() for t in chart(series).legends[0].get_texts()]
        assert labels == ["strict (C4)"]
    assert main(["plot", "drift", str(plane / "strict")]) == InputError.exit_code
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("layout", ["tensor", "seeds", "box"])
def test_other_layouts_train_and_are_measured(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "theirs.h5"
    match layout:
        case "tensor":
            tensor_file(path, 16)
        case "seeds":
            seeds_file(path, 8)
        case "box":
            well_file(path, [8, 8], "WALL")
    periodic = [] if layout == "box" else ["--boundary", "periodic"]
    data = bring(tmp_path, *periodic)
    (one,) = study(tmp_path, "cnn")
    assert one.num_axes == (1 if layout == "tensor" else 2)
    samples = Samples.read(data)
    assert task_of(samples).breaks_translation
    assert (task_of(samples).walls is None) == (layout != "box")
    states = samples.states.numpy()
    expected = waves(states.shape[3:]).astype("f4")[-2:]
    np.testing.assert_array_equal(states[:, :, 0], expected)
    assert len(samples.states) == 2 < NUM
    assert np.isfinite([one.one_step_vrmse, *one.vrmse]).all()


@pytest.mark.parametrize(
    ("shape", "boundary", "reason"),
    [([4, 4, 4], "PERIODIC", "3 axes"), ([8], "WALL", "line between walls")],
)
def test_what_no_network_is_for_is_said_in_one_line(
    tmp_path: Path, capsys, shape: list[int], boundary: str, reason: str
) -> None:
    foreign_files.well_file(tmp_path / "theirs.h5", shape, boundary)
    data = bring(tmp_path)
    capsys.readouterr()
    words = ["--data", str(data), "--model", "cnn", "--out", str(tmp_path / "run")]
    assert main(["train", *words]) == InputError.exit_code
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_vector_on_a_line_has_one_component_and_shifts_leave_it() -> None:
    spec = FieldSpec.of(Field(name="velocity", rank=Rank.VECTOR, components=1))
    grid = PeriodicGrid(shape=(6,), lengths=(1.0,))
    state = torch.arange(6.0).reshape(1, 1, 6)
    moved = act(GroupElement(shift=(0.5, 0.0)), state, spec, grid)
    assert moved.flatten().tolist() == [3, 4, 5, 0, 1, 2]
