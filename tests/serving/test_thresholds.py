"""What a watch must exceed is known before anybody asks, and is what asking would give."""

import numpy as np

from skipwise.features.dataset import Dataset
from skipwise.features.known import clock_day_of
from skipwise.serving.snapshot import pack_world, restore_world
from skipwise.serving.state.sqlite import SqliteStore
from skipwise.serving.world import World
from skipwise.training.checkpoint import TrainedRun
from tests.serving.test_same_numbers import midnight_before_end, seeded


def test_thresholds_worked_out_beforehand_are_those_a_request_would_work_out(
    small_run: TrainedRun, small_dataset: Dataset, sqlite_store: SqliteStore
) -> None:
    until_ms = midnight_before_end(small_dataset, 1)
    world = seeded(small_run, small_dataset, sqlite_store, until_ms).world
    asked = World(world.rules, world.catalogue)
    restore_world(asked, pack_world(world))
    codes = np.arange(len(world.catalogue))
    buckets = world.catalogue.duration_bucket[codes]
    day = clock_day_of(until_ms, world.rules.time_zone)
    world.crowd.thresholds(codes[:1], buckets[:1], [], day)  # a request begins the day
    world.prepare_thresholds()
    assert not len(world.crowd.lack_thresholds(len(codes)))
    assert len(asked.crowd.lack_thresholds(len(codes))) == len(codes)
    found = world.crowd.cuts[codes].T
    expected = asked.crowd.thresholds(codes, buckets, [], day)
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(found[0][~np.isnan(found[0])])) > 20


def test_a_watch_of_yesterday_makes_those_of_its_bucket_old_and_no_others(
    small_run: TrainedRun, small_dataset: Dataset, sqlite_store: SqliteStore
) -> None:
    until_ms = midnight_before_end(small_dataset, 1)
    world = seeded(small_run, small_dataset, sqlite_store, until_ms).world
    crowd, codes = world.crowd, np.arange(len(world.catalogue))
    buckets = world.catalogue.duration_bucket[codes]
    day = clock_day_of(until_ms, world.rules.time_zone)
    crowd.thresholds(codes, buckets, [], day)
    video = int(codes[-1])
    for _ in range(30):
        crowd.watched(video, int(buckets[video]), 7, day - 1)
    old = crowd.lack_thresholds(len(codes))
    np.testing.assert_array_equal(old, np.flatnonzero(buckets == buckets[video]))
    assert 0 < len(old) < len(codes) / 2
    anew = World(world.rules, world.catalogue)
    restore_world(anew, pack_world(world))
    np.testing.assert_array_equal(
        crowd.thresholds(codes, buckets, [], day), anew.crowd.thresholds(codes, buckets, [], day)
    )
