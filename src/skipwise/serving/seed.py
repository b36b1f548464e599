"""How a server starts with what a dataset knows: every viewer's past, and the crowd.

    Dataset  ->  seed  ->  Store (viewers, the world's snapshot)

- The same state that serving the same events one by one would have left, made in bulk.
- A state is seeded once; it remembers from which dataset.

Reads `features.dataset` and `world`; is read by `app`.
"""

import time
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from skipwise.features.dataset import Dataset
from skipwise.features.known import DAY_MS, UNTIMED_MS, zone_offsets
from skipwise.labels.grid import grid_bin
from skipwise.labels.watch import LABELS
from skipwise.progress import SILENT, Progress
from skipwise.serving.catalogue import STRANGERS
from skipwise.serving.crowd import RECENT_DAYS, Tallies
from skipwise.serving.names import Names, names_of
from skipwise.serving.past import EVENT, SALT, Past, tally_type
from skipwise.serving.rules import Rules
from skipwise.serving.snapshot import WORLD_DOCUMENT, pack_world
from skipwise.serving.state.store import StateSettings, Store
from skipwise.serving.world import EFFECTIVE_BIT, World

SEEDED_DOCUMENT = "seeded"
LOG_END_DOCUMENT = "log end"
_VIEWERS_AT_ONCE = 2000
Sums = NDArray[np.float64]


class LogEnd(msgspec.Struct, frozen=True):
    """When the last outcome of a log became known, and when a state was made of it; UTC ms."""

    ended_at_ms: int
    seeded_at_ms: int


def seed(
    dataset: Dataset,
    world: World,
    store: Store,
    settings: StateSettings,
    *,
    known_until_ms: int | None = None,
    progress: Progress = SILENT,
) -> None:
    """Fill an empty store and a world with a dataset's outcomes.

    Args:
        dataset: Whose catalogue the world has.
        world: Has followed nothing.
        store: Holds nothing.
        settings: How much of each viewer is kept.
        known_until_ms: Leave out outcomes known later; None = none.
        progress: Who is told.

    Raises:
        StateError: The store cannot be reached.
        StorageError: The disk is full.
    """
    rows = _Rows(dataset, world.rules, known_until_ms)
    with world.lock:
        _fill_crowd(world, rows)
        _fill_popularity(world, rows)
    first, number = dataset.viewer_rows()
    viewer_ids = dataset.viewers["viewer_id"].to_pylist()
    with progress.task("seeding", total=len(first), unit="viewers") as task:
        for start in range(0, len(first), _VIEWERS_AT_ONCE):
            chosen = range(start, min(start + _VIEWERS_AT_ONCE, len(first)))
            span = slice(int(first[start]), int(first[chosen[-1]] + number[chosen[-1]]))
            pasts = _pasts(world, rows, span, settings)
            store.load(
                [(viewer_ids[code], pasts[code].pack()) for code in chosen if code in pasts],
                now_ms() // 1000,
            )
            task.advance(len(chosen))
    store.put(WORLD_DOCUMENT, pack_world(world))
    store.put(LOG_END_DOCUMENT, msgspec.json.encode(LogEnd(_ended_at_ms(rows), now_ms())))
    store.put(SEEDED_DOCUMENT, dataset.fingerprint.encode())


def now_ms() -> int:
    """Return the time of the system's clock, UTC ms."""
    return time.time_ns() // 1_000_000


