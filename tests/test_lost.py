"""Trajectories that blow up are named and left out, and the others do not notice."""

import argparse
import functools
import itertools
import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from disk_faults import KILLED, exit_code_when_killed
from numpy.typing import NDArray
from test_store_folder import tree

from data_gen import describe, generate, verify
from data_gen.build import build
from data_gen.recipes import Recipe, resolve
from data_gen.shards import make_shard, surviving_shard
from pde_sym.dataset import TrajectoryDataset
from pde_sym.errors import DataError, Lost, LostTrajectoryError, SimulationError
from pde_sym.seeds import Split
from pde_sym.simulate import simulate
from pde_sym.store import read_manifest, read_statistics
from pde_sym.systems import flow_solver
from pde_sym.systems.flow import Flow

MEMBERS = 8


def waves(points: int, axes: int) -> NDArray[np.float64]:
    """Return one smooth state per trajectory, ``(members, x[, y])``, at most 1."""
    x = 2 * np.pi * np.arange(points) / points
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, (axes, MEMBERS))
    rows = [np.cos(x + phase[:, None]) for phase in phases]
    return rows[0] if axes == 1 else (rows[0][:, :, None] + rows[1][:, None]) / 2


def recipe(
    folder: Path,
    system: str,
    breaks: list[str],
    states: NDArray[np.float64],
    *sets: str,
    **options: Any,
) -> Recipe:
    """Return a recipe with own initial states."""
    np.save(folder / "states.npy", states)
    own = f"initial.field={folder / 'states.npy'}"
    options = {"resolution": states.shape[1], "frames": 4, **options}
    return resolve(system, breaks, [own, *sets], options=options)


def assert_equal_rows(found: Any, expected: Any, rows: list[int]) -> None:
    """Check that a shard holds those rows of another, to the bit."""
    np.testing.assert_array_equal(found.states, expected.states[rows])
    for name, values in expected.invariants.items():
        np.testing.assert_array_equal(found.invariants[name], values[rows])
        np.testing.assert_array_equal(found.budgets[name], expected.budgets[name][rows])


FAST = r"moves too fast \(.* steps in a frame.*\)"
CASES = [
    # A conductivity below zero: the equation runs backwards.
    ("heat", ["nonlinear=0.3"], 9.0, "temperature", r"is lost \(nonlinear: .*\)", 1),
    ("heat", [], 1e40, "temperature", "overflows float32", 0),
    ("heat", [], 1e200, "temperature", "overflows float32", 0),
    ("kdv", [], 1e6, "u", FAST, 1),
    # Focussing: the wave collapses within the first frame.
    ("kdv", ["quartic=1"], 30.0, "u", FAST, 2),
    ("flow", [], 1e8, "velocity", FAST, 1),
    ("flow", [], 1e160, "velocity", FAST, 1),
    ("plume", ["buoyancy_direction=1"], 1e12, "velocity", FAST, 1),
]


@pytest.mark.parametrize(
    ("system", "breaks", "factor", "field", "reason", "step"), CASES
)
def test_a_lost_trajectory_is_named_and_the_others_are_what_they_were(
    tmp_path: Path,
    system: str,
    breaks: list[str],
    factor: float,
    field: str,
    reason: str,
    step: int,
) -> None:
    states = waves(64, 1) if system == "kdv" else waves(16, 2)
    tame = recipe(tmp_path, system, breaks, states)
    whole = make_shard(tame, Split.TRAIN, 0, 4)
    states[2] *= factor
    wild = recipe(tmp_path, system, breaks, states)
    shard, lost = surviving_shard(wild, Split.TRAIN, 0, 4)
    (one,) = lost
    assert (one.index, one.field, one.step) == (2, field, step)
    assert one.time == max(0, step - 1) * wild.frame_spacing
    assert_equal_rows(shard, whole, [0, 1, 3])
    with pytest.raises(
        LostTrajectoryError, match=f"^trajectory 2: {field} {reason} at"
    ):
        make_shard(wild, Split.TRAIN, 0, 4)
    # Whoever calls it in whatever pieces finds the same.
    _, (again,) = surviving_shard(wild, Split.TRAIN, 1, 3)
    assert again == one


