"""Folders resume, grow and refuse: their bytes depend on the recipe alone."""

import functools
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from disk_faults import KILLED, FailingDisk, disk_error, exit_code_when_killed

from data_gen import verify
from data_gen.build import build, first_difference
from data_gen.recipes import Recipe
from pde_sym.errors import DataError, OutputError
from pde_sym.seeds import Split
from pde_sym.store import files, lock, read_manifest

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
        error = disk_error() if kind == "full disk" else KeyboardInterrupt()
        fault = FailingDisk(at, error)
        monkeypatch.setattr(files, "disk", fault)
        try:
            build(small, numbers, folder)
        except (OutputError, KeyboardInterrupt) as caught:
            assert isinstance(caught, OutputError) == (kind == "full disk")  # noqa: PT017
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


def test_killed_at_every_call_then_the_same_command_completes(tmp_path: Path) -> None:
    numbers = counts(train=3, valid=0, test=1)
    build(recipe(), numbers, tmp_path / "whole")
    expected = tree(tmp_path / "whole")
    at = 0
    while True:
        at += 1
        folder = tmp_path / f"{at}"
        work = functools.partial(build, recipe(), numbers, folder)
        code = exit_code_when_killed(at, work)
        if code == 0:
            break
        assert code == KILLED
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
        "/elsewhere/heat-00000.hdf5",
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
