"""Bad command lines, configurations and paths: one line, and nothing is written."""

import importlib
import os
import re
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import bad_words
import pytest
from test_store_folder import counts, recipe

from data_gen.build import build
from experiments.__main__ import COMMANDS, main

MOST_SECONDS, MOST_BYTES = 1.0, 200 << 20
SMALL = ("--train=1", "--valid=0", "--test=0", "--resolution=16", "--frames=2")


@pytest.fixture(autouse=True, scope="module")
def _warm() -> None:
    """Import what commands import, so that times and bytes are their own."""
    for module, _ in COMMANDS.values():
        importlib.import_module(module)
    with pytest.raises(SystemExit):
        main(["generate", "heat", "--no-such"])


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt("it hangs")

    before = signal.signal(signal.SIGALRM, stop)
    # Compiling kernels takes its time on a busy system.
    signal.alarm(300)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command that is refused; return its only line."""
    begin = time.process_time()
    try:
        code = main(list(words))
    except SystemExit as end:
        assert isinstance(end.code, int)  # noqa: PT017
        code = end.code
    assert time.process_time() - begin < MOST_SECONDS
    assert code in {2, 3, 4}
    lines = capsys.readouterr().err.strip("\n").split("\n")
    assert len(lines) == 1
    assert lines[0].startswith("pde-sym")
    assert lines[0].isprintable()
    return lines[0]


@contextmanager
def limited_memory() -> Iterator[None]:
    """Let allocations fail that go far beyond what is held now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = pages * resource.getpagesize() + MOST_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def places(tmp_path: Path) -> dict[str, str]:
    """Return what stands for names in the tables."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("text")
    names = {"OUT": "out", "NOWHERE": "nowhere", "TEXT": "text", "EMPTY": "empty"}
    return {name: str(tmp_path / place) for name, place in names.items()}


@pytest.mark.parametrize(("words", "named"), [*bad_words.generate_words()], ids=str)
def test_options_of_generate(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], named: str
) -> None:
    line = refusal(capsys, "generate", "heat", "--out=out", *words)
    assert re.search(named, line), line
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize("words", bad_words.COMMANDS)
def test_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    names = places(tmp_path)
    refusal(capsys, *(names.get(word, word) for word in words.split(" ")))
    assert not (tmp_path / "out").exists()
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize("table", [*bad_words.TABLES, *bad_words.TABLE_BOMBS])
def test_configurations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], table: str
) -> None:
    (tmp_path / "bad.toml").write_text(table)
    with limited_memory():
        line = refusal(
            capsys, "generate", "heat", "--config", f"{tmp_path}/bad.toml", "--out=out"
        )
    assert len(line) < 600
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize("words", bad_words.BOMBS, ids=lambda words: f"{words:.60}")
def test_bombs_are_refused_before_they_take_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    names = places(tmp_path)
    command, *rest = (names.get(word, word) for word in words.split())
    with limited_memory():
        line = refusal(capsys, command, "--out=out", *rest)
    assert bad_words.BOMBS[words] in line
    assert not list(Path.cwd().iterdir())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("train") / "data"
    build(recipe(), counts(2, 1, 0), folder)
    return str(folder)


@pytest.mark.parametrize("words", bad_words.NETWORKS, ids=lambda words: f"{words:.60}")
def test_networks_that_are_too_large(
    data: str, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    with limited_memory():
        line = refusal(capsys, "train", "--data", data, "--out=out", *words.split())
    assert re.search(bad_words.NETWORKS[words], line), line
    assert len(line) < 500
    assert not list(Path.cwd().iterdir())


def test_the_limit_of_networks_can_be_raised(
    data: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("train", "--data", data, "--out=out", "--model=cnn", "--dry-run")
    monkeypatch.setenv("PDE_SYM_MAX_GIB", "1e-6")
    assert "PDE_SYM_MAX_GIB" in refusal(capsys, *words)
    monkeypatch.setenv("PDE_SYM_MAX_GIB", "1")
    assert main([*words]) == 0
    monkeypatch.setenv("PDE_SYM_MAX_GIB", "many")
    assert "PDE_SYM_MAX_GIB=many: expected a number" in refusal(capsys, *words)


def test_the_limits_can_be_raised(capsys: pytest.CaptureFixture[str]) -> None:
    """By the option that the error names."""
    words = ("generate", "heat", "--out=out", "--resolution=200000", "--dry-run")
    assert "raise it with --max-gib" in refusal(capsys, *words)
    assert "raise it with --max-point" in refusal(capsys, *words, "--max-gib=1e8")
    assert main([*words, "--max-gib=1e8", "--max-point-steps=1000000000000000"]) == 0


def test_memory_is_limited_indeed() -> None:
    with limited_memory(), pytest.raises(MemoryError):
        bytearray(2 * MOST_BYTES)


def made(folder: Path) -> Path:
    build(recipe(), counts(1, 0, 0), folder)
    return folder


def link_of(name: str) -> Callable[[Path, Path], list[str]]:
    """Return what puts a link to a stranger's place into a data set of ours."""

    def attack(work: Path, outside: Path) -> list[str]:
        path = made(work / "out") / name
        if path.is_dir():
            path.rename(work / "moved")
        else:
            path.unlink(missing_ok=True)
        path.symlink_to(outside)
        return ["verify", "out"]

    return attack


