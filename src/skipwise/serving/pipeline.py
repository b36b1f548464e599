"""How a slate comes about: a list of small functions, each with one verb.

    Situation  ->  retrieve -> hydrate -> filter -> score -> diversify -> explore -> log  ->  Slate

- A step takes the situation and changes its candidates; `RANK` and `FEED` are two lists of steps.
- A filter says which candidates it removes and why; nothing disappears in silence.
- Chance comes in as a generator; no step reads the clock.

Reads `rows`, `models`, `encodings`, `negatives` and the score; is read by `engine`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from skipwise.model.request import Encoded, Request
from skipwise.model.score import ScoreWeights, fused_score
from skipwise.serving.encodings import Encodings
from skipwise.serving.models import Served
from skipwise.serving.names import name_of
from skipwise.serving.negatives import NegativeSettings, standing
from skipwise.serving.past import Past
from skipwise.serving.rows import Ask, candidates_of, history_of, num_visible, request_of
from skipwise.serving.wire import Item
from skipwise.serving.world import World
from skipwise.settings import check_setting

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]
_MANY_VIDEOS, _VIEWS_BETWEEN = 10_000, 500


@dataclass(frozen=True, kw_only=True, slots=True)
class SlateSettings:
    """What a slate is made of."""

    candidates: int = 200
    """How many are retrieved for a feed."""
    fresh_share: float = 0.2
    """Of the candidates: the newest uploads, most recent first."""
    popular_share: float = 0.1
    """Of the candidates: what is watched most; the others are the nearest to the viewer."""
    explore_share: float = 0.02
    """Chance that a lottery decides a place: any candidate that is left, all as likely."""
    per_author: int = 2
    """Videos of one author in ten places."""
    per_topic: int = 4
    """Videos of one topic in ten places."""

    def __post_init__(self) -> None:
        check_setting("slate.candidates", self.candidates, at_least=1, at_most=2000)
        check_setting("slate.fresh_share", self.fresh_share, at_least=0, at_most=1)
        at_most = 1 - self.fresh_share
        check_setting("slate.popular_share", self.popular_share, at_least=0, at_most=at_most)
        check_setting("slate.explore_share", self.explore_share, at_least=0, below=1)
        check_setting("slate.per_author", self.per_author, at_least=1)
        check_setting("slate.per_topic", self.per_topic, at_least=1)


@dataclass(kw_only=True, slots=True)
class Situation:
    """One request on its way through the steps; rows of arrays are its candidates."""

    world: World
    model: Served
    past: Past
    ask: Ask
    weights: ScoreWeights
    negatives: NegativeSettings
    settings: SlateSettings
    random: np.random.Generator
    encodings: Encodings
    k: int
    blocked_authors: frozenset[str] = frozenset()
    cheap: bool = False
    """Order by what others did, without the model."""
    candidates: Codes = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    video_ids: list[str] = field(default_factory=list)
    source: list[str] = field(default_factory=list)
    score: Floats = field(default_factory=lambda: np.empty(0))
    predictions: dict[str, Floats] = field(default_factory=dict)
    policy: list[str] = field(default_factory=list)
    propensity: list[float] = field(default_factory=list)
    removed: list[tuple[str, str]] = field(default_factory=list)

    def keep(self, places: Codes | list[int]) -> None:
        """Keep some candidates, in this order."""
        chosen = np.asarray(places, dtype=np.int64)
        self.candidates = self.candidates.take(chosen)
        for name in ("video_ids", "source", "policy", "propensity"):
            values = getattr(self, name)
            if values:
                setattr(self, name, [values[place] for place in chosen.tolist()])
        if len(self.score):
            self.score = self.score.take(chosen)
        self.predictions = {name: values.take(chosen) for name, values in self.predictions.items()}


Step = Callable[[Situation], None]


def retrieve(now: Situation) -> None:
    """Find candidates: what is near the viewer, watched most, and newest.

    Where one source has too little, what is watched most fills up.
    """
    number, settings = now.settings.candidates, now.settings
    fresh = newest(now.world)[: round(number * settings.fresh_share)]
    popular = most_watched(now.world)[:number]
    few = round(number * settings.popular_share)
    near = nearest(now, number - len(fresh) - few)
    sources = (("model", near), ("popular", popular[:few]), ("fresh", fresh), ("popular", popular))
    codes = np.concatenate([found for _, found in sources])
    names = np.repeat([name for name, _ in sources], [len(found) for _, found in sources])
    _, first = np.unique(codes, return_index=True)
    first = np.sort(first)[:number]
    now.candidates, now.source = codes[first], names[first].tolist()


def nearest(now: Situation, number: int) -> Codes:
    """Return what the model's own vectors say is near the viewer, without what was seen."""
    finder, past = now.model.finder, now.past
    if now.cheap or finder.index is None:
        return np.empty(0, dtype=np.int64)
    seen = now.world.catalogue.codes(past.events["video"])
    return finder.nearest(viewer_vector(now), number, seen)