def test_fast_bodies_are_named_and_the_others_are_what_they_were() -> None:
    sets = ["initial.smallest=1", "initial.largest=3e5"]
    asked = resolve("rigid_body", ["gravity=1"], sets, options={"frames": 3})
    shard, lost = surviving_shard(asked, Split.TRAIN, 0, 8)
    missing = [one.index for one in lost]
    rows = [i for i in range(8) if i not in missing]
    assert 0 < len(rows) < 8
    for place, number in enumerate(rows):
        alone = make_shard(asked, Split.TRAIN, number, 1)
        np.testing.assert_array_equal(shard.states[place], alone.states[0])
    for one in lost:
        assert str(one).startswith(
            f"trajectory {one.index}: angular_momentum turns by "
        )
        assert (one.step, one.time) == (1, 0.0)


def test_members_of_an_ensemble_are_lost_by_their_place() -> None:
    asked = resolve("heat", ["nonlinear=0..1"], options={"resolution": 12, "frames": 3})
    shard, lost = surviving_shard(asked, Split.TRAIN, 0, 8)
    missing = [one.index for one in lost]
    rows = [i for i in range(8) if i not in missing]
    assert 0 < len(rows) < 8
    for place, number in enumerate(rows):
        alone = make_shard(asked, Split.TRAIN, number, 1)
        np.testing.assert_array_equal(shard.states[place], alone.states[0])
        assert (
            shard.strengths["strength_nonlinear"][place]
            == (alone.strengths["strength_nonlinear"][0])
        )
    for number in missing:
        with pytest.raises(LostTrajectoryError, match=f"^trajectory {number}: "):
            make_shard(asked, Split.TRAIN, number, 1)


