"""What a type cannot say of a request: times that are possible, candidates that differ.

    a request of the wire  ->  check_*  ->  nothing, or Refusal with field, value, must be

Reads `wire`, `refusal` and `engine`; is read by `app`.
"""

import datetime as dt
from collections.abc import Sequence

import msgspec

from skipwise.features.known import clock_day_of
from skipwise.model.score import ScoreWeights, orders
from skipwise.serving.engine import Engine
from skipwise.serving.intake import day_of
from skipwise.serving.refusal import wrong
from skipwise.serving.wire import (
    EventBatch,
    ExplainRequest,
    FeedRequest,
    ModelChange,
    RankRequest,
    ScoreWeightsBody,
    VideoBatch,
)
from skipwise.settings import apply_settings

_TO_DO = {
    "now": "Set the sender's clock right.",
    "log": "This server lives on in its log's time (serving.clock=log): send times of that log.",
}
"""About a time that cannot be, by whose clock it is."""


def check_rank(engine: Engine, request: RankRequest) -> None:
    """Refuse candidates named twice, and impossible times.

    Raises:
        Refusal: One is.
    """
    _check_time(engine, "requested_at_ms", request.requested_at_ms, "day", request.day)
    _check_once("candidates[{}]", request.candidates)


def check_feed(engine: Engine, request: FeedRequest) -> None:
    """Refuse impossible times.

    Raises:
        Refusal: One is.
    """
    _check_time(engine, "requested_at_ms", request.requested_at_ms, "day", request.day)


def check_explain(engine: Engine, request: ExplainRequest) -> None:
    """Refuse videos named twice, and impossible times.

    Raises:
        Refusal: One is.
    """
    _check_time(engine, "requested_at_ms", request.requested_at_ms, "day", request.day)
    _check_once("video_ids[{}]", request.video_ids)


def check_videos(engine: Engine, batch: VideoBatch) -> None:
    """Refuse videos named twice, and uploads of the future.

    Raises:
        Refusal: One is.
    """
    for place, facts in enumerate(batch.videos):
        at = f"videos[{place}].uploaded_at_ms"
        _check_time(engine, at, facts.uploaded_at_ms, "", None)
    _check_once("videos[{}].video_id", [facts.video_id for facts in batch.videos])


def check_score(engine: Engine, weights: ScoreWeightsBody) -> None:
    """Refuse weights by which a model that answers could order nothing.

    Raises:
        Refusal: No power above 0 is of anything that a model predicts.
        SettingError: One is out of its range.
    """
    changed = apply_settings(ScoreWeights(), msgspec.to_builtins(weights))
    for model in engine.models.every():
        if not orders(changed, model.run.description["objectives"]):
            raise wrong(
                "body",
                msgspec.to_builtins(weights),
                f"weights with a power above 0 for something that {model.name} predicts",
                "Raise one of the powers.",
            )


def check_change(engine: Engine, change: ModelChange) -> None:
    """Refuse to swap to a run that is not there, or by which nothing could be ordered.

    Raises:
        Refusal: It is not, none is named, or it predicts nothing that the weights in force ask for.
        RunError: It is damaged.
    """
    if change.action == "roll_back":
        return
    runs = engine.models.runs()
    if change.run is None or change.run not in runs:
        there = ", ".join(runs)
        raise wrong(
            "run",
            change.run,
            f"the name of a RUN folder beside the first one: there {_are(len(runs))} {there}",
            "Name one of them.",
        )
    if not orders(engine.weights, engine.models.objectives_of(change.run)):
        raise wrong(
            "run",
            change.run,
            "a run that predicts something to which the weights in force give a power above 0",
            "Change the weights first (PUT /v1/score), or name another run.",
        )


def check_events(engine: Engine, batch: EventBatch) -> None:
    """Refuse impossible times and unknown variants.

    Raises:
        Refusal: One is.
    """
    for place, event in enumerate(batch.events):
        at = f"events[{place}]"
        _check_time(engine, f"{at}.shown_at_ms", event.shown_at_ms, f"{at}.day", event.day)
        known = engine.settings.variants
        if engine.variants is not None:
            known += engine.variants.names
        if event.variant is not None and event.variant not in known:
            raise wrong(
                f"{at}.variant",
                event.variant,
                f"one of {', '.join(known)}",
                "Send the variant of the slate.",
            )
    for place, outcome in enumerate(batch.outcomes):
        at = f"outcomes[{place}]"
        _check_time(engine, f"{at}.known_at_ms", outcome.known_at_ms, f"{at}.day", None)


def _check_once(field: str, ids: Sequence[str]) -> None:
    if len(set(ids)) == len(ids):
        return
    seen: set[str] = set()
    for place, video_id in enumerate(ids):
        if video_id in seen:
            raise wrong(
                field.format(place),
                video_id,
                "named once: it is there already",
                "Leave out the double.",
            )
        seen.add(video_id)


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _check_time(
    engine: Engine, field: str, at_ms: int | None, day_field: str, day: str | None
) -> None:
    must_be = None if at_ms is None else engine.check_time(at_ms)
    if must_be is not None:
        raise wrong(field, at_ms, must_be, _TO_DO[engine.settings.clock])
    if day is None:
        return
    try:
        told = day_of(day, 0)
    except ValueError:
        raise wrong(day_field, day, "a day like 2022-05-01", "Mend it.") from None
    clock_day = clock_day_of(
        engine.clock() if at_ms is None else at_ms, engine.world.rules.time_zone
    )
    if abs(told - clock_day) > 1:
        near = (dt.date(1970, 1, 1) + dt.timedelta(days=clock_day)).isoformat()
        raise wrong(day_field, day, f"within a day of {near}, its local day", "Leave it out.")
