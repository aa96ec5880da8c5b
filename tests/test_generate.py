"""Data sets resume, grow and refuse: the bytes depend on the recipe alone."""

import argparse
import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

from data_gen import describe, generate, verify
from data_gen.build import build, first_difference
from data_gen.recipes import (
    Caps,
    Recipe,
    check_cost,
    estimate,
    read_recipe,
    resolve,
)
from data_gen.shards import make_shard
from pde_sym.errors import DataError, InputError, OutputError, SimulationError
from pde_sym.seeds import Split
from pde_sym.store import encode, files, lock, read_manifest

ROOT = Path(__file__).parents[1]
TINY = {
    "system": {"kind": "heat", "breaking": [{"kind": "bubbles", "strength": 0.5}]},
    "initial": {"modes": 3},
    "resolution": 8,
    "frames": 3,
    "shard_size": 2,
}


def recipe(**changes: Any) -> Recipe:
    return Recipe.parse(TINY | changes, where="test")


def counts(train: int = 5, valid: int = 1, test: int = 2) -> dict[Split, int]:
    return {Split.TRAIN: train, Split.VALID: valid, Split.TEST: test}


def tree(folder: Path) -> dict[str, str]:
    """Return the hash of every file but the lock."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def trajectories(folder: Path, split: str) -> np.ndarray:
    shards = sorted((folder / "data" / split).glob("*.hdf5"))
    return np.concatenate(
        [np.asarray(h5py.File(p)["t0_fields/temperature"]) for p in shards]
    )


def command(module: Any, *words: str) -> int:
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return module.run(parser.parse_args(words))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference") / "data set"
    build(recipe(), counts(), folder)
    return folder


def test_repeated_command_changes_nothing(reference: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in reference.rglob("*") if p.is_file()}
    build(recipe(), counts(), reference)
    after = {p: p.stat().st_mtime_ns for p in reference.rglob("*") if p.is_file()}
    before.pop(reference / ".lock")
    after.pop(reference / ".lock")
    assert after == before


def test_another_run_has_the_same_bytes(reference: Path, tmp_path: Path) -> None:
    build(recipe(), counts(), tmp_path / "again")
    assert tree(tmp_path / "again") == tree(reference)


def test_no_trace_of_place_or_host(reference: Path) -> None:
    for path in reference.rglob("*"):
        if path.is_file():
            assert str(reference).encode() not in path.read_bytes()
            assert os.uname().nodename.encode() not in path.read_bytes()


CALLS = ("create", "write", "sync", "rename", "make_folder")


class Fault(files.Disk):
    """Raises at call number `at` of the calls that change the disk."""

    def __init__(self, at: int, error: BaseException) -> None:
        self.at, self.error, self.calls = at, error, 0

    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        if name not in CALLS:
            return method

        def call(*arguments: Any) -> Any:
            self.calls += 1
            if self.calls == self.at:
                raise self.error
            return method(*arguments)

        return call


@pytest.mark.parametrize("kind", ["full disk", "interrupt"])
def test_fault_at_every_call_then_the_same_command_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    small, numbers = recipe(), counts(train=3, valid=0, test=1)
    build(small, numbers, tmp_path / "whole")
    expected = tree(tmp_path / "whole")
    at = 0
    while True:
        at += 1
        folder = tmp_path / f"{at}"
        full = OSError(errno.ENOSPC, "No space left on device")
        fault = Fault(at, full if kind == "full disk" else KeyboardInterrupt())
        monkeypatch.setattr(files, "disk", fault)
        try:
            build(small, numbers, folder)
        except (OutputError, KeyboardInterrupt) as error:
            assert isinstance(error, OutputError) == (kind == "full disk")  # noqa: PT017
        if fault.calls < at:
            break
        left = tree(folder) if folder.exists() else {}
        assert not [name for name in left if ".tmp-" in name], at
        finals = {name: digest for name, digest in left.items() if "hdf5" in name}
        assert finals.items() <= expected.items(), at
        monkeypatch.setattr(files, "disk", files.Disk())
        build(small, numbers, folder)
        assert tree(folder) == expected, at
    assert at > 30
    monkeypatch.setattr(files, "disk", files.Disk())


class Kill(Fault):
    """Ends the process without a word at call number `at`, a write half done."""

    def __getattribute__(self, name: str) -> Any:
        method = object.__getattribute__(self, name)
        if name not in CALLS:
            return method

        def call(*arguments: Any) -> Any:
            self.calls += 1
            if self.calls == self.at:
                if name == "write":
                    os.write(arguments[0], arguments[1][: len(arguments[1]) // 2])
                os._exit(9)
            return method(*arguments)

        return call


def build_in_child(folder: Path, at: int, numbers: dict[Split, int]) -> int:
    """Build in a process that dies at call number `at`; return its exit code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        files.disk = Kill(at, KeyboardInterrupt())
        build(recipe(), numbers, folder)
        os._exit(0)
    finally:
        os._exit(1)


