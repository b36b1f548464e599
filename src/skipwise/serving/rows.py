"""What a model reads for one request, laid out by the code that lays it out for training.

    Past, Ask, Crowd, LiveCatalogue  ->  LiveRows (looks like a dataset of one viewer)
        ->  features.stretches.read_stretches  ->  History, Request, Candidates

- There is no second feature path: what a server holds takes the form of event rows, and is read
  as any stretch is, in progressive mode.
- "As of the event" live: whatever has arrived. Counters and history hold each event from its
  acknowledgement on; thresholds hold what was known before the request's calendar day.
- T events, M candidates, K counters.

Reads `past`, `crowd`, `catalogue`; is read by the pipeline.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipwise.features.counter_names import KEYS
from skipwise.features.dataset import Column
from skipwise.features.stretches import Context, Plan, Stretches, read_stretches
from skipwise.features.view import View, Views
from skipwise.features.visibility import live_prefix
from skipwise.features.vocabulary import UNSEEN
from skipwise.labels.grid import grid_bin
from skipwise.model.request import Candidates, History, Request
from skipwise.serving.catalogue import BoundVideos, LiveCatalogue
from skipwise.serving.crowd import Crowd
from skipwise.serving.names import Names, name_of
from skipwise.serving.past import SALT, Past

Codes = NDArray[np.int64]
LIVE = Views.same(View(mode="progressive"), 1)
ANY_VIDEO = np.zeros(1, dtype=np.int64)
"""The code of a stranger, for what needs a candidate and does not mind which."""
_NONE = Column([np.empty(0, dtype=np.float32)], np.dtype(np.float32))


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
    """`features.stretches.Rows` of one viewer: T events, then M candidates."""

    events: Mapping[str, Column]
    counters_event: Column
    counter_names: tuple[str, ...]
    session_gap_s: float
    counters_day: Column = _NONE
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
        newest: How many events back the history is laid out: as far as the model depends on them,
            or as many as are not encoded yet. The candidates need the last event alone.
    """
    prefix = num_visible(past, ask)
    first = max(0, prefix - max(newest, 1))
    before = max(0, first - 1)
    events = past.events[before:prefix]
    rows = _live_rows(events, past, ask, codes, catalogue, videos, crowd)
    read = _read(rows, start=first - before, tokens=len(events), asked=len(codes))
    request = Request(
        context=_columns(read.candidate_context)[0],
        time_s=float(read.candidate_time_s[0]),
        viewer_categories=viewer[0],
        viewer_numbers=viewer[1],
    )
    shown, new = read.candidate_video, slice(max(0, prefix - newest) - first, prefix - first)
    held = read.video[0, new]
    return Asked(
        history=History(
            vectors=videos.vectors[held],
            video=held,
            author=catalogue.author[held],
            topics=videos.topics[held],
            feedback=read.feedback[0, new],
            watch_share=read.watch_share[0, new],
            context=_columns(read.context)[0, new],
            time_s=read.time_s[0, new],
        ),
        request=request,
        candidates=Candidates(
            vectors=videos.vectors[shown],
            video=shown,
            author=catalogue.author[shown],
            topics=videos.topics[shown],
            counters=read.counters,
            duration_s=read.targets["duration_s"],
            effective_above_s=read.targets["effective_above_s"],
            finished_above_s=read.targets["finished_above_s"],
        ),
    )


def num_visible(past: Past, ask: Ask) -> int:
    """Count how many events, from the oldest, had arrived at a request."""
    if past.events["known_at_ms"].max(initial=0) <= ask.requested_at_ms:
        return len(past.events)
    known = np.append(past.events["known_at_ms"], 0)
    at = np.append(np.full(len(past.events), -1), ask.requested_at_ms)
    return int(live_prefix(known, at)[-1])


def _read(rows: LiveRows, *, start: int, tokens: int, asked: int) -> Stretches:
    """Read the last events before a request, and its candidates, as training reads them."""
    plan = Plan(
        viewer=np.zeros(1, dtype=np.int64),
        first_row=np.zeros(1, dtype=np.int64),
        start=np.array([start]),
        num_tokens=np.array([tokens - start]),
        candidate_offsets=np.array([0, asked]),
        candidate_rows=np.arange(tokens, tokens + asked),
        candidate_prefix=np.full(asked, tokens - start),
        views=LIVE,
    )
    return read_stretches(rows, plan, np.zeros(1, dtype=np.int64))


