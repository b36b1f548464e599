"""How an event becomes part of what is known: labelled once, kept once, on disk before the answer.

    Event        ->  label as of its day  ->  the viewer's past, and a line of the log
    LateOutcome  ->  the past from now on, and a line of the log of its own

- Rules, thresholds and times are those of `prepare`: `known_at = shown + max(watch, 1 ms) + delay`.
- An event whose outcome was sent late is a later row; nothing that was logged is ever changed.
- Many batches are kept with one flush to disk: whoever comes while it runs goes with the next.

Reads `world`, `past`, `negatives` and `state`; is read by `app`.
"""

import datetime as dt
import zoneinfo
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skipwise.features.known import clock_day_of
from skipwise.labels.feedback import feedback_states
from skipwise.labels.watch import FLAG_OF, LABELS, duration_bucket, label_watches
from skipwise.serving.crowd import watch_bin
from skipwise.serving.names import Names, name_of, name_of_event
from skipwise.serving.negatives import NegativeSettings, target_key, weight_of_negative
from skipwise.serving.past import EVENT, SALT, Past
from skipwise.serving.rows import own_watches
from skipwise.serving.state.store import Entry, StateSettings, Store
from skipwise.serving.wire import Event, EventBatch, LateOutcome
from skipwise.serving.world import Amended, Viewed, World, pack_line

_EPOCH = dt.date(1970, 1, 1)
_FLAGS = (*FLAG_OF.values(), "long_viewed")


