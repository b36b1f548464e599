"""Watches of a day are counted as a list of them would be, and take no more for being many."""

import sys

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from skipwise.features.dataset import Dataset
from skipwise.serving.snapshot import pack_world, restore_world
from skipwise.serving.state.sqlite import SqliteStore
from skipwise.serving.watches import DayOfWatches
from skipwise.serving.world import World
from skipwise.training.checkpoint import TrainedRun
from tests.serving.test_same_numbers import midnight_before_end, seeded

Rows = NDArray[np.int64]


def rows_of(watches: DayOfWatches) -> list[tuple[int, ...]]:
    return list(zip(*(part.tolist() for part in watches.counted()), strict=True))


def expected(watched: Rows) -> list[tuple[int, ...]]:
    triples, count = np.unique(watched, axis=0, return_counts=True)
    return [
        (*triple, number) for triple, number in zip(triples.tolist(), count.tolist(), strict=True)
    ]


def test_counts_are_those_of_the_list_however_it_is_read_between() -> None:
    random = np.random.default_rng(0)
    watched = random.integers([0, 0, 0], [300, 100, 64], (20_000, 3))
    watches = DayOfWatches()
    for number, (video, bucket, watch_bin) in enumerate(watched.tolist()):
        watches.add(video, bucket, watch_bin)
        if number in (0, 1, 7000, 7001):
            assert rows_of(watches) == expected(watched[: number + 1])
    assert rows_of(watches) == expected(watched)


def test_many_at_once_are_as_many_one_by_one() -> None:
    random = np.random.default_rng(1)
    watched = random.integers([0, 0, 0], [50, 4, 5], (3000, 3))
    one_by_one, at_once = DayOfWatches(), DayOfWatches()
    for each in watched.tolist():
        one_by_one.add(*each)
    for rows, count in ((watched[:1000], 1), (watched[1000:], 2), (watched[1000:], -1)):
        video, bucket, watch_bin = rows.T
        at_once.add_all(video, bucket, watch_bin, np.full(len(rows), count))
    assert rows_of(at_once) == rows_of(one_by_one)


def test_watches_of_some_videos_are_found_in_the_order_asked() -> None:
    watches = DayOfWatches()
    for video, watch_bin in ((5, 1), (5, 1), (5, 60), (2, 3), (9, 0), (4, 8)):
        watches.add(video, 7, watch_bin)
    found = np.stack(watches.of(np.array([9, 3, 5, 2, 5])), 1).tolist()
    assert found == [[0, 0, 1], [2, 1, 2], [2, 60, 1], [3, 3, 1], [4, 1, 2], [4, 60, 1]]
    assert [len(part) for part in watches.of(np.zeros(0, dtype=np.int64))] == [0, 0, 0]
    assert [len(part) for part in DayOfWatches().of(np.arange(3))] == [0, 0, 0]


def test_memory_ends_with_the_catalogue_not_with_the_watches() -> None:
    watches, held = DayOfWatches(), []
    for number in range(200_000):
        watches.add(number % 97, 3, number % 61)
        if number % 20_000 == 19_999:
            watches.counted()
            held.append(sum(sys.getsizeof(value) for value in vars(watches).values()))
    assert held[0] == held[-1]
    assert sum(watches.counted()[3]) == 200_000


def test_a_state_written_with_one_row_a_watch_is_read_as_one_of_counts(
    small_run: TrainedRun, small_dataset: Dataset, sqlite_store: SqliteStore
) -> None:
    world = seeded(
        small_run, small_dataset, sqlite_store, midnight_before_end(small_dataset, 1)
    ).world
    arrays = load(pack_world(world))
    count = arrays.pop("watched.count")
    assert count.max() > 1
    for part in ("day", "name", "bucket", "bin"):
        arrays[f"recent.{part}"] = np.repeat(arrays.pop(f"watched.{part}"), count)
    read = World(world.rules, world.catalogue)
    restore_world(read, save(arrays))
    assert list(read.crowd.recent) == sorted(world.crowd.recent)
    for day, watches in world.crowd.recent.items():
        assert rows_of(read.crowd.recent[day]) == rows_of(watches)
