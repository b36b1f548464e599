"""Which past events may be read: hand-worked, against a plain loop, and never the future."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from skipwise.features.visibility import daily_prefix, live_prefix, window_prefix

UNTIMED_MS = np.iinfo(np.int64).min

Times = NDArray[np.int64]


def plain_prefix(known: Times, usable_before: Times) -> list[int]:
    """Count by the definition: events from the oldest on, as long as each is known."""
    counts = []
    for candidate in range(len(known)):
        visible = 0
        while visible < candidate and known[visible] < usable_before[candidate]:
            visible += 1
        counts.append(visible)
    return counts


def times(length: int) -> st.SearchStrategy[Times]:
    return arrays(np.int64, length, elements=st.integers(0, 12))


@given(st.integers(0, 9).flatmap(lambda length: st.tuples(times(length), times(length))))
def test_the_prefix_is_that_of_a_plain_loop(columns: tuple[Times, Times]) -> None:
    known, asked = columns
    assert live_prefix(known, asked).tolist() == plain_prefix(known, asked + 1)
    assert daily_prefix(known, asked).tolist() == plain_prefix(known, asked)
    everything = np.full(len(known), 7)
    assert window_prefix(known, 6).tolist() == plain_prefix(known, everything)


@given(
    st.lists(
        st.integers(1, 6).flatmap(lambda length: st.tuples(times(length), times(length))),
        min_size=1,
        max_size=5,
    )
)
def test_many_viewers_at_once_are_as_one_by_one(viewers: list[tuple[Times, Times]]) -> None:
    """Some events are untimed, and each viewer's outcomes are late otherwise."""
    known, asked = (np.concatenate(columns) for columns in zip(*viewers, strict=True))
    untimed = known == 0
    known_ms = np.where(untimed, UNTIMED_MS, known)
    asked_ms = np.where(untimed, -1, asked)
    lengths = [len(own) for own, _ in viewers]
    place = np.concatenate([np.arange(length) for length in lengths])
    late = np.repeat(np.arange(len(viewers)), lengths)
    cuts = np.cumsum(lengths)[:-1]

    def one_by_one(*columns: Times) -> list[tuple[Times, ...]]:
        return list(zip(*(np.split(column, cuts) for column in columns), strict=True))

    assert live_prefix(known_ms, asked_ms, late, place).tolist() == [
        count for each in one_by_one(known_ms, asked_ms, late) for count in live_prefix(*each)
    ]
    assert daily_prefix(known, asked, place).tolist() == [
        count for each in one_by_one(known, asked) for count in plain_prefix(*each)
    ]
    assert window_prefix(known, 6, place).tolist() == [
        count for (each,) in one_by_one(known) for count in window_prefix(each, 6)
    ]


@given(
    st.integers(1, 9).flatmap(lambda length: st.tuples(times(length), times(length))),
    st.integers(0, 8),
    st.integers(0, 20),
)
def test_the_future_cannot_change_the_past(
    columns: tuple[Times, Times], place: int, later: int
) -> None:
    """When an event's outcome is known says nothing to itself and to the events before it."""
    known, asked = columns
    place %= len(known)
    edited = known.copy()
    edited[place] = later
    np.testing.assert_array_equal(
        live_prefix(edited, asked)[: place + 1], live_prefix(known, asked)[: place + 1]
    )
    np.testing.assert_array_equal(
        daily_prefix(edited, asked)[: place + 1], daily_prefix(known, asked)[: place + 1]
    )


def test_an_outcome_known_at_the_instant_of_a_request_is_read() -> None:
    assert live_prefix(np.array([5, 99]), np.array([0, 5])).tolist() == [0, 1]
    assert live_prefix(np.array([6, 99]), np.array([0, 5])).tolist() == [0, 0]


def test_an_event_never_reads_itself_nor_its_own_request() -> None:
    """Four events of one slate, requested at 10: none of their outcomes is known before 11."""
    known, asked = np.array([11, 12, 13, 14]), np.full(4, 10)
    assert live_prefix(known, asked).tolist() == [0, 0, 0, 0]
    already_known = np.zeros(4, dtype=np.int64)
    assert live_prefix(already_known, asked).tolist() == [0, 1, 2, 3]


def test_a_late_outcome_hides_those_after_it() -> None:
    """The second is known at 50, so that until then the third cannot be read either."""
    known, asked = np.array([5, 50, 15, 99]), np.array([0, 10, 20, 40])
    assert live_prefix(known, asked).tolist() == [0, 1, 1, 1]
    assert live_prefix(known, np.array([0, 10, 20, 50])).tolist() == [0, 1, 1, 3]


def test_a_delay_moves_the_outcomes_of_timed_events_alone() -> None:
    known = np.array([UNTIMED_MS, 100, 200, 300])
    asked = np.array([-1, 50, 150, 250])
    assert live_prefix(known, asked).tolist() == [0, 1, 2, 3]
    assert live_prefix(known, asked, 50).tolist() == [0, 1, 2, 3]
    assert live_prefix(known, asked, 51).tolist() == [0, 1, 1, 2]
    assert live_prefix(known, asked, 10**9).tolist() == [0, 1, 1, 1]


def test_outcomes_of_the_same_day_are_not_read_in_a_nightly_feed() -> None:
    """Day 8's second event was known only on day 9: on day 9 it is not read, on day 10 it is."""
    known_day, day = np.array([7, 8, 9, 9, 10]), np.array([7, 8, 8, 9, 10])
    assert daily_prefix(known_day, day).tolist() == [0, 1, 1, 2, 4]


def test_a_window_shows_the_same_to_every_later_row() -> None:
    known_day = np.array([1, 2, 3, 3, 4, 5])
    assert window_prefix(known_day, 3).tolist() == [0, 1, 2, 3, 4, 4]
    assert window_prefix(known_day, 0).tolist() == [0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("number", [0, 1])
def test_a_viewer_without_a_past_reads_nothing(number: int) -> None:
    none = np.arange(number, dtype=np.int64)
    for prefix in (live_prefix(none, none), daily_prefix(none, none), window_prefix(none, 5)):
        assert prefix.tolist() == [0] * number
        assert prefix.dtype == np.int64
