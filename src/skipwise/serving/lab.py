"""What the lab shows: how the service does now, and did over the last minutes.

    metrics, every few seconds  ->  Recorder.take  ->  samples, the newest twenty minutes
    Engine, samples             ->  lab_figures    ->  LabFigures
    Engine, some viewers        ->  lab_front      ->  what other score weights would promise

- Samples hold sums since the start; what happened between two of them is their difference.
- With several processes the figures are those of all.

Reads `metrics`, `engine` and `pipeline`; is read by `worker` and `app`.
"""

import dataclasses
import itertools
import json
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from skipwise.model.score import ScoreWeights, fused_score
from skipwise.serving import metrics
from skipwise.serving.engine import Engine
from skipwise.serving.facts import some_viewers
from skipwise.serving.pipeline import Situation, filter_out, hydrate, retrieve, score
from skipwise.serving.wire import FeedRequest

EVERY_S = 5
_SAMPLES = 20 * 60 // EVERY_S
_SLATE = 10
_GRID = {
    "glance_power": (0.0, 0.5, 1.0, 2.0, 4.0, 8.0),
    "watch_power": (0.0, 0.25, 0.5, 1.0, 2.0),
}
"""Weights that are tried, every pair of them."""


class Latency(Struct, frozen=True):
    """Times of one stage, counted in bins since the start."""

    count: int
    sum_s: float
    up_to: tuple[int, ...]
    """How many took no longer than each of `bounds_s`."""


class Sample(Struct, frozen=True):
    """Sums since the start, at one moment."""

    at_ms: int
    """By the system's clock."""
    requests: int
    refused: int
    """Answers of 429."""
    failed: int
    """Answers of 500 and more."""
    views: int
    glances: int
    watched: int
    """Views whose watch time is known."""
    watch_s: float
    stages: dict[str, Latency]


class Calibration(Struct, frozen=True):
    """Of one objective: what was promised of served videos, and what came of it."""

    objective: str
    shown: int
    expected: float
    """Sum of the chances that were given."""
    happened: int


class Look(Struct, frozen=True):
    """An experiment's effect as of one day, as a share of control's mean."""

    day: int
    effect: float
    low: float
    high: float


class Seen(Struct, frozen=True):
    """One metric of an experiment, day by day."""

    experiment: str
    metric: str
    treatment: str
    simulated: bool
    looks: tuple[Look, ...]


class LabFigures(Struct, frozen=True):
    """Everything live."""

    request_id: str
    every_s: int
    bounds_s: tuple[float, ...]
    samples: tuple[Sample, ...]
    calibration: tuple[Calibration, ...]
    viewers: int
    bytes: int
    problems: dict[str, str]
    runs: tuple[str, ...]
    """What could be swapped in."""
    experiments: tuple[Seen, ...]
    """From each `analysis.json` in a folder beside the run."""


class Trial(Struct, frozen=True):
    """What one choice of weights promises of the first ten places."""

    glance_power: float
    watch_power: float
    glance: float
    """Mean predicted chance of a skip."""
    watch_s: float
    """Mean predicted watch time."""
    best: bool
    """No other choice skips less and is watched longer."""
    now: bool
    """The weights in force."""


class LabFront(Struct, frozen=True):
    """What other weights would promise."""

    request_id: str
    viewers: int
    trials: tuple[Trial, ...]


class Recorder:
    """Holds the samples of one process."""

    def __init__(self) -> None:
        self.samples: deque[Sample] = deque(maxlen=_SAMPLES)

    def take(self, at_ms: int) -> None:
        """Take a sample."""
        counted = metrics.counted()
        requests = list(counted.of("skipwise_requests_total"))
        views = {labels["glance"]: value for labels, value in counted.of("skipwise_views_total")}
        self.samples.append(
            Sample(
                at_ms=at_ms,
                requests=int(sum(value for _, value in requests)),
                refused=_answers(requests, "429"),
                failed=_answers(requests, "5"),
                views=int(sum(views.values())),
                glances=int(views.get("true", 0)),
                watched=int(counted.sum("skipwise_watch_seconds_count")),
                watch_s=counted.sum("skipwise_watch_seconds_sum"),
                stages=_stages(counted),
            )
        )


