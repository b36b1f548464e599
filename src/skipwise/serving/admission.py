"""Who is let in, how often, and how much of a body is read.

    request, worker  ->  admit      ->  nothing, or Refusal: 401, 403, 429
    request, limits  ->  read_body  ->  bytes, or Refusal: 408, 413

Reads `trust`, `refusal` and `worker`; is read by `app`.
"""

import asyncio
from time import monotonic

from starlette.requests import Request

from skipwise.serving.refusal import Refusal
from skipwise.serving.trust import EVERYBODY, Holder, Scope
from skipwise.serving.worker import LimitSettings, Worker


def admit(worker: Worker, request: Request, scope: Scope | str | None) -> None:
    """Let a request in by its key and its rate.

    Raises:
        Refusal: It has none (401), a wrong one (403), or comes too often (429).
    """
    if scope is None:
        return
    holder = holder_of(worker, request)
    if scope not in holder.scopes:
        raise Refusal(
            403,
            f"this key opens {', '.join(sorted(holder.scopes))}; this needs {scope}. "
            "Use a key with that scope.",
        )
    wait_s = worker.rate.take(holder.name, monotonic())
    if wait_s > 0:
        raise Refusal(
            429,
            f"more than {worker.limits.per_second:g} requests a second of this key; wait. "
            "Ask again after Retry-After.",
            retry_after_s=max(wait_s, 1.0),
        )


def holder_of(worker: Worker, request: Request) -> Holder:
    """Say whose key came with a request.

    Raises:
        Refusal: None did, or an unknown one (401).
    """
    if worker.keys is None:
        return EVERYBODY
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    holder = worker.keys.holder(token) if scheme.lower() == "bearer" else None
    if holder is None:
        raise Refusal(
            401,
            "no key, or an unknown one; every request needs one. Send Authorization: Bearer KEY.",
        )
    return holder


async def read_body(request: Request, limits: LimitSettings) -> bytes:
    """Read a body.

    Raises:
        Refusal: It is too large (413), or does not come (408).
    """
    said = request.headers.get("content-length", "0")
    if said.isdigit() and int(said) > limits.body_bytes:
        raise _too_large(limits)
    parts, size = [], 0
    try:
        async with asyncio.timeout(limits.body_s):
            async for part in request.stream():
                size += len(part)
                if size > limits.body_bytes:
                    raise _too_large(limits)
                parts.append(part)
    except TimeoutError:
        raise Refusal(
            408, f"the body has not come in {limits.body_s:g} s; it must. Send it faster."
        ) from None
    return b"".join(parts)


def _too_large(limits: LimitSettings) -> Refusal:
    return Refusal(
        413,
        f"the body is larger than {limits.body_bytes} bytes; it must not be. Send less at once.",
        field="body",
        value=f"more than {limits.body_bytes} bytes",
        must_be=f"at most {limits.body_bytes} bytes",
    )
