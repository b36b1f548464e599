"""A log becomes canonical tables; what cannot is refused, counted and placed."""

from pathlib import Path

import ibis
import pytest
from ibis.backends.duckdb import Backend

from skipwise.errors import EventError, SettingError
from skipwise.events.read import EventLog, ReadSettings, Refusal, read_log
from skipwise.events.schema import EVENT_SCHEMA, VIDEO_SCHEMA
from tests.events.kuairand_logs import LOG_HEADER, MIDDAY_MS, WriteLog, good_rows, log_row


def rows_of(log: EventLog, connection: Backend) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = connection.to_pyarrow(
        log.events.order_by("source_order")
    ).to_pylist()
    return rows


def test_one_row_becomes_one_event(write_log: WriteLog, connection: Backend) -> None:
    folder = write_log([log_row(is_like=1, is_forward=1, is_click=1, is_rand=1, tab=4)])
    log = read_log(folder, connection)
    assert rows_of(log, connection) == [
        {
            "viewer_id": "7",
            "video_id": "70",
            "day": 19_107,  # 2022-04-25
            "shown_at_ms": MIDDAY_MS,
            "watch_ms": 4000,
            "duration_ms": 20_000,
            "surface": "4",
            "request_id": None,
            "position": None,
            "liked": True,
            "followed": False,
            "commented": False,
            "shared": True,
            "disliked": False,
            "clicked": True,
            "long_viewed": False,
            "policy": "random",
            "propensity": None,
            "variant": None,
            "source_order": 0,
        }
    ]
    assert log.events.schema() == EVENT_SCHEMA
    assert log.videos.schema().names[: len(VIDEO_SCHEMA.names)] == VIDEO_SCHEMA.names
    assert (log.refusals, log.num_rows_read) == ((), 1)


def test_only_the_rows_of_the_log_stay_where_they_were_staged(
    write_log: WriteLog, connection: Backend
) -> None:
    log = read_log(write_log(good_rows(3)), connection)
    left = set(connection.list_tables())
    tables = (log.events, log.videos, log.viewers)
    (staged,) = left - {table.get_name().rpartition(".")[2] for table in tables}
    assert connection.table(staged).count().to_pyarrow().as_py() == 3
    with pytest.raises(EventError):
        read_log(write_log([log_row(play_time_ms="abc")]), connection)
    assert set(connection.list_tables()) == left


@pytest.mark.parametrize(
    ("change", "reason", "example"),
    [
        ({"user_id": ""}, "user_id is missing", "user_id is empty"),
        ({"video_id": ""}, "video_id is missing", "video_id is empty"),
        ({"time_ms": ""}, "time_ms is missing", "time_ms is empty"),
        ({"date": ""}, "date is missing", "date is empty"),
        (
            {"play_time_ms": "abc"},
            "play_time_ms must be a number of milliseconds",
            "play_time_ms = 'abc'",
        ),
        (
            {"play_time_ms": "1e300"},
            "play_time_ms must be a number of milliseconds",
            "play_time_ms = '1e300'",
        ),
        ({"play_time_ms": -5}, "play_time_ms is negative", "play_time_ms = '-5'"),
        ({"play_time_ms": 86_400_001}, "play_time_ms is above 86400 s", None),
        ({"duration_ms": -1}, "duration_ms is negative", "duration_ms = '-1'"),
        ({"duration_ms": 86_400_001}, "duration_ms is above 86400 s", None),
        ({"is_like": 2}, "is_like must be 0 or 1", "is_like = '2'"),
        ({"date": 20221399}, "date must be a day such as 20220425", "date = '20221399'"),
        ({"time_ms": 1000}, "time_ms is outside the years 2000-2100", "time_ms = '1000'"),
    ],
)
def test_a_row_that_cannot_be_is_refused_with_its_reason_and_line(
    write_log: WriteLog,
    connection: Backend,
    change: dict[str, object],
    reason: str,
    example: str | None,
) -> None:
    rows = good_rows(300)
    rows[41] = log_row(**change)
    rows[99] = log_row(**change)
    folder = write_log(rows)
    log = read_log(folder, connection)
    (refusal,) = log.refusals
    file = str(folder / "data" / "log_standard_4_22_to_5_08_pure.csv")
    assert (refusal.reason, refusal.count, refusal.file) == (reason, 2, file)
    assert refusal.line == 1 + 41 + 1  # the header, the rows above, the row
    assert example is None or refusal.example == example
    assert len(rows_of(log, connection)) == 298
    assert log.num_rows_read == 300


