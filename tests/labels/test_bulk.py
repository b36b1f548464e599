import itertools
import math
from operator import itemgetter

import ibis
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from skipwise.labels.bulk import label_events, thresholds_as_of
from skipwise.labels.feedback import Feedback
from skipwise.labels.grid import BIN_WIDTH_S, GRID_S
from skipwise.labels.watch import LabelConfig, duration_bucket, glance
from tests.labels.compared import THRESHOLDS, assert_bulk_equals_live, assert_close
from tests.labels.label_logs import (
    Row,
    arrow_table,
    quiet_connection,
    random_logs,
    read_rows,
    row,
)

CONFIG = LabelConfig(shrinkage_views=3)


class Labeller:
    """Labels small logs, with the expression compiled once."""

    def __init__(self) -> None:
        self.connection = quiet_connection()
        self.connection.create_table("events", arrow_table([]))
        labelled = label_events(self.connection.table("events"), CONFIG)
        self._query = self.connection.compile(labelled)

    def __call__(self, rows: list[Row]) -> list[Row]:
        self.connection.create_table("events", arrow_table(rows), overwrite=True)
        found: list[Row] = self.connection.raw_sql(self._query).fetch_arrow_table().to_pylist()
        return sorted(found, key=lambda labelled: labelled["source_order"])


@pytest.fixture(scope="module")
def label() -> Labeller:
    return Labeller()


def test_thresholds_are_the_arithmetic_of_the_days_before(label: Labeller) -> None:
    """x: one watch at 4.25 s (bin [4, 4.5)); the bucket: that and one of y at [10, 12)."""
    log = [row("b", "x", 10, 4.2), row("c", "y", 10, 11.0), row("a", "x", 11, 5.0)]
    asked = label(log)[-1]
    bucket_median_s = 4 + (0.5 * 2 - 0) * 0.5 / 1
    assert asked["effective_above_s"] == (1 * 4.25 + 3 * bucket_median_s) / (1 + 3)
    bucket_finished_s = 10 + (0.6 * 2 - 1) * 2 / 1
    video_finished_s = 4 + 0.6 * 0.5
    assert asked["finished_above_s"] == (1 * video_finished_s + 3 * bucket_finished_s) / 4
    assert (asked["label_effective"], asked["label_finished"]) == (1, 0)
    assert asked["watch_rank"] == 1 / 2
    assert asked["feedback"] == Feedback.EFFECTIVE


def test_the_first_day_has_no_thresholds_and_guesses_nothing(label: Labeller) -> None:
    first = label([row("a", "x", 10, 50.0), row("b", "x", 10, 1.0)])
    for labelled in first:
        assert labelled["effective_above_s"] is None
        assert labelled["watch_rank"] is None
        assert labelled["label_effective"] == labelled["label_finished"] == -1
    assert [labelled["feedback"] for labelled in first] == [Feedback.LONG, Feedback.GLANCE]


def test_an_outcome_that_came_late_counts_late(label: Labeller) -> None:
    log = [row("b", "x", 10, 4.2, known_day=11), *(row("a", "x", day, 5.0) for day in (11, 12))]
    assert [labelled["effective_above_s"] is None for labelled in label(log)] == [True, True, False]


def test_own_views_do_not_count(label: Labeller) -> None:
    """However long a watched x before, her own threshold for x moves by the bucket's part alone."""
    others = [row("b", "x", 10, 4.2), row("c", "z", 10, 4.2, duration_ms=5000)]
    asks = [row("a", "x", 12, 5.0), row("d", "x", 12, 5.0)]
    seen = [row("a", "x", 10, 250.0), row("a", "x", 11, 250.0)]
    without, found = label(others + asks), label(others + seen + asks)
    bucket_s = 240 + (0.5 * 3 - 1) * 60 / 2
    assert without[-2]["effective_above_s"] == without[-1]["effective_above_s"] == 4.25
    assert found[-2]["effective_above_s"] == (1 * 4.25 + 3 * bucket_s) / (1 + 3)
    assert found[-1]["effective_above_s"] == (3 * bucket_s + 3 * bucket_s) / (3 + 3)


def test_counts_hold_on_the_very_day_that_adds_to_them(label: Labeller) -> None:
    log = [row("b", "x", 10, 4.2), row("c", "x", 11, 4.2), row("a", "x", 11, 5.0)]
    assert label(log)[-1]["effective_above_s"] == 4.25


def test_a_rank_is_linear_inside_its_bin(label: Labeller) -> None:
    log = [row("b", "x", 10, 4.2), row("c", "y", 10, 11.0), row("a", "x", 11, 4.25)]
    assert label(log)[-1]["watch_rank"] == (0 + 1 * (4.25 - 4) / 0.5) / 2


