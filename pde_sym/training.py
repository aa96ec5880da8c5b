"""The training loop: one flat loop, resumable to the bit.

The order of the data is a pure function of (seed, epoch), what is drawn for an update
one of (seed, update), and nothing else is random: weights, moments and the update
number are the whole state of a run.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from pde_sym.errors import InputError, SimulationError
from pde_sym.metrics import vrmse
from pde_sym.nn import relaxed_layers, split_parameters
from pde_sym.nn.surrogate import Surrogate
from pde_sym.objective import TrainConfig, objective
from pde_sym.ranks import ALONE, Ranks
from pde_sym.simulate import rollout
from pde_sym.training_state import TrainingFolder

LOG_EVERY = 20
"""Updates between the logged losses."""


class Windows(Protocol):
    """Training data: windows of consecutive frames."""

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Return states ``(batch, frames, channels, x, y)`` and given fields."""
        ...


@dataclass(frozen=True)
class Rollouts:
    """Validation data: whole trajectories and their given fields."""

    states: Tensor
    given: Tensor | None

    def to(self, device: torch.device) -> "Rollouts":
        """Return the same on a device."""
        return Rollouts(*_moved(device, self.states, self.given))


@torch.no_grad()
def rollout_error(surrogate: Surrogate, data: Rollouts, horizon: int) -> Tensor:
    """Return the VRMSE of rollouts from frame 0, ``(trajectories, steps)``."""
    steps = min(horizon, data.states.shape[1] - 1)
    was_training = surrogate.training
    surrogate.eval()
    try:
        predicted = rollout(
            lambda u: surrogate(u, data.given), data.states[:, 0], steps
        )
    finally:
        surrogate.train(was_training)
    truth = data.states[:, 1 : steps + 1]
    return vrmse(predicted[:, 1:], truth, surrogate.task.array_axes)


def batch_indices(seed: int, update: int, batch_size: int, total: int) -> list[int]:
    """Return the windows of an update: epoch after epoch, each in its own order."""
    result: list[int] = []
    position = update * batch_size
    while len(result) < batch_size:
        epoch, offset = divmod(position + len(result), total)
        sequence = np.random.SeedSequence(seed, spawn_key=(epoch,))
        order = np.random.Generator(np.random.Philox(sequence)).permutation(total)
        result += order[offset : offset + batch_size - len(result)].tolist()
    return result


def make_optimiser(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Return AdamW with the relaxed weights outside weight decay.

    Decay would pull a relaxed weight towards the strict model whatever the data say.
    """
    plain, relaxed = split_parameters(model)
    groups = [
        {"params": plain, "weight_decay": config.weight_decay, "factor": 1.0},
        {"params": relaxed, "weight_decay": 0.0, "factor": config.relaxed_rate},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=config.learning_rate
    )


# TF32 has three digits, which would cost a strict network its symmetry.
@torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
def fit(
    surrogate: Surrogate,
    train: Windows,
    valid: Rollouts,
    config: TrainConfig,
    folder: Path,
    *,
    report: Callable[[dict[str, Any]], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
    ranks: Ranks = ALONE,
) -> bool:
    """Train in `folder`, from its last checkpoint if there is one.

    The device is that of the surrogate: batches follow it there. Writes
    ``checkpoints/step-*``, ``best/step-*`` and ``metrics.jsonl``.

    Parameters
    ----------
    report
        Called with each row of metrics.
    stop
        Asked before every update; when true the state is saved and the loop ends.
    ranks
        The processes that train together, each with its share of every batch. All call
        this with the same arguments; the first one writes and reports. Their weights
        are equal to the last bit, and to those of one process up to rounding.

    Returns
    -------
    bool
        Whether the training is complete.

    Raises
    ------
    InputError
        When the fields of the surrogate cannot be moved as the configuration asks, or
        a batch has fewer windows than there are ranks.
    SimulationError
        When loss or gradient is not finite, it names the update; or when no validation
        error of the whole training is. One that is not is the worst of all.
    WorkerError
        When another rank is gone.
    """
    config.check(surrogate.task)
    if config.batch_size < ranks.size:
        raise InputError(
            f"training.batch_size: expected at least {ranks.size}, a window for each "
            f"process, got {config.batch_size}; start fewer processes"
        )
    optimiser = make_optimiser(surrogate, config)
    kept = TrainingFolder(folder, surrogate, optimiser, ranks)
    update, best = kept.resume()
    valid = valid.to(surrogate.device)

    def tell(row: dict[str, Any]) -> None:
        kept.log(row)
        if ranks.is_first:
            report(row)

    surrogate.train()
    while True:
        done = update >= config.updates
        if update % config.evaluate_every == 0 or done:
            error = _validation_error(surrogate, valid, config.horizon)
            if error < best:
                best = error
                kept.save_best(update, best)
            shown = error if math.isfinite(error) else None
            tell({"update": update, "valid_vrmse": shown, **_relaxation(surrogate)})
            kept.save(update, best)
        if done and math.isinf(best):
            raise SimulationError(
                f"no validation rollout of {config.horizon} steps stayed finite in "
                f"{update} updates; lower the learning rate or the horizon"
            )
        stopped = not done and ranks.any(stop())
        if stopped:
            kept.save(update, best)
        if done or stopped:
            # None may end, and have the others ended, before the first has saved.
            ranks.wait()
            return done
        row = _update(surrogate, optimiser, train, config, update, ranks)
        update += 1
        if update % LOG_EVERY == 0:
            tell({"update": update, **row})


def _update(
    surrogate: Surrogate,
    optimiser: torch.optim.AdamW,
    train: Windows,
    config: TrainConfig,
    update: int,
    ranks: Ranks,
) -> dict[str, float]:
    """Take one step of the optimiser; return loss, rate and charges."""
    indices = batch_indices(config.seed, update, config.batch_size, len(train))
    batch = _moved(surrogate.device, *train.batch(indices))
    loss, charges = objective(surrogate, *batch, config, update, ranks)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    ranks.average([p.grad for p in surrogate.parameters() if p.grad is not None])
    norm = nn.utils.clip_grad_norm_(surrogate.parameters(), config.clip)
    if not (loss.isfinite() and norm.isfinite()):
        raise SimulationError(
            f"the loss or its gradient is not finite at update {update}, windows "
            f"{indices}; lower the learning rate; the last checkpoint is kept"
        )
    rate = config.rate(update)
    for group in optimiser.param_groups:
        group["lr"] = rate * group["factor"]
    optimiser.step()
    for layer in relaxed_layers(surrogate):
        layer.after_update()
    told = {name: charge.item() for name, charge in charges.items()}
    return {"loss": loss.item(), "rate": rate, **told}


def _moved(
    device: torch.device, states: Tensor, given: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    return states.to(device), None if given is None else given.to(device)


def _validation_error(surrogate: Surrogate, data: Rollouts, horizon: int) -> float:
    """Return the mean error of rollouts, infinite where they leave the finite numbers.

    Networks that grow faster than linearly may do so untrained.
    """
    try:
        error = float(rollout_error(surrogate, data, horizon).mean())
    except SimulationError:
        return math.inf
    return error if math.isfinite(error) else math.inf


def _relaxation(surrogate: Surrogate) -> dict[str, float]:
    """Return the mean over layers of their relative relaxation, where there are any."""
    layers = relaxed_layers(surrogate)
    if not layers:
        return {}
    with torch.no_grad():
        values = [float(layer.relaxation()) for layer in layers]
    return {"relaxation": sum(values) / len(values)}
