"""Counters in memory: bounded, and indifferent to the order of what they were told."""

import numpy as np
import pytest

from skipwise.features.counter_names import CounterConfig, counter_names
from skipwise.features.live import LiveCounters, Shown

CONFIG = CounterConfig(half_life_days=2.0, counted=("glance",))
NAMES = counter_names(CONFIG.counted)
CLIP = Shown(viewer=1, video=2, author=3, topics=(4, 5), surface=6)


def asked(counters: LiveCounters, shown: Shown, clock_day: int) -> dict[str, float]:
    return dict(zip(NAMES, counters.ask(shown, clock_day).tolist(), strict=True))


def test_nothing_learnt_reads_zero() -> None:
    answer = LiveCounters(CONFIG).ask(CLIP, 10)
    assert answer.shape == (8 * 3,)
    assert answer.dtype == np.float32
    assert not answer.any()


def test_an_outcome_halves_with_each_half_life() -> None:
    counters = LiveCounters(CONFIG)
    counters.learn(CLIP, {"glance": True}, known_clock_day=10)
    counters.learn(CLIP, {"glance": None}, known_clock_day=12)
    now = asked(counters, CLIP, clock_day=14)
    assert now["viewer_video.views"] == pytest.approx(1 / 4 + 1 / 2)
    assert now["viewer_video.glance_known"] == now["viewer_video.glance"] == pytest.approx(1 / 4)
    assert now["viewer_topic.views"] == pytest.approx(2 * (1 / 4 + 1 / 2)), "both topics"


def test_asking_changes_nothing() -> None:
    counters = LiveCounters(CONFIG)
    counters.learn(CLIP, {"glance": False}, known_clock_day=10)
    first = counters.ask(CLIP, 11)
    counters.ask(CLIP, 30)
    np.testing.assert_array_equal(counters.ask(CLIP, 11), first)


def test_an_outcome_that_arrives_late_weighs_what_its_own_day_says() -> None:
    in_order, late = LiveCounters(CONFIG), LiveCounters(CONFIG)
    for counters, days in ((in_order, (10, 13)), (late, (13, 10))):
        for day in days:
            counters.learn(CLIP, {}, known_clock_day=day)
    np.testing.assert_allclose(late.ask(CLIP, 14), in_order.ask(CLIP, 14), rtol=1e-6)


def test_memory_grows_with_keys_not_with_events() -> None:
    counters = LiveCounters(CONFIG)
    for day in range(500):
        counters.learn(CLIP, {"glance": True}, known_clock_day=day)
    assert counters.num_keys == 6 + 2 * 2


def test_another_viewer_sees_what_videos_did_but_not_whom() -> None:
    counters = LiveCounters(CONFIG)
    counters.learn(CLIP, {"glance": True}, known_clock_day=10)
    other = asked(counters, Shown(viewer=9, video=2, author=3, topics=(4,), surface=6), 10)
    assert other["video.glance"] == other["author.glance"] == other["topic.glance"] == 1
    assert not any(value for name, value in other.items() if name.startswith("viewer"))
