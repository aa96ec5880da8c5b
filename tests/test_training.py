"""The training loop: learning, order of the data, best weights, refusals."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pde_sym import training
from pde_sym.errors import DataError, InputError, SimulationError
from pde_sym.fields import Field, FieldSpec
from pde_sym.metrics import vrmse
from pde_sym.nn import (
    CNNConfig,
    ModulatedConfig,
    Normalisation,
    StrictConfig,
    Surrogate,
    Task,
    relaxed_layers,
    split_parameters,
)
from pde_sym.objective import LASSO_EDGE, TrainConfig, lasso, window_loss
from pde_sym.training import (
    Rollouts,
    batch_indices,
    fit,
    make_optimiser,
    rollout_error,
)
from pde_sym.training_state import load_best, read_log

STATE = FieldSpec.of(Field(name="u"))
TASK = Task(state=STATE)
GIVEN = Task(state=STATE, given=FieldSpec.of(Field(name="e")))
SHORT = TrainConfig(updates=4, batch_size=2, evaluate_every=2, horizon=2)


class Stored:
    """Windows in memory, ``(windows, frames, 1, 8, 8)``."""

    def __init__(self, states: Tensor, given: Tensor | None = None) -> None:
        self.states, self.given = states, given
        self.asked: list[list[int]] = []

    def __len__(self) -> int:
        return len(self.states)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        self.asked.append(list(indices))
        given = None if self.given is None else self.given[list(indices)]
        return self.states[list(indices)], given


def diffusing(count: int = 6, frames: int = 3) -> Tensor:
    """Return windows of ``u -> u + 0.1 Lap u``, which a small network can learn."""
    states = [torch.randn(count, 1, 8, 8)]
    for _ in range(frames - 1):
        u = states[-1]
        near = [u.roll(by, axis) for by in (-1, 1) for axis in (-2, -1)]
        states.append(u + 0.1 * (sum(near, torch.zeros_like(u)) - 4 * u))
    return torch.stack(states, 1)


def drifting() -> Tensor:
    """Return such windows with a step along y after the first frame: D4 is broken."""
    states = diffusing()
    states[:, 1:] = states[:, 1:].roll(1, -1)
    return states


def small(
    config: CNNConfig | StrictConfig | ModulatedConfig | None = None, task: Task = TASK
) -> Surrogate:
    torch.manual_seed(1)
    net = (config or CNNConfig(width=4, depth=2, kernel_size=3)).build(task)
    return Surrogate(net, task, Normalisation.identity(task))


def weights(surrogate: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in surrogate.state_dict().items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("updates", [1, 7, 100, 2000])
def test_the_rate_warms_up_and_follows_a_cosine(updates: int) -> None:
    """``rate (n + 1) / w`` up to w = 5 %, then ``0.01 + 0.99 (1 + cos(pi p)) / 2``."""
    config = TrainConfig(updates=updates, learning_rate=0.02)
    warm = max(1, updates // 20)
    rates = [config.rate(n) for n in range(updates + 1)]
    assert rates[0] == pytest.approx(0.02 / warm)
    assert rates[warm - 1] == pytest.approx(0.02)
    assert max(rates) == pytest.approx(0.02)
    assert rates[warm] == pytest.approx(0.02)
    if updates > 1:
        assert rates[updates] == pytest.approx(0.0002)
        phase = (updates - 1 - warm) / (updates - warm)
        cosine = 0.0002 + 0.0198 * (1 + math.cos(math.pi * phase)) / 2
        assert rates[updates - 1] == pytest.approx(cosine)
    assert rates[:warm] == sorted(rates[:warm])
    assert rates[warm:] == sorted(rates[warm:], reverse=True)
    if updates == 2000:
        assert rates[1050] == pytest.approx(0.02 * 0.505)


@pytest.mark.parametrize(("batch", "total"), [(4, 12), (5, 12), (12, 12), (30, 12)])
def test_every_epoch_is_a_permutation(batch: int, total: int) -> None:
    drawn = [i for n in range(60 // batch) for i in batch_indices(3, n, batch, total)]
    epochs = [drawn[k : k + total] for k in range(0, 60, total)]
    assert all(sorted(epoch) == list(range(total)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)


def test_batches_are_pure_functions_of_seed_and_update() -> None:
    first = [batch_indices(3, n, 5, 12) for n in range(8)]
    again = [batch_indices(3, n, 5, 12) for n in reversed(range(8))]
    assert first == again[::-1]
    assert first != [batch_indices(4, n, 5, 12) for n in range(8)]
    # The sequence does not depend on how it is cut into batches.
    flat = [i for batch in first for i in batch]
    assert flat == [i for n in range(40) for i in batch_indices(3, n, 1, 12)]


@pytest.mark.parametrize("task", [TASK, GIVEN], ids=["state", "state and given"])
def test_window_loss_is_the_mean_error_of_the_unrolled_frames(task: Task) -> None:
    surrogate, states = small(task=task), diffusing(3, 4)
    given = None if task.given is None else torch.randn(3, 1, 8, 8)
    errors, u = [], states[:, 0]
    for frame in range(1, 4):
        u = surrogate(u, given)
        errors += [vrmse(u[i], states[i, frame]).item() for i in range(3)]
    loss = window_loss(surrogate, states, given)
    assert loss.item() == pytest.approx(sum(errors) / 9, rel=1e-6)
    # Not the error of single steps from the truth.
    one_step = [surrogate(states[:, k], given) for k in range(3)]
    other = vrmse(torch.stack(one_step, 1), states[:, 1:]).mean()
    assert other.item() != pytest.approx(loss.item(), rel=1e-3)


def test_rollout_error_reads_frame_zero_alone_and_restores_the_mode() -> None:
    surrogate, states = small(), diffusing(3, 5)
    for mode in (True, False):
        surrogate.train(mode)
        error = rollout_error(surrogate, Rollouts(states, None), 10)
        assert surrogate.training is mode
    assert error.shape == (3, 4)
    assert not error.requires_grad
    u = states[:, 0]
    with torch.no_grad():
        for step in range(4):
            u = surrogate(u)
            assert torch.allclose(error[:, step], vrmse(u, states[:, step + 1]))
    shorter = rollout_error(surrogate, Rollouts(states, None), 2)
    assert torch.equal(shorter, error[:, :2])
    surrogate.train()
    lost = states.clone()
    lost[1, 0] = math.nan
    with pytest.raises(SimulationError, match="trajectory 1 is not finite at step 1"):
        rollout_error(surrogate, Rollouts(lost, None), 2)
    assert surrogate.training


def test_a_small_network_overfits_and_the_best_weights_are_kept(tmp_path: Path) -> None:
    states, surrogate = diffusing(), small()
    config = TrainConfig(
        updates=300, batch_size=6, learning_rate=0.02, evaluate_every=50, horizon=2
    )
    rows: list[dict[str, Any]] = []
    windows, valid = Stored(states), Rollouts(states, None)
    assert fit(surrogate, windows, valid, config, tmp_path, report=rows.append)
    errors = {r["update"]: r["valid_vrmse"] for r in rows if "valid_vrmse" in r}
    assert list(errors) == [0, 50, 100, 150, 200, 250, 300]
    assert errors[300] < 0.1 * errors[0]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert len(losses) == 15
    assert losses[-1] < 0.2 * losses[0]
    assert rows == read_log(tmp_path)
    kept = small()
    best = load_best(kept, tmp_path)
    assert errors[best["update"]] == min(errors.values())
    assert float.fromhex(best["best"]) == min(errors.values())
    error = rollout_error(kept, valid, 2).mean().item()
    assert error == pytest.approx(min(errors.values()), rel=1e-6)


def test_best_is_a_copy_and_not_the_last(tmp_path: Path) -> None:
    """Trained to one thing and validated on another, the first weights are best."""
    states, surrogate = diffusing(), small()
    start = weights(surrogate)
    with torch.no_grad():
        own = [states[:, 0]]
        own += [surrogate(own[0])]
    valid = Rollouts(torch.stack(own, 1) + 1e-3 * torch.randn(6, 2, 1, 8, 8), None)
    fit(surrogate, Stored(states), valid, SHORT, tmp_path)
    assert not equal(weights(surrogate), start)
    last = rollout_error(surrogate, valid, 2).mean()
    kept = small()
    with torch.no_grad():
        for parameter in kept.parameters():
            parameter.zero_()
    assert load_best(kept, tmp_path)["update"] == 0
    assert equal(weights(kept), start)
    assert rollout_error(kept, valid, 2).mean() < 0.5 * last


MODULATED = ModulatedConfig(group="D4", width=2, depth=2, kernel_size=3)


@pytest.mark.parametrize("kind", [CNNConfig(width=4, depth=2), MODULATED])
def test_relaxed_weights_are_outside_weight_decay(
    kind: CNNConfig | ModulatedConfig,
) -> None:
    """With no gradient a plain weight becomes ``(1 - rate decay)`` of it."""
    surrogate = small(kind)
    plain, relaxed = split_parameters(surrogate)
    assert bool(relaxed) == isinstance(kind, ModulatedConfig)
    for parameter in (*plain, *relaxed):
        parameter.data.normal_()
        parameter.grad = torch.zeros_like(parameter)
    before = [p.detach().clone() for p in (*plain, *relaxed)]
    config = TrainConfig(learning_rate=0.1, weight_decay=0.5)
    make_optimiser(surrogate, config).step()
    for parameter, old in zip((*plain, *relaxed), before, strict=True):
        kept = any(parameter is p for p in relaxed)
        expected = old if kept else old * (1 - 0.1 * 0.5)
        assert torch.allclose(parameter, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("factor", [1.0, 0.1])
def test_relaxed_weights_have_their_own_rate(tmp_path: Path, factor: float) -> None:
    """The first step of Adam moves each weight by its rate, whatever the slope."""
    surrogate = small(MODULATED)
    plain, relaxed = split_parameters(surrogate)
    old = {id(p): p.detach().clone() for p in (*plain, *relaxed)}
    config = TrainConfig(
        updates=1, batch_size=6, learning_rate=0.05, relaxed_rate=factor,
        weight_decay=0.0,
    )  # fmt: skip
    states = drifting()
    fit(surrogate, Stored(states), Rollouts(states, None), config, tmp_path)
    for parameters, rate in ((plain, 0.05), (relaxed, 0.05 * factor)):
        moved = [(p - old[id(p)]).abs().max().item() for p in parameters if p.numel()]
        assert max(moved) == pytest.approx(rate, rel=1e-3)


def test_a_penalty_holds_the_relaxation_back(tmp_path: Path) -> None:
    """Data that drift along y break D4; the penalty keeps the network nearer to it."""
    states = drifting()
    relaxations = []
    for penalty in (0.0, 10.0):
        surrogate = small(MODULATED)
        config = TrainConfig(
            updates=40, batch_size=6, learning_rate=0.02, penalty=penalty,
            evaluate_every=40,
        )  # fmt: skip
        folder = tmp_path / str(penalty)
        fit(surrogate, Stored(states), Rollouts(states, None), config, folder)
        row = read_log(folder)[-1]
        layers = relaxed_layers(surrogate)
        assert len(layers) == 2
        mean = sum(float(layer.relaxation().detach()) for layer in layers) / 2
        assert row["relaxation"] == pytest.approx(mean)
        assert read_log(folder)[0]["relaxation"] == 0
        relaxations.append(mean)
    assert relaxations[0] > 0.05
    assert relaxations[1] < 0.5 * relaxations[0]


def test_the_lasso_is_a_ridge_near_zero_and_a_norm_far_from_it() -> None:
    penalty = torch.tensor([0.0, 1e-10, 4.0, 9.0], dtype=torch.float64)
    penalty.requires_grad_()
    value = lasso(penalty)
    expected = (penalty.detach() + LASSO_EDGE**2).sqrt() - LASSO_EDGE
    assert torch.allclose(value, expected, rtol=1e-12, atol=0)
    assert value[0] == 0
    assert value[1].item() == pytest.approx(1e-10 / (2 * LASSO_EDGE), rel=1e-4)
    assert value[2:].tolist() == pytest.approx([2.0, 3.0], abs=2 * LASSO_EDGE)
    (slope,) = torch.autograd.grad(value.sum(), penalty)
    assert slope[0].item() == pytest.approx(1 / (2 * LASSO_EDGE))


def test_a_lasso_holds_what_a_ridge_of_its_weight_lets_go(tmp_path: Path) -> None:
    """On data without a symmetry to break, what is left of the relaxation."""
    states = diffusing()
    left = {}
    for shape in ("ridge", "lasso"):
        surrogate = small(MODULATED)
        config = TrainConfig(
            updates=60, batch_size=6, learning_rate=5e-3, penalty=1.0,
            penalty_shape=shape, evaluate_every=60,
        )  # fmt: skip
        fit(surrogate, Stored(states), Rollouts(states, None), config, tmp_path / shape)
        left[shape] = read_log(tmp_path / shape)[-1]["relaxation"]
    assert 0 < left["lasso"] < 0.7 * left["ridge"]


def test_rows_of_a_free_network_have_no_relaxation(tmp_path: Path) -> None:
    states = diffusing()
    fit(small(), Stored(states), Rollouts(states, None), SHORT, tmp_path)
    assert [set(row) for row in read_log(tmp_path)] == 3 * [{"update", "valid_vrmse"}]


class RootAtZero(nn.Module):
    """The value 0 with a gradient that is not a number."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight.square().sqrt()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_update_and_windows(
    tmp_path: Path, value: float
) -> None:
    states = diffusing()
    good, bad = Rollouts(states.clone(), None), Stored(states)
    config = SHORT.model_copy(update={"updates": 6})
    broken = batch_indices(0, 3, 2, 6)[0]
    late = [n for n in range(6) if broken in batch_indices(0, n, 2, 6)]
    states[broken, 1, 0, 2, 3] = value
    surrogate = small()
    message = rf"not finite at update {late[0]}, windows \[.*{broken}"
    with pytest.raises(SimulationError, match=message):
        fit(surrogate, bad, good, config, tmp_path)
    assert all(w.isfinite().all() for w in weights(surrogate).values())
    assert load_best(small(), tmp_path)["update"] <= late[0]


