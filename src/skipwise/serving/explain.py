"""Why this video: what is predicted of it, what that was read from, and how it became a score.

    ExplainRequest  ->  explain  ->  Explained: curve, score factor by factor, past events read

- Nothing is changed, and nothing is predicted otherwise than for a slate: the same past, laid out
  by the same code; only the network runs eagerly, as where it looks is no output of the exported.
- Asked with the time of a slate, the past is the one that slate was made from; counters are as of
  now.

Reads `engine`, `rows` and `model.forms`; is read by `app`.
"""

import math

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray

from skipwise.labels.feedback import Feedback
from skipwise.model.curve import WatchCurve
from skipwise.model.forms import RankForm
from skipwise.model.score import ScoreWeights
from skipwise.serving.backends import rank_arrays
from skipwise.serving.engine import Engine
from skipwise.serving.negatives import standing
from skipwise.serving.pipeline import Situation
from skipwise.serving.rows import Asked, lay_out, num_visible
from skipwise.serving.showing import shown
from skipwise.serving.wire import ExplainRequest, Shown

Floats = NDArray[np.float64]
READ_AT_MOST = 12
"""Past events that are named."""
_CURVE_POINTS = 64
_SECONDS_WITHOUT_LENGTH = 60.0


class Factor(Struct, frozen=True, omit_defaults=True):
    """One factor of a score."""

    name: str
    value: float
    """The chance or the seconds it is made of."""
    factor: float
    power: float
    scale: float | None = None


class ReadEvent(Struct, frozen=True):
    """A past event, and how much of the attention it has, mean over heads."""

    video_id: str
    shown_at_ms: int
    feedback: str
    watch_s: float | None
    as_watched: float
    """Share of attention of the video supposed watched."""
    as_skipped: float
    """Share of attention of the video supposed skipped."""
    shown: Shown


class Reading(Struct, frozen=True):
    """Where the network looks in the viewer's past."""

    num_events: int
    """How many events it could read."""
    nothing_as_watched: float
    """Share of attention on no event at all."""
    nothing_as_skipped: float
    by_feedback: dict[str, tuple[int, float, float]]
    """Number of events of each outcome, and the attention they have: as watched, as skipped."""
    events: tuple[ReadEvent, ...]
    """The most read first."""


class Why(Struct, frozen=True, omit_defaults=True):
    """Why one video stands where it does."""

    video_id: str
    shown: Shown
    score: float
    """The product of the factors."""
    factors: tuple[Factor, ...]
    predictions: dict[str, float]
    """Chance per objective and `watch_s`."""
    curve_at_s: tuple[float, ...]
    curve: tuple[float, ...]
    """Chance of watching longer than each of these seconds; empty where the model has no curve."""
    thresholds_s: dict[str, float]
    """Seconds below which a watch is a glance, and above which it is effective, long, finished."""
    reading: Reading


class Explained(Struct, frozen=True):
    """Why each of some videos."""

    request_id: str
    model: str
    score_version: int
    videos: tuple[Why, ...]


def explain(engine: Engine, request: ExplainRequest, request_id: str) -> Explained:
    """Take a ranking apart.

    Raises:
        StateError: The state is damaged.
    """
    degraded = engine.catch_up()
    with engine.world.lock:
        now = engine.situation(request, len(request.video_ids), degraded)
        catalogue = now.world.catalogue
        now.candidates = np.array([catalogue.code(video) for video in request.video_ids])
        now.video_ids = list(request.video_ids)
        videos = _whys(now)
    return Explained(
        request_id=request_id,
        model=f"{now.model.name}@{now.model.checksum[:12]}",
        score_version=engine.score_version,
        videos=videos,
    )


def factors_of(
    chances: dict[str, float], watch_s: float | None, left: float, weights: ScoreWeights
) -> tuple[Factor, ...]:
    """Return the factors whose product is the score of one video.

    Args:
        chances: Objective -> chance.
        watch_s: Expected seconds; None where they are not predicted.
        left: What others' negatives leave of the score.
        weights: Of the score.
    """
    made = []
    if watch_s is not None and weights.watch_power > 0:
        raised = (weights.watch_offset_s + watch_s) ** weights.watch_power
        made.append(Factor("watch_s", watch_s, raised, weights.watch_power))
    for name, reward in weights.rewards.items():
        if name in chances and reward.power > 0:
            raised = (1 + reward.scale * chances[name]) ** reward.power
            made.append(Factor(name, chances[name], raised, reward.power, reward.scale))
    for name, power in (("glance", weights.glance_power), ("negative", weights.negative_power)):
        if name in chances and power > 0:
            made.append(Factor(name, chances[name], (1 - chances[name]) ** power, power))
    return (*made, Factor("reported by others", 1 - left, left, 1.0))


