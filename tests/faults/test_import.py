"""Strangers' files: read, or refused in one line; nothing else happens."""

import io
import os
import resource
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import h5py
import hostile
import numpy as np
import pytest
from disk_faults import KILLED, SharedKillingDisk, exit_code_when_killed
from test_store_folder import counts, recipe, tree

from data_gen.build import build
from data_gen.importing import describe_imported, import_file
from pde_sym.dataset import TrajectoryDataset
from pde_sym.errors import DataError, InputError, OutputError
from pde_sym.seeds import Split
from pde_sym.store import foreign, read_manifest
from pde_sym.store.sandbox import Limits, reading

NONE = {Split.VALID: 0, Split.TEST: 0}
ONE = {Split.VALID: 1, Split.TEST: 1}
SECRET = 0.123456789


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.h5"
    size = hostile.NUM * hostile.FRAMES * hostile.POINTS
    with h5py.File(path, "w") as file:
        file["secret"] = np.full((3, 4, 8), SECRET, "<f4")
    path.write_bytes(path.read_bytes() + np.full(size, SECRET, "<f4").tobytes())
    return path


def test_an_array_per_field(tmp_path: Path) -> None:
    hostile.tensor_file(tmp_path / "a.h5")
    out = tmp_path / "out"
    header = import_file(tmp_path / "a.h5", out, ONE, "periodic")
    assert header.layout == "PDEBench, an array per field"
    with h5py.File(tmp_path / "a.h5") as file:
        stored = np.asarray(file["tensor"])
    for number, split in enumerate(("train", "valid", "test")):
        data = TrajectoryDataset(out, split)
        assert data.grid.lengths == pytest.approx((1.0,))
        found = data.load_all()["states"].numpy()
        np.testing.assert_array_equal(found[0, :, 0], stored[number])
    assert describe_imported(out, read_manifest(out))["fields"]["u"]["max"] < 1


def test_a_group_per_trajectory_between_walls(tmp_path: Path) -> None:
    hostile.seeds_file(tmp_path / "a.h5")
    import_file(tmp_path / "a.h5", tmp_path / "out", NONE, "wall")
    data = TrajectoryDataset(tmp_path / "out", "train")
    assert (data.grid.boundary, data.fields.names) == ("WALL", ("u0", "u1"))
    with h5py.File(tmp_path / "a.h5") as file:
        stored = np.moveaxis(np.asarray(file["0002/data"]), -1, 1)
    np.testing.assert_array_equal(data.load_all()["states"][2], stored)


def test_components_become_a_vector(tmp_path: Path) -> None:
    draw = np.random.default_rng(0).random((2, 3, 3, 4, 8)).astype("<f4")
    axis = {"y-coordinate": np.arange(8.0), "x-coordinate": np.arange(4.0)}
    fields = {"Vx": draw[0], "Vy": draw[1], "density": draw[0] + 1}
    hostile.tensor_file(tmp_path / "a.h5", tensor=None, **axis, **fields)
    import_file(tmp_path / "a.h5", tmp_path / "out", NONE, "periodic")
    data = TrajectoryDataset(tmp_path / "out", "train")
    assert data.fields.channel_names == ("density", "velocity_x", "velocity_y")
    states = data.load_all()["states"].numpy()
    np.testing.assert_array_equal(states, np.stack([draw[0] + 1, *draw], axis=2))


def test_what_we_write_comes_back(tmp_path: Path) -> None:
    build(recipe(environment="given"), counts(2, 0, 0), tmp_path / "ours")
    file = tmp_path / "ours/data/train/heat-00000.hdf5"
    header = import_file(file, tmp_path / "theirs", NONE)
    assert header.layout == "The Well"
    ours, theirs = (
        TrajectoryDataset(tmp_path / name, "train") for name in ("ours", "theirs")
    )
    assert theirs.given_fields.names == ours.given_fields.names == ("conductivity",)
    for key, values in ours.load_all().items():
        np.testing.assert_array_equal(values, theirs.load_all()[key])