def test_a_gradient_that_is_not_finite_spoils_no_checkpoint(tmp_path: Path) -> None:
    states = diffusing()
    surrogate = Surrogate(RootAtZero(), TASK, Normalisation.identity(TASK))
    windows, valid = Stored(states), Rollouts(states, None)
    with pytest.raises(SimulationError, match="gradient is not finite at update 0"):
        fit(surrogate, windows, valid, SHORT, tmp_path)
    assert surrogate.get_parameter("net.weight").item() == 0


def test_validation_errors_that_all_overflow_are_told(tmp_path: Path) -> None:
    """States of 1e25 are finite in single precision and their squares are not."""
    states = diffusing()
    valid = Rollouts(1e25 * states[:, :2], None)
    with pytest.raises(SimulationError, match=r"no validation rollout of .* stayed"):
        fit(small(), Stored(states), valid, SHORT, tmp_path)
    errors = [r["valid_vrmse"] for r in read_log(tmp_path) if "valid_vrmse" in r]
    assert errors == 3 * [None]
    with pytest.raises(DataError, match="no checkpoint yet"):
        load_best(small(), tmp_path)


@pytest.mark.parametrize("how", ["raises", "overflows"])
def test_a_validation_rollout_that_is_lost_ends_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """It is the worst one; the best of the others is kept."""
    measured, calls = training.rollout_error, []

    def lost_at_first(*arguments: Any) -> Tensor:
        calls.append(arguments)
        if len(calls) > 1:
            return measured(*arguments)
        if how == "raises":
            raise SimulationError("trajectory 0 is not finite at step 1 of 2")
        return torch.full((2, 2), math.nan)

    states = diffusing()
    monkeypatch.setattr(training, "rollout_error", lost_at_first)
    valid = Rollouts(states, None)
    assert fit(small(), Stored(states), valid, SHORT, tmp_path)
    lost, *others = [r["valid_vrmse"] for r in read_log(tmp_path)]
    assert lost is None
    best = load_best(small(), tmp_path)
    assert float.fromhex(best["best"]) == min(others)
    assert best["update"] > 0


