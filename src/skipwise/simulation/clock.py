"""When each impression was shown.

    Exposures, watch_ms (N,), rng  ->  show_times   ->  shown_at_ms (N,)
    starts and busy times          ->  in_sessions  ->  shown_at_ms (N,), ends_ms (S,)

- Within a session the next video is shown when the last one was left, plus a small gap.
- A session begins at its wanted time, or, if the viewer is then still busy, `PAUSE_MS` after the
  session before: views of one viewer never overlap, and sessions are told apart by their gaps.

Knows `exposure`; is read by `log` and `living_log`.
"""

import numpy as np

from skipwise.simulation.exposure import Exposures
from skipwise.simulation.population import Integers

PAUSE_MS = 35 * 60_000
"""Least time between two sessions of one viewer."""

GAP_MS = (150, 1200)
"""Range of the time between leaving a video and seeing the next."""


def show_times(exposures: Exposures, watch_ms: Integers, rng: np.random.Generator) -> Integers:
    """Lay the planned impressions out on the clock.

    Args:
        exposures: The plan, ordered by viewer, then time.
        watch_ms: (N,) time each impression keeps its viewer busy.
        rng: Draws the gaps.

    Returns:
        (N,) UTC epoch milliseconds, ascending within a viewer.
    """
    busy_ms = watch_ms + rng.integers(*GAP_MS, size=watch_ms.size)
    before_ms = np.cumsum(busy_ms) - busy_ms
    first_row = np.flatnonzero(exposures.position == 0)
    first_row = first_row[np.diff(exposures.session[first_row], prepend=-1) > 0]
    session_ms = np.add.reduceat(busy_ms, first_row) if first_row.size else busy_ms
    starts_ms = _starts(exposures.session_starts_ms, session_ms, exposures.viewer[first_row])
    shown_at_ms: Integers = (starts_ms - before_ms[first_row])[exposures.session] + before_ms
    return shown_at_ms


def in_sessions(
    session: Integers, starts_ms: Integers, busy_ms: Integers
) -> tuple[Integers, Integers]:
    """Lay views out after each other, each session from its own start.

    Args:
        session: (N,) of each view, from 0; each session has views, and those of one are in order.
        starts_ms: (S,) start of each.
        busy_ms: (N,) time from one view to the next.

    Returns:
        (N,) when each view begins, and (S,) when the session is over.

    >>> in_sessions(np.array([0, 1, 0]), np.array([10, 50]), np.array([1, 2, 3]))
    (array([10, 50, 11]), array([14, 52]))
    """
    order = np.argsort(session, kind="stable")
    until_ms = np.cumsum(busy_ms[order])
    last = np.cumsum(np.bincount(session, minlength=starts_ms.size)) - 1
    ends_ms = until_ms[last]
    begins_ms = starts_ms - np.concatenate([[0], ends_ms])[:-1]
    shown_at_ms = np.empty_like(busy_ms)
    shown_at_ms[order] = until_ms - busy_ms[order] + begins_ms[session[order]]
    return shown_at_ms, ends_ms + begins_ms


def _starts(wanted_ms: Integers, session_ms: Integers, viewer: Integers) -> Integers:
    """Push sessions back until none begins within `PAUSE_MS` of the end of the one before.

    With C_s the time taken by a viewer's sessions before s, pauses included,
    start_s = C_s + max over j <= s of (wanted_j - C_j): one running maximum, per viewer.
    """
    if not wanted_ms.size:
        return wanted_ms
    taken = np.cumsum(session_ms + PAUSE_MS) - (session_ms + PAUSE_MS)
    first = np.searchsorted(viewer, viewer, side="left")
    slack = wanted_ms - (taken - taken[first])
    slack -= (lowest := slack.min())
    apart = viewer * (slack.max() + 1)  # keeps the running maximum from passing between viewers
    latest: Integers = np.maximum.accumulate(slack + apart) - apart + lowest
    starts_ms: Integers = latest + taken - taken[first]
    return starts_ms
