"""Viewers meet the recommender, day after day, and what they do flows back.

    LivingViewers, {variant: Arm}, assignment  ->  Loop.live_day  ->  rows of events, wave by wave

- A day goes by in waves of an hour: whoever begins a session in it asks, watches, and his events
  are in the state before anybody's next request; viewers of a wave watch as one array.
- Explicit feedback that comes late is sent when it is due, as a row of its own.
- Events carry the variant and the propensity of their slate back.
- A viewer whose slate is empty leaves.

Reads `arms` and `simulation`; is read by `closed`.
"""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipwise.loop.arms import Arm
from skipwise.serving.wire import Event, EventBatch, FeedRequest, LateOutcome
from skipwise.simulation.clock import GAP_MS, PAUSE_MS
from skipwise.simulation.exposure import REQUEST_SIZE
from skipwise.simulation.living import Hidden, LivingViewers, Watched
from skipwise.simulation.living_log import LONGEST_SESSION
from skipwise.simulation.population import Integers
from skipwise.simulation.watching import FLAG_NAMES

HOUR_MS = 3_600_000
EVENTS_TOGETHER = 1000
Columns = dict[str, NDArray[Any]]


class Clock:
    """The viewers' time."""

    def __init__(self) -> None:
        self.now_ms = 0

    def __call__(self) -> int:
        """Return it, UTC ms."""
        return self.now_ms


