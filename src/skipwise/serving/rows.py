"""What a model reads for one request, laid out by the code that lays it out for training.

    Past, Ask, Crowd, LiveCatalogue  ->  lay_out  ->  History, Request, Candidates

- There is no second feature path: what a server holds of a viewer takes the form of event rows
  (`LiveRows`), and `features.stretches` reads them as it reads a dataset's, in progressive mode.
- "As of the event" live: whatever has arrived. Counters and history hold each event from its
  acknowledgement on; thresholds hold what was known before the request's calendar day.
- T events, M candidates, K counters.

Reads `past`, `crowd`, `catalogue`; is read by the pipeline.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipwise.features.counter_names import KEYS
from skipwise.features.dataset import Column
from skipwise.features.stretches import Context, Plan, context_of, read_stretches
from skipwise.features.view import View, Views
from skipwise.features.visibility import live_prefix
from skipwise.features.vocabulary import UNSEEN
from skipwise.labels.grid import grid_bin
from skipwise.model.request import CONTEXT, Candidates, History, Request
from skipwise.serving.catalogue import BoundVideos, LiveCatalogue
from skipwise.serving.crowd import Crowd
from skipwise.serving.names import Names, maybe_among, name_of
from skipwise.serving.past import SALT, Past, key_of

Codes = NDArray[np.int64]
LIVE = Views.same(View(mode="progressive"), 1)
_NONE = Column([np.empty(0, dtype=np.float32)], np.dtype(np.float32))
_NOBODY = np.empty(0, dtype=np.int64)
_NO_CONTEXT, _NO_TIME = np.empty((0, len(CONTEXT)), dtype=np.int64), np.empty(0)
_PLACE = {key: place for place, key in enumerate(KEYS)}
_OF_CROWD, _OF_VIEWER = ("video", "author", "topic"), ("viewer", "viewer_surface")
_OF_COLUMN = ("viewer_video", "viewer_author")
"""Of the first columns of `LiveCatalogue.keys`; all others are of topics."""
_OF_REQUESTS = (
    "requested_at_ms",
    "counter_row",
    "day",
    "watch_rank",
    "effective_above_s",
    "finished_above_s",
)
_OF_LAST = ("shown_at_ms", "hour", "session_place", "glance_run")
_OF_EVENTS = (
    "feedback",
    "watch_s",
    "duration_s",
    "shown_at_ms",
    "hour",
    "session_place",
    "glance_run",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """One request: who, where, when."""

    viewer_id: str
    surface: str
    requested_at_ms: int
    clock_day: int
    """Local calendar day of the request."""
    day: int
    """Calendar day as the source tells it; thresholds are as of its start."""
    hour: int
    """Local hour."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveRows:
    """`features.stretches.Rows` of one viewer: events, or the last of them and a request."""

    events: Mapping[str, Column]
    session_gap_s: float
    counters_event: Column = _NONE
    counters_day: Column = _NONE
    counter_names: tuple[str, ...] = ()
    objectives: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What a backend reads."""

    history: History
    request: Request
    candidates: Candidates


def lay_out(
    past: Past,
    ask: Ask,
    codes: Codes,
    catalogue: LiveCatalogue,
    videos: BoundVideos,
    crowd: Crowd,
    viewer: tuple[NDArray[np.int64], NDArray[np.float32]],
    newest: int,
) -> Asked:
    """Lay out one request.

    Args:
        past: The viewer's.
        ask: The request.
        codes: (M,) its candidates, one at least.
        catalogue: Which videos there are.
        videos: What the model makes of them.
        crowd: What everybody has watched.
        viewer: The viewer's categorical and numeric extras, in the model's indices.
        newest: How many events back the history is laid out: as far as the model depends on them.
    """
    prefix = num_visible(past, ask)
    session_gap_s = crowd.rules.session_gap_s
    return Asked(
        history=history_of(past.events[:prefix], newest, catalogue, videos, session_gap_s),
        request=request_of(past.events[:prefix], ask, videos, viewer, session_gap_s),
        candidates=candidates_of(past, ask, codes, catalogue, videos, crowd),
    )


def num_visible(past: Past, ask: Ask) -> int:
    """Count how many events, from the oldest, had arrived at a request."""
    if past.events["known_at_ms"].max(initial=0) <= ask.requested_at_ms:
        return len(past.events)
    known = np.append(past.events["known_at_ms"], 0)
    at = np.append(np.full(len(past.events), -1), ask.requested_at_ms)
    return int(live_prefix(known, at)[-1])


def history_of(
    events: NDArray[np.void],
    newest: int,
    catalogue: LiveCatalogue,
    videos: BoundVideos,
    session_gap_s: float,
) -> History:
    """Lay out the newest of the (T,) events that have arrived, each with the time since the last.

    Args:
        events: Oldest first.
        newest: How many of them: as many as the model depends on, or as are not encoded yet.
        catalogue: Which videos there are.
        videos: What the model makes of them.
        session_gap_s: A longer pause starts a new session.
    """
    first = max(0, len(events) - newest)
    if first == len(events):
        return _nothing(videos)
    before = max(0, first - 1)
    rows = _live_rows(events[before:], catalogue, videos, session_gap_s)
    plan = Plan(
        viewer=np.zeros(1, dtype=np.int64),
        first_row=np.zeros(1, dtype=np.int64),
        start=np.array([first - before]),
        num_tokens=np.array([len(events) - first]),
        candidate_offsets=np.zeros(2, dtype=np.int64),
        candidate_rows=_NOBODY,
        candidate_prefix=_NOBODY,
        views=LIVE,
    )
    read = read_stretches(rows, plan, np.zeros(1, dtype=np.int64))
    held = read.video[0]
    return History(
        vectors=videos.vectors.take(held, 0),
        video=held,
        author=catalogue.author.take(held),
        topics=videos.topics.take(held, 0),
        feedback=read.feedback[0],
        watch_share=read.watch_share[0],
        context=_columns(read.context)[0],
        time_s=read.time_s[0],
    )


def _nothing(videos: BoundVideos) -> History:
    return History(
        vectors=videos.vectors[:0],
        video=_NOBODY,
        author=_NOBODY,
        topics=videos.topics[:0],
        feedback=_NOBODY,
        watch_share=_NOBODY,
        context=_NO_CONTEXT,
        time_s=_NO_TIME,
    )


def request_of(
    events: NDArray[np.void],
    ask: Ask,
    videos: BoundVideos,
    viewer: tuple[NDArray[np.int64], NDArray[np.float32]],
    session_gap_s: float,
) -> Request:
    """Say where and when is asked, after the last of the events that have arrived.

    Arguments as those of `history_of` and `lay_out`.
    """
    asked = (ask.requested_at_ms, _index(videos, ask.surface), ask.hour, 0, 0)
    last = [
        (shown_at_ms, 0, hour, place, run)
        for shown_at_ms, hour, place, run in events[-1:][list(_OF_LAST)].tolist()
    ]
    number, values = len(last), np.array([*last, asked], dtype=np.int64)
    rows = LiveRows(
        events={
            name: Column([values[:, place]], values.dtype)
            for place, name in enumerate(("shown_at_ms", "surface", "hour", *_OF_LAST[2:]))
        },
        session_gap_s=session_gap_s,
    )
    context = context_of(
        rows,
        np.array([number]),
        np.array([ask.requested_at_ms]),
        np.zeros(1, dtype=np.int64),
        np.array([number > 0]),
    )
    return Request(
        context=_columns(context)[0],
        time_s=ask.requested_at_ms / 1000.0,
        viewer_categories=viewer[0],
        viewer_numbers=viewer[1],
    )


def candidates_of(
    past: Past,
    ask: Ask,
    codes: Codes,
    catalogue: LiveCatalogue,
    videos: BoundVideos,
    crowd: Crowd,
) -> Candidates:
    """Gather what is known of each candidate; arguments as those of `lay_out`."""
    own = own_watches(past, catalogue.name.take(codes), ask.day)
    bucket = catalogue.duration_bucket.take(codes)
    effective, finished = crowd.thresholds(codes, bucket, own, ask.day)
    return Candidates(
        vectors=videos.vectors.take(codes, 0),
        video=codes,
        author=catalogue.author.take(codes),
        topics=videos.topics.take(codes, 0),
        counters=counters_of(past, ask, codes, catalogue, crowd),
        duration_s=catalogue.duration_s.take(codes),
        effective_above_s=effective.astype(np.float32),
        finished_above_s=finished.astype(np.float32),
    )


def counters_of(
    past: Past, ask: Ask, codes: Codes, catalogue: LiveCatalogue, crowd: Crowd
) -> NDArray[np.float32]:
    """Return the (M, K) counters of candidates as of now, in the order of `counter_names`."""
    if not len(codes):
        return np.empty((0, len(KEYS) * past.num_sums), dtype=np.float32)
    counters = np.zeros((len(codes), len(KEYS), past.num_sums), dtype=np.float32)
    about = catalogue.author.take(codes), catalogue.topics.take(codes, 0)
    for key, sums in zip(_OF_CROWD, crowd.ask(codes, *about, ask.clock_day), strict=True):
        counters[:, _PLACE[key]] = sums
    keys = catalogue.keys.take(codes, 0)
    always = [SALT["viewer"], key_of("viewer_surface", name_of(ask.surface))]
    asked = np.concatenate([np.array(always, dtype=np.uint64), keys.T.ravel()])
    places, sums = past.held(asked, ask.clock_day)
    own = int(places.searchsorted(len(always)))
    for place, of_all in zip(places[:own].tolist(), sums, strict=False):
        counters[:, _PLACE[_OF_VIEWER[place]]] = of_all
    of_topics = np.zeros((len(codes), past.num_sums))
    starts = len(always) + len(codes) * np.arange(keys.shape[1] + 1)
    ends = places.searchsorted(starts).tolist()
    for column, (start, end) in enumerate(itertools.pairwise(ends)):
        candidates = places[start:end] - starts[column]
        if column < len(_OF_COLUMN):
            counters[candidates, _PLACE[_OF_COLUMN[column]]] = sums[start:end]
        else:
            of_topics[candidates] += sums[start:end]
    counters[:, _PLACE["viewer_topic"]] = of_topics
    return counters.reshape(len(codes), -1)


def own_watches(past: Past, names: Names, state_day: int) -> list[tuple[int, int]]:
    """Return the viewer's watches of some videos, known before a day: (place in names, bin)."""
    events = past.events
    maybe = maybe_among(events["video"], names)
    known = (events["known_day"][maybe] < state_day) & ~np.isnan(events["watch_s"][maybe])
    places = maybe[known]
    if not len(places):
        return []
    bins = grid_bin(events["watch_s"][places].astype(np.float64)).tolist()
    return [
        (int(place), watch_bin)
        for name, watch_bin in zip(events["video"][places], bins, strict=True)
        for place in np.flatnonzero(names == name)
    ]


def _live_rows(
    events: NDArray[np.void], catalogue: LiveCatalogue, videos: BoundVideos, session_gap_s: float
) -> LiveRows:
    surface_of = videos.surface_ix
    surface = [surface_of.get(name, UNSEEN) for name in events["surface"].tolist()]
    nobody_asks = Column([_NOBODY], _NOBODY.dtype)
    columns = {
        "video": catalogue.codes(events["video"]),
        "surface": np.array(surface, dtype=np.int64),
        **{name: events[name] for name in _OF_EVENTS},
    }
    return LiveRows(
        events={
            **{name: Column([values], values.dtype) for name, values in columns.items()},
            **dict.fromkeys(_OF_REQUESTS, nobody_asks),
        },
        session_gap_s=session_gap_s,
    )


def _columns(context: Context) -> Codes:
    """Stack a context's columns; surfaces of live rows are the model's indices already."""
    return np.stack(
        [context.surface, context.hour, context.gap, context.place, context.run], axis=-1
    )


def _index(videos: BoundVideos, surface: str) -> int:
    return videos.surface_ix.get(name_of(surface), UNSEEN)
