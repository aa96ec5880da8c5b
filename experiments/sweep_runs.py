"""The pieces of work of a sweep: data at a strength, and one run on them.

data/STRENGTH/                            data sets; STRENGTH-shifted, -moved and
                                          -future, others to test on
floors/STRENGTH.json                      errors that need no model
runs/STRENGTH/SIZE/FAMILY/CANDIDATE-SEED/ runs, as `pde-sym train` makes them, and
  outcome.json                              how each of them went

Every piece is a picklable value and one function of it; a piece that is finished is not
done again, one that was interrupted goes on.
"""

import dataclasses
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import ConfigDict
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from data_gen.build import build
from data_gen.recipes import Recipe
from experiments.coarse import Errors, coarse_errors, measure_errors
from experiments.evaluate import evaluate
from experiments.evaluation import write_evaluation
from experiments.moved import moved_recipe
from experiments.runs import (
    Run,
    build_surrogate,
    load_surrogate,
    read_run,
    write_run,
)
from experiments.train import Choices, prepare, training_data
from pde_sym.config import Frozen, canonical_json, fingerprint
from pde_sym.errors import DataError, InputError, OutputError, SimulationError
from pde_sym.learning import training_windows, validation_rollouts
from pde_sym.nn import Surrogate, count_parameters
from pde_sym.nn.families import ModelConfig
from pde_sym.nn.families.base import MATCH_TOLERANCE
from pde_sym.samples import Samples
from pde_sym.seeds import Split
from pde_sym.store import files
from pde_sym.training import fit
from pde_sym.training_state import load_best

OUTCOME_FILE = "outcome.json"
MAX_BYTES = 1 << 24
Kind = TypeVar("Kind", bound=Frozen)
PACKAGES = ("pde-sym", "torch", "numpy", "escnn")
"""Whose versions decide the numbers."""
KEPT_ROLLOUTS = 1


class Floors(Frozen):
    """Errors that need no model, on the test data of one strength."""

    data: str
    """Hash of the recipe of the data."""
    persistence: Errors
    """Of the prediction that nothing changes."""
    coarse: Errors | None
    """Of the solver on half the points per axis."""
    shifted_persistence: Errors | None = None
    shifted_coarse: Errors | None = None
    moved_persistence: Errors | None = None
    moved_coarse: Errors | None = None
    future_persistence: Errors | None = None
    future_coarse: Errors | None = None


@dataclass(frozen=True)
class DataSpec:
    """The data of a strength, and their floors."""

    root: Path
    strength: float
    recipe: Recipe
    shifted: Recipe | None
    moved: tuple[str, ...]
    """Motions of the states of a third test set, which is made where there are any."""
    future: Recipe | None
    """Of a data set whose valid split are the training trajectories later on."""
    counts: dict[Split, int]

    @property
    def folder(self) -> Path:
        return data_folder(self.root, self.strength)

    @property
    def floors(self) -> Path:
        return self.root / "floors" / f"{self.strength:g}.json"


def data_folder(root: Path, strength: float, test: str = "") -> Path:
    """Return the folder of a strength, or of its other test set of that name."""
    return root / "data" / (f"{strength:g}-{test}" if test else f"{strength:g}")


def split_of(test: str) -> Split:
    """Return the split that is tested on in the folder of a test set."""
    return Split.VALID if test == "future" else Split.TEST


def make_data(spec: DataSpec) -> None:
    """Make the data sets of a strength, or what is missing of them, and the floors."""
    build(spec.recipe, spec.counts, spec.folder)
    others: dict[str, Recipe] = {}
    if spec.shifted is not None:
        others["shifted"] = spec.shifted
    tests = spec.counts[Split.TEST]
    if spec.moved:
        path = spec.folder.parent / f"{spec.folder.name}-moved.npy"
        others["moved"] = moved_recipe(spec.recipe, spec.moved, tests, path)
    if spec.future is not None:
        others["future"] = spec.future
    for name, recipe in others.items():
        # The one training trajectory is for the folder's statistics alone.
        counts = {Split.TRAIN: 1, Split.VALID: 0, Split.TEST: tests}
        if name == "future":
            counts |= {Split.VALID: spec.counts[Split.TRAIN], Split.TEST: 0}
        build(recipe, counts, data_folder(spec.root, spec.strength, name))
    recipes = [spec.recipe, *others.values()]
    made_of = fingerprint(
        {"recipes": [r.model_dump(mode="json") for r in recipes], "test": tests}
    )
    if spec.floors.exists() and read_floors(spec.floors).data == made_of:
        return
    persistence, coarse = _floors_on(spec.folder)
    floors = Floors(data=made_of, persistence=persistence, coarse=coarse)
    for name in others:
        folder = data_folder(spec.root, spec.strength, name)
        still, half = _floors_on(folder, split_of(name))
        update = {f"{name}_persistence": still, f"{name}_coarse": half}
        floors = floors.model_copy(update=update)
    files.make_folder(spec.floors.parent)
    files.write_file(spec.floors, (canonical_json(floors) + "\n").encode())


