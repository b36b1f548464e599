"""The engine over HTTP: one worker process of `skipwise serve`.

    request -> key, rate, size -> body by its type -> Engine -> answer by its type

- One table of endpoints makes the routes and the OpenAPI document.
- Nothing a viewer sent is ever logged, and no trace leaves the process.

Reads `worker`, `wire`, `trust`, `refusal`, `openapi`; is read by `serve`.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from time import perf_counter
from typing import Any, NamedTuple

import msgspec
from starlette.applications import Starlette
from starlette.convertors import register_url_convertor
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from skipwise.errors import SkipwiseError
from skipwise.serving import metrics
from skipwise.serving.admission import admit, holder_of, read_body
from skipwise.serving.checks import (
    check_change,
    check_events,
    check_explain,
    check_feed,
    check_rank,
    check_score,
    check_videos,
)
from skipwise.serving.explain import Explained, explain
from skipwise.serving.facts import KnownViewers, PageFacts, feed_facts, some_viewers
from skipwise.serving.files import page_routes
from skipwise.serving.forgetting import erase, forget
from skipwise.serving.front import LabFront
from skipwise.serving.lab import LabFigures, lab_figures
from skipwise.serving.openapi import Described, document
from skipwise.serving.paths import Anything, viewer_id_of
from skipwise.serving.refusal import Refusal, decode, refusal_of
from skipwise.serving.seed import now_ms
from skipwise.serving.takeover import model_document
from skipwise.serving.trust import Scope
from skipwise.serving.wire import (
    Accepted,
    EventBatch,
    ExplainRequest,
    FeedRequest,
    Forgotten,
    HeldViewer,
    ModelChange,
    ModelDocument,
    Posted,
    RankRequest,
    ScoreDocument,
    ScoreWeightsBody,
    Slate,
    VideoBatch,
    encode,
)
from skipwise.serving.worker import Worker

log = logging.getLogger("skipwise.serving")


class Call(NamedTuple):
    """One request on its way to a handler."""

    worker: Worker
    request: Request
    body: Any
    id: str


Handler = Callable[[Call], Awaitable[msgspec.Struct]]


async def post_rank(call: Call) -> Slate:
    """Order given candidates."""
    body: RankRequest = call.body
    check_rank(call.worker.engine, body)
    engine = call.worker.engine
    slate = await call.worker.rank(lambda cheap: engine.rank(body, call.id, cheap=cheap))
    await call.worker.expose(body.viewer_id)
    return slate


async def post_feed(call: Call) -> Slate:
    """Make a slate."""
    body: FeedRequest = call.body
    check_feed(call.worker.engine, body)
    engine = call.worker.engine
    slate = await call.worker.rank(lambda cheap: engine.feed(body, call.id, cheap=cheap))
    await call.worker.expose(body.viewer_id)
    return slate


async def post_explain(call: Call) -> Explained:
    """Take the ranking of some videos apart."""
    body: ExplainRequest = call.body
    engine = call.worker.engine
    check_explain(engine, body)
    return await call.worker.apart(lambda: explain(engine, body, call.id))


async def get_page(call: Call) -> PageFacts:
    """Tell the page what it may ask for."""
    engine, keys = call.worker.engine, call.worker.keys
    try:
        scopes = holder_of(call.worker, call.request).scopes
    except Refusal:
        scopes = frozenset()
    told = await call.worker.apart(lambda: feed_facts(engine)) if "feed" in scopes else None
    return PageFacts(call.id, keys is not None, tuple(sorted(scopes)), told)


async def get_viewers(call: Call) -> KnownViewers:
    """Tell of some viewers with a past."""
    return KnownViewers(call.id, await call.worker.apart(lambda: some_viewers(call.worker.engine)))


async def get_lab(call: Call) -> LabFigures:
    """Tell how the service does, now and over the last minutes."""
    worker = call.worker
    return await worker.apart(
        lambda: lab_figures(worker.engine, worker.recorder, now_ms(), call.id)
    )


async def get_front(call: Call) -> LabFront:
    """Tell what other weights of the score bring, as searched or as predicted."""
    worker = call.worker
    return await asyncio.to_thread(worker.fronts.newest, worker.engine, call.id, now_ms())


async def post_events(call: Call) -> Accepted:
    """Keep events."""
    check_events(call.worker.engine, call.body)
    new, duplicates = await call.worker.keep(call.body)
    metrics.EVENTS.labels("accepted").inc(new)
    metrics.EVENTS.labels("duplicate").inc(duplicates)
    return Accepted(call.id, new, duplicates)


async def get_viewer(call: Call) -> HeldViewer:
    """Tell what is held of a viewer."""
    viewer_id = viewer_id_of(call.request)
    held = await call.worker.apart(lambda: call.worker.engine.held(viewer_id))
    if held is None:
        raise Refusal(404, "nothing is held of this viewer. Post events first.")
    past, events = held
    return HeldViewer(
        request_id=call.id,
        viewer_id=viewer_id,
        num_events=len(past.events),
        num_sums=len(past.tallies),
        num_bytes=len(past.pack()),
        events=events,
    )


async def delete_viewer(call: Call) -> Forgotten:
    """Forget a viewer."""
    viewer_id = viewer_id_of(call.request)
    engine = call.worker.engine
    held = await call.worker.apart(lambda: forget(engine, viewer_id))
    erased = await asyncio.to_thread(erase, engine.store, viewer_id)  # beside events and feeds
    return Forgotten(call.id, held, erased)


async def put_videos(call: Call) -> Posted:
    """Add videos, or change them."""
    body: VideoBatch = call.body
    check_videos(call.worker.engine, body)
    await call.worker.apart(lambda: call.worker.engine.post(body.videos))
    return Posted(call.id, len(body.videos))


async def get_score(call: Call) -> ScoreDocument:
    """Tell the weights of the score."""
    version, weights = await call.worker.apart(call.worker.engine.score)
    return ScoreDocument(call.id, version, weights)


async def put_score(call: Call) -> ScoreDocument:
    """Change the weights of the score."""
    check_score(call.worker.engine, call.body)
    version, weights = await call.worker.apart(
        lambda: call.worker.engine.set_score(msgspec.to_builtins(call.body))
    )
    return ScoreDocument(call.id, version, weights)


async def get_models(call: Call) -> ModelDocument:
    """Tell which models serve."""
    await call.worker.apart(call.worker.engine.catch_up)
    return _models(call)


async def post_models(call: Call) -> ModelDocument:
    """Swap, try out on some viewers, or go back."""
    body: ModelChange = call.body
    models = call.worker.engine.models
    await asyncio.to_thread(check_change, call.worker.engine, body)
    await asyncio.to_thread(models.change, body.action, body.run, body.share)
    return _models(call)


class Alive(msgspec.Struct, frozen=True):
    """The process answers."""

    status: str


class Ready(msgspec.Struct, frozen=True):
    """Whether requests should be sent here, and what they would have to do without."""

    status: str
    model: str
    durability: str
    problems: dict[str, str]


async def health(_: Call) -> Alive:
    """Say that the process lives."""
    return Alive("alive")


async def ready(call: Call) -> Ready:
    """Say what is done without."""
    engine = call.worker.engine
    with contextlib.suppress(SkipwiseError):
        await call.worker.apart(engine.catch_up)
    return Ready(
        status="degraded" if engine.problems else "ready",
        model=engine.models.line_up.current,
        durability=getattr(engine.store, "durability", "on disk before the answer"),
        problems=dict(engine.problems),
    )


class Endpoint(NamedTuple):
    """A route: what it is called, who may, and who answers."""

    described: Described
    handler: Handler

    @classmethod
    def of(
        cls, method: str, path: str, handler: Handler, scope: Scope | None, body: Any, answer: Any
    ) -> "Endpoint":
        """Describe a handler by its own first line."""
        summary = (handler.__doc__ or "").splitlines()[0]
        return cls(Described(method, path, summary, scope, body, answer), handler)


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint.of("POST", "/v1/feed", post_feed, "feed", FeedRequest, Slate),
    Endpoint.of("POST", "/v1/rank", post_rank, "feed", RankRequest, Slate),
    Endpoint.of("POST", "/v1/explain", post_explain, "feed", ExplainRequest, Explained),
    Endpoint.of("POST", "/v1/events", post_events, "events", EventBatch, Accepted),
    Endpoint.of("GET", "/v1/viewers", get_viewers, "admin", None, KnownViewers),
    Endpoint.of("GET", "/v1/viewers/{viewer_id}", get_viewer, "admin", None, HeldViewer),
    Endpoint.of("DELETE", "/v1/viewers/{viewer_id}", delete_viewer, "admin", None, Forgotten),
    Endpoint.of("PUT", "/v1/videos", put_videos, "admin", VideoBatch, Posted),
    Endpoint.of("GET", "/v1/score", get_score, "admin", None, ScoreDocument),
    Endpoint.of("PUT", "/v1/score", put_score, "admin", ScoreWeightsBody, ScoreDocument),
    Endpoint.of("GET", "/v1/models", get_models, "admin", None, ModelDocument),
    Endpoint.of("POST", "/v1/models", post_models, "admin", ModelChange, ModelDocument),
    Endpoint.of("GET", "/v1/lab", get_lab, "admin", None, LabFigures),
    Endpoint.of("GET", "/v1/lab/front", get_front, "admin", None, LabFront),
    Endpoint.of("GET", "/v1/page", get_page, None, None, PageFacts),
    Endpoint.of("GET", "/health", health, None, None, Alive),
    Endpoint.of("GET", "/ready", ready, None, None, Ready),
)


def build_app(worker: Worker) -> Starlette:
    """Make the ASGI application of one worker."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        beside = [asyncio.create_task(worker.watch()), asyncio.create_task(worker.take_over())]
        yield
        for task in beside:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if worker.flushing is not None:
            await worker.flushing
        worker.close()

    register_url_convertor("anything", Anything())
    described = [endpoint.described for endpoint in ENDPOINTS]
    api = msgspec.json.encode(document(described))
    routes = [  # each is tried in turn: what is asked most stands first
        *(_route(worker, endpoint) for endpoint in ENDPOINTS),
        Route("/openapi.json", lambda _: Response(api, media_type="application/json")),
        Route("/metrics", lambda _: _exposed()),
        *page_routes(),
    ]
    return Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={404: _no_such_page, 405: _no_such_page, 500: _fault},
    )


