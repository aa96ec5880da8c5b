"""Random motions of training data, and the charge on a network's defect."""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tolerances import TOLERANCE
from torch import Tensor, nn
from typed_fields import pseudoscalar, vector

from experiments import train
from pde_sym.augmentation import (
    EquivariancePenalty,
    GroupAugmentation,
    Motions,
    Purpose,
    draws,
    move,
)
from pde_sym.checkpoint import load_checkpoint
from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec, Rank
from pde_sym.grid import PeriodicGrid, WalledGrid
from pde_sym.groups import IDENTITY, GroupElement, point_group
from pde_sym.nn import CNNConfig, Normalisation, StrictConfig, Surrogate, Task
from pde_sym.objective import TrainConfig, window_loss
from pde_sym.symmetry import act
from pde_sym.training import Rollouts, fit
from pde_sym.training_state import read_log

VECTOR = vector("velocity")
STATE = FieldSpec.of(VECTOR, Field(name="tracer"))
GIVEN = FieldSpec.of(pseudoscalar("topography"))
TASK = Task(state=STATE, given=GIVEN)
SCALAR = Task(state=FieldSpec.of(Field(name="u")))
LINE = Task(state=SCALAR.state, num_axes=1)
POINTS = 6
FREE = CNNConfig(width=4, depth=2, kernel_size=3)
EXACT = TOLERANCE[torch.float64]


def strict(group: str) -> StrictConfig:
    return StrictConfig(group=group, width=2, depth=2, kernel_size=3)


def surrogate(config: CNNConfig | StrictConfig, task: Task = TASK) -> Surrogate:
    torch.manual_seed(1)
    net = config.build(task)
    return Surrogate(net, task, Normalisation.identity(task)).double()


def windows(count: int = 5) -> tuple[Tensor, Tensor]:
    """Return windows of three frames and their given fields."""
    states = torch.randn(count, 3, 3, POINTS, POINTS, dtype=torch.float64)
    return states, torch.randn(count, 1, POINTS, POINTS, dtype=torch.float64)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_draws_are_pure_functions_of_seed_update_and_purpose() -> None:
    keys = [(s, n, p) for s in (0, 1) for n in (0, 1, 2) for p in Purpose]
    drawn = {key: tuple(draws(*key).integers(2**40, size=3)) for key in keys}
    assert len(set(drawn.values())) == len(keys)
    again = {key: tuple(draws(*key).integers(2**40, size=3)) for key in reversed(keys)}
    assert again == drawn


@pytest.mark.parametrize("name", ["C1", "C2", "C4", "D1", "D2", "D4"])
def test_motions_are_drawn_with_equal_chances(name: str) -> None:
    group = point_group(name)
    motions = Motions.parse({"group": name}, where="motions")
    drawn = motions.draw(rng(), 4000, (2, 3))
    counts = Counter(drawn)
    assert len(counts) == 6 * len(group)
    mean = 4000 / len(counts)
    # Counts are binomial: six standard deviations.
    assert max(abs(n - mean) for n in counts.values()) < 6 * mean**0.5
    still = motions.model_copy(update={"shifts": False}).draw(rng(), 400, (2, 3))
    assert set(still) == set(group)


def test_a_line_is_shifted_by_whole_steps_alone() -> None:
    drawn = Motions(group="C1").draw(rng(), 200, (5,))
    assert set(drawn) == {GroupElement(shift=(i / 5, 0)) for i in range(5)}
    x = torch.randn(2, 3, 1, 5)
    moved = move([GroupElement(shift=(0.4, 0)), IDENTITY], x, SCALAR.state, LINE)
    assert torch.equal(moved, torch.stack([x[0].roll(2, -1), x[1]]))


