"""How sure is a figure, when what varies is who happened to watch?

    statistics {key: weights (B, V) -> (B,)}  ->  bootstrap  ->  {key: Interval(value, low, high)}

- Viewers are drawn, not rows: rows of one viewer resemble each other, and an interval over rows
  would be too narrow.
- A draw is a row of multiplicities, so a metric is prepared once (sorted, counted) and only
  weighed anew for each draw.
- The draws depend on the seed and the number of viewers alone: whatever is measured with the same
  two is measured on the same draws, and differences are paired.

Reads `errors` and `progress`; is read by every metric of this folder. No I/O, no state.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from skipwise.errors import DatasetError
from skipwise.progress import SILENT, Progress

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Weights = Floats
"""(B, V): how often each of V viewers counts in each of B draws; >= 0."""
Statistic = Callable[[Weights], Floats]
"""(B, V) weights -> (B,) values; NaN where a draw cannot answer."""
Key = TypeVar("Key", bound=Hashable)

_DRAWS_AT_ONCE = 16
_ANSWERED_SHARE = 0.9


class Interval(NamedTuple):
    """A figure and where it lies; NaN bounds where too few draws could answer."""

    value: float
    low: float
    high: float


def bootstrap(
    statistics: Mapping[Key, Statistic],
    num_viewers: int,
    *,
    samples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
    progress: Progress = SILENT,
) -> dict[Key, Interval]:
    """Measure each statistic on everybody, and its percentile interval over drawn viewers.

    The cluster bootstrap (Field and Welsh, 2007) with percentile intervals (Efron and Tibshirani,
    1993, chapter 13): V viewers are drawn V times with replacement, `samples` times over.

    Args:
        statistics: What to measure, prepared for weights over `num_viewers` viewers.
        num_viewers: V, > 0.
        samples: How many draws; the Monte Carlo error of a bound falls with its square root.
        seed: Of the draws.
        confidence: Share of the interval, in (0, 1).
        progress: Told after each chunk of draws.

    Returns:
        An interval for each key. A draw without an answer (one class only) is left out; when over
        a tenth of them are, the bounds are NaN.

    Raises:
        DatasetError: There is no viewer.

    >>> mean = ratio(np.array([1.0, 3.0]), np.array([1.0, 1.0]))
    >>> bootstrap({"mean": mean}, 2, samples=200)["mean"]
    Interval(value=2.0, low=1.0, high=3.0)
    """
    replicates = replicate(statistics, num_viewers, samples=samples, seed=seed, progress=progress)
    return {key: interval(values, confidence) for key, values in replicates.items()}


def replicate(
    statistics: Mapping[Key, Statistic],
    num_viewers: int,
    *,
    samples: int,
    seed: int,
    progress: Progress = SILENT,
) -> dict[Key, Floats]:
    """Measure each statistic on everybody, then on every draw.

    Returns:
        For each key (1 + samples,) values: everybody first, then the draws.

    Raises:
        DatasetError: There is no viewer.
    """
    if num_viewers < 1:
        raise DatasetError(
            "There is no viewer to measure; an interval needs at least one. "
            "Choose days that have rows."
        )
    parts = {key: [statistic(np.ones((1, num_viewers)))] for key, statistic in statistics.items()}
    with progress.task("intervals", total=samples, unit="draws") as task:
        for weights in draw_viewers(num_viewers, samples=samples, seed=seed):
            for key, statistic in statistics.items():
                parts[key].append(statistic(weights))
            task.advance(len(weights))
    return {key: np.concatenate(values) for key, values in parts.items()}


def interval(values: Floats, confidence: float = 0.95) -> Interval:
    """Read a figure and its percentile bounds off the values of `replicate`.

    Args:
        values: (1 + B,) the figure on everybody, then on each draw; NaN = no answer.
        confidence: Share of the interval, in (0, 1).

    Returns:
        The figure and its bounds; NaN bounds where over a tenth of the draws gave no answer.
    """
    value, draws = float(values[0]), values[1:]
    answered = draws[np.isfinite(draws)]
    if not len(answered) or len(answered) < _ANSWERED_SHARE * len(draws):
        return Interval(value, np.nan, np.nan)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(answered, [tail, 1.0 - tail])
    return Interval(value, float(low), float(high))


def ratio(numerator: Floats, denominator: Floats) -> Statistic:
    """Make the statistic sum(w * numerator) / sum(w * denominator).

    Args:
        numerator: (V,) sum of what is averaged, per viewer.
        denominator: (V,) sum of its weights, per viewer; a draw where all are 0 gives NaN.
    """
    return lambda weights: divide(weights @ numerator, weights @ denominator)


def mean_over_rows(values: Floats, viewer_ix: Integers, num_viewers: int) -> Statistic:
    """Make the statistic "mean of a value over rows" out of rows and whose they are.

    Args:
        values: (N,) finite.
        viewer_ix: (N,) the row's viewer, in [0, num_viewers).
        num_viewers: V.
    """
    return ratio(
        sum_by(viewer_ix, num_viewers, values), sum_by(viewer_ix, num_viewers, np.ones(len(values)))
    )


def sum_by(place: Integers, num_places: int, values: NDArray[Any]) -> Floats:
    """Sum values at each place: (N,) places in [0, num_places), (N,) values -> (num_places,)."""
    sums: Floats = np.bincount(place, weights=values, minlength=num_places).astype(np.float64)
    return sums


def divide(part: Floats, whole: Floats) -> Floats:
    """Divide; NaN where there is nothing to divide by."""
    values: Floats = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return values


def draw_viewers(num_viewers: int, *, samples: int, seed: int) -> Iterator[Weights]:
    """Draw viewers with replacement, a chunk of draws at a time.

    Yields:
        (B, V) multiplicities, each row summing to V; B is at most 16.
    """
    random = np.random.default_rng(seed)
    for first in range(0, samples, _DRAWS_AT_ONCE):
        number = min(_DRAWS_AT_ONCE, samples - first)
        drawn = random.integers(0, num_viewers, (number, num_viewers))
        drawn += np.arange(number)[:, None] * num_viewers
        counts = np.bincount(drawn.ravel(), minlength=number * num_viewers)
        yield counts.reshape(number, num_viewers).astype(np.float64)
