"""A folder in Skipwise's own form is read back as it was written."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ibis.backends.duckdb import Backend

from skipwise.errors import EventError
from skipwise.events.read import read_log
from skipwise.events.schema import EVENT_SCHEMA, ExtraColumn
from tests.events.kuairand_logs import MIDDAY_MS

EVENT = {
    "viewer_id": "a",
    "video_id": "v",
    "day": 19_107,
    "shown_at_ms": MIDDAY_MS,
    "watch_ms": 4000,
    "duration_ms": None,
    "surface": "feed",
    "request_id": "r1",
    "position": 3,
    "liked": True,
    "followed": False,
    "commented": None,
    "shared": None,
    "disliked": False,
    "clicked": None,
    "long_viewed": None,
    "policy": "random",
    "propensity": 0.25,
    "variant": "b",
    "source_order": 0,
}
DESCRIPTION = {
    "name": "made",
    "time_zone": "Asia/Shanghai",
    "viewer_extras": [],
    "video_extras": [{"name": "loudness", "kind": "numeric"}],
}


def write(folder: Path, events: list[dict[str, object]], description: object = None) -> Path:
    pq.write_table(
        pa.Table.from_pylist(events, schema=EVENT_SCHEMA.to_pyarrow()), folder / "events.parquet"
    )
    videos = [{"video_id": "v", "author_id": "m", "topics": ["x", "y"], "loudness": 0.5}]
    pq.write_table(pa.Table.from_pylist(videos), folder / "videos.parquet")
    text = json.dumps(description or DESCRIPTION)
    (folder / "source.json").write_text(text)
    return folder


def test_what_was_written_is_read_back(tmp_path: Path, connection: Backend) -> None:
    events = [EVENT, EVENT | {"video_id": "w", "source_order": 1, "shown_at_ms": MIDDAY_MS + 1}]
    log = read_log(write(tmp_path, events), connection)
    assert connection.to_pyarrow(log.events.order_by("source_order")).to_pylist() == events
    assert log.description.name == "made"
    assert log.description.glance_needs_duration is True
    assert log.description.video_extras == (ExtraColumn("loudness", "numeric"),)
    videos = connection.to_pyarrow(log.videos.order_by("video_id")).to_pylist()
    assert [(row["video_id"], row["topics"], row["loudness"]) for row in videos] == [
        ("v", ["x", "y"], 0.5),
        ("w", [], None),
    ]


@pytest.mark.parametrize("rule", [True, False])
def test_the_rule_of_a_glance_is_read_back(
    tmp_path: Path, connection: Backend, *, rule: bool
) -> None:
    folder = write(tmp_path, [EVENT], {**DESCRIPTION, "glance_needs_duration": rule})
    assert read_log(folder, connection).description.glance_needs_duration is rule


def test_untimed_rows_are_past_events_and_not_refused(tmp_path: Path, connection: Backend) -> None:
    past = EVENT | {"day": None, "shown_at_ms": None, "watch_ms": None}
    log = read_log(write(tmp_path, [past, EVENT]), connection)
    assert log.refusals == ()
    days = connection.to_pyarrow(log.events.order_by("source_order").select("day")).to_pydict()
    assert days == {"day": [None, 19_107]}


def test_the_source_may_be_named(tmp_path: Path, connection: Backend) -> None:
    folder = write(tmp_path, [EVENT])
    assert read_log(folder, connection, source="skipwise").num_rows_read == 1
    with pytest.raises(EventError, match="not a kuairand folder"):
        read_log(folder, connection, source="kuairand")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "does not say the time zone"),
        ('{"time_zone": "UTC", "glance_needs_duration": "no"}', "is 'no', must be true or false"),
        ('{"time_zone": "Mars"}', "time_zone = 'Mars' is not known"),
        ('{"time_zone": "UTC", "video_extras": ["loudness"]}', "video_extras in .* cannot be read"),
        (
            '{"time_zone": "UTC", "video_extras": [{"name": "quietness", "kind": "numeric"}]}',
            "has no column 'quietness'",
        ),
    ],
)
def test_a_wrong_description_is_refused(
    tmp_path: Path, connection: Backend, text: str, message: str
) -> None:
    folder = write(tmp_path, [EVENT])
    (folder / "source.json").write_text(text)
    with pytest.raises(EventError, match=message):
        read_log(folder, connection)


def test_a_missing_description_is_refused(tmp_path: Path, connection: Backend) -> None:
    folder = write(tmp_path, [EVENT])
    (folder / "source.json").unlink()
    with pytest.raises(EventError, match=r"source.json does not exist; it must say the time zone"):
        read_log(folder, connection)


def test_two_extras_of_one_name_are_refused(tmp_path: Path, connection: Backend) -> None:
    twice = {**DESCRIPTION, "video_extras": DESCRIPTION["video_extras"] * 2}  # type: ignore[operator]
    with pytest.raises(EventError, match="'loudness' is declared twice"):
        read_log(write(tmp_path, [EVENT], twice), connection)