def test_own_views_of_the_day_itself_are_not_taken_out_twice(label: Labeller) -> None:
    """They are not in yet: x still has b's one watch, against a bucket of that and one of 90 s."""
    log = [row("b", "x", 10, 4.2), row("c", "y", 10, 90.0), row("a", "x", 11, 4.2)]
    bucket_s = 4 + (0.5 * 2 - 0) * 0.5 / 1
    assert label(log)[-1]["effective_above_s"] == (1 * 4.25 + 3 * bucket_s) / (1 + 3)


def test_a_video_seen_by_the_asker_alone_falls_back_to_the_bucket(label: Labeller) -> None:
    log = [row("a", "x", 10, 250.0), row("b", "y", 10, 4.2), row("a", "x", 11, 5.0)]
    assert label(log)[-1]["effective_above_s"] == 4 + (0.5 * 2 - 0) * 0.5 / 1


def test_untimed_rows_say_what_their_flags_say_and_nothing_else(label: Labeller) -> None:
    log = [
        row("a", "x", 9, None, shown_at_ms=None, long_viewed=True, liked=False),
        row("a", "y", 9, None, shown_at_ms=None, long_viewed=False, liked=True),
        row("a", "z", 9, None, shown_at_ms=None, long_viewed=False),
        row("b", "x", 10, 5.0),
    ]
    states = [Feedback(labelled["feedback"]).name for labelled in label(log)]
    assert states == ["LONG", "LIKED", "UNKNOWN", "PARTIAL"]
    assert [labelled["label_long"] for labelled in label(log)] == [1, 0, 0, 0]
    assert [labelled["label_glance"] for labelled in label(log)] == [-1, -1, -1, 0]
    assert label(log)[-1]["effective_above_s"] is None  # no watch time, nothing learnt


def test_an_unknown_duration_masks_what_needs_it(label: Labeller) -> None:
    log = [row("b", "x", 10, 4.2), row("a", "x", 11, 1.0, duration_ms=None)]
    asked = label(log)[-1]
    assert asked["duration_bucket"] == 0
    assert asked["duration_s"] is asked["effective_above_s"] is asked["watch_rank"] is None
    masked = ("glance", "effective", "long", "finished", "complete")
    assert {asked[f"label_{name}"] for name in masked} == {-1}
    assert asked["feedback"] == Feedback.PARTIAL


def test_an_unknown_duration_may_be_read_as_no_glance_in_bulk_and_one_by_one_alike() -> None:
    config = LabelConfig(glance_needs_duration=False)
    log = [row("a", "x", 10, 1.0, duration_ms=None), row("a", "y", 10, 1.0)]
    connection = quiet_connection()
    events = connection.create_table("events", arrow_table(log))
    labelled = read_rows(connection, label_events(events, config))
    in_bulk = [found["label_glance"] for found in sorted(labelled, key=itemgetter("source_order"))]
    one_by_one = glance(np.array([1.0, 1.0]), np.array([np.nan, 60.0]), config)
    assert in_bulk == one_by_one.tolist() == [0, 1]


def test_a_flag_the_log_lacks_is_masked_and_other_columns_stay() -> None:
    connection = quiet_connection()
    table = arrow_table([row("a", "x", 10, 5.0, liked=True, clicked=True)])
    table = table.drop_columns(["clicked", "long_viewed"]).append_column("mood", [["sunny"]])
    events = connection.create_table("events", table)
    (labelled,) = read_rows(connection, label_events(events, CONFIG))
    assert (labelled["label_like"], labelled["label_click"]) == (1, -1)
    assert labelled["label_long"] == 0
    assert labelled["mood"] == "sunny"
    assert set(table.column_names) < set(labelled)


def test_videos_of_unknown_duration_are_no_bucket(label: Labeller) -> None:
    log = [row(viewer, "x", day, 4.2, duration_ms=None) for viewer, day in (("b", 10), ("a", 11))]
    asked = label(log)[-1]
    assert asked["effective_above_s"] is asked["watch_rank"] is None


@given(log=random_logs())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_small_logs_agree_with_plain_loops_and_with_one_by_one(
    label: Labeller, log: list[Row]
) -> None:
    found = label(log)
    assert len(found) == len(log)
    for event, labelled in zip(log, found, strict=True):
        if event["shown_at_ms"] is not None:
            for column, p in zip(THRESHOLDS, (0.5, 0.6), strict=True):
                assert_close(labelled[column], looped_threshold(log, event, p))
            assert_close(labelled["watch_rank"], looped_rank(log, event))
    assert_bulk_equals_live(found, CONFIG, range(len(log)))


@given(log=random_logs())
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_future_cannot_change_the_past(label: Labeller, log: list[Row]) -> None:
    """Other watches from day 12 on leave everything before alone, and day 12's thresholds."""
    later = [event | {"watch_ms": (event["watch_ms"] or 0) + 7000} for event in log]
    edited = [new if new["day"] >= 12 else old for old, new in zip(log, later, strict=True)]
    before, after = label(log), label(edited)
    for old, new in zip(before, after, strict=True):
        if old["day"] < 12:
            assert old == new
        if old["day"] == 12:
            assert [old[name] for name in THRESHOLDS] == [new[name] for name in THRESHOLDS]


