"""What makes the command line comfortable: doctor, completion, costs, talk."""

import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from experiments import doctor
from experiments.__main__ import COMMANDS, main
from experiments.completion import script
from pde_sym import progress as module
from pde_sym.progress import Talk, progress, talking

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("comfort") / "data"
    words = "heat --resolution 16 --frames 4 --train 2 --valid 1 --test 1"
    assert main(["generate", *words.split(), "--out", str(folder)]) == 0
    return folder


def train(data: Path, out: Path, *more: str) -> int:
    words = "--model cnn --width 2 --updates 4 --set model.depth=2"
    words += " --set training.batch_size=2 --set training.evaluate_every=2"
    return main(
        ["train", "--data", str(data), "--out", str(out), *words.split(), *more]
    )


# doctor


def test_doctor_finds_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["remedies"] == []
    found = {row["name"]: row["version"] for row in report["packages"]}
    assert found["torch"] == metadata.version("torch")
    assert {"numpy", "escnn", "h5py"} <= set(found)
    assert report["devices"][0] == "cpu"
    assert report["threads"]["torch"] >= 1
    assert "heat" in report["systems"]
    assert main(["doctor"]) == 0
    assert "all is there" in capsys.readouterr().out


def test_doctor_says_what_is_missing_and_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    versions = {"numpy": "2.1.0", "escnn": None, "torch": "2.13.0"}
    monkeypatch.setattr(
        doctor, "_requirements", lambda: ["torch>=2.6", "numpy<2,>=1.26", "escnn==1.0"]
    )
    monkeypatch.setattr(doctor, "_version", versions.get)
    assert main(["doctor", "--json"]) == doctor.MISSING
    assert json.loads(capsys.readouterr().out)["remedies"] == [
        "pip install 'numpy<2,>=1.26'",
        "pip install --no-deps 'escnn==1.0'",
    ]
    assert main(["doctor"]) == doctor.MISSING
    shown = capsys.readouterr().out
    assert "missing    wanted ==1.0   pip install --no-deps 'escnn==1.0'" in shown
    assert "2 missing" in shown


def test_doctor_answers_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert doctor.examine()["threads"]["torch"] is None


# completion


def completed(*words: str) -> list[str]:
    """Return what bash offers for the last word."""
    line = " ".join(f"'{word}'" for word in words)
    program = (
        f"{script('bash')}\nCOMP_WORDS=({line}); COMP_CWORD={len(words) - 1}\n"
        '_pde_sym; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_commands_options_and_values() -> None:
    assert set(completed("pde-sym", "")) == set(COMMANDS)
    assert completed("pde-sym", "ro") == ["rollout"]
    assert "--tensorboard" in completed("pde-sym", "train", "--")
    assert completed("pde-sym", "generate", "--environment", "") == ["hidden", "given"]
    assert "kdv" in completed("pde-sym", "systems", "")
    assert completed("pde-sym", "train", "--nonsense") == []


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_know_every_command(shell: str) -> None:
    text = script(shell)
    for name in COMMANDS:
        assert name in text
    assert "tensorboard" in text


def run_in(shell: str, *arguments: str) -> list[str]:
    """Return the lines that a shell without start-up files prints."""
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    plain = {"zsh": "-f", "fish": "--no-config"}[shell]
    words = [shell, plain, *arguments]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_fish_completes_commands_options_and_values(tmp_path: Path) -> None:
    (tmp_path / "pde-sym.fish").write_text(script("fish"))

    def offered(line: str) -> list[str]:
        asked = f"source {tmp_path}/pde-sym.fish; complete -C {shlex.quote(line)}"
        return [line.split("\t")[0] for line in run_in("fish", "-c", asked)]

    assert offered("pde-sym roll")[0] == "rollout"
    assert "--tensorboard" in offered("pde-sym train --ten")
    assert offered("pde-sym generate --environment ") == ["given", "hidden"]
    assert "kdv" in offered("pde-sym systems k")
    assert offered("pde-sym train --nonsense") == []


def test_zsh_takes_the_completion_without_a_start_up_file(tmp_path: Path) -> None:
    """Its own completion is off there, and knows the command afterwards."""
    (tmp_path / "pde-sym.zsh").write_text(script("zsh"))
    asked = f"HOME={tmp_path}; source {tmp_path}/pde-sym.zsh; print $_comps[pde-sym]"
    assert "_bash_complete" in run_in("zsh", "-c", asked)[0]


def test_completion_prints_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "fish"]) == 0
    assert capsys.readouterr().out.startswith("complete -c pde-sym")


