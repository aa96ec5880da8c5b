"""A disk that refuses, at any call and for any reason, costs one line and no file."""

import errno
import fcntl
import os
import resource
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hostile
import pytest
import test_training_resume as resume
from disk_faults import ALL_CALLS, FailingDisk, SharedKillingDisk
from forked import Forked
from test_store_folder import counts, recipe, tree
from warm_reader import WarmReader

from data_gen import importing
from data_gen.build import build
from experiments.__main__ import main
from pde_sym.errors import OutputError
from pde_sym.seeds import Split
from pde_sym.store import files, read_manifest
from pde_sym.store.files import TEMPORARY
from pde_sym.store.sandbox import Import

CODES = ("ENOSPC", "EIO", "EDQUOT", "EROFS", "EACCES", "EMFILE", "EFBIG", "ESTALE")
REASON = {code: os.strerror(getattr(errno, code)) for code in CODES}
FEW = counts(train=3, valid=0, test=1)
ONE = {Split.VALID: 1, Split.TEST: 1}
SHORT = resume.CONFIG.model_copy(update={"updates": 3, "evaluate_every": 2})


class SharedFailingDisk(SharedKillingDisk):
    """Refuses at one call of a process and its children, or at all from it on."""

    def __init__(self, at: int, error: OSError, *, for_good: bool) -> None:
        super().__init__(at)
        self.error, self.for_good = error, for_good

    def fail(self, name: str, *_arguments: object) -> None:
        # A full disk still lets go of files.
        if name != "remove" or not self.for_good:
            raise self.error


def refuse_at_every_call(
    folder: Path,
    work: Callable[[Path], object],
    equal: Callable[[Path], None],
    code: str,
    *,
    for_good: bool,
    step: int = 1,
) -> int:
    """Let the disk refuse at every call; return how many points there are."""
    points, at = 0, 1
    while True:
        place = folder / f"{at}"
        disk = SharedFailingDisk(
            at, OSError(getattr(errno, code), REASON[code]), for_good=for_good
        )
        files.disk = disk
        try:
            work(place)
        except OutputError as error:
            assert "\n" not in str(error)  # noqa: PT017
            assert REASON[code] in str(error)  # noqa: PT017
        finally:
            files.disk = files.Disk()
        if disk.shared.value < at:
            return points
        points, at = points + 1, at + step
        work(place)
        equal(place)


def assert_whole_or_absent(folder: Path, expected: dict[str, str]) -> None:
    if folder.exists():
        found = {n: h for n, h in tree(folder).items() if n.endswith(".hdf5")}
        assert found.items() <= expected.items()


@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize(
    ("code", "step"),
    [("ENOSPC", 9), *(pytest.param(c, 1, marks=pytest.mark.faults) for c in CODES)],
)
def test_generate(tmp_path: Path, code: str, step: int, for_good: bool) -> None:
    build(recipe(), FEW, tmp_path / "whole")
    expected = tree(tmp_path / "whole")

    def work(folder: Path) -> None:
        try:
            build(recipe(), FEW, folder)
        except OutputError:
            assert_whole_or_absent(folder, expected)
            if for_good:
                assert not list(folder.rglob(f"{TEMPORARY}*"))
            raise

    def equal(folder: Path) -> None:
        assert tree(folder) == expected

    points = refuse_at_every_call(
        tmp_path, work, equal, code, for_good=for_good, step=step
    )
    print(f"{code}: {points} points")
    assert points * step > 40


@pytest.mark.faults
@pytest.mark.parametrize("code", CODES[:2])
def test_generate_with_two_workers(tmp_path: Path, code: str) -> None:
    build(recipe(), FEW, tmp_path / "whole")
    expected = tree(tmp_path / "whole")

    def work(folder: Path) -> None:
        build(recipe(), FEW, folder, run=Forked())

    def equal(folder: Path) -> None:
        assert tree(folder) == expected

    points = refuse_at_every_call(tmp_path, work, equal, code, for_good=True)
    assert points > 20


@pytest.mark.faults
@pytest.mark.parametrize("code", CODES)
def test_train(tmp_path: Path, code: str) -> None:
    assert resume.train(tmp_path / "whole", config=SHORT)

    def work(folder: Path) -> None:
        assert resume.train(folder, config=SHORT)

    def equal(folder: Path) -> None:
        resume.assert_same_run(folder, tmp_path / "whole")

    # For two of the reasons every call, for the others some.
    step = 1 if code in CODES[:2] else 5
    points = refuse_at_every_call(
        tmp_path, work, equal, code, for_good=False, step=step
    )
    print(f"train, {code}: {points} points")
    assert points * step > 40


@pytest.fixture
def bring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], object]:
    """Return an import of one file, whose reading is done once for all."""
    path, answer = tmp_path / "a.h5", tmp_path / "answer"
    hostile.seeds_file(path)
    with WarmReader(tmp_path / "heard") as reader:
        answer.write_bytes(reader.read(path).said)

    @contextmanager
    def reading(path: Path, *_: object) -> Iterator[Import]:
        with answer.open("rb") as stdout:
            child: Any = SimpleNamespace(stdout=stdout, wait=lambda: 0)
            yield Import(path, child, time.monotonic() + 10)

    monkeypatch.setattr(importing, "reading", reading)
    return lambda folder: importing.import_file(path, folder, ONE, "periodic")


