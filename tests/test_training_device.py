"""Training on a device: what goes there, and what comes back."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from one_device import META
from torch import Tensor

from data_gen.build import build
from data_gen.recipes import resolve
from experiments import sweep, train
from pde_sym import learning, training
from pde_sym.dataset import MemoryWindows
from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec
from pde_sym.nn import CNNConfig, Normalisation, Surrogate, Task
from pde_sym.objective import TrainConfig
from pde_sym.ranks import ALONE, Ranks
from pde_sym.seeds import Split
from pde_sym.training import Rollouts, fit, make_optimiser
from pde_sym.training_state import TrainingFolder

SHORT = TrainConfig(updates=2, batch_size=2, evaluate_every=1, horizon=1)
GIVEN = Task(state=FieldSpec.of(Field(name="u")), given=FieldSpec.of(Field(name="e")))


def surrogate() -> Surrogate:
    net = CNNConfig(width=2, depth=2).build(GIVEN)
    return Surrogate(net, GIVEN, Normalisation.identity(GIVEN))


def test_batches_and_rollouts_follow_the_surrogate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, torch.device]] = []

    def objective(
        net: Surrogate, states: Tensor, given: Tensor, *_: object
    ) -> tuple[Tensor, dict[str, Tensor]]:
        seen.extend([("states", states.device), ("given", given.device)])
        return torch.stack([p.square().sum() for p in net.parameters()]).sum(), {}

    def error(_net: Surrogate, data: Rollouts, _horizon: int) -> Tensor:
        assert data.given is not None
        seen.extend([("valid", data.states.device), ("valid", data.given.device)])
        return torch.ones(1)

    states, given = torch.randn(4, 3, 1, 8, 8), torch.randn(4, 1, 8, 8)
    windows, valid = MemoryWindows(states, given, 3), Rollouts(states, given)
    for place in (torch.device("cpu"), META):
        monkeypatch.setattr(training, "objective", objective)
        monkeypatch.setattr(training, "rollout_error", error)
        monkeypatch.setattr(Surrogate, "device", place)
        seen.clear()
        assert fit(surrogate(), windows, valid, SHORT, tmp_path / place.type)
        assert {name for name, _ in seen} == {"states", "given", "valid"}
        assert {device for _, device in seen} == {place}


@pytest.mark.filterwarnings("ignore:.*meta parameter:UserWarning")
def test_moments_come_back_to_the_device_of_their_weights(tmp_path: Path) -> None:
    here = surrogate()
    optimiser = make_optimiser(here, SHORT)
    for parameter in here.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    TrainingFolder(tmp_path, here, optimiser, ALONE).save(1, 0.5)
    there = surrogate().to(META)
    assert there.device == META
    again = make_optimiser(there, SHORT)
    assert TrainingFolder(tmp_path, there, again, ALONE).resume() == (1, 0.5)
    for parameter in there.parameters():
        moments = again.state[parameter]
        assert moments["exp_avg"].device == moments["exp_avg_sq"].device == META
        # AdamW keeps the number of steps in main memory.
        assert moments["step"].device.type == "cpu"
        assert float(moments["step"]) == 1.0


def test_convolutions_keep_float32_and_their_order_while_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TF32 has three digits, which would cost a strict network its symmetry."""
    found: list[tuple[bool, bool]] = []

    def error(*_: object) -> Tensor:
        cudnn = torch.backends.cudnn
        found.append((bool(cudnn.allow_tf32), bool(cudnn.deterministic)))
        return torch.ones(1)

    monkeypatch.setattr(training, "rollout_error", error)
    before = torch.backends.cudnn.allow_tf32
    states, given = torch.randn(4, 3, 1, 8, 8), torch.randn(4, 1, 8, 8)
    windows, valid = MemoryWindows(states, given, 3), Rollouts(states, given)
    fit(surrogate(), windows, valid, SHORT, tmp_path)
    assert set(found) == {(False, True)}
    assert torch.backends.cudnn.allow_tf32 == before


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("device") / "data"
    recipe = resolve("heat", (), options={"resolution": 16, "frames": 4})
    build(recipe, {Split.TRAIN: 2, Split.VALID: 1, Split.TEST: 0}, folder)
    return folder


def test_the_library_trains_where_it_is_told_and_brings_the_network_back(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    original = Surrogate.to

    def spy(self: Surrogate, *places: Any, **kind: Any) -> Surrogate:
        asked.extend(places)
        return (
            original(self, "cpu")
            if places == ("cuda",)
            else original(self, *places, **kind)
        )

    monkeypatch.setattr(Surrogate, "to", spy)
    model = learning.fit(CNNConfig(width=2, depth=2), data, SHORT, device="cuda")
    assert asked[0] == "cuda"
    assert model.device.type == "cpu"


def arguments(module: Any, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return parser.parse_args(words)


def test_the_commands_take_a_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = str(tmp_path / "out")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    asked = arguments(train, "--data", out, "--out", out, "--model", "cnn")
    assert asked.device == "cpu"
    asked.device = "cuda"
    with pytest.raises(InputError, match="--device cuda: torch sees no GPU"):
        train.run(asked)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(InputError, match="expected one process, got 2"):
        train._run(asked, Ranks(0, 2))
    for device, expected in (("cpu", "cpu"), ("auto", "cuda"), ("cuda", "cuda")):
        words = ("beta-plane", "--out", out, "--device", device)
        part = sweep.Part.of(sweep.read_sweep("beta-plane"), arguments(sweep, *words))
        assert {spec.device for spec in part.tuning()} == {expected}
    assert not (tmp_path / "out").exists()
