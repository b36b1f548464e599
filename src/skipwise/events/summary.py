"""What is in a log, in numbers a person can look through.

    EventLog  ->  summarise  ->  LogSummary

- Everything is computed in the engine; what comes to Python is a few hundred numbers.
- A quantile is the smallest value that at least that share of the rows does not exceed.
- Rows without a time count as untimed, and in nothing else but `num_viewers`, `num_videos`,
  `rows_per_viewer` and the flags.

Knows `read`, `schema`; is read by the command line.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.types as ir
from ibis.backends.duckdb import Backend

from skipwise.events.read import EventLog, Note, Refusal
from skipwise.events.schema import FLAGS

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
"""Which quantiles are given."""

HISTOGRAM_EDGES_S = (0.0, *(round(0.25 * 2 ** (step / 2), 3) for step in range(25)))
"""Edges of the watch-time histogram: 0, then a factor of sqrt(2) apart from 0.25 s to 1,024 s."""

SHORT_BELOW_S = 3.0
"""A watch below this many seconds counts in `share_short`."""

_EPOCH = dt.date(1970, 1, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class SurfaceSummary:
    """The timed rows of one surface."""

    surface: str | None
    num_rows: int
    share_short: float | None
    """Share of known watch times below `SHORT_BELOW_S`; None when none is known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LogSummary:
    """A log in numbers."""

    source: str
    time_zone: str
    num_rows: int
    """Rows taken, untimed ones included."""
    num_untimed: int
    num_rows_read: int
    """Rows met, refused ones included."""
    num_viewers: int
    """Viewers with a row."""
    num_videos: int
    """Videos with a row."""
    num_listed_videos: int
    """Videos of the video table."""
    num_authors: int
    num_topics: int
    first_day: dt.date | None
    """None when no row has a time."""
    last_day: dt.date | None
    rows_per_day: tuple[tuple[dt.date, int], ...]
    watch_quantiles_s: Mapping[float, float]
    """Empty when no watch time is known; so are the other quantiles."""
    duration_quantiles_s: Mapping[float, float]
    rows_per_viewer: Mapping[float, float]
    share_short: float | None
    """Share of known watch times below `SHORT_BELOW_S`."""
    surfaces: tuple[SurfaceSummary, ...]
    """Most frequent first."""
    flag_shares: Mapping[str, float | None]
    """Share of known values that are true, by flag; None where the log has no such flag."""
    known_duration_share: float | None
    random_share: float | None
    """Share of timed rows shown by a random policy."""
    watch_histogram: tuple[int, ...]
    """Known watch times from edge i to below edge i + 1 of `HISTOGRAM_EDGES_S`; the last bin has
    no upper end."""
    refusals: tuple[Refusal, ...]
    notes: tuple[Note, ...]


def summarise(log: EventLog, connection: Backend) -> LogSummary:
    """Count what is in a log.

    Args:
        log: As read by `read_log`.
        connection: The engine its tables are in.
    """
    events = log.events
    timed = events.filter(events.shown_at_ms.notnull())
    counts = _rows(_counted(events, log), connection)[0]
    days = [
        (_EPOCH + dt.timedelta(days=row["value"]), row["count"])
        for row in _rows(_value_counts(timed.day).order_by("value"), connection)
    ]
    short = _rows(timed.agg(share_short=_share_short(timed), **_shares(timed)), connection)[0]
    per_viewer = events.group_by("viewer_id").agg(num_rows=events.count())
    return LogSummary(
        source=log.description.name,
        time_zone=log.description.time_zone,
        **counts,
        num_rows_read=log.num_rows_read,
        first_day=days[0][0] if days else None,
        last_day=days[-1][0] if days else None,
        rows_per_day=tuple(days),
        watch_quantiles_s=_quantiles(timed.watch_ms, 1000, connection),
        duration_quantiles_s=_quantiles(timed.duration_ms, 1000, connection),
        rows_per_viewer=_quantiles(per_viewer.num_rows, 1, connection),
        **short,
        surfaces=_surfaces(timed, connection),
        flag_shares=_rows(events.agg(**{name: events[name].mean() for name in FLAGS}), connection)[
            0
        ],
        watch_histogram=_histogram(timed, connection),
        refusals=log.refusals,
        notes=log.notes,
    )


def _counted(events: ir.Table, log: EventLog) -> ir.Table:
    topics = log.videos.select(topic=log.videos.topics.unnest())
    return events.agg(
        num_rows=events.count(),
        num_untimed=events.shown_at_ms.isnull().sum().fill_null(0),
        num_viewers=events.viewer_id.nunique(),
        num_videos=events.video_id.nunique(),
        num_listed_videos=log.videos.count().as_scalar(),
        num_authors=log.videos.author_id.nunique().as_scalar(),
        num_topics=topics.topic.nunique().as_scalar(),
    )


def _shares(timed: ir.Table) -> dict[str, ir.Scalar]:
    return {
        "known_duration_share": timed.duration_ms.notnull().mean(),
        "random_share": (timed.policy == "random").mean(),
    }


def _share_short(timed: ir.Table) -> ir.Scalar:
    return (timed.watch_ms < SHORT_BELOW_S * 1000).mean()


def _surfaces(timed: ir.Table, connection: Backend) -> tuple[SurfaceSummary, ...]:
    found = timed.group_by("surface").agg(num_rows=timed.count(), share_short=_share_short(timed))
    ordered = found.order_by(ibis.desc("num_rows"), "surface")
    return tuple(SurfaceSummary(**row) for row in _rows(ordered, connection))


def _quantiles(column: ir.IntegerColumn, unit: float, connection: Backend) -> dict[float, float]:
    """Return quantiles from the counts of distinct values, which fit where the rows do not."""
    counts = _value_counts(column)
    reached = counts["count"].sum().over(ibis.cumulative_window(order_by=counts.value))
    share = counts.select("value", share=reached / counts["count"].sum().over(ibis.window()))
    found = share.agg(
        **{
            f"q{place}": share.value.min(where=share.share >= q)
            for place, q in enumerate(QUANTILES)
        }
    )
    row = _rows(found, connection)[0]
    values = [row[f"q{place}"] for place in range(len(QUANTILES))]
    if None in values:
        return {}
    return {q: value / unit for q, value in zip(QUANTILES, values, strict=True)}


def _histogram(timed: ir.Table, connection: Backend) -> tuple[int, ...]:
    edges_ms = [edge * 1000 for edge in HISTOGRAM_EDGES_S]
    bins = timed.watch_ms.cast("float64").bucket(edges_ms, include_over=True, close_extreme=False)
    counted = {row["value"]: row["count"] for row in _rows(_value_counts(bins), connection)}
    return tuple(counted.get(place, 0) for place in range(len(edges_ms)))


def _value_counts(column: ir.Column) -> ir.Table:
    """Count each value of a column that is known: `value, count`."""
    table = column.name("value").as_table()
    table = table.filter(table.value.notnull())
    return table.group_by("value").agg(count=table.count())


def _rows(table: ir.Table, connection: Backend) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = connection.to_pyarrow(table).to_pylist()
    return rows
