"""Labels in bulk against labels one by one."""

import math
from collections.abc import Iterable

import pytest

from skipwise.labels.live import LiveQuantiles, WatchedEvent, label_event
from skipwise.labels.watch import LABELS, LabelConfig
from tests.labels.label_logs import FLAGS, Row

THRESHOLDS = ("effective_above_s", "finished_above_s")


def assert_bulk_equals_live(bulk: list[Row], config: LabelConfig, asked: Iterable[int]) -> None:
    """Learn the whole log one event at a time, then ask as of the days of some rows."""
    quantiles = LiveQuantiles(config)
    for labelled in bulk:
        quantiles.learn(
            labelled["viewer_id"],
            labelled["video_id"],
            labelled["duration_bucket"],
            number(labelled["watch_s"]),
            labelled["known_day"],
        )
    for place in asked:
        labelled = bulk[place]
        if labelled["shown_at_ms"] is None:
            continue
        live = label_event(watched_event(labelled), quantiles)
        assert {name: labelled[f"label_{name}"] for name in LABELS} == live.labels
        assert labelled["feedback"] == live.feedback
        assert labelled["duration_bucket"] == live.duration_bucket
        for name, threshold_s in zip(THRESHOLDS, live.thresholds, strict=True):
            assert_close(labelled[name], threshold_s)
        assert_close(labelled["watch_rank"], live.watch_rank)


def watched_event(event: Row) -> WatchedEvent:
    return WatchedEvent(
        viewer_id=event["viewer_id"],
        video_id=event["video_id"],
        day=event["day"],
        watch_ms=event["watch_ms"],
        duration_ms=event["duration_ms"],
        flags={flag: event[flag] for flag in FLAGS},
    )


def number(value: float | None) -> float:
    return math.nan if value is None else value


def assert_close(bulk: float | None, expected: float) -> None:
    assert number(bulk) == pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True)