def viewer_vector(now: Situation) -> NDArray[np.float32]:
    """Return the viewer's vector at this request, (R + r,)."""
    return now.model.backend.find(*_encoded(now))


def hydrate(now: Situation) -> None:
    """Add the ids of the candidates."""
    if not now.video_ids:
        now.video_ids = [now.world.catalogue.video_ids[code] for code in now.candidates]


def filter_out(now: Situation) -> None:
    """Remove what may not be shown, saying why."""
    kept = np.ones(len(now.candidates), dtype=bool)
    for reason, removes in FILTERS.items():
        gone = removes(now) & kept
        now.removed += [(now.video_ids[place], reason) for place in np.flatnonzero(gone)]
        kept &= ~gone
    now.keep(np.flatnonzero(kept))


def score(now: Situation) -> None:
    """Predict every objective and fuse them; or, cheaply, order by what others did."""
    codes, day = now.candidates, now.ask.clock_day
    crowd = now.world.crowd
    if now.cheap:
        now.score = np.log1p(crowd.videos.ask_first(codes, day))
    elif len(codes):
        _predict(now)
        watch = now.predictions.get("watch_s")
        chances = {name: values for name, values in now.predictions.items() if name != "watch_s"}
        now.score = fused_score(chances, watch, now.weights)
    against = now.world.negatives.ask_first(codes, day)
    if against.any():
        views = crowd.videos.ask_first(codes, day)
        now.score = now.score * standing(against, views, now.negatives)


def order(now: Situation) -> None:
    """Put the best first; ties stay as they were asked."""
    now.keep(np.argsort(-now.score, kind="stable"))


def diversify(now: Situation) -> None:
    """Take the best first, but not too much of one author or topic; put off what is too much.

    What has no place stays behind: `explore` may draw it.
    """
    catalogue = now.world.catalogue
    authors = catalogue.author[now.candidates].tolist()
    first = varied(
        now.score,
        authors,
        lambda place: catalogue.topic_codes(int(now.candidates[place])),
        now.k,
        now.settings,
    )
    behind = np.ones(len(now.candidates), dtype=bool)
    behind[first] = False
    now.keep([*first, *np.flatnonzero(behind).tolist()])


