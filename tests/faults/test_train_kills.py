"""`pde-sym train`, killed or asked to stop at chosen updates, ends with the same bytes.

The command runs in a fork of this process, which spares it a start of Python; the
signals are the system's own.
"""

import os
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from test_store_folder import tree

from experiments.__main__ import main
from pde_sym.checkpoint import load_checkpoint
from pde_sym.dataset import MemoryWindows
from pde_sym.store import files

UPDATES = 40
OPTIONS = [
    *("--model", "modulated", "--width", "1", "--updates", str(UPDATES)),
    *("--augment", "D4", "--set", "training.penalty=0.01", "--set", "model.depth=2"),
    *("--set", "model.kernel_size=3", "--set", "training.batch_size=2"),
    *("--set", "training.evaluate_every=9", "--set", "training.unroll=1"),
    *("--set", "training.horizon=2", "--quiet", "--json"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with data and the run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("kills")
    make_data(folder / "data")
    assert train(folder / "straight") == 0
    return folder


def make_data(folder: Path) -> None:
    words = "heat --break bubbles=0.9 --resolution 8 --frames 4 --train 3 --valid 2"
    out = ["--test", "1", "--set", "initial.modes=2", "--out", str(folder)]
    assert main(["generate", *words.split(), *out]) == 0


def command(out: Path) -> list[str]:
    data = str(out.parent / "data")
    return ["train", "--data", data, "--out", str(out), *OPTIONS]


def train(out: Path) -> int:
    return main(command(out))


class Disturbed:
    """Sends this process a signal when a batch is asked for, or soon after."""

    def __init__(self, at: int, number: signal.Signals, delay: float) -> None:
        self.left, self.number, self.delay = at, number, delay
        self.batch = MemoryWindows.batch

    def __call__(self, windows: MemoryWindows, indices: Sequence[int]) -> object:
        # The first is the trial step before a run begins.
        if self.left == -1:
            self.send()
        self.left -= 1
        return self.batch(windows, indices)

    def send(self) -> None:
        if not self.delay:
            os.kill(os.getpid(), self.number)
            return

        def later() -> None:
            time.sleep(self.delay)
            os.kill(os.getpid(), self.number)

        threading.Thread(target=later, daemon=True).start()


def disturbed(
    out: Path, at: int, number: signal.Signals, delay: float = 0.0, go_on: int = 0
) -> int:
    """Train in a fork that gets a signal at its update `at`; return its exit code.

    `go_on` is how far the run was before.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        with pytest.MonkeyPatch.context() as patch:
            hook = Disturbed(at - go_on, number, delay)
            patch.setattr(MemoryWindows, "batch", lambda *a: hook(*a))
            code = train(out)
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        os._exit(code)


def assert_same_bytes(out: Path) -> None:
    """Weights, moments, best weights, log and description have the same hashes."""
    expected = tree(out.parent / "straight")
    last = f"step-{UPDATES:08d}"
    for name in (f"checkpoints/{last}/tensors.safetensors", "metrics.jsonl"):
        assert name in expected
    found = tree(out)
    # A run that was stopped keeps its last states, not those of other updates.
    for name in set(expected) | set(found):
        if not name.startswith("checkpoints/") or last in name:
            assert found.get(name) == expected.get(name), name


@pytest.mark.parametrize(
    "times", [3, pytest.param(20, marks=pytest.mark.faults)], ids=str
)
def test_killed_at_random_updates(
    place: Path, times: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """At every point of an update: the delay is up to the time of one or two."""
    draw = np.random.default_rng(times)
    updates = draw.choice(UPDATES, times, replace=False).tolist()
    killed = 0
    for update in updates:
        out = place / f"killed-{times}-{update}"
        delay = float(draw.choice([0.0, draw.uniform(0, 0.03)]))
        code = disturbed(out, update, signal.SIGKILL, delay)
        killed += code == -signal.SIGKILL
        assert code in (0, -signal.SIGKILL)
        assert train(out) == 0
        assert_same_bytes(out)
    # One that should come after the last update may come too late.
    assert killed >= times - 1
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.faults
def test_killed_again_and_again(place: Path) -> None:
    out = place / "again"
    codes = [disturbed(out, at, signal.SIGKILL) for at in (3, 7, 8)]
    assert codes == [-signal.SIGKILL] * 3
    assert train(out) == 0
    assert_same_bytes(out)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.faults),
        pytest.param(signal.SIGUSR1, 138, marks=pytest.mark.faults),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_asked_to_stop(
    place: Path, capfd: pytest.CaptureFixture[str], number: signal.Signals, code: int
) -> None:
    """It ends the update, saves and exits with its documented code."""
    out, stop = place / number.name, 13
    before = len(list(place.iterdir()))
    assert disturbed(out, stop, number) == code
    assert len(list(place.iterdir())) == before + 1
    saved = load_checkpoint(out / f"checkpoints/step-{stop + 1:08d}")
    assert saved.state["update"] == stop + 1
    err = capfd.readouterr().err
    assert err == f"{out}: stopped; the same command goes on where it was\n"
    # Asked again, in the update that would come next, it stops there.
    assert disturbed(out, stop + 2, number, go_on=stop + 1) == code
    assert (out / f"checkpoints/step-{stop + 3:08d}").exists()
    assert train(out) == 0
    assert_same_bytes(out)


@pytest.mark.faults
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT], ids=lambda n: n.name
)
def test_asked_while_it_saves(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    """Schedulers and launchers both send theirs; only a second Ctrl-C is at once."""
    out, write_file = place / f"saving-{number.name}", files.write_file

    def asked(path: Path, data: bytes) -> None:
        if "checkpoints" in path.parts:
            os.kill(os.getpid(), number)
        write_file(path, data)

    monkeypatch.setattr(files, "write_file", asked)
    assert disturbed(out, UPDATES, number) == 128 + number
    at_once = number == signal.SIGINT
    assert (out / "checkpoints/step-00000000").exists() != at_once
    err = capfd.readouterr().err
    assert ("interrupted; repeat" in err) == at_once
    assert ("stopped; the same command" in err) != at_once
    monkeypatch.undo()
    assert train(out) == 0
    assert_same_bytes(out)
