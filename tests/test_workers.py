"""The bytes of a data set do not depend on who makes its shards, or who dies."""

import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dask import config
from distributed import Client, LocalCluster, Worker
from distributed.chaos import KillWorker
from test_store_folder import counts, recipe, tree

from data_gen.build import Piece, Task, build, make_file
from data_gen.recipes import read_recipe, resolve
from pde_sym.errors import InputError
from pde_sym.executor import Executor, executor
from pde_sym.seeds import Split
from pde_sym.store import ShardEntry, read_manifest

ROOT = Path(__file__).parents[1]
NUMBERS = counts(train=8, valid=1, test=3)


class Backwards:
    """Makes the last shard first, and some twice, as after a worker's death."""

    def map(
        self, function: Callable[[Any], Any], specs: Iterable[Any]
    ) -> Iterator[tuple[Any, Any]]:
        for number, spec in enumerate(reversed(list(specs))):
            if number % 2:
                function(spec)
            yield spec, function(spec)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("reference") / "heat"
    build(recipe(), NUMBERS, folder)
    return tree(folder)


def test_shards_in_any_order(tmp_path: Path, expected: dict[str, str]) -> None:
    seen: list[int] = []
    build(recipe(), NUMBERS, tmp_path / "heat", seen.append, run=Backwards())
    assert tree(tmp_path / "heat") == expected
    assert sum(seen) == 12


def test_two_workers(tmp_path: Path, expected: dict[str, str]) -> None:
    with executor(workers=2) as run:
        build(recipe(), NUMBERS, tmp_path / "heat", run=run)
        assert tree(tmp_path / "heat") == expected
        # What is gone is made again, and a larger set keeps what is there.
        (tmp_path / "heat/data/train/heat-00001.hdf5").unlink()
        build(recipe(), NUMBERS, tmp_path / "heat", run=run)
        assert tree(tmp_path / "heat") == expected


def make_slowly(task: Task) -> ShardEntry:
    time.sleep(0.3)
    return make_file(task)


class Slowly:
    """Maps a slower function, so that there is time to die."""

    def __init__(self, run: Executor) -> None:
        self.run = run

    def map(
        self,
        function: Callable[[Any], Any],  # noqa: ARG002
        specs: Iterable[Any],
    ) -> Iterator[tuple[Any, Any]]:
        return self.run.map(make_slowly, specs)


class KillFirst(KillWorker):
    """Kills the workers that are there, not those in their place, amid the work."""

    def __init__(self, folder: Path) -> None:
        super().__init__("0.1 s", "segfault")
        self.folder, self.flag = folder, folder.with_name("killed")

    async def setup(self, worker: Worker) -> None:
        if not self.flag.exists():
            await super().setup(worker)

    def segfault(self) -> None:
        if not list(self.folder.glob("data/*/*.hdf5")):
            self.worker.loop.call_later(0.05, self.segfault)
            return
        self.flag.touch()
        super().segfault()


@pytest.mark.faults
def test_workers_that_are_killed_half_way(
    tmp_path: Path, expected: dict[str, str]
) -> None:
    folder = tmp_path / "heat"
    with (
        config.set({"distributed.scheduler.no-workers-timeout": "600 s"}),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
        executor(scheduler=client.scheduler_info()["address"]) as run,
    ):
        client.register_plugin(KillFirst(folder))
        build(recipe(), NUMBERS, folder, run=Slowly(run))
    assert (tmp_path / "killed").exists()
    assert tree(folder) == expected


def test_a_task_is_small_whatever_the_user_brings(tmp_path: Path) -> None:
    pattern = tmp_path / "pattern.npy"
    np.save(pattern, np.linspace(0, 1, 32 * 32).reshape(32, 32))
    asked = resolve(
        "heat",
        ["bubbles=0.5"],
        [f"bubbles.field={pattern}"],
        None,
        {"resolution": 32, "frames": 3},
    )
    piece = Piece("data/train/heat-00000.hdf5", Split.TRAIN, 0, 1)
    sent = pickle.dumps(Task(piece, asked, tmp_path / "heat"))
    assert len(sent) < 4_000 < pattern.stat().st_size
    (tmp_path / "heat/data/train").mkdir(parents=True)
    here = make_file(Task(piece, asked, tmp_path / "heat"))
    assert make_file(pickle.loads(sent)) == here
    np.save(pattern, np.ones((32, 32)))
    with pytest.raises(InputError, match=r"pattern\.npy: changed since"):
        make_file(pickle.loads(sent))


WORDS = (
    "heat --resolution 8 --set initial.modes=3 --set shard_size=2 --frames 60 "
    "--train 40 --valid 0 --test 0"
)


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_command_with_workers_is_ended_and_repeated(
    tmp_path: Path, number: signal.Signals
) -> None:
    """The signal comes to the whole group, as from a terminal, but for a kill."""
    folder = tmp_path / "heat"
    words = ["generate", *WORDS.split(), "--out", str(folder)]
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments", *words, "--workers", "2"],
        cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    while process.poll() is None and not list(folder.glob("data/train/*.hdf5")):
        time.sleep(0.02)
    start = time.monotonic()
    if number is signal.SIGKILL:
        process.kill()
    else:
        os.killpg(process.pid, number)
    errors = process.communicate(timeout=20)[1]
    assert time.monotonic() - start < 10
    assert process.returncode == {2: 130, 15: 143, 9: -9}[number]
    assert "Traceback" not in errors
    assert ("goes on" in errors) == (number is not signal.SIGKILL)
    asked, numbers = read_recipe(folder), counts(40, 0, 0)
    assert len(read_manifest(folder, complete=False).shards) < 20
    # At once, and in one process: the lock is free and the bytes are the same.
    build(asked, numbers, folder)
    build(asked, numbers, tmp_path / "whole")
    assert tree(folder) == tree(tmp_path / "whole")
