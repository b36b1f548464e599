"""How good is the expected watch time: in seconds, and in order?

    watch_s, expected_s (N,)             ->  mae_s, xauc           ->  one number
    watch_s, expected_s, group (N,)      ->  group_xauc            ->  GroupFigures, (G,)
    watch_s, expected_s, viewer_ix (N,)  ->  ..._statistic         ->  weights (B, V) -> (B,)

- Rows whose watch time is unknown are left out before.
- XAUC looks at all pairs, none sampled: pairs are counted by merging, in N log N steps, and the
  steps are laid out once for all weights.

Reads `bootstrap`, `metrics` and `grouped`; is read by `scorecard`.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skipwise.errors import DatasetError
from skipwise.evaluation.bootstrap import (
    Floats,
    Integers,
    Statistic,
    Weights,
    divide,
    mean_over_rows,
    sum_by,
)
from skipwise.evaluation.grouped import GroupFigures
from skipwise.evaluation.metrics import running_sum

Mask = NDArray[np.bool_]


def mae_s(watch_s: Floats, expected_s: Floats, weights: Floats | None = None) -> float:
    """Measure the mean of |watched - expected|, in seconds.

    Args:
        watch_s: (N,) seconds watched, >= 0.
        expected_s: (N,) seconds expected, >= 0.
        weights: (N,) >= 0; 1 each when absent.

    Returns:
        >= 0; NaN where the weights are all 0.

    Raises:
        DatasetError: No row, another shape, or a number that is not finite.
    """
    viewer_ix = np.arange(len(watch_s))
    statistic = mae_statistic(watch_s, expected_s, viewer_ix, len(watch_s))
    return _over_rows(statistic, weights, len(watch_s))


def xauc(watch_s: Floats, expected_s: Floats, weights: Floats | None = None) -> float:
    """Measure how often the longer watched of two was expected to be: P(agree) + P(tied) / 2.

    XAUC (Zhan et al., D2Q, KDD 2022), over all pairs of different watch time:
    `sum_{i<j} w_i w_j ([same order] + [expected equal] / 2) / sum_{i<j} w_i w_j`. With two watch
    times only it is the AUC.

    Args:
        watch_s: (N,) seconds watched.
        expected_s: (N,) seconds expected; only their order counts.
        weights: (N,) >= 0; 1 each when absent.

    Returns:
        In [0, 1]; NaN where all watch times are equal.

    Raises:
        DatasetError: As `mae_s`.

    >>> xauc(np.array([1.0, 2.0, 3.0]), np.array([5.0, 5.0, 9.0]))
    0.8333333333333334
    """
    statistic = xauc_statistic(watch_s, expected_s, np.arange(len(watch_s)))
    return _over_rows(statistic, weights, len(watch_s))


def group_xauc(watch_s: Floats, expected_s: Floats, group: Integers) -> GroupFigures:
    """Measure the XAUC of each group; averaged by impressions they are XGAUC.

    Args:
        watch_s: (N,) seconds watched.
        expected_s: (N,) seconds expected.
        group: (N,) the rows ranked together, scored with one state; -1 = no group.

    Returns:
        A figure per group; NaN where all its watch times are equal.

    Raises:
        DatasetError: As `mae_s`.
    """
    check_watches(watch_s, expected_s)
    grouped = np.flatnonzero(group >= 0)
    groups, first, group_ix, num_rows = np.unique(
        group[grouped], return_index=True, return_inverse=True, return_counts=True
    )
    watch, expected = watch_s[grouped], expected_s[grouped]
    agreeing = np.zeros(len(groups))
    for merge in _merges(watch, expected, group_ix):
        agreeing += merge.worth * merge.pairs_per_group(group_ix, len(groups))
    comparable = _comparable(watch, group_ix).pairs_per_group(group_ix, len(groups))
    return GroupFigures(groups, divide(agreeing, comparable), num_rows, grouped[first])


def mae_statistic(
    watch_s: Floats, expected_s: Floats, viewer_ix: Integers, num_viewers: int
) -> Statistic:
    """Prepare `mae_s` for many weights of viewers.

    Args:
        watch_s: (N,) seconds watched.
        expected_s: (N,) seconds expected.
        viewer_ix: (N,) the row's viewer, in [0, num_viewers).
        num_viewers: V.

    Raises:
        DatasetError: As `mae_s`.
    """
    check_watches(watch_s, expected_s)
    return mean_over_rows(np.abs(watch_s - expected_s), viewer_ix, num_viewers)


def xauc_statistic(watch_s: Floats, expected_s: Floats, viewer_ix: Integers) -> Statistic:
    """Prepare `xauc` for many weights of viewers: lays out every merge once.

    Args:
        watch_s: (N,) seconds watched.
        expected_s: (N,) seconds expected.
        viewer_ix: (N,) the row's viewer: its column in the weights.

    Raises:
        DatasetError: As `mae_s`.
    """
    check_watches(watch_s, expected_s)
    nobody = np.zeros(len(watch_s), dtype=np.int64)
    merges = [merge.of_viewers(viewer_ix) for merge in _merges(watch_s, expected_s, nobody)]
    comparable = _comparable(watch_s, nobody).of_viewers(viewer_ix)

    def measure(weights: Weights) -> Floats:
        agreeing = np.zeros(len(weights))
        for merge in merges:
            agreeing += merge.worth * merge.weigh(weights)
        return divide(agreeing, comparable.weigh(weights))

    return measure


def check_watches(watch_s: Floats, expected_s: Floats) -> None:
    """Refuse watch times no metric can read.

    Raises:
        DatasetError: No row, another shape, or a number that is not finite.
    """
    if watch_s.shape != expected_s.shape or watch_s.ndim != 1 or not len(watch_s):
        raise DatasetError(
            f"There are {watch_s.shape} watch times and {expected_s.shape} expected ones; both "
            "must be (N,), N > 0. Measure rows that have both."
        )
    for name, values in (("watch_s", watch_s), ("expected_s", expected_s)):
        if not np.isfinite(values).all():
            row = int(np.argmin(np.isfinite(values)))
            raise DatasetError(
                f"{name}[{row}] is {values[row]}, must be finite. "
                "Leave rows of unknown watch time out."
            )


class _Merge(NamedTuple):
    """Pairs of rows, as one run of lower rows for each upper row."""

    lower: Integers
    """(L,) lower rows (or their viewers), in the order in which runs are cut."""
    upper: Integers
    """(U,) upper rows (or their viewers)."""
    start: Integers
    """(U,) where the run of each upper row starts, in [0, L]."""
    end: Integers
    """(U,) where it ends, > start."""
    worth: float
    """What one pair counts."""

    def of_viewers(self, viewer_ix: Integers) -> "_Merge":
        """Name the viewers instead of the rows."""
        return self._replace(lower=viewer_ix[self.lower], upper=viewer_ix[self.upper])

    def weigh(self, weights: Weights) -> Floats:
        """Sum w_i w_j over the pairs: (B, V) -> (B,)."""
        running = running_sum(weights.take(self.lower, axis=1))
        below = running.take(self.end, axis=1) - running.take(self.start, axis=1)
        sums: Floats = np.einsum("bn,bn->b", weights.take(self.upper, axis=1), below)
        return sums

    def pairs_per_group(self, group_ix: Integers, num_groups: int) -> Floats:
        """Count the pairs of each group: (G,)."""
        return sum_by(group_ix[self.upper], num_groups, self.end - self.start)


def _merges(watch_s: Floats, expected_s: Floats, group_ix: Integers) -> Iterator[_Merge]:
    """Lay out every pair watched and expected in the same order, once.

    Two ranks that differ part at exactly one bit: at that bit they lie in one node (equal bits
    above it), the lower rank with a 0. Pairs of equal rank come last, and count half.
    """
    watch, rank = _dense_rank(watch_s), _dense_rank(expected_s, group_ix)
    bits = int(rank.max(initial=0)).bit_length()
    path = (group_ix << bits) | rank
    everyone = np.ones(len(watch), dtype=np.bool_)
    for bit in range(bits):
        is_upper = (rank >> bit) & 1 == 1
        yield _merge(path >> (bit + 1), watch, ~is_upper, is_upper, 1.0)
    yield _merge(path, watch, everyone, everyone, 0.5)


def _comparable(watch_s: Floats, group_ix: Integers) -> _Merge:
    """Lay out every pair of a group whose watch times differ."""
    everyone = np.ones(len(watch_s), dtype=np.bool_)
    return _merge(group_ix, _dense_rank(watch_s), everyone, everyone, 1.0)


def _merge(node: Integers, watch: Integers, is_lower: Mask, is_upper: Mask, worth: float) -> _Merge:
    """Pair each upper row with the lower rows of its node that were watched for less."""
    base = node * (watch.max(initial=0) + 1)
    lower = np.flatnonzero(is_lower)
    lower = lower[np.argsort((base + watch)[lower])]
    upper = np.flatnonzero(is_upper)
    upper = upper[np.argsort((base + watch)[upper])]
    keys = (base + watch)[lower]
    start = np.searchsorted(keys, base[upper])
    end = np.searchsorted(keys, (base + watch)[upper])
    paired = end > start
    return _Merge(lower, upper[paired], start[paired], end[paired], worth)


def _dense_rank(values: Floats, group_ix: Integers | None = None) -> Integers:
    """(N,) 0 for the smallest value (of the row's group), 1 for the next larger, ..."""
    group_ix = np.zeros(len(values), dtype=np.int64) if group_ix is None else group_ix
    order = np.lexsort((values, group_ix))
    new_group = np.diff(group_ix[order], prepend=-1) != 0
    step = np.append(0, np.diff(values[order]) != 0)[: len(values)]
    climbed = np.cumsum(step)
    rank = np.empty(len(values), dtype=np.int64)
    rank[order] = climbed - climbed[new_group][np.cumsum(new_group) - 1]
    return rank


def _over_rows(statistic: Statistic, weights: Floats | None, num_rows: int) -> float:
    """Measure with each row as a viewer of its own."""
    row_weights = np.ones(num_rows) if weights is None else weights.astype(np.float64)
    return float(statistic(row_weights[None, :])[0])
