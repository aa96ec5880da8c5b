"""A data set folder that is made, continued or grown, shard by shard.

An executor runs `make_file` for the shards that are missing. It gets a recipe and
numbers, writes the file itself and returns its hash, so that shards may be made by
other processes and in any order; the manifest lists them in theirs.
"""

import itertools
import json
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from data_gen.recipes import Recipe
from data_gen.shards import surviving_shard
from pde_sym.config import canonical_json
from pde_sym.errors import DataError, OutputError
from pde_sym.executor import Executor, InProcess
from pde_sym.seeds import Split
from pde_sym.store import (
    Manifest,
    ShardEntry,
    compute_statistics,
    encode,
    lock,
    make_folder,
    open_entries,
    read_manifest,
    read_statistics,
    remove_temporaries,
    write_file,
    write_manifest,
)
from pde_sym.store.files import LOCK, TEMPORARY, file_hash
from pde_sym.store.folder import MANIFEST, STATISTICS, sha256


class Piece(NamedTuple):
    """A shard to make; `listed` is its entry when the manifest has it already."""

    file: str
    split: Split
    start: int
    number: int
    listed: ShardEntry | None = None

    def __str__(self) -> str:
        end = self.start + self.number - 1
        return f"{self.file}: {self.split} trajectories {self.start} to {end}"


class Task(NamedTuple):
    """All that a process needs to make a shard."""

    piece: Piece
    recipe: Recipe
    folder: Path
    device: str = "cpu"

    def __str__(self) -> str:
        return str(self.piece)


def build(
    recipe: Recipe,
    counts: dict[Split, int],
    folder: Path,
    finished: Callable[[int], object] = int,
    device: str = "cpu",
    run: Executor | None = None,
) -> Manifest:
    """Make the data set of `recipe` in `folder`, or what is missing of it.

    Finished shards are kept, damaged and missing ones are made again, larger counts
    append. The same call after a crash at any point gives the same bytes.

    Parameters
    ----------
    recipe
        What to make.
    counts
        Trajectories per split.
    folder
        The data set.
    finished
        Called with the number of trajectories of each shard that is there.
    device
        Where trajectories are simulated; the bytes of another one differ by rounding.
    run
        What makes the shards, this process by default; the bytes do not depend on it.

    Raises
    ------
    OutputError
        When the folder holds something else or is in use, or the disk refuses.
    SimulationError
        When all trajectories of a shard are lost; the shards before it stay. Lost ones
        among others are left out, the manifest lists them.
    WorkerError
        When worker processes died over a shard, which it names; the others are there.
    """
    refuse_foreign(folder)
    make_folder(folder)
    with lock(folder):
        refuse_foreign(folder)
        manifest = _continue(recipe, counts, folder)
        missing = []
        for piece in _plan(manifest, recipe):
            if piece.listed is not None and _is_intact(folder, piece.listed):
                finished(piece.number)
            else:
                missing.append(piece)
        if manifest.complete and not missing and _has_statistics(folder, manifest):
            return manifest
        manifest = manifest.model_copy(update={"complete": False, "stats_sha256": None})
        write_manifest(folder, manifest)
        clean(folder)
        tasks = [Task(piece, recipe, folder.absolute(), device) for piece in missing]
        manifest = _make(tasks, folder, manifest, finished, run or InProcess())
        return finish(folder, manifest)


def refuse_foreign(folder: Path) -> None:
    """Refuse a path that is taken by anything but a data set of ours."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: a file; choose a folder")
    if not folder.exists() or (folder / MANIFEST).exists():
        return
    others = [
        path.name
        for path in folder.iterdir()
        if path.name != LOCK and not path.name.startswith(TEMPORARY)
    ]
    if others:
        raise OutputError(
            f"{folder}: holds {min(others)!r} and no {MANIFEST}, so it is no data set "
            "of ours; choose an empty or new folder"
        )


def _continue(recipe: Recipe, counts: dict[Split, int], folder: Path) -> Manifest:
    """Return the manifest that is there, with the new counts, or a fresh one."""
    config = json.loads(canonical_json(recipe))
    if not (folder / MANIFEST).exists():
        return Manifest(config=config, counts=counts)
    try:
        manifest = read_manifest(folder, complete=False)
    except DataError as error:
        raise OutputError(f"{error}; choose another folder") from error
    different = first_difference(manifest.config, config)
    if different:
        key, old, new = different
        raise OutputError(
            f"{folder}: holds a data set with {key} = {old}, asked for {new}; "
            "choose another folder"
        )
    for split, count in counts.items():
        if count < manifest.counts[split]:
            raise OutputError(
                f"{folder}: has {manifest.counts[split]} {split} trajectories, asked "
                f"for {count}; a data set only grows, choose another folder"
            )
    return manifest.model_copy(update={"counts": counts})


def first_difference(old: Any, new: Any, key: str = "") -> tuple[str, str, str] | None:
    """Return key, old and new value where two configurations first differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new})
        pairs = [(f"{key}.{k}" if key else k, old.get(k), new.get(k)) for k in keys]
    elif isinstance(old, list) and isinstance(new, list):
        pairs = [
            (f"{key}.{i}", a, b)
            for i, (a, b) in enumerate(itertools.zip_longest(old, new))
        ]
    else:
        return None if old == new else (key, _short(old), _short(new))
    found = (first_difference(a, b, name) for name, a, b in pairs)
    return next((difference for difference in found if difference), None)