def _whys(now: Situation) -> tuple[Why, ...]:
    model, number = now.model, len(now.candidates)
    asked = lay_out(
        now.past,
        now.ask,
        now.candidates,
        now.world.catalogue,
        model.videos,
        now.world.crowd,
        model.viewer(now.ask.viewer_id),
        model.backend.reach,
    )
    encoded = model.backend.read_of(model.backend.encode(asked.history))
    form = RankForm(model.run.model)
    with torch.inference_mode():
        arrays = rank_arrays(encoded, asked.request, asked.candidates)
        scores, looked = form.read(*(torch.from_numpy(array) for array in arrays))
        predicted = scores.predictions
        chances = {
            name: logits[:number].double().sigmoid().numpy()
            for name, logits in predicted.logits.items()
        }
        watch_s = predicted.expected_watch_s[:number].double().numpy()
        at_s = np.stack([_curve_seconds(d) for d in asked.candidates.duration_s.tolist()])
        curve = _survival(predicted.curve, at_s)
    attention = looked.double().mean(2).numpy()
    codes, day = now.candidates, now.ask.clock_day
    left = standing(
        now.world.negatives.ask(codes, day)[:, 0],
        now.world.crowd.videos.ask(codes, day)[:, 0],
        now.negatives,
    )
    made = []
    for place, video_id in enumerate(now.video_ids):
        mine = {name: float(values[place]) for name, values in chances.items()}
        factors = factors_of(mine, float(watch_s[place]), float(left[place]), now.weights)
        made.append(
            Why(
                video_id=video_id,
                shown=shown(now.world.catalogue, int(codes[place])),
                score=math.prod(factor.factor for factor in factors),
                factors=factors,
                predictions={**mine, "watch_s": float(watch_s[place])},
                curve_at_s=tuple(at_s[place].tolist()) if curve is not None else (),
                curve=tuple(curve[place].tolist()) if curve is not None else (),
                thresholds_s=_thresholds(now, asked, place),
                reading=_reading(now, attention[:, place], len(encoded)),
            )
        )
    return tuple(made)


def _curve_seconds(duration_s: float) -> Floats:
    """Choose where a curve is read: close together at the start, where skips happen."""
    until = _SECONDS_WITHOUT_LENGTH if math.isnan(duration_s) else max(duration_s * 1.15, 6.0)
    return until * np.linspace(0, 1, _CURVE_POINTS) ** 1.5


def _survival(curve: WatchCurve | None, at_s: Floats) -> Floats | None:
    if curve is None:
        return None
    padded = np.zeros((len(curve.duration_s_M), at_s.shape[1]))
    padded[: len(at_s)] = at_s
    values: Floats = curve.survival(torch.from_numpy(padded)).double().numpy()[: len(at_s)]
    return values


def _thresholds(now: Situation, asked: Asked, place: int) -> dict[str, float]:
    labels, candidates = now.world.rules.labels, asked.candidates
    duration_s = float(candidates.duration_s[place])
    each = {
        "glance": labels.glance_below_s,
        "effective": float(candidates.effective_above_s[place]),
        "long": labels.long_from_s,
        "finished": float(candidates.finished_above_s[place]),
    }
    if not math.isnan(duration_s):
        each["glance"] = min(each["glance"], duration_s)
        each["long"] = min(each["long"], duration_s)
    return {name: seconds for name, seconds in each.items() if not math.isnan(seconds)}


def _reading(now: Situation, looked_QS: Floats, num_events: int) -> Reading:
    """Name the past events that one candidate looks at; Q readings, "no past" and S - 1 events."""
    liking, disliking = looked_QS[0], looked_QS[-1]
    visible = num_visible(now.past, now.ask)
    events = now.past.events[visible - num_events : visible]
    watched, skipped = liking[1 : 1 + num_events], disliking[1 : 1 + num_events]
    catalogue = now.world.catalogue
    by_feedback = {}
    for state in Feedback:
        of_state = events["feedback"] == state
        if of_state.any():
            by_feedback[state.name.lower()] = (
                int(of_state.sum()),
                float(watched[of_state].sum()),
                float(skipped[of_state].sum()),
            )
    read = []
    for at in np.argsort(-np.maximum(watched, skipped), kind="stable")[:READ_AT_MOST].tolist():
        event = events[at]
        code = int(catalogue.codes(events["video"][at : at + 1])[0])
        read.append(
            ReadEvent(
                video_id=catalogue.video_ids[code],
                shown_at_ms=int(event["shown_at_ms"]),
                feedback=Feedback(int(event["feedback"])).name.lower(),
                watch_s=None if np.isnan(event["watch_s"]) else float(event["watch_s"]),
                as_watched=float(watched[at]),
                as_skipped=float(skipped[at]),
                shown=shown(catalogue, code),
            )
        )
    return Reading(
        num_events=num_events,
        nothing_as_watched=float(liking[0]),
        nothing_as_skipped=float(disliking[0]),
        by_feedback=by_feedback,
        events=tuple(read),
    )
