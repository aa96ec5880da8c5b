"""Killed at every call that changes the disk, or at any time: nothing is lost.

Each point is a child of this process that is ended by `os._exit` at the n-th call,
which is a kill for everything but the page cache; that survives both. What a power cut
takes besides is the matter of `test_power_loss.py`.
"""

import fcntl
import functools
import itertools
import os
import signal
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import hostile
import numpy as np
import pytest
import test_training_resume as resume
from disk_faults import ALL_CALLS, KILLED, SharedKillingDisk, exit_code_when_killed
from forked import Forked
from test_store_folder import counts, recipe, tree

from data_gen.build import build
from data_gen.importing import import_file
from pde_sym.seeds import Split
from pde_sym.store import files, read_manifest
from pde_sym.store.files import TEMPORARY

Work = Callable[[Path], object]
ONE = {Split.VALID: 1, Split.TEST: 1}
FEW, MANY = counts(train=3, valid=0, test=1), counts(train=7, valid=1, test=2)
SHORT = resume.CONFIG.model_copy(update={"updates": 5, "evaluate_every": 2})


def make(folder: Path) -> None:
    build(recipe(), MANY, folder)


def make_few(folder: Path) -> None:
    build(recipe(), FEW, folder)


def make_with_two_workers(folder: Path) -> None:
    build(recipe(), MANY, folder, run=Forked())


def spoil(folder: Path) -> None:
    """Leave a set with a lost, a damaged and a half-written shard."""
    make(folder)
    (folder / "data/test/heat-00000.hdf5").unlink()
    (folder / "data/train/heat-00001.hdf5").write_bytes(b"damaged")
    (folder / f"data/train/{TEMPORARY}rest").write_bytes(b"half")


def train(folder: Path) -> None:
    assert resume.train(folder, config=SHORT)


def start_training(folder: Path) -> None:
    assert not resume.train(folder, config=SHORT, stop_at=3)


def nothing(_folder: Path) -> None:
    pass


def assert_nothing_is_lost(folder: Path, expected: dict[str, str]) -> None:
    """What is listed is there, and no name holds anything else, after a kill."""
    if not (folder / "MANIFEST.json").exists():
        return
    found = tree(folder)
    for entry in read_manifest(folder, complete=False).shards:
        assert found[entry.file] == entry.sha256 == expected[entry.file]


def kill_at_every_call(
    folder: Path, work: Work, before: Work, kept: Work, equal: Work, step: int = 1
) -> int:
    """End `work` at its first call, its second, ..; return how many points there are.

    `before` brings about where it starts; `kept` looks at what a kill leaves, and
    `equal` at what the same work leaves when it is repeated.
    """
    for points, at in enumerate(itertools.count(1, step)):
        place = folder / f"{at}"
        before(place)
        disk = SharedKillingDisk(at)
        code = exit_code_when_killed(at, functools.partial(work, place), disk)
        if disk.shared.value < at:
            assert code == 0
            return points
        # With workers the parent may live, replace the dead one and finish.
        assert code in (0, KILLED)
        wait_for_lock(place)
        kept(place)
        work(place)
        equal(place)
    raise AssertionError


CASES: dict[str, tuple[Work, Work, int]] = {
    "generate": (make, nothing, 80),
    "generate with two workers": (make_with_two_workers, nothing, 80),
    "grow": (make, make_few, 50),
    "grow with two workers": (make_with_two_workers, make_few, 50),
    "repair": (make_with_two_workers, spoil, 20),
}


@pytest.mark.faults
@pytest.mark.parametrize("case", CASES)
def test_generate_at_every_call(tmp_path: Path, case: str) -> None:
    work, before, least = CASES[case]
    before(tmp_path / "whole")
    work(tmp_path / "whole")
    expected = tree(tmp_path / "whole")

    def equal(folder: Path) -> None:
        assert tree(folder) == expected

    kept = functools.partial(assert_nothing_is_lost, expected=expected)
    if before is spoil:
        kept = nothing
    points = kill_at_every_call(tmp_path, work, before, kept, equal)
    print(f"{case}: {points} points")
    assert points >= least