def test_a_window_and_its_given_fields_move_as_one() -> None:
    """Every sample by one element, the same for all its frames and fields."""
    states, given = windows()
    grid = PeriodicGrid.square(POINTS)
    augment = GroupAugmentation()
    moved, moved_given = augment(states, given, TASK, rng(3))
    elements = augment.draw(rng(3), len(states), (POINTS, POINTS))
    assert len(set(elements)) == len(elements)
    assert moved_given is not None
    for i, element in enumerate(elements):
        assert torch.equal(moved[i], act(element, states[i], STATE, grid))
        assert torch.equal(moved_given[i], act(element, given[i], GIVEN, grid))
    assert not torch.equal(moved, states)


def test_the_loss_of_a_strict_network_does_not_see_the_motions() -> None:
    """It does when the given fields stay behind, and that of a free network always."""
    states, given = windows()
    moved, moved_given = GroupAugmentation()(states, given, TASK, rng())
    for config, is_strict in ((strict("D4"), True), (FREE, False)):
        step = surrogate(config)
        with torch.no_grad():
            before = window_loss(step, states, given)
            change = abs(window_loss(step, moved, moved_given) - before) / before
            left_behind = abs(window_loss(step, moved, given) - before) / before
        assert (change <= EXACT) == is_strict
        assert (change > 1e-3) != is_strict
        assert left_behind > 1e-3


def test_the_charge_is_the_relative_square_of_the_defect() -> None:
    states, given = windows()
    step, penalty = surrogate(FREE), EquivariancePenalty(group="C4")
    elements = penalty.draw(rng(4), len(states), (POINTS, POINTS))
    grid, gap, size = PeriodicGrid.square(POINTS), 0.0, 0.0
    for g, x, e in zip(elements, states[:, 0], given, strict=True):
        out = step.normalised_increment(x[None], e[None])[0]
        turned = step.normalised_increment(
            act(g, x, STATE, grid)[None], act(g, e, GIVEN, grid)[None]
        )[0]
        gap += float((turned - act(g, out, STATE, grid)).detach().square().sum())
        size += float(out.detach().square().sum())
    found = penalty(step, states[:, 0], given, rng(4))
    assert found.item() == pytest.approx(gap / size, rel=1e-12)
    assert gap / size > 0.1


@pytest.mark.parametrize("name", ["C1", "C2", "C4", "D1", "D2", "D4"])
def test_strict_networks_are_charged_for_what_they_break_alone(name: str) -> None:
    states, given = windows(12)
    step = surrogate(strict("C4"))
    penalty = EquivariancePenalty.parse({"group": name}, where="penalty")
    charge = penalty(step, states[:, 0], given, rng())
    assert (charge <= EXACT**2) == (name[0] == "C")
    assert (charge > 1e-2) == (name[0] == "D")


def test_no_network_gains_by_a_smaller_or_a_larger_output() -> None:
    """The charge does not change with a factor on f, nor has it a slope along it."""
    states, given = windows()
    step = surrogate(FREE)
    last = [m for m in step.modules() if isinstance(m, nn.Conv2d)][-1]
    charge = EquivariancePenalty()(step, states[:, 0], given, rng())
    charge.backward()
    pairs = [(p.detach(), p.grad) for p in last.parameters()]
    slopes = [float((p * g).sum()) for p, g in pairs if g is not None]
    steepest = max(float(p.norm() * g.norm()) for p, g in pairs if g is not None)
    assert abs(sum(slopes)) <= 1e-10 * steepest
    assert steepest > 1e-3
    with torch.no_grad():
        for parameter in last.parameters():
            parameter.mul_(0.01)
        smaller = EquivariancePenalty()(step, states[:, 0], given, rng())
    assert smaller.item() == pytest.approx(charge.item(), rel=1e-9)


def test_an_output_of_zero_costs_nothing() -> None:
    step = surrogate(FREE)
    with torch.no_grad():
        for parameter in step.parameters():
            parameter.zero_()
    states, given = windows()
    charge = EquivariancePenalty()(step, states[:, 0], given, rng())
    charge.backward()
    assert charge.item() == 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in step.parameters())


SPACE = FieldSpec.of(Field(name="spin", rank=Rank.VECTOR, components=3))