# Costs


def test_a_dry_run_tells_the_cost_and_writes_nothing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert train(data, out, "--dry-run", "--json") == 0
    cost = json.loads(capsys.readouterr().out)
    assert not out.exists()
    assert cost["seconds"] == pytest.approx(4 * cost["update_ms"] / 1e3, abs=0.1)
    assert train(data, out, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["parameters"] == cost["parameters"]
    used = sum(p.stat().st_size for p in out.rglob("*.safetensors"))
    # What safetensors and the test of a small network add.
    assert used < cost["disk_bytes"] + 6000
    assert train(data, out, "--dry-run") == 0
    assert "4 updates of" in capsys.readouterr().out


# TensorBoard


class Writer:
    """What `torch.utils.tensorboard.SummaryWriter` is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rows, self.closed = folder, [], False
        Writer.last = self

    last: "Writer"

    def add_scalar(self, name: str, value: float, update: int) -> None:
        self.rows.append((name, value, update))

    def close(self) -> None:
        self.closed = True


def test_tensorboard_gets_the_scalars_of_the_log(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = SimpleNamespace(SummaryWriter=Writer)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stub)  # type: ignore[arg-type]
    out = tmp_path / "run"
    assert train(data, out, "--tensorboard", str(tmp_path / "board")) == 0
    log = [
        json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()
    ]
    expected = [
        (name, value, row["update"])
        for row in log
        for name, value in row.items()
        if name != "update"
    ]
    assert Writer.last.rows == expected
    assert [row[2] for row in expected] == [0, 2, 4]
    assert Writer.last.closed


def test_without_tensorboard_one_line_and_no_run(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert train(data, tmp_path / "run", "--tensorboard", str(tmp_path)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install tensorboard" in line
    assert not (tmp_path / "run").exists()


# Quiet, loud, coloured


def test_quiet_prints_errors_and_json_only(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(data)]) == 0
    assert capsys.readouterr().out
    assert main(["verify", str(data), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["verify", str(data), "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sound"]
    assert main(["verify", "nowhere", "--quiet"]) != 0
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize(("talk", "lines"), [(0, 0), (1, 0), (2, 2)])
def test_verbose_tells_every_part(talk: int, lines: int) -> None:
    stream = io.StringIO()
    with (
        talking(Talk(talk)),
        progress("making", 3, "things", stream) as finished,
    ):
        for _ in range(3):
            finished(1)
    assert len(stream.getvalue().splitlines()) == lines
    with progress("making", 3, "things", stream) as finished:
        finished(1)
    assert len(stream.getvalue().splitlines()) == lines


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_is_silent_when_quick_and_a_line_or_bar_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def work(stream: io.StringIO) -> str:
        with progress("making", 4, "files", stream) as finished:
            for _ in range(4):
                finished(1)
        return stream.getvalue()

    assert work(io.StringIO()) == work(Terminal()) == ""
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.0)
    assert work(io.StringIO()) == "making: 1 of 4 files, 0 s left\n"
    assert "making" in work(Terminal())


def test_colours_are_for_terminals_only(data: Path) -> None:
    program = (
        "from experiments.__main__ import main\n"
        f"raise SystemExit(main(['describe', {str(data)!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT, env=os.environ | {"TERM": "xterm-256color"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "temperature" in done.stdout
    assert "\x1b" not in done.stdout


def test_every_command_has_json(capsys: pytest.CaptureFixture[str]) -> None:
    for name in set(COMMANDS) - {"completion"}:
        help_text: Any = None
        with pytest.raises(SystemExit):
            main([name, "--help"])
        help_text = capsys.readouterr().out
        assert "--json" in help_text, name
