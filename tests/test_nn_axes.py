"""Surrogates, errors and data of lines and of bodies, beside those of the plane."""

from pathlib import Path

import pytest
import torch
from torch import nn

from data_gen.build import build
from data_gen.recipes import Recipe, read_recipe
from pde_sym.dataset import MemoryWindows, TrajectoryDataset
from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec, Rank
from pde_sym.learning import measure_scales, task_of, training_windows
from pde_sym.metrics import correlation, nrmse, relative_l2, vrmse
from pde_sym.nn import FieldScale, Normalisation, Surrogate, Task
from pde_sym.objective import window_loss
from pde_sym.seeds import Split
from pde_sym.training import Rollouts, rollout_error

POINTS = {1: (12,), 2: (4, 3), 0: (1, 1, 1)}
STATE = FieldSpec.of(
    Field(name="momentum", rank=Rank.VECTOR, components=3), Field(name="height")
)
GIVEN = FieldSpec.of(Field(name="depth"))
KDV = {"kind": "kdv", "breaking": [{"kind": "potential", "strength": 0.2}]}
BODY = {"kind": "rigid_body", "breaking": [{"kind": "gravity", "strength": 0.3}]}


def task(num_axes: int) -> Task:
    return Task(state=STATE, given=GIVEN, num_axes=num_axes)


@pytest.mark.parametrize("num_axes", POINTS)
def test_scales_and_steps_do_not_depend_on_how_points_are_arranged(
    num_axes: int,
) -> None:
    """The same numbers on 12 points in a row, on 4 x 3, and as 12 single points."""
    flat = torch.randn(2, 5, 12, dtype=torch.float64) + 3
    sets = {
        1: flat,
        2: flat.unflatten(-1, (4, 3)),
        0: flat.transpose(1, 2).reshape(24, 5, 1, 1, 1),
    }
    x, expected = sets[num_axes], {}
    for axes, arranged in ((num_axes, x), (2, sets[2])):
        u, given = arranged[:, :4], arranged[:, 4:]
        scales = Normalisation.of(task(axes), u, 1.5 * u, given)
        expected[axes] = [(s.mean, s.std, s.increment_std) for s in scales.fields]
    assert torch.tensor(expected[num_axes]).allclose(torch.tensor(expected[2]))
    scales = Normalisation.of(task(num_axes), x[:, :4], 1.5 * x[:, :4], x[:, 4:])
    net = nn.Module()
    net.forward = lambda inputs: inputs[:, :4] + inputs[:, 4:]  # type: ignore[method-assign]
    step = Surrogate(net, task(num_axes), scales)
    momentum, height, depth = scales.fields
    u, given = x[:, :4], x[:, 4:]
    out = step(u, given)
    assert out.shape == u.shape
    read = (given - depth.mean) / depth.std
    for channel in range(4):
        own = momentum if channel < 3 else height
        value = u[:, channel : channel + 1]
        change = own.increment_std * ((value - own.mean) / own.std + read)
        assert out[:, channel : channel + 1].allclose(value + change)
    # One given field for the whole batch.
    assert torch.equal(
        step(u, given[0]), step(u, given[:1].expand(len(u), *given.shape[1:]))
    )


@pytest.mark.parametrize(
    ("num_axes", "points"), [(1, "x"), (2, "x, y"), (0, "x, y, z")]
)
def test_arrays_of_other_axes_are_refused(num_axes: int, points: str) -> None:
    kind = Task(state=STATE, num_axes=num_axes)
    scales = Normalisation.identity(kind)
    step = Surrogate(nn.Identity(), kind, scales)
    good = torch.randn(2, 4, *POINTS[num_axes])
    assert torch.equal(step(good), 2 * good)
    for wrong in (good[:, :3], good[0, 0], good[..., None, :][:, :, :0]):
        with pytest.raises(
            InputError, match=rf"state: expected \(\.\.\., 4, {points}\)"
        ):
            step(wrong)
    flat = FieldScale(name="momentum", mean=1.0)
    with pytest.raises(InputError, match="vector needs mean 0"):
        Normalisation(fields=(flat, FieldScale(name="height"))).channels(STATE, 1)


