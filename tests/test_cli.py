"""The commands as a user calls them, from nothing to a report."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from data_gen.pictures import colours
from experiments.__main__ import COMMANDS, main
from pde_sym.checkpoint import VERSION
from pde_sym.store.files import LOCK
from pde_sym.systems import SYSTEMS

ROOT = Path(__file__).parents[1]
TRAIN = [
    *("--match-parameters", "1500", "--updates", "4"),
    *("--set", "model.depth=2", "--set", "model.kernel_size=3"),
    *("--set", "training.batch_size=4", "--set", "training.evaluate_every=2"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "data"
    words = "heat --break bubbles=0.9 --resolution 16 --frames 6 --train 3 --valid 2"
    assert main(["generate", *words.split(), "--test", "2", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def runs(data: Path) -> Path:
    folder = data.parent / "runs"
    for model in ("strict", "modulated", "cnn"):
        assert train(data, folder / model, "--model", model) == 0
    assert main(["evaluate", *(str(p) for p in sorted(folder.iterdir()))]) == 0
    return folder


def train(data: Path, out: Path, *options: str) -> int:
    return main(["train", "--data", str(data), "--out", str(out), *TRAIN, *options])


def failure(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Run a command that fails; return its exit code and its only line."""
    try:
        code = main(list(words))
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert "Traceback" not in lines[0]
    return code, lines[0]


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == main(["--help"]) == 0
    text = capsys.readouterr().out
    for name in COMMANDS:
        assert f"  {name} " in text
    assert main(["--version"]) == 0
    assert re.match(r"pde-sym \d+\.\d+", capsys.readouterr().out)


@pytest.mark.parametrize(
    "command",
    [
        "systems",
        "generate",
        "verify",
        "describe",
        "models",
        "train",
        "evaluate",
        "plot",
        "report",
    ],
)
def test_every_command_explains_itself(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"])
    assert exit_.value.code == 0
    assert f"usage: pde-sym {command}" in capsys.readouterr().out


def test_systems_lists_every_breaking_term(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["systems", "--json"]) == 0
    systems = {s["system"]: s for s in json.loads(capsys.readouterr().out)}
    assert list(systems) == [kind.model_fields["kind"].default for kind in SYSTEMS]
    for system in SYSTEMS:
        listed = systems[system.model_fields["kind"].default]
        assert len(listed["breaking"]) == len(system.terms) > 0
        assert listed["on_the_grid"] == system.model_validate({}).survivors.name
    heat = systems["heat"]
    names = {term["name"] for term in heat["breaking"]}
    linear = {"bubbles", "anisotropy", "sink", "drift", "source", "capacity"}
    assert names == linear | {"nonlinear"}
    bubbles = next(term for term in heat["breaking"] if term["name"] == "bubbles")
    assert bubbles["breaks"] == []
    assert "total heat" in bubbles["keeps"]
    assert list(heat["settings"]) == ["conductivity"]


def test_systems_shows_one_that_is_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["systems", "flow"]) == 0
    shown = capsys.readouterr().out
    assert "--set tracer" in shown
    assert "tracer_variance = <b^2> / 2" in shown
    assert "heat:" not in shown
    with pytest.raises(SystemExit) as exit_:
        main(["systems", "flo"])
    assert exit_.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_from_data_to_report(
    runs: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(data)]) == 0
    evaluation = json.loads((runs / "strict" / "evaluation.json").read_text())
    turns = [d for d in evaluation["defects"] if d["element"].startswith("turn")]
    assert len(turns) == 3
    for defect in turns:
        assert defect["model"] <= 1e-6
        assert defect["solver"] > 1e-3
        assert not defect["survives"]
    assert len(evaluation["vrmse"]) == 5
    heat = evaluation["invariants"][0]
    assert max(heat["truth_drift"]) <= 1e-6
    assert main(["report", str(runs)]) == 0
    page = (runs / "report.html").read_text(encoding="utf-8")
    assert "strict" in page
    capsys.readouterr()


