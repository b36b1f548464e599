"""How long do people watch, as counts that add up?

    watch_s (N,)  ->  grid_bin  ->  bins (N,)  ->  counts (..., num_bins)  ->  quantile_from_counts

- One fixed grid for everything: quantiles of labels, ranks, and the model's watch curve. Counts of
  two days, two machines or two engines add up to exactly the counts of both.
- Bin k holds [GRID_S[k], GRID_S[k + 1]); the last holds everything from 300 s on.
- Inside a bin watches are taken to lie evenly, so a quantile is off by less than one bin.
- The formulas are evaluated in the same order here and in `thresholds`, so that the results are
  the same to the last bit.

Reads only `errors`; is read by `live`, `thresholds` and the model's watch curve.
"""

import numpy as np
from numpy.typing import NDArray

from skipwise.errors import EventError

Seconds = NDArray[np.float64]

# fmt: off
GRID_S: tuple[float, ...] = (
    0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5,
    6.0, 7.0, 8.0, 9.0, 10.0, 12.0, 14.0, 16.0, 18.0, 21.0, 25.0, 30.0, 35.0, 40.0, 50.0, 60.0,
    70.0, 80.0, 100.0, 120.0, 150.0, 180.0, 240.0, 300.0,
)
# fmt: on
"""Left edges of the bins, in seconds; the last bin is open."""

NUM_BINS = len(GRID_S)
BIN_WIDTH_S: tuple[float, ...] = (*np.diff(GRID_S).tolist(), 0.0)
"""Widths of the bins in seconds; 0 for the open one, so that all in it count as 300 s."""

_LEFT_S = np.array(GRID_S)
_WIDTH_S = np.array(BIN_WIDTH_S)


def grid_bin(watch_s: Seconds) -> NDArray[np.int64]:
    """Find the bin of each watch time.

    Args:
        watch_s: (...) seconds, >= 0; NaN where unknown.

    Returns:
        (...) bins in [0, NUM_BINS); -1 where the watch time is unknown.

    Raises:
        EventError: A watch time is negative.

    >>> grid_bin(np.array([0.0, 2.999, 3.0, 1e6, np.nan])).tolist()
    [0, 9, 10, 39, -1]
    """
    watch_s = np.asarray(watch_s, dtype=np.float64)
    if (watch_s < 0).any():
        raise EventError(
            f"a watch time is {np.nanmin(watch_s):g} s, must be >= 0. "
            "Clock skew in the log is the usual cause: refuse such rows in the reader."
        )
    bins = np.searchsorted(_LEFT_S, watch_s, side="right") - 1
    return np.where(np.isnan(watch_s), -1, bins)


def quantile_from_counts(counts: NDArray[np.integer], p: float) -> Seconds:
    """Read the p-quantile off counts, linearly inside the bin where it falls.

    With N watches in all, `c` of them in bins before the first whose running count reaches `p N`,
    and `n` in that bin: `left + (p N - c) * width / n` (the inverse of the piecewise linear
    distribution function).

    Args:
        counts: (..., NUM_BINS) watches per bin.
        p: In (0, 1).

    Returns:
        (...) seconds in [0, 300]; NaN where there are no counts.

    Raises:
        EventError: p is outside (0, 1), or the counts are not on the grid.

    >>> float(quantile_from_counts(np.eye(NUM_BINS, dtype=int)[0], 0.5))
    0.125
    """
    _check_counts(counts)
    if not 0 < p < 1:
        raise EventError(f"p = {p:g}, must be > 0 and < 1. Ask for a quantile inside the counts.")
    rows, each = counts.reshape(-1, NUM_BINS), np.arange(counts.size // NUM_BINS)
    up_to = rows.cumsum(1)
    total = up_to[:, -1]
    target = total * p
    place = (up_to >= target[:, None]).argmax(1)
    count = rows[each, place]
    inside_s = (target - (up_to[each, place] - count)) * _WIDTH_S[place] / np.maximum(count, 1)
    return np.where(total > 0, _LEFT_S[place] + inside_s, np.nan).reshape(counts.shape[:-1])


def shrunk_quantile(
    counts: NDArray[np.integer],
    bucket_counts: NDArray[np.integer],
    p: float,
    shrinkage_views: float,
) -> Seconds:
    """Pull a video's quantile towards that of its duration bucket while its watches are few.

    `Q = (n Q_video + n0 Q_bucket) / (n + n0)` (docs/model.md).

    Args:
        counts: (..., NUM_BINS) watches of the video, n in all.
        bucket_counts: (..., NUM_BINS) watches of its duration bucket.
        p: In (0, 1).
        shrinkage_views: n0 > 0: how many watches the bucket weighs.

    Returns:
        (...) seconds; NaN where the bucket has no watches.

    Raises:
        EventError: p is outside (0, 1), or the counts are not on the grid.
    """
    num_views = counts.sum(axis=-1)
    own_s = np.where(num_views > 0, quantile_from_counts(counts, p), 0.0)
    bucket_s = quantile_from_counts(bucket_counts, p)
    shrunk: Seconds = (num_views * own_s + shrinkage_views * bucket_s) / (
        num_views + shrinkage_views
    )
    return shrunk


def rank_in_counts(watch_s: Seconds, counts: NDArray[np.integer]) -> Seconds:
    """Say which share of the counted watches lies below each watch time, linearly inside a bin.

    Args:
        watch_s: (...) seconds, >= 0, NaN where unknown; 300 s and more rank alike.
        counts: (..., NUM_BINS) watches per bin.

    Returns:
        (...) shares in [0, 1]; NaN where the watch time is unknown or there are no counts.

    Raises:
        EventError: A watch time is negative, or the counts are not on the grid.

    >>> float(rank_in_counts(np.array(0.125), np.eye(NUM_BINS, dtype=int)[0]))
    0.5
    """
    _check_counts(counts)
    place = grid_bin(watch_s)
    known, place = place >= 0, np.maximum(place, 0)
    up_to = np.cumsum(counts, axis=-1)
    total = up_to[..., -1]
    count = np.take_along_axis(counts, place[..., None], axis=-1)[..., 0]
    before = np.take_along_axis(up_to, place[..., None], axis=-1)[..., 0] - count
    width_s = np.where(_WIDTH_S[place] > 0, _WIDTH_S[place], np.inf)
    below = before + count * (watch_s - _LEFT_S[place]) / width_s
    return np.where(known & (total > 0), below / np.maximum(total, 1), np.nan)


def _check_counts(counts: NDArray[np.integer]) -> None:
    if counts.shape[-1:] != (NUM_BINS,):
        raise EventError(
            f"counts have the shape {counts.shape}, their last axis must be the {NUM_BINS} bins of "
            "GRID_S. Count with grid_bin."
        )
