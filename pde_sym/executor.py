"""A function mapped over specifications, in this process or on the workers of Dask.

>>> with executor() as run:  # in this process
...     dict(run.map(abs, [-2, 1]))
{-2: 2, 1: 1}

``executor(workers=2)`` starts two processes here and ends them at the close,
``executor(scheduler="tcp://10.0.0.5:8786")`` uses a cluster that is there, for instance
one of dask-jobqueue under Slurm. What a command should offer of this is added and
opened so::

    add_arguments(parser)
    with executor(arguments.workers, arguments.scheduler) as run:
        for spec, result in run.map(train_one, specs):
            ...

The function is one that workers can import by name. It takes a small specification,
writes its arrays to the disk itself and returns a small result, so that nothing large
passes the scheduler. It may run more than once for a specification, when a worker dies:
the second run must leave what the first one left.

Processes of a cluster exchange pickles: whoever reaches the port of a scheduler or a
worker can run code there. Those that are started here listen on the loopback alone; a
scheduler elsewhere belongs into a private network.
"""

import argparse
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pde_sym.errors import InputError, WorkerError

if TYPE_CHECKING:
    from distributed import Client, Future

Spec = TypeVar("Spec")
Result = TypeVar("Result")

MAX_DEATHS = 3
"""Workers that may die over a specification before it is given up."""
MAX_WORKERS = 256
"""Processes that this machine is asked to start."""
NO_WORKER_SECONDS = 60
"""How long local work waits when all workers are gone."""
_PR_SET_PDEATHSIG = 1
_PARENT = "PDE_SYM_PARENT"
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_CONNECT_SECONDS = 10


class Executor(Protocol):
    """What runs a function for each of some specifications."""

    def map(
        self, function: Callable[[Spec], Result], specs: Iterable[Spec]
    ) -> Iterator[tuple[Spec, Result]]:
        """Yield each specification with its result as soon as there is one.

        The order is that of the results, not of the specifications.

        Raises
        ------
        WorkerError
            After the other results, when `MAX_DEATHS` workers and one more died over a
            specification, which it names; or when scheduler or workers are gone.
        Exception
            What the function raises ends the iteration.
        """
        ...


class InProcess:
    """Runs one after the other, in this process."""

    def map(
        self, function: Callable[[Spec], Result], specs: Iterable[Spec]
    ) -> Iterator[tuple[Spec, Result]]:
        for spec in specs:
            yield spec, function(spec)


class OnDask:
    """Runs on the workers of a cluster, given a connection to its scheduler."""

    def __init__(self, client: "Client") -> None:
        self._client = client

    def map(
        self, function: Callable[[Spec], Result], specs: Iterable[Spec]
    ) -> Iterator[tuple[Spec, Result]]:
        suspects: list[Spec] = []
        yield from self._all_at_once(function, specs, suspects)
        # Whatever waited on a worker that died is suspected. One at a time, only what
        # kills a worker itself is found guilty.
        guilty: list[Spec] = []
        for spec in suspects:
            yield from self._all_at_once(function, [spec], guilty)
        if guilty:
            raise WorkerError(
                f"{guilty[0]}: {MAX_DEATHS + 1} workers died over it"
                + (f", and over {len(guilty) - 1} more" if guilty[1:] else "")
                + "; the rest is done. Look for memory that ran out or a crash, then "
                "repeat the command"
            )

    def _all_at_once(
        self,
        function: Callable[[Spec], Result],
        specs: Iterable[Spec],
        killers: list[Spec],
    ) -> Iterator[tuple[Spec, Result]]:
        """Yield results; append to `killers` over what more than `MAX_DEATHS` died."""
        from distributed import KilledWorker, as_completed
        from distributed.scheduler import NoWorkerError

        pending: dict[Any, tuple[Future, Spec]] = {}
        for spec in specs:
            future = self._client.submit(function, spec, pure=False)
            pending[future.key] = future, spec
        try:
            for future in as_completed([future for future, _ in pending.values()]):
                _, spec = pending.pop(future.key)
                try:
                    result = future.result()
                except KilledWorker:
                    killers.append(spec)
                except (CancelledError, NoWorkerError) as error:
                    lost = isinstance(error, CancelledError)
                    raise WorkerError(
                        ("the scheduler was lost" if lost else "no worker is left")
                        + "; repeat the command to go on"
                    ) from error
                else:
                    yield spec, result
        finally:
            self._client.cancel([future for future, _ in pending.values()])


@contextmanager
def executor(
    workers: int | None = None, scheduler: str | None = None
) -> Iterator[Executor]:
    """Open an executor: in this process, unless one of these is given.

    Parameters
    ----------
    workers
        Number of processes to start on this machine, of one thread each.
    scheduler
        Address of the scheduler of a cluster.

    Raises
    ------
    InputError
        When both are given, the number is below 1 or the scheduler does not answer.
    """
    if workers is not None and scheduler is not None:
        raise InputError("--workers and --scheduler: give one of them")
    if workers is not None:
        with _local(workers) as run:
            yield run
    elif scheduler is not None:
        with _remote(scheduler) as run:
            yield run
    else:
        yield InProcess()


@contextmanager
def _local(workers: int) -> Iterator[Executor]:
    if not 1 <= workers <= MAX_WORKERS:
        raise InputError(
            f"--workers {workers!s:.80}: expected a number >= 1 and <= {MAX_WORKERS}; "
            "more come with --scheduler"
        )
    import logging

    from dask import config
    from distributed import Client, LocalCluster

    settings = {
        "distributed.scheduler.allowed-failures": MAX_DEATHS,
        # What waits stays with the scheduler, not with a worker that may die.
        "distributed.scheduler.worker-saturation": 1.0,
        # A worker that dies while it starts is not replaced.
        "distributed.scheduler.no-workers-timeout": f"{NO_WORKER_SECONDS} s",
        # Dask's 64 KiB also fixes the size above which memory is mapped anew for each
        # array, whose pages training then waits for.
        "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
    }
    with (
        config.set(settings),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
            env={**dict.fromkeys(_THREADS, "1"), _PARENT: str(os.getpid())},
            preload=[__name__],
        ) as cluster,
        Client(cluster) as client,
    ):
        yield OnDask(client)


@contextmanager
def _remote(scheduler: str) -> Iterator[Executor]:
    from distributed import Client

    try:
        client = Client(scheduler, timeout=_CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise InputError(
            f"--scheduler {scheduler}: no Dask scheduler answers there, expected an "
            f"address such as tcp://127.0.0.1:8786 ({error})"
        ) from error
    with client:
        yield OnDask(client)


def dask_setup(_worker: object) -> None:
    """Tie a worker to the process that started it; Dask calls this at its start."""
    # Ctrl-C comes to the whole group: the parent ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Dask's own watch is a thread, which compiled code may keep waiting.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.environ[_PARENT] != str(os.getppid()):
        os._exit(1)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--workers`` and ``--scheduler``."""
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes on this machine, one thread each (none: all in this process)",
    )
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="a Dask cluster that shares this disk, tcp://HOST:PORT",
    )
