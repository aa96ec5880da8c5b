"""Evaluations that belong together: the seeds of one model, and how it is drawn.

A model family has one colour, marker and line in every figure.
"""

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.evaluation import RUN_FILE, Evaluation, read_evaluation
from pde_sym.errors import DataError, InputError
from pde_sym.store import files

MAX_RUN_BYTES = 1 << 20


@dataclass(frozen=True)
class Look:
    """How a model is drawn.

    Parameters
    ----------
    colour
        One of the palette of Okabe and Ito, safe for colour-blind readers.
    marker, line
        Marker and line style of matplotlib: they tell models apart in grey.
    filled
        Whether the marker is; a second model of a family has open ones.
    """

    colour: str
    marker: str
    line: str
    filled: bool = True


FAMILIES = {
    "strict": ("strict", Look("#0072B2", "s", "--")),
    "modulated": ("relaxed", Look("#D55E00", "o", "-")),
    "isotypic": ("relaxed by irrep", Look("#CC79A7", "D", ":")),
    "cnn": ("free CNN", Look("#009E73", "^", "-.")),
}
"""Kind of model -> readable name and look, in the order of legends."""
OTHER = Look("#56B4E9", "v", "-")
"""Of kinds that are not in the table."""


@dataclass(frozen=True)
class Series:
    """One model, trained from several seeds.

    Parameters
    ----------
    label
        Readable name, unique among the series of a figure.
    look
        How it is drawn.
    evaluations
        One per seed, in the order of the seeds.
    """

    label: str
    look: Look
    evaluations: tuple[Evaluation, ...]

    @property
    def first(self) -> Evaluation:
        """The evaluation of the lowest seed."""
        return self.evaluations[0]

    def values(
        self, measure: Callable[[Evaluation], float | Sequence[float]]
    ) -> NDArray[np.float64]:
        """Return a measured quantity, seeds along the first axis."""
        return np.array([measure(e) for e in self.evaluations], dtype=np.float64)


def group_by_seed(evaluations: Sequence[Evaluation]) -> tuple[Series, ...]:
    """Group evaluations whose settings differ by the seed alone.

    Raises
    ------
    InputError
        When there are none, or when one model occurs twice with one seed.
    """
    if not evaluations:
        raise InputError("expected at least one evaluated run")
    groups: dict[str, list[Evaluation]] = {}
    for one in evaluations:
        groups.setdefault(one.settings, []).append(one)
    kinds = sorted((members[0] for members in groups.values()), key=_order)
    result = []
    for kind in kinds:
        members = sorted(groups[kind.settings], key=lambda e: e.seed)
        for a, b in itertools.pairwise(members):
            if a.seed == b.seed:
                raise InputError(
                    f"runs {a.run} and {b.run}: the same settings and seed ({a.seed}); "
                    "leave one of them out"
                )
        family = [k for k in kinds if k.model == kind.model]
        label = _label(kind, [k for k in family if k.group == kind.group])
        look = _look(kind.model, family.index(kind))
        result.append(Series(label, look, tuple(members)))
    return tuple(result)


def _order(one: Evaluation) -> tuple[int, str, str, int, int, str]:
    known = list(FAMILIES)
    place = known.index(one.model) if one.model in known else len(known)
    sizes = (one.parameters, one.updates)
    return (place, one.model, one.group or "", *sizes, one.settings)


def run_labels(evaluations: Sequence[Evaluation]) -> list[str]:
    """Return a label per run: that of its series, with the seed where that has more."""
    labels = {}
    for series in group_by_seed(evaluations):
        several = len(series.evaluations) > 1
        for one in series.evaluations:
            text = f"{series.label}, seed {one.seed}" if several else series.label
            labels[id(one)] = text
    return [labels[id(one)] for one in evaluations]


def run_looks(evaluations: Sequence[Evaluation]) -> dict[str, Look]:
    """Return the look of every label of `run_labels`."""
    looks = {
        id(one): series.look
        for series in group_by_seed(evaluations)
        for one in series.evaluations
    }
    labels = run_labels(evaluations)
    return {label: looks[id(e)] for label, e in zip(labels, evaluations, strict=True)}


def _label(kind: Evaluation, alike: list[Evaluation]) -> str:
    """Return a name that tells `kind` from the others `alike` in model and group."""
    name = FAMILIES[kind.model][0] if kind.model in FAMILIES else kind.model
    parts = [f"{name} ({kind.group})" if kind.group else name]
    if len({k.parameters for k in alike}) > 1:
        parts.append(f"{kind.parameters} parameters")
    if len({k.updates for k in alike}) > 1:
        parts.append(f"{kind.updates} updates")
    twins = [
        k for k in alike if (k.parameters, k.updates) == (kind.parameters, kind.updates)
    ]
    if len(twins) > 1:
        parts.append(f"run {kind.run}")
    return ", ".join(parts)


def _look(model: str, variant: int) -> Look:
    """Return the look of the n-th model of a family."""
    look = FAMILIES[model][1] if model in FAMILIES else OTHER
    if variant == 0:
        return look
    marker = ("", "P", "X", "*", "h")[min(variant - 1, 4)] or look.marker
    return Look(look.colour, marker, look.line, filled=False)


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """Return the given folders that are runs, and the runs inside the others.

    Raises
    ------
    InputError
        When a folder is no run and contains none, or when a run is given twice.
    """
    runs: list[Path] = []
    for folder in folders:
        if (folder / RUN_FILE).exists():
            found = [folder]
        else:
            found = sorted(path.parent for path in folder.glob(f"*/{RUN_FILE}"))
        if not found:
            raise InputError(f"{folder}: neither a run nor a folder with runs")
        runs += found
    places = [run.resolve() for run in runs]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise InputError(f"{runs[number]}: given twice")
    return runs


def read_settings(run: Path) -> dict[str, Any]:
    """Return what ``run.json`` says, less where the data are.

    Raises
    ------
    DataError
        When it is damaged.
    """
    path = run / RUN_FILE
    try:
        settings = json.loads(files.read_file(path, MAX_RUN_BYTES))
        return {key: settings[key] for key in settings if key != "data_folder"}
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: not the description of a run") from error


def read_evaluations(runs: Sequence[Path]) -> list[Evaluation]:
    """Read evaluations that may stand in one figure, under their folders' names.

    Raises
    ------
    InputError
        When two runs have seen different data or were measured on different frames.
    DataError
        When a run is not evaluated, or its evaluation is damaged.
    """
    # A folder may have been renamed since.
    evaluations = [
        read_evaluation(run).model_copy(update={"run": run.resolve().name})
        for run in runs
    ]
    first = evaluations[0]
    for run, one in zip(runs[1:], evaluations[1:], strict=True):
        if one.recipe != first.recipe:
            raise InputError(
                f"{runs[0]} and {run}: their data have different recipes "
                f"({first.recipe[:8]} and {one.recipe[:8]}); compare runs on one"
            )
        if (one.times, one.trajectories) != (first.times, first.trajectories):
            raise InputError(
                f"{runs[0]} and {run}: evaluated on different frames or trajectories; "
                "evaluate both on the same test data with the same --steps"
            )
    return evaluations
