"""How processes that were started together tell this start from the ones before it.

    address                             ->  reach ->  somebody listens there
    store that all reach, rank, number  ->  meet  ->  Start: its name, how many came before

- torchrun keeps one store for all starts of a group, and each machine counts its own restarts: what
  an earlier start left in the store must not be taken for this one's.
- Each process says a word that nobody else has; the first one answers the words, also of those that
  come late, until everybody has said that it got the answer. A word of an earlier start is answered
  too, and nobody hears it.

Reads nothing of ours; is read by `processes`.
"""

import socket
import time
import uuid
from typing import NamedTuple

from torch._C._distributed_c10d import Store

_LOOK_EVERY_S = 0.02
_TRY_EVERY_S = 0.5


class Start(NamedTuple):
    """One start of a group of processes."""

    name: str
    """What no other start of it is called; the same for all of its processes."""
    before: int
    """How many starts the store has seen before."""


def reach(host: str, port: int, timeout_s: float) -> None:
    """Wait until somebody listens; torch itself would tell of each try with a trace.

    Raises:
        OSError: Nobody did within the time, and why.
    """
    until = time.monotonic() + timeout_s
    while True:
        left_s = max(until - time.monotonic(), 0.01)
        try:
            socket.create_connection((host, port), timeout=left_s).close()
        except OSError:
            if time.monotonic() + _TRY_EVERY_S > until:
                raise
            time.sleep(_TRY_EVERY_S)
        else:
            return


def meet(store: Store, rank: int, number: int, timeout_s: float) -> Start:
    """Find the other processes of this start.

    Args:
        store: What all of them reach; it may hold what earlier starts left.
        rank: This one's place.
        number: How many there are.
        timeout_s: How long to wait for the others.

    Raises:
        TimeoutError: Who did not come.
        RuntimeError: The store does not answer, or the first process did not come.
    """
    word = uuid.uuid4().hex
    if rank == 0:
        start = Start(word, store.add("starts", 1) - 1)
        _answer(store, start, number, timeout_s)
        return start
    store.set(f"here {rank}", word)
    name, before = store.get(f"answer {word}").decode().split()
    store.set(f"heard {name} {rank}", "")
    return Start(name, int(before))


def _answer(store: Store, start: Start, number: int, timeout_s: float) -> None:
    """Answer whoever comes, until all of a start have heard it."""
    until = time.monotonic() + timeout_s
    answered: set[str] = set()
    waiting = list(range(1, number))
    while waiting:
        for rank in waiting:
            if store.check([f"here {rank}"]):
                word = store.get(f"here {rank}").decode()
                if word not in answered:
                    store.set(f"answer {word}", f"{start.name} {start.before}")
                    answered.add(word)
        waiting = [rank for rank in waiting if not store.check([f"heard {start.name} {rank}"])]
        if waiting and time.monotonic() > until:
            missing = ", ".join(map(str, waiting))
            raise TimeoutError(f"process {missing} of {number} did not come")
        if waiting:
            time.sleep(_LOOK_EVERY_S)
