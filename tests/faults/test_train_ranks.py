"""`pde-sym train` by two processes, killed or asked to stop, ends with the same bytes.

The processes are forks of this one, or those that torchrun starts.
"""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from forked_ranks import exit_codes
from test_ranks import distance
from test_store_folder import ROOT, tree
from test_train_kills import (
    UPDATES,
    Disturbed,
    assert_same_bytes,
    command,
    make_data,
    train,
)

from experiments.__main__ import main
from pde_sym.checkpoint import load_checkpoint
from pde_sym.dataset import MemoryWindows
from pde_sym.training_state import read_log

SIZE = 2
LAST = f"checkpoints/step-{UPDATES:08d}"
PATIENCE = 600
"""Seconds for starts of Python and of torch, on a machine with other work."""
GONE = "another process of this training is gone"


def asked(windows: MemoryWindows, hook: Disturbed, indices: list[int]) -> object:
    """Serve a batch in the way of `hook`."""
    return hook(windows, indices)


def together(out: Path, rank: int = -1, hook: Disturbed | None = None) -> list[int]:
    """Train on two ranks, of which one may be disturbed; return their exit codes."""

    def one(own: int) -> int:
        if hook is None or own != rank:
            return train(out)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(MemoryWindows, "batch", functools.partialmethod(asked, hook))
            return train(out)

    return exit_codes(SIZE, one)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with data and the run of two ranks that nothing disturbs."""
    folder = tmp_path_factory.mktemp("ranks")
    make_data(folder / "data")
    assert together(folder / "straight") == [0] * SIZE
    return folder


def test_two_processes_end_as_one_does(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Weights and log up to rounding, what was asked for to the byte, one report."""
    assert train(place / "alone") == 0
    alone = json.loads(capfd.readouterr().out)
    assert together(place / "again") == [0] * SIZE
    said = capfd.readouterr()
    ranks = json.loads(said.out)
    assert said.err == ""
    assert abs(ranks["valid_vrmse"] - alone["valid_vrmse"]) <= 1e-6
    for key in ("model", "parameters", "updates", "best_update"):
        assert ranks[key] == alone[key]
    one, other = place / "alone", place / "straight"
    assert (one / "run.json").read_bytes() == (other / "run.json").read_bytes()
    for row, same in zip(read_log(one), read_log(other), strict=True):
        assert row == pytest.approx(same, rel=1e-5)
    a, b = (load_checkpoint(run / LAST).tensors for run in (one, other))
    print(f"weights and moments differ by {distance(a, b):.1e}")
    assert 0 < distance(a, b) <= 1e-6


def test_two_runs_of_two_processes_are_equal(place: Path) -> None:
    assert together(place / "twice") == [0] * SIZE
    assert tree(place / "twice") == tree(place / "straight")


@pytest.mark.parametrize(
    "times", [1, pytest.param(10, marks=pytest.mark.faults)], ids=str
)
def test_one_of_two_is_killed(
    place: Path, capfd: pytest.CaptureFixture[str], times: int
) -> None:
    """The other one ends too and says why; repeated, the run is the undisturbed one."""
    updates = np.random.default_rng(times).choice(UPDATES, times, replace=False)
    for number, update in enumerate(updates.tolist()):
        out, killed = place / f"killed-{times}-{number}", number % SIZE
        hook = Disturbed(update, signal.SIGKILL, 0.0)
        codes = together(out, killed, hook)
        assert codes == [-9, 6] if killed == 0 else codes == [6, -9]
        said = capfd.readouterr()
        assert said.err.startswith(f"pde-sym train, rank {1 - killed}: {GONE}")
        assert len(said.err.splitlines()) == 1
        assert not (out / LAST).exists()
        assert together(out) == [0] * SIZE
        assert tree(out) == tree(place / "straight")


@pytest.mark.parametrize("rank", [0, pytest.param(1, marks=pytest.mark.faults)])
def test_one_of_two_is_asked_to_stop(
    place: Path, capfd: pytest.CaptureFixture[str], rank: int
) -> None:
    """Both do after the same update, with the code of the signal."""
    out, stop = place / f"asked-{rank}", 13
    codes = together(out, rank, Disturbed(stop, signal.SIGTERM, 0.0))
    assert codes == [143] * SIZE
    assert (out / f"checkpoints/step-{stop + 1:08d}").exists()
    assert capfd.readouterr().err.count("stopped; the same command goes on") == 1
    assert together(out) == [0] * SIZE
    assert_same_bytes(out)


