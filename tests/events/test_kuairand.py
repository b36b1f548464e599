"""KuaiRand's archives, as published, become canonical tables."""

from pathlib import Path

import ibis
import pytest
from ibis.backends.duckdb import Backend

from skipwise.errors import EventError
from skipwise.events.read import EventLog, read_log
from tests.events.kuairand_logs import MIDDAY_MS, WriteLog, good_rows, log_row

VIDEO_HEADER = (
    "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,"
    "server_width,server_height,music_id,music_type,tag"
)
VIDEO = '70,900,NORMAL,2022-04-10,Web,0.0,20000.0,720,1280,5,9.0,"39,6"'


def column(log: EventLog, name: str, connection: Backend) -> list[object]:
    values: list[object] = connection.to_pyarrow(
        log.events.order_by("source_order").select(name)
    ).to_pydict()[name]
    return values


def test_standard_and_random_logs_are_read_together(
    write_log: WriteLog, connection: Backend
) -> None:
    write_log([log_row(is_rand=1)] * 2, name="log_random_4_22_to_5_08_1k.csv")
    write_log([log_row()] * 3, name="log_standard_4_08_to_4_21_1k.csv")
    folder = write_log([log_row()] * 4, name="log_standard_4_22_to_5_08_1k.csv")
    log = read_log(folder, connection)
    assert column(log, "policy", connection) == ["random"] * 2 + ["served"] * 7
    assert column(log, "source_order", connection) == list(range(9))


def test_the_parts_of_27k_are_read_in_their_order(write_log: WriteLog, connection: Backend) -> None:
    for part in (10, 2, 1):
        name = f"log_standard_4_08_to_4_21_27k_part{part}.csv"
        folder = write_log([log_row(tab=part)] * 2, name=name)
    log = read_log(folder, connection)
    assert column(log, "surface", connection) == ["1", "1", "2", "2", "10", "10"]


def test_the_data_folder_itself_may_be_given(write_log: WriteLog, connection: Backend) -> None:
    folder = write_log(good_rows(4))
    assert read_log(folder / "data", connection).num_rows_read == 4


def test_missing_tables_are_noted_and_made_of_the_ids_in_the_log(
    write_log: WriteLog, connection: Backend
) -> None:
    log = read_log(write_log([log_row(), log_row(user_id=8)]), connection)
    videos = connection.to_pyarrow(log.videos).to_pylist()
    viewers = connection.to_pyarrow(log.viewers).to_pydict()["viewer_id"]
    assert [(video["video_id"], video["author_id"], video["topics"]) for video in videos] == [
        ("70", None, [])
    ]
    assert sorted(viewers) == ["7", "8"]
    notes = {note.what: note.count for note in log.notes}
    assert notes["videos, without a video table, known by their id alone"] == 1
    assert notes["viewers, without a viewer table, known by their id alone"] == 2


def test_a_video_has_author_topics_length_upload_time_and_extras(
    write_log: WriteLog, connection: Backend
) -> None:
    folder = write_log([log_row()])
    (folder / "data" / "video_features_basic_pure.csv").write_text(f"{VIDEO_HEADER}\n{VIDEO}\n")
    log = read_log(folder, connection)
    assert connection.to_pyarrow(log.videos).to_pylist() == [
        {
            "video_id": "70",
            "author_id": "900",
            "topics": ["39", "6"],
            "duration_ms": 20_000,
            "uploaded_at_ms": 1_649_520_000_000,  # 2022-04-10 00:00 in Shanghai
            "video_type": "NORMAL",
            "upload_type": "Web",
            "music_type": "9.0",
            "visible_status": "0.0",
        }
    ]


def test_catalogue_quirks_are_noted(write_log: WriteLog, connection: Backend) -> None:
    folder = write_log([log_row(), log_row(video_id=71)])
    rows = [VIDEO, VIDEO.replace("900", "901"), VIDEO.replace("70,900", "72,902")]
    rows += [VIDEO.replace("70,900", f"{video},5") for video in range(100, 110)]
    rows += [VIDEO.replace("70,900", "99,5").replace("2022-04-10", "soon").replace("20000.0", "0")]
    text = "\n".join([VIDEO_HEADER, *rows])
    (folder / "data" / "video_features_basic_pure.csv").write_text(text)
    log = read_log(folder, connection)
    videos = {row["video_id"]: row for row in connection.to_pyarrow(log.videos).to_pylist()}
    assert len(videos) == 14
    assert videos["70"]["author_id"] == "900"  # the first of two
    assert (videos["99"]["uploaded_at_ms"], videos["99"]["duration_ms"]) == (None, None)
    notes = {note.what: note.count for note in log.notes}
    assert notes["rows of the video table whose id stood before, left out"] == 1
    assert notes["videos that are not in the video table, known by their id alone"] == 1
    assert notes["durations of 0 or less in the video table, read as unknown"] == 1
    assert notes["values of upload_dt in the video table that cannot be read, unknown"] == 1


def test_a_mistyped_catalogue_column_is_refused(write_log: WriteLog, connection: Backend) -> None:
    folder = write_log([log_row()])
    text = f"{VIDEO_HEADER}\n{VIDEO.replace('20000.0', 'long')}\n"
    (folder / "data" / "video_features_basic_pure.csv").write_text(text)
    with pytest.raises(EventError, match="video_duration of the video table cannot be read in 1"):
        read_log(folder, connection)