@dataclass(kw_only=True, slots=True)
class Loop:
    """A world and who serves it."""

    crowd: LivingViewers
    arms: Mapping[str, Arm]
    variant_of: Sequence[str | None]
    """By viewer; None = served by the first arm, and in no variant."""
    clock: Clock
    rng: np.random.Generator
    slate_size: int = REQUEST_SIZE
    num_requests: int = 0
    num_events: int = 0
    late: list[tuple[int, int, LateOutcome]] = field(default_factory=list)
    free_ms: Integers = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        self.free_ms = np.zeros(len(self.variant_of), dtype=np.int64)

    def live_day(self, day: int, told: Callable[[int], None] = lambda _: None) -> Iterator[Columns]:
        """Live one day (0 = the world's first); gives the rows of each step of each wave.

        Args:
            day: Which.
            told: Is told the number of sessions of each wave.
        """
        sessions = self.crowd.come(day)
        wave = (sessions.starts_ms - sessions.starts_ms.min(initial=0)) // HOUR_MS
        for hour in np.unique(wave).tolist():
            of_hour = np.flatnonzero(wave == hour)
            for number in np.unique(sessions.number[of_hour]).tolist():
                place = of_hour[sessions.number[of_hour] == number]
                yield from self._sessions(sessions.viewer[place], sessions.starts_ms[place])
                told(place.size)
        self.crowd.sleep()

    def _sessions(self, viewer: Integers, wanted_ms: Integers) -> Iterator[Columns]:
        """Let viewers, all different, go through a session each."""
        now_ms = np.maximum(wanted_ms, self.free_ms[viewer] + PAUSE_MS)
        started_ms = now_ms.copy()
        self.crowd.begin(viewer)
        shares = self.crowd.settings.habits.surface_shares
        for _ in range(LONGEST_SESSION // self.slate_size):
            if not viewer.size:
                break
            surface = self.rng.choice(len(shares), size=viewer.size, p=shares)
            slates = self._ask(viewer, surface, now_ms)
            left = np.zeros(viewer.size, dtype=bool)
            batch: list[Event] = []
            for position in range(self.slate_size):
                at = np.flatnonzero(~left & (slates["video"][:, position] >= 0))
                left[slates["video"][:, position] < 0] = True
                if not at.size:
                    break
                video = slates["video"][at, position]
                watched, hidden = self.crowd.watch(viewer[at], video, surface[at], started_ms[at])
                rows = self._rows(viewer[at], surface[at], now_ms[at], slates, at, position)
                rows |= _outcomes(watched, hidden)
                batch += self._events(rows)
                yield rows
                gap_ms = self.rng.integers(*GAP_MS, size=at.size)
                now_ms[at] += watched.watch_ms + gap_ms
                left[at] = watched.leaves
            self._send(batch, int(now_ms.max()))
            self.free_ms[viewer] = now_ms
            viewer, now_ms, started_ms = viewer[~left], now_ms[~left], started_ms[~left]

    def _ask(self, viewer: Integers, surface: Integers, now_ms: Integers) -> Columns:
        """Ask for a slate each; (N, slate_size) columns, video -1 where a slate ends early."""
        names = self.crowd.settings.habits.surfaces
        default = next(iter(self.arms))
        shape = (viewer.size, self.slate_size)
        video = np.full(shape, -1, dtype=np.int64)
        random, propensity = np.zeros(shape, dtype=bool), np.full(shape, np.nan)
        variant = np.full(viewer.size, "", dtype=object)
        requests = self.num_requests + np.arange(viewer.size)
        self.num_requests += viewer.size
        for row, who in enumerate(viewer.tolist()):
            self.clock.now_ms = int(now_ms[row])
            request = FeedRequest(
                viewer_id=f"u{who}",
                k=self.slate_size,
                surface=names[surface[row]],
                requested_at_ms=self.clock.now_ms,
            )
            arm = self.arms[self.variant_of[who] or default]
            slate = arm.feed(request, f"q{requests[row]}")
            variant[row] = self.variant_of[who] or slate.variant
            for place, item in enumerate(slate.items[: self.slate_size]):
                video[row, place] = int(item.video_id[1:])
                random[row, place] = item.policy == "random"
                propensity[row, place] = item.propensity or np.nan
        return {
            "video": video,
            "random": random,
            "propensity": propensity,
            "request": requests,
            "variant": variant,
        }

    def _rows(
        self,
        viewer: Integers,
        surface: Integers,
        now_ms: Integers,
        slates: Columns,
        at: Integers,
        position: int,
    ) -> Columns:
        number = self.num_events + np.arange(at.size)
        self.num_events += at.size
        return {
            "event": number,
            "viewer": viewer,
            "surface": surface,
            "shown_at_ms": now_ms.copy(),
            "video": slates["video"][at, position],
            "request": slates["request"][at],
            "position": np.full(at.size, position),
            "random": slates["random"][at, position],
            "propensity": slates["propensity"][at, position],
            "variant": slates["variant"][at],
        }

    def _events(self, rows: Columns) -> list[Event]:
        """Say what happened as the wire has it; flags that come late are put aside."""
        habits, videos, events = self.crowd.settings.habits, self.crowd.videos, []
        for row, number in enumerate(rows["event"].tolist()):
            who, video = int(rows["viewer"][row]), int(rows["video"][row])
            delay_ms = int(rows["feedback_delay_ms"][row])
            propensity = float(rows["propensity"][row])
            given = dict(zip(FLAG_NAMES, rows["flags"][row].tolist(), strict=True))
            event = Event(
                event_id=f"e{number}",
                viewer_id=f"u{who}",
                video_id=f"v{video}",
                shown_at_ms=int(rows["shown_at_ms"][row]),
                watch_ms=int(rows["watch_ms"][row]),
                duration_ms=int(videos.duration_ms[video]),
                surface=habits.surfaces[rows["surface"][row]],
                request_id=f"q{rows['request'][row]}",
                position=int(rows["position"][row]),
                policy="random" if rows["random"][row] else "served",
                propensity=None if np.isnan(propensity) else propensity,
                variant=rows["variant"][row],
                **(dict.fromkeys(FLAG_NAMES, False) if delay_ms else given),
            )
            events.append(event)
            if delay_ms:
                due_ms = event.shown_at_ms + int(rows["watch_ms"][row]) + delay_ms
                outcome = LateOutcome(
                    event_id=f"l{number}",
                    of_event_id=event.event_id,
                    viewer_id=event.viewer_id,
                    video_id=event.video_id,
                    known_at_ms=due_ms,
                    **{name: True for name, said in given.items() if said},
                )
                heapq.heappush(self.late, (due_ms, number, outcome))
        return events

    def _send(self, events: list[Event], until_ms: int) -> None:
        """Send what happened until a moment, and the late outcomes that are due then."""
        self.clock.now_ms = until_ms
        arm = next(iter(self.arms.values()))
        due = []
        while self.late and self.late[0][0] <= until_ms:
            due.append(heapq.heappop(self.late)[2])
        for start in range(0, max(len(events), len(due)), EVENTS_TOGETHER):
            together = slice(start, start + EVENTS_TOGETHER)
            arm.keep(EventBatch(events=tuple(events[together]), outcomes=tuple(due[together])))


def _outcomes(watched: Watched, hidden: Hidden) -> Columns:
    return {
        "watch_ms": watched.watch_ms,
        "flags": watched.flags,
        "feedback_delay_ms": watched.feedback_delay_ms,
        "p_glance": hidden.p_glance,
        "expected_watch_s": hidden.expected_watch_s,
        "affinity": hidden.affinity,
        "parts": hidden.parts,
    }
