"""What a server tells of itself, for Prometheus.

- Stage times, rates, the skip rate, whether chances still fit what happens, and size.
- With several processes the figures of all are added up (PROMETHEUS_MULTIPROC_DIR).

Is read by `app`, `engine` and `lab`.
"""

import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Summary,
    generate_latest,
    multiprocess,
)
from prometheus_client.samples import Sample

SECONDS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

REQUESTS = Counter("skipwise_requests", "Requests answered.", ("route", "status"))
STAGES = Histogram("skipwise_stage_seconds", "Time per stage.", ("stage",), buckets=SECONDS)
EVENTS = Counter("skipwise_events", "Events by what became of them.", ("what",))
VIEWS = Counter("skipwise_views", "Views whose glance is known; the skip rate.", ("glance",))
WATCH = Summary("skipwise_watch_seconds", "Watch time of views.")
CALIBRATION = Counter(
    "skipwise_calibration",
    "Of served videos that were shown: chances given (expected), outcomes (happened), shown.",
    ("objective", "part"),
)
SHED = Counter("skipwise_shed", "Requests refused for want of time.")
DEGRADED = Counter("skipwise_degraded", "Slates that did without something.")
STATE_BYTES = Gauge("skipwise_state_bytes", "Size of the state.", multiprocess_mode="mostrecent")
STATE_VIEWERS = Gauge("skipwise_state_viewers", "Viewers held.", multiprocess_mode="mostrecent")
MODEL = Gauge(
    "skipwise_model",
    "Share of viewers that a model answers.",
    ("model",),
    multiprocess_mode="mostrecent",
)
LEARNT_UNTIL = Gauge(
    "skipwise_model_learnt_until_seconds",
    "When the newest event was shown that the model which answers has learnt; 0 = not known.",
    multiprocess_mode="mostrecent",
)
TAKEOVERS = Counter(
    "skipwise_takeovers", "Published models: tried, kept, rolled back, refused.", ("what",)
)


@contextmanager
def timed(stage: str) -> Iterator[None]:
    """Measure a stage."""
    start = perf_counter()
    try:
        yield
    finally:
        observe(stage, perf_counter() - start)


def observe(stage: str, seconds: float) -> None:
    """Put down what a stage has taken."""
    _stage(stage).observe(seconds)


@lru_cache(maxsize=256)
def _stage(stage: str) -> Histogram:
    """Return a stage's histogram: to look it up by its label takes as long as to count in it."""
    return STAGES.labels(stage)


def answered(route: str, status: int, seconds: float) -> None:
    """Count a request that was answered, and what it has taken."""
    _answers(route, status).inc()
    observe(f"request {route}", seconds)


@lru_cache(maxsize=1024)
def _answers(route: str, status: int) -> Counter:
    return REQUESTS.labels(route, status)


def count_view(watch_ms: int | None, came: Mapping[str, bool]) -> None:
    """Count a view by what is known of it: once, in the process that kept it."""
    if "glance" in came:
        VIEWS.labels(str(came["glance"]).lower()).inc()
    if watch_ms is not None:
        WATCH.observe(watch_ms / 1000)


class Met(NamedTuple):
    """What had been promised of a view that is now known."""

    model: str
    """Checksum of who promised."""
    chances: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Given:
    """The chances of one request's first places."""

    model: str
    names: tuple[str, ...]
    chances: Sequence[NDArray[np.float64]]
    """Of each objective, (places,)."""
    place_of: dict[str, int]
    """Video -> place, while its view is not known."""


class Promises:
    """Chances that were given, until the view is known; those of the newest requests."""

    def __init__(self, requests_at_most: int = 1000) -> None:
        self._given: OrderedDict[str, _Given] = OrderedDict()
        self.requests_at_most = requests_at_most

    def give(
        self,
        request_id: str,
        model: str,
        video_ids: Sequence[str],
        chances: Mapping[str, NDArray[np.float64]],
    ) -> None:
        """Remember the chances of each objective that a model (its checksum) gave to videos."""
        places = {video_id: place for place, video_id in enumerate(video_ids)}
        given = _Given(model, tuple(chances), tuple(chances.values()), places)
        self._given[request_id] = given
        if len(self._given) > self.requests_at_most:
            self._given.popitem(last=False)

    def meet(self, request_id: str | None, video_id: str, came: Mapping[str, bool]) -> Met | None:
        """Hold what came of a view against the chances given for it, if this process gave them.

        Returns:
            What had been promised; None where this process has promised nothing, or it was met.
        """
        given = self._given.get(request_id) if request_id else None
        place = None if given is None else given.place_of.pop(video_id, None)
        if given is None or place is None:
            return None
        met = Met(
            given.model,
            {
                name: float(each[place])
                for name, each in zip(given.names, given.chances, strict=True)
            },
        )
        for objective in met.chances.keys() & came.keys():
            CALIBRATION.labels(objective, "expected").inc(met.chances[objective])
            CALIBRATION.labels(objective, "happened").inc(float(came[objective]))
            CALIBRATION.labels(objective, "shown").inc()
        return met


class Counted:
    """The figures at one moment, by name."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._by_name: dict[str, list[tuple[dict[str, str], float]]] = {}
        for sample in samples:
            self._by_name.setdefault(sample.name, []).append((sample.labels, sample.value))

    def of(self, name: str) -> Sequence[tuple[dict[str, str], float]]:
        """Return (labels, value) of each series of a name."""
        return self._by_name.get(name, ())

    def sum(self, name: str) -> float:
        """Return the sum over the series of a name."""
        return sum(value for _, value in self.of(name))


def counted() -> Counted:
    """Return the figures of all processes."""
    return Counted(sample for metric in _registry().collect() for sample in metric.samples)


def exposition() -> tuple[bytes, str]:
    """Return the figures and their content type."""
    return generate_latest(_registry()), CONTENT_TYPE_LATEST


def _registry() -> CollectorRegistry:
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry
