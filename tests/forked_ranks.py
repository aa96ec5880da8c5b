"""Ranks as forks of this process: what torchrun starts, without a start of Python."""

import os
import socket
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

from pde_sym.ranks import Ranks, joined


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def surroundings(rank: int, size: int, port: int) -> dict[str, str]:
    """Return the environment that torchrun gives to a process."""
    return {
        "TORCHELASTIC_RUN_ID": "none",
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def exit_codes(
    size: int, command: Callable[[int], int], port: int | None = None
) -> list[int]:
    """Run `command` of each rank in a process of its own; return their exit codes.

    They meet at the store behind `port`, or at one that the first of them opens.
    """
    port, children = port or free_port(), []
    for rank in range(size):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child:
            children.append(child)
            continue
        code = 99
        try:
            os.environ.update(surroundings(rank, size, port))
            code = command(rank)
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
        finally:
            os._exit(code)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def on_ranks(size: int, work: Callable[[Ranks], bytes], folder: Path) -> list[bytes]:
    """Return what each of `size` joined ranks makes of `work`."""

    def command(rank: int) -> int:
        with joined() as ranks:
            assert ranks == Ranks(rank, size)
            (folder / f"result-{rank}").write_bytes(work(ranks))
        return 0

    assert exit_codes(size, command) == [0] * size
    return [(folder / f"result-{rank}").read_bytes() for rank in range(size)]