def test_bounds_stand_beside_the_defects_they_hold_for(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    round_off = 1e-6
    found = {}
    for model in ("strict", "modulated", "cnn"):
        evaluation = json.loads((runs / model / "evaluation.json").read_text())
        found[model] = [d["certificate"] for d in evaluation["defects"]]
        for defect in evaluation["defects"]:
            bound = defect["certificate"]
            # C4 has no flips, and a free network no group at all.
            has_bound = model != "cnn" and "flip" not in defect["element"]
            assert (bound is not None) == has_bound
            assert bound is None or defect["model"] <= bound + round_off
    assert max(bound or 0 for bound in found["strict"]) <= round_off
    assert max(bound or 0 for bound in found["modulated"]) > round_off
    assert main(["evaluate", str(runs / "modulated"), str(runs / "cnn")]) == 0
    table = capsys.readouterr().out
    assert table.count("at most") == 1
    bounds = [f"{bound:.2e}" for bound in found["modulated"] if bound is not None]
    assert all(bound in table for bound in bounds)


def test_a_finished_run_is_left_alone(runs: Path, data: Path) -> None:
    before = {p: p.read_bytes() for p in runs.rglob("*") if p.is_file()}
    assert train(data, runs / "strict", "--model", "strict") == 0
    after = {p: p.read_bytes() for p in before}
    assert {p.name for p in before if before[p] != after[p]} <= {"metrics.jsonl"}


def test_a_run_with_another_setting_is_refused(
    runs: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--data", str(data), "--out", str(runs / "strict"), *TRAIN]
    code, line = failure(capsys, *words, "--model", "strict", "--seed", "7")
    assert code == 3
    assert "training.seed = 0, asked for 7" in line
    code, line = failure(capsys, *words, "--model", "cnn")
    assert code == 3


def test_a_run_on_grown_data_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grown = tmp_path / "data"
    shutil.copytree(data, grown)
    assert train(grown, tmp_path / "run", "--model", "cnn") == 0
    words = "heat --break bubbles=0.9 --resolution 16 --frames 6 --train 4 --valid 2"
    assert main(["generate", *words.split(), "--test", "2", "--out", str(grown)]) == 0
    capsys.readouterr()
    words = ["train", "--data", str(grown), "--out", str(tmp_path / "run"), *TRAIN]
    code, line = failure(capsys, *words, "--model", "cnn")
    assert code == 3
    assert "data.train = 3, asked for 4" in line


BAD_TRAIN = {
    "--model perceptron": (2, "perceptron"),
    "": (2, "--model"),
    "--model strict --group E8": (2, "E8"),
    "--model strict --set model.colour=1": (2, "colour"),
    "--model strict --set model.kernel_size=4": (2, "kernel_size"),
    "--model strict --set training.updates=0": (2, "updates"),
    "--model strict --set colour=1": (2, "colour"),
    "--model strict --trajectories 99": (2, "99"),
    "--model strict --seed -1": (2, "seed"),
    "--model strict --width 3 --match-parameters 100": (2, "--width"),
    "--model strict --set training.unroll=60": (2, "window"),
    "--model strict --set training.learning_rate=nan": (2, "learning_rate"),
    "--model strict --config nowhere.toml": (2, "nowhere.toml"),
    "--model strict --colour red": (2, "--colour"),
    # Groups, kernels, grids and fields that do not go together.
    "--model modulated --set model.relax_to=C3": (2, "C4 has no such subgroup"),
    "--model isotypic --group D4 --set model.relax_to=D1@30": (2, "D4 has no such"),
    "--model gfno --group C8": (2, "C8: Fourier modes of a square grid"),
    "--model rgroup --group SO2": (2, "expected C<N> or D<N>"),
    "--model canonical --group C8": (2, "exact groups of the grid"),
    "--model strict --set model.kernel_size=17": (2, "17 points needs a grid at least"),
    "--model cnn --set model.kernel_size=17": (2, "17 points needs a grid at least"),
    # Told before a kernel of that size is built, which would not fit into memory.
    "--model strict --group D8 --set model.kernel_size=1001": (2, "needs a grid at"),
    "--model unet --set model.levels=5": (2, "needs multiples of 32"),
    "--model fno --set model.modes=8": (2, "16 points have modes up to 7"),
    "--model cnn --set model.head=leray": (2, "a vector field 'velocity'"),
    "--model so3": (2, "grids of 0 axes, the data have 2"),
}


@pytest.mark.parametrize("options", BAD_TRAIN)
def test_bad_training_is_one_line(
    data: Path, tmp_path: Path, options: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["train", "--data", str(data), "--out", str(out), *options.split()]
    expected, name = BAD_TRAIN[options]
    code, line = failure(capsys, *words)
    assert code == expected
    assert name in line
    assert not out.exists()


@pytest.mark.parametrize(
    "words",
    [
        "explain heat",
        "generate heat --resolution 0 --out OUT",
        "generate heat --resolution 33 --out OUT",
        "generate heat --resolution 2000000 --out OUT",
        "generate heat --break bubbles=1.5 --out OUT",
        "generate heat --break bubbles=-1 --out OUT",
        "generate heat --break bubbles=nan --out OUT",
        "generate heat --break wind=1 --out OUT",
        "generate heat --set bubbles.colour=1 --out OUT",
        "generate kdv3 --out OUT",
        "generate heat --frames 1 --out OUT",
        "generate heat --frames many --out OUT",
        "train --model cnn --data OUT --out OUT2",
        "verify OUT",
        "describe OUT",
        "evaluate OUT",
        "report OUT",
        "plot error OUT",
        "models --resolution 0",
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"OUT": str(tmp_path / "out"), "OUT2": str(tmp_path / "out2")}
    code, _ = failure(capsys, *(places.get(word, word) for word in words.split()))
    assert code in {2, 4}
    assert not list(tmp_path.iterdir())


def test_other_data_are_not_evaluated(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    words = "heat --break bubbles=0.5 --resolution 16 --frames 6 --train 1 --valid 1"
    assert main(["generate", *words.split(), "--test", "1", "--out", str(other)]) == 0
    capsys.readouterr()
    words = ["evaluate", str(runs / "cnn"), "--data", str(other)]
    code, line = failure(capsys, *words)
    assert code == 2
    assert "another recipe" in line
    code, line = failure(capsys, "evaluate", str(runs / "cnn"), "--steps", "6")
    assert "expected 1 to 5" in line


def test_a_foreign_folder_is_not_trained_in(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    words = ["train", "--data", str(data), "--out", str(tmp_path), *TRAIN]
    code, line = failure(capsys, *words, "--model", "cnn")
    assert code == 3
    assert "thesis.tex" in line


def test_a_damaged_run_is_named(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "cnn"
    shutil.copytree(runs / "cnn", broken)
    (weights,) = broken.glob("best/step-*/tensors.safetensors")
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    data = str(runs.parent / "data")
    code, line = failure(capsys, "evaluate", str(broken), "--data", data)
    assert code == 4
    assert "tensors.safetensors" in line
    (broken / "run.json").write_text("{")
    code, line = failure(capsys, "evaluate", str(broken))
    assert code == 4
    assert "run.json" in line


@pytest.mark.parametrize("version", [0, VERSION - 1, VERSION + 1, str(VERSION), None])
def test_checkpoints_of_another_version_are_left_as_they_are(
    runs: Path, tmp_path: Path, version: object, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither read nor, by a training that would begin anew, replaced."""
    run = tmp_path / "cnn"
    shutil.copytree(runs / "cnn", run)
    for path in run.rglob("MANIFEST.json"):
        manifest = {**json.loads(path.read_text()), "version": version}
        if version is None:
            del manifest["version"]
        path.write_text(json.dumps(manifest))
    present = [p for p in run.rglob("*") if p.is_file() and p.name != LOCK]
    before = [p.read_bytes() for p in present]
    data = str(runs.parent / "data")
    words = ["train", "--data", data, "--out", str(run), *TRAIN, "--model", "cnn"]
    for command in (["evaluate", str(run), "--data", data], words):
        code, line = failure(capsys, *command)
        assert code == 4
        expected = (
            f"checkpoint version {version!r}, this pde_sym reads version {VERSION}"
        )
        assert expected in line
    assert [p.read_bytes() for p in present] == before


def test_given_environment_moves_with_the_state(tmp_path: Path) -> None:
    """The solver's joint defect is zero, and a strict model may read the medium."""
    data, run = tmp_path / "data", tmp_path / "run"
    words = "heat --break bubbles=0.9 --environment given --resolution 16 --frames 4"
    counts = ["--train", "2", "--valid", "1", "--test", "2"]
    assert main(["generate", *words.split(), *counts, "--out", str(data)]) == 0
    assert train(data, run, "--model", "strict", "--group", "D4") == 0
    assert main(["evaluate", str(run)]) == 0
    evaluation = json.loads((run / "evaluation.json").read_text())
    for defect in evaluation["defects"]:
        assert defect["survives"]
        # The stored medium is in float32, which the turn keeps and the solver reads.
        assert defect["solver"] <= 1e-12
        assert defect["model"] <= 1e-6
    assert max(evaluation["strict_floors"].values()) <= 1e-12


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_training_goes_on_to_the_same_bits(
    data: Path, tmp_path: Path, number: signal.Signals
) -> None:
    options = [*TRAIN, "--model", "modulated"]
    options[options.index("--updates") + 1] = "20"
    command = [sys.executable, "-m", "experiments", "train", "--data", str(data)]
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    first = [*command, "--out", str(stopped), *options]
    with subprocess.Popen(
        first, env=environment, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        while not list(stopped.glob("checkpoints/step-*")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        _, message = process.communicate()
    code = process.returncode
    # A fast machine may be done before the signal comes.
    assert code in {0, 128 + number}
    assert "Traceback" not in message
    for out in (stopped, straight):
        subprocess.run(
            [*command, "--out", str(out), *options],
            env=environment,
            cwd=tmp_path,
            check=True,
            stdout=subprocess.DEVNULL,
        )
    for path in straight.rglob("*"):
        if path.suffix in {".safetensors", ".json"} and path.name != "run.json":
            assert (
                path.read_bytes() == (stopped / path.relative_to(straight)).read_bytes()
            )


def test_describe_draws_what_it_says(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["describe", str(data), "--json", "--pictures", str(tmp_path / "pictures")]
    assert main(words) == 0
    report = json.loads(capsys.readouterr().out)
    (picture,) = report["pictures"]
    assert Path(picture).read_bytes().startswith(b"\x89PNG")
    assert [row["survives"] for row in report["defect"]] == [False] * 10
    assert all(row["defect"] > 1e-3 for row in report["defect"])


def test_pictures_of_signed_fields_are_symmetric_about_zero() -> None:
    signed, signed_map = colours(np.array([-1.0, 0.5]))
    assert (signed.vmin, signed.vmax) == (-1.0, 1.0)
    positive, positive_map = colours(np.array([0.5, 2.0]))
    assert (positive.vmin, positive.vmax) == (0.5, 2.0)
    assert signed_map != positive_map
