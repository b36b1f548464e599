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


async def app(scope: Any, receive: Any, send: Any) -> None:
    while scope["path"] == "/reads" and (await receive()).get("more_body"):
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


async def drip(writer: asyncio.StreamWriter, drop: bytes, until: asyncio.Future[Any]) -> None:
    """Send a drop ten times a second until something is done, or the connection is gone."""
    with contextlib.suppress(ConnectionError):
        while not until.done():
            writer.write(drop)
            await writer.drain()
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("begun", [b"GET / HT", b"\r\n", WHOLE[:-2]])
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


def test_a_connection_that_says_nothing_is_let_go_without_a_word() -> None:
    async def silent(connection: Connection) -> None:
        assert await connection[0].read() == b""

    tried(silent)


def test_what_is_no_http_is_refused_like_everything_else() -> None:
    async def rude(connection: Connection) -> None:
        reader, writer = connection
        writer.write(b"hello there\r\n\r\n")
        status, headers, body = await answer(reader)
        assert status == 400
        assert headers["x-request-id"] == json.loads(body)["request_id"]

    tried(rude)


@pytest.mark.parametrize(
    "begun",
    [
        b"GET / HTTP/1.1\r\nhost: here\r\ncontent-length: 100000\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n0\r\n",
    ],
)
def test_a_body_that_drips_after_its_answer_does_not_hold_a_connection(begun: bytes) -> None:
    async def dripping(connection: Connection) -> None:
        reader, writer = connection
        writer.write(begun)
        assert (await answer(reader))[0] == 204
        ended = asyncio.ensure_future(reader.read())
        await drip(writer, b"a", ended)
        with contextlib.suppress(ConnectionError):
            assert await ended == b""

    tried(dripping)


@pytest.mark.parametrize("beside", [b"a: " + b"b" * 495 + b"\r\n", b"b" * 500])
def test_what_is_sent_beside_a_body_has_an_end(beside: bytes) -> None:
    """Trailers, and one trailer without end."""

    async def endless(connection: Connection) -> None:
        reader, writer = connection
        writer.write(b"POST /reads HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n")
        writer.write(b"1\r\nx\r\n0\r\nc: ")
        sent = 0
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof() and sent < 100:
                writer.write(beside)
                await writer.drain()
                await asyncio.sleep(0.01)
                sent += 1
        assert 3 <= sent < 20

    tried(endless)


def test_a_body_of_small_chunks_is_whole() -> None:
    async def chunked(connection: Connection) -> None:
        reader, writer = connection
        writer.write(b"POST /reads HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(1000):
            writer.write(b"1\r\nx\r\n")
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        assert (await answer(reader))[0] == 204

    tried(chunked)


def test_bytes_that_drip_do_not_hold_a_connection() -> None:
    async def dripping(connection: Connection) -> None:
        reader, writer = connection
        reading = asyncio.ensure_future(answer(reader))
        writer.write(b"GET / HTTP/1.1\r\n")
        await drip(writer, b"a: b\r\n", reading)
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
        writer.write(b"POST /reads HTTP/1.1\r\nhost: here\r\ncontent-length: 4000\r\n\r\n")
        for _ in range(4):
            await asyncio.sleep(0.2)
            writer.write(b"x" * 1000)
        assert (await answer(reader))[0] == 204
        writer.write(WHOLE + WHOLE[:9])  # one, and the beginning of another
        assert (await answer(reader))[0] == 204
        assert (await answer(reader))[0] == 408

    tried(patiently)
