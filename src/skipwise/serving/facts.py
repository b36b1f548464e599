"""What the page must know before it asks for anything.

    Engine, the key's scopes  ->  page_facts   ->  PageFacts
    Engine                    ->  some_viewers ->  viewers with a past, for the picker

Reads `engine`; is read by `app`.
"""

from collections import Counter
from collections.abc import Iterable

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from skipwise.labels.feedback import Feedback
from skipwise.serving.engine import Engine
from skipwise.serving.names import name_of
from skipwise.serving.past import Past

VIEWERS_AT_MOST = 12
TOPICS_AT_MOST = 60
_GLANCED = (int(Feedback.GLANCE), int(Feedback.NEGATIVE))


class FeedFacts(Struct, frozen=True):
    """What the feed is about."""

    now_ms: int
    """The server's time, UTC ms; behind the clock where a log goes on from its end."""
    model: str
    surface: str | None
    """Where most views of the viewers with a past took place."""
    num_videos: int
    topics: tuple[str, ...]
    """Those with most videos first."""
    objectives: tuple[str, ...]
    glance_below_s: float
    long_from_s: float
    effective_quantile: float
    """A watch is effective that is longer than this share of other viewers' of the video."""
    finished_quantile: float


class PageFacts(Struct, frozen=True):
    """What may be asked for with this key, and, where anything may, of what."""

    request_id: str
    keys_needed: bool
    scopes: tuple[str, ...]
    feed: FeedFacts | None


class KnownViewer(Struct, frozen=True):
    """A viewer with a past."""

    viewer_id: str
    num_events: int
    skipped_share: float
    topics: tuple[str, ...]
    """What they watched rather than skipped, most often first."""


class KnownViewers(Struct, frozen=True):
    """Some viewers with a past."""

    request_id: str
    viewers: tuple[KnownViewer, ...]


def feed_facts(engine: Engine) -> FeedFacts:
    """Tell what the feed is about.

    Raises:
        StateError: The state is out of reach.
    """
    engine.catch_up()
    world, labels = engine.world, engine.world.rules.labels
    surface = _usual_surface(engine)
    with world.lock:
        number, catalogue = len(world.catalogue), world.catalogue
        counted = np.bincount(catalogue.topics[:number].ravel(), minlength=catalogue.num_topics)
        eligible = int(catalogue.eligible[:number].sum())
    model = engine.models.every()[0]
    most = np.argsort(-counted[1:], kind="stable")[:TOPICS_AT_MOST] + 1
    return FeedFacts(
        now_ms=engine.clock(),
        model=f"{model.name}@{model.checksum[:12]}",
        surface=surface,
        num_videos=eligible,
        topics=tuple(catalogue.topic_words[code] for code in most.tolist()),
        objectives=model.backend.objectives,
        glance_below_s=labels.glance_below_s,
        long_from_s=labels.long_from_s,
        effective_quantile=labels.effective_quantile,
        finished_quantile=labels.finished_quantile,
    )


def some_viewers(engine: Engine) -> tuple[KnownViewer, ...]:
    """Tell of viewers that the dataset knows, taken at even distances.

    Raises:
        StateError: The state is out of reach.
    """
    engine.catch_up()
    return tuple(_told(engine, viewer_id, past) for viewer_id, past in _pasts(engine))


def _pasts(engine: Engine) -> Iterable[tuple[str, Past]]:
    ids = list(engine.models.every()[0].viewers)
    for place in np.linspace(0, len(ids) - 1, min(len(ids), VIEWERS_AT_MOST)).astype(int).tolist():
        data = engine.store.read(ids[place])
        if data is not None:
            yield ids[place], engine.intake.past_of(data)


def _told(engine: Engine, viewer_id: str, past: Past) -> KnownViewer:
    events = past.events
    skipped: NDArray[np.bool_] = np.isin(events["feedback"], _GLANCED)
    liked: Counter[str] = Counter()
    with engine.world.lock:
        catalogue = engine.world.catalogue
        for code in catalogue.codes(events["video"][~skipped]).tolist():
            liked.update(catalogue.topic_words[topic] for topic in catalogue.topic_codes(code))
    return KnownViewer(
        viewer_id=viewer_id,
        num_events=len(events),
        skipped_share=float(skipped.mean()) if len(events) else 0.0,
        topics=tuple(topic for topic, _ in liked.most_common(3)),
    )


def _usual_surface(engine: Engine) -> str | None:
    words = {name_of(word): word for word in engine.models.every()[0].run.vocabulary.surfaces}
    seen: Counter[int] = Counter()
    for _, past in _pasts(engine):
        seen.update(past.events["surface"].tolist())
    named = [words[name] for name, _ in seen.most_common() if name in words]
    return named[0] if named else next(iter(words.values()), None)