def lab_figures(engine: Engine, recorder: Recorder, at_ms: int, request_id: str) -> LabFigures:
    """Gather what is shown live.

    Raises:
        StateError: The state is out of reach.
    """
    engine.catch_up()
    recorder.take(at_ms)
    parts: dict[str, dict[str, float]] = {}
    for labels, value in metrics.counted().of("skipwise_calibration_total"):
        parts.setdefault(labels["objective"], {})[labels["part"]] = value
    return LabFigures(
        request_id=request_id,
        every_s=EVERY_S,
        bounds_s=metrics.SECONDS,
        samples=tuple(recorder.samples),
        calibration=tuple(
            Calibration(name, int(of["shown"]), of.get("expected", 0.0), int(of.get("happened", 0)))
            for name, of in parts.items()
            if of.get("shown")
        ),
        viewers=engine.store.num_viewers(),
        bytes=engine.store.num_bytes(),
        problems=dict(engine.problems),
        runs=engine.models.runs(),
        experiments=tuple(_experiments(engine.models.folder)),
    )


def lab_front(engine: Engine, request_id: str) -> LabFront:
    """Ask of some viewers' feeds what other weights would promise.

    Raises:
        StateError: The state is out of reach.
    """
    asked = [_asked(engine, each.viewer_id) for each in some_viewers(engine)]
    answers = [each for each in asked if each.predictions.get("glance") is not None]
    trials = [_tried(weights, answers) for weights in _weights(engine.weights)] if answers else []
    return LabFront(
        request_id=request_id,
        viewers=len(answers),
        trials=tuple(
            Trial(
                glance_power=weights.glance_power,
                watch_power=weights.watch_power,
                glance=glance,
                watch_s=watch_s,
                best=not any(g < glance and w > watch_s for _, g, w in trials),
                now=weights == engine.weights,
            )
            for weights, glance, watch_s in trials
        ),
    )


def _asked(engine: Engine, viewer_id: str) -> Situation:
    """Score a viewer's candidates, as a feed would."""
    with engine.world.lock:
        now = engine.situation(FeedRequest(viewer_id=viewer_id), _SLATE, [])
        for step in (retrieve, hydrate, filter_out, score):
            step(now)
    return now


def _weights(now: ScoreWeights) -> Iterable[ScoreWeights]:
    pairs = itertools.product(_GRID["glance_power"], _GRID["watch_power"])
    tried = [
        dataclasses.replace(now, glance_power=glance, watch_power=watch) for glance, watch in pairs
    ]
    return [now, *(each for each in tried if each != now)]


def _tried(weights: ScoreWeights, asked: list[Situation]) -> tuple[ScoreWeights, float, float]:
    glances, watches = [], []
    for now in asked:
        watch_s = now.predictions["watch_s"]
        chances = {name: each for name, each in now.predictions.items() if name != "watch_s"}
        first = np.argsort(-fused_score(chances, watch_s, weights), kind="stable")[:_SLATE]
        glances.append(_mean(chances["glance"][first]))
        watches.append(_mean(watch_s[first]))
    return weights, float(np.mean(glances)), float(np.mean(watches))


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else 0.0


def _answers(requests: list[tuple[dict[str, str], float]], begins: str) -> int:
    return int(sum(value for labels, value in requests if labels["status"].startswith(begins)))


def _stages(counted: metrics.Counted) -> dict[str, Latency]:
    """Read the histogram of stage times."""
    name = "skipwise_stage_seconds"
    sums = {labels["stage"]: value for labels, value in counted.of(f"{name}_sum")}
    bins: dict[str, list[tuple[float, int]]] = {}
    for labels, value in counted.of(f"{name}_bucket"):
        bins.setdefault(labels["stage"], []).append((float(labels["le"]), int(value)))
    stages = {}
    for stage, pairs in bins.items():
        *inside, (_, count) = sorted(pairs)
        stages[stage] = Latency(count, sums[stage], tuple(number for _, number in inside))
    return stages


def _experiments(folder: Path) -> Iterable[Seen]:
    """Read the analyses that lie beside the run; what is none of them is passed over."""
    for path in sorted(folder.glob("*/analysis.json")):
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            yield from _seen(held)
        except (OSError, ValueError, KeyError, TypeError):
            continue


def _seen(held: dict[str, Any]) -> list[Seen]:
    looks: dict[tuple[str, str], list[Look]] = {}
    for each in held["analysis"]["looks"]:
        mean = abs(each["control_mean"])
        if mean and None not in (each["effect"], each["always_low"], each["always_high"]):
            shares = (each[name] / mean for name in ("effect", "always_low", "always_high"))
            looks.setdefault((each["metric"], each["treatment"]), []).append(
                Look(each["day"], *shares)
            )
    return [
        Seen(held["definition"]["name"], metric, treatment, bool(held["simulated"]), tuple(found))
        for (metric, treatment), found in looks.items()
    ]
