"""How connections are shared out evenly among the worker processes of one server.

    a connection waits  ->  Door of each worker  ->  taken by one that has fewest

- All workers listen on one socket, and who wakes first takes what is there: of 64 connections one
  of two workers took up to 58, and requests stood in its line while the other idled.
- Each worker tells in a page that all share how many connections it has. Who has more than another
  lets a connection wait for a moment, so that the other takes it.
- A worker that is gone, or does not answer, costs no more than PATIENCE_S before a connection is
  taken all the same; then before two, four and so on, until it takes one itself.

Reads nothing of ours; `EvenLoop` is named to uvicorn by `serve`.
"""

import asyncio
import contextlib
import fcntl
import mmap
import os
import select
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

PAGE_VARIABLE = "SKIPWISE_CONNECTIONS"
"""Of the environment: the page's path."""
_PAUSE_S, _PAUSES = 0.001, 5
PATIENCE_S = _PAUSE_S * _PAUSES
_AT_ONCE = 64
"""Connections that are taken together at most."""
_RETRY_S = 1.0
"""After an error in taking a connection, as of no file handles being left."""
_NOBODY = np.iinfo(np.int64).min
_BYTES = 8


class Counts:
    """How many connections each worker has, one number per process."""

    def __init__(self, path: Path) -> None:
        """Take a place that no living process has.

        Args:
            path: Of a page that `make` has made.
        """
        self._file = path.open("r+b")
        self._page = mmap.mmap(self._file.fileno(), 0)
        self._each = np.frombuffer(self._page, dtype=np.int64)
        self.place = self._take_place()
        if self.place is not None:
            self._each[self.place] = 0

    @staticmethod
    def make(path: Path, places: int) -> None:
        """Make a page with room for so many processes."""
        path.write_bytes(np.full(places, _NOBODY, dtype=np.int64).tobytes())

    def add(self, change: int) -> None:
        """Count connections that came or, below 0, went."""
        if self.place is not None:
            self._each[self.place] += change

    def lead(self) -> int:
        """Return how many connections more than the one with fewest this process has."""
        if self.place is None:
            return 0
        there = self._each[self._each != _NOBODY]
        return int(self._each[self.place] - there.min())

    def leave(self) -> None:
        """Be counted no more."""
        if self.place is not None:
            self._each[self.place] = _NOBODY
            self.place = None

    def _take_place(self) -> int | None:
        """Lock a place; the kernel lets go of it when this process ends, however it does."""
        for place in range(len(self._each)):
            with contextlib.suppress(OSError):
                fcntl.lockf(
                    self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, _BYTES, place * _BYTES, os.SEEK_SET
                )
                return place
        return None


class Door:
    """Takes connections from a socket that other processes listen on too; see the module header."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        factory: Callable[[], asyncio.BaseProtocol],
        listening: socket.socket,
        counts: Counts,
    ) -> None:
        self._loop, self._factory, self._socket, self._counts = loop, factory, listening, counts
        self._passed, self._at_once = 0, 1
        self._open = True
        self._taking: set[asyncio.Task[None]] = set()
        self._waits = select.poll()
        self._waits.register(listening, select.POLLIN)
        self._watch()

    def close(self) -> None:
        """Take no more connections."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._socket)
            self._counts.leave()

    async def wait_closed(self) -> None:
        """Return at once: those that were taken are the protocols' own."""

    def _watch(self) -> None:
        if self._open:
            self._loop.add_reader(self._socket, self._knocked)

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._socket)
        self._loop.call_later(seconds, self._look_again)

    def _look_again(self) -> None:
        if self._open and not self._waits.poll(0):
            self._passed, self._at_once = 0, 1  # another has taken it
        self._watch()

    def _knocked(self) -> None:
        if self._passed < _PAUSES and self._counts.lead() > 0:
            self._passed += 1
            self._pause(_PAUSE_S)
            return
        waited = self._passed == _PAUSES
        self._at_once = min(2 * self._at_once, 2 * _AT_ONCE) if waited else 1
        self._passed = 0
        for _ in range(max(self._at_once // 2, 1)):
            if not self._took_one():
                return

    def _took_one(self) -> bool:
        try:
            connection, _ = self._socket.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError:
            self._pause(_RETRY_S)
            return False
        task = self._loop.create_task(self._take(connection, _Place(self._counts)))
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)
        return True

    async def _take(self, connection: socket.socket, place: "_Place") -> None:
        try:
            connection.setblocking(False)
            await self._loop.connect_accepted_socket(partial(self._counted, place), connection)
        except BaseException as problem:
            place.leave()
            connection.close()
            if not isinstance(problem, OSError):
                raise

    def _counted(self, place: "_Place") -> asyncio.BaseProtocol:
        """Make a protocol that is counted until its connection is lost."""
        protocol = self._factory()
        lost = protocol.connection_lost

        def connection_lost(problem: Exception | None) -> None:
            place.leave()
            lost(problem)

        protocol.connection_lost = connection_lost  # type: ignore[method-assign, assignment]
        return protocol


class _Place:
    """One connection among those of a worker: counted from now on, until it leaves."""

    def __init__(self, counts: Counts) -> None:
        self._counts: Counts | None = counts
        counts.add(1)

    def leave(self) -> None:
        if self._counts is not None:
            self._counts.add(-1)
            self._counts = None


class EvenLoop(uvloop.Loop):
    """A loop whose servers share connections out with those of other processes."""

    async def create_server(self, protocol_factory: Any, *where: Any, **options: Any) -> Any:
        """Listen as any loop does; through a `Door` where a socket without TLS is shared."""
        page, listening = os.environ.get(PAGE_VARIABLE), options.get("sock")
        if page is None or listening is None or options.get("ssl"):
            return await super().create_server(protocol_factory, *where, **options)
        listening.setblocking(False)
        listening.listen(options.get("backlog", socket.SOMAXCONN))
        return Door(self, protocol_factory, listening, Counts(Path(page)))
