"""The commands that a page shows make what it shows."""

import itertools
import json
import shlex
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from data_gen.recipes import read_recipe, resolve
from experiments import train
from experiments.__main__ import command_parser, main
from experiments.commands import as_toml, data_folder, made_data, made_sweep, trained
from experiments.sweep_recipe import NAMED, read_sweep
from pde_sym.errors import DataError
from pde_sym.nn import ModelConfig
from pde_sym.objective import TrainConfig
from pde_sym.seeds import Split
from pde_sym.store import read_manifest


@pytest.mark.parametrize(
    ("system", "breaks", "sets"),
    [
        ("heat", ["bubbles=0.5"], ["initial.modes=3", "bubbles.count=2"]),
        ("flow", ["beta=0..2", "topography=1e-5"], []),
        ("rigid_body", [], ["frames=4"]),
    ],
)
def test_a_recipe_is_read_again_as_it_was(tmp_path: Path, system, breaks, sets) -> None:
    recipe = resolve(system, breaks, sets)
    path = tmp_path / "recipe.toml"
    path.write_text(as_toml(recipe.model_dump(mode="json")))
    assert resolve(None, config=path) == recipe
    assert resolve(None, sets=["seed=1"], config=path) != recipe


def test_the_command_of_a_data_set_makes_it_again(tmp_path: Path, monkeypatch) -> None:
    numbers = "--resolution 16 --frames 2 --train 2 --valid 1 --test 1"
    words = ["generate", "heat", "--break", "bubbles=0.3", *numbers.split()]
    assert main([*words, "--out", str(tmp_path / "data")]) == 0
    (tmp_path / "pages").mkdir()
    monkeypatch.chdir(tmp_path / "pages")
    command, (recipe,) = made_data(tmp_path / "data", tmp_path / "pages" / "a.html")
    Path(recipe.name).write_bytes(recipe.data)
    assert shlex.split(command)[-2:] == ["--out", "../data"]
    assert main([*shlex.split(command)[1:-1], "again"]) == 0
    assert read_recipe(Path("again")) == read_recipe(tmp_path / "data")
    for split in Split:
        again, first = (read_manifest(Path(p)).of(split) for p in ("again", "../data"))
        assert [e.sha256 for e in again] == [e.sha256 for e in first]


def test_no_data_no_command(tmp_path: Path) -> None:
    assert made_data(tmp_path, tmp_path / "a.html") == ("", ())


@pytest.mark.parametrize(
    ("model", "training"),
    [
        ({"kind": "cnn"}, {}),
        (
            {"kind": "modulated", "group": "D4", "width": 3},
            {
                "seed": 3,
                "learning_rate": 1e-05,
                "augmentation": {"kind": "group", "group": "D4"},
            },
        ),
    ],
)
def test_the_command_of_a_run_asks_for_the_same_run(
    tmp_path: Path, model: dict, training: dict
) -> None:
    config = TypeAdapter(ModelConfig).validate_python(model)
    settings = {
        "model": config.model_dump(mode="json"),
        "training": TrainConfig.parse(training, where="").model_dump(mode="json"),
    }
    run = tmp_path / "runs" / "a run"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"data_folder": "../../data"}))
    assert data_folder(run) == tmp_path / "data"
    words = shlex.split(trained(run, settings, tmp_path / "a.html"))[2:]
    chosen = train.resolve(command_parser("train", train).parse_args(words))
    assert chosen.model == config
    assert chosen.training == TrainConfig.parse(training, where="")
    given = dict(itertools.pairwise(words))
    assert (given["--data"], given["--out"]) == ("data", "runs/a run")


def test_a_damaged_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(DataError, match=r"run\.json"):
        data_folder(tmp_path)


def test_the_command_of_a_sweep_reads_the_same_sweep(tmp_path: Path) -> None:
    name = sorted(NAMED)[0]
    sweep = read_sweep(name)
    assert made_sweep(tmp_path, tmp_path / "a.html") == ("", ())
    text = json.dumps(sweep.model_dump(mode="json"))
    (tmp_path / "sweep.json").write_text(text)
    command, (recipe,) = made_sweep(tmp_path, tmp_path / "a.html")
    assert command == "pde-sym sweep sweep.toml --out ."
    path = tmp_path / recipe.name
    path.write_bytes(recipe.data)
    assert read_sweep(str(path)) == sweep