@dataclass(init=False, slots=True)
class _Rows:
    """A dataset's event columns, and what follows from them."""

    columns: dict[str, NDArray[Any]]
    video: NDArray[np.int64]
    """Codes of the live catalogue."""
    chosen: NDArray[np.bool_]
    clock_day: NDArray[np.int64]
    known: NDArray[np.uint16]
    positive: NDArray[np.uint16]
    last_day: int
    surface_names: Names

    def __init__(self, dataset: Dataset, rules: Rules, known_until_ms: int | None) -> None:
        events = dataset.events
        self.columns = {name: events[name].all() for name in events}
        known_at = self.columns["known_at_ms"]
        self.chosen = np.ones(len(known_at), dtype=bool)
        if known_until_ms is not None:
            self.chosen = known_at <= known_until_ms
        self.video = self.columns["video"].astype(np.int64) + STRANGERS
        self.clock_day = _clock_days(known_at, self.columns["known_day"], rules.time_zone)
        self.known = np.zeros(len(known_at), dtype=np.uint16)
        self.positive = np.zeros(len(known_at), dtype=np.uint16)
        for place, name in enumerate(LABELS):
            label = self.columns[f"label_{name}"]
            self.known |= ((label >= 0).astype(np.uint16) << place).astype(np.uint16)
            self.positive |= ((label == 1).astype(np.uint16) << place).astype(np.uint16)
        self.last_day = int(self.clock_day[self.chosen].max(initial=0))
        self.surface_names = names_of(["", *dataset.description["surfaces"]])

    def outcomes(self, rules: Rules, at: slice | NDArray[np.int64]) -> Sums:
        """Return (n, S): what rows add, as it weighs on the last day."""
        known, positive = self.known[at], self.positive[at]
        parts: list[NDArray[Any]] = [np.ones(len(known))]
        for place in rules.counted_places:
            bit = np.uint16(1 << place)
            parts += [(known & bit) > 0, (positive & bit) > 0]
        outcome = np.stack(parts, axis=1).astype(np.float64)
        half_life = rules.counters.half_life_days
        if half_life is not None:
            age = (self.last_day - self.clock_day[at]).astype(np.float64)
            outcome *= (2.0 ** (-age / half_life))[:, None]
        return outcome


def _ended_at_ms(rows: _Rows) -> int:
    return int(rows.columns["known_at_ms"][rows.chosen].max(initial=0))


def _clock_days(
    known_at: NDArray[np.int64], known_day: NDArray[np.int32], time_zone: str
) -> NDArray[np.int64]:
    timed = known_at > UNTIMED_MS
    days = known_day.astype(np.int64)
    if timed.any():
        at = known_at[timed]
        offsets = zone_offsets(time_zone, int(at.min()), int(at.max()))
        starts = np.array([start for start, _ in offsets[1:]], dtype=np.int64)
        values = np.array([offset for _, offset in offsets], dtype=np.int64)
        days[timed] = (at + values[np.searchsorted(starts, at, side="right")]) // DAY_MS
    return days


def _fill_crowd(world: World, rows: _Rows) -> None:
    chosen = np.flatnonzero(rows.chosen)
    catalogue, crowd = world.catalogue, world.crowd
    video = rows.video[chosen]
    outcome = rows.outcomes(world.rules, chosen)
    _add(crowd.videos, video, outcome, rows.last_day)
    author = catalogue.author[video]
    _add(crowd.authors, author[author > 0], outcome[author > 0], rows.last_day)
    for topic in catalogue.topics[video].T:
        _add(crowd.topics, topic[topic > 0], outcome[topic > 0], rows.last_day)
    bins = grid_bin(rows.columns["watch_s"][chosen].astype(np.float64))
    watched = bins >= 0
    bucket = rows.columns["duration_bucket"][chosen].astype(np.int64)
    known_day = rows.columns["known_day"][chosen].astype(np.int64)
    crowd.day = int(known_day.max(initial=0)) - RECENT_DAYS
    old = watched & (known_day < crowd.day)
    np.add.at(crowd.watches, (video[old], bins[old]), 1)
    np.add.at(crowd.bucket_watches, (bucket[old], bins[old]), 1)
    for day in np.unique(known_day[watched & ~old]).tolist():
        here = np.flatnonzero(watched & (known_day == day))
        once = np.ones(len(here), dtype=np.int64)
        crowd.recent[day].add_all(video[here], bucket[here], bins[here], once)


def _fill_popularity(world: World, rows: _Rows) -> None:
    """Count effective views day by day, timed ones as `features.popularity` does."""
    effective = (rows.known & rows.positive & np.uint16(EFFECTIVE_BIT)) > 0
    timed = rows.columns["known_at_ms"] > UNTIMED_MS
    chosen = np.flatnonzero(rows.chosen & timed & effective)
    known_day = rows.columns["known_day"][chosen].astype(np.int64)
    for day in np.unique(known_day).tolist():
        world.popularity.learn(rows.video[chosen[known_day == day]], day)


