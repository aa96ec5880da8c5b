"""The numbers in the figures of a report, as CSV and NumPy files."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from experiments.evaluation import Evaluation, Pictures
from experiments.page import Download
from experiments.series import Series

Row = Sequence[str | float | int | bool | None]


def as_csv(name: str, columns: Sequence[str], rows: Iterable[Row]) -> Download:
    """Return a table as a file; floats keep all their digits, None is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return Download(name, text.getvalue().encode())


def each(series: Sequence[Series]) -> list[tuple[str, Evaluation]]:
    """Return every evaluation with the label of its series."""
    return [(one.label, e) for one in series for e in one.evaluations]


def error_data(series: Sequence[Series]) -> Download:
    """Return the errors of rollouts, a row for each run and frame."""
    return as_csv(
        "error.csv",
        ("model", "seed", "time", "vrmse", "relative_l2", "no_change_vrmse"),
        (
            (label, e.seed, *values)
            for label, e in each(series)
            for values in zip(
                e.times[1:], e.vrmse, e.relative_l2, e.persistence_vrmse, strict=True
            )
        ),
    )


def drift_data(series: Sequence[Series]) -> Download:
    """Return drift and residual, a row for each run, invariant and frame."""
    kinds = ("truth_drift", "model_drift", "truth_residual", "model_residual")
    return as_csv(
        "drift.csv",
        ("model", "seed", "invariant", "time", *kinds),
        (
            (label, e.seed, i.name, *values)
            for label, e in each(series)
            for i in e.invariants
            for values in zip(e.times, *(getattr(i, k) for k in kinds), strict=True)
        ),
    )


def defect_data(series: Sequence[Series]) -> Download:
    """Return the defects, a row for each run and element."""
    return as_csv(
        "defect.csv",
        ("model", "seed", "element", "survives", "solver", "model_defect", "at_most"),
        (
            (label, e.seed, d.element, d.survives, d.solver, d.model, d.certificate)
            for label, e in each(series)
            for d in e.defects
        ),
    )


def spectrum_data(series: Sequence[Series]) -> Download:
    """Return the shares, a row for each run and irrep."""
    return as_csv(
        "spectrum.csv",
        ("model", "seed", "group", "irrep", "solver", "model_share"),
        (
            (label, e.seed, group, s.irrep, s.solver, s.model)
            for label, e in each(series)
            for group, shares in (
                ("turns and flips", e.point_spectrum),
                ("shifts", e.shift_spectrum),
            )
            for s in shares
        ),
    )


def rollout_data(rollouts: Mapping[str, Pictures], trajectory: int = 0) -> Download:
    """Return truth and predictions ``(frames, channels, *points)`` as arrays.

    Predictions are ``prediction_0``, .. in the order of ``models``.
    """
    first = next(iter(rollouts.values()))
    arrays = {
        f"prediction_{number}": one.prediction[trajectory]
        for number, one in enumerate(rollouts.values())
    }
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        times=first.times,
        truth=first.truth[trajectory],
        environment=first.environment[trajectory],
        channels=np.array(first.channels, dtype="U"),
        models=np.array(list(rollouts), dtype="U"),
        lengths=np.array(first.lengths),
        **arrays,
    )
    return Download("rollout.npz", buffer.getvalue(), "application/octet-stream")