def answer(path: Path, seconds: int = 4) -> tuple[int, bytes]:
    """Let a limited fork read a file; return its exit code and what it said.

    The same as `sandbox`, without the start of Python that it takes.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        receive, send = os.pipe()
        child = os.fork()
    if not child:
        try:
            source = path.open("rb")
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
            signal.alarm(2 * seconds)
            with os.fdopen(send, "wb") as target:
                foreign.serve(source, target, "PERIODIC", 3, 1 << 24)
        finally:
            os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        said = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


CASES = dict(hostile.cases())


@pytest.mark.parametrize("name", CASES)
def test_hostile_files_are_refused(tmp_path: Path, secret: Path, name: str) -> None:
    path = tmp_path / "hostile.h5"
    hostile.tensor_file(path)
    with h5py.File(path, "a") as file:
        CASES[name](file, secret)
    start = time.monotonic()
    code, said = answer(path)
    assert time.monotonic() - start < 10
    assert code == 0
    # Numbers may follow the header before one that is none.
    kind, text = _parts(said)[-1]
    assert kind == b"-", said[:200]
    reason = text.decode()
    assert reason.isprintable()
    assert str(SECRET)[:6] not in reason


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 60


@pytest.mark.parametrize("name", ["external storage", "virtual", "external link"])
def test_the_command_refuses_them_too(tmp_path: Path, secret: Path, name: str) -> None:
    path = tmp_path / "hostile.h5"
    hostile.tensor_file(path)
    with h5py.File(path, "a") as file:
        CASES[name](file, secret)
    with pytest.raises(DataError, match=r"hostile\.h5: ") as caught:
        import_file(path, tmp_path / "out", NONE, "periodic")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_locked_process_opens_nothing(tmp_path: Path, secret: Path) -> None:
    """Were a link followed all the same, there is no descriptor to open it with."""
    program = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('f', {foreign.__file__!r})\n"
        "f = importlib.util.module_from_spec(spec); sys.modules['f'] = f\n"
        "spec.loader.exec_module(f)\n"
        "f.warm_up(); f.give_up(4 << 30, 10)\n"
        "for attempt in (lambda: open(sys.argv[1]), lambda: open(sys.argv[2], 'w'),\n"
        "                lambda: f.h5py.File(sys.argv[1], 'r'),\n"
        "                lambda: bytearray(8 << 30)):\n"
        "    try: attempt()\n"
        "    except (OSError, MemoryError) as error: print(type(error).__name__)\n"
        "    else: print('open')\n"
    )
    words = ["-I", "-c", program, str(secret), str(tmp_path / "new")]
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["OSError", "OSError", "OSError", "MemoryError"]


def test_time_and_bytes_are_limited(tmp_path: Path) -> None:
    hostile.tensor_file(tmp_path / "a.h5")
    with (
        pytest.raises(DataError, match="more than --max-gib allows"),
        reading(tmp_path / "a.h5", 1, "PERIODIC", Limits(bytes=100)),
    ):
        pass
    start = time.monotonic()
    os.mkfifo(tmp_path / "slow")
    holder = os.open(tmp_path / "slow", os.O_RDWR)
    with (
        pytest.raises(DataError, match=r"takes too long|not a readable|ended with"),
        reading(tmp_path / "slow", 1, "PERIODIC", Limits(seconds=2)),
    ):
        pass
    os.close(holder)
    assert time.monotonic() - start < 8


@pytest.mark.parametrize("data", [b"", b"no HDF5", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_what_is_no_hdf5(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.h5").write_bytes(data)
    code, said = answer(tmp_path / "a.h5")
    assert (code, said[:1]) == (0, b"-")


def _parts(said: bytes) -> list[tuple[bytes, bytes]]:
    stream, parts = io.BytesIO(said), []
    while head := stream.read(9):
        parts.append((head[:1], stream.read(int.from_bytes(head[1:], "little"))))
    return parts


@pytest.mark.faults
def test_killed_at_every_call(tmp_path: Path) -> None:
    hostile.tensor_file(tmp_path / "a.h5")

    def work(folder: Path) -> None:
        import_file(tmp_path / "a.h5", folder, ONE, "periodic")

    work(tmp_path / "whole")
    expected, at = tree(tmp_path / "whole"), 0
    while True:
        at += 1
        folder, disk = tmp_path / f"{at}", SharedKillingDisk(at)
        code = exit_code_when_killed(at, lambda f=folder: work(f), disk)
        if code == 0:
            break
        assert code == KILLED
        work(folder)
        assert tree(folder) == expected
    print(f"import: {at - 1} points")
    assert at > 40


def test_other_data_are_not_overwritten(tmp_path: Path) -> None:
    hostile.tensor_file(tmp_path / "a.h5")
    import_file(tmp_path / "a.h5", tmp_path / "out", NONE, "periodic")
    before = tree(tmp_path / "out")
    import_file(tmp_path / "a.h5", tmp_path / "out", NONE, "periodic")
    with pytest.raises(OutputError, match="holds another data set"):
        import_file(tmp_path / "a.h5", tmp_path / "out", NONE, "wall")
    with pytest.raises(InputError, match="fewer than 3 trajectories"):
        import_file(
            tmp_path / "a.h5", tmp_path / "new", {**NONE, Split.TEST: 3}, "wall"
        )
    assert tree(tmp_path / "out") == before
