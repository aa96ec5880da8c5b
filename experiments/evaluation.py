"""What is measured on a run, as plain values on disk."""

import io
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from pde_sym.config import canonical_json
from pde_sym.errors import DataError, InputError
from pde_sym.evaluation import Diagnosis, Errors
from pde_sym.store import files
from pde_sym.systems.unknown import Unknown

RUN_FILE = "run.json"
EVALUATION_FILE = "evaluation.json"
ROLLOUT_FILE = "rollouts.npz"
MAX_BYTES = 1 << 28

Floats = NDArray[np.floating]


class Evaluation(Errors, Diagnosis):
    """Everything that `pde-sym evaluate` measures, and of what."""

    run: str
    """Name of the run's folder."""
    model: str
    """Kind of the model."""
    group: str | None
    """Its group, for steerable models."""
    parameters: int
    seed: int
    updates: int
    settings: str
    """Hash of everything that was chosen but the seed: equal for seeds of one model."""
    recipe: str
    """Hash of the recipe of the data."""
    system: str
    strengths: dict[str, float]
    num_axes: int = 2
    """Axes of the grid, 0 for a body."""
    subgroup: str
    """What survives of T^2 x D4, of the shifts of a line, of a body's rotations."""
    trajectories: int
    """Test trajectories."""


UNKNOWN = (
    "imported data: no solver and no invariants are known; the solver's defect, strict "
    "floors, drift and budgets are left out"
)


def is_imported(evaluation: Evaluation) -> bool:
    """Return whether the data came from elsewhere, with no system that is known."""
    return evaluation.system == Unknown.model_fields["kind"].default


@dataclass(frozen=True)
class Pictures:
    """A few rollouts, for figures.

    Parameters
    ----------
    times
        ``(frames,)``.
    truth, prediction
        ``(trajectories, frames, channels, *points)``, float32.
    environment
        ``(trajectories, channels, *points)``; channels may be none.
    channels, environment_channels
        Names of the channels.
    lengths
        Lengths of the axes; a body has 1 x 1 x 1 points.
    """

    times: Floats
    truth: Floats
    prediction: Floats
    environment: Floats
    channels: tuple[str, ...]
    environment_channels: tuple[str, ...]
    lengths: tuple[float, ...]


def write_evaluation(folder: Path, evaluation: Evaluation, pictures: Pictures) -> None:
    """Write both files into a run's folder, each whole or not at all."""
    buffer = io.BytesIO()
    names = {"channels", "environment_channels"}
    arrays = {k: v for k, v in vars(pictures).items() if k not in names}
    texts = {k: np.array(v, dtype="U") for k, v in vars(pictures).items() if k in names}
    np.savez_compressed(buffer, **arrays, **texts)
    files.write_file(folder / ROLLOUT_FILE, buffer.getvalue())
    text = json.dumps(json.loads(canonical_json(evaluation)), indent=1) + "\n"
    files.write_file(folder / EVALUATION_FILE, text.encode())


def read_evaluation(folder: Path) -> Evaluation:
    """Read ``evaluation.json``.

    Raises
    ------
    DataError
        When it is missing or damaged.
    """
    path = folder / EVALUATION_FILE
    if not path.exists():
        raise DataError(f"{folder}: not evaluated; run `pde-sym evaluate {folder}`")
    try:
        values = json.loads(files.read_file(path, MAX_BYTES))
        return Evaluation.parse(values, where=str(path))
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, InputError) else "not JSON"
        raise DataError(f"{path}: {reason}; evaluate the run again") from error


def read_pictures(folder: Path) -> Pictures:
    """Read ``rollouts.npz``.

    Raises
    ------
    DataError
        When it is missing or damaged.
    """
    path = folder / ROLLOUT_FILE
    if not path.exists():
        raise DataError(f"{folder}: not evaluated; run `pde-sym evaluate {folder}`")
    try:
        data = files.read_file(path, MAX_BYTES)
        values: dict[str, Any] = {}
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            values |= {name: file[name] for name in file.files}
        for name in ("channels", "environment_channels", "lengths"):
            values[name] = tuple(values[name].tolist())
        return Pictures(**values)
    except (ValueError, KeyError, TypeError, EOFError, BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged; evaluate the run again") from error