def test_an_error_names_the_rank(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    few = [*command(place / "few"), "--set", "training.batch_size=1"]
    assert exit_codes(SIZE, lambda _: main(few)) == [2, 2]
    lines = sorted(capfd.readouterr().err.splitlines())
    for rank, line in enumerate(lines):
        expected = f"pde-sym train, rank {rank}: training.batch_size: expected at least"
        assert line.startswith(expected)
    assert len(lines) == SIZE


def test_a_dry_run_is_told_once(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    dry = [*command(place / "dry"), "--dry-run"]
    assert exit_codes(SIZE, lambda _: main(dry)) == [0, 0]
    assert json.loads(capfd.readouterr().out)["windows"] > 0
    assert not (place / "dry").exists()


class Launched:
    """torchrun with two ranks of `pde-sym train`."""

    def __init__(self, out: Path, restarts: int = 0) -> None:
        self.out = out
        words = ["--standalone", "--nproc-per-node", str(SIZE)]
        words += ["--max-restarts", str(restarts), "-m", "experiments", *command(out)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *words],
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            cwd=out.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ranks(self) -> dict[int, int]:
        """Return the process of each rank."""
        own = self.process.pid
        children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        found = {}
        for child in map(int, children):
            lines = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
            values = [line[5:] for line in lines if line.startswith(b"RANK=")]
            found |= {int(value): child for value in values}
        return found

    def wait_for(self, happened: Callable[[], object]) -> None:
        until = time.monotonic() + PATIENCE
        while not happened():
            assert self.process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.005)

    def under_way(self) -> bool:
        return (self.out / "checkpoints/step-00000009").exists()

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err


def is_alive(process: int) -> bool:
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
    return "State:\tZ" not in status


@pytest.mark.faults
def test_torchrun_ends_with_the_same_bytes(place: Path) -> None:
    launched = Launched(place / "launched")
    code, out, err = launched.end()
    assert code == 0, err
    assert json.loads(out)["updates"] == UPDATES
    assert tree(place / "launched") == tree(place / "straight")


@pytest.mark.faults
@pytest.mark.parametrize("rank", range(SIZE))
def test_torchrun_starts_again_when_one_is_killed(place: Path, rank: int) -> None:
    launched = Launched(place / f"restarted-{rank}", restarts=2)
    launched.wait_for(launched.under_way)
    first = launched.ranks()
    os.kill(first[rank], signal.SIGKILL)
    begin = time.monotonic()
    launched.wait_for(lambda: not any(map(is_alive, first.values())))
    assert time.monotonic() - begin < 30
    code, out, err = launched.end()
    assert code == 0, err
    assert json.loads(out)["updates"] == UPDATES
    assert f"rank {1 - rank}: {GONE}" in err
    assert tree(launched.out) == tree(place / "straight")


@pytest.mark.faults
def test_torchrun_names_the_rank_that_was_killed(place: Path) -> None:
    launched = Launched(place / "named")
    launched.wait_for(launched.under_way)
    first = launched.ranks()
    os.kill(first[1], signal.SIGKILL)
    begin = time.monotonic()
    code, _, err = launched.end()
    assert time.monotonic() - begin < 30
    assert code == 1
    assert f"rank 0: {GONE}" in err
    assert f"(pid: {first[1]}) of binary" in err
    assert "rank      : 1 " in err
    assert not any(map(is_alive, first.values()))
    assert together(launched.out) == [0] * SIZE
    assert tree(launched.out) == tree(place / "straight")


@pytest.mark.faults
@pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGTERM], ids=lambda n: n.name
)
def test_no_rank_outlives_torchrun(place: Path, number: signal.Signals) -> None:
    """They save and end, whether it dies or passes the signal on."""
    launched = Launched(place / f"launcher-{number.name}")
    launched.wait_for(launched.under_way)
    ranks = launched.ranks()
    assert len(ranks) == SIZE
    os.kill(launched.process.pid, number)
    begin = time.monotonic()
    while any(map(is_alive, ranks.values())):
        # torchrun itself ends them after 30 s.
        assert time.monotonic() - begin < 60
        time.sleep(0.05)
    print(f"{number.name}: ranks were gone after {time.monotonic() - begin:.1f} s")
    _, _, err = launched.end()
    assert "stopped; the same command goes on" in err
    assert not (launched.out / LAST).exists()
    assert together(launched.out) == [0] * SIZE
    assert_same_bytes(launched.out)