@pytest.mark.parametrize("watch_ms", [0, 86_400_000])
def test_the_ends_of_the_range_are_taken(
    write_log: WriteLog, connection: Backend, watch_ms: int
) -> None:
    log = read_log(write_log([*good_rows(20), log_row(play_time_ms=watch_ms)]), connection)
    assert log.refusals == ()
    assert rows_of(log, connection)[-1]["watch_ms"] == watch_ms


def test_the_line_is_right_below_blank_broken_and_quoted_lines(
    write_log: WriteLog, connection: Backend
) -> None:
    rows = good_rows(400)
    rows[10] = ""  # a blank line
    rows[20] = "1,2,3"  # a line cut short
    rows[30] = log_row(tab='"one\ntwo"')  # a value over two lines
    rows[50] = log_row(play_time_ms="abc")
    log = read_log(write_log(rows), connection)
    found = {refusal.reason: (refusal.count, refusal.line) for refusal in log.refusals}
    assert found == {
        "the line is not UTF-8 text in the 19 columns of the header": (1, 1 + 20 + 1),
        "play_time_ms must be a number of milliseconds": (1, 1 + 50 + 1 + 1),
    }
    assert log.num_rows_read == 399
    assert len(rows_of(log, connection)) == 397


def test_a_file_cut_in_the_middle_of_a_line_loses_that_line_alone(
    write_log: WriteLog, connection: Backend
) -> None:
    folder = write_log(good_rows(200))
    file = folder / "data" / "log_standard_4_22_to_5_08_pure.csv"
    file.write_text(file.read_text()[:-30])
    log = read_log(folder, connection)
    assert [(refusal.count, refusal.line) for refusal in log.refusals] == [(1, 201)]


@pytest.mark.parametrize("column", ["tab", "hourmin", "play_time_ms"])
def test_a_line_in_another_encoding_is_refused_alone(
    write_log: WriteLog, connection: Backend, column: str
) -> None:
    rows = good_rows(300)
    rows[60], rows[80] = log_row(**{column: "café"}), log_row(play_time_ms="abc")
    folder = write_log(rows)
    file = folder / "data" / "log_standard_4_22_to_5_08_pure.csv"
    file.write_bytes(file.read_text().encode("latin-1"))
    log = read_log(folder, connection)
    assert sorted((refusal.count, refusal.line) for refusal in log.refusals) == [(1, 62), (1, 82)]


def test_lines_swallowed_by_an_open_quote_are_counted(
    write_log: WriteLog, connection: Backend
) -> None:
    rows = good_rows(2000)
    rows[1990] = log_row(tab='"1')
    log = read_log(write_log(rows), connection)
    assert [(refusal.count, refusal.line) for refusal in log.refusals] == [(10, 1992)]
    assert log.num_rows_read == 2000


@pytest.mark.parametrize("ending", ["\r\n", "\n"])
def test_files_of_other_systems_are_read(
    write_log: WriteLog, connection: Backend, ending: str
) -> None:
    """A byte order mark, and lines that end as elsewhere."""
    rows = good_rows(300)
    rows[70] = log_row(play_time_ms="abc")
    folder = write_log(rows)
    file = folder / "data" / "log_standard_4_22_to_5_08_pure.csv"
    text = "\ufeff" + file.read_text().replace("\n", ending)
    file.write_bytes(text.encode("utf-8"))
    log = read_log(folder, connection)
    assert [refusal.line for refusal in log.refusals] == [72]
    assert {row["surface"] for row in rows_of(log, connection)} == {"1"}


def test_a_header_that_cannot_be_is_refused(write_log: WriteLog, connection: Backend) -> None:
    for header, message in (
        (LOG_HEADER + ",", "has no name for column 20"),
        (LOG_HEADER + ",tab", "names the column 'tab' twice"),
        ("\x00\x01", "has no column 'user_id'"),
    ):
        with pytest.raises(EventError, match=message):
            read_log(write_log(good_rows(3), header=header), connection)


