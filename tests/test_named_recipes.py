"""The recipes at hand: their frames are neither alike nor strangers."""

from pathlib import Path

import numpy as np
import pytest

from data_gen.recipes import NAMED, named, resolve
from data_gen.shards import make_shard
from experiments.__main__ import main
from pde_sym.errors import InputError
from pde_sym.seeds import Split

FRAMES = {"plume-rotation": 31, "plume-translation": 31}
"""Of recipes that need more than 9: a plume begins with nothing."""


def changes(states: np.ndarray) -> np.ndarray:
    """Return ``||u(t + dt) - u(t)|| / ||u(t)||``, ``(trajectories, frames - 1)``."""
    flat = states.reshape(*states.shape[:2], -1)
    size = np.linalg.norm(flat[:, :-1], axis=-1)
    return np.linalg.norm(np.diff(flat, axis=1), axis=-1) / size


@pytest.mark.parametrize(
    "name",
    [
        # Each plume takes as long as all others together.
        pytest.param(name, marks=[pytest.mark.slow] if "plume" in name else [])
        for name in NAMED
    ],
)
def test_frames_differ_by_two_to_twenty_percent(name: str) -> None:
    recipe = resolve(None, config=named(name), options={"frames": FRAMES.get(name, 9)})
    assert recipe.system.breaking
    assert all(term.strength > 0 for term in recipe.system.breaking)
    split = Split.TEST if recipe.split_by == "time" else Split.TRAIN
    shard = make_shard(recipe, split, 0, 4)
    for field, channels in shard.fields.slices().items():
        prognostic = next(f.prognostic for f in shard.fields if f.name == field)
        if prognostic:
            found = float(np.median(changes(shard.states[:, :, channels])))
            assert 0.02 <= found <= 0.20, field


def test_options_win_over_a_recipe() -> None:
    recipe = resolve(
        "flow", ["beta=5"], config=named("flow-beta"), options={"resolution": 32}
    )
    (beta,) = recipe.system.breaking
    assert beta.strength == 5
    assert recipe.grid.shape == (32, 32)
    assert recipe.frames == 51


def test_a_recipe_makes_a_data_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--recipe", "body-friction", "--frames", "5", "--out", str(tmp_path / "d")]
    assert main(["generate", *words, "--train", "2", "--valid", "0"]) == 0
    assert main(["verify", str(tmp_path / "d")]) == 0
    assert "sound" in capsys.readouterr().out


def test_unknown_recipes_are_one_line() -> None:
    with pytest.raises(
        InputError, match="'flow-betta': expected one of body-asymmetry"
    ):
        named("flow-betta")


def test_a_recipe_and_a_configuration_are_too_much(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--recipe", "flow-beta", "--config", "x.toml", "--out", "nowhere"]
    assert main(["generate", *words]) == 2
    assert "give one of them" in capsys.readouterr().err
