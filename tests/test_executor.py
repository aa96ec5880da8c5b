"""Functions mapped over specifications: here, on two processes, and with deaths."""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pde_sym.errors import InputError, Lost, LostTrajectoryError, WorkerError
from pde_sym.executor import MAX_DEATHS, Executor, add_arguments, executor

ROOT = Path(__file__).parents[1]


def square(number: int) -> tuple[int, int]:
    return number**2, os.getpid()


def die_over_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def die_once(flag: str) -> str:
    path = Path(flag)
    if not path.exists():
        path.write_text("dead")
        os.kill(os.getpid(), signal.SIGKILL)
    return path.read_text()


def lose(number: int) -> int:
    raise LostTrajectoryError([Lost(number, "u", "is not finite", 0.5)])


@pytest.fixture(scope="module")
def two() -> Iterator[Executor]:
    with executor(workers=2) as run:
        yield run


def test_in_this_process() -> None:
    with executor() as run:
        results = list(run.map(square, range(3)))
    assert results == [(n, (n**2, os.getpid())) for n in range(3)]


def test_nothing_runs_before_it_is_asked_for() -> None:
    with executor() as run:
        results = run.map(lose, [1])
        with pytest.raises(LostTrajectoryError):
            next(results)


def test_two_processes_share_the_work(two: Executor) -> None:
    results = dict(two.map(square, range(20)))
    assert {n: value for n, (value, _) in results.items()} == {
        n: n**2 for n in range(20)
    }
    assert os.getpid() not in {pid for _, pid in results.values()}


def test_workers_allocate_as_this_process_does(two: Executor) -> None:
    assert dict(two.map(os.getenv, ["MALLOC_TRIM_THRESHOLD_", "OMP_NUM_THREADS"])) == {
        "MALLOC_TRIM_THRESHOLD_": os.environ.get("MALLOC_TRIM_THRESHOLD_"),
        "OMP_NUM_THREADS": "1",
    }


def test_an_error_of_ours_comes_back_whole(two: Executor) -> None:
    with pytest.raises(LostTrajectoryError, match="trajectory 4: u is not") as caught:
        list(two.map(lose, [4]))
    assert caught.value.lost == (Lost(4, "u", "is not finite", 0.5),)


def test_a_worker_that_dies_costs_its_own_work_only(
    two: Executor, tmp_path: Path
) -> None:
    flags = [str(tmp_path / name) for name in "ab"]
    assert dict(two.map(die_once, flags)) == dict.fromkeys(flags, "dead")


def test_what_kills_every_worker_is_named_and_the_rest_is_done(two: Executor) -> None:
    done: dict[int, int] = {}
    with pytest.raises(WorkerError, match=rf"^3: {MAX_DEATHS + 1} workers died") as c:
        done.update(two.map(die_over_three, range(8)))
    assert done == {n: n for n in range(8) if n != 3}
    assert c.value.exit_code == 6
    assert dict(two.map(square, [5]))[5][0] == 25


PARENT = """
import os, sys, time
from pde_sym.executor import executor

def spin(number):
    os.write(1, b"%d\\n" % os.getpid())
    time.sleep(60)

if __name__ == "__main__":
    workers = int(sys.argv[1])
    with executor(workers=workers) as run:
        list(run.map(spin, range(workers)))
"""


def is_alive(process: int) -> bool:
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize(
    ("workers", "times"),
    [
        (2, 1),
        pytest.param(2, 5, marks=pytest.mark.faults),
        pytest.param(4, 5, marks=pytest.mark.faults),
    ],
)
def test_no_worker_outlives_the_process_that_started_it(
    tmp_path: Path, workers: int, times: int
) -> None:
    """None is left 2 s after its end, with a kill that it cannot hear coming."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    for _ in range(times):
        with subprocess.Popen(
            [sys.executable, str(script), str(workers)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        ) as parent:
            assert parent.stdout is not None
            started = [int(parent.stdout.readline()) for _ in range(workers)]
            assert all(is_alive(worker) for worker in started)
            parent.kill()
            # A busy system may take its time over the kill itself.
            parent.wait()
            end = time.monotonic() + 2
            while any(map(is_alive, started)) and time.monotonic() < end:
                time.sleep(0.02)
            assert not any(map(is_alive, started))


def listening() -> set[str]:
    """Return the addresses that processes of ours listen on, in hex as in /proc."""
    own = set()
    for folder in Path("/proc").glob("[0-9]*/fd"):
        try:
            own |= {str(file.readlink()) for file in folder.iterdir()}
        except OSError:
            continue
    sockets = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    rows = [line.split() for line in sockets.splitlines()]
    return {r[1] for r in rows if r[3] == "0A" and f"socket:[{r[9]}]" in own}


def test_workers_listen_on_the_loopback_alone() -> None:
    before = listening()
    with executor(workers=1) as run:
        list(run.map(square, [1]))
        opened = listening() - before
    assert opened
    assert {address.split(":")[0] for address in opened} == {"0100007F"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "--workers 0: expected a number >= 1"),
        ({"workers": 257}, "--workers 257: expected a number >= 1 and <= 256"),
        ({"workers": 1, "scheduler": "tcp://127.0.0.1:1"}, "give one of them"),
        ({"scheduler": "nonsense://here"}, "--scheduler nonsense://here: no Dask"),
    ],
)
def test_wrong_options_are_one_line(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message), executor(**options):
        pass


def test_options_of_a_command() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert vars(parser.parse_args([])) == {"workers": None, "scheduler": None}
    words = ["--workers", "2", "--scheduler", "tcp://a:1"]
    assert vars(parser.parse_args(words)) == {"workers": 2, "scheduler": "tcp://a:1"}
