"""Progress of long work, for commands: a bar on a terminal, else a line at times."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import IntEnum
from typing import TextIO

QUIET_SECONDS = 2.0
LINE_SECONDS = 10.0


class Talk(IntEnum):
    """How much is said of work under way."""

    QUIET = 0
    """Nothing."""
    NORMAL = 1
    VERBOSE = 2
    """A line for every part, from the beginning."""


_talk = ContextVar("talk", default=Talk.NORMAL)


@contextmanager
def talking(talk: Talk) -> Iterator[None]:
    """Say that much inside."""
    token = _talk.set(talk)
    try:
        yield
    finally:
        _talk.reset(token)


@contextmanager
def progress(
    what: str, total: int, unit: str, stream: TextIO | None = None
) -> Iterator[Callable[[int], None]]:
    """Yield a function to call with the number of units that were just finished.

    Nothing is shown in the first two seconds, so that quick work stays silent.

    Parameters
    ----------
    what
        What is being done.
    total
        Number of units of the whole work.
    unit
        What is counted, in the plural.
    stream
        Where to write; standard error by default.
    """
    out: TextIO = sys.stderr if stream is None else stream
    if _talk.get() is Talk.QUIET:
        yield lambda _: None
        return
    # Commands that share a terminal, as under make -j, say TERM=dumb and write lines.
    is_terminal = out.isatty() and _talk.get() is Talk.NORMAL
    if is_terminal and os.environ.get("TERM") != "dumb":
        with _bar(what, total, out) as advance:
            yield advance
    else:
        yield _lines(what, total, unit, out)


def _lines(what: str, total: int, unit: str, stream: TextIO) -> Callable[[int], None]:
    start = time.monotonic()
    every = 0.0 if _talk.get() is Talk.VERBOSE else LINE_SECONDS
    done, due = 0, start + min(every, QUIET_SECONDS)

    def advance(number: int) -> None:
        nonlocal done, due
        done += number
        now = time.monotonic()
        if now < due or done >= total:
            return
        left = f", {(now - start) / done * (total - done):.0f} s left" if done else ""
        print(f"{what}: {done} of {total} {unit}{left}", file=stream, flush=True)
        due = now + every

    return advance


@contextmanager
def _bar(what: str, total: int, stream: TextIO) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(file=stream),
        transient=True,
    )
    task = bar.add_task(what, total=total)
    start, shown = time.monotonic(), False

    def advance(number: int) -> None:
        nonlocal shown
        bar.advance(task, number)
        if not shown and time.monotonic() - start > QUIET_SECONDS:
            bar.start()
            shown = True

    try:
        yield advance
    finally:
        if shown:
            bar.stop()
