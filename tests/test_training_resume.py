"""A training that was stopped, killed or damaged ends as one that never was."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from disk_faults import FILE_CALLS, FailingDisk
from torch import Tensor

from pde_sym import training_state
from pde_sym.checkpoint import load_checkpoint
from pde_sym.errors import DataError, OutputError
from pde_sym.fields import Field, FieldSpec
from pde_sym.nn import (
    CNNConfig,
    IsotypicConfig,
    ModulatedConfig,
    Normalisation,
    Surrogate,
    Task,
)
from pde_sym.objective import TrainConfig
from pde_sym.store import files
from pde_sym.training import Rollouts, fit
from pde_sym.training_state import load_best, read_log

TASK = Task(state=FieldSpec.of(Field(name="u")))
FREE = CNNConfig(width=4, depth=2, kernel_size=3)
RELAXED = ModulatedConfig(
    group="C4", width=1, depth=2, kernel_size=3, position_modes=1, position_banks=1
)
Model = CNNConfig | IsotypicConfig | ModulatedConfig
CONFIG = TrainConfig(
    updates=45, batch_size=2, unroll=1, evaluate_every=10, horizon=1, penalty=1e-3
)


def states() -> Tensor:
    generator = torch.Generator().manual_seed(5)
    first = torch.randn(5, 1, 8, 8, generator=generator)
    return torch.stack([first, (first + first.roll(1, -1)) / 2], 1)


class Stored:
    """Windows that a kill interrupts at batch number `kill_at`."""

    def __init__(self, kill_at: int = -1) -> None:
        self.states, self.kill_at, self.served = states(), kill_at, 0

    def __len__(self) -> int:
        return len(self.states)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, None]:
        if self.served == self.kill_at:
            raise KeyboardInterrupt
        self.served += 1
        return self.states[list(indices)], None


def fresh(model: Model) -> Surrogate:
    """Return the surrogate of a new process: the same start, nothing else kept."""
    torch.manual_seed(1)
    return Surrogate(model.build(TASK), TASK, Normalisation.identity(TASK))


def train(
    folder: Path,
    model: Model = FREE,
    *,
    stop_at: int = -1,
    kill_at: int = -1,
    config: TrainConfig = CONFIG,
    valid: Tensor | None = None,
) -> bool:
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == stop_at + 1

    # Whatever the state of the global generator is, it must not matter.
    surrogate = fresh(model)
    torch.rand(int(torch.randint(1, 9, ())))
    data = Rollouts(states() if valid is None else valid, None)
    return fit(surrogate, Stored(kill_at), data, config, folder, stop=stop)


def assert_same_run(one: Path, other: Path) -> None:
    """Weights, moments, best weights and log are equal to the last bit."""
    last = sorted(p.name for p in one.glob("checkpoints/*"))[-1]
    assert (one / "metrics.jsonl").read_bytes() == (
        other / "metrics.jsonl"
    ).read_bytes()
    names = [sorted(p.name for p in f.glob("best/*")) for f in (one, other)]
    assert names[0] == names[1]
    for part in (f"best/{names[0][-1]}", f"checkpoints/{last}"):
        a, b = (load_checkpoint(folder / part) for folder in (one, other))
        assert a.state == b.state
        assert a.tensors.keys() == b.tensors.keys()
        for name, value in a.tensors.items():
            assert torch.equal(value, b.tensors[name]), name


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Model], Path]:
    """Return the folder of the run that nothing interrupts, by model."""
    folders: dict[str, Path] = {}

    def folder_of(model: Model) -> Path:
        if model.kind not in folders:
            folders[model.kind] = tmp_path_factory.mktemp(model.kind)
            assert train(folders[model.kind], model)
        return folders[model.kind]

    return folder_of


def test_the_run_that_is_compared_with_learns(
    straight: Callable[[Model], Path],
) -> None:
    rows = read_log(straight(FREE))
    evaluated = [row["update"] for row in rows if "valid_vrmse" in row]
    assert evaluated == [0, 10, 20, 30, 40, 45]
    assert [row["update"] for row in rows if "loss" in row] == [20, 40]
    assert rows[-1]["valid_vrmse"] < 0.9 * rows[0]["valid_vrmse"]
    tensors = load_checkpoint(straight(FREE) / "checkpoints/step-00000045").tensors
    kinds = {name.split(".")[1] for name in tensors if name.startswith("optimiser")}
    assert kinds == {"step", "exp_avg", "exp_avg_sq"}


@pytest.mark.parametrize("model", [FREE, RELAXED], ids=lambda m: m.kind)
@pytest.mark.parametrize("stop_at", [0, 10, 23, 40])
def test_stopped_and_gone_on(
    tmp_path: Path, straight: Callable[[Model], Path], model: Model, stop_at: int
) -> None:
    """n updates in one go are k, a stop, and n - k in a new process."""
    assert not train(tmp_path, model, stop_at=stop_at)
    saved = load_checkpoint(tmp_path / f"checkpoints/step-{stop_at:08d}")
    assert saved.state["update"] == stop_at
    assert train(tmp_path, model)
    assert_same_run(tmp_path, straight(model))


@pytest.mark.parametrize("stop_at", [0, 10, 23])
def test_the_best_of_before_stays_the_best(tmp_path: Path, stop_at: int) -> None:
    """Validated on what it predicts at the start, a network only gets worse."""
    with torch.no_grad():
        first = states()[:, 0]
        valid = torch.stack([first, fresh(FREE)(first) + 1e-3 * first], 1)
    assert not train(tmp_path, stop_at=stop_at, valid=valid)
    assert train(tmp_path, valid=valid)
    errors = [r["valid_vrmse"] for r in read_log(tmp_path) if "valid_vrmse" in r]
    assert min(errors[1:]) > 5 * errors[0]
    best = load_best(fresh(FREE), tmp_path)
    assert best == {"update": 0, "best": errors[0].hex()}


def test_stopped_at_every_few_updates(
    tmp_path: Path, straight: Callable[[Model], Path]
) -> None:
    runs = 0
    while not train(tmp_path, stop_at=7):
        runs += 1
    assert runs == 6
    assert_same_run(tmp_path, straight(FREE))


@pytest.mark.parametrize("kill_at", [3, 20, 33, 41])
def test_killed_and_gone_on(
    tmp_path: Path, straight: Callable[[Model], Path], kill_at: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, kill_at=kill_at)
    newest = sorted(tmp_path.glob("checkpoints/*"))[-1].name
    assert newest == f"step-{kill_at // 10 * 10:08d}"
    # What a kill leaves behind: rows after the checkpoint, half a line, half a folder.
    with (tmp_path / "metrics.jsonl").open("a") as log:
        log.write('{"update": 44, "loss": 0.5}\n{"update": 45, "valid_')
    for part in ("checkpoints", "best"):
        (tmp_path / part / f"{files.TEMPORARY}half").mkdir()
    assert train(tmp_path)
    assert_same_run(tmp_path, straight(FREE))
    assert not list(tmp_path.glob(f"*/{files.TEMPORARY}*"))


@pytest.mark.parametrize("lost", ["newest damaged", "newest gone", "all gone"])
def test_lost_checkpoints_cost_time_alone(
    tmp_path: Path, straight: Callable[[Model], Path], lost: str
) -> None:
    """The run goes on from the one before, also when best weights are from later."""
    assert not train(tmp_path, stop_at=43)
    found = sorted(tmp_path.glob("checkpoints/*"))
    assert [p.name for p in found] == ["step-00000040", "step-00000043"]
    if lost == "newest damaged":
        path = found[-1] / "tensors.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"\0")
    else:
        for path in found[1:] if lost == "newest gone" else found:
            shutil.rmtree(path)
    assert train(tmp_path)
    assert_same_run(tmp_path, straight(FREE))


def test_rows_after_the_checkpoint_are_written_once(
    tmp_path: Path,
    straight: Callable[[Model], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Back from update 43 to 10: rows and best weights in between come again."""
    with monkeypatch.context() as context:
        context.setattr(training_state, "KEPT_CHECKPOINTS", 9)
        assert not train(tmp_path, stop_at=43)
    for path in sorted(tmp_path.glob("checkpoints/*"))[2:]:
        shutil.rmtree(path)
    assert not train(tmp_path, stop_at=5)
    rows = read_log(tmp_path)
    assert [row["update"] for row in rows] == [0, 10]
    assert train(tmp_path)
    assert_same_run(tmp_path, straight(FREE))