def test_and_the_edit_of_the_future_is_seen_later(label: Labeller) -> None:
    log = [row("b", "x", 10, 4.2), row("c", "x", 12, 4.2), row("a", "x", 13, 5.0)]
    edited = [*log[:1], row("c", "x", 12, 99.0), *log[2:]]
    assert label(log)[-1]["effective_above_s"] < label(edited)[-1]["effective_above_s"]


def test_a_frozen_state_answers_as_of_its_own_day() -> None:
    """Day 12's event, asked as of day 11, gets what an event of day 11 gets."""
    connection = quiet_connection()
    log = [row("b", "x", 10, 4.2), row("c", "x", 11, 99.0), row("a", "x", 11, 5.0)]
    events = connection.create_table("events", arrow_table([*log, row("a", "x", 12, 5.0)]))
    labelled = label_events(events, CONFIG)
    asks = labelled.select("viewer_id", "video_id", "duration_bucket", ask_id="source_order")
    frozen = thresholds_as_of(events, asks.mutate(state_day=ibis.literal(11, "int32")), CONFIG)
    daily = read_rows(connection, labelled)
    answers = read_rows(connection, frozen)
    assert [answer["ask_id"] for answer in answers] == [0, 1, 2, 3]
    assert answers[3]["effective_above_s"] == daily[2]["effective_above_s"] == 4.25
    assert daily[3]["effective_above_s"] != 4.25


def test_another_engine_gives_the_same_bits(label: Labeller) -> None:
    """SQLite runs the same expressions: nothing in them is DuckDB's own."""
    rng = np.random.default_rng(7)
    log = [
        row(viewer, video, int(day), float(watch_s), known_day=int(day + late))
        for viewer, video, day, watch_s, late in zip(
            rng.choice(list("abc"), 60),
            rng.choice(list("xyz"), 60),
            rng.integers(10, 15, 60),
            rng.exponential(9, 60).round(3),
            rng.integers(0, 2, 60),
            strict=True,
        )
    ]
    sqlite = ibis.sqlite.connect()
    events = sqlite.create_table("events", arrow_table(log))
    found = sqlite.to_pyarrow(label_events(events, CONFIG)).to_pylist()
    assert sorted(found, key=lambda labelled: labelled["source_order"]) == label(log)
    assert any(labelled["effective_above_s"] for labelled in found)


def looped_threshold(log: list[Row], asked: Row, p: float) -> float:
    """Work a threshold out from docs/model.md, one event after the other."""
    bucket = bucket_of(asked)
    earlier = [
        event
        for event in log
        if event["watch_ms"] is not None and event["known_day"] < asked["day"]
    ]
    of_bucket = [event["watch_ms"] / 1000 for event in earlier if bucket_of(event) == bucket]
    of_video = [
        event["watch_ms"] / 1000
        for event in earlier
        if event["video_id"] == asked["video_id"] and event["viewer_id"] != asked["viewer_id"]
    ]
    if bucket == 0 or not of_bucket:
        return math.nan
    n, n0 = len(of_video), CONFIG.shrinkage_views
    video_part = n * looped_quantile(of_video, p) if n else 0.0
    return (video_part + n0 * looped_quantile(of_bucket, p)) / (n + n0)


def looped_quantile(watches_s: list[float], p: float) -> float:
    below = 0
    for left_s, right_s in itertools.pairwise((*GRID_S, math.inf)):
        inside = sum(left_s <= watch_s < right_s for watch_s in watches_s)
        if inside and below + inside >= p * len(watches_s):
            width_s = right_s - left_s if right_s < math.inf else 0.0
            return left_s + (p * len(watches_s) - below) / inside * width_s
        below += inside
    raise AssertionError("a quantile of nothing was asked for")


def looped_rank(log: list[Row], asked: Row) -> float:
    bucket = bucket_of(asked)
    others_s = [
        event["watch_ms"] / 1000
        for event in log
        if event["watch_ms"] is not None
        and event["known_day"] < asked["day"]
        and bucket_of(event) == bucket
    ]
    if asked["watch_ms"] is None or bucket == 0 or not others_s:
        return math.nan
    watch_s = float(asked["watch_ms"]) / 1000
    place = max(place for place, left_s in enumerate(GRID_S) if left_s <= watch_s)
    left_s, width_s = GRID_S[place], BIN_WIDTH_S[place]
    part = (watch_s - left_s) / width_s if width_s else 0.0
    below = sum(other_s < left_s for other_s in others_s)
    inside = sum(left_s <= other_s < left_s + width_s for other_s in others_s)
    return float(below + inside * part) / len(others_s)


def bucket_of(event: Row) -> int:
    if event["duration_ms"] is None:
        return 0
    return int(duration_bucket(np.array([event["duration_ms"] / 1000]), CONFIG)[0])