def varied(
    score: Floats,
    authors: Sequence[int],
    topics_of: Callable[[int], Iterable[int]],
    k: int,
    settings: SlateSettings,
) -> list[int]:
    """Return the places of k candidates, best first, then of those passed over on the way.

    Args:
        score: (C,).
        authors: (C,) numbers, 0 = unknown, which is never too much.
        topics_of: Place -> numbers of its topics.
        k: Places of the slate.
        settings: What is too much.
    """
    by_author: Counter[int] = Counter()
    by_topic: Counter[int] = Counter()
    chosen: list[int] = []
    put_off: list[int] = []
    allowed = max(1, -(-k // 10))
    for place in np.argsort(-score, kind="stable").tolist():
        if len(chosen) == k:
            break
        author, of = authors[place], tuple(topics_of(place))
        too_many = (author and by_author[author] >= allowed * settings.per_author) or any(
            by_topic[topic] >= allowed * settings.per_topic for topic in of
        )
        if too_many:
            put_off.append(place)
            continue
        by_author[author] += 1
        by_topic.update(of)
        chosen.append(place)
    return [*chosen, *put_off]


def explore(now: Situation) -> None:
    """Let a lottery decide some places, and say how likely what it drew was.

    At each place from the first on: with `explore_share` a lottery draws one of the m candidates
    that no place above has taken, each with probability 1 / m; else the order decides. What is
    told is the probability given who decided: 1 / m of what was drawn (`random`), also where that
    is what would have stood there, and 1 of the others (`served`). So the places that lotteries
    decided are a sample of all places, and what they show was drawn uniformly: what off-policy
    evaluation needs (`evaluation.offpolicy`). [Fisher and Yates' shuffle, broken off]
    """
    share, number = now.settings.explore_share, len(now.candidates)
    places = min(now.k, number)
    drawn = now.random.random(places) < share
    now.policy, now.propensity = ["served"] * number, [1.0] * number
    arranged = list(range(number))
    for place in np.flatnonzero(drawn).tolist():
        left = number - place
        other = place + int(now.random.integers(left))
        arranged[place], arranged[other] = arranged[other], arranged[place]
        now.policy[arranged[place]], now.propensity[arranged[place]] = "random", 1.0 / left
    now.keep(arranged[:places])


FILTERS: dict[str, Callable[[Situation], NDArray[np.bool_]]] = {
    "not eligible": lambda now: ~now.world.catalogue.eligible[now.candidates],
    "seen": lambda now: np.isin(now.world.catalogue.name[now.candidates], now.past.events["video"]),
    "blocked author": lambda now: np.isin(
        now.world.catalogue.author_name[now.candidates],
        np.array([name_of(author) for author in now.blocked_authors], dtype=np.uint64),
    ),
}
"""Why a candidate may not be shown; each says which of the candidates it removes."""

RANK: tuple[Step, ...] = (hydrate, score, order)
FEED: tuple[Step, ...] = (retrieve, hydrate, filter_out, score, diversify, explore)


def items_of(now: Situation, *, explain: bool) -> list[Item]:
    """Return the places of the answer."""
    scores = now.score.tolist()
    if not (now.source or now.policy or now.propensity or explain):
        return [Item(*each) for each in zip(now.video_ids, scores, strict=True)]
    return [
        Item(
            video_id=video_id,
            score=scores[place],
            source=now.source[place] if now.source else None,
            policy=now.policy[place] if now.policy else None,
            propensity=now.propensity[place] if now.propensity else None,
            predictions={name: float(values[place]) for name, values in now.predictions.items()}
            if explain and now.predictions
            else None,
        )
        for place, video_id in enumerate(now.video_ids)
    ]


def most_watched(world: World) -> Codes:
    """Return codes of videos by views so far, most first; among many, of a moment ago."""
    many = len(world.catalogue) > _MANY_VIDEOS
    stamp = world.num_viewed // _VIEWS_BETWEEN if many else -1 - world.num_viewed
    return world.listed("most watched", stamp, _most_watched)


def newest(world: World) -> Codes:
    """Return codes of videos whose upload time is known, newest first."""
    return world.listed("newest", world.catalogue.version, _newest)


def _most_watched(world: World) -> Codes:
    number = len(world.catalogue)
    views = world.crowd.videos.sums[:number, 0]
    age = world.crowd.videos.day[:number].max(initial=0) - world.crowd.videos.day[:number]
    half_life = world.rules.counters.half_life_days
    faded = views if half_life is None else views * 2.0 ** (-age / half_life)
    at_most = min(2000, int((faded > 0).sum()))
    top = np.argpartition(-faded, max(at_most - 1, 0))[:at_most]
    return np.asarray(top[np.argsort(-faded[top], kind="stable")], dtype=np.int64)


def _newest(world: World) -> Codes:
    uploaded = world.catalogue.uploaded_at_ms[: len(world.catalogue)]
    at_most = min(2000, int((uploaded >= 0).sum()))
    top = np.argpartition(-uploaded, max(at_most - 1, 0))[:at_most]
    return np.asarray(top[np.argsort(-uploaded[top], kind="stable")], dtype=np.int64)


def _predict(now: Situation) -> None:
    ask, world, model = now.ask, now.world, now.model
    encoded, request = _encoded(now)
    candidates = candidates_of(
        now.past, ask, now.candidates, world.catalogue, model.videos, world.crowd
    )
    ranked = model.backend.rank(encoded, request, candidates)
    now.predictions = {
        **ranked.probabilities(),
        "watch_s": ranked.expected_watch_s.astype(np.float64),
    }


def _encoded(now: Situation) -> tuple[Encoded, Request]:
    """Encode what of the viewer's past is not encoded yet, and say who asks, where and when."""
    model, ask, videos = now.model, now.ask, now.model.videos
    arrived = now.past.events[: num_visible(now.past, ask)]
    reach, session_gap_s = model.backend.reach, now.world.rules.session_gap_s
    events = arrived[max(0, len(arrived) - reach - 1) :]
    who = (ask.viewer_id, model.checksum, events)
    encoded, number = now.encodings.find(*who, model.backend)
    if encoded is None or number < len(events):
        newest = reach if encoded is None else len(events) - number
        history = history_of(arrived, newest, now.world.catalogue, videos, session_gap_s)
        encoded = model.backend.encode(history, encoded)
        now.encodings.put(*who, encoded)
    return encoded, request_of(arrived, ask, videos, model.viewer(ask.viewer_id), session_gap_s)
