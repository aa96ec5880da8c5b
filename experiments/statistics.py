"""Statistics of a few seeds: medians, paired bootstrap, correlation.

A run that failed counts as an infinite error, so that no statistic gets better by it.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray

from pde_sym.config import Frozen
from pde_sym.errors import InputError

Floats = NDArray[np.float64]

MAX_EXACT = 6
"""Up to so many seeds all resamples are counted, 6^6 = 46656."""
RESAMPLES = 20_000
LEVEL = 0.95


class Interval(Frozen):
    """An estimate with its 95 % interval; None stands for what is not finite."""

    value: float | None
    low: float | None
    high: float | None


class Line(Frozen):
    """A least-squares line ``y = slope x + intercept`` and Pearson's correlation."""

    slope: float
    intercept: float
    correlation: float
    points: int


@functools.cache
def resamples(number: int) -> NDArray[np.int64]:
    """Return draws of `number` indices with replacement, one a row: all, or many.

    Which ones does not change from call to call.
    """
    if number <= MAX_EXACT:
        return np.array(list(itertools.product(range(number), repeat=number)))
    rng = np.random.Generator(np.random.Philox(0))
    return rng.integers(number, size=(RESAMPLES, number))


def one_standard_error(errors: Sequence[Sequence[float]]) -> int:
    """Return the first member whose mean is within one standard error of the lowest.

    Members are listed from the most constrained; what a few repeats cannot tell apart
    is left so. The standard error is that of the member with the lowest mean, and 0 of
    a single repeat or where a mean is infinite (Breiman, Friedman, Olshen and Stone
    1984, Classification and Regression Trees, section 3.4.3).

    Parameters
    ----------
    errors
        Of each member, one per repeat.
    """
    means = [fmean(found) for found in errors]
    best = means.index(min(means))
    limit = means[best]
    if len(errors[best]) > 1 and math.isfinite(limit):
        limit += stdev(errors[best]) / math.sqrt(len(errors[best]))
    return next(i for i, mean in enumerate(means) if mean <= limit)


def median_interval(values: Sequence[float]) -> Interval:
    """Return the median of runs with its bootstrap interval over seeds.

    Raises
    ------
    InputError
        When there are no values, or one is no number.
    """
    known = _checked(values)
    drawn = np.median(known[resamples(len(known))], axis=1)
    return _interval(float(np.median(known)), drawn)


def ratio_to_best(
    own: Sequence[float], others: Sequence[Sequence[float]], *, mean: bool = False
) -> Interval:
    """Return ``m(own) / min_f m(others_f)`` with its paired bootstrap over seeds.

    m is the median, or the mean. In each resample the same seeds are drawn for every
    family, and the best of the others is chosen again: a comparator that was fixed
    beforehand would not carry the doubt about which family is the best.

    Parameters
    ----------
    own, others
        Errors by seed, seed i at place i of each.

    Raises
    ------
    InputError
        When there is nothing to compare with, or the numbers of seeds differ.
    """
    if not others:
        raise InputError("expected at least one family to compare with")
    if any(len(one) != len(own) for one in others):
        raise InputError(
            f"paired families need one number of seeds, got {len(own)} and "
            f"{[len(one) for one in others]}"
        )
    first, rest = _checked(own), np.stack([_checked(one) for one in others])
    centre = np.mean if mean else np.median

    def ratios(picks: NDArray[np.int64]) -> Floats:
        best = centre(rest[:, picks], axis=2).min(0)
        value = centre(first[picks], axis=1)
        # What failed is worse than anything, be the others as they may.
        fine = np.isfinite(value) & (best > 0)
        return np.divide(value, best, out=np.full(len(picks), np.inf), where=fine)

    (value,) = ratios(np.arange(len(first))[None])
    return _interval(float(value), ratios(resamples(len(first))))


def line(x: Sequence[float], y: Sequence[float]) -> Line | None:
    """Return the line through points, None when they do not determine one.

    Raises
    ------
    InputError
        When the numbers of values differ, or one is not finite.
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InputError(f"expected pairs of finite numbers, got {x} and {y}")
    a_0, b_0 = a - a.mean(), b - b.mean()
    variance = float(a_0 @ a_0)
    if len(a) < 2 or variance == 0:
        return None
    slope = float(a_0 @ b_0) / variance
    spread = float(b_0 @ b_0)
    correlation = float(a_0 @ b_0) / math.sqrt(variance * spread) if spread else 0.0
    return Line(
        slope=slope,
        intercept=float(b.mean() - slope * a.mean()),
        correlation=correlation,
        points=len(a),
    )


def _checked(values: Sequence[float]) -> Floats:
    known = np.asarray(values, dtype=np.float64)
    if known.ndim != 1 or not len(known) or np.isnan(known).any():
        raise InputError(f"expected numbers of at least one seed, got {values}")
    return known


def _interval(value: float, drawn: Floats) -> Interval:
    tail = (1 - LEVEL) / 2
    ordered = np.sort(drawn)
    # Ends that were drawn: interpolation has no sense next to an infinite one.
    low = ordered[math.floor(tail * (len(ordered) - 1))]
    high = ordered[math.ceil((1 - tail) * (len(ordered) - 1))]
    return Interval(value=_finite(value), low=_finite(low), high=_finite(high))


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