def test_two_workers_at_some_calls_of_a_small_set(tmp_path: Path) -> None:
    def work(folder: Path) -> None:
        build(recipe(), FEW, folder, run=Forked())

    make_few(tmp_path / "whole")
    expected = tree(tmp_path / "whole")

    def equal(folder: Path) -> None:
        assert tree(folder) == expected

    kept = functools.partial(assert_nothing_is_lost, expected=expected)
    assert kill_at_every_call(tmp_path, work, nothing, kept, equal, step=5) > 8


@pytest.mark.faults
@pytest.mark.parametrize("before", [nothing, start_training], ids=["new", "gone on"])
def test_train_at_every_call(tmp_path: Path, before: Work) -> None:
    train(tmp_path / "whole")

    def equal(folder: Path) -> None:
        resume.assert_same_run(folder, tmp_path / "whole")

    points = kill_at_every_call(tmp_path, train, before, nothing, equal)
    print(f"train: {points} points")
    assert points > 60


def kill_after(seconds: float, work: Callable[[], object]) -> bool:
    """Do `work` in a child that is killed after so long; return whether it was."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        try:
            work()
            os._exit(0)
        except Exception:  # noqa: BLE001
            traceback.print_exc()
        finally:
            os._exit(1)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


def wait_for_lock(folder: Path) -> None:
    """Wait for forks of a killed process, which have inherited its lock."""
    if (folder / files.LOCK).exists():
        with (folder / files.LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)


def kill_at_random(
    folder: Path, work: Work, times: int, kept: Work, equal: Work, seed: int = 0
) -> None:
    """Kill `work` so often, and go on with it until it is done, again and again."""
    draw = np.random.default_rng(seed)
    begin = time.monotonic()
    work(folder / "timed")
    duration = time.monotonic() - begin
    kills = round_number = 0
    while kills < times or round_number < 2:
        round_number += 1
        place = folder / f"{round_number}"
        while kills < times and kill_after(
            draw.uniform(0, duration), functools.partial(work, place)
        ):
            kills += 1
            wait_for_lock(place)
            kept(place)
        work(place)
        equal(place)
    print(f"{kills} kills at random times, {round_number} runs: nothing lost")


@pytest.mark.parametrize(
    "times", [10, pytest.param(200, marks=pytest.mark.faults)], ids=str
)
def test_generate_at_random_times(tmp_path: Path, times: int) -> None:
    make(tmp_path / "whole")
    expected = tree(tmp_path / "whole")

    def equal(folder: Path) -> None:
        assert tree(folder) == expected

    kept = functools.partial(assert_nothing_is_lost, expected=expected)
    for part, work in enumerate((make, make_with_two_workers)):
        (tmp_path / f"{part}").mkdir()
        kill_at_random(tmp_path / f"{part}", work, times // 2, kept, equal, part)


@pytest.mark.faults
def test_train_at_random_times(tmp_path: Path) -> None:
    train(tmp_path / "whole")

    def equal(folder: Path) -> None:
        resume.assert_same_run(folder, tmp_path / "whole")

    kill_at_random(tmp_path, train, 100, nothing, equal)


@pytest.mark.faults
def test_import_at_random_times(tmp_path: Path) -> None:
    """Also while the process that reads the file is at work, which dies with it."""
    hostile.seeds_file(tmp_path / "a.h5")

    def bring(folder: Path) -> None:
        import_file(tmp_path / "a.h5", folder, ONE, "periodic")

    bring(tmp_path / "whole")
    expected = tree(tmp_path / "whole")

    def equal(folder: Path) -> None:
        assert tree(folder) == expected

    kept = functools.partial(assert_nothing_is_lost, expected=expected)
    kill_at_random(tmp_path, bring, 50, kept, equal)


def test_the_comparison_sees_a_lost_shard(tmp_path: Path) -> None:
    make_few(tmp_path / "heat")
    expected = tree(tmp_path / "heat")
    (tmp_path / "heat/data/train/heat-00000.hdf5").unlink()
    with pytest.raises(KeyError):
        assert_nothing_is_lost(tmp_path / "heat", expected)


def test_every_call_that_changes_the_disk_is_a_point() -> None:
    assert set(ALL_CALLS) == {name for name in vars(files.Disk) if name[0] != "_"}
