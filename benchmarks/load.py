"""Requests on a timetable, and one after the other: what the load on a server is made of.

Open loop: requests leave on a timetable, whether or not earlier ones were answered, and a latency
counts from when its request was due. The load shares the server's cores, so it does little itself:
one loop, no task per request, and nothing is collected while it runs.
"""

import asyncio
import contextlib
import gc
import json
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

Answered = Callable[["Line", int], None]
_TICK_S = 0.001
"""What a loop's timers tell apart: a shorter wait would be none."""


class Line(asyncio.Protocol):
    """One connection: a request at a time, no more of HTTP than the answer's status and length."""

    def __init__(self, answered: Answered) -> None:
        self.parts: list[bytes] = []
        self.lacking = 0
        """Bytes of the answer that are still to come, once its head is there."""
        self.status = 0
        self.due = 0.0
        self.answered = answered

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def ask(self, request: bytes, due: float) -> None:
        self.due = due
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        if not self.lacking:
            self.parts.append(data)
            head, found, body = b"".join(self.parts).partition(b"\r\n\r\n")
            if not found:
                return
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            self.status, self.lacking = int(head[9:12]), length - len(body)
        else:
            self.lacking -= len(data)
        if not self.lacking:
            self.parts.clear()
            self.answered(self, self.status)


def at_rate(port: int, requests: list[bytes], rate: float, seconds: float) -> dict[str, Any]:
    """Send requests on a timetable, over 64 connections in turn, as a balancer would."""
    with undisturbed():
        begun = time.process_time()
        found = uvloop.run(_at_rate(port, requests, rate, seconds))
        found["load_cpu_ms"] = (time.process_time() - begun) / (rate * seconds) * 1000
    return found


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Keep the collector from looking through all that this process holds, meanwhile."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def _at_rate(port: int, requests: list[bytes], rate: float, seconds: float) -> dict[str, Any]:
    loop, number, now = asyncio.get_running_loop(), round(rate * seconds), time.perf_counter
    free: deque[Line] = deque()
    waiting: deque[int] = deque()
    taken: list[tuple[float, int]] = []
    done: asyncio.Future[None] = loop.create_future()

    def ask(line: Line, place: int) -> None:
        line.ask(requests[place % len(requests)], start + place / rate)

    def answered(line: Line, status: int) -> None:
        taken.append(((now() - line.due) * 1000, status))
        if waiting:
            ask(line, waiting.popleft())
        else:
            free.append(line)
        if len(taken) == number:
            done.set_result(None)

    for _ in range(64):
        _, line = await loop.create_connection(lambda: Line(answered), "127.0.0.1", port)
        free.append(line)
    start = now() + 0.2
    for place in range(number):
        while (early := start + place / rate - now()) > 0:
            await asyncio.sleep(max(early, _TICK_S))
        if free:
            ask(free.popleft(), place)
        else:
            waiting.append(place)
    await done
    took = now() - start
    good = np.array([ms for ms, status in taken if status == 200] or [np.nan])
    p50, p99, p999 = np.percentile(good, [50, 99, 99.9])
    return {
        "asked_per_s": rate,
        "answered_per_s": float((~np.isnan(good)).sum() / took),
        "shed_share": sum(status == 429 for _, status in taken) / len(taken),
        "failed": sum(status not in (200, 429) for _, status in taken),
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "p99.9_ms": float(p999),
    }


def post(path: str, body: Any) -> bytes:
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n\r\n"
    return head.encode() + content


class Straight:
    """One blocking connection: what a call takes, with next to nothing of the caller's own."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> tuple[int, bytes]:
        """Return status and body."""
        self.socket.sendall(request)
        got = b""
        while True:
            got += self.socket.recv(1 << 20)
            head, found, body = got.partition(b"\r\n\r\n")
            if found:
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                if len(body) >= length:
                    return int(head[9:12]), body


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode()


def freshness(port: int, videos: list[str], at_ms: int, number: int) -> dict[str, Any]:
    """Send an event, then ask at once: is it there, and how long until the answer?"""
    accepted, waits, missed = [], [], 0
    client = Straight(port)
    for place in range(number):
        viewer = f"viewer {place % 100}"
        sent = {
            "event_id": f"fresh {place}", "viewer_id": viewer, "video_id": videos[place],
            "shown_at_ms": at_ms + place * 1000, "watch_ms": 900,
        }  # fmt: skip
        event = post("/v1/events", {"events": [sent]})
        ask = get(f"/v1/viewers/{viewer.replace(' ', '%20')}")
        begun = time.perf_counter()
        status, _ = client.ask(event)
        assert status == 200, status
        acknowledged = time.perf_counter()
        held = client.ask(ask)[1]
        waits.append((time.perf_counter() - acknowledged) * 1000)
        accepted.append((acknowledged - begun) * 1000)
        missed += json.loads(held)["events"][-1]["video_id"] != videos[place]
    p50, p99 = np.percentile(waits, [50, 99])
    accepted_p50, accepted_p99 = np.percentile(accepted, [50, 99])
    return {
        "what": "acknowledged, then asked",
        "events": number,
        "not_seen_by_the_next_request": missed,
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "acknowledged_p50_ms": float(accepted_p50),
        "acknowledged_p99_ms": float(accepted_p99),
    }


def flushes(folder: Path, number: int = 300) -> dict[str, Any]:
    """Measure what this disk takes for 4 KiB and a flush: the least an acknowledgement takes."""
    taken = []
    with (folder / "flushed").open("wb") as file:
        for _ in range(number):
            begun = time.perf_counter()
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
            taken.append((time.perf_counter() - begun) * 1000)
    p50, p99 = np.percentile(taken, [50, 99])
    return {"what": "4 KiB and a flush", "p50_ms": float(p50), "p99_ms": float(p99)}
