"""What the project is for, small: the prior that fits the physics wins."""

import json
from pathlib import Path

import pytest

from experiments.__main__ import main

MODELS = ("strict", "modulated", "cnn")


@pytest.mark.slow
def test_relaxed_models_learn_a_hidden_medium_best(tmp_path: Path) -> None:
    """Bubbles break every symmetry: too much of it fails, none of it learns slowly."""
    data = tmp_path / "data"
    words = "heat --break bubbles=0.9 --resolution 16 --frames 11 --set initial.modes=4"
    words += " --train 12 --valid 4 --test 8"
    assert main(["generate", *words.split(), "--out", str(data)]) == 0
    results = {}
    for model in MODELS:
        run = tmp_path / model
        places = ["--data", str(data), "--out", str(run)]
        options = f"--model {model} --match-parameters 28000 --updates 400 --seed 0"
        assert main(["train", *places, *options.split()]) == 0
        assert main(["evaluate", str(run)]) == 0
        results[model] = json.loads((run / "evaluation.json").read_text())
    error = {model: results[model]["vrmse"][-1] for model in MODELS}
    assert error["modulated"] < 0.9 * error["cnn"] < 0.9 * error["strict"]
    assert error["strict"] < results["strict"]["persistence_vrmse"][-1]
    solver = [row["solver"] for row in results["strict"]["defects"]]
    distance = {
        model: sum(
            abs(row["model"] - exact)
            for row, exact in zip(results[model]["defects"], solver, strict=True)
        )
        for model in MODELS
    }
    assert distance["modulated"] < min(distance["cnn"], distance["strict"])