def _add(tallies: Tallies, codes: NDArray[np.int64], outcome: Sums, day: int) -> None:
    for place in range(outcome.shape[1]):
        tallies.sums[:, place] += np.bincount(codes, outcome[:, place], len(tallies.sums))
    tallies.day[:] = day


def _pasts(world: World, rows: _Rows, span: slice, settings: StateSettings) -> dict[int, Past]:
    """Make the pasts of neighbouring viewers, by code."""
    chosen = np.flatnonzero(rows.chosen[span]) + span.start
    if not len(chosen):
        return {}
    viewer = rows.columns["viewer"][chosen].astype(np.int64)
    events = _events(world, rows, chosen)
    tallies, of_viewer = _tallies(world, rows, chosen, viewer)
    half_life = world.rules.counters.half_life_days
    pasts = {}
    codes, starts = np.unique(viewer, return_index=True)
    ends = np.append(starts[1:], len(viewer))
    for code, start, end in zip(codes.tolist(), starts, ends, strict=True):
        past = Past(world.rules.num_sums, half_life)
        past.events = events[start:end][-settings.keep_events :]
        past.tallies = tallies[
            np.searchsorted(of_viewer, code) : np.searchsorted(of_viewer, code, "right")
        ]
        past.touched_at_ms = max(0, int(past.events["known_at_ms"].max()))
        pasts[code] = past
    return pasts


def _events(world: World, rows: _Rows, chosen: NDArray[np.int64]) -> NDArray[np.void]:
    columns = rows.columns
    events = np.zeros(len(chosen), dtype=EVENT)
    events["video"] = world.catalogue.name[rows.video[chosen]]
    events["surface"] = rows.surface_names[columns["surface"][chosen]]
    events["known"], events["positive"] = rows.known[chosen], rows.positive[chosen]
    for name in (
        "shown_at_ms", "known_at_ms", "watch_s", "duration_s", "known_day", "session_place",
        "glance_run", "hour", "feedback",
    ):  # fmt: skip
        events[name] = columns[name][chosen]
    return events


def _tallies(
    world: World, rows: _Rows, chosen: NDArray[np.int64], viewer: NDArray[np.int64]
) -> tuple[NDArray[np.void], NDArray[np.int64]]:
    """Sum outcomes by viewer and key; returns the sums, by viewer then key, and their viewers."""
    catalogue, codes = world.catalogue, rows.video[chosen]
    outcome = rows.outcomes(world.rules, chosen)
    surface = rows.surface_names[rows.columns["surface"][chosen]]
    parts: list[tuple[str, Names]] = [
        ("viewer_author", catalogue.author_name[codes]),
        ("viewer_surface", surface),
        ("viewer_video", catalogue.name[codes]),
        *(("viewer_topic", topic) for topic in catalogue.topic_names[codes].T),
    ]
    keys = [np.full(len(chosen), SALT["viewer"], dtype=np.uint64)]
    whose, which = [viewer], [np.arange(len(chosen))]
    for key, names in parts:
        here = np.flatnonzero(names > 0)
        keys.append(names[here] ^ np.uint64(SALT[key]))
        whose.append(viewer[here])
        which.append(here)
    all_keys, all_viewers = np.concatenate(keys), np.concatenate(whose)
    order = np.lexsort([all_keys, all_viewers])
    all_keys, all_viewers = all_keys[order], all_viewers[order]
    starts = np.flatnonzero(
        np.append(True, (np.diff(all_viewers) != 0) | (all_keys[1:] != all_keys[:-1]))
    )
    tallies = np.zeros(len(starts), dtype=tally_type(world.rules.num_sums))
    tallies["key"], tallies["day"] = all_keys[starts], rows.last_day
    tallies["sums"] = np.add.reduceat(outcome[np.concatenate(which)[order]], starts)
    return tallies, all_viewers[starts]
