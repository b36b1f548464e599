"""Places in a session and runs of glances are those of the whole sequence, whenever events come."""

import numpy as np
from numpy.typing import NDArray

from skipwise.serving.past import EVENT, GLANCE_BIT, Past

GAP_MS = 1_800_000
START_MS = 1_790_000_000_000


def event(name: int, shown_at_ms: int) -> np.void:
    """Make a glance; -1 is untimed."""
    made: np.void = np.zeros(1, dtype=EVENT)[0]
    made["event"], made["shown_at_ms"] = name, shown_at_ms
    made["known"] = made["positive"] = GLANCE_BIT
    return made


def after_five_of_which_three_stay() -> Past:
    past = Past(1, None)
    for place in range(5):
        past.add(event(place, START_MS + place * 1000), GAP_MS, 3)
    return past


def told(past: Past) -> list[tuple[int, int, int]]:
    columns: NDArray[np.void] = past.events[["event", "session_place", "glance_run"]]
    return [tuple(row) for row in columns.tolist()]


def test_places_count_events_that_are_no_longer_held() -> None:
    assert told(after_five_of_which_three_stay()) == [(2, 2, 3), (3, 3, 4), (4, 4, 5)]


def test_an_untimed_event_that_comes_late_moves_no_other() -> None:
    past = after_five_of_which_three_stay()
    past.add(event(9, -1), GAP_MS, 10)
    assert told(past) == [(9, 0, 0), (2, 2, 3), (3, 3, 4), (4, 4, 5)]


def test_an_event_older_than_all_that_are_kept_changes_nothing() -> None:
    past = after_five_of_which_three_stay()
    for shown_at_ms in (START_MS - 1000, -1):
        past.add(event(9, shown_at_ms), GAP_MS, 3)
        assert told(past) == [(2, 2, 3), (3, 3, 4), (4, 4, 5)]


def test_a_late_event_is_counted_by_those_after_it() -> None:
    past = after_five_of_which_three_stay()
    past.add(event(9, START_MS + 3500), GAP_MS, 3)
    assert told(past) == [(3, 3, 4), (9, 4, 5), (4, 5, 6)]


def test_a_key_like_a_held_one_in_the_bits_that_are_looked_at_first_is_not_held() -> None:
    past = Past(1, None)
    key = 0x0123_4567_89AB_CDEF
    past.learn(np.array([key], dtype=np.uint64), np.ones(1), 0, 10)
    asked = np.array([key + (1 << 15), key, key ^ (1 << 63)], dtype=np.uint64)
    places, sums = past.held(asked, 0)
    assert places.tolist() == [1]
    assert sums.tolist() == [[1.0]]
    assert past.ask(asked, 0)[:, 0].tolist() == [0.0, 1.0, 0.0]