def _short(value: Any) -> str:
    return f"{json.dumps(value):.80}"


def _plan(manifest: Manifest, recipe: Recipe) -> Iterator[Piece]:
    """Yield the shards of a data set: the listed ones, then those after them."""
    for split in Split:
        listed = manifest.of(split)
        for entry in listed:
            yield Piece(entry.file, split, entry.start, entry.count, entry)
        start, end = manifest.done(split), manifest.counts[split]
        starts = range(start, end, recipe.shard_size)
        for number, first in enumerate(starts, start=len(listed)):
            file = f"data/{split}/{recipe.system.kind}-{number:05d}.hdf5"
            yield Piece(file, split, first, min(recipe.shard_size, end - first))


def _is_intact(folder: Path, entry: ShardEntry) -> bool:
    path = entry.path(folder)
    return path.is_file() and file_hash(path) == entry.sha256


def _has_statistics(folder: Path, manifest: Manifest) -> bool:
    try:
        read_statistics(folder, manifest)
    except DataError:
        return False
    return True


def clean(folder: Path) -> None:
    """Remove what killed runs left, and make the folders of the splits."""
    remove_temporaries(folder)
    for split in Split:
        # An empty split has its folder too: clients list all three.
        make_folder(folder / "data" / split)
        remove_temporaries(folder / "data" / split)


def _make(
    tasks: list[Task],
    folder: Path,
    manifest: Manifest,
    finished: Callable[[int], object],
    run: Executor,
) -> Manifest:
    """Make shards in any order and list new ones in theirs."""
    new = deque(task.piece.file for task in tasks if task.piece.listed is None)
    ready: dict[str, ShardEntry] = {}
    for task, entry in run.map(make_file, tasks):
        path = entry.path(folder)
        if not path.is_file():
            raise OutputError(
                f"{path}: a worker wrote it and it is not here; workers need the same "
                "folder as this process"
            )
        finished(task.piece.number)
        ready[entry.file] = entry
        while new and new[0] in ready:
            manifest = manifest.with_shard(ready.pop(new.popleft()))
            write_manifest(folder, manifest)
    return manifest


def make_file(task: Task) -> ShardEntry:
    """Simulate and write one shard; return what the manifest says of it.

    Raises
    ------
    OutputError
        When the disk refuses, or the file would not be the one that is listed.
    SimulationError
        When all trajectories are lost.
    """
    piece = task.piece
    of_split = (piece.split, piece.start, piece.number)
    shard, lost = surviving_shard(task.recipe, *of_split, task.device)
    data = encode(shard)
    entry = ShardEntry(
        file=piece.file,
        split=piece.split,
        start=piece.start,
        count=piece.number,
        sha256=sha256(data),
        bytes=len(data),
        lost=lost,
    )
    if piece.listed is not None and entry != piece.listed:
        raise OutputError(
            f"{task.folder / piece.file}: damaged, and this machine or device makes "
            "other bytes than the one that made it; bring the file back or choose "
            "another folder"
        )
    write_file(entry.path(task.folder), data)
    return entry


def finish(folder: Path, manifest: Manifest) -> Manifest:
    """Write the statistics of the shards, and that nothing is missing."""
    # Workers that died have left theirs.
    clean(folder)
    statistics = compute_statistics(open_entries(folder, manifest.of(Split.TRAIN)))
    write_file(folder / STATISTICS, statistics)
    done = {"stats_sha256": sha256(statistics), "complete": True}
    manifest = manifest.model_copy(update=done)
    write_manifest(folder, manifest)
    return manifest
