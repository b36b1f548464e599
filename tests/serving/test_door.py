"""Worker processes that listen on one socket share connections out, and miss nobody who is gone."""

import asyncio
import contextlib
import multiprocessing
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import pytest

from skipwise.serving.door import PAGE_VARIABLE, Counts, EvenLoop

WORKERS = 2


class SaysWho(asyncio.Protocol):
    """Tells whoever comes which process answers."""

    def connection_made(self, transport: Any) -> None:
        transport.write(str(os.getpid()).encode())


def fails() -> asyncio.Protocol:
    raise RuntimeError("there is no protocol")


def work(listening: socket.socket, factory: Callable[[], asyncio.Protocol] = SaysWho) -> None:
    async def serve() -> None:
        loop = asyncio.get_running_loop()
        await loop.create_server(factory, sock=listening, backlog=128)
        await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=EvenLoop) as runner:
        runner.run(serve())


def fail(listening: socket.socket) -> None:
    work(listening, fails)


@contextlib.contextmanager
def serving(
    page: Path,
    monkeypatch: pytest.MonkeyPatch,
    work: Callable[[socket.socket], None],
    workers: int,
) -> Iterator[int]:
    """Serve by workers, and say where; all have told that they are there."""
    Counts.make(page, workers)
    monkeypatch.setenv(PAGE_VARIABLE, str(page))
    spawn = multiprocessing.get_context("spawn")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        started = [spawn.Process(target=work, args=(listening,)) for _ in range(workers)]
        for each in started:
            each.start()
        try:
            wait_for(page, started)
            yield listening.getsockname()[1]
        finally:
            for each in started:
                each.kill()
                each.join()


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    with serving(tmp_path / "connections", monkeypatch, work, WORKERS) as port:
        yield port


def wait_for(page: Path, started: list[SpawnProcess]) -> None:
    until = time.monotonic() + 60
    while page.read_bytes() != bytes(8 * len(started)):
        assert time.monotonic() < until
        time.sleep(0.05)


def come(port: int, open_: contextlib.ExitStack) -> int:
    """Open a connection that stays, and return who took it."""
    return int(open_.enter_context(socket.create_connection(("127.0.0.1", port), 5)).recv(100))


def come_to_both(port: int, open_: contextlib.ExitStack) -> int:
    """Open connections until each worker has one; returns who took the first.

    Two do nearly always; on a busy machine one worker may let the other wait for too long.
    """
    took = [come(port, open_)]
    while len(set(took)) < WORKERS:
        assert len(took) < 6
        took.append(come(port, open_))
    return took[0]


def test_connections_are_shared_out_evenly(port: int) -> None:
    with contextlib.ExitStack() as open_:
        took = Counter(come(port, open_) for _ in range(40))
    assert len(took) == WORKERS
    assert min(took.values()) >= 18, "a busy machine may let one wait for too long now and then"


def test_a_burst_is_shared_out_evenly(port: int) -> None:
    with contextlib.ExitStack() as open_:
        at_once = [
            open_.enter_context(socket.create_connection(("127.0.0.1", port), 5)) for _ in range(40)
        ]
        took = Counter(int(each.recv(100)) for each in at_once)
    assert len(took) == WORKERS
    assert min(took.values()) >= 18


def test_connections_that_end_are_counted_no_more(port: int) -> None:
    with contextlib.ExitStack() as kept:
        come_to_both(port, kept)
        for _ in range(6):  # each as even as before, once it has ended
            with contextlib.ExitStack() as passing:
                come(port, passing)
            time.sleep(0.05)
        took = Counter(come(port, kept) for _ in range(10))
    assert len(took) == WORKERS
    assert min(took.values()) >= 4


def test_a_connection_that_cannot_be_served_is_closed_and_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path / "connections", monkeypatch, fail, 1) as port:
        for _ in range(3):
            with (
                socket.create_connection(("127.0.0.1", port), 5) as connection,
                contextlib.suppress(ConnectionResetError),
            ):
                assert connection.recv(100) == b""
        assert (tmp_path / "connections").read_bytes() == bytes(8), "none"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_nobody_waits_for_a_worker_that_does_not_answer(port: int, how: signal.Signals) -> None:
    with contextlib.ExitStack() as open_:
        gone = come_to_both(port, open_)
        os.kill(gone, how)
        begun = time.monotonic()
        took = Counter(come(port, open_) for _ in range(20))
        assert list(took.values()) == [20]
        assert gone not in took
        assert time.monotonic() - begun < 3
        at_once = [
            open_.enter_context(socket.create_connection(("127.0.0.1", port), 5)) for _ in range(60)
        ]
        begun = time.monotonic()
        assert gone not in {int(each.recv(100)) for each in at_once}
        assert time.monotonic() - begun < 0.28, "60 do not wait 5 ms each, one after the other"
