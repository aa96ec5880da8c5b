"""Every part of a run's state counts: a run without it is another, or refused."""

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_training_resume import CONFIG, assert_same_run, fresh, states, train
from torch import Tensor

from pde_sym.augmentation import EquivariancePenalty, GroupAugmentation
from pde_sym.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from pde_sym.errors import DataError
from pde_sym.nn import IsotypicConfig, Surrogate
from pde_sym.nn.relaxation import Constrained
from pde_sym.training_state import MOMENTS, load_best

MODEL = IsotypicConfig(
    group="C4", width=1, depth=2, kernel_size=3, position_modes=1, position_banks=1,
    hold=Constrained(rate=0.5),
)  # fmt: skip
DRAWING = CONFIG.model_copy(
    update={
        "augmentation": GroupAugmentation(group="D4"),
        "equivariance_penalty": EquivariancePenalty(group="C4"),
    }
)
"""A training that draws motions twice per update."""
STOP = 23


def valid() -> Tensor:
    """Return rollouts on which the network of the start is the best."""
    first = states()[:, 0]
    with torch.no_grad():
        return torch.stack([first, fresh(MODEL)(first) + 1e-3 * first], 1)


def go(folder: Path, stop_at: int = -1) -> bool:
    return train(folder, MODEL, stop_at=stop_at, config=DRAWING, valid=valid())


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("straight")
    assert go(folder)
    return folder


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stopped")
    assert not go(folder, stop_at=STOP)
    return folder


def chosen(part: str) -> Callable[[str], bool]:
    """Return whether a tensor's name belongs to a part of the state."""
    if part in MOMENTS:
        return lambda name: name.startswith(f"optimiser.{part}.")
    held = part == "multipliers"
    return lambda name: name.startswith("model.") and ("multipliers" in name) == held


TENSORS = ("weights", "multipliers", *MOMENTS)
START: dict[str, Any] = {"update": 0, "best": None}


def without(checkpoint: Checkpoint, part: str) -> Checkpoint:
    """Return the checkpoint without a part of the state."""
    if part in START:
        state = {k: v for k, v in checkpoint.state.items() if k != part}
        return replace(checkpoint, state=state)
    drop = chosen(part)
    kept = {name: t for name, t in checkpoint.tensors.items() if not drop(name)}
    return replace(checkpoint, tensors=kept)


def as_at_the_start(checkpoint: Checkpoint, part: str) -> Checkpoint:
    """Return the checkpoint with a part of the state as a new run has it."""
    if part in START:
        return replace(checkpoint, state=checkpoint.state | {part: START[part]})
    first = {f"model.{k}": v for k, v in fresh(MODEL).state_dict().items()}
    tensors = {
        name: first.get(name, torch.zeros_like(value)) if chosen(part)(name) else value
        for name, value in checkpoint.tensors.items()
    }
    return replace(checkpoint, tensors=tensors)


def changed(
    stopped: Path, folder: Path, change: Callable[[Checkpoint], Checkpoint]
) -> None:
    """Make `folder` the stopped run with another checkpoint."""
    shutil.copytree(stopped, folder)
    path = folder / f"checkpoints/step-{STOP:08d}"
    save_checkpoint(path, change(load_checkpoint(path)))


def test_the_parts_are_all_that_there_is(stopped: Path) -> None:
    checkpoint = load_checkpoint(stopped / f"checkpoints/step-{STOP:08d}")
    assert checkpoint.state.keys() == START.keys()
    counts = [sum(map(chosen(part), checkpoint.tensors)) for part in TENSORS]
    assert min(counts) > 0
    assert sum(counts) == len(checkpoint.tensors)
    for part in (*TENSORS, *START):
        for change in (without, as_at_the_start):
            found = change(checkpoint, part)
            assert str(found) != str(checkpoint), (part, change)


def test_with_all_of_it_the_run_is_the_same(
    stopped: Path, straight: Path, tmp_path: Path
) -> None:
    """The control of what follows."""
    changed(stopped, tmp_path / "run", lambda checkpoint: checkpoint)
    assert go(tmp_path / "run")
    assert_same_run(tmp_path / "run", straight)


