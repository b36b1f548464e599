"""Which of a viewer's past events may be read for a request.

    known_at_ms, requested_at_ms (T,)  ->  live_prefix    ->  (T,) events that may be read,
    known_day, day (T,)                ->  daily_prefix   ->      counted from the oldest
    known_day (T,), last day           ->  window_prefix  ->

- A viewer's events stand in sequence order, and one is visible only when all before it are: what a
  request may read is always a prefix, so one number says it and an encoded history only ever grows.
- No event is visible to its own request, nor to one before it.

Reads nothing; is read by `stretches` and by serving.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Mode = Literal["daily", "window", "progressive"]
MODES: tuple[Mode, ...] = ("daily", "window", "progressive")

Prefix = NDArray[np.int64]
Integers = NDArray[np.int64] | NDArray[np.int32]


def live_prefix(
    known_at_ms: NDArray[np.int64], requested_at_ms: NDArray[np.int64], extra_delay_ms: int = 0
) -> Prefix:
    """Count what is visible when outcomes arrive as they become known (docs/model.md).

    Args:
        known_at_ms: (T,) when each outcome became known, in sequence order.
        requested_at_ms: (T,) when each event's slate was requested; -1 where untimed.
        extra_delay_ms: How much later than `known_at_ms` outcomes arrive.

    Returns:
        (T,) for each event as a candidate, how many events from the oldest may be read.

    >>> live_prefix(np.array([5, 9, 30]), np.array([0, 6, 20])).tolist()
    [0, 1, 2]
    """
    delayed = known_at_ms.copy()
    timed = requested_at_ms >= 0
    delayed[timed] += extra_delay_ms
    return _prefix(delayed, requested_at_ms + 1)


def daily_prefix(known_day: Integers, day: Integers) -> Prefix:
    """Count what is visible when the state is refreshed at the start of each calendar day.

    Args:
        known_day: (T,) day on which each outcome was known, in sequence order.
        day: (T,) calendar day of each event as a candidate.

    Returns:
        (T,) visible events: those known before the candidate's day.

    >>> daily_prefix(np.array([1, 1, 2, 2]), np.array([1, 1, 2, 3])).tolist()
    [0, 0, 2, 3]
    """
    return _prefix(known_day, day)


def window_prefix(known_day: Integers, last_day: int) -> Prefix:
    """Count what is visible when nothing after the training window may be used.

    Args:
        known_day: (T,) day on which each outcome was known, in sequence order.
        last_day: Last day of the training window.

    Returns:
        (T,) visible events: those known by the end of `last_day`.
    """
    return _prefix(known_day, np.full(len(known_day), last_day + 1))


def _prefix(known: Integers, before: Integers) -> Prefix:
    """Count, per event, the leading events whose running maximum of `known` is < `before`."""
    all_known_from = np.maximum.accumulate(known) if len(known) else known
    visible = np.searchsorted(all_known_from, before, side="left")
    return np.minimum(visible, np.arange(len(known))).astype(np.int64)
