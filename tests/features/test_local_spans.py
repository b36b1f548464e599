"""What one machine counts by sorted passes is what the engines' expressions say, and no more."""

import dataclasses
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pytest
from ibis.backends.duckdb import Backend as Connection

from skipwise import engine as engine_module
from skipwise.features import day_files, local_spans, merged
from skipwise.features.counter_names import CounterConfig
from skipwise.features.dataset import Dataset
from skipwise.features.day_sums import DaySums, Fading
from skipwise.features.packing import Packing, verdict_codes
from skipwise.features.prepare import PrepareSettings, prepare
from tests.features.small_logs import Catalogue, Told, small_log

CATALOGUE = Catalogue(
    videos={
        "a": ("zoe", ("cats", "art", "dogs")),
        "b": ("zoe", ("art",)),
        "c": (None, ("dogs", "cats")),
        "d": ("amy", ()),
    }
)


@pytest.fixture
def connection() -> Connection:
    return ibis.duckdb.connect(threads=1)


def some_events(seed: int) -> list[Told]:
    """Draw events of three viewers over four days: ties, requests, untimed and unknown ones."""
    random = np.random.default_rng(seed)
    events = []
    for _ in range(120):
        at_s = float(random.choice([0, 5, 10, 3_600, 86_395, 86_400, 90_000, 260_000]))
        untimed = random.random() < 0.1
        events.append(
            Told(
                viewer_id=str(random.choice(["ann", "bob", "cid"])),
                video_id=str(random.choice(list("abcd"))),
                shown_s=None if untimed else at_s + float(random.integers(3)) * 5,
                watch_s=None if random.random() < 0.1 else float(random.choice([0, 1, 5, 400])),
                surface=str(random.choice(["feed", "search"])) if random.random() < 0.8 else None,
                request_id=str(random.integers(4)) if random.random() < 0.3 else None,
                liked=None if random.random() < 0.3 else bool(random.random() < 0.5),
            )
        )
    return events


@pytest.mark.parametrize("days_ahead", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_sorted_passes_give_the_files_of_the_expressions(
    connection: Connection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    days_ahead: bool,
) -> None:
    log = small_log(connection, some_events(seed), CATALOGUE)
    if days_ahead:  # as in KuaiRand, whose own day begins up to an hour before the clock's
        ahead = (log.events.source_order % 3 == 0).cast("int32")
        log = dataclasses.replace(log, events=log.events.mutate(day=log.events.day + ahead))
    settings = PrepareSettings(
        counters=CounterConfig(half_life_days=2.0), outcome_delay_s=5.0 * 3_600 * seed
    )
    monkeypatch.setattr(local_spans, "EVENTS_AT_ONCE", 50)
    monkeypatch.setattr(merged, "ITEMS_AT_ONCE", 20)
    monkeypatch.setattr(day_files, "ITEMS_TOGETHER", 30)
    prepare(log, connection, tmp_path / "passes", settings)
    monkeypatch.setattr(engine_module._DuckDB, "is_local", False)
    prepare(log, connection, tmp_path / "expressions", settings)
    ours, theirs = Dataset.open(tmp_path / "passes"), Dataset.open(tmp_path / "expressions")
    for name, column in theirs.events.items():
        np.testing.assert_array_equal(ours.events[name].all(), column.all(), err_msg=name)
    for form in ("counters_day", "counters_event"):
        expected = getattr(theirs, form).all()
        np.testing.assert_allclose(getattr(ours, form).all(), expected, rtol=1e-6, err_msg=form)
        assert (expected > 0).any(axis=0).mean() > 0.8


@pytest.mark.parametrize(("bytes_each", "threads"), [(1, 3), (2**40, 1)])
def test_days_are_counted_by_as_many_threads_as_find_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bytes_each: int, threads: int
) -> None:
    connection, asked = ibis.duckdb.connect(threads=3), []
    in_order = local_spans._in_order

    def noted(given: Any, make: Any, of: int) -> Any:
        asked.append(of)
        return in_order(given, make, of)

    monkeypatch.setattr(local_spans, "_in_order", noted)
    monkeypatch.setattr(local_spans, "DAY_BYTES", bytes_each)
    prepare(small_log(connection, some_events(0), CATALOGUE), connection, tmp_path / "DATASET")
    assert asked == [threads, 3]


def test_packed_counts_come_back_as_they_went_in() -> None:
    random = np.random.default_rng(0)
    labels = [random.integers(-1, 2, 300).astype(np.int8) for _ in range(5)]
    packing = Packing.for_counts(5, 300)
    words = packing.words(verdict_codes(labels, 300))
    expected = [300.0]
    for label in labels:
        expected += [float((label >= 0).sum()), float((label == 1).sum())]
    assert packing.num_words == 2
    assert packing.counts(words.sum(axis=1, keepdims=True))[0].tolist() == expected


def test_sums_before_days_as_worked_by_hand() -> None:
    """Key 1 counts 2 on day 3 and 1 on day 5; a half-life of one day."""
    sums = DaySums(
        np.array([1, 1, 2]), np.array([5, 3, 3]), np.array([5, 3, 3]),
        np.array([[1.0], [2.0], [8.0]]), Fading(1.0),
    )  # fmt: skip
    asked = np.array([3, 4, 5, 6, 7])
    found = sums.look_up(np.ones(5, dtype=np.int64), asked)[:, 0]
    assert found.tolist() == [0, 1, 0.5, 0.25 + 0.5, 0.125 + 0.25]
    assert sums.look_up(np.array([0, 2, -1]), np.array([9, 4, 4]))[:, 0].tolist() == [0, 4, 0]
