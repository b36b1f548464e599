"""A log of living viewers whom a simple lottery serves.

    WorldSettings, Viewers, Videos, rng  ->  live  ->  Exposures, Outcomes, Truth, show times

- Steps go on in the order of a day's sessions: everybody's first, everybody's second, ...; within
  one, view by view, all viewers together. Most steps are of a few viewers and cost what starting
  array operations costs, so a step does only what the next one depends on (`LivingViewers.decide`);
  watch times and feedback are worked out of a turn together, the truth of all views together.
- What is served is what `exposure` would serve: a topic the viewer leans to, then a popular video
  of it; a share is drawn uniformly from all videos, with propensity.

Knows `living`, `exposure`, `clock`, `columns`; is read by `log`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skipwise.progress import Progress
from skipwise.simulation.clock import GAP_MS, PAUSE_MS, in_sessions
from skipwise.simulation.columns import joined, ordered
from skipwise.simulation.exposure import REQUEST_SIZE, Exposures, TasteServing
from skipwise.simulation.living import LivingViewers, Sessions, Views
from skipwise.simulation.odds import Showing, moment_of
from skipwise.simulation.population import Integers, Videos, Viewers
from skipwise.simulation.watching import Outcomes, Truth
from skipwise.simulation.world import WorldSettings

LONGEST_SESSION = 200
"""Views after which everyone leaves."""


@dataclass(frozen=True, slots=True)
class Lived:
    """What came of it, one row per impression, in the order of time where viewers live."""

    exposures: Exposures
    outcomes: Outcomes
    truth: Truth
    shown_at_ms: Integers
    intercept: float


def live(
    settings: WorldSettings,
    viewers: Viewers,
    videos: Videos,
    rng: np.random.Generator,
    progress: Progress,
    intercept: float | None = None,
) -> Lived:
    """Let viewers live through all days; see `LivingViewers` for the intercept."""
    crowd = LivingViewers(settings, viewers, videos, rng, intercept)
    lottery = _Lottery(settings, TasteServing(settings, viewers, videos), rng)
    turns: list[_Rows] = []
    free_ms = np.zeros(viewers.patience.size, dtype=np.int64)
    with progress.task("viewers live", total=settings.days, unit="days") as task:
        for day in range(settings.days):
            sessions = crowd.come(day)
            turns.extend(
                _one_session(crowd, lottery, sessions, place, free_ms)
                for place in _in_turn(sessions)
            )
            crowd.sleep()
            task.advance()
    nobody = np.zeros(0, dtype=np.int64)
    return _in_order(crowd, turns or [_one_session(crowd, lottery, sessions, nobody, free_ms)])


class _Lottery:
    """Chooses videos, and numbers sessions and requests."""

    def __init__(
        self, settings: WorldSettings, serving: TasteServing, rng: np.random.Generator
    ) -> None:
        self.settings, self.serving, self.rng = settings, serving, rng
        self.sessions = self.requests = 0

    def draw(self, viewer: Integers) -> tuple[Integers, NDArray[np.bool_]]:
        which, topic_lot, video_lot = self.rng.random((3, viewer.size))
        is_random = which < self.settings.random_share
        served = self.serving.drawn(viewer, topic_lot, video_lot)
        anything = self.rng.integers(0, self.settings.videos, size=viewer.size)
        return np.where(is_random, anything, served), is_random

    def surface(self, number: int) -> Integers:
        shares = self.settings.habits.surface_shares
        drawn: Integers = self.rng.choice(len(shares), size=number, p=shares)
        return drawn


class _Step(NamedTuple):
    """One view of each session that goes on, (N,) per column."""

    place: Integers
    """Of the session, in its turn."""
    request: Integers
    position: Integers
    is_random: NDArray[np.bool_]
    gap_ms: Integers
    views: Views


class _Rows(NamedTuple):
    """The views of a turn, everybody's n-th session of a day, (N,) per column."""

    session: Integers
    request: Integers
    position: Integers
    is_random: NDArray[np.bool_]
    shown_at_ms: Integers
    watch_ms: Integers
    flags: NDArray[np.bool_]
    glances: Integers
    showing: Showing


def _one_session(
    crowd: LivingViewers,
    lottery: _Lottery,
    sessions: Sessions,
    place: Integers,
    free_ms: Integers,
) -> _Rows:
    """Let each viewer of these sessions, all different, watch until he leaves."""
    viewer = everyone = sessions.viewer[place]
    starts_ms = np.maximum(sessions.starts_ms[place], free_ms[viewer] + PAUSE_MS)
    moment, place = moment_of(starts_ms), np.arange(viewer.size)
    crowd.begin(viewer)
    steps = []
    surface = request = np.zeros(viewer.size, dtype=np.int64)
    for step in range(LONGEST_SESSION):
        position = step % REQUEST_SIZE
        if position == 0:
            surface = lottery.surface(viewer.size)
            request = lottery.requests + np.arange(viewer.size)
            lottery.requests += viewer.size
        video, is_random = lottery.draw(viewer)
        views = crowd.decide(viewer, video, surface, moment)
        gap_ms = lottery.rng.integers(*GAP_MS, size=viewer.size)
        positions = np.full(viewer.size, position)
        steps.append(_Step(place, request, positions, is_random, gap_ms, views))
        (stay,) = np.nonzero(~views.leaves)
        if not stay.size:
            break
        if stay.size < viewer.size:
            viewer, place, surface, request = (
                column.take(stay) for column in (viewer, place, surface, request)
            )
            moment = moment.of(stay)
    together = joined(steps)
    watched = crowd.watched(together.views)
    busy_ms = watched.watch_ms + together.gap_ms
    shown_at_ms, ends_ms = in_sessions(together.place, starts_ms, busy_ms)
    free_ms[everyone] = ends_ms
    session = lottery.sessions + together.place
    lottery.sessions += everyone.size
    return _Rows(
        session=session,
        request=together.request,
        position=together.position,
        is_random=together.is_random,
        shown_at_ms=shown_at_ms,
        watch_ms=watched.watch_ms,
        flags=watched.flags,
        glances=together.views.glances,
        showing=together.views.showing,
    )


def _in_turn(sessions: Sessions) -> Iterator[Integers]:
    """Give the places of everybody's first session of the day, then of the second, ..."""
    for number in range(int(sessions.number.max(initial=-1)) + 1):
        yield np.flatnonzero(sessions.number == number)


def _in_order(crowd: LivingViewers, turns: list[_Rows]) -> Lived:
    """Join the turns in the order of time, and work out what no log tells."""
    rows = joined(turns)
    rows = ordered(rows, np.argsort(rows.shown_at_ms, kind="stable"))
    hidden = crowd.hidden(rows.showing, rows.glances)
    return Lived(
        exposures=Exposures(
            viewer=rows.showing.viewer,
            video=rows.showing.video,
            session=rows.session,
            request=rows.request,
            position=rows.position,
            surface=rows.showing.surface,
            is_random=rows.is_random,
            session_starts_ms=np.zeros(0, dtype=np.int64),
        ),
        outcomes=Outcomes(watch_ms=rows.watch_ms, flags=rows.flags),
        truth=Truth(
            p_glance=hidden.p_glance,
            expected_watch_s=hidden.expected_watch_s,
            affinity=hidden.affinity,
            parts=hidden.parts,
        ),
        shown_at_ms=rows.shown_at_ms,
        intercept=crowd.intercept,
    )
