"""Two workers as forks of a warm process: the order and the deaths of a cluster.

A start of Python per kill point would cost minutes; a fork costs milliseconds. What
Dask itself does when workers die is the matter of `test_workers.py`.
"""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from pde_sym.store.files import LOCK

WORKERS = 2


class Forked:
    """An executor whose workers are replaced when they die."""

    def __init__(self) -> None:
        self.deaths = 0

    def map(
        self, function: Callable[[Any], Any], specs: Iterable[Any]
    ) -> Iterator[tuple[Any, Any]]:
        todo = list(specs)
        # Every other one, so that results come out of order.
        shares = [list(range(w, len(todo), WORKERS)) for w in range(WORKERS)]
        running = {start(function, todo, share): share for share in shares if share}
        while running:
            for pipe in wait(list(running)):
                assert isinstance(pipe, Connection)
                share = running[pipe]
                try:
                    number, result = pipe.recv()
                except EOFError:
                    os.waitpid(-1, os.WNOHANG)
                    del running[pipe]
                    if share:
                        self.deaths += 1
                        running[start(function, todo, share)] = share
                    continue
                share.remove(number)
                if isinstance(result, Exception):
                    raise result
                yield todo[number], result


def start(
    function: Callable[[Any], Any], todo: Sequence[Any], share: Sequence[int]
) -> Connection:
    """Fork a worker that does its share; return where its results come from."""
    receive, send = multiprocessing.Pipe(duplex=False)
    parent = os.getpid()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        send.close()
        with contextlib.suppress(EOFError):
            receive.recv()
        return receive
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        leave_lock()
        # Until here it holds what a parent that ends at once would have let go.
        send.send(None)
        if os.getppid() == parent:
            for number in share:
                try:
                    send.send((number, function(todo[number])))
                except Exception as error:  # noqa: BLE001
                    send.send((number, error))
    finally:
        os._exit(0)


def leave_lock() -> None:
    """Close the lock of the parent, which the workers of a cluster do not inherit."""
    for file in Path("/proc/self/fd").iterdir():
        try:
            held = file.readlink().name == LOCK
        except OSError:
            continue
        if held:
            os.close(int(file.name))
