"""Which quirks a log has that make no row wrong, and how many rows show each.

    event table  ->  notes_in  ->  Note per quirk that was met

- Such rows are kept. What is changed in them, if anything, is said in the note.

Knows `parsing`; is read by `read` and `catalogue`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import ibis
import ibis.expr.types as ir
from ibis.backends.duckdb import Backend

from skipwise.events.parsing import local_day

_QUARTER_MS = 15 * 60 * 1000


@dataclass(frozen=True)
class Note:
    """A quirk that was handled."""

    what: str
    """What it is and what was done with it."""

    count: int
    """How many rows (or ids, as `what` says) show it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AsWritten:
    """What only the rows as they stand in the files tell."""

    num_zero_durations: int
    """Durations that are written as 0."""

    num_backwards: int
    """Rows whose time is before that of the same viewer's row above them in the same file."""


def count_as_written(taken: ir.Table, connection: Backend) -> AsWritten:
    """Count what is lost once rows are numbered through and durations of 0 are null.

    Args:
        taken: The staged rows of a log that are not refused.
        connection: The engine.
    """
    above = ibis.window(group_by=[taken.file_ix, taken.viewer_id], order_by=taken.file_row)
    marked = taken.select(
        is_backwards=taken.shown_at_ms < taken.shown_at_ms.lag().over(above),
        is_zero=taken.duration_ms == 0,
    )
    found = connection.to_pyarrow(
        marked.agg(backwards=marked.is_backwards.sum(), zero=marked.is_zero.sum())
    ).to_pylist()[0]
    return AsWritten(num_zero_durations=found["zero"] or 0, num_backwards=found["backwards"] or 0)


def notes_in(
    events: ir.Table, written: AsWritten, time_zone: str, connection: Backend
) -> list[Note]:
    """Count the quirks of a log.

    Args:
        events: The event table.
        written: What its log said before it became the event table.
        time_zone: The source's zone.
        connection: The engine.
    """
    timed = events.filter(events.shown_at_ms.notnull())
    counted = timed.agg(
        unknown_length=timed.duration_ms.isnull().sum(),
        unknown_watch=timed.watch_ms.isnull().sum(),
        longer=(timed.watch_ms > timed.duration_ms).sum(),
        repeated=timed.count() - _fingerprint(timed).nunique(),
        untimed=events.filter(events.shown_at_ms.isnull()).count().as_scalar(),
    )
    found = connection.to_pyarrow(counted).to_pylist()[0]
    found |= connection.to_pyarrow(_days_off(timed, time_zone)).to_pylist()[0]
    found["zero_length"] = written.num_zero_durations
    found["no_length"] = (found["unknown_length"] or 0) - written.num_zero_durations
    found["backwards"] = written.num_backwards
    return met(
        Note(what, int(found[name] or 0))
        for name, what in (
            ("untimed", "past events without a time, placed before all others"),
            ("zero_length", "durations of 0, read as unknown"),
            ("no_length", "durations absent, unknown"),
            ("unknown_watch", "watch times absent, unknown"),
            ("longer", "watch times above the duration (replays), kept"),
            ("ahead", "rows whose calendar day is ahead of their clock, day kept"),
            ("behind", "rows whose calendar day is behind their clock, day kept"),
            ("repeated", "exact duplicates (equal in every canonical column) of another row, kept"),
            ("backwards", "rows earlier than the same viewer's row above them in the file, kept"),
        )
    )


def _days_off(timed: ir.Table, time_zone: str) -> ir.Table:
    """Count the rows whose day is ahead of their clock's, or behind.

    A quarter of an hour is all of one day: clocks differ from UTC by whole quarters (since 1972).
    """
    quarter = (timed.shown_at_ms // _QUARTER_MS).cast("int64")
    counts = timed.group_by("day", quarter=quarter).agg(number=timed.count())
    ahead = counts.day - local_day(counts.quarter * _QUARTER_MS, time_zone)
    return counts.agg(
        ahead=ibis.ifelse(ahead > 0, counts.number, 0).sum(),
        behind=ibis.ifelse(ahead < 0, counts.number, 0).sum(),
    )


def met(notes: Iterable[Note]) -> list[Note]:
    """Keep the notes that count anything."""
    return [note for note in notes if note.count > 0]


def _fingerprint(rows: ir.Table) -> ir.IntegerValue:
    """Hash a row to 64 bits: two different rows share one by a chance of about 1e-19."""
    return ibis.struct({name: rows[name] for name in rows.columns if name != "source_order"}).hash()
