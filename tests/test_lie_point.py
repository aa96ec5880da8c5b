"""Windows that Lie point symmetries move are solutions of KdV, as the solver finds."""

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import relative_difference
from kdv_cases import DT, GRID, LENGTH, STEPS, flow, states, system_of
from torch import Tensor

from experiments import train
from pde_sym.errors import InputError
from pde_sym.lie_point import LiePointAugmentation, squeezed
from pde_sym.nn import CNNConfig, Normalisation, Surrogate, Task
from pde_sym.objective import TrainConfig
from pde_sym.simulate import rollout
from pde_sym.systems.kdv import KdV
from pde_sym.systems.kdv_solutions import RandomWaves
from pde_sym.training import Rollouts, fit
from pde_sym.training_state import read_log

TASK = Task(state=KdV.fields, num_axes=1, boost=6 * DT / LENGTH)
SHIFTS = LiePointAugmentation(boost=0.0)
BOOSTS = LiePointAugmentation(shifts=False)
SQUEEZE = LiePointAugmentation(shifts=False, boost=0.0, squeeze=1.0)
ALL = LiePointAugmentation(squeeze=0.5)
EXACT = 1e-11
"""Relative: two steps of the solver add up more round-off than one."""


def windows(name: str | None = None, frames: int = 3, seed: int = 3) -> Tensor:
    return rollout(flow(system_of(name)), states(4, seed), frames - 1)


def apply(
    augmentation: LiePointAugmentation, u: Tensor, task: Task = TASK, seed: int = 0
) -> Tensor:
    return augmentation(u, None, task, np.random.default_rng(seed))[0]


def smooth(modes: int, seed: int = 3) -> Tensor:
    """Return 17 frames from low waves, which the grid resolves twice as fine."""
    rng, law = np.random.default_rng(seed), RandomWaves(modes=modes, amplitude=0.1)
    u = torch.from_numpy(np.stack([law.sample(GRID, rng) for _ in range(4)]))
    return rollout(flow(system_of(None)), u, 16)


def residual(moved: Tensor, name: str | None = None, steps: int = STEPS) -> float:
    """Return how far later frames are from those solved from the first."""
    solver = flow(system_of(name), steps=steps)
    solved = rollout(solver, moved[:, 0], moved.shape[1] - 1)
    return relative_difference(moved[:, 1:], solved[:, 1:])


@pytest.mark.parametrize("augmentation", [SHIFTS, BOOSTS, LiePointAugmentation()])
@pytest.mark.parametrize("name", [None, "viscosity", "kawahara"])
def test_moved_windows_are_solutions(
    augmentation: LiePointAugmentation, name: str | None
) -> None:
    u = windows(name)
    moved = apply(augmentation, u)
    assert moved.shape == u.shape
    assert relative_difference(moved, u) > 0.1
    assert residual(moved, name) <= EXACT


@pytest.mark.parametrize(
    ("augmentation", "name"),
    [(SHIFTS, "potential"), (BOOSTS, "potential"), (BOOSTS, "damping")],
)
def test_what_a_term_breaks_makes_no_solutions(
    augmentation: LiePointAugmentation, name: str
) -> None:
    assert residual(apply(augmentation, windows(name)), name) > 1e-3


@pytest.mark.parametrize("factor", [0.0, 0.5, -1.0])
def test_boosts_at_another_speed_make_no_solutions(factor: float) -> None:
    wrong = TASK.model_copy(update={"boost": factor * 6 * DT / LENGTH})
    assert residual(apply(BOOSTS, windows(), wrong)) > 1e-3


def test_squeezed_windows_are_solutions_of_every_eighth_frame() -> None:
    assert SQUEEZE.frames(3) == 17
    u = smooth(1)
    moved = apply(SQUEEZE, u)
    assert moved.shape == (4, 3, *u.shape[2:])
    # 4 u(2 x): the first frame at every second point, twice over.
    assert torch.allclose(moved[:, 0, 0, :64], 4 * u[:, 0, 0, ::2], atol=1e-9)
    assert torch.equal(moved[..., :64], moved[..., 64:])
    assert residual(moved, steps=240) <= 1e-10