@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize(
    ("code", "step"),
    [("ENOSPC", 9), *(pytest.param(c, 1, marks=pytest.mark.faults) for c in CODES)],
)
def test_import(
    tmp_path: Path,
    bring: Callable[[Path], object],
    code: str,
    step: int,
    for_good: bool,
) -> None:
    bring(tmp_path / "whole")
    expected = tree(tmp_path / "whole")

    def work(folder: Path) -> None:
        try:
            bring(folder)
        except OutputError:
            assert_whole_or_absent(folder, expected)
            raise

    def equal(folder: Path) -> None:
        assert tree(folder) == expected

    points = refuse_at_every_call(
        tmp_path, work, equal, code, for_good=for_good, step=step
    )
    print(f"import, {code}: {points} points")
    assert points * step > 40


@pytest.mark.parametrize(
    "words",
    [
        "generate heat --resolution 16 --frames 2 --train 1 --valid 0 --test 0",
        "import FILE --boundary wall --valid 1",
        "train --data DATA --model cnn --width 2 --updates 1",
    ],
)
def test_a_command_says_it_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: str,
) -> None:
    places = {"FILE": str(tmp_path / "a.h5"), "DATA": str(tmp_path / "data")}
    hostile.seeds_file(tmp_path / "a.h5")
    build(recipe(), counts(train=2, valid=1, test=0), tmp_path / "data")
    command = [places.get(word, word) for word in words.split()]
    command += ["--out", str(tmp_path / "out")]
    for code in ("ENOSPC", "EMFILE"):
        error = OSError(getattr(errno, code), REASON[code])
        monkeypatch.setattr(files, "disk", FailingDisk(4, error))
        assert main(command) == OutputError.exit_code
        (line,) = capsys.readouterr().err.splitlines()
        assert REASON[code] in line
    monkeypatch.setattr(files, "disk", files.Disk())
    assert main(command) == 0


class ShortDisk(files.Disk):
    """Writes a few bytes at a time, as a disk may."""

    def write(self, descriptor: int, data: memoryview) -> int:
        return super().write(descriptor, data[:997])


def test_short_writes(
    tmp_path: Path, bring: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    makers: tuple[Callable[[Path], object], ...] = (
        lambda folder: build(recipe(), FEW, folder),
        bring,
    )
    for number, make in enumerate(makers):
        make(tmp_path / f"{number}-whole")
    assert resume.train(tmp_path / "run-whole", config=SHORT)
    monkeypatch.setattr(files, "disk", ShortDisk())
    for number, make in enumerate(makers):
        make(tmp_path / f"{number}")
        assert tree(tmp_path / f"{number}") == tree(tmp_path / f"{number}-whole")
    assert resume.train(tmp_path / "run", config=SHORT)
    resume.assert_same_run(tmp_path / "run", tmp_path / "run-whole")


def in_child(work: Callable[[], object]) -> Callable[[], int]:
    """Start `work` in a fork; return what waits for its exit code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        code = 1
        try:
            work()
            code = 0
        except OutputError:
            code = OutputError.exit_code
        finally:
            os._exit(code)
    return lambda: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_limit_of_the_system_on_the_size_of_files(tmp_path: Path) -> None:
    """What the kernel does itself: the write that crosses the limit is cut short."""
    build(recipe(), FEW, tmp_path / "whole")

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        build(recipe(), FEW, tmp_path / "heat")

    assert in_child(work)() == OutputError.exit_code
    assert not list((tmp_path / "heat").rglob("*.hdf5"))
    assert not list((tmp_path / "heat").rglob(f"{TEMPORARY}*"))
    build(recipe(), FEW, tmp_path / "heat")
    assert tree(tmp_path / "heat") == tree(tmp_path / "whole")


@pytest.mark.parametrize(
    "times", [1, pytest.param(20, marks=pytest.mark.faults)], ids=str
)
@pytest.mark.parametrize("locks", ["work", "do nothing", "are not there"])
def test_many_generators_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: str, times: int
) -> None:
    """One of them makes the set; without locks they may disturb, not corrupt."""
    numbers = counts(train=7, valid=1, test=2)
    build(recipe(), numbers, tmp_path / "whole")
    expected = tree(tmp_path / "whole")

    def flock(_descriptor: int, _operation: int) -> None:
        if locks == "are not there":
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    if locks != "work":
        monkeypatch.setattr(fcntl, "flock", flock)
    for number in range(times):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        waits = [
            in_child(lambda f=folder: build(recipe(), numbers, f)) for _ in range(4)
        ]
        codes = [wait() for wait in waits]
        assert set(codes) <= {0, OutputError.exit_code}
        if locks == "work":
            assert 0 in codes
        assert_whole_or_absent(folder, expected)
        read_manifest(folder, complete=locks == "work")
        build(recipe(), numbers, folder)
        assert tree(folder) == expected


def test_what_counts_as_a_call() -> None:
    disk = FailingDisk(0, counted=ALL_CALLS)
    for name in ALL_CALLS:
        with pytest.raises(TypeError):
            getattr(disk, name)()
    assert disk.calls == len(ALL_CALLS)
