"""A power cut after every call: what was written and not flushed may be gone.

The calls of one run are recorded. For each prefix of them a disk is made that holds
what a file system may hold then: a file has what was flushed, and perhaps more; a
folder has the names that were flushed, and perhaps later ones, in their order.
"""

import itertools
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from test_checkpoint import example, same
from test_store_folder import counts, recipe, tree

from data_gen.build import build
from pde_sym.checkpoint import latest_checkpoint, save_checkpoint
from pde_sym.store import files, read_manifest

Loss = Literal["nothing", "all", "data", "some"]
LOSSES: tuple[Loss, ...] = ("nothing", "all", "data", "some")
"""What is gone of what was not flushed; "data" keeps the names of emptied files."""


@dataclass
class Node:
    """A file, or a folder; `flushed` counts its bytes, or changes of its names."""

    data: bytearray = field(default_factory=bytearray)
    changes: list[tuple[str, "Node | None"]] = field(default_factory=list)
    is_folder: bool = False
    flushed: int = 0


class Recorder(files.Disk):
    """Notes every call, by the path it is for."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Path, bytes | Path]] = []

    def create(self, path: Path) -> int:
        self.calls.append(("create", path, b""))
        return super().create(path)

    def append(self, path: Path) -> int:
        raise AssertionError(f"{path}: logs are not flushed, no promise is of them")

    def write(self, descriptor: int, data: memoryview) -> int:
        written = super().write(descriptor, data)
        self.calls.append(("write", path_of(descriptor), bytes(data[:written])))
        return written

    def sync(self, descriptor: int) -> None:
        super().sync(descriptor)
        self.calls.append(("sync", path_of(descriptor), b""))

    def rename(self, old: Path, new: Path) -> None:
        super().rename(old, new)
        self.calls.append(("rename", old, new))

    def remove(self, path: Path) -> None:
        super().remove(path)
        self.calls.append(("remove", path, b""))

    def make_folder(self, path: Path) -> None:
        for folder in reversed((path, *path.parents)):
            if not folder.exists():
                self.calls.append(("folder", folder, b""))
        super().make_folder(path)


def path_of(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()


class Volatile:
    """The folder `root` after some calls, with what a power cut may take."""

    def __init__(self, root: Path) -> None:
        self.root, self.top = root, Node(is_folder=True)

    def node(self, path: Path) -> Node:
        found = self.top
        for name in path.relative_to(self.root).parts:
            found = dict(found.changes)[name]
            assert found is not None
        return found

    def change(self, path: Path, node: Node | None) -> None:
        self.node(path.parent).changes.append((path.name, node))

    def apply(self, kind: str, path: Path, more: bytes | Path) -> None:
        if kind in ("create", "folder"):
            self.change(path, Node(is_folder=kind == "folder"))
        elif kind == "write":
            assert isinstance(more, bytes)
            self.node(path).data += more
        elif kind == "sync":
            node = self.node(path)
            node.flushed = len(node.changes if node.is_folder else node.data)
        elif kind == "remove":
            self.change(path, None)
        else:
            assert isinstance(more, Path)
            node = self.node(path)
            self.change(path, None)
            self.change(more, node)

    def restore(
        self, place: Path, loss: Loss, draw: np.random.Generator, node: Node | None
    ) -> None:
        """Write to `place` what is left."""
        node = node or self.top
        size = len(node.changes if node.is_folder else node.data)
        kept = {
            "nothing": size,
            "all": node.flushed,
            "data": size if node.is_folder else node.flushed,
            "some": int(draw.integers(node.flushed, size + 1)),
        }[loss]
        if not node.is_folder:
            place.write_bytes(node.data[:kept])
            return
        place.mkdir()
        for name, child in dict(node.changes[:kept]).items():
            if child is not None:
                self.restore(place / name, loss, draw, child)


def record(root: Path, work: Callable[[Path], object]) -> list:
    root.mkdir()
    recorder, before = Recorder(), files.disk
    files.disk = recorder
    try:
        work(root)
    finally:
        files.disk = before
    return recorder.calls


def every_loss(
    tmp_path: Path, work: Callable[[Path], object], step: int, look: Callable
) -> int:
    """Call ``look(place, volatile, calls so far)`` for each disk; return how many."""
    calls = record(tmp_path / "record", work)
    draw, number = np.random.default_rng(0), itertools.count()
    for loss in LOSSES:
        volatile = Volatile(tmp_path / "record")
        for done, call in enumerate(calls, 1):
            volatile.apply(*call)
            if done % step and done != len(calls):
                continue
            place = tmp_path / f"{next(number)}"
            volatile.restore(place, loss, draw, None)
            look(place, calls[:done])
    return next(number)


def acknowledged(calls: list, name: str) -> int:
    """Return after how many calls the last flushed rename to `name` was flushed."""
    renamed = done = 0
    for number, (kind, path, more) in enumerate(calls, 1):
        if kind == "rename" and isinstance(more, Path) and more.name == name:
            renamed = number
        if kind == "sync" and renamed and path == calls[renamed - 1][2].parent:
            done, renamed = renamed, 0
    return done


STEPS = [7, pytest.param(1, marks=pytest.mark.faults)]


@pytest.mark.parametrize("step", STEPS)
def test_generate(tmp_path: Path, step: int) -> None:
    numbers = counts(train=5, valid=1, test=2)
    build(recipe(), numbers, tmp_path / "whole")
    expected = tree(tmp_path / "whole")

    def work(root: Path) -> None:
        build(recipe(), numbers, root / "heat")

    def look(place: Path, calls: list) -> None:
        folder = place / "heat"
        listed = acknowledged(calls, "MANIFEST.json")
        if listed:
            content = next(
                more
                for kind, path, more in reversed(calls[:listed])
                if kind == "write" and path == calls[listed - 1][1]
            )
            promised = set(_shards(content))
            kept = {
                e.file: e.sha256 for e in read_manifest(folder, complete=False).shards
            }
            assert promised <= set(kept)
            assert kept.items() <= tree(folder).items()
        build(recipe(), numbers, folder)
        assert tree(folder) == expected

    disks = every_loss(tmp_path, work, step, look)
    print(f"generate: {disks} disks")
    assert disks >= (40 if step > 1 else 300)


def _shards(manifest: bytes) -> list[str]:
    return [entry["file"] for entry in json.loads(manifest)["shards"]]


@pytest.mark.parametrize("step", STEPS)
def test_checkpoints(tmp_path: Path, step: int) -> None:
    def work(root: Path) -> None:
        for number in range(3):
            save_checkpoint(root / "run" / f"step-{number}", example(number))

    def look(place: Path, calls: list) -> None:
        saved = [n for n in range(3) if acknowledged(calls, f"step-{n}")]
        found, _ = latest_checkpoint(place / "run")
        if saved:
            assert found is not None
            assert found.state["update"] >= max(saved)
        if found is not None:
            assert same(found, example(found.state["update"]))

    disks = every_loss(tmp_path, work, step, look)
    print(f"checkpoints: {disks} disks")
    assert disks > (15 if step > 1 else 100)


def test_a_disk_that_forgets_to_flush_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: without the flush of the file, names stand for nothing."""
    monkeypatch.setattr(files, "_write_all", _write_without_flush)
    with pytest.raises(AssertionError):
        test_checkpoints(tmp_path, 1)


def _write_without_flush(path: Path, data: bytes) -> None:
    descriptor = files.disk.create(path)
    try:
        files.disk.write(descriptor, memoryview(data))
    finally:
        os.close(descriptor)