def test_killed_at_every_call_then_the_same_command_completes(tmp_path: Path) -> None:
    numbers = counts(train=3, valid=0, test=1)
    build(recipe(), numbers, tmp_path / "whole")
    expected = tree(tmp_path / "whole")
    for at in range(1, 1000):
        folder = tmp_path / f"{at}"
        code = build_in_child(folder, at, numbers)
        if code == 0:
            break
        assert code == 9
        finals = {n: h for n, h in tree(folder).items() if n.endswith(".hdf5")}
        assert finals.items() <= expected.items(), at
        if (folder / "MANIFEST.json").exists() and tree(folder) != expected:
            for entry in read_manifest(folder, complete=False).shards:
                assert finals[entry.file] == entry.sha256, at
        build(recipe(), numbers, folder)
        assert tree(folder) == expected, at
    assert at > 30


def test_growth_keeps_old_files_and_equals_a_larger_run(tmp_path: Path) -> None:
    grown, whole = tmp_path / "grown", tmp_path / "whole"
    build(recipe(), counts(train=3), grown)
    old = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in grown.rglob("*.hdf5")}
    build(recipe(), counts(train=8), grown)
    build(recipe(), counts(train=8), whole)
    for path, (mtime, data) in old.items():
        assert (path.stat().st_mtime_ns, path.read_bytes()) == (mtime, data)
    for split in Split:
        found, expected = trajectories(grown, split), trajectories(whole, split)
        np.testing.assert_array_equal(found, expected)
    assert (grown / "stats.yaml").read_bytes() == (whole / "stats.yaml").read_bytes()
    assert verify.verify(grown)["sound"]


@pytest.mark.parametrize("environment", ["hidden", "given"])
def test_values_do_not_depend_on_shards(environment: str) -> None:
    whole = make_shard(recipe(environment=environment), Split.TRAIN, 0, 5)
    one = make_shard(recipe(environment=environment), Split.TRAIN, 3, 1)
    np.testing.assert_array_equal(whole.states[3:4], one.states)
    given = slice(3, 4) if environment == "given" else slice(0, 1)
    np.testing.assert_array_equal(whole.environment[given], one.environment)
    for name, values in whole.invariants.items():
        np.testing.assert_array_equal(values[3:4], one.invariants[name])
        np.testing.assert_array_equal(whole.budgets[name][3:4], one.budgets[name])


