"""A frozen state holds what was known before its day, and no later outcome."""

from collections.abc import Iterator

import ibis
import numpy as np
import pytest
from ibis.backends.duckdb import Backend
from numpy.typing import NDArray

from skipwise.features.dataset import Dataset
from skipwise.features.frozen import counters_frozen_at
from skipwise.features.window_state import freeze_state
from tests.worlds import days_of, timed_rows

DAYS_REPORTED = 2
"""In `edited_dataset` the outcomes of these last days, and of these alone, are others."""


@pytest.fixture(scope="module")
def connection() -> Iterator[Backend]:
    engine = ibis.duckdb.connect(threads=1)
    yield engine
    engine.disconnect()


def until(dataset: Dataset) -> int:
    return dataset.days[1] - DAYS_REPORTED


def reported_rows(dataset: Dataset) -> NDArray[np.int64]:
    return np.flatnonzero(timed_rows(dataset) & (days_of(dataset) > until(dataset)))


def test_with_its_own_day_a_row_has_the_counters_of_its_day(
    small_dataset: Dataset, connection: Backend
) -> None:
    rows = np.flatnonzero(timed_rows(small_dataset))[::-3]
    day = days_of(small_dataset)[rows].astype(np.int64)
    frozen = counters_frozen_at(small_dataset, rows, day, connection)
    on_file = small_dataset.counters_day.take(small_dataset.events["counter_row"].take(rows))
    np.testing.assert_allclose(frozen, on_file, rtol=1e-6)
    assert (on_file > 0).any()


def test_nothing_asked_is_nothing_answered(small_dataset: Dataset, connection: Backend) -> None:
    nothing = np.empty(0, dtype=np.int64)
    found = counters_frozen_at(small_dataset, nothing, small_dataset.days[1], connection)
    assert found.shape == (0, len(small_dataset.counter_names))


def test_before_the_first_day_nothing_was_known(
    small_dataset: Dataset, connection: Backend
) -> None:
    rows = reported_rows(small_dataset)
    found = counters_frozen_at(small_dataset, rows, small_dataset.days[0], connection)
    assert (found == 0).all()


@pytest.mark.slow
def test_a_frozen_state_is_blind_to_later_outcomes_and_a_later_one_is_not(
    small_dataset: Dataset, edited_dataset: Dataset, connection: Backend
) -> None:
    rows = reported_rows(small_dataset)
    for day, blind in ((until(small_dataset) + 1, True), (small_dataset.days[1], False)):
        first, second = (
            counters_frozen_at(dataset, rows, day, connection)
            for dataset in (small_dataset, edited_dataset)
        )
        assert np.array_equal(first, second) is blind
        assert (first > 0).any()


@pytest.mark.slow
def test_thresholds_are_frozen_with_the_counters(
    small_dataset: Dataset, edited_dataset: Dataset, connection: Backend
) -> None:
    """On the first reported day they are the day's own; later they stay as they were."""
    rows = reported_rows(small_dataset)
    first_day = days_of(small_dataset)[rows] == until(small_dataset) + 1
    states = [
        freeze_state(dataset, rows, until(dataset), connection)
        for dataset in (small_dataset, edited_dataset)
    ]
    for name in ("effective_above_s", "finished_above_s"):
        own = small_dataset.events[name].take(rows)
        frozen = states[0].events[name].take(rows)
        np.testing.assert_array_equal(frozen[first_day], own[first_day])
        assert (np.nan_to_num(frozen[~first_day]) != np.nan_to_num(own[~first_day])).any()
        np.testing.assert_array_equal(frozen, states[1].events[name].take(rows))
        assert not np.isnan(frozen).all()


def test_a_row_that_was_not_frozen_may_not_be_asked_for(
    small_dataset: Dataset, connection: Backend
) -> None:
    rows = reported_rows(small_dataset)
    state = freeze_state(small_dataset, rows, until(small_dataset), connection)
    earlier = np.flatnonzero(
        timed_rows(small_dataset) & ~np.isin(np.arange(len(days_of(small_dataset))), rows)
    )
    counter_rows = small_dataset.events["counter_row"].take(earlier[:1])
    with pytest.raises(IndexError, match="not frozen"):
        state.counters_day.take(counter_rows)
    with pytest.raises(IndexError, match="not frozen"):
        state.events["effective_above_s"].take(earlier[:1])
    assert len(state.counters_day) == len(small_dataset.counters_day)