@pytest.mark.parametrize("part", [*TENSORS, *START])
def test_a_part_that_is_missing_is_refused(
    stopped: Path, tmp_path: Path, part: str
) -> None:
    changed(stopped, tmp_path / "run", lambda checkpoint: without(checkpoint, part))
    with pytest.raises(DataError, match=r"lacks (moments of|its update)|another model"):
        go(tmp_path / "run")


@pytest.mark.parametrize("part", [*TENSORS, *START])
def test_a_part_that_begins_again_is_noticed(
    stopped: Path, straight: Path, tmp_path: Path, part: str
) -> None:
    changed(
        stopped, tmp_path / "run", lambda checkpoint: as_at_the_start(checkpoint, part)
    )
    assert go(tmp_path / "run")
    with pytest.raises(AssertionError):
        assert_same_run(tmp_path / "run", straight)


def test_moments_that_are_gone_altogether_are_noticed(
    stopped: Path, straight: Path, tmp_path: Path
) -> None:
    """A parameter may have none, where it has not moved yet; this one had."""

    def change(checkpoint: Checkpoint) -> Checkpoint:
        for part in MOMENTS:
            checkpoint = without(checkpoint, part)
        return checkpoint

    changed(stopped, tmp_path / "run", change)
    assert go(tmp_path / "run")
    with pytest.raises(AssertionError):
        assert_same_run(tmp_path / "run", straight)


def test_moments_of_another_shape_are_refused(stopped: Path, tmp_path: Path) -> None:
    def change(checkpoint: Checkpoint) -> Checkpoint:
        name = next(filter(chosen("exp_avg"), checkpoint.tensors))
        other = checkpoint.tensors[name][..., None]
        return replace(checkpoint, tensors=checkpoint.tensors | {name: other})

    changed(stopped, tmp_path / "run", change)
    with pytest.raises(DataError, match="lacks moments of"):
        go(tmp_path / "run")


@pytest.mark.parametrize("part", ["metrics.jsonl", "best"])
def test_files_that_are_gone_are_noticed(
    stopped: Path, straight: Path, tmp_path: Path, part: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(stopped, folder)
    if part == "best":
        shutil.rmtree(folder / part)
    else:
        (folder / part).unlink()
    assert go(folder)
    with pytest.raises((AssertionError, IndexError)):
        assert_same_run(folder, straight)


@pytest.mark.parametrize("purpose", ["augmentation", "equivariance_penalty"])
def test_what_is_drawn_counts(straight: Path, tmp_path: Path, purpose: str) -> None:
    """The comparison sees the motions of an update, of either purpose."""
    config = DRAWING.model_copy(update={purpose: getattr(CONFIG, purpose)})
    assert train(tmp_path, MODEL, config=config, valid=valid())
    with pytest.raises(AssertionError):
        assert_same_run(tmp_path, straight)


def damage(folder: Path) -> None:
    path = folder / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def test_a_checkpoint_that_is_passed_over_is_named(
    stopped: Path, straight: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(stopped, folder)
    damage(folder / f"checkpoints/step-{STOP:08d}")
    assert go(folder)
    assert_same_run(folder, straight)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("pde_sym", logging.WARNING)
    named = f"{folder}/checkpoints/step-{STOP:08d}/tensors.safetensors: damaged"
    assert named in record.message
    assert record.message.endswith("training goes on from update 20")
    # A run with nothing to pass over says nothing.
    caplog.clear()
    assert go(folder)
    assert caplog.records == []


def test_without_a_whole_checkpoint_training_begins_again(
    stopped: Path, straight: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(stopped, folder)
    for path in folder.glob("checkpoints/*"):
        damage(path)
    assert go(folder)
    assert_same_run(folder, straight)
    assert len(caplog.records) == 2
    for record in caplog.records:
        assert record.message.endswith("training begins again")


def test_best_weights_that_are_passed_over_are_named(
    straight: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A kill may leave two of them, between writing one and removing the other."""
    folder = tmp_path / "run"
    shutil.copytree(straight, folder)
    shutil.copytree(folder / "best/step-00000000", folder / "best/step-00000010")
    damage(folder / "best/step-00000010")
    surrogate: Surrogate = fresh(MODEL)
    assert load_best(surrogate, folder)["update"] == 0
    (record,) = caplog.records
    assert "best/step-00000010/tensors.safetensors: damaged" in record.message
    assert record.message.endswith("the best weights of update 0 serve")