def test_strengths_are_paired() -> None:
    weak = {"kind": "heat", "breaking": [{"kind": "bubbles", "strength": 0.1}]}
    one = make_shard(recipe(), Split.TEST, 0, 1)
    two = make_shard(recipe(system=weak), Split.TEST, 0, 1)
    np.testing.assert_array_equal(one.states[:, 0], two.states[:, 0])
    lost = (1 - one.environment) / 0.5 - (1 - two.environment) / 0.1
    assert np.abs(lost).max() < 1e-5


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"seed": 1}, "seed"),
        ({"dt": 1e-3}, "dt"),
        ({"frames": 4}, "frames"),
        ({"resolution": 10}, "resolution"),
        ({"dtype": "float64"}, "dtype"),
        ({"environment": "given"}, "environment"),
        ({"shard_size": 3}, "shard_size"),
        ({"initial": {"modes": 2}}, "initial.modes"),
        ({"system": {"kind": "heat"}}, "system.breaking.0"),
        (
            {
                "system": {
                    "kind": "heat",
                    "breaking": [{"kind": "bubbles", "strength": 0.25}],
                }
            },
            "system.breaking.0.strength",
        ),
    ],
)
def test_another_recipe_is_refused(
    reference: Path, changes: dict[str, Any], key: str
) -> None:
    before = tree(reference)
    with pytest.raises(OutputError, match=f"with {key} = .*, asked for"):
        build(recipe(**changes), counts(), reference)
    assert tree(reference) == before


def test_first_difference_names_both_values() -> None:
    assert first_difference({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}) == (
        "a.1.b",
        "2",
        "3",
    )
    assert first_difference({"a": 1}, {"a": 1}) is None


