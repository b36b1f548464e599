"""Small logs and the real one, as canonical event tables, for the tests of labels."""

from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
from hypothesis import strategies as st
from ibis.backends.duckdb import Backend as Connection

Row = dict[str, Any]

FLAGS = ("liked", "followed", "commented", "shared", "disliked", "clicked", "long_viewed")

SCHEMA = pa.schema(
    [
        ("viewer_id", pa.string()),
        ("video_id", pa.string()),
        ("day", pa.int32()),
        ("known_day", pa.int32()),
        ("shown_at_ms", pa.int64()),
        ("watch_ms", pa.int64()),
        ("duration_ms", pa.int64()),
        *((flag, pa.bool_()) for flag in FLAGS),
        ("source_order", pa.int64()),
    ]
)


def row(
    viewer_id: str, video_id: str, day: int, watch_s: float | None, **changes: int | bool | None
) -> Row:
    """One timed event of a minute-long video, its outcome known on the same day."""
    event: Row = dict.fromkeys(SCHEMA.names)
    event |= {"viewer_id": viewer_id, "video_id": video_id, "day": day, "known_day": day}
    event |= {"shown_at_ms": day * 86_400_000, "duration_ms": 60_000}
    event["watch_ms"] = None if watch_s is None else round(watch_s * 1000)
    return event | changes


def arrow_table(rows: list[Row]) -> pa.Table:
    numbered = [event | {"source_order": place} for place, event in enumerate(rows)]
    return pa.Table.from_pylist(numbered, schema=SCHEMA)


def quiet_connection() -> Connection:
    connection = ibis.duckdb.connect()
    connection.raw_sql("set threads = 1")
    return connection


def read_rows(connection: Connection, expression: Any) -> list[Row]:
    """Run an expression; rows in source order."""
    rows: list[Row] = connection.to_pyarrow(expression).to_pylist()
    order = "source_order" if "source_order" in expression.columns else "ask_id"
    return sorted(rows, key=lambda found: int(found[order]))


def random_logs() -> st.SearchStrategy[list[Row]]:
    """Logs of 3 viewers, 3 videos and 4 days, so that the same viewer meets a video again."""
    flag = st.sampled_from((None, False, True))
    event = st.fixed_dictionaries(
        {
            "viewer_id": st.sampled_from("abc"),
            "video_id": st.sampled_from("xyz"),
            "day": st.integers(10, 13),
            "late_days": st.sampled_from((0, 0, 1, 2)),
            "timed": st.sampled_from((True, True, True, False)),
            "watch_ms": st.one_of(
                st.none(),
                st.integers(0, 20_000),
                st.sampled_from((0, 2999, 3000, 5000, 18_000, 60_000, 300_000, 900_000)),
            ),
            "duration_ms": st.sampled_from((None, 2000, 11_000, 12_000, 60_000, 400_000)),
            **dict.fromkeys(FLAGS, flag),
        }
    )
    return st.lists(event.map(_finished_row), min_size=20, max_size=40)


def load_real_log(connection: Connection, folder: Path) -> Any:
    """The timed rows of KuaiRand-Pure as a table `events`."""
    file = folder / "data" / "log_standard_4_22_to_5_08_pure.csv"
    day = "(strptime(date::varchar, '%Y%m%d')::date - date '1970-01-01')::int"
    shanghai_ms = 8 * 3_600_000
    connection.raw_sql(f"""
        create or replace table events as select
            user_id::varchar as viewer_id, video_id::varchar as video_id, {day} as day,
            greatest({day}, (time_ms + play_time_ms + {shanghai_ms}) // 86400000)::int as known_day,
            time_ms as shown_at_ms, play_time_ms as watch_ms,
            nullif(duration_ms, 0) as duration_ms,
            is_like = 1 as liked, is_follow = 1 as followed, is_comment = 1 as commented,
            is_forward = 1 as shared, is_hate = 1 as disliked, is_click = 1 as clicked,
            long_view = 1 as long_viewed, row_number() over () - 1 as source_order
        from '{file}'
    """)
    return connection.table("events")


def _finished_row(drawn: Row) -> Row:
    event = dict(drawn)
    late_days, timed = event.pop("late_days"), event.pop("timed")
    event["known_day"] = event["day"] + late_days
    event["shown_at_ms"] = event["day"] * 86_400_000
    if not timed:
        event |= {"shown_at_ms": None, "watch_ms": None, "day": 9, "known_day": 9}
    return event
