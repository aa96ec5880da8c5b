"""A sweep over breaking strengths, from a recipe to its tables."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from small_sweep import RECIPE, write

from data_gen.shards import make_shard
from experiments import sweep as command
from experiments import sweep_runs
from experiments.__main__ import main
from experiments.sweep_recipe import read_sweep
from experiments.sweep_table import csv_of, read_table
from pde_sym.errors import DataError, SimulationError
from pde_sym.samples import Samples
from pde_sym.seeds import Split
from pde_sym.store import files


def sweep(folder: Path, *options: str, out: str = "out") -> int:
    return main(["sweep", write(folder), "--out", str(folder / out), *options])


def without_times(folder: Path) -> tuple[Any, Any]:
    """Return table and summary, less the seconds."""
    table = json.loads((folder / "table.json").read_text())
    del table["tuning_seconds"]
    for row in table["rows"]:
        assert all(value >= 0 for value in row.pop("seconds").values())
    summary = json.loads((folder / "summary.json").read_text())
    del summary["tuning_seconds"]
    for cell in summary["cells"]:
        del cell["train_seconds"]
    return table, summary


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    assert sweep(folder) == 0
    return folder


def test_every_cell_has_a_row(done: Path) -> None:
    table = read_table(done / "out")
    cells = {(r.family, r.strength, r.size, r.seed) for r in table.rows}
    assert len(table.rows) == len(cells) == 8
    for row in table.rows:
        assert row.failed is None
        assert row.test is not None
        assert row.shifted is not None
        assert row.future is not None
        assert len({row.test.steps, row.shifted.steps, row.future.steps}) == 3
        assert row.flops
        assert row.parameters == pytest.approx(300, rel=0.1)
        assert set(row.versions) == set(sweep_runs.PACKAGES)
        still, coarse = row.floors["persistence"], row.floors["coarse"]
        assert still is not None
        assert coarse is not None
        assert coarse.one_step < still.one_step
        later = row.floors["future_persistence"]
        assert later is not None
        assert later.steps != still.steps
        # A hill breaks shifts; without it the solver keeps them, but for rounding.
        broken = row.defects["broken"].solver
        assert broken > 1e-4 if row.strength else broken < 1e-6
    assert table.tuning_runs == {"free": 4, "relaxed": 4}
    assert min(table.tuning_seconds.values()) > 0


def test_trials_may_be_judged_by_several_seeds(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done / "out", tmp_path / "out")
    recipe = write(tmp_path, RECIPE.replace("seeds = 2", "seeds = 2\ntuning_seeds = 2"))
    part = ["--only", "free", "--strengths", "0.3", "--out", str(tmp_path / "out")]
    place = tmp_path / "out" / "runs" / "0.3" / "3" / "free"

    def chosen() -> int:
        assert main(["sweep", recipe, *part]) == 0
        rows = [r for r in read_table(tmp_path / "out").rows if r.strength == 0.3]
        (candidate,) = {r.candidate for r in rows if r.family == "free"}
        return candidate

    first = chosen()
    assert (place / f"{1 - first}-1").exists()
    # A bad second seed of the winner, whose first seed is the better one still.
    outcome = place / f"{first}-1" / "outcome.json"
    values = json.loads(outcome.read_text())
    outcome.write_text(json.dumps(values | {"valid_vrmse": 1e3}))
    assert chosen() == 1 - first


def test_strength_0_may_have_more_seeds(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(done / "out", tmp_path / "out")
    recipe = write(tmp_path, RECIPE.replace("seeds = 2", "seeds = 2\nintact_seeds = 3"))
    whole = ["sweep", recipe, "--out", str(tmp_path / "out")]
    assert main([*whole, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"runs": 18, "done": 16}
    assert main([*whole, "--strengths", "0.3"]) == 0
    before = read_table(tmp_path / "out").rows
    assert main([*whole, "--only", "free"]) == 0
    rows = read_table(tmp_path / "out").rows
    assert len(before) == 8
    (added,) = (row for row in rows if row not in before)
    assert (added.family, added.strength, added.seed) == ("free", 0.0, 2)
    # An option counts for all strengths, and what is there stays in the table.
    assert main([*whole, "--seeds", "1"]) == 0
    assert read_table(tmp_path / "out").rows == rows


def test_a_family_may_have_a_number_of_weights_of_its_own(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large = RECIPE.replace('role = "free"', 'role = "free"\nparameters = 900')
    (tmp_path / "out").mkdir()
    shutil.copytree(done / "out" / "data", tmp_path / "out" / "data")
    recipe = write(tmp_path, large)
    part = ["--strengths", "0.3", "--seeds", "1", "--out"]
    assert main(["sweep", recipe, *part, str(tmp_path / "out")]) == 0
    counts = {r.family: r.parameters for r in read_table(tmp_path / "out").rows}
    assert counts["free"] == pytest.approx(900, rel=0.1)
    assert counts["relaxed"] == pytest.approx(300, rel=0.1)
    # Runs of the sweep's own number are not its.
    shutil.copytree(done / "out", tmp_path / "other")
    assert main(["sweep", recipe, *part, str(tmp_path / "other")]) != 0
    assert "other settings" in capsys.readouterr().err


def test_a_trial_without_a_width_is_refused_before_the_first_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = "{ training.penalty = 0.1 }"
    assert RECIPE.count(last) == 1
    deep = "{ training.penalty = 0.1, model = { depth = 8 } }"
    recipe = write(tmp_path, RECIPE.replace(last, deep))
    assert main(["sweep", recipe, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "families.relaxed: no width brings ModulatedConfig" in error
    assert not (tmp_path / "out" / "runs").exists()


def test_the_candidate_with_the_lowest_validation_error_goes_on(done: Path) -> None:
    place = done / "out" / "runs" / "0.3" / "3" / "free"
    errors = [
        json.loads((place / f"{trial}-0" / "outcome.json").read_text())["valid_vrmse"]
        for trial in range(2)
    ]
    (chosen,) = {r.candidate for r in read_table(done / "out").rows
                 if (r.family, r.strength) == ("free", 0.3)}  # fmt: skip
    assert errors[chosen] == min(errors)
    assert errors[0] != errors[1]
    # The other one had seed 0 alone, and was not evaluated.
    other = place / f"{1 - chosen}-0"
    assert not (other / "evaluation.json").exists()
    assert not (place / f"{1 - chosen}-1").exists()


def test_the_summary_compares_relaxed_with_free(done: Path) -> None:
    _, summary = without_times(done / "out")
    cells = {(c["family"], c["strength"]): c for c in summary["cells"]}
    assert len(cells) == 4
    relaxed, free = cells["relaxed", 0.3], cells["free", 0.3]
    assert free["ratios"] == []
    names = [ratio["measure"] for ratio in relaxed["ratios"]]
    along = ["10 steps", "last step"]
    future = [f"{name}, future" for name in along]
    assert names == ["one step", *along, "10 steps, shifted", *future]
    assert free["pairs"] == []
    pairs = {p["measure"]: p for p in relaxed["pairs"]}
    assert list(pairs) == [*along, *future]
    # There is one family to compare with, which is the best of them, too.
    for ratio in relaxed["ratios"]:
        assert pairs.get(ratio["measure"], ratio) == ratio
    expected = relaxed["future"]["value"] / free["future"]["value"]
    assert pairs["10 steps, future"]["of_medians"]["value"] == pytest.approx(expected)
    ratio = next(r for r in relaxed["ratios"] if r["measure"] == "10 steps")
    assert ratio["other"] == "free"
    expected = relaxed["test"]["value"] / free["test"]["value"]
    assert ratio["of_medians"]["value"] == pytest.approx(expected)
    assert ratio["of_medians"]["low"] <= expected <= ratio["of_medians"]["high"]
    agreement = next(a for a in summary["agreements"] if a["family"] == "free")
    assert agreement["defect"]["points"] == 2


def test_the_future_is_that_of_the_training_trajectories(done: Path) -> None:
    """As if the same recipe had been solved on, bit for bit."""
    found = read_sweep(write(done))
    data = done / "out" / "data"
    train = Samples.read(data / "0.3", "train").states
    later = Samples.read(data / "0.3-future", "valid").states
    whole = found.recipe(0.3).model_copy(update={"frames": 11})
    shard = torch.from_numpy(make_shard(whole, Split.TRAIN, 0, 3).states)
    assert torch.equal(train, shard[:, :4])
    assert torch.equal(later, shard[:, 7:])
    assert not torch.equal(later, train)


def test_nothing_is_done_twice(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (done / "out" / "table.json").read_bytes()
    (done / "out" / "table.json").unlink()
    monkeypatch.setattr(sweep_runs, "fit", None)
    monkeypatch.setattr(sweep_runs, "evaluate", None)
    assert sweep(done) == 0
    assert (done / "out" / "table.json").read_bytes() == before


def test_an_interrupted_sweep_goes_on_to_the_same_table(
    done: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Once between two runs, and once within a training."""
    perform, calls = command.perform, []

    def stops(spec: sweep_runs.RunSpec) -> sweep_runs.Outcome:
        calls.append(spec)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return perform(spec)

    with monkeypatch.context() as patch:
        patch.setattr(command, "perform", stops)
        assert sweep(tmp_path) == 130
    fit = sweep_runs.fit

    def stops_within(*arguments: Any) -> bool:
        updates = iter([False, False, True])
        assert not fit(*arguments, stop=lambda: next(updates))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sweep_runs, "fit", stops_within)
        assert sweep(tmp_path) == 130
    assert "repeat the command" in capsys.readouterr().err
    (begun,) = [
        path
        for path in (tmp_path / "out").rglob("outcome.json")
        if not json.loads(path.read_text())["trained"]
    ]
    assert json.loads(begun.read_text())["train_seconds"] > 0
    # A part of it first, then the rest.
    assert sweep(tmp_path, "--only", "relaxed", "--strengths", "0.3") == 0
    assert len(read_table(tmp_path / "out").rows) == 2
    assert sweep(tmp_path) == 0
    assert without_times(tmp_path / "out") == without_times(done / "out")


