"""The folder of a training, without one: what it keeps, gives back and refuses."""

import logging
import math
import shutil
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_training_resume import FREE, RELAXED, Model, fresh
from torch import Tensor

from pde_sym.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from pde_sym.errors import DataError
from pde_sym.nn import Surrogate
from pde_sym.ranks import ALONE, Ranks
from pde_sym.store import files
from pde_sym.training_state import TrainingFolder, load_best, read_log


def made(folder: Path, model: Model = FREE, ranks: Ranks = ALONE) -> TrainingFolder:
    """Return the folder of a new process, whose network is that of the start."""
    surrogate = fresh(model)
    optimiser = torch.optim.AdamW(surrogate.parameters(), lr=1e-2)
    return TrainingFolder(folder, surrogate, optimiser, ranks)


def step(training: TrainingFolder) -> None:
    training.surrogate(torch.ones(1, 1, 8, 8)).square().mean().backward()
    training.optimiser.step()
    training.optimiser.zero_grad()


def tensors(training: TrainingFolder) -> dict[str, Tensor]:
    """Return weights and moments."""
    found = dict(training.surrogate.state_dict())
    for name, parameter in training.surrogate.named_parameters():
        for key, value in training.optimiser.state[parameter].items():
            found[f"{key} of {name}"] = value
    return {name: value.clone() for name, value in found.items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(value, other[name]) for name, value in one.items()
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a run that was killed: saved at 10 and 20, best at 10, rows up to 25."""
    training = made(tmp_path)
    training.resume()
    for update in (10, 20):
        step(training)
        training.save(update, 0.25)
    training.save_best(10, 0.25)
    for update in (10, 20, 25):
        training.log({"update": update, "valid_vrmse": 0.5})
        training.log({"update": update, "loss": 0.5})
    return tmp_path


def test_a_new_run_begins_at_the_start(tmp_path: Path) -> None:
    training = made(tmp_path)
    assert training.resume() == (0, math.inf)
    assert names(tmp_path) == ["best", "checkpoints"]
    assert same(tensors(training), tensors(made(tmp_path)))
    assert read_log(tmp_path) == []


@pytest.mark.parametrize("best", [math.inf, 0.1 + 0.2])
def test_what_was_saved_comes_back_to_the_last_bit(tmp_path: Path, best: float) -> None:
    training = made(tmp_path)
    training.resume()
    step(training)
    training.save(7, best)
    saved = tensors(training)
    again = made(tmp_path)
    assert again.resume() == (7, best)
    assert same(tensors(again), saved)
    assert not same(saved, tensors(made(tmp_path)))
    for one in (training, again):
        step(one)
    assert same(tensors(training), tensors(again))


def test_the_last_two_are_kept_and_one_of_the_best(run: Path) -> None:
    training = made(run)
    training.resume()
    for update in (100, 30):
        training.save(update, 0.5)
        training.save_best(update, 0.5)
    assert names(run / "checkpoints") == ["step-00000030", "step-00000100"]
    assert names(run / "best") == ["step-00000100"]


def test_what_a_killed_run_left_is_removed(run: Path) -> None:
    for part in ("checkpoints", "best"):
        (run / part / f"{files.TEMPORARY}half").mkdir()
    with (run / "metrics.jsonl").open("a") as log:
        log.write('{"update": 30, "val')
    assert made(run).resume() == (20, 0.25)
    assert names(run / "checkpoints") == ["step-00000010", "step-00000020"]
    assert names(run / "best") == ["step-00000010"]
    # The evaluation at 20 comes again, and what came after it.
    assert read_log(run) == [
        {"update": 10, "valid_vrmse": 0.5},
        {"update": 10, "loss": 0.5},
        {"update": 20, "loss": 0.5},
    ]


def damage(folder: Path) -> None:
    (folder / "tensors.safetensors").write_bytes(b"")


def test_the_checkpoint_before_a_damaged_one_serves(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damage(run / "checkpoints/step-00000020")
    assert made(run).resume() == (10, 0.25)
    assert [row["update"] for row in read_log(run)] == [10]
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("pde_sym", logging.WARNING)
    assert "step-00000020/tensors.safetensors: damaged" in record.message
    assert record.message.endswith("; training goes on from update 10")


def test_without_a_whole_one_everything_begins_again(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in (run / "checkpoints").iterdir():
        damage(path)
    training = made(run)
    assert training.resume() == (0, math.inf)
    assert same(tensors(training), tensors(made(run)))
    assert names(run / "best") == []
    assert (run / "metrics.jsonl").read_bytes() == b""
    assert [r.message.split("; ")[1] for r in caplog.records] == [
        "training begins again"
    ] * 2


def rewritten(run: Path, change: Callable[[Checkpoint], Checkpoint]) -> None:
    path = run / "checkpoints/step-00000020"
    save_checkpoint(path, change(load_checkpoint(path)))


def of_state(**changes: Any) -> Callable[[Checkpoint], Checkpoint]:
    return lambda one: replace(one, state=one.state | changes)


def without(part: str) -> Callable[[Checkpoint], Checkpoint]:
    def change(one: Checkpoint) -> Checkpoint:
        kept = {name: t for name, t in one.tensors.items() if part not in name}
        state = {name: value for name, value in one.state.items() if name != part}
        return Checkpoint(kept, state)

    return change


def reshaped(part: str) -> Callable[[Checkpoint], Checkpoint]:
    def change(one: Checkpoint) -> Checkpoint:
        name = next(name for name in one.tensors if part in name)
        return replace(one, tensors=one.tensors | {name: one.tensors[name][..., None]})

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("model."), r"of another model \(Error.* Missing key\(s\)"),
        (without("optimiser.step"), "the checkpoint lacks moments of net"),
        (without("optimiser.exp_avg."), "the checkpoint lacks moments of net"),
        (without("optimiser.exp_avg_sq"), "the checkpoint lacks moments of net"),
        (reshaped("optimiser.step"), "the checkpoint lacks moments of net"),
        (reshaped("optimiser.exp_avg."), "the checkpoint lacks moments of net"),
        (reshaped("optimiser.exp_avg_sq"), "the checkpoint lacks moments of net"),
        (reshaped("model."), r"the checkpoint is of another model \("),
        (without("update"), "the checkpoint lacks its update or its best error"),
        (without("best"), "the checkpoint lacks its update or its best error"),
        (of_state(update="x"), "the checkpoint lacks its update or its best error"),
        (of_state(update=None), "the checkpoint lacks its update or its best error"),
        (of_state(best="x"), "the checkpoint lacks its update or its best error"),
        (of_state(best=1), "the checkpoint lacks its update or its best error"),
    ],
)
def test_a_state_that_is_none_is_refused(
    run: Path, change: Callable[[Checkpoint], Checkpoint], message: str
) -> None:
    rewritten(run, change)
    with pytest.raises(DataError, match=message) as caught:
        made(run).resume()
    assert str(caught.value).startswith(f"{run}: ")
    assert "\n" not in str(caught.value)


def test_a_parameter_that_has_not_moved_has_no_moments(run: Path) -> None:
    rewritten(run, without("optimiser."))
    training = made(run)
    assert training.resume() == (20, 0.25)
    assert not training.optimiser.state


# The best weights -------------------------------------------------------------------


def test_the_best_weights_are_those_that_were_saved(run: Path) -> None:
    training = made(run)
    training.resume()
    training.save_best(20, 0.125)
    surrogate: Surrogate = fresh(FREE)
    assert load_best(surrogate, run) == {"update": 20, "best": (0.125).hex()}
    assert same(dict(surrogate.state_dict()), dict(training.surrogate.state_dict()))
    with pytest.raises(DataError, match="the checkpoint is of another model"):
        load_best(fresh(RELAXED), run)


def test_best_weights_that_are_not_there_are_one_error(run: Path) -> None:
    damage(run / "best/step-00000010")
    with pytest.raises(DataError, match=r"tensors\.safetensors: damaged"):
        load_best(fresh(FREE), run)
    shutil.rmtree(run / "best/step-00000010")
    with pytest.raises(DataError, match="the run has no checkpoint yet"):
        load_best(fresh(FREE), run)


def test_older_best_weights_serve_with_a_warning(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(run / "best/step-00000010", run / "best/step-00000020")
    damage(run / "best/step-00000020")
    assert load_best(fresh(FREE), run)["update"] == 10
    (record,) = caplog.records
    assert record.message.endswith("; the best weights of update 10 serve")


# The log ----------------------------------------------------------------------------


def test_a_row_that_is_damaged_is_named(run: Path) -> None:
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "{", *lines[1:]]))
    with pytest.raises(DataError, match=r"metrics\.jsonl: line 2 is not JSON"):
        read_log(run)
    path.write_text("\n".join([*lines, "{"]))
    assert len(read_log(run)) == len(lines)


def test_numbers_that_json_does_not_know_are_no_row(run: Path) -> None:
    before = read_log(run)
    with pytest.raises(ValueError, match="JSON"):
        made(run).log({"update": 30, "loss": math.nan})
    assert read_log(run) == before


# Several processes ------------------------------------------------------------------


@dataclass(frozen=True)
class Wired(Ranks):
    """Ranks of one process: what the first passes, the second gets."""

    wire: deque[bytes] = field(default_factory=deque)

    def from_first(self, data: bytes) -> bytes:
        if not self.is_first:
            return self.wire.popleft()
        self.wire.append(data)
        return data


@pytest.mark.parametrize("begun", [True, False])
def test_all_ranks_get_the_state_of_the_first(run: Path, begun: bool) -> None:
    if not begun:
        shutil.rmtree(run / "checkpoints")
    first = made(run, ranks=Wired(0, 2))
    wire = first.ranks.wire  # type: ignore[attr-defined]
    second = made(run / "nowhere", ranks=Wired(1, 2, wire))
    with torch.no_grad():
        for parameter in second.surrogate.parameters():
            parameter.fill_(3.0)
    assert first.resume() == ((20, 0.25) if begun else (0, math.inf))
    assert second.resume() == ((20, 0.25) if begun else (0, math.inf))
    assert same(tensors(first), tensors(second))


def test_the_first_rank_alone_writes(run: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    second = made(run, ranks=Wired(1, 2))
    second.save(30, 0.5)
    second.save_best(30, 0.5)
    second.log({"update": 30})
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*")} == before
