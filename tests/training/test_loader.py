"""Batches are read ahead in order, problems come through, and nothing is left running."""

import threading
import time

import pytest

from skipwise.training.loader import ReadAhead


def test_everything_is_read_once_and_in_order() -> None:
    with ReadAhead(range(50), lambda number: number * 2) as ahead:
        assert list(ahead) == [2 * number for number in range(50)]


def test_reading_goes_on_while_the_last_batch_is_learnt() -> None:
    """While one batch is held, the next is read: nobody else would."""
    read = [threading.Event() for _ in range(5)]
    with ReadAhead(range(5), lambda number: read[number].set()) as ahead:
        for number, _ in enumerate(ahead):
            assert all(each.wait(10) for each in read[: number + 2])


def test_waiting_is_counted() -> None:
    with ReadAhead(range(3), lambda _: time.sleep(0.02)) as ahead:
        assert list(ahead) == [None] * 3
    assert ahead.waited_s > 0.04


def test_a_problem_in_reading_is_raised_where_its_batch_would_have_been() -> None:
    def read(number: int) -> int:
        if number == 2:
            raise ValueError("cut short")
        return number

    before, taken = threading.active_count(), list[int]()
    with pytest.raises(ValueError, match="cut short"), ReadAhead(range(5), read) as ahead:
        taken.extend(ahead)
    assert threading.active_count() == before


def test_broken_off_it_stops_reading() -> None:
    before, read = threading.active_count(), list[int]()
    with ReadAhead(range(1000), read.append, depth=2) as ahead:
        next(iter(ahead))
    assert len(read) <= 4
    assert threading.active_count() == before
