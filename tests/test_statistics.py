"""Statistics of a few seeds, against closed forms and on bad input."""

import itertools
import math

import numpy as np
import pytest

from experiments.statistics import (
    MAX_EXACT,
    Interval,
    line,
    median_interval,
    one_standard_error,
    ratio_to_best,
    resamples,
)
from pde_sym.errors import InputError


def test_all_resamples_are_counted() -> None:
    drawn = resamples(3)
    assert {tuple(row) for row in drawn.tolist()} == set(
        itertools.product(range(3), repeat=3)
    )
    assert len(drawn) == 27


def test_many_seeds_are_drawn_the_same_each_time() -> None:
    number = MAX_EXACT + 1
    first, again = resamples(number), resamples(number)
    assert (first == again).all()
    counts = np.bincount(first.ravel(), minlength=number) / first.size
    assert np.abs(counts - 1 / number).max() < 0.01


def test_the_interval_of_a_median_of_three() -> None:
    """Of 27 resamples 7 have the lowest as median, 13 the middle, 7 the highest."""
    found = median_interval([3.0, 1.0, 2.0])
    assert found == Interval(value=2.0, low=1.0, high=3.0)


def test_equal_values_have_no_spread() -> None:
    assert median_interval([0.4] * 5) == Interval(value=0.4, low=0.4, high=0.4)


def test_the_interval_covers_as_often_as_it_says() -> None:
    """Of the mean's ratio of two normal families with 6 seeds: near 95 %, not 100 %."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(100):
        own, other = rng.normal(1.2, 0.1, 6), rng.normal(1.0, 0.1, 6)
        found = ratio_to_best(own.tolist(), [other.tolist()], mean=True)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 1.2 <= found.high
    # The bootstrap of so few is known to be narrow.
    assert 75 <= hits <= 99


def test_a_ratio_of_proportional_families_has_no_spread() -> None:
    """Pairing: what the seeds share cancels."""
    base = [1.0, 5.0, 2.0, 9.0, 3.0]
    found = ratio_to_best([1.1 * b for b in base], [base])
    assert found.low == pytest.approx(1.1)
    assert found.high == pytest.approx(1.1)
    shuffled = ratio_to_best([1.1 * b for b in base], [base[::-1]])
    assert shuffled.low is not None
    assert shuffled.low < 0.9


def test_the_best_of_the_others_is_chosen_in_each_resample() -> None:
    """Two families that win for one seed each: in every resample one is at 1."""
    found = ratio_to_best([1.0, 1.0], [[1.0, 3.0], [3.0, 1.0]], mean=True)
    assert found.value == pytest.approx(1 / 2)
    assert found.low == pytest.approx(1 / 2)
    assert found.high == pytest.approx(1.0)
    fixed = ratio_to_best([1.0, 1.0], [[1.0, 3.0]], mean=True)
    assert fixed.low == pytest.approx(1 / 3)


def test_a_failure_counts_against_the_one_that_failed() -> None:
    lost = ratio_to_best([math.inf, math.inf, 1.0], [[1.0, 1.0, 1.0]])
    assert lost.value is None
    assert lost.high is None
    won = ratio_to_best([1.0, 1.0, 1.0], [[math.inf] * 3, [2.0, 2.0, 2.0]])
    assert won == Interval(value=0.5, low=0.5, high=0.5)
    both = ratio_to_best([math.inf] * 2, [[math.inf] * 2])
    assert both.value is None
    assert median_interval([1.0, math.inf, 1.0]).value == 1.0


def test_a_line_is_found() -> None:
    x = [0.0, 0.1, 0.4, 0.9]
    found = line(x, [0.02 + 0.8 * v for v in x])
    assert found is not None
    assert found.slope == pytest.approx(0.8)
    assert found.intercept == pytest.approx(0.02)
    assert found.correlation == pytest.approx(1.0)
    assert found.points == 4
    falling = line([0.0, 1.0, 2.0], [1.0, 0.0, 1.0])
    assert falling is not None
    assert falling.correlation == pytest.approx(0.0)
    flat = line([0.0, 1.0], [1.0, 1.0])
    assert flat is not None
    assert (flat.slope, flat.correlation) == (0.0, 0.0)


def test_one_place_determines_no_line() -> None:
    assert line([1.0], [2.0]) is None
    assert line([1.0, 1.0], [2.0, 3.0]) is None


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: median_interval([]), "at least one seed"),
        (lambda: median_interval([1.0, math.nan]), "at least one seed"),
        (lambda: ratio_to_best([1.0], []), "at least one family"),
        (lambda: ratio_to_best([1.0], [[1.0, 2.0]]), "one number of seeds"),
        (lambda: line([1.0], [1.0, 2.0]), "pairs of finite"),
        (lambda: line([1.0, math.inf], [1.0, 2.0]), "pairs of finite"),
    ],
)
def test_bad_input_is_one_line(call, words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("errors", "first"),
    [
        ([[2.0], [1.0], [1.0]], 1),
        # The standard error of (0.6, 1.0, 1.4) is 0.23.
        ([[1.0, 1.2, 1.4], [0.6, 1.0, 1.4]], 0),
        ([[1.1, 1.3, 1.5], [0.6, 1.0, 1.4]], 1),
        # That of the lowest counts, not of the others.
        ([[0.1, 1.3, 2.5], [0.9, 1.0, 1.1]], 1),
        ([[math.inf, 0.1], [3.0, 2.0], [2.6, 2.2]], 1),
        ([[math.inf, 0.1], [math.inf, math.inf]], 0),
    ],
)
def test_what_few_repeats_cannot_tell_apart_stays_constrained(
    errors: list[list[float]], first: int
) -> None:
    assert one_standard_error(errors) == first
