import math

import numpy as np
import pytest

from skipwise.errors import EventError
from skipwise.labels.feedback import Feedback
from skipwise.labels.live import LiveQuantiles, Thresholds, WatchedEvent, label_event
from skipwise.labels.watch import LabelConfig

CONFIG = LabelConfig(shrinkage_views=2)
BUCKET = 6  # of a minute-long video


def taught(*watches: tuple[str, str, float, int]) -> LiveQuantiles:
    quantiles = LiveQuantiles(CONFIG)
    for viewer_id, video_id, watch_s, known_day in watches:
        quantiles.learn(viewer_id, video_id, BUCKET, watch_s, known_day)
    return quantiles


def watched(watch_ms: int | None, day: int = 11, **flags: bool | None) -> WatchedEvent:
    return WatchedEvent(
        viewer_id="a", video_id="x", day=day, watch_ms=watch_ms, duration_ms=60_000, flags=flags
    )


def test_a_day_counts_from_the_next_one_on() -> None:
    quantiles = taught(("b", "x", 4.2, 10))
    assert np.isnan(quantiles.thresholds("a", "x", BUCKET, 10)).all()
    assert quantiles.thresholds("a", "x", BUCKET, 11).effective_above_s == 4.25


def test_own_views_do_not_count_for_the_video_but_do_for_its_bucket() -> None:
    """a: video without its own 90 s, bucket with both. c: video and bucket hold both."""
    quantiles = taught(("b", "x", 4.2, 10), ("a", "x", 90.0, 10))
    bucket_s = 4.0 + (0.5 * 2 - 0) * 0.5 / 1
    for_a = quantiles.thresholds("a", "x", BUCKET, 11).effective_above_s
    assert for_a == (1 * 4.25 + 2 * bucket_s) / (1 + 2)
    for_c = quantiles.thresholds("c", "x", BUCKET, 11).effective_above_s
    assert for_c == (2 * bucket_s + 2 * bucket_s) / (2 + 2)


def test_own_views_of_the_day_itself_are_not_taken_out_twice() -> None:
    """They are not in yet: x still has b's one watch, against a bucket of that and one of 90 s."""
    quantiles = taught(("b", "x", 4.2, 10), ("c", "y", 90.0, 10), ("a", "x", 4.2, 11))
    bucket_s = 4.0 + (0.5 * 2 - 0) * 0.5 / 1
    found_s = quantiles.thresholds("a", "x", BUCKET, 11).effective_above_s
    assert found_s == (1 * 4.25 + 2 * bucket_s) / (1 + 2)


def test_videos_of_unknown_duration_are_no_bucket() -> None:
    quantiles = LiveQuantiles(CONFIG)
    quantiles.learn("b", "x", 0, 4.2, 10)
    assert np.isnan(quantiles.thresholds("a", "x", 0, 11)).all()
    assert math.isnan(quantiles.watch_rank(0, 4.2, 11))


def test_a_new_video_gets_its_buckets_threshold_and_an_unknown_duration_none() -> None:
    quantiles = taught(("b", "x", 4.2, 10))
    assert quantiles.thresholds("a", "new", BUCKET, 11) == Thresholds(4.25, 4.3)
    assert np.isnan(quantiles.thresholds("a", "x", 0, 11)).all()
    assert math.isnan(quantiles.watch_rank(0, 5.0, 11))


def test_an_unknown_watch_teaches_nothing() -> None:
    quantiles = taught(("b", "x", math.nan, 10))
    assert np.isnan(quantiles.thresholds("a", "x", BUCKET, 11)).all()


def test_one_event_gets_all_its_labels() -> None:
    """Before it: one watch of 4.2 s, so Q_.5 = 4.25 and Q_.6 = 4.3."""
    quantiles = taught(("b", "x", 4.2, 10))
    labelled = label_event(watched(4280, liked=False, long_viewed=None), quantiles)
    assert labelled.labels == {
        "glance": 0,
        "effective": 1,
        "long": 0,
        "finished": 0,
        "complete": 0,
        "like": 0,
        "follow": -1,
        "comment": -1,
        "share": -1,
        "negative": -1,
        "click": -1,
    }
    assert labelled.feedback is Feedback.EFFECTIVE
    assert labelled.watch_rank == pytest.approx((4.28 - 4.0) / 0.5)
    assert labelled.duration_bucket == BUCKET
    assert labelled.duration_s == 60


def test_labelling_changes_nothing() -> None:
    quantiles = taught(("b", "x", 4.2, 10))
    assert label_event(watched(9000), quantiles) == label_event(watched(9000), quantiles)


def test_an_event_without_outcome_is_unknown() -> None:
    labelled = label_event(watched(None), taught(("b", "x", 4.2, 10)))
    assert set(labelled.labels.values()) == {-1}
    assert labelled.feedback is Feedback.UNKNOWN
    assert math.isnan(labelled.watch_rank)


def test_settling_the_past_changes_no_later_answer() -> None:
    watches = (("b", "x", 4.2, 9), ("c", "x", 40.0, 10), ("a", "x", 7.0, 10), ("d", "y", 2.0, 11))
    plain, settled = taught(*watches), taught(*watches)
    settled.settle(11)
    late = ("e", "x", BUCKET, 99.0, 10)  # learnt after its day was settled
    plain.learn(*late)
    settled.learn(*late)
    for state_day in (11, 12):
        for viewer_id in "ab":
            asked = (viewer_id, "x", BUCKET, state_day)
            assert plain.thresholds(*asked) == settled.thresholds(*asked)
        rank = plain.watch_rank(BUCKET, 5.0, state_day)
        assert rank == settled.watch_rank(BUCKET, 5.0, state_day)


def test_a_settled_day_cannot_be_asked_for_again() -> None:
    quantiles = taught(("b", "x", 4.2, 9))
    quantiles.settle(11)
    quantiles.settle(10)
    with pytest.raises(EventError, match="state_day = 10 lies before day 11"):
        quantiles.thresholds("a", "x", BUCKET, 10)


def test_a_negative_watch_is_refused() -> None:
    with pytest.raises(EventError, match="-1 s, must be >= 0"):
        taught(("b", "x", -1.0, 9))
