"""What the report's table says of a model: means over seeds, with their ranges."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from experiments.evaluation import Evaluation
from experiments.page import Cell
from experiments.series import Series

STEPS = 10
"""Steps of the rollout error in the table, fewer when the rollouts are shorter."""


@dataclass(frozen=True)
class Spread:
    """A number per seed: its mean and its range."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, series: Series, measure: Callable[[Evaluation], float]) -> "Spread":
        values = series.values(measure)
        return cls(float(values.mean()), float(values.min()), float(values.max()))

    def cell(self, form: str) -> Cell:
        if self.low == self.high:
            return Cell(format(self.mean, form))
        return Cell(format(self.mean, form), f"{self.low:{form}} to {self.high:{form}}")


@dataclass(frozen=True)
class Result:
    """One row of the table of results; None where nothing is broken, or known."""

    label: str
    model: str
    group: str | None
    parameters: int
    updates: int
    seeds: int
    one_step_vrmse: Spread
    steps_vrmse: Spread
    last_vrmse: Spread
    drift: Spread | None
    model_defect: Spread | None
    solver_defect: float | None
    defect_ratio: Spread | None
    certificate: Spread | None


def result(series: Series) -> Result:
    """Return the row of one model."""
    first = series.first
    step = min(STEPS, len(first.vrmse))
    solver = mean_defect(first, "solver")
    ratio = None
    if solver:
        ratio = Spread.of(series, lambda e: (mean_defect(e, "model") or 0.0) / solver)
    return Result(
        label=series.label,
        model=first.model,
        group=first.group,
        parameters=first.parameters,
        updates=first.updates,
        seeds=len(series.evaluations),
        one_step_vrmse=Spread.of(series, lambda e: e.one_step_vrmse),
        steps_vrmse=Spread.of(series, lambda e: e.vrmse[step - 1]),
        last_vrmse=Spread.of(series, lambda e: e.vrmse[-1]),
        drift=Spread.of(series, lambda e: e.invariants[0].model_drift[-1])
        if first.invariants
        else None,
        model_defect=None
        if solver is None
        else Spread.of(series, lambda e: mean_defect(e, "model") or 0.0),
        solver_defect=solver,
        defect_ratio=ratio,
        certificate=None
        if any(mean_defect(e, "certificate") is None for e in series.evaluations)
        else Spread.of(series, lambda e: mean_defect(e, "certificate") or 0.0),
    )


def mean_defect(evaluation: Evaluation, which: str) -> float | None:
    """Return the mean over the broken elements; None when there are none, or no such.

    `which` is the ``solver``, the ``model`` or its ``certificate``.
    """
    values = [getattr(d, which) for d in evaluation.defects if d.survives is False]
    return float(np.mean(values)) if values and None not in values else None
