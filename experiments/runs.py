"""A run: one folder with everything about one trained surrogate.

run.json          what it is: data, task, normalisation, model, training
metrics.jsonl     loss and validation error along the way
checkpoints/      the last states, to go on from
best/             the weights with the lowest validation error
evaluation.json   what `pde-sym evaluate` measured
rollouts.npz      the rollouts that it kept for pictures
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.evaluation import RUN_FILE
from pde_sym.config import Frozen, fingerprint
from pde_sym.dataset import TrajectoryDataset
from pde_sym.errors import DataError, InputError, OutputError
from pde_sym.learning import built
from pde_sym.nn import ModelConfig, Normalisation, Surrogate, Task
from pde_sym.objective import TrainConfig
from pde_sym.store import files, read_manifest
from pde_sym.training_state import load_best

MAX_RUN_BYTES = 1 << 20


class DataIdentity(Frozen):
    """Which data a run has seen; a set that grew is another one."""

    recipe: str
    """Hash of the recipe."""
    train: int
    valid: int


class RunConfig(Frozen):
    """Everything that decides the weights of a surrogate."""

    data: DataIdentity
    task: Task
    normalisation: Normalisation
    model: ModelConfig
    training: TrainConfig

    @property
    def settings(self) -> str:
        """Hash of what was chosen, less the seed and what follows from it."""
        return fingerprint(
            {
                "data": self.data.model_dump(mode="json"),
                "model": self.model.model_dump(mode="json"),
                "training": self.training.model_dump(mode="json", exclude={"seed"}),
            }
        )


@dataclass(frozen=True)
class Run:
    """A folder, what was trained in it, and the folder of its data."""

    folder: Path
    config: RunConfig
    data: Path

    @property
    def name(self) -> str:
        return self.folder.name


def identity_of(folder: Path) -> DataIdentity:
    """Return the identity of a data set."""
    train = TrajectoryDataset(folder, "train", window=1)
    valid = TrajectoryDataset(folder, "valid", window=1)
    config, prediction = train.config, read_manifest(folder).prediction
    if prediction is not None:
        config = config | {"prediction": prediction.model_dump()}
    return DataIdentity(
        recipe=fingerprint(config),
        train=train.num_trajectories,
        valid=valid.num_trajectories,
    )


def build_surrogate(config: RunConfig) -> Surrogate:
    """Return a surrogate with the first weights of its seed."""
    net = built(config.model, config.task, config.training.seed)
    return Surrogate(net, config.task, config.normalisation)


def write_run(run: Run) -> None:
    """Write ``run.json``, or check that it says the same.

    Raises
    ------
    OutputError
        When the folder holds another run; it names the first key that differs.
    """
    path = run.folder / RUN_FILE
    if path.exists():
        stored = read_run(run.folder).config
        if stored != run.config:
            key, old, new = _difference(stored, run.config)
            raise OutputError(
                f"{run.folder}: holds a run with {key} = {old}, asked for {new}; "
                "choose another folder"
            )
        return
    others = [p.name for p in run.folder.iterdir() if p.name != files.LOCK]
    if others:
        raise OutputError(
            f"{run.folder}: holds {others[0]} and no {RUN_FILE}; choose another folder"
        )
    text = json.dumps(
        {
            # Relative, so that a folder with data and runs may move as a whole.
            "data_folder": os.path.relpath(run.data, run.folder),
            **run.config.model_dump(mode="json"),
        },
        indent=1,
    )
    files.write_file(path, (text + "\n").encode())


def read_run(folder: Path, data: Path | None = None) -> Run:
    """Return the run in a folder, with its data there or at `data`.

    Raises
    ------
    DataError
        When ``run.json`` is missing or not one.
    """
    path = folder / RUN_FILE
    if not path.exists():
        raise DataError(f"{folder}: not a run, it has no {RUN_FILE}")
    try:
        values = json.loads(files.read_file(path, MAX_RUN_BYTES))
        place = values.pop("data_folder")
    except (ValueError, AttributeError, KeyError, RecursionError) as error:
        raise DataError(f"{path}: not the description of a run") from error
    try:
        config = RunConfig.parse(values, where=str(path))
    except InputError as error:
        raise DataError(str(error)) from error
    return Run(folder, config, data or folder / str(place))


def load_surrogate(run: Run) -> Surrogate:
    """Return the surrogate with its best weights, ready to predict.

    Raises
    ------
    DataError
        When the run has no whole checkpoint yet.
    """
    surrogate = build_surrogate(run.config)
    load_best(surrogate, run.folder)
    return surrogate.eval()


def _difference(old: RunConfig, new: RunConfig) -> tuple[str, Any, Any]:
    before, after = (
        _flat(old.model_dump(mode="json")),
        _flat(new.model_dump(mode="json")),
    )
    keys = [k for k in {**before, **after} if before.get(k) != after.get(k)]
    key = keys[0]
    return key, before.get(key), after.get(key)


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested tables as one, with dotted keys."""
    if not isinstance(values, dict):
        return {prefix: values}
    result: dict[str, Any] = {}
    for key, value in values.items():
        result |= _flat(value, f"{prefix}.{key}" if prefix else key)
    return result
