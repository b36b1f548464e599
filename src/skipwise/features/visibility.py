"""Which of a viewer's past events may be read for a request.

    known_at_ms, requested_at_ms (T,)  ->  live_prefix    ->  (T,) events that may be read,
    known_day, day (T,)                ->  daily_prefix   ->      counted from the oldest
    known_day (T,), last day           ->  window_prefix  ->

- A viewer's events stand in sequence order, and one is visible only when all before it are: what a
  request may read is always a prefix, so one number says it and an encoded history only ever grows.
- No event is visible to its own request, nor to one before it.
- Several viewers' rows may stand one after the other; `place` is 0 where the next one begins.

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
    known_at_ms: NDArray[np.int64],
    requested_at_ms: NDArray[np.int64],
    extra_delay_ms: int | NDArray[np.int64] = 0,
    place: NDArray[np.int64] | None = None,
) -> Prefix:
    """Count what is visible when outcomes arrive as they become known (docs/model.md).

    Args:
        known_at_ms: (T,) when each outcome became known, in sequence order.
        requested_at_ms: (T,) when each event's slate was requested; -1 where untimed.
        extra_delay_ms: How much later than `known_at_ms` outcomes arrive; one number, or (T,).
        place: (T,) each row's place among its viewer's; None = all are one viewer's.

    Returns:
        (T,) for each event as a candidate, how many events from the oldest may be read.

    >>> live_prefix(np.array([5, 9, 30]), np.array([0, 6, 20])).tolist()
    [0, 1, 2]
    """
    delayed = known_at_ms + np.where(requested_at_ms >= 0, extra_delay_ms, 0)
    return _prefix(delayed, requested_at_ms + 1, place)


def daily_prefix(
    known_day: Integers, day: Integers, place: NDArray[np.int64] | None = None
) -> Prefix:
    """Count what is visible when the state is refreshed at the start of each calendar day.

    Args:
        known_day: (T,) day on which each outcome was known, in sequence order.
        day: (T,) calendar day of each event as a candidate.
        place: (T,) each row's place among its viewer's; None = all are one viewer's.

    Returns:
        (T,) visible events: those known before the candidate's day.

    >>> daily_prefix(np.array([1, 1, 2, 2]), np.array([1, 1, 2, 3])).tolist()
    [0, 0, 2, 3]
    """
    return _prefix(known_day, day, place)


def window_prefix(
    known_day: Integers, last_day: int, place: NDArray[np.int64] | None = None
) -> Prefix:
    """Count what is visible when nothing after the training window may be used.

    Args:
        known_day: (T,) day on which each outcome was known, in sequence order.
        last_day: Last day of the training window.
        place: (T,) each row's place among its viewer's; None = all are one viewer's.

    Returns:
        (T,) visible events: those known by the end of `last_day`.
    """
    return _prefix(known_day, np.full(len(known_day), last_day + 1), place)


def _prefix(known: Integers, before: Integers, place: NDArray[np.int64] | None) -> Prefix:
    """Count, per event, its viewer's leading events whose running maximum of `known` is < `before`.

    All viewers at once: each viewer's times are lifted above those of the viewer before, so that
    one running maximum and one search serve all. What is known earlier than anybody asks, or later,
    is drawn in to just outside the asked times, which keeps the lifted numbers small.
    """
    if not len(known):
        return np.empty(0, dtype=np.int64)
    own_place = np.arange(len(known)) if place is None else place
    earliest, latest = int(before.min()), int(before.max())
    lift = (np.cumsum(own_place == 0) - 1) * (latest - earliest + 2)
    all_known_from = np.maximum.accumulate(
        lift + (np.clip(known, earliest - 1, latest).astype(np.int64) - (earliest - 1))
    )
    asked = lift + (before.astype(np.int64) - (earliest - 1))
    first = np.arange(len(known)) - own_place
    visible = np.searchsorted(all_known_from, asked, side="left") - first
    return np.minimum(visible, own_place).astype(np.int64)