def test_smaller_counts_foreign_folders_and_newer_formats(
    reference: Path, tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match="has 5 train trajectories, asked for 4"):
        build(recipe(), counts(train=4), reference)
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"precious\.txt.*no data set of ours"):
        build(recipe(), counts(), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["precious.txt"]
    with pytest.raises(OutputError, match="a file; choose a folder"):
        build(recipe(), counts(), tmp_path / "precious.txt")
    newer = tmp_path / "newer"
    newer.mkdir()
    manifest = json.loads((reference / "MANIFEST.json").read_text())
    (newer / "MANIFEST.json").write_text(json.dumps(manifest | {"format": 2}))
    with pytest.raises(OutputError, match="format 2 is newer than 1: update"):
        build(recipe(), counts(), newer)


def test_second_generator_is_told_who_is_at_work(tmp_path: Path) -> None:
    folder = tmp_path / "busy"
    folder.mkdir()
    with lock(folder), pytest.raises(OutputError, match=f"process {os.getpid()} on "):
        build(recipe(), counts(), folder)
    build(recipe(), counts(train=1, valid=0, test=0), folder)


def test_damaged_and_lost_shards_are_made_again(
    reference: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "healed"
    build(recipe(), counts(), folder)
    (folder / "data/test/heat-00000.hdf5").unlink()
    path = folder / "data/train/heat-00001.hdf5"
    path.write_bytes(path.read_bytes()[:-1])
    (folder / "data/train/.tmp-rest").write_bytes(b"left by a kill")
    (folder / "stats.yaml").unlink()
    build(recipe(), counts(), folder)
    assert tree(folder) == tree(reference)


@pytest.mark.parametrize(
    "file",
    [
        "../outside-00000.hdf5",
        "/tmp/heat-00000.hdf5",
        "data/train/../../heat-00000.hdf5",
        "data/valid/heat-00000.hdf5",
        "data/train/heat-00000.hdf5/x",
        "data/train/heat\x00-00000.hdf5",
        "data\\train\\heat-00000.hdf5",
        "",
    ],
)
def test_paths_in_a_manifest_stay_inside(
    reference: Path, tmp_path: Path, file: str
) -> None:
    manifest = json.loads((reference / "MANIFEST.json").read_text())
    manifest["shards"][0]["file"] = file
    (tmp_path / "MANIFEST.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"MANIFEST\.json: shards") as caught:
        read_manifest(tmp_path)
    assert "\n" not in str(caught.value)


def test_links_are_refused(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "inside"
    build(recipe(), counts(train=1, valid=0, test=0), folder)
    (folder / "data/train").rename(outside)
    (folder / "data/train").symlink_to(outside)
    with pytest.raises(DataError, match="a link"):
        verify.verify(folder)


@pytest.mark.parametrize(
    "edit",
    [
        {"shards": []},
        {"counts": {"train": 5}},
        {"counts": {"train": -1, "valid": 1, "test": 2}},
        {"stats_sha256": None},
        {"format": "one"},
        {"extra": 1},
    ],
)
def test_manifest_must_add_up(
    reference: Path, tmp_path: Path, edit: dict[str, Any]
) -> None:
    manifest = json.loads((reference / "MANIFEST.json").read_text())
    (tmp_path / "MANIFEST.json").write_text(json.dumps(manifest | edit))
    with pytest.raises(DataError, match="MANIFEST"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"format": NaN}'])
def test_manifest_must_be_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "MANIFEST.json").write_text(text)
    with pytest.raises(DataError, match="MANIFEST"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {"resolution": 10**9 * 2},
        {"resolution": 2 * 10**3999},
        {"frames": 10**4000},
        {"shard_size": 10**12, "frames": 10**6},
        {"resolution": 63},
        {"resolution": 0},
        {"resolution": -64},
        {"frames": 1},
        {"length": -1.0},
        {"length": float("nan")},
        {"dt": 0.0},
        {"seed": -1},
        {"seed": 10**4000},
        {"dtype": "float16"},
    ],
)
def test_bombs_and_nonsense_are_refused_at_once(options: dict[str, Any]) -> None:
    start = time.monotonic()

    def plan() -> None:
        asked = resolve("heat", options=options)
        check_cost(estimate(asked, counts(train=10**6)), Caps())

    with pytest.raises(InputError) as caught:
        plan()
    assert time.monotonic() - start < 1
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


def test_cost_is_what_the_disk_holds() -> None:
    asked = recipe(resolution=64, frames=9)
    size = len(encode(make_shard(asked, Split.TRAIN, 0, 2)))
    cost = estimate(asked, counts(train=2, valid=0, test=0))
    assert 0.8 * size < cost.disk_bytes < size
    tight = Caps.of(1e-9, None)
    with pytest.raises(InputError, match=r"disk: .* raise it with --max-gib"):
        check_cost(cost, tight)
    with pytest.raises(InputError, match="--max-point-steps"):
        check_cost(cost, Caps.of(None, 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"system": None}, "system: expected one of heat, got none"),
        ({"system": "heet"}, "system: expected one of heat, got 'heet'"),
        ({"breaks": ["bubles=1"]}, "'bubles': heat has bubbles"),
        ({"breaks": ["bubbles"]}, "expected NAME=STRENGTH"),
        ({"breaks": ["bubbles=abc"]}, "expected a finite strength"),
        ({"breaks": ["bubbles=nan"]}, "expected a finite strength"),
        ({"breaks": ["bubbles=-1"]}, "expected a finite strength"),
        ({"breaks": ["bubbles=1e999"]}, "expected a finite strength"),
        ({"sets": ["nothing=1"]}, "--set nothing: unknown; expected one of resolution"),
        ({"sets": ["bubbles.x=1"]}, "--set bubbles.x: expected one of strength, count"),
        ({"sets": ["initial.x=1"]}, "expected one of modes"),
        ({"sets": ["bubbles.field=no.npy"]}, "no.npy"),
        ({"sets": ["conductivity=cold"]}, "conductivity"),
        ({"sets": ["=1"]}, "expected KEY=VALUE"),
    ],
)
def test_wrong_words_are_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        resolve(**({"system": "heat"} | arguments))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sources_of_a_recipe(tmp_path: Path) -> None:
    config = tmp_path / "recipe.toml"
    config.write_text(
        'seed = 5\nframes = 7\n[system]\nkind = "heat"\nconductivity = 2.0\n'
        '[[system.breaking]]\nkind = "bubbles"\nstrength = 0.25\ncount = 3\n'
    )
    pattern = tmp_path / "pattern.npy"
    np.save(pattern, np.full((16, 16), 0.5))
    asked = resolve(
        None,
        ["sink=1", "bubbles=0.5"],
        ["initial.modes=2", f"bubbles.field={pattern}", "length=2"],
        config,
        {"frames": 9, "dt": None, "resolution": 16},
    )
    assert (asked.seed, asked.frames, asked.length) == (5, 9, 2.0)
    assert asked.system.conductivity == 2.0
    assert [t.kind for t in asked.system.breaking] == ["bubbles", "sink"]
    assert asked.system.breaking[0].model_dump(include={"strength", "count"}) == {
        "strength": 0.5,
        "count": 3,
    }
    environment = make_shard(asked, Split.TRAIN, 0, 1).environment
    np.testing.assert_allclose(environment, 2.0 * (1 - 0.25))
    config.write_text("sedd = 5")
    with pytest.raises(InputError, match="sedd"):
        resolve("heat", config=config)


