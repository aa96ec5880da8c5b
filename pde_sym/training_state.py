"""What a training keeps in its folder: checkpoints, the best weights, and the log.

    checkpoints/step-*    weights, moments, update and best error so far
    best/step-*           the weights with the lowest validation error
    metrics.jsonl         a row per validation, and per few updates

This is the whole state of a run: whatever is random is a function of seed and update.
"""

import json
import logging
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from pde_sym.checkpoint import Checkpoint, latest_checkpoint, save_checkpoint
from pde_sym.errors import DataError
from pde_sym.nn.surrogate import Surrogate
from pde_sym.ranks import Ranks
from pde_sym.store import files

LOG = logging.getLogger("pde_sym")
KEPT_CHECKPOINTS = 2
MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What AdamW keeps of a parameter."""


class TrainingFolder:
    """The folder of a training, which the first of its ranks alone reads and writes."""

    def __init__(
        self,
        folder: Path,
        surrogate: Surrogate,
        optimiser: torch.optim.AdamW,
        ranks: Ranks,
    ) -> None:
        self.folder = folder
        self.ranks = ranks
        self.surrogate = surrogate
        self.optimiser = optimiser

    def resume(self) -> tuple[int, float]:
        """Put the last state back; return its update and the best error so far.

        All ranks get that of the first, its first weights too where it begins.

        Raises
        ------
        DataError
            When the last whole checkpoint is of another model, or lacks something.
        """
        checkpoint = Checkpoint({}, {})
        if self.ranks.is_first:
            checkpoint = self._last() or _snapshot(self.surrogate, None, 0, math.inf)
        checkpoint = _from_first(checkpoint, self.ranks)
        return _restore(self.surrogate, self.optimiser, checkpoint, self.folder)

    def _last(self) -> Checkpoint | None:
        """Return the last whole checkpoint, with nothing later left in the folder."""
        for part in ("checkpoints", "best"):
            files.make_folder(self.folder / part)
            files.remove_folders(self.folder.joinpath(part).glob(f"{files.TEMPORARY}*"))
        checkpoint, faults = latest_checkpoint(self.folder / "checkpoints")
        if checkpoint is None:
            _warn(faults, "training begins again")
            files.remove_folders(self.folder.joinpath("best").glob("step-*"))
            _truncate_log(self.folder, -1)
            return None
        update = checkpoint.state.get("update")
        _warn(faults, f"training goes on from update {update}")
        if isinstance(update, int):
            # What a killed run wrote after this checkpoint will be written again.
            _truncate_log(self.folder, update)
        return checkpoint

    def save(self, update: int, best: float) -> None:
        """Write a checkpoint, and remove the oldest ones."""
        if self.ranks.is_first:
            state = _snapshot(self.surrogate, self.optimiser, update, best)
            _write(self.folder / "checkpoints", state, KEPT_CHECKPOINTS)

    def save_best(self, update: int, error: float) -> None:
        """Write the weights as the best so far."""
        if self.ranks.is_first:
            state = _snapshot(self.surrogate, None, update, error)
            _write(self.folder / "best", state, 1)

    def log(self, row: dict[str, Any]) -> None:
        """Append a row; what is cut off of it by a kill is dropped later."""
        if self.ranks.is_first:
            line = json.dumps(row, allow_nan=False)
            files.append_line(self.folder / "metrics.jsonl", line)


def _snapshot(
    surrogate: Surrogate,
    optimiser: torch.optim.AdamW | None,
    update: int,
    best: float,
) -> Checkpoint:
    tensors = {f"model.{k}": v for k, v in surrogate.state_dict().items()}
    if optimiser is not None:
        for name, parameter in surrogate.named_parameters():
            for key, value in optimiser.state[parameter].items():
                tensors[f"optimiser.{key}.{name}"] = value
    state = {"update": update, "best": None if math.isinf(best) else best.hex()}
    return Checkpoint(tensors, state)


def _write(folder: Path, checkpoint: Checkpoint, kept: int) -> None:
    save_checkpoint(folder / f"step-{checkpoint.state['update']:08d}", checkpoint)
    files.remove_folders(sorted(folder.glob("step-*"))[:-kept])


def _from_first(checkpoint: Checkpoint, ranks: Ranks) -> Checkpoint:
    """Return the checkpoint of the first rank."""
    if ranks.size == 1:
        return checkpoint
    tensors = {name: t.contiguous() for name, t in checkpoint.tensors.items()}
    content = ranks.from_first(safetensors.torch.save(tensors))
    state = ranks.from_first(json.dumps(checkpoint.state).encode())
    return Checkpoint(safetensors.torch.load(content), json.loads(state))


def _warn(faults: Iterable[str], consequence: str) -> None:
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
            # The number of steps stays in main memory, as AdamW has it.
            optimiser.state[parameter] = {
                kind: value if kind == "step" else value.to(parameter.device)
                for kind, value in moments[name].items()
            }
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
    update = checkpoint.state.get("update")
    _warn(faults, f"the best weights of update {update} serve")
    _load_model(surrogate, checkpoint, folder)
    return checkpoint.state


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