def test_a_catalogue_row_without_id_is_refused(write_log: WriteLog, connection: Backend) -> None:
    folder = write_log([log_row()])
    rows = [VIDEO.replace("70,", f"{video},", 1) for video in range(200)]
    rows[7] = rows[7].replace("7,", ",", 1)
    text = "\n".join([VIDEO_HEADER, *rows])
    (folder / "data" / "video_features_basic_pure.csv").write_text(text)
    (refusal,) = read_log(folder, connection).refusals
    assert (refusal.reason, refusal.count, refusal.line) == ("video_id is missing", 1, 9)


def test_viewer_features_are_categories_and_numbers(
    write_log: WriteLog, connection: Backend
) -> None:
    folder = write_log([log_row(), log_row(user_id=8)])
    text = "user_id,user_active_degree,is_live_streamer,register_days\n7,UNKNOWN,-124,799\n"
    (folder / "data" / "user_features_pure.csv").write_text(text)
    log = read_log(folder, connection)
    viewers = {row["viewer_id"]: row for row in connection.to_pyarrow(log.viewers).to_pylist()}
    assert viewers["7"]["user_active_degree"] == "UNKNOWN"
    assert viewers["7"]["is_live_streamer"] == "-124"
    assert viewers["7"]["register_days"] == 799.0
    assert viewers["8"]["register_days"] is None
    absent = [note.what for note in log.notes if note.what.startswith("column onehot_feat0 ")]
    assert absent == ["column onehot_feat0 is not in the viewer table, unknown in all rows"]


def test_a_history_comes_before_the_log_oldest_first(
    write_log: WriteLog, connection: Backend
) -> None:
    folder = write_log([log_row(user_id=9), log_row(user_id=7)])
    history = ibis.memtable(
        {
            "user_id": [7, 7, 9, 7],
            "seq_from_end": [0, 2, 0, 1],
            "video_id": [30, 10, 40, 20],
            "long_view": [1, 0, None, 1],
            "is_like": [0, 0, 1, None],
        }
    )
    connection.to_parquet(history, folder / "history_last50.parquet")
    log = read_log(folder, connection)
    rows = connection.to_pyarrow(log.events.order_by("source_order")).to_pylist()
    told = [(row["viewer_id"], row["video_id"], row["long_viewed"], row["liked"]) for row in rows]
    assert [row for row in told if row[0] == "7"] == [
        ("7", "10", False, False),
        ("7", "20", True, None),
        ("7", "30", True, False),
        ("7", "70", False, False),
    ]
    past, timed = rows[:4], rows[4:]
    assert {(row["day"], row["shown_at_ms"], row["watch_ms"]) for row in past} == {(None,) * 3}
    assert {row["shown_at_ms"] for row in timed} == {MIDDAY_MS}
    assert ("past events without a time, placed before all others", 4) in [
        (note.what, note.count) for note in log.notes
    ]


@pytest.mark.parametrize("num_threads", [1, 4])
def test_rows_keep_their_numbers_over_many_blocks(write_log: WriteLog, num_threads: int) -> None:
    """A file of several read buffers: a row's number must not depend on who read it first."""
    num_rows, bad = 300_000, 271_828
    rows = [log_row(time_ms=MIDDAY_MS + row) for row in range(num_rows)]
    rows[bad] = log_row(play_time_ms="abc")
    connection = ibis.duckdb.connect(threads=num_threads)
    log = read_log(write_log(rows), connection)
    assert [refusal.line for refusal in log.refusals] == [bad + 2]
    wrong = log.events.filter(log.events.shown_at_ms != MIDDAY_MS + log.events.source_order)
    assert connection.to_pyarrow(wrong.count()).as_py() == 0
    connection.disconnect()


@pytest.mark.kuairand
def test_the_real_rows_are_read_whole(kuairand_pure: Path, connection: Backend) -> None:
    log = read_log(kuairand_pure, connection)
    events = log.events
    timed = events.filter(events.shown_at_ms.notnull())
    counts = timed.group_by("day").agg(num_rows=timed.count()).order_by("day")
    assert connection.to_pyarrow(counts).to_pydict()["num_rows"] == [
        *(14_911, 14_530, 14_328, 13_972, 15_839, 21_204, 20_790, 19_554, 18_943)
    ]
    found = connection.to_pyarrow(
        events.agg(
            timed=events.shown_at_ms.count(),
            untimed=events.shown_at_ms.isnull().sum(),
            unknown=(events.duration_ms.isnull() & events.shown_at_ms.notnull()).sum(),
            last_untimed=events.source_order.max(where=events.shown_at_ms.isnull()),
            first_timed=events.source_order.min(where=events.shown_at_ms.notnull()),
            places=events.source_order.nunique(),
        )
    ).to_pylist()
    assert found == [
        {
            "timed": 154_071,
            "untimed": 817_187,
            "unknown": 2_485,
            "last_untimed": 817_186,
            "first_timed": 817_187,
            "places": 154_071 + 817_187,
        }
    ]
    assert (log.refusals, log.num_rows_read) == ((), 971_258)
    assert {note.what.split(",")[0]: note.count for note in log.notes}["durations of 0"] == 2_485
    assert connection.to_pyarrow(log.videos.count()).as_py() == 7_583
    assert connection.to_pyarrow(log.viewers.count()).as_py() == 27_285