def counters_of(
    past: Past, ask: Ask, codes: Codes, catalogue: LiveCatalogue, crowd: Crowd
) -> NDArray[np.float32]:
    """Return the (M, K) counters of candidates as of now, in the order of `counter_names`."""
    if not len(codes):
        return np.empty((0, len(KEYS) * past.num_sums), dtype=np.float32)
    day = ask.clock_day
    video, author, topic = crowd.ask(codes, catalogue.author[codes], catalogue.topics[codes], day)
    topics = catalogue.topic_names[codes]
    names: Mapping[str, Names] = {
        "viewer_author": catalogue.author_name[codes],
        "viewer_topic": topics.ravel(),
        "viewer_surface": np.array([name_of(ask.surface)], dtype=np.uint64),
        "viewer_video": catalogue.name[codes],
    }
    keys = [np.array([SALT["viewer"]], dtype=np.uint64)]
    keys += [np.where(each > 0, each ^ np.uint64(SALT[key]), 0) for key, each in names.items()]
    ends = np.cumsum([len(each) for each in keys])
    viewer, *mine = np.split(past.ask(np.concatenate(keys), day), ends[:-1])
    parts: dict[str, NDArray[np.float64]] = {
        "video": video,
        "author": author,
        "topic": topic,
        "viewer": viewer,
        **dict(zip(names, mine, strict=True)),
    }
    parts["viewer_topic"] = parts["viewer_topic"].reshape(*topics.shape, past.num_sums).sum(1)
    counters = np.empty((len(codes), len(KEYS), past.num_sums), dtype=np.float32)
    for place, key in enumerate(KEYS):
        counters[:, place] = parts[key]
    return counters.reshape(len(codes), len(KEYS) * past.num_sums)


def own_watches(past: Past, names: Names, state_day: int) -> list[tuple[int, int]]:
    """Return the viewer's watches of some videos, known before a day: (place in names, bin)."""
    events, wanted = past.events, set(names.tolist())
    seen = [place for place, name in enumerate(events["video"].tolist()) if name in wanted]
    if not seen:
        return []
    known = (events["known_day"][seen] < state_day) & ~np.isnan(events["watch_s"][seen])
    places = np.array(seen)[known]
    if not len(places):
        return []
    bins = grid_bin(events["watch_s"][places].astype(np.float64)).tolist()
    return [
        (int(place), watch_bin)
        for name, watch_bin in zip(events["video"][places], bins, strict=True)
        for place in np.flatnonzero(names == name)
    ]


def _live_rows(
    events: NDArray[np.void],
    past: Past,
    ask: Ask,
    codes: Codes,
    catalogue: LiveCatalogue,
    videos: BoundVideos,
    crowd: Crowd,
) -> LiveRows:
    asked, nothing = len(codes), np.full(len(codes), np.nan, dtype=np.float32)
    bucket = catalogue.duration_bucket[codes]
    own = own_watches(past, catalogue.name[codes], ask.day)
    effective, finished = crowd.thresholds(codes, bucket, own, ask.day)
    surface_of = videos.surface_ix
    past_surface = [surface_of.get(name, UNSEEN) for name in events["surface"].tolist()]
    untimed = np.full(len(events), -1)
    unknown = np.full(len(events), np.nan, dtype=np.float32)
    columns: dict[str, tuple[Any, Any]] = {
        "video": (catalogue.codes(events["video"]), codes),
        "feedback": (events["feedback"], np.zeros(asked, dtype=np.int8)),
        "watch_s": (events["watch_s"], nothing),
        "duration_s": (events["duration_s"], catalogue.duration_s[codes]),
        "shown_at_ms": (events["shown_at_ms"], np.full(asked, ask.requested_at_ms)),
        "requested_at_ms": (untimed, np.full(asked, ask.requested_at_ms)),
        "surface": (past_surface, np.full(asked, _index(surface_of, ask.surface))),
        "hour": (events["hour"], np.full(asked, ask.hour)),
        "session_place": (events["session_place"], np.zeros(asked, dtype=np.int16)),
        "glance_run": (events["glance_run"], np.zeros(asked, dtype=np.int16)),
        "counter_row": (untimed, np.arange(asked)),
        "day": (untimed, np.full(asked, ask.day)),
        "watch_rank": (unknown, nothing),
        "effective_above_s": (unknown, effective.astype(np.float32)),
        "finished_above_s": (unknown, finished.astype(np.float32)),
    }
    return LiveRows(
        events={name: _column(*parts) for name, parts in columns.items()},
        counters_event=_matrix(counters_of(past, ask, codes, catalogue, crowd)),
        counter_names=crowd.rules.counter_names,
        session_gap_s=crowd.rules.session_gap_s,
    )


def _columns(context: Context) -> Codes:
    """Stack a context's columns; surfaces of live rows are the model's indices already."""
    return np.stack(
        [context.surface, context.hour, context.gap, context.place, context.run], axis=-1
    )


def _index(surface_of: Mapping[int, int], surface: str) -> int:
    return surface_of.get(name_of(surface), UNSEEN)


def _column(held: Any, asked: Any) -> Column:
    values = np.concatenate([held, asked])
    return Column([values], values.dtype)


def _matrix(values: NDArray[np.float32]) -> Column:
    return Column([values], values.dtype, values.shape[1])
