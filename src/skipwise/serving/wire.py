"""What goes over the wire: the types of requests and answers, and what each number must be.

    JSON  ->  msgspec  ->  one of these  ->  the pipeline  ->  one of these  ->  JSON

- An unknown field is refused by name; times are UTC milliseconds.
- `openapi` is made from these types, so that the document cannot differ from the server.

Reads nothing of ours but `VideoFacts`; is read by `app`, `intake` and the pipeline.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from skipwise.serving.catalogue import Id, Length, Milliseconds, VideoFacts

EVENTS_AT_MOST = 1000
CANDIDATES_AT_MOST = 2000
FEED_AT_MOST = 200
VIDEOS_AT_MOST = 1000

NO_DOTS = r"^([^.]|\.[^.]|\.\.[\s\S])"
ViewerId = Annotated[str, Meta(min_length=1, max_length=128, pattern=NO_DOTS)]
"""Any id but `.` and `..`: those two cannot be named in a path, whatever they are quoted as."""
Duration = Annotated[int, Meta(ge=0, le=7 * 86_400_000, description="ms")]
A_DAY = r"^\d{4}-\d{2}-\d{2}$"
Day = Annotated[str, Meta(pattern=A_DAY)]


class Event(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One impression and what came of it, sent when the view ends."""

    event_id: Id
    viewer_id: ViewerId
    video_id: Id
    shown_at_ms: Milliseconds
    watch_ms: Duration | None = None
    duration_ms: Length | None = None
    surface: Id | None = None
    request_id: Id | None = None
    position: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    liked: bool | None = None
    followed: bool | None = None
    commented: bool | None = None
    shared: bool | None = None
    disliked: bool | None = None
    clicked: bool | None = None
    long_viewed: bool | None = None
    policy: Literal["served", "random"] | None = None
    propensity: Annotated[float, Meta(gt=0, le=1)] | None = None
    """As the slate said it: of a lottery 1 / candidates it drew from; 1 where the order decided."""
    variant: Id | None = None
    day: Day | None = None
    """Calendar day as the source tells it; else the local day of `shown_at_ms`."""


