"""When an outcome is known, when a slate was requested, and which local day that is.

    canonical events  ->  add_known_times  ->  the same rows with the time columns of docs/design.md

- An outcome is known once the watch is over and the outcome delay has passed; the first millisecond
  of watching always counts, so no event belongs to the state of its own request.
- All events of one request were asked for when its first video was shown.
- Untimed events are known before everything, on the day before the first one, and never ask.
- Local days come from the zone's own offsets, as whole numbers, so that every engine and the live
  path agree to the millisecond.

Reads canonical event tables (`events`); is read by `prepare`, the counters and serving.
"""

import datetime as dt
import zoneinfo
from functools import lru_cache

import ibis
from ibis.expr.types import IntegerValue, Table

from skipwise.errors import EventError

UNTIMED_MS = -(2**63)
"""`known_at_ms` of an untimed event: known before everything."""

_HOUR_MS = 3_600_000
DAY_MS = 24 * _HOUR_MS
_EPOCH = dt.date(1970, 1, 1)


def add_known_times(
    events: Table, time_zone: str, first_day: int, span_ms: tuple[int, int], outcome_delay_ms: int
) -> Table:
    """Add to canonical events the columns that say what could be known when.

    Args:
        events: Canonical events (docs/design.md).
        time_zone: Name of the source's zone, as `Asia/Shanghai`.
        first_day: Calendar day of the earliest timed event, days since 1970-01-01.
        span_ms: Earliest and latest `shown_at_ms`; where the zone's offsets are needed.
        outcome_delay_ms: How long after the watch its outcome is known.

    Returns:
        The rows, `day` filled, with `known_at_ms`, `requested_at_ms` (int64; int64 min and -1 where
        untimed), `known_day`, `known_clock_day`, `asked_clock_day` (int32 local calendar days),
        `hour` (int8 local hour; -1 where untimed) and `request` (int64: the smallest `source_order`
        of the request; -1 without one).

    Raises:
        EventError: The time zone is unknown.
    """
    table = _with_requests(events)
    timed = table.shown_at_ms.notnull()
    watched_ms = ibis.greatest(table.watch_ms.fill_null(0), 1)
    table = table.mutate(
        known_at_ms=timed.ifelse(
            table.shown_at_ms + watched_ms + outcome_delay_ms, ibis.literal(UNTIMED_MS)
        ).cast("int64"),
    )
    reach = (span_ms[0], span_ms[1] + outcome_delay_ms + 7 * DAY_MS)
    timed = table.shown_at_ms.notnull()
    table = table.mutate(
        day=timed.ifelse(table.day, first_day - 1).cast("int32"),
        known_clock_day=timed.ifelse(
            clock_day(table.known_at_ms, time_zone, reach), first_day - 1
        ).cast("int32"),
        asked_clock_day=timed.ifelse(
            clock_day(table.requested_at_ms, time_zone, reach), first_day - 1
        ).cast("int32"),
        hour=timed.ifelse(_local_hour(table.shown_at_ms, time_zone, reach), -1).cast("int8"),
    )
    return table.mutate(known_day=ibis.greatest(table.day, table.known_clock_day).cast("int32"))


def _with_requests(events: Table) -> Table:
    """Add `requested_at_ms` and `request`; an untimed event belongs to no request."""
    asked = events.filter(events.request_id.notnull() & events.shown_at_ms.notnull())
    requests = asked.group_by(_viewer=asked.viewer_id, _request=asked.request_id).aggregate(
        _first_ms=asked.shown_at_ms.min(), _first=asked.source_order.min()
    )
    joined = events.left_join(
        requests,
        [events.viewer_id == requests["_viewer"], events.request_id == requests["_request"]],
    )
    first_ms = joined.shown_at_ms.notnull().ifelse(joined["_first_ms"], None)
    return joined.select(
        *events.columns,
        requested_at_ms=ibis.coalesce(first_ms, joined.shown_at_ms, -1).cast("int64"),
        request=first_ms.notnull().ifelse(joined["_first"], -1).cast("int64"),
    )