def test_too_many_refused_rows_stop_the_run_with_reason_file_and_line(
    write_log: WriteLog, connection: Backend
) -> None:
    rows = [*good_rows(98), log_row(play_time_ms=-5), log_row(play_time_ms="abc")]
    folder = write_log(rows)
    with pytest.raises(EventError) as caught:
        read_log(folder, connection)
    message = str(caught.value)
    assert "2 of 100 rows of the log (2.0%) are refused, must be at most 1.0%" in message
    assert "play_time_ms is negative: 1 row, first in" in message
    assert "pure.csv line 100 (play_time_ms = '-5')" in message
    assert "pure.csv line 101 (play_time_ms = 'abc')" in message
    assert message.endswith("add read.refused_share_at_most=0.021 to the command.")
    lenient = ReadSettings(refused_share_at_most=0.02)
    assert len(rows_of(read_log(folder, connection, settings=lenient), connection)) == 98


@pytest.mark.parametrize("share", [0.01, 1.0])
def test_a_log_of_which_no_row_is_left_is_refused_whatever_may_be(
    write_log: WriteLog, connection: Backend, share: float
) -> None:
    folder = write_log([log_row(play_time_ms=-5)] * 3)
    with pytest.raises(EventError) as caught:
        read_log(folder, connection, settings=ReadSettings(refused_share_at_most=share))
    message = str(caught.value)
    assert "3 of 3 rows of the log (100.0%) are refused, so none is left" in message
    assert "refused_share_at_most" not in message


def test_a_setting_out_of_range_is_refused() -> None:
    with pytest.raises(SettingError, match="refused_share_at_most = 2, must be >= 0 and <= 1"):
        ReadSettings(refused_share_at_most=2)


def test_a_missing_column_is_refused_with_the_nearest_name(
    write_log: WriteLog, connection: Backend
) -> None:
    folder = write_log(good_rows(3), header=LOG_HEADER.replace("play_time_ms", "playtime_ms"))
    with pytest.raises(EventError, match=r"no column 'play_time_ms'.*Did you mean 'playtime_ms'"):
        read_log(folder, connection)


def test_an_empty_log_is_refused(write_log: WriteLog, connection: Backend) -> None:
    with pytest.raises(EventError, match="holds no row; a log must hold at least one event"):
        read_log(write_log([]), connection)


def test_a_file_without_even_a_header_is_refused(write_log: WriteLog, connection: Backend) -> None:
    folder = write_log([])
    (folder / "data" / "log_standard_4_22_to_5_08_pure.csv").write_text("")
    with pytest.raises(EventError, match="is empty; the log must begin with a line of column"):
        read_log(folder, connection)


def test_one_file_needs_a_mapping(tmp_path: Path, connection: Backend) -> None:
    (tmp_path / "log.csv").write_text("who,what\n1,2\n")
    with pytest.raises(EventError, match=r"log.csv is a file.*must come with a mapping"):
        read_log(tmp_path / "log.csv", connection)


def test_a_missing_path_is_refused(tmp_path: Path, connection: Backend) -> None:
    with pytest.raises(EventError, match="does not exist; it must be the folder"):
        read_log(tmp_path / "nowhere", connection)


def test_a_folder_of_no_known_source_says_what_was_looked_for(
    tmp_path: Path, connection: Backend
) -> None:
    with pytest.raises(EventError) as caught:
        read_log(tmp_path, connection)
    message = str(caught.value)
    assert "log_*.csv" in message
    assert "events.parquet" in message
    assert "--mapping" in message
    with pytest.raises(EventError, match="not a kuairand folder"):
        read_log(tmp_path, connection, source="kuairand")


def test_an_unknown_source_is_refused_with_the_nearest(tmp_path: Path, connection: Backend) -> None:
    with pytest.raises(SettingError, match="Did you mean 'kuairand'"):
        read_log(tmp_path, connection, source="kuairan")


def test_a_mapping_source_needs_a_mapping_and_no_other_source_takes_one(
    tmp_path: Path, connection: Backend
) -> None:
    with pytest.raises(EventError, match="without a mapping file"):
        read_log(tmp_path, connection, source="mapping")
    with pytest.raises(EventError, match="must be one of the two"):
        read_log(tmp_path, connection, source="kuairand", mapping=tmp_path / "map.toml")