class LateOutcome(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What became known after the view was sent: a row of its own, never an edit."""

    event_id: Id
    of_event_id: Id
    viewer_id: ViewerId
    video_id: Id
    known_at_ms: Milliseconds
    liked: bool | None = None
    followed: bool | None = None
    commented: bool | None = None
    shared: bool | None = None
    disliked: bool | None = None
    clicked: bool | None = None


class EventBatch(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/events`."""

    events: Annotated[tuple[Event, ...], Meta(max_length=EVENTS_AT_MOST)] = ()
    outcomes: Annotated[tuple[LateOutcome, ...], Meta(max_length=EVENTS_AT_MOST)] = ()


class Accepted(Struct, frozen=True):
    """Events that are on disk."""

    request_id: str
    accepted: int
    duplicates: int
    """Already held under the same event id; counted once."""


class RankRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Candidates to order for a viewer."""

    viewer_id: ViewerId
    candidates: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=CANDIDATES_AT_MOST)]
    surface: Id | None = None
    requested_at_ms: Milliseconds | None = None
    """Else now."""
    day: Day | None = None
    explain: bool = False


class FeedRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A slate for a viewer."""

    viewer_id: ViewerId
    k: Annotated[int, Meta(ge=1, le=FEED_AT_MOST)] = 10
    surface: Id | None = None
    requested_at_ms: Milliseconds | None = None
    day: Day | None = None
    blocked_authors: Annotated[tuple[Id, ...], Meta(max_length=1000)] = ()
    explain: bool = False
    describe: bool = False
    """Say also what a person would see of each video."""


class ExplainRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of `POST /v1/explain`."""

    viewer_id: ViewerId
    video_ids: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=20)]
    surface: Id | None = None
    requested_at_ms: Milliseconds | None = None
    """Else now."""
    day: Day | None = None


Asking = RankRequest | FeedRequest | ExplainRequest
"""Whatever says who asks, where and when."""


class Shown(Struct, frozen=True, omit_defaults=True):
    """What a person would see of a video."""

    topics: tuple[str, ...] = ()
    author_id: str | None = None
    duration_ms: int | None = None
    title: str | None = None
    author_name: str | None = None


class Item(Struct, frozen=True, omit_defaults=True, gc=False):
    """One place of an answer."""

    video_id: str
    score: float
    source: str | None = None
    policy: str | None = None
    propensity: float | None = None
    """How likely the video was given who decided: 1 / candidates left of a lottery, else 1."""
    predictions: dict[str, float] | None = None
    """Chance per objective and `watch_s`, where `explain` was asked for."""
    shown: Shown | None = None
    """Where `describe` was asked for."""


class Removed(Struct, frozen=True):
    """A candidate a filter took out, and why."""

    video_id: str
    reason: str


class Slate(Struct, frozen=True, omit_defaults=True):
    """An ordered answer; send `request_id` and `variant` back with the events."""

    request_id: str
    variant: str
    model: str
    score_version: int
    items: tuple[Item, ...]
    degraded: tuple[str, ...] = ()
    """What this answer had to do without."""
    removed: tuple[Removed, ...] | None = None


class HeldEvent(Struct, frozen=True):
    """One event as it is held."""

    video_id: str
    shown_at_ms: int
    feedback: str
    watch_s: float | None


class HeldViewer(Struct, frozen=True):
    """What is held of a viewer."""

    request_id: str
    viewer_id: str
    num_events: int
    num_sums: int
    num_bytes: int
    events: tuple[HeldEvent, ...]
    """Oldest first."""


class Forgotten(Struct, frozen=True):
    """What there was to forget."""

    request_id: str
    held: bool
    """Whether there was a past."""
    erased: int
    """Lines of the log that told of the viewer, and no longer do."""


class VideoBatch(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `PUT /v1/videos`."""

    videos: Annotated[tuple[VideoFacts, ...], Meta(min_length=1, max_length=VIDEOS_AT_MOST)]


class Posted(Struct, frozen=True):
    """Videos that can be ranked from now on."""

    request_id: str
    videos: int


class ScoreDocument(Struct, frozen=True):
    """The weights in force, and their version."""

    request_id: str
    version: int
    weights: dict[str, float | dict[str, float]]


Power = Annotated[float, Meta(ge=0, le=100)]


class RewardBody(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`model.score.Reward`; what is left out keeps its default."""

    scale: Annotated[float, Meta(ge=0, le=1e6)] | msgspec.UnsetType = msgspec.UNSET
    power: Power | msgspec.UnsetType = msgspec.UNSET


class ScoreWeightsBody(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`model.score.ScoreWeights`; what is left out keeps its default."""

    watch_offset_s: Annotated[float, Meta(gt=0, le=300)] | msgspec.UnsetType = msgspec.UNSET
    watch_power: Power | msgspec.UnsetType = msgspec.UNSET
    glance_power: Power | msgspec.UnsetType = msgspec.UNSET
    negative_power: Annotated[float, Meta(ge=0, le=10_000)] | msgspec.UnsetType = msgspec.UNSET
    effective: RewardBody | msgspec.UnsetType = msgspec.UNSET
    long: RewardBody | msgspec.UnsetType = msgspec.UNSET
    finished: RewardBody | msgspec.UnsetType = msgspec.UNSET
    click: RewardBody | msgspec.UnsetType = msgspec.UNSET
    like: RewardBody | msgspec.UnsetType = msgspec.UNSET
    follow: RewardBody | msgspec.UnsetType = msgspec.UNSET
    comment: RewardBody | msgspec.UnsetType = msgspec.UNSET
    share: RewardBody | msgspec.UnsetType = msgspec.UNSET


class ModelChange(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/models`."""

    action: Literal["swap", "canary", "roll_back"]
    run: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    """Name of a RUN folder beside the one the server was started with."""
    share: Annotated[float, Meta(gt=0, lt=1)] = 0.05
    """Of viewers, for a canary."""


class ArmFigures(Struct, frozen=True):
    """What is known of one model of a trial."""

    run: str
    views: int
    skip_rate: float | None
    bias: dict[str, float | None]
    """Objective -> mean chance given less share that came."""


class TrialDocument(Struct, frozen=True):
    """How a model on trial does beside the one it is tried beside, as this process knows it."""

    since_ms: int
    decision: str
    words: str
    current: ArmFigures
    canary: ArmFigures


class ToldOfModel(Struct, frozen=True):
    """What the server did about a published model."""

    at_ms: int
    what: str
    run: str
    why: str


class ModelDocument(Struct, frozen=True):
    """Which models serve."""

    request_id: str
    version: int
    current: str
    previous: str | None
    canary: str | None
    canary_share: float
    followed: str | None
    """Folder whose models are taken over."""
    trial: TrialDocument | None
    told: tuple[ToldOfModel, ...]
    """Oldest first: tried, kept, rolled back."""
    refused: str | None
    """Why the newest published model could not be taken."""
    stopped: dict[str, str]
    """Variant of the experiment that gets no more viewers -> why."""


class Problem(Struct, frozen=True, omit_defaults=True):
    """Why a request was refused."""

    request_id: str
    error: str
    """What it is, what it must be, what to do."""
    field: str | None = None
    value: str | None = None
    must_be: str | None = None


encode = msgspec.json.Encoder().encode
