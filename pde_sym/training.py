"""The training loop: one flat loop, resumable to the bit.

The order of the data is a pure function of (seed, epoch), what is drawn for an update
one of (seed, update), and nothing else is random: weights, moments and the update
number are the whole state of a run.
"""

import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from pde_sym.checkpoint import Checkpoint, latest_checkpoint, save_checkpoint
from pde_sym.errors import DataError, SimulationError
from pde_sym.metrics import vrmse
from pde_sym.nn import relaxed_layers, split_parameters
from pde_sym.nn.surrogate import Surrogate
from pde_sym.objective import TrainConfig, objective
from pde_sym.simulate import rollout
from pde_sym.store import files

LOG = logging.getLogger("pde_sym")
KEPT_CHECKPOINTS = 2
MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What AdamW keeps of a parameter."""
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


def fit(
    surrogate: Surrogate,
    train: Windows,
    valid: Rollouts,
    config: TrainConfig,
    folder: Path,
    *,
    report: Callable[[dict[str, Any]], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Train in `folder`, from its last checkpoint if there is one.

    Writes ``checkpoints/step-*``, ``best/step-*`` and ``metrics.jsonl``.

    Parameters
    ----------
    report
        Called with each row of metrics.
    stop
        Asked before every update; when true the state is saved and the loop ends.

    Returns
    -------
    bool
        Whether the training is complete.

    Raises
    ------
    InputError
        When the fields of the surrogate cannot be moved as the configuration asks.
    SimulationError
        When loss or gradient is not finite, it names the update; or when no validation
        error of the whole training is. One that is not is the worst of all.
    """
    config.check(surrogate.task)
    optimiser = make_optimiser(surrogate, config)
    files.make_folder(folder / "checkpoints")
    files.make_folder(folder / "best")
    update, best = _resume(surrogate, optimiser, folder)
    surrogate.train()
    while True:
        done = update >= config.updates
        if update % config.evaluate_every == 0 or done:
            error = _validation_error(surrogate, valid, config.horizon)
            shown = error if math.isfinite(error) else None
            row = {"update": update, "valid_vrmse": shown, **_relaxation(surrogate)}
            if error < best:
                best = error
                _save(folder / "best", surrogate, None, update, best)
            _log(folder, row)
            report(row)
            _save(folder / "checkpoints", surrogate, optimiser, update, best)
        if done and math.isinf(best):
            raise SimulationError(
                f"no validation rollout of {config.horizon} steps stayed finite in "
                f"{update} updates; lower the learning rate or the horizon"
            )
        if done:
            return True
        if stop():
            _save(folder / "checkpoints", surrogate, optimiser, update, best)
            return False
        indices = batch_indices(config.seed, update, config.batch_size, len(train))
        loss, charges = objective(surrogate, *train.batch(indices), config, update)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
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
        update += 1
        if update % LOG_EVERY == 0:
            row = {"update": update, "loss": loss.item(), "rate": rate}
            row |= {name: charge.item() for name, charge in charges.items()}
            _log(folder, row)
            report(row)


def _validation_error(surrogate: Surrogate, data: Rollouts, horizon: int) -> float:
    """Return the mean error of rollouts, infinite where they leave the finite numbers.

    Networks that grow faster than linearly may do so untrained.
    """
    try:
        error = float(rollout_error(surrogate, data, horizon).mean())
    except SimulationError:
        return math.inf
    return error if math.isfinite(error) else math.inf


def load_best(surrogate: Surrogate, folder: Path) -> dict[str, Any]:
    """Load the best weights of a run into `surrogate`; return update and error.

    Raises
    ------
    DataError
        When there is no whole checkpoint, or it belongs to another model.
    """
    checkpoint, faults = latest_checkpoint(folder / "best")
    if checkpoint is None:
        reason = faults[0] if faults else "the run has no checkpoint yet"
        raise DataError(f"{folder}: {reason}")
    _warn(faults, f"the best weights of update {checkpoint.state.get('update')} serve")
    _load_model(surrogate, checkpoint, folder)
    return checkpoint.state


def _relaxation(surrogate: Surrogate) -> dict[str, float]:
    """Return the mean over layers of their relative relaxation, where there are any."""
    layers = relaxed_layers(surrogate)
    if not layers:
        return {}
    with torch.no_grad():
        values = [float(layer.relaxation()) for layer in layers]
    return {"relaxation": sum(values) / len(values)}


