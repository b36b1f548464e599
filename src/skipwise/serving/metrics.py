"""What a server tells of itself, for Prometheus.

- Stage times, rates, the skip rate, whether chances of a skip still fit what happens, and size.
- With several processes the figures of all are added up (PROMETHEUS_MULTIPROC_DIR).

Is read by `app` and `engine`.
"""

import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

_SECONDS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

REQUESTS = Counter("skipwise_requests", "Requests answered.", ("route", "status"))
STAGES = Histogram("skipwise_stage_seconds", "Time per stage.", ("stage",), buckets=_SECONDS)
EVENTS = Counter("skipwise_events", "Events by what became of them.", ("what",))
VIEWS = Counter("skipwise_views", "Views whose glance is known; the skip rate.", ("glance",))
CALIBRATION = Counter(
    "skipwise_glance_calibration",
    "Of served videos that were shown: chances of a glance summed, glances, shown.",
    ("part",),
)
SHED = Counter("skipwise_shed", "Requests refused for want of time.")
DEGRADED = Counter("skipwise_degraded", "Slates that did without something.")
STATE_BYTES = Gauge("skipwise_state_bytes", "Size of the state.", multiprocess_mode="mostrecent")
STATE_VIEWERS = Gauge("skipwise_state_viewers", "Viewers held.", multiprocess_mode="mostrecent")
MODEL = Gauge(
    "skipwise_model", "1 for the model that serves.", ("model",), multiprocess_mode="mostrecent"
)


@contextmanager
def timed(stage: str) -> Iterator[None]:
    """Measure a stage."""
    start = perf_counter()
    try:
        yield
    finally:
        STAGES.labels(stage).observe(perf_counter() - start)


class Promises:
    """Chances of a glance that were given, until the view is known."""

    def __init__(self, at_most: int = 20_000) -> None:
        self._given: OrderedDict[tuple[str, str], float] = OrderedDict()
        self.at_most = at_most

    def give(self, request_id: str, video_id: str, chance: float) -> None:
        """Remember a chance."""
        self._given[request_id, video_id] = chance
        if len(self._given) > self.at_most:
            self._given.popitem(last=False)

    def meet(self, request_id: str | None, video_id: str, *, glance: bool) -> None:
        """Hold a view against the chance that was given for it."""
        VIEWS.labels(str(glance).lower()).inc()
        chance = self._given.pop((request_id, video_id), None) if request_id else None
        if chance is not None:
            CALIBRATION.labels("expected").inc(chance)
            CALIBRATION.labels("happened").inc(float(glance))
            CALIBRATION.labels("shown").inc()


def exposition() -> tuple[bytes, str]:
    """Return the figures and their content type."""
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry), CONTENT_TYPE_LATEST