def test_a_finished_run_changes_nothing(
    tmp_path: Path, straight: Callable[[Model], Path]
) -> None:
    shutil.copytree(straight(FREE), tmp_path, dirs_exist_ok=True)
    for _ in range(2):
        assert train(tmp_path, kill_at=0)
        assert_same_run(tmp_path, straight(FREE))


def test_few_checkpoints_are_kept(straight: Callable[[Model], Path]) -> None:
    folder = straight(FREE)
    kept = training_state.KEPT_CHECKPOINTS
    assert len(list((folder / "checkpoints").iterdir())) == kept
    assert len(list((folder / "best").iterdir())) == 1


def test_another_seed_is_another_run(
    tmp_path: Path, straight: Callable[[Model], Path]
) -> None:
    """The comparison sees a difference: an order of the data that is not the same."""
    assert train(tmp_path, config=CONFIG.model_copy(update={"seed": 1}))
    with pytest.raises(AssertionError):
        assert_same_run(tmp_path, straight(FREE))


def test_checkpoints_of_another_model_are_refused(tmp_path: Path) -> None:
    assert not train(tmp_path, stop_at=3)
    with pytest.raises(DataError, match="of another model"):
        train(tmp_path, RELAXED)


def test_a_full_disk_is_one_error_and_the_run_goes_on_later(
    tmp_path: Path, straight: Callable[[Model], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not train(tmp_path, stop_at=12)
    with monkeypatch.context() as context:
        full = FailingDisk(1, for_good=True, counted=FILE_CALLS)
        context.setattr(files, "disk", full)
        with pytest.raises(OutputError, match="cannot be written"):
            train(tmp_path)
    assert train(tmp_path)
    assert_same_run(tmp_path, straight(FREE))
    assert load_best(fresh(FREE), tmp_path)["update"] > 0


def test_ended_at_every_call_that_changes_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was stopped saves its state again: there folders are replaced."""
    config = CONFIG.model_copy(update={"updates": 3, "evaluate_every": 2})
    assert train(tmp_path / "whole", config=config)
    at = 0
    while True:
        at += 1
        folder = tmp_path / f"{at}"
        assert not train(folder, stop_at=2, config=config)
        with monkeypatch.context() as context:
            fault = FailingDisk(at, KeyboardInterrupt())
            context.setattr(files, "disk", fault)
            try:
                train(folder, config=config)
                break
            except KeyboardInterrupt:
                assert fault.calls >= at
        assert train(folder, config=config)
        assert_same_run(folder, tmp_path / "whole")
    assert at > 40