def clock_day(at_ms: IntegerValue, time_zone: str, span_ms: tuple[int, int]) -> IntegerValue:
    """Return the local calendar day of instants, in days since 1970-01-01.

    Args:
        at_ms: UTC instants in ms.
        time_zone: Name of the zone.
        span_ms: First and last instant whose offsets must be right; outside it the nearest serves.

    Raises:
        EventError: The time zone is unknown.
    """
    return _floor_divide(at_ms + _offset(at_ms, time_zone, span_ms), DAY_MS)


def clock_day_of(at_ms: int, time_zone: str) -> int:
    """Return the local calendar day of one instant: `clock_day`, one event at a time.

    Raises:
        EventError: The time zone is unknown.

    >>> clock_day_of(0, "UTC"), clock_day_of(16 * 3_600_000, "Asia/Shanghai")
    (0, 1)
    """
    moment = dt.datetime.fromtimestamp(at_ms // 1000, tz=_zone(time_zone))
    return (moment.date() - _EPOCH).days


@lru_cache(maxsize=64)
def zone_offsets(time_zone: str, first_ms: int, last_ms: int) -> tuple[tuple[int, int], ...]:
    """List a zone's offsets from UTC over a span.

    Returns:
        (from_ms, offset_ms) pairs in time order; the first holds from before the span.

    Raises:
        EventError: The time zone is unknown.

    >>> zone_offsets("Asia/Shanghai", 1_650_000_000_000, 1_650_100_000_000)
    ((1650000000000, 28800000),)
    """
    zone = _zone(time_zone)
    offsets = [(first_ms, _offset_at(first_ms, zone))]
    for day_start in range(first_ms, last_ms + DAY_MS, DAY_MS):
        offset = _offset_at(day_start, zone)
        if offset != offsets[-1][1]:
            offsets.append((_change_between(day_start - DAY_MS, day_start, zone), offset))
    return tuple(offsets)


def _offset(at_ms: IntegerValue, time_zone: str, span_ms: tuple[int, int]) -> IntegerValue:
    (_, earliest), *later = zone_offsets(time_zone, *span_ms)
    offset = ibis.literal(earliest, type="int64")
    for from_ms, changed in later:
        offset = (at_ms >= from_ms).ifelse(ibis.literal(changed, type="int64"), offset)
    return offset


def _local_hour(at_ms: IntegerValue, time_zone: str, span_ms: tuple[int, int]) -> IntegerValue:
    hours = _floor_divide(at_ms + _offset(at_ms, time_zone, span_ms), _HOUR_MS)
    return hours - _floor_divide(hours, 24) * 24


def _floor_divide(value: IntegerValue, by: int) -> IntegerValue:
    """Divide towards minus infinity in whole numbers, whatever the engine's `//` does below 0."""
    remainder = ((value % by) + by) % by
    return ((value - remainder) // by).cast("int64")


def _offset_at(at_ms: int, zone: zoneinfo.ZoneInfo) -> int:
    offset = dt.datetime.fromtimestamp(at_ms // 1000, tz=zone).utcoffset() or dt.timedelta()
    return int(offset.total_seconds() * 1000)


def _change_between(before_ms: int, after_ms: int, zone: zoneinfo.ZoneInfo) -> int:
    """Find, to the second, when the offset of `after_ms` began."""
    wanted = _offset_at(after_ms, zone)
    low, high = before_ms // 1000, after_ms // 1000
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _offset_at(middle * 1000, zone) == wanted else (middle, high)
    return high * 1000


def _zone(time_zone: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(time_zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise EventError(
            f"time zone {time_zone!r} is not known here; it must be a name such as 'Asia/Shanghai' "
            "or 'UTC'. Mend it in the mapping, or install the `tzdata` package."
        ) from None