def test_load_best_refuses(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no checkpoint yet"):
        load_best(small(), tmp_path)
    states = diffusing()
    fit(small(), Stored(states), Rollouts(states, None), SHORT, tmp_path)
    for config in (
        CNNConfig(width=5, depth=2, kernel_size=3),
        CNNConfig(width=4, depth=3, kernel_size=3),
        StrictConfig(width=1, depth=2, kernel_size=3),
    ):
        with pytest.raises(DataError, match="of another model") as caught:
            load_best(small(config), tmp_path)
        assert "\n" not in str(caught.value)
    (folder,) = tmp_path.joinpath("best").iterdir()
    (folder / "state.json").write_bytes(b"{}")
    with pytest.raises(DataError, match="damaged"):
        load_best(small(), tmp_path)


def test_the_log_forgives_a_cut_last_line_alone(tmp_path: Path) -> None:
    assert read_log(tmp_path) == []
    rows = [{"update": n, "loss": n / 3} for n in range(3)]
    lines = [json.dumps(row) for row in rows]
    log = tmp_path / "metrics.jsonl"
    log.write_text("\n".join(lines) + '\n{"update": 3, "lo')
    assert read_log(tmp_path) == rows
    log.write_text("\n".join([lines[0], lines[1][:-4], lines[2]]))
    with pytest.raises(DataError, match="line 2 is not JSON"):
        read_log(tmp_path)


@pytest.mark.parametrize(
    "values",
    [{"updates": 0}, {"clip": 0}, {"weight_decay": -1}, {"seed": -1}, {"seed": 2**63},
     {"learning_rate": math.inf}, {"unroll": 0}, {"relaxed_rate": -1}, {"epochs": 1}],
)  # fmt: skip
def test_settings_out_of_range_are_refused_by_name(values: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"training: {next(iter(values))}: "):
        TrainConfig.parse(values, where="training")