def _save(
    folder: Path,
    surrogate: Surrogate,
    optimiser: torch.optim.AdamW | None,
    update: int,
    best: float,
) -> None:
    tensors = {f"model.{k}": v for k, v in surrogate.state_dict().items()}
    if optimiser is not None:
        for name, parameter in surrogate.named_parameters():
            for key, value in optimiser.state[parameter].items():
                tensors[f"optimiser.{key}.{name}"] = value
    state = {"update": update, "best": None if math.isinf(best) else best.hex()}
    save_checkpoint(folder / f"step-{update:08d}", Checkpoint(tensors, state))
    keep = 1 if optimiser is None else KEPT_CHECKPOINTS
    files.remove_folders(sorted(folder.glob("step-*"))[:-keep])


def _resume(
    surrogate: Surrogate, optimiser: torch.optim.AdamW, folder: Path
) -> tuple[int, float]:
    """Load the last checkpoint; return its update and the best error so far."""
    for part in ("checkpoints", "best"):
        files.remove_folders(folder.joinpath(part).glob(f"{files.TEMPORARY}*"))
    checkpoint, faults = latest_checkpoint(folder / "checkpoints")
    if checkpoint is None:
        _warn(faults, "training begins again")
        _truncate_log(folder, -1)
        files.remove_folders(folder.joinpath("best").glob("step-*"))
        return 0, math.inf
    update, best = _restore(surrogate, optimiser, checkpoint, folder)
    _warn(faults, f"training goes on from update {update}")
    # What a killed run wrote after this checkpoint will be written again.
    _truncate_log(folder, update)
    return update, best


def _warn(faults: Sequence[str], consequence: str) -> None:
    for fault in faults:
        LOG.warning("%s; %s", fault, consequence)


def _restore(
    surrogate: Surrogate,
    optimiser: torch.optim.AdamW,
    checkpoint: Checkpoint,
    folder: Path,
) -> tuple[int, float]:
    """Put the state of a run back; return its update and the best error so far."""
    _load_model(surrogate, checkpoint, folder)
    moments: dict[str, dict[str, Tensor]] = {}
    for key, value in checkpoint.tensors.items():
        if key.startswith("optimiser."):
            _, kind, name = key.split(".", 2)
            moments.setdefault(name, {})[kind] = value.clone()
    for name, parameter in surrogate.named_parameters():
        if name in moments:
            found = {kind: value.shape for kind, value in moments[name].items()}
            if found != dict(zip(MOMENTS, ((), *[parameter.shape] * 2), strict=True)):
                raise DataError(f"{folder}: the checkpoint lacks moments of {name}")
            optimiser.state[parameter] = moments[name]
    try:
        update, best = checkpoint.state["update"], checkpoint.state["best"]
        return int(update), math.inf if best is None else float.fromhex(best)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{folder}: the checkpoint lacks its update or its best error"
        ) from error


def _load_model(surrogate: Surrogate, checkpoint: Checkpoint, folder: Path) -> None:
    weights = {
        name.removeprefix("model."): value
        for name, value in checkpoint.tensors.items()
        if name.startswith("model.")
    }
    try:
        surrogate.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{folder}: the checkpoint is of another model ({reason})"
        ) from error


def _log(folder: Path, row: dict[str, Any]) -> None:
    """Append a row to ``metrics.jsonl``; a half-written last line is dropped later."""
    files.append_line(folder / "metrics.jsonl", json.dumps(row, allow_nan=False))


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of ``metrics.jsonl``, without a last line that was cut off."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number == len(path.read_text(encoding="utf-8").splitlines()):
                break
            raise DataError(f"{path}: line {number} is not JSON") from error
    return rows


def _truncate_log(folder: Path, update: int) -> None:
    """Keep the rows up to a checkpoint; the evaluation at it comes again."""
    rows = [
        row
        for row in read_log(folder)
        if row["update"] < update or (row["update"] == update and "loss" in row)
    ]
    text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
    if text or (folder / "metrics.jsonl").exists():
        files.write_file(folder / "metrics.jsonl", text.encode())
