"""Strangers' files read by forks of a small process that has loaded `foreign` already.

What `sandbox` does, without the start of Python that it takes per file: a fork gets the
open file, gives up the same rights, and answers.
"""

import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from pde_sym.store import foreign

BUDGET, BLOCK = 1 << 24, 3
SERVER = """
import importlib.util, os, signal, sys
spec = importlib.util.spec_from_file_location("foreign", sys.argv[1])
foreign = importlib.util.module_from_spec(spec)
sys.modules["foreign"] = foreign
spec.loader.exec_module(foreign)
foreign.warm_up()
seconds, block, budget = map(int, sys.argv[2:])

def hear(event, arguments):
    if event in ("exec", "import", "open", "os.system", "os.exec", "os.fork",
                 "subprocess.Popen", "socket.connect", "pickle.find_class"):
        os.write(2, f"{event} {arguments!r:.80}\\n".encode())

for line in sys.stdin.buffer:
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        try:
            source, target = open(line[:-1], "rb"), os.fdopen(send, "wb")
            foreign.give_up(foreign.MEMORY, seconds)
            signal.alarm(2 * seconds)
            sys.addaudithook(hear)
            foreign.serve(source, target, "PERIODIC", block, budget)
            target.close()
            os._exit(0)
        finally:
            os._exit(1)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        said = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    sys.stdout.buffer.write(code.to_bytes(4, "little", signed=True))
    sys.stdout.buffer.write(len(said).to_bytes(8, "little") + said)
    sys.stdout.buffer.flush()
"""


class Answer(NamedTuple):
    """What a process said of a file, and how it ended: 0, or minus a signal."""

    code: int
    said: bytes


class WarmReader:
    """Reads files one after the other; their time is limited as that of a command."""

    def __init__(self, log: Path, seconds: int = 4) -> None:
        self._log = log
        words = [foreign.__file__, seconds, BLOCK, BUDGET]
        with log.open("wb") as heard:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", SERVER, *map(str, words)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=heard,
                env={"HDF5_PLUGIN_PATH": "::", "OPENBLAS_NUM_THREADS": "1"},
            )

    def read(self, path: Path) -> Answer:
        """Let a fork read a file."""
        to, back = self._process.stdin, self._process.stdout
        assert to is not None
        assert back is not None
        to.write(f"{path}\n".encode())
        to.flush()
        code = int.from_bytes(back.read(4), "little", signed=True)
        return Answer(code, back.read(int.from_bytes(back.read(8), "little")))

    @property
    def heard(self) -> str:
        """What was opened, imported or started while files were read."""
        return self._log.read_text()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()
