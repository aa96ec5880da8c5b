"""Test data whose initial states are moved by motions that training never showed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_gen.build import build
from data_gen.recipes import Recipe
from data_gen.shards import beginning
from experiments.moved import check_motions, moved_recipe
from pde_sym.dataset import TrajectoryDataset
from pde_sym.errors import InputError
from pde_sym.seeds import Split
from pde_sym.symmetry import GroupElement

TURNS = ("turn 90", "turn 270")


def shear(strength: float, **changes: Any) -> Recipe:
    """Return flow whose shear layers lie along x, on a beta plane."""
    values = {
        "system": {
            "kind": "flow",
            "breaking": [{"kind": "beta", "strength": strength}],
        },
        "initial": {"kind": "double_shear_layer", "sharpness": 5.0},
        "resolution": 16,
        "frames": 3,
    }
    return Recipe.parse(values | changes, where="here")


def states(recipe: Recipe, folder: Path) -> torch.Tensor:
    build(recipe, {Split.TRAIN: 1, Split.VALID: 0, Split.TEST: 3}, folder)
    return TrajectoryDataset(folder, "test", window=1).load_all()["states"].double()


@pytest.mark.parametrize("strength", [0.0, 20.0])
def test_the_solver_goes_on_from_moved_states(strength: float, tmp_path: Path) -> None:
    """Intact flow of turned states is turned flow; on a beta plane it is not."""
    recipe = shear(strength)
    moved = moved_recipe(recipe, TURNS, 3, tmp_path / "own.npy")
    assert moved.system == recipe.system
    plain, turned = states(recipe, tmp_path / "a"), states(moved, tmp_path / "b")
    act = recipe.system.action(recipe.grid)
    spec = recipe.system.fields
    # The velocity alone is stored as prognostic; vorticity is derived.
    wide = torch.cat([plain, torch.zeros_like(plain[:, :, :1])], 2)
    for i, turns in enumerate((1, 3, 1)):
        expected = act(GroupElement(turns), wide[i])[
            :, : spec.prognostic().num_channels
        ]
        assert torch.allclose(turned[i, 0], expected[0], atol=1e-6)
        off = float((turned[i, -1] - expected[-1]).abs().max())
        assert off < 1e-5 if strength == 0 else off > 1e-3


def test_layers_lie_across_after_a_quarter_turn(tmp_path: Path) -> None:
    recipe = shear(0.0)
    before, _ = beginning(recipe, Split.TEST, range(1))
    after, _ = beginning(
        moved_recipe(recipe, TURNS, 1, tmp_path / "own.npy"), Split.TEST, range(1)
    )
    along, across = (np.square(before[0, i]).mean() for i in (0, 1))
    assert along > 50 * across
    along, across = (np.square(after[0, i]).mean() for i in (0, 1))
    assert across > 50 * along


def test_bodies_and_lines_and_tracers_are_moved(tmp_path: Path) -> None:
    body = Recipe.parse(
        {"system": {"kind": "rigid_body"}, "initial": {"kind": "near_axis", "axis": 1}},
        where="here",
    )
    half = moved_recipe(body, ["body, 180 about (0, 1, 0)"], 2, tmp_path / "body.npy")
    before, _ = beginning(body, Split.TEST, range(2))
    after, _ = beginning(half, Split.TEST, range(2))
    signs = np.array([-1, 1, -1]).reshape(3, 1, 1, 1)
    assert np.allclose(after, signs * before, atol=1e-12)
    line = Recipe.parse({"system": {"kind": "kdv"}, "resolution": 64}, where="here")
    shift = next(m.name for m in line.system.probes(line.grid) if m.shift[0] > 0.2)
    far = moved_recipe(line, [shift], 2, tmp_path / "line.npy")
    before, _ = beginning(line, Split.TEST, range(2))
    after, _ = beginning(far, Split.TEST, range(2))
    assert np.allclose(after, np.roll(before, 16, axis=-1), atol=1e-12)
    system = {"kind": "flow", "tracer": True}
    lifted = shear(0.0, system=system)
    with_tracer = moved_recipe(lifted, TURNS, 1, tmp_path / "tracer.npy")
    before, _ = beginning(lifted, Split.TEST, range(1))
    after, _ = beginning(with_tracer, Split.TEST, range(1))
    act = lifted.system.action(lifted.grid)
    expected = act(GroupElement(1), torch.from_numpy(before)).numpy()
    assert np.allclose(after, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("recipe", "names", "words"),
    [
        (shear(0.0), ("turn 45",), "expected some of"),
        (shear(20.0), ("turn 90",), "expected some of"),
        (shear(0.0, environment="given"), ("turn 90",), "expected a hidden one"),
    ],
)
def test_motions_that_cannot_be_are_one_line(
    recipe: Recipe, names: tuple[str, ...], words: str
) -> None:
    with pytest.raises(InputError, match=words) as error:
        check_motions(recipe, names)
    assert "\n" not in str(error.value)


def test_known_motions_pass() -> None:
    check_motions(shear(0.0), TURNS)
    check_motions(shear(0.0, environment="given"), ())