def test_the_grid_is_shown_without_work(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(done, "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"runs": 16, "done": 16}
    assert sweep(tmp_path, "--dry-run") == 0
    assert "0 of 4" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_a_training_that_diverges_is_a_row(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = sweep_runs.fit

    def diverges(surrogate: Any, train: Any, valid: Any, config: Any, folder: Path):
        if config.seed == 1:
            raise SimulationError("the loss is not finite")
        return fit(surrogate, train, valid, config, folder)

    monkeypatch.setattr(sweep_runs, "fit", diverges)
    assert sweep(tmp_path, "--only", "free", "--strengths", "0") == 0
    fine, failed = read_table(tmp_path / "out").rows
    assert failed.failed == "the loss is not finite"
    assert failed.test is None
    assert fine == read_table(done / "out").rows[0].model_copy(
        update={"seconds": fine.seconds}
    )
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    (cell,) = summary["cells"]
    assert cell["failed"] == 1
    # The median of a number and of a failure.
    assert cell["test"]["value"] is None


def test_a_folder_of_other_settings_is_refused(
    done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(done / "other", RECIPE.replace("updates = 4", "updates = 5"))
    assert main(["sweep", path, "--out", str(done / "out")]) == 3
    assert "made with other settings" in capsys.readouterr().err


def test_a_second_sweep_on_the_folder_is_refused(
    done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with files.lock(done / "out"):
        assert sweep(done) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "in use by process" in line


def test_a_terminal_shows_a_table_that_lives(
    done: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert sweep(done) == 0
    shown = capsys.readouterr().err
    assert "16 of 16 runs" in shown
    assert "bathymetry 0.3" in shown


def test_a_table_is_read_or_refused(done: Path, tmp_path: Path) -> None:
    text = csv_of(read_table(done / "out"))
    head, *rows = text.splitlines()
    assert "drift.P1.model" in head.split(",")
    assert len(rows) == 8
    with pytest.raises(DataError, match="run `pde-sym sweep`"):
        read_table(tmp_path)
    (tmp_path / "table.json").write_text("{}")
    with pytest.raises(DataError, match="title"):
        read_table(tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--only", "loose"), "--only loose: expected one of free, relaxed"),
        (("--strengths", "0.2"), "expected some of 0, 0.3"),
        (("--seeds", "0"), "--seeds 0"),
        (("--workers", "2", "--scheduler", "tcp://x:1"), "give one of them"),
    ],
)
def test_bad_options_are_one_line(
    options: tuple[str, ...],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert sweep(tmp_path, *options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
