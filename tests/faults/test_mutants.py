"""Thousands of damaged files: each is read rightly, or refused in one line.

What is generated here is counted and printed. The HDF5 library may crash or hang on a
mutant; that happens in a process of its own, for some seconds at most.
"""

import itertools
import pickle
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import hostile
import numpy as np
import pytest
import test_checkpoint
from mutants import mutant, resealed
from test_store_folder import counts, recipe
from warm_reader import BLOCK, WarmReader

from data_gen.build import build
from pde_sym.arrays import ArrayFile
from pde_sym.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from pde_sym.config import Frozen
from pde_sym.errors import DataError, PdeSymError, one_line
from pde_sym.store import files, open_shard, read_manifest
from pde_sym.store.sandbox import Import

MOST_SECONDS = 10
SECRET = np.float32(0.123456789).tobytes() * 8
RUNS_CODE = ("exec", "os.system", "os.exec", "subprocess.Popen", "pickle.find_class")
heard: list[str] = []
listening = False


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if not listening or event not in RUNS_CODE:
        return
    # A module that is imported late is run too: it comes from a file of Python's.
    place = getattr(arguments[0], "co_filename", "") if event == "exec" else ""
    if not place.startswith((sys.prefix, sys.base_prefix, "<frozen")):
        heard.append(f"{event} {arguments!r:.80}")


sys.addaudithook(_hear)


@contextmanager
def nothing_runs() -> Iterator[None]:
    """Fail when what is read here starts anything."""
    global listening
    heard.clear()
    listening = True
    try:
        yield
    finally:
        listening = False
    assert heard == []


def outcome(work: Callable[[], object]) -> str:
    """Do `work`; return "right" or "refused", of which only one line is told."""
    start = time.monotonic()
    try:
        work()
    except PdeSymError as error:
        assert len(one_line(error)) < 700, error  # noqa: PT017
        return "refused"
    finally:
        assert time.monotonic() - start < MOST_SECONDS
    return "right"


@pytest.mark.parametrize("data", [b"cposix\nsystem\n(S'true'\ntR.", None])
def test_that_code_would_be_heard(data: bytes | None) -> None:
    with pytest.raises(AssertionError, match=r"exec|find_class"), nothing_runs():
        pickle.loads(data) if data else exec("pass")


def many(few: int, all_of_them: int) -> pytest.MarkDecorator:
    """Do with few mutants every day, and with all of them under `faults`."""
    numbers = [few, pytest.param(all_of_them, marks=pytest.mark.faults)]
    return pytest.mark.parametrize("number", numbers, ids=str)


def strangers(folder: Path) -> list[bytes]:
    """Return files of each layout, and some that point to a secret beside them."""
    wholes, secret = [], folder / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["secret"] = np.full((3, 4, 8), np.frombuffer(SECRET[:4], "<f4")[0])
    for write in (hostile.tensor_file, hostile.seeds_file):
        write(folder / "whole.h5")
        wholes.append((folder / "whole.h5").read_bytes())
    cases = dict(hostile.cases())
    for name in ("external storage", "virtual", "external link"):
        hostile.tensor_file(folder / "whole.h5")
        with h5py.File(folder / "whole.h5", "a") as file:
            cases[name](file, secret)
        wholes.append((folder / "whole.h5").read_bytes())
    build(recipe(environment="given"), counts(1, 0, 0), folder / "ours")
    wholes.append((folder / "ours/data/train/heat-00000.hdf5").read_bytes())
    return wholes


def read_answer(path: Path, code: int, said: bytes) -> int:
    """Take what a process said as `sandbox` does; return how many trajectories."""
    answer = path.with_suffix(".answer")
    answer.write_bytes(said)
    with answer.open("rb") as stdout:
        child: Any = SimpleNamespace(stdout=stdout, wait=lambda: code)
        found = Import(path, child, time.monotonic() + MOST_SECONDS)
        return sum(len(shard.states) for shard in found.shards({}, BLOCK))


@many(60, 5000)
def test_strangers_hdf5(tmp_path: Path, number: int) -> None:
    wholes = strangers(tmp_path)
    draw, seen = np.random.default_rng(1), Counter[str]()
    path, slowest = tmp_path / "mutant.h5", 0.0
    with WarmReader(tmp_path / "heard") as reader:
        for at in range(number):
            path.write_bytes(mutant(wholes[at % len(wholes)], draw))
            start = time.monotonic()
            code, said = reader.read(path)
            slowest = max(slowest, time.monotonic() - start)
            assert SECRET not in said
            seen["ended by a signal"] += code < 0
            assert code <= 0
            with nothing_runs():
                seen[outcome(lambda a=(path, code, said): read_answer(*a))] += 1
    print(f"{number} mutants of HDF5: {dict(seen)}, slowest {slowest:.1f} s")
    assert seen["right"] + seen["refused"] == number
    assert min(seen["right"], seen["refused"]) > number // 20
    assert seen["ended by a signal"] < number // 50
    assert reader.heard == ""


