"""What a manifest says adds up, is written whole, and comes back as it was."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_store import make_shard

from pde_sym.errors import DataError, InputError, Lost
from pde_sym.seeds import Split
from pde_sym.store import (
    Manifest,
    ShardEntry,
    encode,
    open_entries,
    read_manifest,
    write_manifest,
)
from pde_sym.store.folder import MAX_SHARD, Prediction, open_entry, sha256

HASH = "0123456789abcdef" * 4


def lost(*numbers: int) -> tuple[Lost, ...]:
    return tuple(Lost(number, "u", "is not finite", 0.5, 2) for number in numbers)


def entry(split: Split, start: int, count: int, **changes: Any) -> ShardEntry:
    values = {
        "file": f"data/{split}/heat-{start:05d}.hdf5",
        "split": split,
        "start": start,
        "count": count,
        "sha256": HASH,
        "bytes": 9,
    }
    return ShardEntry.parse(values | changes, where="test")


def manifest(**changes: Any) -> Manifest:
    """Return five train trajectories in two shards, two of them lost, and one test."""
    values: dict[str, Any] = {
        "config": {"seed": 3},
        "counts": {Split.TRAIN: 5, Split.VALID: 0, Split.TEST: 1},
        "shards": (
            entry(Split.TEST, 0, 1),
            entry(Split.TRAIN, 0, 3, lost=lost(1)),
            entry(Split.TRAIN, 3, 2, lost=lost(4)),
        ),
        "stats_sha256": HASH,
        "complete": True,
    }
    values |= changes
    # As they lie in a file.
    values["shards"] = [one.model_dump() for one in values["shards"]]
    return Manifest.parse(values, where="test")


def test_what_it_says_of_each_split() -> None:
    one = manifest()
    train = [e.start for e in one.of(Split.TRAIN)]
    assert (train, one.of(Split.VALID)) == ([0, 3], ())
    assert [one.done(split) for split in Split] == [5, 0, 1]
    assert [one.numbers(split) for split in Split] == [[0, 2, 3], [], [0]]
    assert one.held() == {"train": 3, "valid": 0, "test": 1}
    assert [(split, row.index) for split, row in one.lost()] == [
        (Split.TRAIN, 1),
        (Split.TRAIN, 4),
    ]
    first = {"index": 1, "field": "u", "reason": "is not finite"}
    assert one.lost_rows()[0] == {"split": "train", **first, "time": 0.5, "step": 2}
    assert one.shown() is Split.TEST
    fewer = one.model_copy(update={"shards": one.shards[1:2]})
    assert fewer.shown() is Split.TRAIN
    assert fewer.with_shard(one.shards[2]).shards == one.shards[1:]


def test_a_new_one_is_empty_and_unfinished() -> None:
    new = Manifest(config={}, counts=dict.fromkeys(Split, 4))
    assert (new.shards, new.stats_sha256, new.complete) == ((), None, False)
    assert (new.prediction, new.format) == (None, 1)


LOST = r"lost: expected some of the trajectories 3 to 5, in order, got"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": -1}, "start: "),
        ({"count": 0}, "count: "),
        ({"count": MAX_SHARD + 1}, "count: "),
        ({"bytes": 0}, "bytes: "),
        ({"sha256": HASH[1:]}, "sha256: "),
        ({"sha256": HASH + "0"}, "sha256: "),
        ({"sha256": "g" * 64}, "sha256: "),
        ({"lost": lost(2)}, rf"{LOST} \[2\]"),
        ({"lost": lost(6)}, rf"{LOST} \[6\]"),
        ({"lost": lost(3, 4, 5)}, rf"{LOST} \[3, 4, 5\]"),
        ({"lost": lost(5, 3)}, rf"{LOST} \[5, 3\]"),
        ({"lost": [Lost(3, "u", "", 0.0)]}, "lost: expected a step"),
        ({"file": "data/valid/heat-00003.hdf5"}, "expected a file data/train/NAME-0"),
        ({"file": "data/train/heat-0001.hdf5"}, "expected a file data/train/"),
        ({"file": "data/train/-00001.hdf5"}, "expected a file data/train/"),
        ({"file": "data/train/heat-00001.hdf5.old"}, "expected a file data/train/"),
    ],
    ids=str,
)
def test_a_shard_that_cannot_be_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    values = {"split": Split.TRAIN, "start": 3, "count": 3}
    with pytest.raises(InputError, match=message):
        entry(**(values | changes))


def test_the_largest_and_smallest_shards_are_taken() -> None:
    assert entry(Split.TRAIN, 0, MAX_SHARD, bytes=1).count == MAX_SHARD
    assert entry(Split.TRAIN, 3, 3, lost=lost(3, 5)).numbers == [4]
    long = entry(Split.TRAIN, 0, 1, file="data/train/a_B9-123456789.hdf5")
    assert long.path(Path("folder")) == Path("folder") / long.file


TWICE = [entry(Split.TRAIN, 0, 3), entry(Split.TRAIN, 3, 2)]
TWICE[1] = TWICE[1].model_copy(update={"file": TWICE[0].file})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"counts": {Split.TRAIN: 5, Split.VALID: 0}}, "counts: expected a number"),
        ({"counts": {**dict.fromkeys(Split, 5), Split.VALID: -1}}, "counts: expected"),
        ({"counts": dict.fromkeys(Split, 1)}, "5 train trajectories, counts say 1"),
        ({"counts": dict.fromkeys(Split, 5)}, "0 valid trajectories, counts say 5"),
        ({"shards": TWICE}, "shards: a file is listed twice"),
        (
            {"shards": [entry(Split.TRAIN, 1, 4)]},
            r"shards: data/train/heat-00001\.hdf5 starts at 1, not at 0",
        ),
        (
            {"shards": [entry(Split.TRAIN, 0, 3), entry(Split.TRAIN, 2, 3)]},
            "starts at 2, not at 3",
        ),
        ({"stats_sha256": None}, "stats_sha256: missing in a complete data set"),
        ({"stats_sha256": "1"}, "stats_sha256: "),
        ({"counts": {}}, "counts: expected a number for train, valid and test"),
    ],
)
def test_what_does_not_add_up_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        manifest(**changes)


def test_an_unfinished_one_may_have_less() -> None:
    asked = dict.fromkeys(Split, 9)
    some = manifest(counts=asked, complete=False, stats_sha256=None)
    assert some.done(Split.TRAIN) == 5
    with pytest.raises(InputError, match="5 train trajectories, counts say 4"):
        manifest(counts={**asked, Split.TRAIN: 4}, complete=False)


# On disk ----------------------------------------------------------------------------


BY = dict.fromkeys(("settings", "weights", "data"), HASH)


@pytest.mark.parametrize("name", BY)
def test_a_prediction_names_what_made_it_by_hashes(name: str) -> None:
    with pytest.raises(InputError, match=f"test: {name}: "):
        Prediction.parse({"run": "", "model": "", **BY, name: "1"}, where="test")


@pytest.mark.parametrize("predicted", [False, True])
def test_it_comes_back_as_it_was(tmp_path: Path, predicted: bool) -> None:
    prediction = Prediction(run="a run", model="cnn", **BY) if predicted else None
    one = manifest(prediction=prediction)
    write_manifest(tmp_path, one)
    assert read_manifest(tmp_path) == one
    text = (tmp_path / "MANIFEST.json").read_text()
    assert text.endswith("}\n")
    # What was simulated has no word of predictions.
    assert ("prediction" in json.loads(text)) == predicted
    assert [p.name for p in tmp_path.iterdir()] == ["MANIFEST.json"]


def test_an_unfinished_one_is_read_where_that_is_asked(tmp_path: Path) -> None:
    one = manifest(complete=False)
    write_manifest(tmp_path, one)
    with pytest.raises(DataError, match="not finished; repeat the command"):
        read_manifest(tmp_path)
    assert read_manifest(tmp_path, complete=False) == one


def without_manifest(path: Path) -> None:
    path.unlink()


def newer(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))


def no_json(path: Path) -> None:
    path.write_bytes(b"{\xff")


def a_list(path: Path) -> None:
    path.write_text("[1]")


def huge(path: Path) -> None:
    with path.open("ab") as file:
        file.truncate(1 << 30)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (without_manifest, "no MANIFEST.json; expected a folder"),
        (newer, r"MANIFEST\.json: format 2 is newer than 1: update pde_sym"),
        (no_json, r"MANIFEST\.json: damaged: not valid JSON"),
        (a_list, r"MANIFEST\.json: value: "),
        (huge, r"MANIFEST\.json: larger than"),
    ],
)
def test_what_is_no_manifest_is_one_error(
    tmp_path: Path, edit: Callable[[Path], None], message: str
) -> None:
    write_manifest(tmp_path, manifest())
    edit(tmp_path / "MANIFEST.json")
    with pytest.raises(DataError, match=message) as caught:
        read_manifest(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


# Its files --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[ShardEntry]]:
    """Return a folder with two files of three trajectories."""
    folder = tmp_path_factory.mktemp("listed")
    (folder / "data/train").mkdir(parents=True)
    data = encode(make_shard())
    entries = [
        entry(Split.TRAIN, start, 3, sha256=sha256(data), bytes=len(data))
        for start in (0, 3)
    ]
    for one in entries:
        one.path(folder).write_bytes(data)
    return folder, entries


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_listed_files_are_opened_one_after_the_other(
    listed: tuple[Path, list[ShardEntry]],
) -> None:
    folder, entries = listed
    before, found = descriptors(), []
    for reader in open_entries(folder, entries):
        assert reader.num_trajectories == 3
        assert descriptors() == before + 1
        found.append(reader.path)
    assert found == [one.path(folder) for one in entries]
    assert descriptors() == before


def test_a_file_with_other_trajectories_than_listed_is_refused(
    listed: tuple[Path, list[ShardEntry]],
) -> None:
    folder, (one, _) = listed
    fewer = one.model_copy(update={"lost": lost(1)})
    before = descriptors()
    with pytest.raises(DataError, match="3 trajectories, the manifest says 2"):
        open_entry(folder, fewer)
    assert descriptors() == before
    other = one.model_copy(update={"sha256": HASH})
    with pytest.raises(DataError, match="damaged or replaced"):
        open_entry(folder, other)


def test_a_link_is_no_file_of_a_data_set(tmp_path: Path) -> None:
    (tmp_path / "data/train").mkdir(parents=True)
    (tmp_path / "outside").write_bytes(b"")
    one = entry(Split.TRAIN, 0, 1)
    (tmp_path / one.file).symlink_to(tmp_path / "outside")
    with pytest.raises(DataError, match="a link; a data set holds plain files only"):
        one.path(tmp_path)
