"""The table of a sweep: one row per finished run, as JSON and as CSV.

All but ``seconds`` and ``versions`` follows from the recipe: a sweep that was
interrupted and went on has the same rows.
"""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from experiments.coarse import Errors
from experiments.evaluation import Evaluation, read_evaluation
from experiments.figures import by_wave_number
from experiments.sweep_recipe import Sweep
from experiments.sweep_runs import Floors, RunSpec, read_outcome
from pde_sym.config import Frozen, canonical_json
from pde_sym.errors import DataError, InputError
from pde_sym.evaluation import ElementDefect, IrrepShare
from pde_sym.maps import BOOST
from pde_sym.store import files
from pde_sym.systems.kdv import KdV
from pde_sym.systems.kdv_terms import KdVProperty

SCHEMA = 1
TABLE_FILE = "table.json"
STEPS = 10
"""Steps of the rollout error in the middle, fewer where rollouts are shorter."""
MAX_BYTES = 1 << 28
ElementClass = Literal["kept", "broken", "foreign"]
"""Of a motion: kept by the term, broken by it, or no symmetry without it either."""


class Measured(Frozen):
    """A quantity of the solver and of the model."""

    solver: float
    model: float


class Scores(Frozen):
    """VRMSE on a test set."""

    one_step: float
    steps: float
    """After `STEPS` steps."""
    last: float
    """After the last step."""

    @classmethod
    def of(cls, errors: Errors | None) -> "Scores | None":
        if errors is None:
            return None
        step = min(STEPS, len(errors.rollout))
        return cls(
            one_step=errors.one_step,
            steps=errors.rollout[step - 1],
            last=errors.rollout[-1],
        )


class Row(Frozen):
    """One run of the sweep; what could not be measured is None."""

    family: str
    role: str
    strength: float
    size: int
    """Training trajectories."""
    seed: int
    candidate: int
    """The tuning trial that went on."""
    settings: str | None = None
    """Hash of everything that was chosen but the seed."""
    failed: str | None
    parameters: int | None
    flops: int | None
    """Of one step of one state."""
    valid: float | None
    """Validation error of the best checkpoint."""
    test: Scores | None = None
    shifted: Scores | None = None
    """On test data of another law of initial states."""
    moved: Scores | None = None
    """On test data whose initial states were moved."""
    future: Scores | None = None
    """On the training trajectories, later on."""
    floors: dict[str, Scores | None]
    """Errors without a model: nothing changes; the solver on half the points."""
    strict_floors: dict[str, float] = Field(default_factory=dict)
    """One-step errors under which no strict model of a group can go."""
    defects: dict[str, Measured] = Field(default_factory=dict)
    """Mean over the motions of a class."""
    spectrum: dict[str, Measured] = Field(default_factory=dict)
    """Shares by irrep of D4, and by wave number of shifts."""
    drift: dict[str, Measured] = Field(default_factory=dict)
    """Of each invariant at the last frame; the solver's is the truth's."""
    residual: dict[str, Measured] = Field(default_factory=dict)
    """The drift that the budget does not explain."""
    seconds: dict[str, float]
    versions: dict[str, str]


class Table(Frozen):
    """All rows of a sweep."""

    schema_version: int = SCHEMA
    title: str
    system: str
    term: str
    equation: str
    """With the breaking term."""
    tuning_runs: dict[str, int]
    """Per family, finished trainings whose validation error chose a trial."""
    tuning_seconds: dict[str, float]
    rows: tuple[Row, ...]


def classes_of(sweep: Sweep) -> dict[str, ElementClass]:
    """Return the class of every motion that defects are measured under, by name.

    A motion that the intact system does not have, as a turn of an asymmetric body, is
    foreign: the term cannot break it.
    """
    with_term = sweep.recipe(sweep.strengths[-1])
    given = with_term.environment_kind == "given"
    intact, broken = sweep.recipe(0.0).system, with_term.system

    def class_of(motion: Any) -> ElementClass:
        if broken.keeps(motion, joint=given):
            return "kept"
        return "broken" if intact.keeps(motion, joint=given) else "foreign"

    classes: dict[str, ElementClass] = {
        motion.name: class_of(motion) for motion in broken.probes(with_term.grid)
    }
    if isinstance(broken, KdV):
        keeps_boosts = KdVProperty.GALILEI in broken.properties
        classes[BOOST.name] = "kept" if keeps_boosts else "broken"
    return classes


