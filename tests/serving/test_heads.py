"""A request's head may neither take for ever nor have no end; what comes in time is answered."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvicorn

from skipwise.serving.heads import BoundedHeads

WHOLE = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n"
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Impatient(BoundedHeads):
    head_s, head_bytes = 0.5, 2_000


async def app(_: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[int]:
    config = uvicorn.Config(
        app, port=0, http=Impatient, ws="none", lifespan="off", log_level="error"
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await task


def tried(what: Callable[[Connection], Awaitable[None]]) -> None:
    async def once() -> None:
        async with serving() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.wait_for(what((reader, writer)), 10)
            writer.close()

    asyncio.run(once())


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Read one answer: status, headers, body."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
    headers = dict(line.split(": ", 1) for line in lines[1:] if line)
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return int(lines[0].split()[1]), headers, body


@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"\r\n", WHOLE[:-2]])
def test_a_head_that_does_not_end_is_refused_in_time(begun: bytes) -> None:
    async def slowly(connection: Connection) -> None:
        reader, writer = connection
        started = time.monotonic()
        writer.write(begun)
        status, headers, body = await answer(reader)
        assert status == 408
        assert "has not come in 0.5 s; it must" in json.loads(body)["error"]
        assert headers["x-request-id"] == json.loads(body)["request_id"]
        assert await reader.read() == b""
        assert 0.4 < time.monotonic() - started < 5

    tried(slowly)


def test_bytes_that_drip_do_not_hold_a_connection() -> None:
    async def dripping(connection: Connection) -> None:
        reader, writer = connection
        reading = asyncio.ensure_future(answer(reader))
        writer.write(b"GET / HTTP/1.1\r\n")
        with contextlib.suppress(ConnectionError):
            while not reading.done():
                writer.write(b"a: b\r\n")
                await writer.drain()
                await asyncio.sleep(0.1)
        assert (await reading)[0] == 408

    tried(dripping)


def test_a_head_without_end_is_refused_before_it_is_kept() -> None:
    async def endless(connection: Connection) -> None:
        reader, writer = connection
        writer.write(b"GET / HTTP/1.1\r\n")
        for _ in range(3):
            writer.write(b"a: " + b"b" * 990 + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0.02)
        status, _, body = await answer(reader)
        assert status == 431
        assert "more than 2,000 bytes" in json.loads(body)["error"]
        assert await reader.read() == b""

    tried(endless)


def test_between_requests_and_within_a_body_the_clock_stands_still() -> None:
    async def patiently(connection: Connection) -> None:
        reader, writer = connection
        writer.write(WHOLE)
        assert (await answer(reader))[0] == 204
        await asyncio.sleep(0.7)
        writer.write(b"POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 4000\r\n\r\n")
        for _ in range(4):
            await asyncio.sleep(0.2)
            writer.write(b"x" * 1000)
        assert (await answer(reader))[0] == 204
        writer.write(WHOLE + WHOLE[:9])  # one, and the beginning of another
        assert (await answer(reader))[0] == 204
        assert (await answer(reader))[0] == 408

    tried(patiently)
