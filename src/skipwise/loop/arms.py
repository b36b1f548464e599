"""Who answers the viewers of a variant.

    Definition, DATASET, an empty Store  ->  open_arms  ->  {variant: Arm}
    FeedRequest  ->  Arm.feed  ->  Slate          EventBatch  ->  Arm.keep

- Variants are real serving engines over one state: what a viewer of one does, all learn from, as in
  production; each has its own model and its own score. Who is given a slate is noted as a server
  notes it, with the next events or when the arms are closed.
- `HttpArm` says the same to a server over HTTP.

Reads `serving` and `experiments`; is read by `days`.
"""

import http.client
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import msgspec

from skipwise.errors import StateError
from skipwise.experiments.definition import Definition
from skipwise.features.dataset import Dataset
from skipwise.features.known import clock_day_of
from skipwise.model.score import ScoreWeights, load_score_weights
from skipwise.serving.engine import Engine
from skipwise.serving.exposing import Exposing
from skipwise.serving.line_up import Models
from skipwise.serving.models import load_model
from skipwise.serving.opening import open_engine, prepare_state
from skipwise.serving.serve_settings import ServeSettings
from skipwise.serving.state.store import Store
from skipwise.serving.variants import Variants
from skipwise.serving.wire import EventBatch, FeedRequest, Slate


class Arm(Protocol):
    """Answers requests and takes events in."""

    def feed(self, request: FeedRequest, request_id: str) -> Slate:
        """Make a slate."""

    def keep(self, batch: EventBatch) -> None:
        """Take events in; the next request knows them."""


class EngineArm:
    """An engine in this process."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def feed(self, request: FeedRequest, request_id: str) -> Slate:
        """Make a slate."""
        return self.engine.feed(request, request_id)

    def keep(self, batch: EventBatch) -> None:
        """Take events in."""
        self.note()
        self.engine.keep([batch])

    def note(self) -> None:
        """Write down who was given his first slate, by any arm of the same experiment."""
        if self.engine.variants is not None:
            self.engine.variants.exposing.write()


class HttpArm:
    """A server elsewhere.

    Raises:
        StateError: From either method: it refused, or cannot be reached.
    """

    def __init__(self, url: str, timeout_s: float = 30.0) -> None:
        parts = urllib.parse.urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.netloc, timeout=timeout_s)
        self.url = url

    def feed(self, request: FeedRequest, request_id: str) -> Slate:  # noqa: ARG002 - its own
        """Make a slate."""
        return msgspec.json.decode(self._post("/v1/feed", request), type=Slate)

    def keep(self, batch: EventBatch) -> None:
        """Take events in."""
        self._post("/v1/events", batch)

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def _post(self, path: str, body: msgspec.Struct) -> bytes:
        try:
            self._connection.request(
                "POST", path, msgspec.json.encode(body), {"content-type": "application/json"}
            )
            answer = self._connection.getresponse()
            text = answer.read()
        except OSError as problem:
            raise StateError(
                f"{self.url} cannot be reached ({problem}); a server must answer there. Start "
                "`skipwise serve`."
            ) from None
        if answer.status != 200:
            raise StateError(
                f"{self.url}{path} answered {answer.status}: {text.decode(errors='replace')[:300]}"
                " It must take what simulated viewers send. Start it with the run of this world."
            )
        return text


@contextmanager
def open_arms(
    definition: Definition,
    dataset: Path,
    store: Store,
    settings: ServeSettings,
    clock: Callable[[], int],
) -> Iterator[Mapping[str, Arm]]:
    """Open an engine for every variant, over one state seeded from the dataset.

    Args:
        definition: Its variants' models and scores.
        dataset: What was known before.
        store: The state, empty; the caller's to close.
        settings: Of all engines.
        clock: The viewers' time, UTC ms.

    Raises:
        RunError: A model is damaged, or trained by other rules than the others.
        SettingError: A file of weights is wrong.
    """
    runs = [definition.folder / variant.model for variant in definition.variants]
    prepare_state(runs[0], dataset, store, settings.state)
    first = open_engine(runs[0], dataset, store, settings, clock)
    opened, arms, exposing = Dataset.open(dataset), {}, Exposing(definition, store)

    def today() -> int:
        return clock_day_of(clock(), first.world.rules.time_zone)

    for variant, run in zip(definition.variants, runs, strict=True):
        model = load_model(run, first.world, opened, settings.backend, day=today())
        models = Models(model, first.world, store, opened, today)
        engine = Engine(first.world, store, models, settings, clock)
        path = definition.folder / variant.score
        engine.weights = load_score_weights(path) if variant.score else ScoreWeights()
        own = {variant.name: model}, {variant.name: engine.weights}
        engine.variants = Variants(definition, *own, exposing)
        arms[variant.name] = EngineArm(engine)
    yield arms
    exposing.write()
