"""Small logs written by hand, and the plainest possible counting of what was known."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import ibis
import numpy as np
import pyarrow as pa
from ibis.backends.duckdb import Backend as Connection
from ibis.expr.types import Table
from numpy.typing import NDArray

from skipwise.events.read import EventLog
from skipwise.events.schema import (
    EVENT_SCHEMA,
    ExtraColumn,
    SourceDescription,
    video_schema,
    viewer_schema,
)
from skipwise.features.counter_names import COUNTABLE, KEYS, CounterConfig, counter_names
from skipwise.features.known import UNTIMED_MS

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
FIRST_DAY = 19_000
"""The first day of every small log; its zone is UTC."""

_table_numbers = itertools.count()


@dataclass(frozen=True, kw_only=True)
class Coded:
    """One event in codes, as counters read it."""

    viewer: int = 0
    video: int = 0
    surface: int = 1
    shown_ms: int | None = 0
    """From the start of the first day; None where untimed."""
    watch_ms: int = 5_000
    delay_ms: int = 0
    days_ahead: int = 0
    """How far the source's own day runs ahead of the clock."""
    request_ms_before: int = 0
    glance: int = -1
    like: int = -1

    @property
    def known_at_ms(self) -> int:
        if self.shown_ms is None:
            return UNTIMED_MS
        start = FIRST_DAY * DAY_MS
        return start + self.shown_ms + max(self.watch_ms, 1) + self.delay_ms

    @property
    def requested_at_ms(self) -> int:
        if self.shown_ms is None:
            return -1
        return FIRST_DAY * DAY_MS + max(self.shown_ms - self.request_ms_before, 0)

    @property
    def known_clock_day(self) -> int:
        return FIRST_DAY - 1 if self.shown_ms is None else self.known_at_ms // DAY_MS

    @property
    def asked_clock_day(self) -> int:
        return FIRST_DAY - 1 if self.shown_ms is None else self.requested_at_ms // DAY_MS

    @property
    def day(self) -> int:
        if self.shown_ms is None:
            return FIRST_DAY - 1
        return FIRST_DAY + self.shown_ms // DAY_MS + self.days_ahead

    @property
    def known_day(self) -> int:
        return max(self.day, self.known_clock_day)

    def verdict(self, objective: str) -> int:
        return {"glance": self.glance, "like": self.like}.get(objective, -1)


@dataclass(frozen=True, kw_only=True)
class Video:
    """What the catalogue says of a video, in codes."""

    author: int = 0
    topics: tuple[int, ...] = ()


def table_of(connection: Connection, rows: pa.Table) -> Table:
    """Put rows into the engine under a name of their own."""
    return connection.create_table(f"small_{next(_table_numbers)}", rows, temp=True)


def coded_events(connection: Connection, events: Sequence[Coded]) -> Table:
    """Make the event table that counters read; `source_order` is the place in the list."""
    columns = {
        "source_order": pa.array(range(len(events)), pa.int64()),
        **{
            name: pa.array([getattr(event, name) for event in events], kind)
            for name, kind in (
                ("viewer", pa.int32()),
                ("video", pa.int32()),
                ("surface", pa.int16()),
                ("known_at_ms", pa.int64()),
                ("requested_at_ms", pa.int64()),
                ("known_clock_day", pa.int32()),
                ("asked_clock_day", pa.int32()),
                ("known_day", pa.int32()),
                ("day", pa.int32()),
            )
        },
        **{
            f"label_{name}": pa.array([event.verdict(name) for event in events], pa.int8())
            for name in COUNTABLE
        },
    }
    return table_of(connection, pa.table(columns))


def coded_videos(connection: Connection, videos: Sequence[Video]) -> Table:
    """Make the video table that counters read; the code is the place in the list."""
    return table_of(
        connection,
        pa.table(
            {
                "video": pa.array(range(len(videos)), pa.int32()),
                "author": pa.array([video.author for video in videos], pa.int32()),
                "topics": pa.array([list(video.topics) for video in videos], pa.list_(pa.int32())),
            }
        ),
    )


def matrix(counters: Table, config: CounterConfig) -> dict[int, NDArray[np.float32]]:
    """Read counters back: ask_id -> (K,)."""
    rows = counters.to_pyarrow()
    names = counter_names(config.counted)
    assert rows.column_names == ["ask_id", *names]
    assert all(rows[name].type == pa.float32() for name in names)
    values = np.stack([rows[name].to_numpy() for name in names], axis=1)
    return dict(zip(rows["ask_id"].to_pylist(), values, strict=True))


