"""What a table says, on imaginary runs whose answers are known."""

from statistics import median

import pytest
from sweep_tables import ROLES, STRENGTHS, make_row, make_table

from experiments.sweep_summary import PAIRED, Cell, Summary, summarise
from experiments.sweep_table import Measured, Row


def summary_of(rows: list[Row]) -> Summary:
    return summarise(make_table(rows=tuple(rows)))


def cell(summary: Summary, family: str, strength: float) -> Cell:
    (found,) = [
        c for c in summary.cells if (c.family, c.strength) == (family, strength)
    ]
    return found


def test_medians_are_over_seeds() -> None:
    rows = [make_row("free", 1.0, seed=seed) for seed in range(3)]
    found = cell(summary_of(rows), "free", 1.0)
    errors = sorted(row.test.steps for row in rows if row.test)
    assert found.test.value == errors[1]
    assert (found.test.low, found.test.high) == (errors[0], errors[2])
    assert found.last.value == pytest.approx(1.6 * errors[1])
    assert found.seeds == 3
    assert found.train_seconds == 21.0


def test_the_best_of_strict_and_free_depends_on_the_strength() -> None:
    summary = summarise(make_table(sizes=(8,)))
    best = {
        s: next(
            r.other
            for r in cell(summary, "modulated", s).ratios
            if r.measure == "10 steps"
        )
        for s in STRENGTHS
    }
    assert best[0.0] == "strict"
    assert best[4.0] == "free"
    assert cell(summary, "strict", 0.0).ratios == ()


def test_ratios_are_over_seeds_that_all_have() -> None:
    rows = [make_row("strict", 1.0, seed=seed) for seed in (0, 1)]
    rows += [make_row("rpp", 1.0, seed=seed) for seed in (1, 2)]
    (first, *_) = cell(summary_of(rows), "rpp", 1.0).ratios
    assert first.seeds == 1
    own = make_row("rpp", 1.0, seed=1).test
    other = make_row("strict", 1.0, seed=1).test
    assert own is not None
    assert other is not None
    assert first.of_medians.value == pytest.approx(own.one_step / other.one_step)
    alone = summary_of([make_row("rpp", 1.0)])
    assert cell(alone, "rpp", 1.0).ratios == ()


def test_a_relaxed_family_is_compared_with_each_of_the_others() -> None:
    """Other relaxed ones too, over the seeds that both have."""
    summary = summarise(make_table(sizes=(8,)))
    found = cell(summary, "modulated", 4.0)
    assert {p.other for p in found.pairs} == set(ROLES) - {"modulated"}
    assert {p.measure for p in found.pairs} == set(PAIRED)
    assert cell(summary, "free", 4.0).pairs == ()
    for pair in found.pairs:
        in_future, step = "future" in pair.measure, pair.measure.split()[0]
        errors = [
            [getattr(row.future if in_future else row.test, KEYS[step]) for row in rows]
            for rows in (
                [make_row(name, 4.0, seed=seed) for seed in range(5)]
                for name in ("modulated", pair.other)
            )
        ]
        expected = median(errors[0]) / median(errors[1])
        assert pair.of_medians.value == pytest.approx(expected)
        assert pair.of_medians.low is not None
        assert pair.of_medians.high is not None
        assert pair.of_medians.low <= expected <= pair.of_medians.high
    rows = [make_row("strict", 1.0, seed=seed) for seed in (0, 1)]
    rows += [make_row("free", 1.0), make_row("rpp", 1.0)]
    pairs = cell(summary_of(rows), "rpp", 1.0).pairs
    assert {(p.other, p.seeds) for p in pairs} == {("strict", 1), ("free", 1)}


KEYS = {"10": "steps", "last": "last"}


def test_agreement_tells_who_follows_the_solver() -> None:
    summary = summarise(make_table(sizes=(8,)))
    found = {a.family: a for a in summary.agreements}
    relaxed, strict = found["modulated"].defect, found["strict"].defect
    assert relaxed is not None
    assert strict is not None
    assert relaxed.slope == pytest.approx(0.97, rel=1e-3)
    assert relaxed.correlation > 0.999
    assert strict.slope == 0
    # Twenty runs at strengths above 0, where the solver's vector is above the noise.
    assert found["modulated"].leading == {
        "turns and flips": (20, 20),
        "shifts": (20, 20),
    }


def test_leading_is_counted_above_the_noise_alone() -> None:
    quiet = {
        name: Measured(solver=0.0, model=1e-3 if name == "vector" else 1e-5)
        for name in ("vector", "quadrupole")
    }
    weak = {
        "vector": Measured(solver=1e-4, model=1e-3),
        "quadrupole": Measured(solver=1e-6, model=1e-5),
    }
    wrong = {
        "vector": Measured(solver=1e-1, model=1e-3),
        "quadrupole": Measured(solver=1e-6, model=1e-2),
    }
    rows = [
        make_row("free", strength).model_copy(update={"spectrum": spectrum})
        for strength, spectrum in ((0.0, quiet), (0.5, weak), (1.0, wrong))
    ]
    (agreement,) = summary_of(rows).agreements
    assert agreement.leading == {"turns and flips": (0, 1)}
    # Without a run at strength 0 the noise is round-off.
    (agreement,) = summary_of(rows[1:]).agreements
    assert agreement.leading == {"turns and flips": (1, 2)}


def test_failed_runs_count_as_infinite() -> None:
    rows = [make_row("strict", 4.0, seed=seed) for seed in range(3)]
    lost = {"failed": "lost", "test": None, "shifted": None, "drift": {},
            "residual": {}, "defects": {}, "spectrum": {}}  # fmt: skip
    rows[1] = rows[1].model_copy(update=lost)
    found = cell(summary_of(rows), "strict", 4.0)
    assert found.failed == 1
    assert found.test.high is None
    assert found.test.value == max(r.test.steps for r in rows if r.test)
    assert found.drift["energy"].high is None
    rows[0] = rows[0].model_copy(update=lost)
    assert cell(summary_of(rows), "strict", 4.0).test.value is None
