"""What a table of a sweep says: medians, ratios, and whether defects agree."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from experiments.statistics import (
    Interval,
    Line,
    line,
    median_interval,
    ratio_to_best,
)
from experiments.sweep_table import Row, Scores, Table
from pde_sym.config import Frozen, canonical_json
from pde_sym.store import files

NOISE = 1e-12
"""Share of a map that counts as round-off in float32."""
COMPARED = ("strict", "free")
"""Roles whose best family relaxed ones are compared with."""


class Ratio(Frozen):
    """The error of a relaxed family over that of another, over the seeds of both."""

    measure: str
    other: str
    seeds: int
    of_medians: Interval
    of_means: Interval


class Cell(Frozen):
    """A family at one strength and size: median over seeds, 95 % interval."""

    family: str
    role: str
    strength: float
    size: int
    seeds: int
    failed: int
    """Runs without a number; they count as infinite errors."""
    candidate: int
    parameters: int | None
    flops: int | None
    train_seconds: float
    """Median over seeds."""
    one_step: Interval
    test: Interval
    """VRMSE after 10 steps."""
    last: Interval
    shifted: Interval | None
    moved: Interval | None
    future: Interval | None
    model_defect: Interval | None
    """Mean over the motions that the term breaks."""
    solver_defect: float | None
    drift: dict[str, Interval]
    residual: dict[str, Interval]
    ratios: tuple[Ratio, ...] = ()
    """A relaxed family over the best of the compared ones, that with the lowest median;
    each resample of the intervals has its own best."""
    pairs: tuple[Ratio, ...] = ()
    """A relaxed family over each of the others, along rollouts."""


class Agreement(Frozen):
    """Whether a family breaks what the solver breaks, over all strengths.

    Parameters
    ----------
    defect
        The line of the model's defect (median over seeds) against the solver's.
    leading
        Per group, in how many runs the largest share outside the trivial irrep is that
        of the solver, and of how many: those at strengths where the solver's share is
        above the model's own at strength 0.
    """

    family: str
    size: int
    defect: Line | None
    leading: dict[str, tuple[int, int]]


class Summary(Frozen):
    """What a table says."""

    schema_version: int = 1
    title: str
    system: str
    term: str
    tuning_runs: dict[str, int]
    tuning_seconds: dict[str, float]
    floors: dict[str, dict[str, Scores | None]]
    """Per strength, errors without a model."""
    cells: tuple[Cell, ...]
    agreements: tuple[Agreement, ...]


Measure = Callable[[Row], float]
"""Infinite where a run has no number."""


def _scores(which: str, key: str) -> Measure:
    def measure(row: Row) -> float:
        scores = getattr(row, which)
        return math.inf if scores is None else float(getattr(scores, key))

    return measure


MEASURES = {
    "one step": _scores("test", "one_step"),
    "10 steps": _scores("test", "steps"),
    "last step": _scores("test", "last"),
    "10 steps, shifted": _scores("shifted", "steps"),
    "10 steps, moved": _scores("moved", "steps"),
    "10 steps, future": _scores("future", "steps"),
    "last step, future": _scores("future", "last"),
}
PAIRED = ("10 steps", "last step", "10 steps, future", "last step, future")
"""Measures in which relaxed families are compared with each of the others."""


def summarise(table: Table) -> Summary:
    """Return the summary of a table."""
    groups: dict[tuple[float, int], dict[str, list[Row]]] = {}
    for row in table.rows:
        place = groups.setdefault((row.strength, row.size), {})
        place.setdefault(row.family, []).append(row)
    cells = [
        _cell(rows, families)
        for families in groups.values()
        for rows in families.values()
    ]
    sizes = sorted({row.size for row in table.rows})
    names = dict.fromkeys(row.family for row in table.rows)
    agreements = []
    for size in sizes:
        for name in names:
            own = [r for r in table.rows if (r.family, r.size) == (name, size)]
            agreements.append(_agreement(name, size, own))
    return Summary(
        title=table.title,
        system=table.system,
        term=table.term,
        tuning_runs=table.tuning_runs,
        tuning_seconds=table.tuning_seconds,
        floors={f"{row.strength:g}": row.floors for row in table.rows},
        cells=tuple(cells),
        agreements=tuple(agreements),
    )


def _cell(rows: Sequence[Row], families: dict[str, list[Row]]) -> Cell:
    first = rows[0]
    broken = [row.defects["broken"] for row in rows if "broken" in row.defects]
    series = {
        key: {
            name: median_interval(
                [
                    getattr(row, key)[name].model if row.test else math.inf
                    for row in rows
                ]
            )
            for name in next((getattr(r, key) for r in rows if r.test), {})
        }
        for key in ("drift", "residual")
    }
    known = next((row for row in rows if row.parameters is not None), first)
    return Cell(
        family=first.family,
        role=first.role,
        strength=first.strength,
        size=first.size,
        seeds=len(rows),
        failed=sum(row.failed is not None for row in rows),
        candidate=first.candidate,
        parameters=known.parameters,
        flops=known.flops,
        train_seconds=round(median(row.seconds["train"] for row in rows), 2),
        one_step=_interval(rows, "one step"),
        test=_interval(rows, "10 steps"),
        last=_interval(rows, "last step"),
        shifted=_other(rows, "shifted"),
        moved=_other(rows, "moved"),
        future=_other(rows, "future"),
        model_defect=median_interval([d.model for d in broken]) if broken else None,
        solver_defect=broken[0].solver if broken else None,
        drift=series["drift"],
        residual=series["residual"],
        ratios=_ratios(rows, families) if first.role == "relaxed" else (),
        pairs=_pairs(rows, families) if first.role == "relaxed" else (),
    )


def _interval(rows: Sequence[Row], measure: str) -> Interval:
    return median_interval([MEASURES[measure](row) for row in rows])


def _other(rows: Sequence[Row], test: str) -> Interval | None:
    """Return the error on another test set, None where there is none."""
    is_there = any(getattr(row, test) for row in rows)
    return _interval(rows, f"10 steps, {test}") if is_there else None


def _ratios(rows: Sequence[Row], families: dict[str, list[Row]]) -> tuple[Ratio, ...]:
    """Return a ratio per measure, over the seeds that all families have."""
    others = {n: r for n, r in families.items() if r[0].role in COMPARED}
    seeds = _common_seeds([rows, *others.values()])
    if not others or not seeds:
        return ()
    result = []
    for name in _measured(rows):
        own = _errors(rows, name, seeds)
        rest = {n: _errors(members, name, seeds) for n, members in others.items()}
        result.append(
            Ratio(
                measure=name,
                other=min(rest, key=lambda n: median(rest[n])),
                seeds=len(seeds),
                of_medians=ratio_to_best(own, list(rest.values())),
                of_means=ratio_to_best(own, list(rest.values()), mean=True),
            )
        )
    return tuple(result)


def _pairs(rows: Sequence[Row], families: dict[str, list[Row]]) -> tuple[Ratio, ...]:
    """Return a ratio per measure and other family, over the seeds that both have."""
    result = []
    for other, members in families.items():
        seeds = _common_seeds([rows, members])
        if other == rows[0].family or not seeds:
            continue
        for name in _measured(rows):
            if name in PAIRED:
                own = _errors(rows, name, seeds)
                rest = [_errors(members, name, seeds)]
                result.append(
                    Ratio(
                        measure=name,
                        other=other,
                        seeds=len(seeds),
                        of_medians=ratio_to_best(own, rest),
                        of_means=ratio_to_best(own, rest, mean=True),
                    )
                )
    return tuple(result)


def _common_seeds(families: Sequence[Sequence[Row]]) -> set[int]:
    return set.intersection(*({row.seed for row in rows} for rows in families))


def _measured(rows: Sequence[Row]) -> list[str]:
    """Return the measures whose test set is there."""
    tests = {name: name.partition(", ")[2] for name in MEASURES}
    return [name for name, test in tests.items() if not test or _other(rows, test)]


def _errors(rows: Sequence[Row], measure: str, seeds: set[int]) -> list[float]:
    """Return the errors of those seeds, in their order."""
    ordered = sorted(rows, key=lambda row: row.seed)
    return [MEASURES[measure](row) for row in ordered if row.seed in seeds]


def _agreement(family: str, size: int, rows: Sequence[Row]) -> Agreement:
    solver, model = [], []
    for strength in sorted({row.strength for row in rows}):
        broken = [
            row.defects["broken"]
            for row in rows
            if row.strength == strength and "broken" in row.defects
        ]
        if broken:
            solver.append(broken[0].solver)
            model.append(median(d.model for d in broken))
    return Agreement(
        family=family,
        size=size,
        defect=line(solver, model) if solver else None,
        leading={
            name: counted
            for name, counted in (
                ("turns and flips", _leading(rows, of_shifts=False)),
                ("shifts", _leading(rows, of_shifts=True)),
            )
            if counted[1]
        },
    )


def _leading(rows: Sequence[Row], *, of_shifts: bool) -> tuple[int, int]:
    """Return in how many runs the largest share is the solver's, and of how many."""
    shares = [
        (
            row.strength,
            {n: s for n, s in row.spectrum.items() if n.startswith("|m|") == of_shifts},
        )
        for row in rows
    ]
    intact = [
        max(s.model for s in spectrum.values())
        for strength, spectrum in shares
        if strength == 0 and spectrum
    ]
    noise = max(NOISE, median(intact)) if intact else NOISE
    named = counted = 0
    for strength, spectrum in shares:
        if strength == 0 or not spectrum:
            continue
        first = max(spectrum, key=lambda n: spectrum[n].solver)
        if spectrum[first].solver > noise:
            counted += 1
            named += max(spectrum, key=lambda n: spectrum[n].model) == first
    return named, counted


def write_summary(folder: Path, summary: Summary) -> None:
    """Write ``summary.json``, whole or not at all."""
    text = json.dumps(json.loads(canonical_json(summary)), indent=1) + "\n"
    files.write_file(folder / "summary.json", text.encode())