@pytest.mark.parametrize(
    ("task", "group", "reason"),
    [
        (Task(state=SPACE, num_axes=0), "C1", "a body has no axes"),
        (Task(state=SCALAR.state, num_axes=1), "D1", "expected group C1"),
        (Task(state=SPACE), "C4", "field 'spin' has 3"),
        (Task(state=SCALAR.state, given=SPACE), "D4", "field 'spin' has 3"),
    ],
)
def test_motions_that_a_task_cannot_carry_are_refused_before_any_file(
    task: Task, group: str, reason: str, tmp_path: Path
) -> None:
    net = Surrogate(nn.Identity(), task, Normalisation.identity(task))
    states = torch.zeros(2, 2, task.inputs.num_channels, 8, 8)
    for key in ("augmentation", "equivariance_penalty"):
        config = TrainConfig.parse({key: {"group": group}}, where="training")
        with pytest.raises(InputError, match=rf"training.{key}: group .*{reason}"):
            fit(net, Stored(states), Rollouts(states, None), config, tmp_path)
    assert not list(tmp_path.iterdir())
    TrainConfig(augmentation=GroupAugmentation(group="C4")).check(TASK)


def test_a_quarter_turn_needs_a_square() -> None:
    x = torch.zeros(1, 1, 4, 6)
    with pytest.raises(InputError, match="needs a square grid"):
        move([GroupElement(turns=1)], x, SCALAR.state, SCALAR)
    assert move([GroupElement(turns=2)], x, SCALAR.state, SCALAR).shape == x.shape


# In a training.


class Stored:
    def __init__(self, states: Tensor) -> None:
        self.states = states

    def __len__(self) -> int:
        return len(self.states)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, None]:
        return self.states[list(indices)], None


def drifting() -> Tensor:
    """Return pairs that drift along y: a free network learns to break turns."""
    generator = torch.Generator().manual_seed(5)
    first = torch.randn(6, 1, 8, 8, generator=generator)
    return torch.stack([first, 0.5 * (first + first.roll(1, -1))], 1)


def trained(folder: Path, *stops: int, **settings: Any) -> list[dict[str, Any]]:
    """Train on such pairs, stopped before some updates; return the log."""
    config = TrainConfig.parse(
        {"updates": 60, "batch_size": 6, "learning_rate": 0.02, "horizon": 1,
         "evaluate_every": 60, "unroll": 1} | settings,
        where="training",
    )  # fmt: skip
    states = drifting()
    for stop in (*stops, None):
        torch.manual_seed(1)
        net = Surrogate(FREE.build(SCALAR), SCALAR, Normalisation.identity(SCALAR))
        asked = iter(range(1000))
        fit(net, Stored(states), Rollouts(states, None), config, folder,
            stop=lambda asked=asked, stop=stop: next(asked) == stop)  # fmt: skip
    return read_log(folder)


CHARGED = {
    "augmentation": {"kind": "group", "group": "D2"},
    "equivariance_penalty": {"group": "D4", "weight": 10.0},
}


def test_a_stopped_run_draws_what_it_would_have_drawn(tmp_path: Path) -> None:
    straight = trained(tmp_path / "a", **CHARGED)
    assert trained(tmp_path / "b", 7, 25, **CHARGED) == straight
    assert trained(tmp_path / "c", **CHARGED, seed=1) != straight
    a, b, c = (
        load_checkpoint(tmp_path / f / "checkpoints/step-00000060") for f in "abc"
    )
    assert all(torch.equal(a.tensors[name], b.tensors[name]) for name in a.tensors)
    assert not all(torch.equal(a.tensors[name], c.tensors[name]) for name in a.tensors)


