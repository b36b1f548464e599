"""What the lab shows: how the service does now, and did over the last minutes.

    metrics, every few seconds  ->  Recorder.take  ->  samples, the newest twenty minutes
    Engine, samples             ->  lab_figures    ->  LabFigures

- Samples hold sums since the start; what happened between two of them is their difference.
- With several processes the figures are those of all.
- An analysis is read again only when its file has changed.

Reads `metrics`, `beside`, `engine` and `experiments.metrics`; is read by `worker` and `app`.
"""

from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from msgspec import Struct

from skipwise.experiments.metrics import METRICS
from skipwise.serving import metrics
from skipwise.serving.beside import found_beside
from skipwise.serving.engine import Engine

EVERY_S = 5
_SAMPLES = 20 * 60 // EVERY_S


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
    fewer_is_better: bool
    control: str
    treatment: str
    simulated: bool
    days: int
    """Planned length."""
    alpha: float
    """1 - coverage of the intervals over all looks: of this metric, or, where the experiment
    corrects, its part of what all metrics share."""
    looks: tuple[Look, ...]
    """As of each day at whose end there were viewers enough, counted from 0."""


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
    trained_glance_share: float | None
    """Share of skips in what the model that answers has learnt from; none where it learns none."""
    experiments: tuple[Seen, ...]
    """From each `analysis.json` in a folder beside the run."""


class Recorder:
    """Holds the samples of one process."""

    def __init__(self) -> None:
        self.samples: deque[Sample] = deque(maxlen=_SAMPLES)

    def take(self, at_ms: int) -> None:
        """Take a sample, as every EVERY_S seconds."""
        self.samples.append(_sample(metrics.counted(), at_ms))

    def until(self, now: Sample) -> tuple[Sample, ...]:
        """Return the samples up to one of now, which takes the place of what is hardly older.

        Two samples a few milliseconds apart would make of one request hundreds a second.
        """
        far = [each for each in self.samples if now.at_ms - each.at_ms >= 500 * EVERY_S]
        return (*far, now)


def lab_figures(engine: Engine, recorder: Recorder, at_ms: int, request_id: str) -> LabFigures:
    """Gather what is shown live.

    Raises:
        StateError: The state is out of reach.
    """
    engine.catch_up()
    counted = metrics.counted()
    parts: dict[str, dict[str, float]] = {}
    for labels, value in counted.of("skipwise_calibration_total"):
        parts.setdefault(labels["objective"], {})[labels["part"]] = value
    return LabFigures(
        request_id=request_id,
        every_s=EVERY_S,
        bounds_s=metrics.SECONDS,
        samples=recorder.until(_sample(counted, at_ms)),
        calibration=tuple(
            Calibration(name, int(of["shown"]), of.get("expected", 0.0), int(of.get("happened", 0)))
            for name, of in parts.items()
            if of.get("shown")
        ),
        viewers=engine.store.num_viewers(),
        bytes=engine.store.num_bytes(),
        problems=dict(engine.problems),
        runs=engine.models.runs(),
        trained_glance_share=_trained_share(engine, "glance"),
        experiments=tuple(_experiments(engine.models.folder)),
    )


def _trained_share(engine: Engine, objective: str) -> float | None:
    shares = engine.models.every()[0].run.description["label_shares"]
    return float(shares[objective]) if objective in shares else None


def _sample(counted: metrics.Counted, at_ms: int) -> Sample:
    requests = list(counted.of("skipwise_requests_total"))
    views = {labels["glance"]: value for labels, value in counted.of("skipwise_views_total")}
    return Sample(
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
    for _, held in sorted(found_beside(folder, "analysis.json"), key=lambda each: each[0]):
        try:
            yield from _seen(held)
        except (KeyError, TypeError, ValueError):
            continue


def _seen(held: dict[str, Any]) -> list[Seen]:
    looks: dict[tuple[str, str, float], list[Look]] = {}
    for each in held["analysis"]["looks"]:
        mean = abs(each["control_mean"])
        if mean and None not in (each["effect"], each["always_low"], each["always_high"]):
            shares = (each[name] / mean for name in ("effect", "always_low", "always_high"))
            of = each["metric"], each["treatment"], float(each["always_level"])
            looks.setdefault(of, []).append(Look(each["day"], *shares))
    definition = held["definition"]
    return [
        Seen(
            experiment=definition["name"],
            metric=metric,
            fewer_is_better=METRICS[metric].better == "down",
            control=definition["control"],
            treatment=treatment,
            simulated=bool(held["simulated"]),
            days=int(definition["days"]),
            alpha=alpha,
            looks=tuple(found),
        )
        for (metric, treatment, alpha), found in looks.items()
    ]