def _floors_on(folder: Path, split: Split = Split.TEST) -> tuple[Errors, Errors | None]:
    test = Samples.read(folder, split)
    axes = test.grid.num_axes
    still = measure_errors(test.states, lambda u, _: u, axes)
    return still, coarse_errors(test)


def read_floors(path: Path) -> Floors:
    """Read the floors of a strength; `DataError` when the file is damaged."""
    return _read(Floors, path)


class Outcome(Frozen):
    """How a run went so far."""

    # A sweep may go on with a later version than it began with.
    model_config = ConfigDict(extra="ignore")

    versions: dict[str, str]
    trained: bool = False
    evaluated: bool = False
    failed: str | None = None
    """Why there is no number, in one line."""
    parameters: int | None = None
    flops: int | None = None
    """Of one step of one state; Fourier transforms are not counted."""
    valid_vrmse: float | None = None
    best_update: int | None = None
    shifted: Errors | None = None
    """On test data of another law of initial states."""
    moved: Errors | None = None
    """On test data whose initial states were moved."""
    future: Errors | None = None
    """On the training trajectories, later on."""
    train_seconds: float = 0.0
    """Of the processor, all processes that worked at it together."""
    evaluate_seconds: float = 0.0


@dataclass(frozen=True)
class RunSpec:
    """One run, and whether it is to be evaluated."""

    root: Path
    strength: float
    size: int
    family: str
    candidate: int
    seed: int
    choices: Choices
    parameters: int
    held: tuple[int, int]
    """Training and validation trajectories that there are."""
    evaluated: bool
    others: tuple[str, ...]
    """Names of the other test sets: ``shifted``, ``moved`` and ``future``."""
    device: str = "cpu"
    """Where it is trained."""

    @property
    def folder(self) -> Path:
        place = self.root / "runs" / f"{self.strength:g}" / f"{self.size}"
        return place / self.family / f"{self.candidate}-{self.seed}"

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to do.

        Raises
        ------
        OutputError
            When the folder holds a run that was asked for with other settings.
        """
        outcome = read_outcome(self)
        if outcome is None:
            return False
        if outcome.failed is not None:
            return True
        return outcome.trained and (outcome.evaluated or not self.evaluated)


def read_outcome(spec: RunSpec) -> Outcome | None:
    """Return how a run went so far, None where it has not begun.

    Raises
    ------
    OutputError
        When the folder holds a run that was asked for with other settings.
    DataError
        When the file is damaged.
    """
    path = spec.folder / OUTCOME_FILE
    if not path.exists():
        return None
    outcome = _read(Outcome, path)
    config, choices = read_run(spec.folder).config, spec.choices
    count = outcome.parameters or spec.parameters
    # Of another recipe the data themselves are refused.
    if (
        choices.model.model_copy(update={"width": config.model.width}) != config.model
        or choices.training != config.training
        or spec.held != (config.data.train, config.data.valid)
        or abs(count - spec.parameters) > MATCH_TOLERANCE * spec.parameters
    ):
        raise OutputError(
            f"{spec.folder}: made with other settings than the sweep now asks for; "
            "choose another folder"
        )
    return outcome


def check_networks(specs: Iterable[RunSpec]) -> None:
    """Refuse what would fail after hours: each network that no run has begun, once.

    Raises
    ------
    InputError
        When no width has the number of weights, or the data do not suit the network.
    """
    networks: dict[tuple[str, ModelConfig], RunSpec] = {}
    for spec in specs:
        networks.setdefault((spec.family, spec.choices.model), spec)
    for spec in networks.values():
        if read_outcome(spec) is None:
            data = data_folder(spec.root, spec.strength)
            try:
                dataset = training_data(data, spec.choices.training)
                prepare(dataset, spec.choices, spec.parameters)
            except InputError as error:
                raise InputError(f"families.{spec.family}: {error}") from error


def perform(spec: RunSpec) -> Outcome:
    """Train a run, or go on with it, and evaluate it where that is asked for.

    A training or a rollout that leaves the finite numbers is an outcome, not an error.
    """
    torch.set_num_threads(1)
    files.make_folder(spec.folder)
    with files.lock(spec.folder):
        files.remove_temporaries(spec.folder)
        outcome = read_outcome(spec) or Outcome(
            versions={name: version(name) for name in PACKAGES}
        )
        try:
            if not outcome.trained and outcome.failed is None:
                outcome = _train(spec, outcome)
            if spec.evaluated and not outcome.evaluated and outcome.failed is None:
                outcome = _evaluate(spec, outcome)
        except SimulationError as error:
            outcome = _written(spec, read_outcome(spec) or outcome, failed=f"{error}")
    return outcome


def _train(spec: RunSpec, outcome: Outcome) -> Outcome:
    data = data_folder(spec.root, spec.strength)
    start = time.process_time()
    dataset = training_data(data, spec.choices.training)
    config = prepare(dataset, spec.choices, spec.parameters)
    run = Run(spec.folder, config, data)
    write_run(run)
    surrogate = build_surrogate(config).to(spec.device)
    windows = training_windows(dataset)
    valid = validation_rollouts(data, config.training.horizon)
    try:
        fit(surrogate, windows, valid, config.training, run.folder)
    finally:
        # Also when it is interrupted: what comes later is added.
        seconds = outcome.train_seconds + time.process_time() - start
        outcome = _written(spec, outcome, train_seconds=seconds)
    surrogate.cpu()
    best = load_best(surrogate, run.folder)
    return _written(
        spec,
        outcome,
        trained=True,
        parameters=count_parameters(surrogate),
        flops=flops(surrogate, valid.states[:1, 0], valid.given),
        valid_vrmse=float.fromhex(best["best"]),
        best_update=best["update"],
    )


def _evaluate(spec: RunSpec, outcome: Outcome) -> Outcome:
    start = time.process_time()
    run = read_run(spec.folder)
    evaluation, pictures = evaluate(run, None, lambda _: None)
    kept = slice(0, KEPT_ROLLOUTS)
    few = {
        name: getattr(pictures, name)[kept]
        for name in ("truth", "prediction", "environment")
    }
    surrogate = load_surrogate(run)
    others = {
        name: _errors_on(
            Samples.read(data_folder(spec.root, spec.strength, name), split_of(name)),
            surrogate,
        )
        for name in spec.others
    }
    write_evaluation(run.folder, evaluation, dataclasses.replace(pictures, **few))
    return _written(
        spec,
        outcome,
        evaluated=True,
        evaluate_seconds=time.process_time() - start,
        **others,
    )


@torch.no_grad()
def _errors_on(test: Samples, surrogate: Surrogate) -> Errors:
    given = test.environment.float() if test.is_given else None

    def step(states: Tensor, index: Tensor) -> Tensor:
        return surrogate(states, None if given is None else given[index])

    return measure_errors(test.states, step, test.grid.num_axes)


@torch.no_grad()
def flops(surrogate: Surrogate, state: Tensor, given: Tensor | None) -> int:
    """Return the floating-point operations of one step of one state.

    Counted are products of matrices and convolutions, with kernels that are already
    expanded.
    """
    one = None if given is None else given[:1]
    surrogate.eval()
    surrogate(state, one)
    with FlopCounterMode(display=False) as counter:
        surrogate(state, one)
    return counter.get_total_flops()


def _written(spec: RunSpec, outcome: Outcome, **changes: object) -> Outcome:
    changed = outcome.model_copy(update=changes)
    text = json.dumps(json.loads(canonical_json(changed)), indent=1) + "\n"
    files.write_file(spec.folder / OUTCOME_FILE, text.encode())
    return changed


def _read(kind: type[Kind], path: Path) -> Kind:
    try:
        values = json.loads(files.read_file(path, MAX_BYTES))
        return kind.parse(values, where=str(path))
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, InputError) else "not JSON"
        raise DataError(f"{path}: {reason}; remove it, then repeat") from error