@dataclass(frozen=True, slots=True)
class Intake:
    """Takes events in for one process."""

    world: World
    store: Store
    settings: StateSettings
    negatives: NegativeSettings

    def keep(self, batches: Sequence[EventBatch]) -> tuple[list[tuple[int, int]], list[Viewed]]:
        """Keep batches with one flush; returns (new, duplicate) counts of each, and the new views.

        Raises:
            StateError: The store is out of reach.
            StorageError: The disk is full; nothing was kept.
        """
        items: list[Event | LateOutcome] = []
        for batch in batches:
            items += [*batch.events, *batch.outcomes]
        entries = [
            Entry(f"{len(item.viewer_id)} {item.viewer_id}{item.event_id}", item.viewer_id, item)
            for item in items
        ]
        lines: dict[int, Viewed | Amended] = {}  # by the item's id(): what was kept of it at last

        def update(
            _viewer_id: str, data: bytes | None, items: Sequence[Event | LateOutcome]
        ) -> tuple[bytes, list[bytes]]:
            past, labelled = self._update(data, items)
            lines.update((id(item), line) for item, line in zip(items, labelled, strict=True))
            return past.pack(), [pack_line(line) for line in labelled]

        self.world.follow(self.store)
        new = self.store.commit(entries, update)
        kept = [lines[id(item)] for item, fresh in zip(items, new, strict=True) if fresh]
        counts, at = [], 0
        for batch in batches:
            number = len(batch.events) + len(batch.outcomes)
            fresh = sum(new[at : at + number])
            counts.append((fresh, number - fresh))
            at += number
        return counts, [line for line in kept if isinstance(line, Viewed)]

    def past_of(self, data: bytes | None) -> Past:
        """Read a viewer's bytes.

        Raises:
            StateError: They are damaged.
        """
        rules = self.world.rules
        return Past.unpack(data, rules.num_sums, rules.counters.half_life_days)

    def _update(
        self, data: bytes | None, items: Sequence[Event | LateOutcome]
    ) -> tuple[Past, list[Viewed | Amended]]:
        past = self.past_of(data)
        with self.world.lock:
            return past, [
                self._view(past, item) if isinstance(item, Event) else self._late(past, item)
                for item in items
            ]

    def _view(self, past: Past, event: Event) -> Viewed:
        line = self._labelled(past, event)
        gap_ms = round(self.world.rules.session_gap_s * 1000)
        past.add(self._record(event, line), gap_ms, self.settings.keep_events)
        sums = self.world.sums_of(line.known, line.positive)
        keys = self._keys(event.video_id, event.surface)
        past.learn(keys, sums, line.clock_day, self.settings.keep_sums)
        if event.disliked:
            self._remember_negative(past, event.video_id, line.clock_day)
        return line

    def _labelled(self, past: Past, event: Event) -> Viewed:
        world, rules = self.world, self.world.rules
        known_at = event.shown_at_ms + max(event.watch_ms or 0, 1) + rules.outcome_delay_ms
        day = day_of(event.day, clock_day_of(event.shown_at_ms, rules.time_zone))
        clock_day = clock_day_of(known_at, rules.time_zone)
        code = np.array([world.catalogue.code(event.video_id)])
        watch_s = _seconds(event.watch_ms)
        duration_s = _seconds(event.duration_ms)
        if event.duration_ms is None:
            duration_s = world.catalogue.duration_s[code].astype(np.float64)
        bucket = duration_bucket(duration_s, rules.labels).astype(np.int64)
        own = own_watches(past, np.array([name_of(event.video_id)], dtype=np.uint64), day)
        effective, finished = world.crowd.thresholds(code, bucket, own, day)
        flags = {flag: np.array([_flag(getattr(event, flag))], dtype=np.int8) for flag in _FLAGS}
        labels = label_watches(watch_s, duration_s, effective, finished, flags, rules.labels)
        known, positive = 0, 0
        for place, name in enumerate(LABELS):
            known |= int(labels[name][0] >= 0) << place
            positive |= int(labels[name][0] == 1) << place
        negative = (
            weight_of_negative(past, event.video_id, clock_day, self.negatives)
            if event.disliked
            else 0.0
        )
        return Viewed(
            event=event,
            known_at_ms=known_at,
            known_day=max(day, clock_day),
            clock_day=clock_day,
            known=known,
            positive=positive,
            feedback=int(feedback_states(labels, ~np.isnan(watch_s))[0]),
            duration_bucket=int(bucket[0]),
            watch_bin=watch_bin(float(watch_s[0])),
            negative=negative,
        )

    def _record(self, event: Event, line: Viewed) -> np.void:
        record: np.void = np.zeros(1, dtype=EVENT)[0]
        record["event"] = name_of_event(event.event_id)
        record["video"] = name_of(event.video_id)
        record["surface"] = name_of(event.surface or "")
        record["shown_at_ms"], record["known_at_ms"] = event.shown_at_ms, line.known_at_ms
        record["watch_s"] = np.nan if event.watch_ms is None else event.watch_ms / 1000
        code = self.world.catalogue.code(event.video_id)
        record["duration_s"] = (
            self.world.catalogue.duration_s[code]
            if event.duration_ms is None
            else event.duration_ms / 1000
        )
        record["known_day"] = line.known_day
        record["known"], record["positive"] = line.known, line.positive
        record["hour"] = hour_of(event.shown_at_ms, self.world.rules.time_zone)
        record["feedback"] = line.feedback
        return record

    def _keys(self, video_id: str, surface: str | None) -> Names:
        catalogue, code = self.world.catalogue, self.world.catalogue.code(video_id)
        author = int(catalogue.author_name[code])
        topics = catalogue.topic_names[code].tolist()
        keys = [SALT["viewer"], name_of(video_id) ^ SALT["viewer_video"]]
        keys += [author ^ SALT["viewer_author"]] if author else []
        keys += [topic ^ SALT["viewer_topic"] for topic in topics if topic]
        keys += [name_of(surface) ^ SALT["viewer_surface"]] if surface else []
        return np.array(keys, dtype=np.uint64)

    def _late(self, past: Past, outcome: LateOutcome) -> Amended:
        rules = self.world.rules
        clock_day = clock_day_of(outcome.known_at_ms, rules.time_zone)
        place = past.find(name_of_event(outcome.of_event_id))
        known = int(past.events[place]["known"]) if place is not None else 0
        positive = int(past.events[place]["positive"]) if place is not None else 0
        then_known, then_positive = known, positive
        for name, flag in FLAG_OF.items():
            said, bit = getattr(outcome, flag), 1 << LABELS.index(name)
            if said is not None:
                known |= bit
                positive = positive | bit if said else positive & ~bit
        if place is not None:
            past.amend(place, known, positive, _feedback(known, positive, past.events[place]))
        before, after = (
            self.world.sums_of(then_known, then_positive),
            self.world.sums_of(known, positive),
        )
        sums = after - before
        surface_key = []
        if place is not None and past.events[place]["surface"]:
            surface_key = [int(past.events[place]["surface"]) ^ SALT["viewer_surface"]]
        keys = np.append(self._keys(outcome.video_id, None), np.array(surface_key, np.uint64))
        negative = 0.0
        if outcome.disliked:
            negative = weight_of_negative(past, outcome.video_id, clock_day, self.negatives)
            self._remember_negative(past, outcome.video_id, clock_day)
        past.learn(keys.astype(np.uint64), sums, clock_day, self.settings.keep_sums)
        past.touched_at_ms = max(past.touched_at_ms, outcome.known_at_ms)
        return Amended(
            outcome=outcome,
            clock_day=clock_day,
            sums=tuple(sums.tolist()),
            negative=negative,
        )

    def _remember_negative(self, past: Past, video_id: str, clock_day: int) -> None:
        once = not past.holds(target_key(video_id))
        keys = [target_key(video_id), *([SALT["negative"]] if once else [])]
        one = np.zeros(past.num_sums)
        one[0] = 1.0
        past.learn(np.array(keys, dtype=np.uint64), one, clock_day, self.settings.keep_sums)


def day_of(told: str | None, otherwise: int) -> int:
    """Return the calendar day that was told, or another."""
    return otherwise if told is None else (dt.date.fromisoformat(told) - _EPOCH).days


def hour_of(at_ms: int, time_zone: str) -> int:
    """Return the local hour of an instant.

    >>> hour_of(0, "Asia/Shanghai")
    8
    """
    return dt.datetime.fromtimestamp(at_ms // 1000, tz=zoneinfo.ZoneInfo(time_zone)).hour


def _feedback(known: int, positive: int, event: np.void) -> int:
    labels = {
        name: np.array([-1 if not known >> place & 1 else positive >> place & 1], dtype=np.int8)
        for place, name in enumerate(LABELS)
    }
    return int(feedback_states(labels, ~np.isnan(np.array([event["watch_s"]])))[0])


def _seconds(milliseconds: int | None) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([np.nan if milliseconds is None else milliseconds / 1000])


def _flag(value: bool | None) -> int:
    return -1 if value is None else int(value)
