"""A summary says what a plain loop over the rows would say."""

import datetime as dt
from pathlib import Path

import numpy as np
import pytest
from ibis.backends.duckdb import Backend

from skipwise.events.read import read_log
from skipwise.events.summary import HISTOGRAM_EDGES_S, QUANTILES, summarise
from tests.events.kuairand_logs import MIDDAY_MS, WriteLog, log_row


def test_a_small_log_is_summed_up_by_hand(write_log: WriteLog, connection: Backend) -> None:
    rows = [
        log_row(user_id=1, play_time_ms=1000, is_like=1),
        log_row(user_id=1, play_time_ms=2999, tab=2),
        log_row(user_id=2, play_time_ms=3000, duration_ms=0, video_id=71),
        log_row(user_id=2, play_time_ms="", date=20220426, time_ms=MIDDAY_MS + 86_400_000),
        log_row(user_id=2, play_time_ms=60_000, is_rand=1),
    ]
    summary = summarise(read_log(write_log(rows), connection), connection)
    assert (summary.num_rows, summary.num_untimed, summary.num_rows_read) == (5, 0, 5)
    assert (summary.num_viewers, summary.num_videos, summary.num_listed_videos) == (2, 2, 2)
    assert (summary.num_authors, summary.num_topics) == (0, 0)
    assert summary.rows_per_day == ((dt.date(2022, 4, 25), 4), (dt.date(2022, 4, 26), 1))
    assert (summary.first_day, summary.last_day) == (dt.date(2022, 4, 25), dt.date(2022, 4, 26))
    assert summary.share_short == 2 / 4  # 1 s and 2.999 s of four known watch times
    assert [(of.surface, of.num_rows, of.share_short) for of in summary.surfaces] == [
        ("1", 4, 1 / 3),
        ("2", 1, 1.0),
    ]
    assert summary.watch_quantiles_s[0.5] == 2.999
    assert summary.watch_quantiles_s[0.99] == 60.0
    assert (summary.rows_per_viewer[0.5], summary.rows_per_viewer[0.95]) == (2, 3)
    assert summary.flag_shares["liked"] == 1 / 5
    assert summary.known_duration_share == 4 / 5
    assert summary.random_share == 1 / 5
    counts = dict(zip(HISTOGRAM_EDGES_S, summary.watch_histogram, strict=True))
    assert {edge: count for edge, count in counts.items() if count} == {
        1.0: 1,  # [1, 1.414)
        2.828: 2,  # [2.828, 4)
        45.255: 1,
    }


def test_an_unknown_watch_time_everywhere_gives_no_quantiles(
    write_log: WriteLog, connection: Backend
) -> None:
    summary = summarise(read_log(write_log([log_row(play_time_ms="")]), connection), connection)
    assert summary.watch_quantiles_s == {}
    assert summary.share_short is None
    assert sum(summary.watch_histogram) == 0


@pytest.mark.kuairand
def test_the_real_log_agrees_with_a_plain_count(kuairand_pure: Path, connection: Backend) -> None:
    log = read_log(kuairand_pure, connection)
    summary = summarise(log, connection)
    timed = log.events.filter(log.events.shown_at_ms.notnull()).select("watch_ms")
    watch_ms = connection.to_pyarrow(timed)["watch_ms"].to_numpy()
    expected = np.quantile(watch_ms, QUANTILES, method="inverted_cdf") / 1000
    assert list(summary.watch_quantiles_s.values()) == pytest.approx(expected)
    counted, _ = np.histogram(watch_ms, [1000 * edge for edge in HISTOGRAM_EDGES_S] + [1e12])
    assert list(summary.watch_histogram) == counted.tolist()
    assert summary.share_short == pytest.approx(float((watch_ms < 3000).mean()))
    assert summary.num_untimed == 817_187
    assert summary.num_listed_videos == 7_583
    assert {of.surface: round(of.share_short or 0, 2) for of in summary.surfaces[:2]} == {
        "1": 0.34,
        "0": 0.94,
    }
