"""How long a request's head may take, how long it may be, and what may come beside a body.

    bytes of a connection  ->  BoundedHeads  ->  the application, or 408 or 431 and no connection

- A head is a request line and its headers. uvicorn waits for one for ever, and keeps all of it.
- The clock runs from a connection's first moment, and after an answer from the first byte of what
  follows; between requests a connection may stay as long as uvicorn says.
- What is left of a body when its request has been answered must come in the same time. What a
  chunked body has beside its bytes (sizes, extensions, trailers) is bounded, trailers are dropped.
- Bodies themselves are bounded by `admission`.

Reads `refusal` and `wire`; is named to uvicorn by `serve`.
"""

import asyncio
import secrets
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from skipwise.serving.refusal import Refusal
from skipwise.serving.wire import encode

HEAD_S = 10.0
HEAD_BYTES = 65_536
"""Of what came before the piece that ends a head; a piece is what one read of a socket gives."""
_BESIDE_EACH = 8
"""Bytes beside each byte of a body: as many as a chunk of one byte has, and a few."""


class BoundedHeads(HttpToolsProtocol):
    """A connection that hears no endless head."""

    head_s, head_bytes = HEAD_S, HEAD_BYTES

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._clock: asyncio.TimerHandle | None = None
        self._bytes = 0
        self._has_head = False
        """Whether what comes now is the body of a request."""
        self._beside_body = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let the clock run for the first head."""
        super().connection_made(transport)
        self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Give on what came, unless a head, or what is beside a body, has grown too long."""
        had_head = self._has_head
        if had_head:
            self._beside_body += len(data)
        elif self._clock is None:
            self._start_clock()
        clock = self._clock
        super().data_received(data)
        if had_head:
            if self._has_head and self._beside_body > self.head_bytes:
                self.transport.close()
        elif clock is not None and self._clock is clock:  # all of it belongs to one head
            self._bytes += len(data)
            if self._bytes > self.head_bytes:
                self._refuse(
                    431,
                    f"the request's head has more than {self.head_bytes:,} bytes; it must not. "
                    "Send shorter headers.",
                )

    def on_message_begin(self) -> None:
        """Let the clock run also where a head begins in the piece that ended a request."""
        if self._clock is None:
            self._start_clock()
            self._bytes = 1
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, and no trailer."""
        if not self._has_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Stop the clock, and begin the request."""
        self._stop_clock()
        self._has_head, self._beside_body = True, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body; each byte excuses some beside it, as of small chunks."""
        self._beside_body -= len(body) * (1 + _BESIDE_EACH)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Be ready for the next head."""
        self._has_head = False
        self._stop_clock()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Give what is left of an answered request's body as long as a head."""
        super().on_response_complete()
        if self._has_head and self._clock is None:
            self._start_clock()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - what uvicorn would say
        """Refuse what is no HTTP as everything else is refused."""
        self._refuse(400, "what came is no HTTP/1.1; a request must be. See /docs.")

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: anybody could fill the log by asking for websockets."""

    def _start_clock(self) -> None:
        self._bytes = 0
        self._clock = self.loop.call_later(self.head_s, self._too_slow)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _too_slow(self) -> None:
        if self._is_answering():
            self._start_clock()
        elif self._has_head or not self._bytes:  # no request that could be answered
            self.transport.close()
        else:
            self._refuse(
                408,
                f"the request's head has not come in {self.head_s:g} s; it must. Send it faster.",
            )

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, status: int, why: str) -> None:
        self._stop_clock()
        if self.transport.is_closing():
            return
        if not self._is_answering():
            request_id = secrets.token_hex(8)
            body = encode(Refusal(status, why).problem(request_id))
            self.transport.write(
                f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
                f"x-request-id: {request_id}\r\nconnection: close\r\n\r\n".encode()
                + body
            )
        self.transport.close()
