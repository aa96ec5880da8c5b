"""The coarse solver as a floor, and what maps of the same inputs remember."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from data_gen.build import build
from data_gen.recipes import Recipe
from experiments.coarse import coarse_errors, measure_errors, resampled
from experiments.runs import build_surrogate
from experiments.train import Choices, prepare, training_data
from pde_sym import maps
from pde_sym.errors import SimulationError
from pde_sym.grid import PeriodicGrid
from pde_sym.maps import Remembered, make_maps
from pde_sym.samples import Samples
from pde_sym.seeds import Split


def wave(points: int, mode: int) -> Tensor:
    x = torch.arange(points, dtype=torch.float64) / points
    return torch.cos(2 * math.pi * mode * x[:, None] + 0.3) + torch.sin(
        2 * math.pi * (x[:, None] - 2 * x[None, :])
    )


@pytest.mark.parametrize(("before", "after"), [(16, 8), (8, 16), (16, 16), (12, 16)])
def test_band_limited_states_are_the_same_functions(before: int, after: int) -> None:
    grid = PeriodicGrid.square(after)
    found = resampled(wave(before, 3)[None, None], grid)
    assert torch.allclose(found[0, 0], wave(after, 3), atol=1e-12)


def test_modes_that_the_coarse_grid_lacks_are_left_out() -> None:
    grid = PeriodicGrid.square(8)
    found = resampled(wave(16, 5)[None, None], grid)[0, 0]
    assert torch.allclose(found, wave(8, 0) - math.cos(0.3), atol=1e-12)
    # Taking every second point folds them over instead.
    assert not torch.allclose(wave(16, 5)[::2, ::2], found, atol=0.1)


def test_lines_are_resampled_too() -> None:
    x = torch.arange(32, dtype=torch.float64) / 32
    grid = PeriodicGrid(shape=(16,), lengths=(1.0,))
    found = resampled(torch.sin(2 * math.pi * 3 * x)[None], grid)
    assert torch.allclose(found[0], torch.sin(2 * math.pi * 3 * x[::2]), atol=1e-12)


def test_errors_of_a_step_that_is_known() -> None:
    """A step that halves what should stay leaves 1/2, then 3/4 of its deviation.

    The Well's variance is the unbiased one, 8/7 of the mean square.
    """
    x = torch.arange(8, dtype=torch.float64)
    state = torch.sin(2 * math.pi * x / 8)[None, :]
    states = state.expand(2, 3, 1, 8)
    found, unit = measure_errors(states, lambda u, _: u / 2, 1), math.sqrt(7 / 8)
    assert found.one_step == pytest.approx(0.5 * unit, rel=1e-4)
    assert found.rollout == pytest.approx((0.5 * unit, 0.75 * unit), rel=1e-4)


def data(folder: Path, **changes: object) -> Path:
    values = {
        "system": {"kind": "heat", "breaking": [{"kind": "bubbles", "strength": 0.5}]},
        "initial": {"modes": 2},
        "resolution": 16,
        "frames": 4,
        "dt": 0.002,
    }
    recipe = Recipe.parse(values | changes, where="here")
    build(recipe, {Split.TRAIN: 2, Split.VALID: 1, Split.TEST: 2}, folder)
    return folder


def test_the_coarse_solver_is_near_and_its_step_is_of_each_trajectory(
    tmp_path: Path,
) -> None:
    """An environment given per trajectory is that of the trajectory."""
    test = Samples.read(data(tmp_path / "given", environment="given"))
    found = coarse_errors(test)
    assert found is not None
    still = measure_errors(test.states, lambda u, _: u, 2)
    assert found.one_step < still.one_step / 2
    swapped = replace(test, environment=test.environment.flip(0))
    wrong = coarse_errors(swapped)
    assert wrong is not None
    assert wrong.one_step > 1.1 * found.one_step


def test_no_coarse_solver_for_bodies_and_coarse_grids(tmp_path: Path) -> None:
    body = {"system": {"kind": "rigid_body"}, "initial": None, "resolution": 1}
    assert coarse_errors(Samples.read(data(tmp_path / "body", **body, dt=0.1))) is None
    small = data(tmp_path / "small", resolution=8)
    assert coarse_errors(Samples.read(small)) is None


def test_steps_that_grow_too_far_are_one_line() -> None:
    states = torch.ones(2, 3, 1, 8).cumsum(-1)
    with pytest.raises(SimulationError, match="until its VRMSE was not finite"):
        measure_errors(states, lambda u, _: 1e15 * u, 1)


def test_what_was_met_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def step(u: Tensor) -> Tensor:
        calls.append(u.shape)
        return 2 * u

    known = Remembered(step)
    u = torch.arange(6.0).reshape(2, 3)
    first = known(u)
    first += 1  # what a caller does to a result stays with the caller
    assert (known(u.clone()) == 2 * u).all()
    assert len(calls) == 1
    assert known(u.reshape(3, 2)).shape == (3, 2)
    assert (known(u + 1) == 2 * u + 2).all()
    assert len(calls) == 3
    monkeypatch.setattr(maps, "MEMORY_BYTES", 8)
    small = Remembered(step)
    assert (small(u) == small(u)).all()
    assert len(calls) == 5


def test_another_data_set_is_another_solver(tmp_path: Path) -> None:
    """The same inputs at two strengths, one after the other in one process."""
    found = []
    for strength in (0.0, 0.9, 0.0):
        breaking = [{"kind": "bubbles", "strength": strength}]
        folder = data(
            tmp_path / f"{strength}", system={"kind": "heat", "breaking": breaking}
        )
        choices = Choices.parse(
            {"model": {"kind": "cnn", "width": 2, "depth": 2}}, where="here"
        )
        config = prepare(training_data(folder, choices.training), choices, None)
        both = make_maps(Samples.read(folder), build_surrogate(config))
        x = torch.ones_like(both.inputs)
        x[:, :, :8] = 0.0
        assert both.solver is not None
        found.append(both.solver(x))
    assert (found[0] == found[2]).all()
    assert (found[0] - found[1]).abs().max() > 0.01