def plain_counters(
    ask: Coded,
    clock_day: int,
    known: Iterable[Coded],
    videos: Sequence[Video],
    config: CounterConfig,
) -> NDArray[np.float64]:
    """Count by the definition: every known outcome, every key, one after the other."""
    names = counter_names(config.counted)
    sums = dict.fromkeys(names, 0.0)
    for event in known:
        age_days = clock_day - event.known_clock_day
        weight = 1.0 if config.half_life_days is None else 0.5 ** (age_days / config.half_life_days)
        for key, columns in KEYS.items():
            shared = len(
                _keys_of(ask, videos, columns).intersection(_keys_of(event, videos, columns))
            )
            sums[f"{key}.views"] += shared * weight
            for objective in config.counted:
                verdict = event.verdict(objective)
                sums[f"{key}.{objective}_known"] += shared * weight * (verdict >= 0)
                sums[f"{key}.{objective}"] += shared * weight * (verdict == 1)
    return np.array([sums[name] for name in names])


def _keys_of(
    event: Coded, videos: Sequence[Video], columns: tuple[str, ...]
) -> set[tuple[int, ...]]:
    video = videos[event.video]
    choices = {
        "viewer": (event.viewer,),
        "video": (event.video,),
        "surface": (event.surface,) if event.surface else (),
        "author": (video.author,) if video.author else (),
        "topic": video.topics,
    }
    return set(itertools.product(*(choices[column] for column in columns)))


@dataclass(frozen=True, kw_only=True)
class Told:
    """One canonical event."""

    viewer_id: str = "ann"
    video_id: str = "clip"
    shown_s: float | None = 0.0
    """From the start of the first day; None where untimed."""
    watch_s: float | None = 5.0
    duration_s: float | None = 60.0
    surface: str | None = "feed"
    request_id: str | None = None
    liked: bool | None = False


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """What a small log knows beside its events."""

    videos: dict[str, tuple[str | None, tuple[str, ...]]] = field(default_factory=dict)
    """video_id -> author, topics."""
    moods: dict[str, str | None] = field(default_factory=dict)
    """viewer_id -> a categorical extra."""


def small_log(
    connection: Connection, events: Sequence[Told], catalogue: Catalogue | None = None
) -> EventLog:
    """Make a canonical log in UTC."""
    catalogue = catalogue or Catalogue()
    description = SourceDescription(
        name="small",
        time_zone="UTC",
        viewer_extras=(ExtraColumn("mood", "categorical"),),
        video_extras=(ExtraColumn("loudness", "numeric"),),
    )
    videos: list[dict[str, object]] = [
        {
            "video_id": video_id, "author_id": author, "topics": list(topics),
            "duration_ms": 60_000, "uploaded_at_ms": FIRST_DAY * DAY_MS - 1, "loudness": 0.5,
        }
        for video_id, (author, topics) in catalogue.videos.items()
    ]  # fmt: skip
    viewers: list[dict[str, object]] = [
        {"viewer_id": viewer, "mood": mood} for viewer, mood in catalogue.moods.items()
    ]
    return EventLog(
        events=_canonical(connection, [_told(*item) for item in enumerate(events)], EVENT_SCHEMA),
        videos=_canonical(connection, videos, video_schema(description)),
        viewers=_canonical(connection, viewers, viewer_schema(description)),
        description=description,
        refusals=(),
        notes=(),
        num_rows_read=len(events),
    )


def _told(place: int, event: Told) -> dict[str, object]:
    timed = event.shown_s is not None
    row: dict[str, object] = dict.fromkeys(EVENT_SCHEMA.names)
    row |= {
        "viewer_id": event.viewer_id,
        "video_id": event.video_id,
        "surface": event.surface,
        "request_id": event.request_id,
        "liked": event.liked,
        "policy": "served",
        "source_order": place,
        "watch_ms": _ms(event.watch_s),
        "duration_ms": _ms(event.duration_s),
    }
    if timed:
        shown_ms = _ms(event.shown_s) or 0
        row |= {
            "shown_at_ms": FIRST_DAY * DAY_MS + shown_ms,
            "day": FIRST_DAY + shown_ms // DAY_MS,
        }
    return row


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def _canonical(
    connection: Connection, rows: Sequence[dict[str, object]], schema: ibis.Schema
) -> Table:
    return table_of(connection, pa.Table.from_pylist(list(rows), schema=schema.to_pyarrow()))