def test_squeezed_windows_are_as_good_as_the_grid() -> None:
    """What is not resolved at half the wavelengths is cut off, and lost."""
    u = smooth(2)
    spectrum = torch.fft.rfft(u[:, :, 0]).abs()
    tail = float(spectrum[..., 128 // 6 + 1 :].amax() / spectrum.amax())
    assert 1e-7 < tail < 1e-5
    assert 0.001 * tail < residual(apply(SQUEEZE, u), steps=240) < tail


@pytest.mark.parametrize(
    ("stride", "name"), [(7, None), (1, None), (8, "kawahara"), (8, "viscosity")]
)
def test_another_stride_or_a_length_of_its_own_makes_no_solution(
    stride: int, name: str | None
) -> None:
    u = windows(name, frames=2 * stride + 1)[:, ::stride]
    moved = torch.stack([squeezed(one.repeat_interleave(8, 0))[:3] for one in u])
    assert residual(moved, name) > 1e-3


def test_the_tail_of_a_state_is_what_squeezing_loses() -> None:
    """cos of mode m becomes 4 cos of mode 2 m while ``m < N / 6``, nothing after."""
    n = 24
    x = 2 * torch.pi * torch.arange(n, dtype=torch.float64) / n
    for m in range(6):
        moved = squeezed(torch.cos(m * x)[None, None])
        expected = 4 * torch.cos(2 * m * x) if m < n / 6 else torch.zeros(n)
        assert torch.allclose(moved[0, 0], expected.double(), atol=1e-13)


def test_half_of_the_windows_are_squeezed_and_all_are_solutions() -> None:
    u = torch.cat([smooth(1, seed) for seed in (3, 4)])
    moved = apply(ALL, u)
    half = moved[..., :64] - moved[..., 64:]
    is_squeezed = half.abs().amax((1, 2, 3)) < 1e-9
    assert 0 < is_squeezed.sum() < len(u)
    assert residual(moved, steps=240) <= 1e-10
    assert residual(moved[~is_squeezed]) <= EXACT


def test_draws_are_even_and_repeatable() -> None:
    u = torch.zeros(4000, 2, 1, 8, dtype=torch.float64)
    u[:, :, 0, :] = torch.cos(2 * torch.pi * torch.arange(8) / 8)
    moved = apply(LiePointAugmentation(boost=0.7), u)
    assert torch.equal(moved, apply(LiePointAugmentation(boost=0.7), u))
    assert not torch.equal(moved, apply(LiePointAugmentation(boost=0.7), u, seed=1))
    c = moved.mean(-1)[:, 0, 0]
    place = -torch.fft.rfft(moved[:, 0, 0])[:, 1].angle() / (2 * torch.pi) % 1
    for values, low, high in ((c, -0.7, 0.7), (place, 0.0, 1.0)):
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < values.max() <= high
        # Six standard deviations of the mean of uniform numbers.
        spread = (high - low) / (12 * 4000) ** 0.5
        assert abs(float(values.mean()) - (low + high) / 2) < 6 * spread
    assert abs(float(torch.corrcoef(torch.stack([c, place]))[0, 1])) < 0.1


def test_given_fields_move_with_the_state() -> None:
    u, given = windows(), states(4, seed=9)
    rng = np.random.default_rng(0)
    moved, moved_given = SHIFTS(u, given, TASK, rng)
    both = torch.cat([u[:, :1], given[:, None]], 1)
    expected = SHIFTS(both, None, TASK, np.random.default_rng(0))[0]
    assert moved_given is not None
    assert torch.allclose(moved_given, expected[:, 1], atol=1e-14)
    assert torch.equal(moved[:, 0], expected[:, 0])
    assert relative_difference(moved_given, given) > 0.1
    assert BOOSTS(u, given, TASK, rng)[1] is given


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"breaks_translation": True}, "expected shifts false"),
        ({"breaks_boosts": True}, "expected boost 0"),
        ({"breaks_scaling": True}, "expected squeeze 0"),
        ({"boost": None}, "symmetries are those of kdv"),
    ],
)
def test_broken_symmetries_are_refused(change: dict, reason: str) -> None:
    task = TASK.model_copy(update=change)
    TrainConfig(augmentation=ALL).check(TASK)
    with pytest.raises(InputError, match=f"training.augmentation: .*{reason}"):
        TrainConfig(augmentation=ALL).check(task)
    if task.boost is not None:
        kept = LiePointAugmentation(shifts=False, boost=0.0)
        TrainConfig(augmentation=kept).check(task)


class Stored:
    """Windows in memory."""

    def __init__(self, states: Tensor) -> None:
        self.states = states

    def __len__(self) -> int:
        return len(self.states)

    def batch(self, indices):
        return self.states[list(indices)], None


def test_training_reads_the_frames_that_it_needs(tmp_path: Path) -> None:
    config = TrainConfig(
        updates=4, batch_size=2, unroll=2, evaluate_every=4, augmentation=ALL
    )
    assert config.window == 17
    assert TrainConfig(unroll=2).window == 3
    u = windows(frames=17).float()
    net = CNNConfig(width=2, depth=2).build(TASK)
    scales = Normalisation.of(TASK, u[:, :-1], u[:, 1:])
    step = Surrogate(net, TASK, scales)
    assert fit(step, Stored(u), Rollouts(u[:, :3], None), config, tmp_path)
    assert len(read_log(tmp_path)) >= 2


def test_the_kind_is_chosen_by_a_word() -> None:
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    words = ["--data", "d", "--out", "o", "--model", "cnn", "--augment", "lie_point"]
    words += ["--set", "training.augmentation.boost=0.2"]
    config = train.resolve(parser.parse_args(words)).training
    assert config.augmentation == LiePointAugmentation(boost=0.2)
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config
