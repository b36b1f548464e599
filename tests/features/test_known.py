"""Each event is known when its watch is over, asked when its slate was, on the local day."""

import datetime as dt
import zoneinfo

import ibis
import pyarrow as pa
import pytest
from ibis.backends.duckdb import Backend as Connection

from skipwise.errors import EventError
from skipwise.features.known import (
    UNTIMED_MS,
    add_known_times,
    clock_day,
    clock_day_of,
    zone_offsets,
)
from tests.features.small_logs import DAY_MS, FIRST_DAY, HOUR_MS, Told, small_log, table_of

START_MS = FIRST_DAY * DAY_MS


@pytest.fixture(scope="module")
def connection() -> Connection:
    return ibis.duckdb.connect(threads=1)


def times(
    connection: Connection, events: list[Told], delay_ms: int = 0, zone: str = "UTC"
) -> list[dict[str, int]]:
    log = small_log(connection, events)
    table = add_known_times(
        log.events, zone, FIRST_DAY, (START_MS, START_MS + 9 * DAY_MS), delay_ms
    )
    rows: list[dict[str, int]] = table.order_by("source_order").to_pyarrow().to_pylist()
    return rows


def test_an_outcome_is_known_after_the_watch_and_the_delay(connection: Connection) -> None:
    events = [
        Told(shown_s=10, watch_s=5),
        Told(shown_s=10, watch_s=0),
        Told(shown_s=10, watch_s=None),
    ]
    known = [row["known_at_ms"] - START_MS for row in times(connection, events, delay_ms=250)]
    assert known == [10_000 + 5_000 + 250, 10_000 + 1 + 250, 10_000 + 1 + 250]


def test_a_request_is_as_old_as_its_first_video_and_one_viewers_only(
    connection: Connection,
) -> None:
    events = [
        Told(shown_s=30, request_id="r"),
        Told(shown_s=20, request_id="r"),
        Told(shown_s=5, request_id="r", viewer_id="bob"),
        Told(shown_s=40),
    ]
    rows = times(connection, events)
    assert [row["requested_at_ms"] - START_MS for row in rows] == [20_000, 20_000, 5_000, 40_000]
    assert [row["request"] for row in rows] == [0, 0, 2, -1]


def test_a_watch_over_midnight_is_known_on_the_next_day(connection: Connection) -> None:
    late = 24 * 3600 - 2
    before, after = times(
        connection, [Told(shown_s=late, watch_s=1), Told(shown_s=late, watch_s=2)]
    )
    assert (before["day"], before["known_day"]) == (FIRST_DAY, FIRST_DAY)
    assert (after["day"], after["known_day"]) == (FIRST_DAY, FIRST_DAY + 1)
    assert before["asked_clock_day"] == after["asked_clock_day"] == FIRST_DAY


def test_a_source_whose_day_runs_ahead_is_believed(connection: Connection) -> None:
    log = small_log(connection, [Told(shown_s=0)])
    ahead = log.events.mutate(day=(log.events.day + 1).cast("int32"))
    span = (START_MS, START_MS + DAY_MS)
    row = add_known_times(ahead, "UTC", FIRST_DAY, span, 0).to_pyarrow().to_pylist()[0]
    assert (row["known_clock_day"], row["known_day"]) == (FIRST_DAY, FIRST_DAY + 1)


def test_untimed_events_are_known_before_everything(connection: Connection) -> None:
    row = times(connection, [Told(shown_s=None, request_id="r")])[0]
    assert row["known_at_ms"] == UNTIMED_MS == -(2**63)
    assert row["requested_at_ms"] == row["hour"] == row["request"] == -1
    assert row["day"] == row["known_day"] == row["known_clock_day"] == FIRST_DAY - 1


@pytest.mark.parametrize(
    "zone", ["UTC", "Asia/Shanghai", "America/New_York", "Australia/Lord_Howe"]
)
def test_local_days_and_hours_are_those_of_the_zone_through_both_clock_changes(
    connection: Connection, zone: str
) -> None:
    start_ms = 1_640_995_200_000  # 2022-01-01 UTC
    instants = [start_ms + hour * HOUR_MS + 1_799_999 for hour in range(0, 366 * 24, 5)]
    rows = table_of(connection, pa.table({"at_ms": instants}))
    found = rows.select(
        "at_ms", day=clock_day(rows.at_ms, zone, (instants[0], instants[-1]))
    ).to_pyarrow()
    for at_ms, day in zip(found["at_ms"].to_pylist(), found["day"].to_pylist(), strict=True):
        local = dt.datetime.fromtimestamp(at_ms / 1000, tz=zoneinfo.ZoneInfo(zone))
        assert day == (local.date() - dt.date(1970, 1, 1)).days == clock_day_of(at_ms, zone)


def test_clocks_change_at_the_second_the_zone_says() -> None:
    start_ms = 1_640_995_200_000  # 2022-01-01 UTC
    to_summer = dt.datetime(2022, 3, 13, 7, tzinfo=dt.UTC)
    to_winter = dt.datetime(2022, 11, 6, 6, tzinfo=dt.UTC)
    assert zone_offsets("America/New_York", start_ms, start_ms + 365 * DAY_MS) == (
        (start_ms, -5 * HOUR_MS),
        (round(to_summer.timestamp() * 1000), -4 * HOUR_MS),
        (round(to_winter.timestamp() * 1000), -5 * HOUR_MS),
    )


def test_the_local_hour_is_that_of_the_clock_on_the_wall(connection: Connection) -> None:
    events = [Told(shown_s=0), Told(shown_s=3599.999), Told(shown_s=16 * 3600)]
    assert [row["hour"] for row in times(connection, events)] == [0, 0, 16]
    assert [row["hour"] for row in times(connection, events, zone="Asia/Shanghai")] == [8, 8, 0]


def test_days_before_1970_round_down(connection: Connection) -> None:
    rows = table_of(connection, pa.table({"at_ms": [-1, -DAY_MS, -DAY_MS - 1]}))
    days = rows.select(day=clock_day(rows.at_ms, "UTC", (-2 * DAY_MS, 0))).to_pyarrow()
    assert days["day"].to_pylist() == [-1, -1, -2]


def test_an_unknown_zone_is_refused() -> None:
    with pytest.raises(EventError, match=r"'Mars/Olympus' is not known .* Mend it"):
        clock_day_of(0, "Mars/Olympus")
