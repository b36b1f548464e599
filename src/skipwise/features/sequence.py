"""In what order a viewer's events stand, and where each stands in its session.

    events (N)  ->  add_sequence  ->  the rows with `session_place`, `glance_run`

- Order: untimed events first, in the order of their source; then by `shown_at_ms`, then by source.
- A pause longer than `session_gap_s` between two showings starts a new session.
- A run of glances ends at any other outcome, an unknown one too, and at the end of a session.
- An untimed event belongs to no session: place 0, run 0.

Reads `known`'s columns and the glance label; is read by `prepare`.
"""

import ibis
import numpy as np
from ibis.expr.types import Table
from numpy.typing import NDArray

SEQUENCE_ORDER = ("viewer", "shown_at_ms", "source_order")
"""Sorting by these, with -1 for an untimed `shown_at_ms`, gives every viewer's sequence."""

SESSION_GAP_S = 1800.0
"""A longer pause starts a new session, unless a dataset was told otherwise."""

_LONGEST = 32_767
"""What int16 holds; later places and longer runs read as this."""


def add_sequence(events: Table, session_gap_s: float) -> Table:
    """Find each event's place in its session and the run of glances it ends.

    Args:
        events: `viewer`, `shown_at_ms` (-1 where untimed), `source_order`, `label_glance` (-1
            unknown, 0, 1).
        session_gap_s: A longer pause between two showings starts a new session, > 0.

    Returns:
        The rows with `session_place` (int16, 0 = first of its session) and `glance_run` (int16,
        glances in a row that end with this event, within the session).
    """
    order = ["shown_at_ms", "source_order"]
    of_viewer = ibis.window(group_by="viewer", order_by=order)
    timed = events.shown_at_ms >= 0
    before_ms = events.shown_at_ms.lag().over(of_viewer)
    starts = before_ms.isnull() | (before_ms < 0) | (
        events.shown_at_ms - before_ms > round(session_gap_s * 1000)
    )  # fmt: skip
    table = events.mutate(
        _row=ibis.row_number().over(of_viewer), _starts=(timed & starts).fill_null(False)
    )
    # A run begins after the last other outcome, or with the session's first event.
    broken_at = ibis.cases(
        (table.label_glance != 1, table._row), (table._starts, table._row - 1), else_=None
    )
    so_far = ibis.window(group_by="viewer", order_by="_row", preceding=None, following=0)
    place = table._row - ibis.ifelse(table._starts, table._row, None).max().over(so_far)
    run = table._row - broken_at.max().over(so_far)
    timed = table.shown_at_ms >= 0
    return table.mutate(
        session_place=_as_int16(timed.ifelse(place, 0)),
        glance_run=_as_int16(timed.ifelse(run, 0)),
    ).drop("_row", "_starts")


def places_in_sequence(
    viewer: NDArray[np.int32],
    shown_at_ms: NDArray[np.int64],
    label_glance: NDArray[np.int8],
    session_gap_s: float,
) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Find what `add_sequence` does, in rows that stand in sequence already.

    Args:
        viewer: (N,) each viewer's rows together.
        shown_at_ms: (N,) -1 where untimed.
        label_glance: (N,) -1 unknown, 0, 1.
        session_gap_s: A longer pause between two showings starts a new session, > 0.

    Returns:
        (N,) place in the session and (N,) length of the run of glances.
    """
    row = np.arange(len(viewer))
    timed = shown_at_ms >= 0
    starts = np.ones(len(row), dtype=np.bool_)
    starts[1:] = (viewer[1:] != viewer[:-1]) | (shown_at_ms[:-1] < 0)
    starts[1:] |= np.diff(shown_at_ms) > round(session_gap_s * 1000)
    starts &= timed
    # every timed row has a start of its own viewer before it, or is one
    session_start = np.maximum.accumulate(np.where(starts, row, 0))
    broken_at = np.where(label_glance != 1, row, np.where(starts, row - 1, -1))
    run_start = np.maximum.accumulate(broken_at)
    place, run = (
        np.where(timed, np.minimum(row - start, _LONGEST), 0).astype(np.int16)
        for start in (session_start, run_start)
    )
    return place, run


def _as_int16(value: ibis.expr.types.IntegerValue) -> ibis.expr.types.IntegerValue:
    return ibis.least(value, _LONGEST).cast("int16")