def _route(worker: Worker, endpoint: Endpoint) -> Route:
    described, handler = endpoint
    decoder = msgspec.json.Decoder(described.body) if described.body is not None else None

    async def answer(request: Request) -> Response:
        started, request_id = perf_counter(), secrets.token_hex(8)
        try:
            admit(worker, request, described.scope)
            body = None
            if decoder is not None:
                body = decode(await read_body(request, worker.limits), decoder)
            status, payload = 200, encode(await handler(Call(worker, request, body, request_id)))
            headers = {}
        except (Refusal, SkipwiseError) as problem:
            refusal = problem if isinstance(problem, Refusal) else refusal_of(problem)
            status, payload = refusal.status, encode(refusal.problem(request_id))
            headers = _headers(refusal)
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception as problem:
            status, headers = 500, {}
            _log_fault(problem, described.path, request_id)
            payload = encode(
                Refusal(500, "a fault of the server; it is logged under request_id.").problem(
                    request_id
                )
            )
        metrics.answered(described.path, status, perf_counter() - started)
        headers["x-request-id"] = request_id
        return Response(payload, status, headers, "application/json")

    return Route(described.path.replace("}", ":anything}"), answer, methods=[described.method])


def _headers(refusal: Refusal) -> dict[str, str]:
    if refusal.status == 401:
        return {"www-authenticate": "Bearer"}
    if refusal.retry_after_s is None:
        return {}
    return {"retry-after": str(max(1, round(refusal.retry_after_s)))}


def _models(call: Call) -> ModelDocument:
    return model_document(call.worker.engine, call.worker.takeover, call.id)


def _exposed() -> Response:
    content, kind = metrics.exposition()
    return Response(content, media_type=kind)


async def _no_such_page(request: Request, problem: Exception) -> Response:
    status = getattr(problem, "status_code", 404)
    request_id = secrets.token_hex(8)
    said = Refusal(status, f"there is no {request.method} of this path. See /docs.")
    headers = {**(getattr(problem, "headers", None) or {}), "x-request-id": request_id}
    return Response(encode(said.problem(request_id)), status, headers, "application/json")


async def _fault(_: Request, problem: Exception) -> Response:
    request_id = secrets.token_hex(8)
    _log_fault(problem, "", request_id)
    said = Refusal(500, "a fault of the server; it is logged under request_id.")
    headers = {"x-request-id": request_id}
    return Response(encode(said.problem(request_id)), 500, headers, "application/json")


def _log_fault(problem: Exception, path: str, request_id: str) -> None:
    """Log where a fault came from, without its words: they may hold what a viewer sent."""
    trace, places = problem.__traceback__, []
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    log.error("%s in %s (request %s): %s", type(problem).__name__, path, request_id, places)
