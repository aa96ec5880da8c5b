"""A folder is made, continued and grown shard by shard, each step is on the disk."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_store_folder import counts, recipe

from data_gen.build import (
    Piece,
    Task,
    build,
    clean,
    first_difference,
    make_file,
    refuse_foreign,
)
from pde_sym.errors import OutputError
from pde_sym.seeds import Split
from pde_sym.store import Manifest, read_manifest, write_manifest
from pde_sym.store.files import LOCK, TEMPORARY
from pde_sym.store.folder import sha256

NUMBERS = counts(train=5, valid=0, test=1)
"""Train shards of 2, 2 and 1, and one of test."""


class Ordered:
    """Makes shards in a given order, and notes what is listed after each of them."""

    def __init__(self, *order: int) -> None:
        self.order, self.made = order, []
        self.listed: list[list[str]] = []

    def map(
        self, function: Callable[[Any], Any], specs: Iterable[Any]
    ) -> Iterator[tuple[Any, Any]]:
        tasks: list[Task] = list(specs)
        self.made = [str(task) for task in tasks]
        for number in self.order or range(len(tasks)):
            task = tasks[number]
            yield task, function(task)
            manifest = read_manifest(task.folder, complete=False)
            assert not manifest.complete
            assert manifest.stats_sha256 is None
            self.listed.append([Path(entry.file).stem for entry in manifest.shards])


FILES = [
    "data/train/heat-00000.hdf5: train trajectories 0 to 1",
    "data/train/heat-00001.hdf5: train trajectories 2 to 3",
    "data/train/heat-00002.hdf5: train trajectories 4 to 4",
    "data/test/heat-00000.hdf5: test trajectories 0 to 0",
]


def test_each_shard_is_listed_as_soon_as_those_before_it_are(tmp_path: Path) -> None:
    run, seen = Ordered(1, 3, 0, 2), []
    made = build(recipe(), NUMBERS, tmp_path, seen.append, run=run)
    assert run.made == FILES
    assert run.listed == [
        [],
        [],
        ["heat-00000", "heat-00001"],
        ["heat-00000", "heat-00001", "heat-00002", "heat-00000"],
    ]
    assert seen == [2, 1, 2, 1]
    assert read_manifest(tmp_path) == made
    assert [(e.split, e.start, e.count) for e in made.shards] == [
        (Split.TRAIN, 0, 2),
        (Split.TRAIN, 2, 2),
        (Split.TRAIN, 4, 1),
        (Split.TEST, 0, 1),
    ]
    for entry in made.shards:
        data = entry.path(tmp_path).read_bytes()
        assert (entry.sha256, entry.bytes, entry.lost) == (sha256(data), len(data), ())
    assert made.config == json.loads(recipe().model_dump_json())
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == [
        *("test", "train", "valid")
    ]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    build(recipe(), NUMBERS, folder)
    return folder


@pytest.fixture
def made(reference: Path, tmp_path: Path) -> Path:
    """Return a copy of a finished data set."""
    folder = tmp_path / "copy"
    for path in reference.rglob("*.*"):
        target = folder / path.relative_to(reference)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return folder


def test_what_is_there_is_not_made_again(made: Path) -> None:
    run, seen = Ordered(), []
    (made / LOCK).touch()
    before = {p: p.stat().st_mtime_ns for p in made.rglob("*.*")}
    build(recipe(), NUMBERS, made, seen.append, run=run)
    before[made / LOCK] = (made / LOCK).stat().st_mtime_ns
    assert (run.made, seen) == ([], [2, 2, 1, 1])
    assert {p: p.stat().st_mtime_ns for p in made.rglob("*.*")} == before
    (made / "data/train/heat-00001.hdf5").write_bytes(b"")
    (made / "data/test/heat-00000.hdf5").unlink()
    seen.clear()
    again = build(recipe(), NUMBERS, made, seen.append, run=run)
    assert run.made == [FILES[1], FILES[3]]
    assert seen == [2, 1, 2, 1]
    assert read_manifest(made) == again


@pytest.mark.parametrize("name", ["stats.yaml", None])
def test_what_only_lacks_its_end_is_finished(made: Path, name: str | None) -> None:
    """Statistics that are gone, or a manifest that does not say complete."""
    before, run = read_manifest(made), Ordered()
    if name is not None:
        (made / name).unlink()
    else:
        open_end = {"complete": False, "stats_sha256": None}
        write_manifest(made, before.model_copy(update=open_end))
    assert build(recipe(), NUMBERS, made, run=run) == before
    assert run.made == []
    assert sha256((made / "stats.yaml").read_bytes()) == before.stats_sha256


def test_growth_makes_what_is_new(made: Path) -> None:
    run = Ordered()
    larger = build(recipe(), counts(train=8, valid=1, test=1), made, run=run)
    assert run.made == [
        "data/train/heat-00003.hdf5: train trajectories 5 to 6",
        "data/train/heat-00004.hdf5: train trajectories 7 to 7",
        "data/valid/heat-00000.hdf5: valid trajectories 0 to 0",
    ]
    assert larger.held() == {"train": 8, "valid": 1, "test": 1}


def test_growth_that_is_interrupted_does_not_pass_for_finished(made: Path) -> None:
    seen: list[int] = []

    def interrupt(number: int) -> None:
        seen.append(number)
        if len(seen) > len(FILES):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(recipe(), counts(train=7, valid=0, test=1), made, interrupt)
    found = read_manifest(made, complete=False)
    assert (found.complete, found.stats_sha256) == (False, None)
    assert found.counts[Split.TRAIN] == 7
    # The smaller one would now be a step back.
    with pytest.raises(OutputError, match="has 7 train trajectories, asked for 5"):
        build(recipe(), NUMBERS, made)


def test_another_machine_that_makes_other_bytes_is_told(made: Path) -> None:
    path = made / "data/train/heat-00000.hdf5"
    listed = read_manifest(made).shards[0]
    other = listed.model_copy(update={"sha256": "0" * 64})
    task = Task(Piece(listed.file, Split.TRAIN, 0, 2, other), recipe(), made)
    before = path.read_bytes()
    with pytest.raises(OutputError, match="damaged, and this machine or device makes"):
        make_file(task)
    assert path.read_bytes() == before
    path.unlink()
    again = task._replace(piece=task.piece._replace(listed=listed))
    assert make_file(again) == listed
    assert path.read_bytes() == before


def test_a_worker_that_does_not_share_the_folder(tmp_path: Path) -> None:
    class Elsewhere:
        def map(
            self, function: Callable[[Any], Any], specs: Iterable[Any]
        ) -> Iterator[tuple[Any, Any]]:
            for spec in specs:
                other = tmp_path / "other"
                (other / "data/train").mkdir(parents=True, exist_ok=True)
                yield spec, function(spec._replace(folder=other))

    with pytest.raises(OutputError, match="workers need the same folder"):
        build(recipe(), NUMBERS, tmp_path / "heat", run=Elsewhere())
    assert read_manifest(tmp_path / "heat", complete=False).shards == ()


def test_another_recipe_or_a_manifest_that_is_none_is_refused(made: Path) -> None:
    with pytest.raises(OutputError, match="with seed = 0, asked for 1; choose another"):
        build(recipe(seed=1), NUMBERS, made)
    (made / "MANIFEST.json").write_text("{")
    with pytest.raises(OutputError, match=r"not valid JSON .*; choose another folder"):
        build(recipe(), NUMBERS, made)


def test_a_folder_is_ours_where_nothing_else_is(tmp_path: Path) -> None:
    refuse_foreign(tmp_path / "new")
    refuse_foreign(tmp_path)
    for name in (LOCK, f"{TEMPORARY}1"):
        (tmp_path / name).write_bytes(b"")
    refuse_foreign(tmp_path)
    for name in ("z", "precious"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(OutputError, match=r"holds 'precious' and no MANIFEST\.json"):
        refuse_foreign(tmp_path)
    write_manifest(tmp_path, Manifest(config={}, counts=dict.fromkeys(Split, 0)))
    refuse_foreign(tmp_path)
    with pytest.raises(OutputError, match="z: a file; choose a folder"):
        refuse_foreign(tmp_path / "z")


def test_what_a_kill_left_is_removed_and_nothing_else(made: Path) -> None:
    before = sorted(made.rglob("*.*"))
    for place in (".", "data/train", "data/test"):
        (made / place / f"{TEMPORARY}1").write_bytes(b"")
    clean(made)
    assert sorted(made.rglob("*.*")) == before
    assert (made / "data/valid").is_dir()


@pytest.mark.parametrize(
    ("old", "new", "difference"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "b": 2}, None),
        ({"a": 1, "b": 2}, {"a": 2, "b": 3}, ("a", "1", "2")),
        ({"a": 1}, {"a": 1, "b": [0]}, ("b", "null", "[0]")),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}, ("a.c", "null", "2")),
        ({"a": [1, 2]}, {"a": [1]}, ("a.1", "2", "null")),
        ({"a": [1, {"b": "x"}]}, {"a": [1, {"b": "y"}]}, ("a.1.b", '"x"', '"y"')),
        ({"a": [1]}, {"a": {"b": 1}}, ("a", "[1]", '{"b": 1}')),
        ([], [], None),
    ],
)
def test_the_first_difference_is_found(
    old: Any, new: Any, difference: tuple[str, str, str] | None
) -> None:
    assert first_difference(old, new) == difference


def test_long_values_are_cut() -> None:
    found = first_difference({"a": "x" * 500}, {"a": 1})
    assert found is not None
    assert found[1] == '"' + "x" * 79
