"""Predictions as a data set, and data sets in the formats of other benchmarks."""

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml

from experiments.__main__ import main
from experiments.rollout import predicted_shard
from experiments.runs import load_surrogate, read_run
from pde_sym import Dataset, Samples, evaluate
from pde_sym.errors import InputError, SimulationError
from pde_sym.seeds import Split
from pde_sym.simulate import rollout
from pde_sym.store import Shard, open_entries, open_entry, read_manifest
from pde_sym.store.pdebench import encode_pdebench

COUNTS = ["--train", "3", "--valid", "1", "--test", "3", "--frames", "5"]


def generate(folder: Path, words: str) -> Path:
    assert main(["generate", *words.split(), *COUNTS, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with data of a flow over hills, a run and its predictions."""
    root = tmp_path_factory.mktemp("rollout")
    words = "flow --break topography=0.5 --resolution 16 --set initial.modes=3"
    generate(root / "data", f"{words} --environment given --set shard_size=2")
    train = "--model cnn --width 4 --updates 2 --set training.batch_size=2"
    options = [*train.split(), "--set", "model.depth=2", "--out", str(root / "run")]
    assert main(["train", "--data", str(root / "data"), *options]) == 0
    assert main(["rollout", str(root / "run"), "--out", str(root / "predicted")]) == 0
    return root


def shard_of(folder: Path, split: Split = Split.TEST) -> Shard:
    entry = read_manifest(folder).of(split)[0]
    with open_entry(folder, entry) as reader:
        return reader.load()


# Predictions


def test_predictions_are_the_rollouts_of_the_run(results: Path) -> None:
    surrogate = load_surrogate(read_run(results / "run"))
    samples, found = (Samples.read(results / n) for n in ("data", "predicted"))
    given = samples.given
    with torch.no_grad():
        expected = rollout(lambda u: surrogate(u, given), samples.states[:, 0], 4)
    torch.testing.assert_close(found.states, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.states[:, 0], samples.states[:, 0])
    assert (found.states - samples.states)[:, 1:].abs().max() > 1e-3
    torch.testing.assert_close(found.environment, samples.environment, rtol=0, atol=0)
    # Derived fields follow the predicted velocity.
    shard = shard_of(results / "predicted")
    vorticity = shard.fields.slices()["vorticity"]
    system = samples.system
    last = torch.from_numpy(shard.states[:, -1].astype(np.float64))
    full = system.complete(last[:, shard.fields.prognostic_channels], shard.grid)
    np.testing.assert_allclose(
        full[:, vorticity], shard.states[:, -1][:, vorticity], atol=1e-4
    )


def test_the_manifest_says_by_which_run(results: Path) -> None:
    prediction = read_manifest(results / "predicted").prediction
    assert prediction is not None
    assert (prediction.run, prediction.model) == ("run", "cnn")
    assert read_manifest(results / "data").prediction is None
    assert "prediction" not in (results / "data" / "MANIFEST.json").read_text()


def test_other_commands_take_predictions_for_data(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(results / "predicted")
    assert main(["describe", folder, "--json", "--pictures", str(tmp_path)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["prediction"]["run"] == "run"
    assert report["trajectories"] == {"train": 0, "valid": 0, "test": 3}
    energy = report["invariants"]["energy"]
    assert energy["residual"] > 1e-6  # no surrogate keeps a budget by itself
    assert {Path(p).suffix for p in report["pictures"]} == {".png"}
    assert main(["describe", folder]) == 0
    assert "predicted by the run run (cnn)" in capsys.readouterr().out
    assert main(["verify", folder]) == 0
    assert "predictions, whose budgets need not close" in capsys.readouterr().out
    with pytest.raises(InputError, match="no train"):
        Dataset(folder, "train")
    surrogate = load_surrogate(read_run(results / "run"))
    # The model agrees with its own predictions, and not with the truth.
    own, truth = (evaluate(surrogate, results / n) for n in ("predicted", "data"))
    assert max(own.vrmse) < 1e-4 < truth.vrmse[-1]


def test_a_run_is_not_evaluated_against_predictions(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are of the same recipe, and yet not its data."""
    words = ["evaluate", str(results / "run"), "--data", str(results / "predicted")]
    assert main(words) == 2
    assert main([*words[:3], str(results / "data")]) == 0
    capsys.readouterr()


def test_repeated_and_foreign_predictions(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = results / "predicted"
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    words = ["rollout", str(results / "run"), "--out"]
    assert main([*words, str(out)]) == 0
    assert all(path.read_bytes() == data for path, data in before.items())
    assert main([*words, str(out), "--steps", "2"]) == 3
    assert "choose another folder" in capsys.readouterr().err
    (tmp_path / "thing").write_text("here")
    assert main([*words, str(tmp_path)]) == 3
    assert main([*words, str(results / "short"), "--steps", "2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (report["frames"], report["trajectories"]) == (3, 3)
    assert main([*words, str(results / "none"), "--steps", "0"]) == 2
    assert "--steps 0: expected >= 1" in capsys.readouterr().err


def test_data_that_the_run_cannot_read_are_one_line(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = generate(tmp_path / "heat", "heat --resolution 16")
    capsys.readouterr()
    words = ["rollout", str(results / "run"), "--data", str(other)]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    assert "temperature" in capsys.readouterr().err


class Step(torch.nn.Module):
    """A function in the place of a surrogate."""

    def __init__(self, function: Any, shard: Shard) -> None:
        super().__init__()
        state = shard.fields.prognostic()
        self.function, self.task = function, SimpleNamespace(state=state, given=None)

    def forward(self, state: torch.Tensor, given: None) -> torch.Tensor:
        del given
        return self.function(state)


def test_the_solver_in_its_place_gives_the_data_back(tmp_path: Path) -> None:
    """Positive control: states, invariants, and budgets up to their quadrature."""
    folder = generate(tmp_path / "d", "heat --break sink=1 --resolution 16 --dt 1e-4")
    shard, samples = shard_of(folder), Samples.read(folder)
    phi = samples.system.solver(samples.grid, samples.environment[:1], samples.dt)
    exact: Any = Step(lambda u: phi(u.double()).float(), shard)
    found, lost = predicted_shard(shard, exact, 4, shard.config)
    assert lost == []
    np.testing.assert_allclose(found.states, shard.states, atol=1e-6)
    np.testing.assert_array_equal(found.times, shard.times)
    for name, values in shard.invariants.items():
        size = np.abs(values).max()
        np.testing.assert_allclose(found.invariants[name], values, atol=1e-6 * size)
        budget = shard.budgets[name]
        assert np.abs(budget).max() > 1e-5 * size
        np.testing.assert_allclose(found.budgets[name], budget, atol=1e-3 * size)


def test_what_is_lost_is_left_out_and_named(tmp_path: Path) -> None:
    shard = shard_of(generate(tmp_path / "d", "heat --resolution 16"))

    def third_bursts(u: torch.Tensor) -> torch.Tensor:
        return torch.cat([u[:2], 1e30 * u[2:]])

    fragile: Any = Step(third_bursts, shard)
    found, (lost,) = predicted_shard(shard, fragile, 4, shard.config)
    assert (lost.index, lost.field, lost.step) == (2, "temperature", 2)
    np.testing.assert_array_equal(found.states, shard.states[:2, [0]].repeat(5, 1))
    hopeless: Any = Step(lambda u: u / 0.0, shard)
    with pytest.raises(SimulationError, match="all trajectories are lost"):
        predicted_shard(shard, hopeless, 2, shard.config)


# PDEBench


def opened(image: bytes) -> Any:
    return h5py.File(io.BytesIO(image), "r")


def test_family_b_is_what_its_loader_reads(results: Path) -> None:
    """A group of four digits per trajectory, channels last, float32."""
    out = results / "pdebench"
    words = ["export", str(results / "data"), "--to", "pdebench", "--out", str(out)]
    assert main(words) == 0
    assert sorted(p.name for p in out.iterdir()) == [
        "flow_test.h5", "flow_train.h5", "flow_valid.h5",
    ]  # fmt: skip
    manifest = read_manifest(results / "data")
    shards = [r.load() for r in open_entries(results / "data", manifest.of(Split.TEST))]
    assert len(shards) == 2
    states = np.concatenate([shard.states for shard in shards])
    environment = np.concatenate([shard.environment for shard in shards])
    with h5py.File(out / "flow_test.h5") as file:
        seeds: Any = file
        assert list(seeds) == ["0000", "0001", "0002"]
        for number, seed in enumerate(seeds):
            group = seeds[seed]
            data = group["data"]
            assert (data.shape, data.dtype) == ((5, 16, 16, 3), np.float32)
            np.testing.assert_array_equal(data[..., 2], states[number, :, 2])
            np.testing.assert_array_equal(group["grid/x"], np.arange(16) / 16)
            assert group["grid/t"].shape == (5,)
            hills = group["environment"][..., 0]
            np.testing.assert_array_equal(hills, environment[number, 0])
            config = yaml.safe_load(group.attrs["config"])
            names = shards[0].fields.channel_names
            assert config["channels"] == list(names)
            assert config["recipe"] == shards[0].config


def test_family_a_is_what_its_loader_reads(tmp_path: Path) -> None:
    words = "kdv --resolution 32 --set length=16 --set initial.modes=2"
    folder = generate(tmp_path / "kdv", words)
    out = tmp_path / "out"
    assert main(["export", str(folder), "--to", "pdebench", "--out", str(out)]) == 0
    shard = shard_of(folder)
    with h5py.File(out / "kdv_test.hdf5") as file:
        found: Any = file
        assert set(found) == {"tensor", "x-coordinate", "t-coordinate"}
        assert found["tensor"].dtype == np.float32
        np.testing.assert_array_equal(found["tensor"], shard.states[:, :, 0])
        np.testing.assert_array_equal(found["x-coordinate"], np.arange(32) / 2)
        times = found["t-coordinate"][()]
        assert times.shape == (6,)  # one more than frames
        np.testing.assert_allclose(np.diff(times), shard.times[1], rtol=1e-4)
    # A line fits family B too, a plane not A.
    words = ["export", str(folder), "--to", "pdebench", "--family", "B"]
    assert main([*words, "--out", str(out)]) == 0
    with h5py.File(out / "kdv_test.h5") as file:
        found = file
        np.testing.assert_array_equal(found["0001/data"][..., 0], shard.states[1, :, 0])
        assert set(found["0001/grid"]) == {"x", "t"}


def test_what_pdebench_cannot_hold_is_one_line(results: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected family B"):
        encode_pdebench([shard_of(results / "data")], "A")
    body = shard_of(generate(tmp_path / "body", "rigid_body"))
    with pytest.raises(InputError, match="no layout"):
        encode_pdebench([body], "B")


def test_equal_data_make_equal_files(results: Path) -> None:
    shard = shard_of(results / "data")
    image = encode_pdebench([shard], "B")
    assert image == encode_pdebench([shard], "B")
    with opened(image) as file:
        assert len(file) == 2


# The Well


def test_the_well_gets_its_place_for_clients(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = results / "base"
    words = ["export", str(results / "data"), "--to", "well", "--out", str(out)]
    assert main([*words, "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    place = out / "datasets" / "data"
    assert {Path(f).relative_to(place).parts[0] for f in files} == {
        "data",
        "stats.yaml",
    }
    for file in files:
        source = results / "data" / Path(file).relative_to(place)
        assert Path(file).read_bytes() == source.read_bytes()
    assert main([*words, "--family", "A"]) == 2
    assert "--to pdebench" in capsys.readouterr().err
