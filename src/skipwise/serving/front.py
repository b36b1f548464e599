"""What can be had for what? The lab's Pareto front of score weights.

    a `tune.json` beside the run, of the model that answers  ->  what `skipwise tune` searched
    none: Engine, some viewers' feeds                        ->  what other weights would promise

- Neither is made anew for whoever looks: a search is read again when its file has changed, a
  promise is good for a minute, for the same model and weights.
- A search is measured: outcomes of slates that were shown, ordered anew. A promise is predicted by
  the model itself, and says so.
- The weights in force are marked on it where they are among its points.

Reads `beside`, `engine`, `facts` and `pipeline`; is read by `worker` and `app`.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from skipwise.errors import SettingError
from skipwise.model.score import ScoreWeights, fused_score
from skipwise.serving.beside import found_beside
from skipwise.serving.engine import Engine
from skipwise.serving.facts import some_viewers
from skipwise.serving.pipeline import Situation, filter_out, hydrate, retrieve, score
from skipwise.serving.wire import FeedRequest
from skipwise.settings import apply_settings, settings_to_dict

_SLATE = 10
_PROMISED_FOR_MS = 60_000
_GRID = {
    "glance_power": (0.0, 0.5, 1.0, 2.0, 4.0, 8.0),
    "watch_power": (0.0, 0.25, 0.5, 1.0, 2.0),
}
"""Weights that are tried, every pair of them."""


class Trial(Struct, frozen=True):
    """What one choice of weights brings in the first places."""

    improve: float
    keep: float
    weights: dict[str, float] | None = None
    """By name, as `like.scale`; None where the search did not keep them."""
    best: bool = False
    """On the front: nothing tried is better in one without being worse in the other."""
    now: bool = False
    """The weights in force."""
    today: bool = False
    """The weights in force when the search was made."""
    choice: bool = False
    """What the search chose for its trade."""


class LabFront(Struct, frozen=True):
    """Choices of weights on two axes."""

    request_id: str
    source: Literal["searched", "predicted"]
    found: str | None
    """The folder of the search."""
    verdict: str | None
    """What the search says of its choice, on viewers it was not made for."""
    improve: str
    """What the first axis is of: glance, watch_s, effective or negative."""
    keep: str
    at: int
    """How many first places count."""
    slates: int
    """Of how many slates it is the mean."""
    trials: tuple[Trial, ...]


class Fronts:
    """Makes the fronts of one process."""

    def __init__(self) -> None:
        self._promised: tuple[tuple[str, ScoreWeights], int, LabFront] | None = None

    def newest(self, engine: Engine, request_id: str, at_ms: int) -> LabFront:
        """Return the newest search for the model that answers, or else what it promises itself.

        Args:
            engine: Whose world's lock is held for one viewer at a time.
            request_id: Of the answer.
            at_ms: By the system's clock.

        Raises:
            StateError: The state is out of reach.
        """
        engine.catch_up()
        searched = _searched(engine, request_id)
        if searched is not None:
            return searched
        key = engine.models.every()[0].checksum, engine.weights
        held = self._promised
        if held is None or held[0] != key or not 0 <= at_ms - held[1] < _PROMISED_FOR_MS:
            held = key, at_ms, _predicted(engine, request_id)
            self._promised = held
        return replace(held[2], request_id=request_id)


def _searched(engine: Engine, request_id: str) -> LabFront | None:
    """Read the newest search of this model; what is none, or of another model, is passed over."""
    model = engine.models.every()[0].checksum
    for path, held in found_beside(engine.models.folder, "tune.json"):
        try:
            if held["run"]["model"] == model:
                return _told(held, path.parent.name, engine.weights, request_id)
        except (ValueError, KeyError, TypeError, SettingError):
            continue
    return None


def _told(held: dict[str, Any], folder: str, now: ScoreWeights, request_id: str) -> LabFront:
    trade = held["trade"]
    improve, keep = str(trade["improve"]), str(trade["keep"])
    today, choice = (
        apply_settings(ScoreWeights(), held[name]["weights"]) for name in ("today", "choice")
    )
    on_front = [apply_settings(ScoreWeights(), each["weights"]) for each in held["front"]]

    def trial(point: Mapping[str, Any], *, best: bool) -> Trial:
        weights = apply_settings(ScoreWeights(), point["weights"])
        return Trial(
            improve=float(point[improve]),
            keep=float(point[keep]),
            weights=_flat(weights),
            best=best,
            now=weights == now,
            today=weights == today,
            choice=weights == choice,
        )

    others = [held["today"]] if today not in on_front else []
    if choice not in [*on_front, today]:
        others.append(held["choice"])
    return LabFront(
        request_id=request_id,
        source="searched",
        found=folder,
        verdict=str(held["verdict"]),
        improve=improve,
        keep=keep,
        at=int(trade["at"]),
        slates=int(held["slates"]["searched"]),
        trials=(
            *(Trial(float(better), float(kept)) for better, kept in held["behind"]),
            *(trial(each, best=True) for each in held["front"]),
            *(trial(each, best=False) for each in others),
        ),
    )


def _predicted(engine: Engine, request_id: str) -> LabFront:
    """Ask of some viewers' feeds what other weights would promise."""
    asked = [_asked(engine, each.viewer_id) for each in some_viewers(engine)]
    answers = [each for each in asked if each.predictions.get("glance") is not None]
    trials = [_tried(weights, answers) for weights in _weights(engine.weights)] if answers else []
    return LabFront(
        request_id=request_id,
        source="predicted",
        found=None,
        verdict=None,
        improve="glance",
        keep="watch_s",
        at=_SLATE,
        slates=len(answers),
        trials=tuple(
            Trial(
                improve=glance,
                keep=watch_s,
                weights=_flat(weights),
                best=not any(
                    g <= glance and w >= watch_s and (g, w) != (glance, watch_s)
                    for _, g, w in trials
                ),
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


def _flat(weights: ScoreWeights) -> dict[str, float]:
    """Name each weight, as `like.scale`."""
    flat: dict[str, float] = {}
    for name, value in settings_to_dict(weights).items():
        parts = value if isinstance(value, dict) else {"": value}
        flat |= {f"{name}.{part}".rstrip("."): float(number) for part, number in parts.items()}
    return flat
