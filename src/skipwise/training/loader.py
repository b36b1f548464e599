"""Reads the next batches while the last one is learnt.

    what to read, how  ->  read_ahead  ->  the same batches, in order

- One thread reads a few batches ahead; how long the learner had to wait for it is counted.
- What goes wrong in reading is raised where the batch would have been taken.

Is read by `fit`.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Read = TypeVar("Read")


class ReadAhead(Generic[Asked, Read]):
    """Iterates over what was read; must be closed, which `with` does."""

    def __init__(
        self, asked: Sequence[Asked], read: Callable[[Asked], Read], *, depth: int = 2
    ) -> None:
        self.waited_s = 0.0
        """Seconds for which the next batch was not there yet."""
        self._left = len(asked)
        self._ready: queue.Queue[Read | BaseException] = queue.Queue(maxsize=depth)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(asked, read), daemon=True)
        self._thread.start()

    def __enter__(self) -> "ReadAhead[Asked, Read]":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Read]:
        while self._left:
            self._left -= 1
            before = time.perf_counter()
            found = self._ready.get()
            self.waited_s += time.perf_counter() - before
            if isinstance(found, BaseException):
                raise found
            yield found

    def close(self) -> None:
        """Stop reading."""
        self._closed.set()
        while self._thread.is_alive():
            try:
                self._ready.get(timeout=0.01)  # so that a full queue does not hold the thread
            except queue.Empty:
                continue
        self._thread.join()

    def _run(self, asked: Sequence[Asked], read: Callable[[Asked], Read]) -> None:
        try:
            for each in asked:
                found = read(each)
                if self._closed.is_set():
                    return
                self._ready.put(found)
        except BaseException as problem:
            self._ready.put(problem)