@pytest.mark.parametrize("metric", [vrmse, nrmse, correlation, relative_l2])
def test_errors_on_a_line_are_those_of_the_same_points_on_a_plane(metric) -> None:
    p, u = torch.randn(2, 3, 4, 2, 12, dtype=torch.float64)
    expected = metric(p.unflatten(-1, (4, 3)), u.unflatten(-1, (4, 3)))
    assert expected.shape == (3, 4)
    assert torch.allclose(metric(p, u, 1), expected, rtol=1e-12)
    # Read as a plane, a line would mix channels with points.
    assert metric(p, u).shape != expected.shape


def test_error_at_a_point_is_relative_to_its_size() -> None:
    """u = (3, 0, 4), p = u + (0, 1, 0): ||p - u|| / ||u|| = 1 / 5."""
    u = torch.tensor([3.0, 0.0, 4.0], dtype=torch.float64).view(1, 3, 1, 1, 1)
    p = u + torch.tensor([0.0, 1.0, 0.0]).view(1, 3, 1, 1, 1)
    assert vrmse(p, u, 3).item() == pytest.approx(0.2, rel=1e-7)
    assert relative_l2(p, u, 3).item() == pytest.approx(0.2, abs=1e-15)
    assert vrmse(torch.zeros_like(u), u, 3).item() == pytest.approx(1, rel=1e-7)
    assert vrmse(u, u, 3).item() == 0


@pytest.mark.parametrize("num_axes", POINTS)
def test_the_loss_sees_each_frame_once(num_axes: int) -> None:
    """A step that changes nothing has the error of the frames themselves."""
    kind = Task(state=STATE, num_axes=num_axes)
    net = nn.Module()
    net.forward = torch.zeros_like  # type: ignore[method-assign]
    step = Surrogate(net, kind, Normalisation.identity(kind))
    states = torch.randn(2, 3, 4, *POINTS[num_axes])
    axes = kind.array_axes
    errors = [
        vrmse(states[i, :1], states[i, j : j + 1], axes).item()
        for i in range(2)
        for j in (1, 2)
    ]
    loss = window_loss(step, states, None).item()
    assert loss == pytest.approx(sum(errors) / 4, rel=1e-5)
    error = rollout_error(step, Rollouts(states, None), 5)
    assert error.shape == (2, 2)
    assert error.flatten().tolist() == pytest.approx(errors, rel=1e-5)


@pytest.mark.parametrize(
    ("system", "changes", "expected"),
    [
        (KDV, {}, {"num_axes": 1, "breaks_translation": True, "resolution": 32}),
        (
            KDV,
            {"environment": "given"},
            {"num_axes": 1, "breaks_translation": False, "resolution": 32},
        ),
        (
            {"kind": "kdv"},
            {},
            {"num_axes": 1, "breaks_translation": False, "resolution": 32},
        ),
        (BODY, {}, {"num_axes": 0, "breaks_translation": False, "resolution": None}),
    ],
    ids=["line", "given", "intact line", "body"],
)
def test_tasks_windows_and_scales_of_data(
    tmp_path: Path, system: dict, changes: dict, expected: dict
) -> None:
    resolution = {"resolution": 32} if system["kind"] == "kdv" else {}
    recipe = Recipe.model_validate(
        {"system": system, "frames": 4, **resolution, **changes}
    )
    build(recipe, {Split.TRAIN: 2, Split.VALID: 1, Split.TEST: 1}, tmp_path / "data")
    dataset = TrajectoryDataset(tmp_path / "data", "train", window=3)
    found = task_of(dataset, read_recipe(dataset.folder).system)
    assert {key: getattr(found, key) for key in expected} == expected
    assert (found.given is not None) == (changes == {"environment": "given"})
    windows = training_windows(dataset)
    assert isinstance(windows, MemoryWindows)
    states, given = windows.batch([0, len(windows) - 1])
    grid = recipe.grid
    assert states.shape == (2, 3, found.state.num_channels, *grid.shape)
    assert (given is None) == (found.given is None)
    step = Surrogate(nn.Identity(), found, measure_scales(dataset, found))
    assert step.get_buffer("mean").shape[1:] == (1,) * grid.num_axes
