"""One body for each route that takes one, as it can be sent.

    a type of the wire  ->  EXAMPLES  ->  a value of it, shown in /openapi.json and at /docs

- Each is granted as it stands, whatever the log: its time is before all that are served. Only a
  model that is swapped in must be there: `run` names a RUN folder beside the first.

Reads `wire`; is read by `openapi`.
"""

from collections.abc import Mapping

from msgspec import Struct

from skipwise.serving.catalogue import VideoFacts
from skipwise.serving.wire import (
    Event,
    EventBatch,
    ExplainRequest,
    FeedRequest,
    LateOutcome,
    ModelChange,
    RankRequest,
    RewardBody,
    ScoreWeightsBody,
    VideoBatch,
)

_SHOWN_AT_MS = 1_650_000_000_000
"""15 April 2022."""

_EVERY: tuple[Struct, ...] = (
    FeedRequest(viewer_id="7", k=10, explain=True),
    RankRequest(viewer_id="7", candidates=("682", "683"), explain=True),
    ExplainRequest(viewer_id="7", video_ids=("682",)),
    EventBatch(
        events=(
            Event(
                event_id="e1",
                viewer_id="7",
                video_id="682",
                shown_at_ms=_SHOWN_AT_MS,
                watch_ms=900,
                duration_ms=30_000,
            ),
        ),
        outcomes=(
            LateOutcome(
                event_id="o1",
                of_event_id="e1",
                viewer_id="7",
                video_id="682",
                known_at_ms=_SHOWN_AT_MS + 60_000,
                disliked=True,
            ),
        ),
    ),
    VideoBatch(
        videos=(
            VideoFacts(
                video_id="9001",
                author_id="55",
                topics=("football",),
                duration_ms=30_000,
                uploaded_at_ms=_SHOWN_AT_MS,
                title="A goal from the halfway line",
                author_name="Ada",
            ),
        ),
    ),
    ScoreWeightsBody(glance_power=2.0, like=RewardBody(scale=5.0, power=1.0)),
    ModelChange(action="canary", run="run-2", share=0.05),
)

EXAMPLES: Mapping[type[Struct], Struct] = {type(each): each for each in _EVERY}
"""By the type of the body."""
