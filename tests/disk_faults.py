"""Disks that fail, or end the process, at a chosen call; put one in `files.disk`."""

import errno
import multiprocessing
import os
import warnings
from collections.abc import Callable
from typing import Any

from pde_sym.store import files

FILE_CALLS = ("create", "append", "write", "sync", "rename")
CALLS = (*FILE_CALLS, "make_folder")
"""What counts as a call, if a disk is not told otherwise."""
ALL_CALLS = (*CALLS, "remove")
KILLED = 9
"""Exit code of a process that a `KillingDisk` has ended."""


def disk_error(code: int = errno.ENOSPC) -> OSError:
    """Return the error of a full disk, or another of the system's."""
    return OSError(code, "injected")


class FailingDisk(files.Disk):
    """Raises `error` at call number `at`, and at the later ones when `for_good`.

    Counts its calls from 1, so `at` = 0 only counts.
    """

    def __init__(
        self,
        at: int,
        error: BaseException | None = None,
        *,
        for_good: bool = False,
        counted: tuple[str, ...] = CALLS,
    ) -> None:
        self.at, self.error, self.for_good = at, error or disk_error(), for_good
        self.counted, self.calls = counted, 0

    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        if name not in ALL_CALLS or name not in self.counted:
            return method

        def call(*arguments: Any) -> Any:
            number = self.count()
            if number == self.at or (self.for_good and number > self.at):
                self.fail(name, *arguments)
            return method(*arguments)

        return call

    def count(self) -> int:
        """Return the number of the next call."""
        self.calls += 1
        return self.calls

    def fail(self, name: str, *arguments: Any) -> None:  # noqa: ARG002
        """Do what happens in place of the call `name`."""
        raise self.error


class KillingDisk(FailingDisk):
    """Ends the process without a word at call number `at`, a write half done."""

    def fail(self, name: str, *arguments: Any) -> None:
        if name == "write":
            descriptor, data = arguments
            os.write(descriptor, data[: len(data) // 2])
        os._exit(KILLED)


class SharedKillingDisk(KillingDisk):
    """Counts the calls of a process and its children, and ends the one that is due."""

    def __init__(self, at: int) -> None:
        super().__init__(at, counted=ALL_CALLS)
        self.shared = multiprocessing.get_context("fork").Value("i", 0)

    def count(self) -> int:
        with self.shared.get_lock():
            self.shared.value += 1
            return self.shared.value


def exit_code_when_killed(
    at: int, work: Callable[[], object], disk: KillingDisk | None = None
) -> int:
    """Do `work` in a child process that dies at call number `at`.

    Returns
    -------
    int
        `KILLED`; 0 when the work took fewer calls; 1 when it raised.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        files.disk = disk or KillingDisk(at)
        work()
        os._exit(0)
    finally:
        os._exit(1)
