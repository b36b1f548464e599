"""Processes of one start find each other in a store that earlier starts have written to."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from torch._C._distributed_c10d import HashStore, Store

from skipwise.training.meeting import Start, meet


def all_meet(store: Store, number: int) -> set[Start]:
    """Let so many processes meet at once; returns what they were told."""
    with ThreadPoolExecutor(number) as pool:
        each = [pool.submit(meet, store, rank, number, 10.0) for rank in range(number)]
        return {one.result() for one in each}


def test_all_of_a_start_get_the_same_name_and_no_two_starts_do() -> None:
    store = HashStore()
    starts = [all_meet(store, number) for number in (3, 3, 2, 1)]
    assert [len(start) for start in starts] == [1, 1, 1, 1]
    found = [start.pop() for start in starts]
    assert [start.before for start in found] == [0, 1, 2, 3]
    assert len({start.name for start in found}) == 4


def test_the_word_of_a_process_that_died_is_not_taken_for_that_of_its_successor() -> None:
    store = HashStore()
    store.set("here 1", "a word of the dead")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(meet, store, 0, 2, 10.0)
        while not store.check(["answer a word of the dead"]):
            assert not first.done(), "the first process may not go on without the second"
        second = meet(store, 1, 2, 10.0)
        assert first.result() == second


def test_who_did_not_come_is_named() -> None:
    with pytest.raises(TimeoutError, match=r"process 1, 2 of 3 did not come"):
        meet(HashStore(), 0, 3, timeout_s=0.1)