def test_recipe_comes_back_from_the_folder(reference: Path) -> None:
    assert read_recipe(reference) == recipe()
    assert recipe().frame_spacing == 5e-4


def test_statistics_are_numpys(reference: Path) -> None:
    u = trajectories(reference, "train").astype(np.float64)
    table = yaml.safe_load((reference / "stats.yaml").read_text())
    change = np.diff(u, axis=1)
    expected = {
        "mean": u.mean(),
        "std": u.std(),
        "rms": np.sqrt((u**2).mean()),
        "mean_delta": change.mean(),
        "std_delta": change.std(),
        "rms_delta": np.sqrt((change**2).mean()),
    }
    assert set(table) == set(expected)
    for key, value in expected.items():
        assert table[key]["temperature"] == pytest.approx(value, rel=1e-12, abs=1e-15)
    file = next((reference / "data/train").iterdir())
    kappa = np.asarray(h5py.File(file)["t0_fields/conductivity"], dtype=np.float64)
    assert table["std"]["conductivity"] == pytest.approx(kappa.std(), rel=1e-12)
    assert "conductivity" not in table["std_delta"]


def test_failure_names_the_trajectories(tmp_path: Path) -> None:
    nonlinear = {"kind": "heat", "breaking": [{"kind": "nonlinear", "strength": 50}]}
    with pytest.raises((SimulationError, InputError)) as caught:
        build(recipe(system=nonlinear), counts(), tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "heat")
    words = ["heat", "--break", "bubbles=0.5", "--resolution", "16", "--frames", "3"]
    words += ["--train", "2", "--valid", "1", "--test", "1", "--out", out]
    assert command(generate, *words, "--dry-run") == 0
    assert "GiB on disk" in capsys.readouterr().out
    assert not Path(out).exists()
    assert command(generate, *words) == 0
    assert capsys.readouterr().out.startswith(f"{out}: 2 train, 1 valid, 1 test")
    assert command(generate, *words, "--json") == 0
    assert json.loads(capsys.readouterr().out)["trajectories"]["train"] == 2
    assert command(verify, out) == 0
    assert "sound" in capsys.readouterr().out
    pictures = str(tmp_path / "pictures")
    assert command(describe, out, "--json", "--pictures", pictures) == 0
    report = json.loads(capsys.readouterr().out)
    assert Path(report["pictures"][0]).stat().st_size > 1000
    assert report["subgroup"] == "C1"
    assert command(describe, out) == 0
    assert "turn 90" in capsys.readouterr().out


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_data_defect_is_zero_for_the_intact_solver(
    tmp_path: Path, strength: float
) -> None:
    folder = tmp_path / "heat"
    broken = {"kind": "heat", "breaking": [{"kind": "bubbles", "strength": strength}]}
    asked = recipe(system=broken, resolution=16, environment="given")
    build(asked, counts(train=1, valid=0, test=2), folder)
    rows = describe.describe(folder)["defect"]
    assert len(rows) == 10
    for row in rows:
        assert row["joint"] < 1e-6
        assert row["survives"] == (strength == 0)
        assert row["defect"] < 1e-12 if strength == 0 else row["defect"] > 1e-4


def rewrite(folder: Path, name: str, change: Any) -> None:
    """Change a file and make the manifest agree with it."""
    path = folder / name
    with h5py.File(path, "r+") as file:
        change(file)
    data = path.read_bytes()
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    for entry in manifest["shards"]:
        if entry["file"] == name:
            entry["sha256"] = hashlib.sha256(data).hexdigest()
            entry["bytes"] = len(data)
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))


