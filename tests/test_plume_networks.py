"""The plume from data to a report: networks between walls, measured under its turns."""

from pathlib import Path

import pytest

from experiments.__main__ import main
from experiments.evaluation import Evaluation, read_evaluation
from pde_sym.errors import InputError

SMALL = ["--updates", "4", "--set", "training.batch_size=4"]
SIZES = ["--set", "model.depth=2", "--set", "model.kernel_size=3", "--width", "4"]
MODELS = {"strict": "D4", "modulated": "D4", "cnn": None}


def generate(folder: Path, *words: str) -> Path:
    counts = ["--train", "3", "--valid", "1", "--test", "2", "--out", str(folder)]
    common = ["--resolution", "12", "--frames", "4", *counts]
    assert main(["generate", "plume", *words, *common]) == 0
    return folder


def train(data: Path, run: Path, *options: str) -> int:
    words = ["--data", str(data), "--out", str(run), *SMALL, *SIZES]
    return main(["train", *words, *options])


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with runs on a box in which smoke rises."""
    folder = tmp_path_factory.mktemp("plume")
    data = generate(folder / "data", "--break", "buoyancy_direction=1")
    for model, group in MODELS.items():
        options = ["--model", model, *(["--group", group] if group else [])]
        assert train(data, folder / "runs" / model, *options) == 0
    assert main(["evaluate", *map(str, sorted((folder / "runs").iterdir()))]) == 0
    return folder / "runs"


def measured(results: Path) -> dict[str, Evaluation]:
    return {model: read_evaluation(results / model) for model in MODELS}


def test_a_rising_plume_breaks_what_its_direction_does(results: Path) -> None:
    """Turns and flips of the box but the flip x -> -x; a strict network keeps all."""
    for model, one in measured(results).items():
        assert (one.subgroup, one.num_axes) == ("{e; flip, turn 180}", 2)
        assert len(one.defects) == 7
        kept = [d for d in one.defects if d.survives]
        assert len(kept) == 1
        for d in one.defects:
            # States are in float32, and the solver's own steps in float64.
            assert d.solver is not None
            assert (d.solver <= 1e-6) == d.survives
            assert (d.model <= 1e-6) == (model == "strict")
        assert one.shift_spectrum == ()
        assert sum(s.model for s in one.point_spectrum) == pytest.approx(1)
        assert list(one.strict_floors) == ["C4", "D4"]
        assert 1e-4 < one.strict_floors["D4"] < 1


def test_the_report_speaks_of_the_box(results: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert main(["report", str(results), "--out", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "turns and flips of the box with walls" in text
    assert "square torus" not in text
    drawn = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert drawn == {"rollout", "error", "drift", "defect", "spectrum"}
    assert 'class="player"' in text


def test_sticking_walls_and_an_environment_that_is_given(tmp_path: Path) -> None:
    """The lift turns with the state: solver and strict network keep the whole of D4."""
    words = ["--break", "buoyancy_direction=1", "--environment", "given"]
    data = generate(tmp_path / "data", *words, "--set", "walls=stick")
    run = tmp_path / "run"
    augmented = ["--augment", "D4", "--set", "training.augmentation.shifts=false"]
    assert train(data, run, "--model", "strict", "--group", "D4", *augmented) == 0
    assert main(["evaluate", str(run)]) == 0
    for d in read_evaluation(run).defects:
        assert d.survives
        assert d.solver is not None
        assert max(d.solver, d.model) <= 1e-6


def test_what_walls_rule_out_is_one_line(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = results.parent / "data", tmp_path / "run"
    refusals = {
        "--augment D4": "there are none between walls",
        "--set model.head=leray": "none of between walls",
        "--set training.augmentation.kind=galilei": "augmentation",
    }
    for options, reason in refusals.items():
        assert train(data, run, "--model", "cnn", *options.split()) == 2
        error = capsys.readouterr().err
        assert reason in error
        assert error.count("\n") == 1
    local = ["--model", "strict_unet", "--set", "model.resampling=local"]
    words = ["train", "--data", str(data), "--out", str(run), *SMALL, *local]
    assert main(words) == InputError.exit_code
    assert "keeps every second point" in capsys.readouterr().err
    assert not run.exists()