def test_charges_are_logged_and_work(tmp_path: Path) -> None:
    """The charge brings the defect down; augmentation by turns hides the drift."""
    plain = trained(tmp_path / "plain")
    light = trained(tmp_path / "light", equivariance_penalty={"weight": 1e-9})
    heavy = trained(tmp_path / "heavy", equivariance_penalty={"weight": 10.0})
    turned = trained(tmp_path / "turned", augmentation={"group": "C4"})
    shifted = trained(tmp_path / "shifted", augmentation={"group": "C1"})

    def last(rows: list[dict[str, Any]], key: str) -> float:
        return [row[key] for row in rows if key in row][-1]

    assert not any("equivariance_penalty" in row for row in plain)
    charge = last(light, "equivariance_penalty")
    assert last(light, "loss") == pytest.approx(last(plain, "loss"), rel=1e-3)
    assert last(heavy, "equivariance_penalty") < 0.25 * charge
    assert charge > 0.5
    learnt = last(plain, "valid_vrmse")
    assert learnt < 0.3
    assert last(shifted, "valid_vrmse") < 1.5 * learnt
    assert last(turned, "valid_vrmse") > 2 * learnt


# On the command line.


def choices(*words: str) -> TrainConfig:
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    base = ["--data", "d", "--out", "o", "--model", "cnn"]
    return train.resolve(parser.parse_args([*base, *words])).training


def test_augmentation_and_charges_are_chosen_by_words(tmp_path: Path) -> None:
    assert choices().augmentation is None
    assert choices("--augment", "C4").augmentation == GroupAugmentation(group="C4")
    assert choices("--augment", "group").augmentation == GroupAugmentation()
    still = choices("--augment", "D4", "--set", "training.augmentation.shifts=false")
    assert still.augmentation == GroupAugmentation(shifts=False)
    by_set = choices("--set", "training.augmentation.kind=group")
    assert by_set.augmentation == GroupAugmentation()
    off = choices("--augment", "D4", "--set", "training.augmentation=null")
    assert off.augmentation is None
    key = "training.equivariance_penalty"
    charged = choices("--set", f"{key}.weight=0.1", "--set", f"{key}.group=C2")
    assert charged.equivariance_penalty == EquivariancePenalty(group="C2", weight=0.1)
    file = tmp_path / "c.toml"
    file.write_text('[training.augmentation]\nkind = "group"\ngroup = "D2"\n')
    read = choices("--config", str(file))
    assert read.augmentation == GroupAugmentation(group="D2")
    assert TrainConfig.model_validate_json(read.model_dump_json()) == read


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--augment", "D8"], r"augmentation.group.group: .*'D4'.*\(got 'D8'\)"),
        (["--augment", "spin"], "training.augmentation: .*'group', 'lie_point'"),
        (["--set", "training.augmentation.angle=3"], "augmentation.group.angle: Extra"),
        (["--set", "training.equivariance_penalty.weight=-1"], "weight: .*greater"),
        (["--set", "training.penalty.weight=1"], "training.penalty: "),
        (["--set", "training.seed.x.y=1", "--seed", "3"], "seed: expected a table"),
        (["--set", "augmentation.kind=group"], "expected model.KEY or training.KEY"),
        (
            ["--set", 'training.augmentation={"group": "C1", "shifts": false}'],
            "holds the identity alone",
        ),
    ],
)
def test_wrong_words_are_one_line(words: list[str], reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        choices(*words)
    assert "\n" not in str(caught.value)


def test_between_walls_turns_are_about_the_middle_and_nothing_is_shifted() -> None:
    box = TASK.model_copy(update={"walls": "slip"})
    with pytest.raises(InputError, match="none between walls; expected shifts = false"):
        GroupAugmentation().check(box)
    turns = GroupAugmentation(shifts=False)
    turns.check(box)
    states, given = windows(40)
    moved, _ = turns(states, given, box, rng())
    elements = turns.draw(rng(), len(states), (POINTS, POINTS))
    grid = WalledGrid.square(POINTS)
    by_hand = [act(g, x, STATE, grid) for g, x in zip(elements, states, strict=True)]
    assert torch.equal(moved, torch.stack(by_hand))
    assert not torch.equal(turns(states, given, TASK, rng())[0], moved)
    penalty = EquivariancePenalty(group="D4", shifts=False)
    for task in (box, TASK):
        step = surrogate(strict("D4"), task)
        found = float(penalty(step, states[:, 0], given, rng()).detach())
        assert found <= 1e-24