def scale(name: str, factor: float) -> Any:
    def change(file: Any) -> None:
        file[name][...] = file[name][()] * factor

    return change


def offset_budget(file: Any) -> None:
    file["scalars/heat_budget"][...] = file["scalars/heat_budget"][()] + 1e-3


def grow_peak(file: Any) -> None:
    u = file["t0_fields/temperature"][()]
    u[:, 1] *= 10
    file["t0_fields/temperature"][...] = u
    # Invariants that fit, so that only the maximum principle is broken.
    cell = 1 / u.shape[-1] ** 2
    wide = u.astype(np.float64)
    energy = cell * (wide**2).sum((-2, -1)) / 2
    for name, values in (
        ("heat", cell * wide.sum((-2, -1))),
        ("weighted_heat", cell * wide.sum((-2, -1))),
        ("energy", energy),
    ):
        file[f"scalars/{name}"][...] = values
        file[f"scalars/{name}_budget"][...] = values - values[:, :1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (scale("t0_fields/temperature", 1 + 1e-4), "differs from the stored fields"),
        (scale("scalars/energy", 1 + 1e-4), "differs from the stored fields"),
        (scale("scalars/energy_budget", 1 + 1e-4), "beyond its budget"),
        (offset_budget, "does not start at 0"),
        (grow_peak, "maximum principle"),
        (scale("t0_fields/temperature", float("nan")), "not finite"),
        (scale("dimensions/time", 2.0), "times is not what the recipe says"),
    ],
)
def test_verify_sees_wrong_physics_under_right_hashes(
    tmp_path: Path, change: Any, message: str
) -> None:
    folder = tmp_path / "heat"
    build(recipe(), counts(train=2, valid=0, test=0), folder)
    assert verify.verify(folder)["sound"]
    rewrite(folder, "data/train/heat-00000.hdf5", change)
    with pytest.raises(DataError, match=message) as caught:
        verify.verify(folder)
    assert "\n" not in str(caught.value)


def test_verify_sees_strangers_and_statistics(tmp_path: Path) -> None:
    folder = tmp_path / "heat"
    build(recipe(), counts(train=2, valid=0, test=0), folder)
    stranger = folder / "data/train/other.hdf5"
    stranger.write_bytes(b"")
    with pytest.raises(DataError, match=r"other\.hdf5: not listed"):
        verify.verify(folder)
    stranger.unlink()
    stats = folder / "stats.yaml"
    text = stats.read_text()
    wrong = text.replace("rms:", "rms: {temperature: 1e-05}\nrms2:")
    for changed in (text + " ", text.replace("std:", "sdt:"), wrong, "[", ""):
        stats.write_text(changed)
        with pytest.raises(DataError, match=r"stats\.yaml"):
            verify.verify(folder)
        manifest = json.loads((folder / "MANIFEST.json").read_text())
        digest = hashlib.sha256(changed.encode()).hexdigest()
        manifest["stats_sha256"] = digest
        (folder / "MANIFEST.json").write_text(json.dumps(manifest))
        if changed != text + " ":
            with pytest.raises(DataError, match=r"stats\.yaml"):
                verify.verify(folder)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_signals_leave_a_folder_that_goes_on(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    folder = tmp_path / "heat"
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "import argparse\nfrom data_gen import generate\n"
        "parser = argparse.ArgumentParser()\ngenerate.add_arguments(parser)\n"
        "sys.exit(generate.run(parser.parse_args(sys.argv[1:])))\n"
    )
    words = ["heat", "--resolution", "32", "--frames", "40", "--train", "4000"]
    process = subprocess.Popen(
        [sys.executable, "-c", script, *words, "--out", str(folder)],
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(folder.glob("data/train/*.hdf5")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    assert "goes on" in process.communicate(timeout=10)[1]
    assert process.returncode == code
    assert not list(folder.rglob(".tmp-*"))
    manifest = read_manifest(folder, complete=False)
    for entry in manifest.shards:
        data = (folder / entry.file).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry.sha256