def mean_defects(
    defects: Sequence[ElementDefect], classes: dict[str, ElementClass]
) -> dict[str, Measured]:
    """Return the mean defect of solver and model over each class of motions."""
    result: dict[str, Measured] = {}
    for name in ("kept", "broken", "foreign"):
        members = [d for d in defects if _class(d, classes) == name]
        if members:
            result[name] = Measured(
                solver=sum(_known(d.solver) for d in members) / len(members),
                model=sum(d.model for d in members) / len(members),
            )
    return result


def _share(share: IrrepShare) -> Measured:
    return Measured(solver=_known(share.solver), model=share.model)


def _known(solver: float | None) -> float:
    assert solver is not None, "a sweep makes its data itself"
    return solver


def _class(defect: ElementDefect, classes: dict[str, ElementClass]) -> ElementClass:
    # The names of shifts on a line lack their second number.
    name = defect.element
    return classes[name if name in classes else f"{name}, 0"]


def row_of(
    sweep: Sweep, spec: RunSpec, floors: Floors, classes: dict[str, ElementClass]
) -> Row | None:
    """Return the row of a run, None where it is not finished."""
    outcome = read_outcome(spec)
    if outcome is None or not (outcome.evaluated or outcome.failed):
        return None
    role = next(f.role for f in sweep.families if f.name == spec.family)
    values: dict[str, Any] = {
        "family": spec.family,
        "role": role,
        "strength": spec.strength,
        "size": spec.size,
        "seed": spec.seed,
        "candidate": spec.candidate,
        "failed": outcome.failed,
        "parameters": outcome.parameters,
        "flops": outcome.flops,
        "valid": outcome.valid_vrmse,
        "shifted": Scores.of(outcome.shifted),
        "moved": Scores.of(outcome.moved),
        "future": Scores.of(outcome.future),
        "floors": {
            name: Scores.of(getattr(floors, name))
            for name in Floors.model_fields
            if name != "data"
        },
        "seconds": {
            "train": round(outcome.train_seconds, 2),
            "evaluate": round(outcome.evaluate_seconds, 2),
        },
        "versions": outcome.versions,
    }
    if outcome.evaluated:
        values |= _measured(read_evaluation(spec.folder), classes)
    return Row(**values)


def _measured(
    one: Evaluation, classes: dict[str, ElementClass]
) -> dict[str, dict[str, Measured] | Any]:
    shares = (
        *(s for s in one.point_spectrum if s.irrep != "trivial"),
        *by_wave_number([s for s in one.shift_spectrum if s.irrep != "trivial"]),
    )
    return {
        "settings": one.settings,
        "test": Scores.of(Errors(one_step=one.one_step_vrmse, rollout=one.vrmse)),
        "strict_floors": one.strict_floors,
        "defects": mean_defects(one.defects, classes),
        "spectrum": {s.irrep: _share(s) for s in shares},
        "drift": {
            i.name: Measured(solver=i.truth_drift[-1], model=i.model_drift[-1])
            for i in one.invariants
        },
        "residual": {
            i.name: Measured(solver=i.truth_residual[-1], model=i.model_residual[-1])
            for i in one.invariants
        },
    }


def write_table(folder: Path, table: Table) -> None:
    """Write ``table.json`` and ``table.csv``, each whole or not at all."""
    text = json.dumps(json.loads(canonical_json(table)), indent=1) + "\n"
    files.write_file(folder / TABLE_FILE, text.encode())
    files.write_file(folder / "table.csv", csv_of(table).encode())


def csv_of(table: Table) -> str:
    """Return the rows with one column per number, ``drift.energy.model``."""
    rows = [flat(row.model_dump(mode="json")) for row in table.rows]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested tables as one, with dotted keys; None and empty ones drop out."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            result |= flat(value, f"{prefix}{key}.")
        elif value is not None:
            result[f"{prefix}{key}"] = value
    return result


def read_table(folder: Path) -> Table:
    """Read ``table.json``; `DataError` when it is missing or damaged."""
    path = folder / TABLE_FILE
    if not path.exists():
        raise DataError(f"{folder}: no {TABLE_FILE}; run `pde-sym sweep` into it")
    try:
        values = json.loads(files.read_file(path, MAX_BYTES))
        return Table.parse(values, where=str(path))
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, InputError) else "not JSON"
        raise DataError(f"{path}: {reason}; repeat the sweep to write it") from error
