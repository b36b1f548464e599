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
from time import perf_counter

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
        STAGES.labels(stage).observe(perf_counter() - start)


def count_view(watch_ms: int | None, came: Mapping[str, bool]) -> None:
    """Count a view by what is known of it: once, in the process that kept it."""
    if "glance" in came:
        VIEWS.labels(str(came["glance"]).lower()).inc()
    if watch_ms is not None:
        WATCH.observe(watch_ms / 1000)


@dataclass(frozen=True, slots=True)
class Promise:
    """Chances that were given for a video."""

    model: str
    """Checksum of who gave them."""
    chances: Mapping[str, float]


class Promises:
    """Chances that were given, until the view is known."""

    def __init__(self, at_most: int = 20_000) -> None:
        self._given: OrderedDict[tuple[str, str], Promise] = OrderedDict()
        self.at_most = at_most

    def give(self, request_id: str, video_id: str, promise: Promise) -> None:
        """Remember the chances of each objective."""
        self._given[request_id, video_id] = promise
        if len(self._given) > self.at_most:
            self._given.popitem(last=False)

    def meet(
        self, request_id: str | None, video_id: str, came: Mapping[str, bool]
    ) -> Promise | None:
        """Hold what came of a view against the chances given for it, if this process gave them.

        Returns:
            What had been promised; None where this process has promised nothing.
        """
        promise = self._given.pop((request_id, video_id), None) if request_id else None
        if promise is None:
            return None
        for objective in promise.chances.keys() & came.keys():
            CALIBRATION.labels(objective, "expected").inc(promise.chances[objective])
            CALIBRATION.labels(objective, "happened").inc(float(came[objective]))
            CALIBRATION.labels(objective, "shown").inc()
        return promise


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