@pytest.mark.parametrize("compiled", [True, False])
def test_a_blow_up_within_a_frame_is_named(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps beyond the limit of stability: ETDRK4 itself leaves the finite numbers."""
    for name in ("COURANT", "STRAIN", "RATE"):
        monkeypatch.setattr(flow_solver, name, 1e3)
    chosen = functools.partial(flow_solver.FlowSolver, compiled=compiled)
    monkeypatch.setattr(flow_solver, "FlowSolver", chosen)
    system = Flow()
    grid = system.grid(16, 1.0)
    law = system.initial_laws[0].model_validate({})
    draw = [law.sample(grid, np.random.default_rng(i)) for i in range(3)]
    u = torch.from_numpy(np.stack(draw))
    u[1] *= 1e4
    with pytest.raises(LostTrajectoryError) as caught:
        simulate(system, grid, u, torch.empty(1, 0, *grid.shape), dt=0.5, num_frames=5)
    (lost,) = caught.value.lost
    assert (lost.index, lost.field, lost.reason) == (1, "velocity", "is not finite")
    assert lost.step is not None
    assert lost.time == 0.5 * lost.step
    assert str(caught.value).startswith(
        f"trajectory 1: velocity is not finite at step {lost.step}, t = {lost.time:g}: "
    )
    kept = u[[0, 2]]
    simulate(system, grid, kept, torch.empty(1, 0, *grid.shape), dt=0.5, num_frames=2)


# Whole data sets --------------------------------------------------------------------


COUNTS = {Split.TRAIN: 8, Split.VALID: 2, Split.TEST: 3}
BREAKS = ["nonlinear=0.3", "source=600"]
DT = 5e-4


def cooled(folder: Path, lost: Collection[int] = (1, 6), **options: Any) -> Recipe:
    """Return heat that is taken away everywhere, by 0.3 per frame.

    Below -10/3 the conductivity is negative: those that start from -2.9 get there in
    the second frame.
    """
    np.save(folder / "away.npy", -np.ones((12, 12)))
    states = 0.1 * waves(12, 2)
    states[list(lost)] -= 2.9
    sets = (f"source.field={folder / 'away.npy'}", "shard_size=3")
    return recipe(folder, "heat", BREAKS, states, *sets, **options)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    """Return a data set without train 1 and 6, valid 1 and test 1."""
    folder = tmp_path_factory.mktemp("lost")
    asked = cooled(folder)
    build(asked, COUNTS, folder / "heat")
    return asked, folder / "heat"


MISSING = [("train", 1), ("train", 6), ("valid", 1), ("test", 1)]


def test_a_data_set_goes_on_without_them(damaged: tuple[Recipe, Path]) -> None:
    _, folder = damaged
    manifest = read_manifest(folder)
    lost = manifest.lost()
    assert [(split.value, one.index) for split, one in lost] == MISSING
    assert {(one.field, one.step, one.time) for _, one in lost} == {
        ("temperature", 2, DT)
    }
    assert manifest.held() == {"train": 6, "valid": 1, "test": 2}
    for entry in manifest.shards:
        with h5py.File(folder / entry.file) as file:
            number = len(entry.numbers)
            assert file.attrs["n_trajectories"] == number
            assert np.asarray(file["t0_fields/temperature"]).shape[:2] == (number, 4)
            assert np.asarray(file["scalars/energy"]).shape == (number, 4)


def test_readers_count_the_survivors(
    damaged: tuple[Recipe, Path], tmp_path: Path
) -> None:
    _, folder = damaged
    build(cooled(tmp_path, ()), COUNTS, tmp_path / "heat")
    tame = TrajectoryDataset(tmp_path / "heat", "train", window=4)
    wild = TrajectoryDataset(folder, "train", window=4)
    assert wild.trajectories == [0, 2, 3, 4, 5, 7]
    assert len(wild) == 6
    u = wild.load_all()["states"]
    for place, number in enumerate(wild.trajectories):
        expected = tame[number]["states"]
        assert torch.equal(wild[place]["states"], expected)
        assert torch.equal(u[place], expected)
    few = [
        TrajectoryDataset(folder, "train", window=2, num_trajectories=n).trajectories
        for n in range(1, 7)
    ]
    for smaller, larger in itertools.pairwise(few):
        assert set(smaller) < set(larger)
    mean = read_statistics(folder, read_manifest(folder))["mean"]["temperature"]
    assert mean == pytest.approx(u.double().mean().item(), abs=1e-12)


def test_verify_and_describe_say_how_many_are_missing(
    damaged: tuple[Recipe, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = damaged
    report = verify.verify(folder)
    assert (report["trajectories"], report["missing"]) == (9, 4)
    parser = argparse.ArgumentParser()
    verify.add_arguments(parser)
    verify.run(parser.parse_args([str(folder)]))
    assert "9 trajectories (4 are missing)" in capsys.readouterr().out
    described = describe.describe(folder)
    assert described["trajectories"] == {"train": 6, "valid": 1, "test": 2}
    assert [(row["split"], row["index"]) for row in described["lost"]] == MISSING
    # The own arrays are not in the folder: what is stored is begun with.
    assert described["accuracy"]["temperature"]["error"] <= 1e-6
    describe.run(argparse.Namespace(data=folder, pictures=None, json=False))
    assert "4 more are missing" in capsys.readouterr().out


def command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    generate.add_arguments(parser)
    return generate.run(parser.parse_args(words))


def told(err: str) -> list[str]:
    """Return the lines but those of the progress, which only slow machines print."""
    return [line for line in err.splitlines() if not line.startswith("simulating: ")]


def test_generate_tells_and_repeats_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cooled(tmp_path)
    out = tmp_path / "out"
    words = ["heat", "--resolution", "12", "--frames", "4"]
    words += [word for term in BREAKS for word in ("--break", term)]
    words += ["--set", f"initial.field={tmp_path / 'states.npy'}"]
    words += ["--set", f"source.field={tmp_path / 'away.npy'}"]
    words += ["--set", "shard_size=3", "--train", "8", "--valid", "2", "--test", "3"]
    words += ["--out", str(out)]
    assert command(*words) == SimulationError.exit_code == 5
    shown = capsys.readouterr()
    assert shown.out.startswith(f"{out}: 6 train, 1 valid, 2 test trajectories")
    lines = told(shown.err)
    for line, (split, number) in zip(lines, MISSING, strict=False):
        assert line.startswith(f"lost: {split} trajectory {number}: temperature is ")
        assert line.endswith("at step 2, t = 0.0005")
    assert lines[-1] == f"{out}: finished without 4 of 13 trajectories"
    before = tree(out)
    assert command(*words, "--json") == 5
    again = capsys.readouterr()
    assert told(again.err) == lines
    report = json.loads(again.out)
    assert [(row["split"], row["index"]) for row in report["lost"]] == MISSING
    assert report["trajectories"]["train"] == 6
    assert tree(out) == before


def test_many_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["rigid_body", "--break", "gravity=1", "--frames", "2", "--train", "32"]
    words += ["--valid", "0", "--test", "0", "--out", str(tmp_path / "out")]
    words += ["--set", "initial.smallest=1", "--set", "initial.largest=1e6"]
    assert command(*words) == 5
    *lines, more, last = told(capsys.readouterr().err)
    lost = 32 - sum(read_manifest(tmp_path / "out").held().values())
    assert len(lines) == 10
    assert lost > 10
    assert more == f"lost: {lost - 10} more"
    assert last.endswith(f"finished without {lost} of 32 trajectories")


def test_it_grows_and_comes_back_after_a_kill(
    damaged: tuple[Recipe, Path], tmp_path: Path
) -> None:
    asked, folder = damaged
    expected = tree(folder)
    build(asked, COUNTS | {Split.TRAIN: 3}, tmp_path / "grown")
    build(asked, COUNTS, tmp_path / "grown")
    data = {n: h for n, h in expected.items() if n.startswith(("data", "stats"))}
    assert data.items() <= tree(tmp_path / "grown").items()
    killed = tmp_path / "killed"
    for at in (12, 30, 48):
        work = functools.partial(build, asked, COUNTS, killed)
        assert exit_code_when_killed(at, work) == KILLED
    assert tree(killed) != expected
    build(asked, COUNTS, killed)
    assert tree(killed) == expected
    # A file that is gone is made again.
    file = killed / read_manifest(killed).shards[0].file
    file.unlink()
    build(asked, COUNTS, killed)
    assert tree(killed) == expected


def test_a_shard_of_which_none_is_left_stops_the_work(tmp_path: Path) -> None:
    asked = cooled(tmp_path, (3, 4, 5))
    with pytest.raises(SimulationError) as caught:
        build(asked, COUNTS, tmp_path / "heat")
    assert str(caught.value).startswith(
        "all train trajectories from 3 to 5 are lost, the first one so: trajectory 3: "
    )
    assert "\n" not in str(caught.value)
    manifest = read_manifest(tmp_path / "heat", complete=False)
    (entry,) = manifest.shards
    assert (entry.start, entry.count, entry.lost) == (0, 3, ())
    assert (tmp_path / "heat" / entry.file).is_file()


def test_what_is_lost_late_is_kept_in_the_splits_before(tmp_path: Path) -> None:
    """Train has frames 0 and 1, valid 2 and 3, test 4 and 5: the second is too cold."""
    asked = cooled(tmp_path, frames=2, split_by="time")
    counts = dict.fromkeys(Split, 3)
    manifest = build(asked, counts, tmp_path / "heat")
    assert manifest.held() == {"train": 3, "valid": 2, "test": 2}
    assert len({replace(one) for _, one in manifest.lost()}) == 1
    assert verify.verify(tmp_path / "heat")["missing"] == 2
    early = TrajectoryDataset(tmp_path / "heat", "train", window=2)
    late = TrajectoryDataset(tmp_path / "heat", "test", window=2)
    assert (early.trajectories, late.trajectories) == ([0, 1, 2], [0, 2])
    whole = make_shard(cooled(tmp_path, frames=6), Split.TRAIN, 2, 1).states[0, 4:]
    assert torch.equal(late[1]["states"], torch.from_numpy(whole))


@pytest.mark.parametrize(
    "rows",
    [
        [{"index": 3}],
        [{"index": 1}, {"index": 1}],
        [{"index": 1}, {"index": 0}],
        [{"index": 0}, {"index": 1}, {"index": 2}],
        [{"index": 1, "step": None}],
        [{"index": 1, "time": float("nan")}],
        [{"index": 1, "more": 1}],
    ],
    ids=str,
)
def test_a_manifest_that_contradicts_itself_is_refused(
    damaged: tuple[Recipe, Path], tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    _, folder = damaged
    values = json.loads((folder / "MANIFEST.json").read_text())
    whole = {"field": "u", "reason": "is not finite", "time": 0.4, "step": 2}
    values["shards"][0]["lost"] = [whole | row for row in rows]
    (tmp_path / "MANIFEST.json").write_text(json.dumps(values))
    with pytest.raises(DataError, match="shards"):
        read_manifest(tmp_path)


def test_a_lost_trajectory_reads_well() -> None:
    one = Lost(3, "u", "is not finite", 0.25)
    assert str(one) == "trajectory 3: u is not finite at time 0.25 of the frame"
    error = LostTrajectoryError([replace(one, index=4), one], "lower dt")
    assert str(error) == f"{one}, and 1 more: lower dt"
    later = error.since_start(5, 2.0).renumbered(range(10, 20))
    assert [one.index for one in later.lost] == [13, 14]
    assert str(later.lost[0]) == "trajectory 13: u is not finite at step 5, t = 2.25"
    assert later.advice == "lower dt"