def manifest_with(old: str, new: str) -> Callable[[Path, Path], list[str]]:
    """Return what changes the manifest of a data set of ours."""

    def attack(work: Path, outside: Path) -> list[str]:
        path = made(work / "out") / "MANIFEST.json"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new.replace("OUTSIDE", str(outside))))
        return ["verify", "out"]

    return attack


def pipe_at(name: str, *words: str) -> Callable[[Path, Path], list[str]]:
    """Return what puts a pipe, which has no end, where a file is expected."""

    def attack(work: Path, _: Path) -> list[str]:
        path = work / name
        if path.parent != work:
            made(work / "out")
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        return list(words)

    return attack


def out(name: str) -> Callable[[Path, Path], list[str]]:
    return lambda *_: ["generate", "heat", *SMALL, f"--out={name}"]


def out_is_a_link(work: Path, outside: Path) -> list[str]:
    (work / "out").symlink_to(outside)
    return ["generate", "heat", *SMALL, "--out=out"]


def out_is_a_loop(work: Path, _: Path) -> list[str]:
    (work / "out").symlink_to(work / "out")
    return ["generate", "heat", *SMALL, "--out=out"]


def lock_is_a_link(work: Path, outside: Path) -> list[str]:
    (work / "out").mkdir()
    (work / "out/.lock").symlink_to(outside / "secret")
    return ["generate", "heat", *SMALL, "--out=out"]


def parent_is_a_file(work: Path, _: Path) -> list[str]:
    (work / "file").write_text("mine")
    return ["generate", "heat", *SMALL, "--out=file/out"]


GENERATE = ("generate", "heat", *SMALL, "--out=out")
FILE = "data/train/heat-00000.hdf5"
PATHS: dict[str, Callable[[Path, Path], list[str]]] = {
    "a long name": out("x" * 300),
    "a long path": out("x/" * 3000 + "x"),
    "a device": out("/dev/null"),
    "below a device": out("/dev/null/x"),
    "below nothing": out("/proc/nothing/x"),
    "here, where others lie": out(".."),
    "root": out("/"),
    "a link": out_is_a_link,
    "a loop of links": out_is_a_loop,
    "the lock is a link": lock_is_a_link,
    "below a file": parent_is_a_file,
    "data are a link": link_of("data"),
    "a split is a link": link_of("data/train"),
    "a shard is a link": link_of(FILE),
    "the manifest is a link": link_of("MANIFEST.json"),
    "a shard above": manifest_with(FILE, "data/train/../../../secret"),
    "a shard elsewhere": manifest_with(FILE, "OUTSIDE/secret"),
    "a shard of another split": manifest_with(FILE, FILE.replace("train", "test")),
    "a shard in a folder": manifest_with(FILE, FILE + "/x"),
    "a shard with a zero": manifest_with(FILE, FILE.replace("heat", "he\\u0000at")),
    "a shard of a billion": manifest_with('"count":1', '"count":1000000000000'),
    "the manifest is a pipe": pipe_at("out/MANIFEST.json", "verify", "out"),
    "a shard is a pipe": pipe_at(f"out/{FILE}", "verify", "out"),
    "the statistics are a pipe": pipe_at("out/stats.yaml", "verify", "out"),
    "the recipe is a pipe": pipe_at("a.toml", *GENERATE, "--config=a.toml"),
    "an array is a pipe": pipe_at(
        "a.npy", *GENERATE, "--break=bubbles=0.5", "--set=bubbles.field=a.npy"
    ),
    "a stranger's file is a pipe": pipe_at("a.h5", "import", "a.h5", "--out=out"),
}


@pytest.mark.parametrize("name", PATHS)
def test_paths(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """What lies elsewhere is neither read nor changed."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("a secret")
    words = PATHS[name](Path.cwd(), outside)
    line = refusal(capsys, *words)
    assert "a secret" not in line
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_text() == "a secret"


EXTREMES = [
    f"{system} --set {key}={value}"
    for system in ("heat", "kdv", "rigid_body", "flow", "plume")
    for key in ("dt", "length")
    for value in ("1e-12", "1e-9", "1e9")
    if key == "dt" or (system != "rigid_body" and value != "1e-12")
]


@pytest.mark.faults
@pytest.mark.parametrize("words", EXTREMES)
def test_extremes_end(capsys: pytest.CaptureFixture[str], words: str) -> None:
    """A time step or a box that is allowed and absurd: data, or lost trajectories."""
    small = [
        "--train",
        "1",
        "--valid",
        "0",
        "--test",
        "0",
        "--frames",
        "2",
        "--out",
        "out",
    ]
    if "rigid" not in words:
        small += ["--resolution", "16"]
    begin = time.process_time()
    code = main(["generate", *words.split(), *small])
    assert time.process_time() - begin < 60
    assert code in {0, 5}
    assert "Traceback" not in capsys.readouterr().err