def test_duplicates_and_rows_out_of_order_are_kept_and_counted(
    write_log: WriteLog, connection: Backend
) -> None:
    rows = good_rows(20)
    rows += [rows[3], rows[3], log_row(user_id=4, time_ms=MIDDAY_MS - 1)]
    log = read_log(write_log(rows), connection)
    notes = {note.what.split(" (")[0].split(" than")[0]: note.count for note in log.notes}
    assert notes["exact duplicates"] == 2
    assert notes["rows earlier"] == 2  # the first copy, for viewer 3, and the last row
    assert [row["source_order"] for row in rows_of(log, connection)] == list(range(23))


def test_order_is_judged_within_a_file(write_log: WriteLog, connection: Backend) -> None:
    """The random log is of later days than the first standard log, and is read before it."""
    write_log([log_row(time_ms=MIDDAY_MS + 1)], name="log_random.csv")
    log = read_log(write_log([log_row()], name="log_standard.csv"), connection)
    assert not [note for note in log.notes if "earlier" in note.what]


def test_an_orderly_log_has_no_such_notes(write_log: WriteLog, connection: Backend) -> None:
    log = read_log(write_log(good_rows(20)), connection)
    whats = " ".join(note.what for note in log.notes)
    assert "duplicates" not in whats
    assert "earlier" not in whats


def test_quirks_are_noted(write_log: WriteLog, connection: Backend) -> None:
    rows = [
        *good_rows(30),
        log_row(duration_ms=0),
        log_row(duration_ms=""),
        log_row(duration_ms=""),
        log_row(play_time_ms=20_001),
        log_row(play_time_ms=20_000),  # exactly the duration: no replay
        log_row(date=20220426),
        log_row(date=20220424),
        log_row(date=20220424),
        log_row(play_time_ms=""),
    ]
    log = read_log(write_log(rows), connection)
    notes = [(note.what.split(",")[0], note.count) for note in log.notes]
    assert ("durations of 0", 1) in notes
    assert ("durations absent", 2) in notes
    assert ("watch times above the duration (replays)", 1) in notes
    assert ("watch times absent", 1) in notes
    assert ("rows whose calendar day is ahead of their clock", 1) in notes
    assert ("rows whose calendar day is behind their clock", 2) in notes
    assert [row["duration_ms"] for row in rows_of(log, connection)][30:33] == [None] * 3


def test_the_day_follows_the_clock_of_the_sources_zone(
    write_log: WriteLog, connection: Backend
) -> None:
    before = log_row(time_ms=1_650_815_999_999)  # 2022-04-24 23:59:59.999 in Shanghai
    midnight = log_row(time_ms=1_650_816_000_000)
    log = read_log(write_log([before, midnight]), connection)
    ahead = [note.count for note in log.notes if "ahead" in note.what]
    assert ahead == [1]  # the first row alone: its date says the 25th


def test_a_log_of_one_viewer_is_read(write_log: WriteLog, connection: Backend) -> None:
    log = read_log(write_log([log_row()]), connection)
    assert connection.to_pyarrow(log.viewers).to_pylist()[0]["viewer_id"] == "7"


def test_a_refusal_names_row_and_not_line_in_parquet(tmp_path: Path, connection: Backend) -> None:
    rows = ibis.memtable(
        {
            "viewer_id": ["a"] * 100 + [None],
            "video_id": ["v"] * 101,
            "shown_at_ms": [MIDDAY_MS] * 101,
            "watch_ms": [5000] * 101,
        },
        schema={
            "viewer_id": "string",
            "video_id": "string",
            "shown_at_ms": "int64",
            "watch_ms": "int64",
        },
    )
    connection.to_parquet(rows, tmp_path / "events.parquet")
    (tmp_path / "source.json").write_text('{"time_zone": "UTC"}')
    log = read_log(tmp_path, connection)
    assert log.refusals == (
        Refusal(
            "viewer_id is missing",
            1,
            str(tmp_path / "events.parquet"),
            101,
            "viewer_id is empty",
        ),
    )