@many(100, 2000)
def test_what_the_process_says_is_not_believed(tmp_path: Path, number: int) -> None:
    """A process that was taken over can say anything."""
    path = tmp_path / "whole.h5"
    hostile.tensor_file(path)
    with WarmReader(tmp_path / "heard") as reader:
        _, whole = reader.read(path)
    assert read_answer(path, 0, whole) == hostile.NUM
    draw, seen = np.random.default_rng(2), Counter[str]()
    size = 9 + int.from_bytes(whole[1:9], "little")
    for at in range(number):
        # Half of them in the header, which is all that is parsed.
        head, rest = (mutant(whole[:size], draw), whole[size:])
        said = head + rest if at % 2 else mutant(whole, draw)
        with nothing_runs():
            seen[outcome(lambda s=said: read_answer(path, 0, s))] += 1
    print(f"{number} mutants of answers: {dict(seen)}")
    assert min(seen["right"], seen["refused"]) > number // 20


@many(200, 3000)
def test_checkpoints_under_right_hashes(tmp_path: Path, number: int) -> None:
    """The worst case: who changed the content also wrote its hash."""
    folder, names = tmp_path / "step-1", ("tensors.safetensors", "state.json")
    save_checkpoint(folder, test_checkpoint.example())
    wholes = {name: (folder / name).read_bytes() for name in names}
    length = 8 + int.from_bytes(wholes[names[0]][:8], "little")
    draw, seen = np.random.default_rng(3), Counter[str]()

    def load() -> None:
        found = load_checkpoint(folder)
        assert isinstance(found, Checkpoint)
        assert sum(t.nbytes for t in found.tensors.values()) < 10_000

    for at in range(number):
        name = names[at % 2]
        whole = wholes[name]
        # Most in the header: what stands behind it are plain numbers.
        if at % 2 or at % 8 == 0:
            data = mutant(whole, draw)
        else:
            data = mutant(whole[:length], draw) + whole[length:]
        resealed(folder, name, data)
        with nothing_runs():
            seen[outcome(load)] += 1
        resealed(folder, name, whole)
    print(f"{number} mutants of checkpoints: {dict(seen)}")
    assert min(seen["right"], seen["refused"]) > number // 20


@many(200, 2000)
def test_manifests_and_arrays(tmp_path: Path, number: int) -> None:
    build(recipe(), counts(2, 0, 0), tmp_path / "heat")
    place, array = tmp_path / "heat/MANIFEST.json", tmp_path / "array.npy"
    np.save(array, np.ones((3, 4)))
    wholes = {place: place.read_bytes(), array: array.read_bytes()}

    class Setting(Frozen):
        field: ArrayFile

    draw, seen = np.random.default_rng(4), Counter[str]()
    for at in range(number):
        path = array if at % 2 else place
        path.write_bytes(mutant(wholes[path], draw))
        with nothing_runs():
            if at % 2:
                seen[
                    outcome(lambda: Setting.parse({"field": str(array)}, where="a"))
                ] += 1
            else:
                seen[outcome(lambda: read_manifest(tmp_path / "heat"))] += 1
    print(f"{number} mutants of manifests and arrays: {dict(seen)}")
    assert min(seen["right"], seen["refused"]) > number // 20


@many(97, 1)
def test_every_byte_of_a_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Each byte flipped, and each length: found by its hash, before HDF5 parses it."""
    build(recipe(), counts(1, 0, 0), tmp_path / "heat")
    (entry,) = read_manifest(tmp_path / "heat").shards
    whole = entry.path(tmp_path / "heat").read_bytes()
    path = tmp_path / "shard.hdf5"

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("HDF5 parsed a damaged file")

    monkeypatch.setattr(h5py, "File", never)
    flips = range(0, len(whole), number)
    lengths = range(0, len(whole), 64 * number)
    for place, length in itertools.chain(
        zip(flips, itertools.repeat(None)), zip(itertools.repeat(0), lengths)
    ):
        data = bytearray(whole[:length])
        if length is None:
            data[place] ^= 1 << place % 8
        path.write_bytes(data)
        files._hashes.clear()
        with pytest.raises(DataError, match="damaged or replaced"):
            open_shard(path, entry.sha256)
    print(f"{len(flips)} flips and {len(lengths)} lengths of a shard: all found")
