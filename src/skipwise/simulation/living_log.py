"""A log of living viewers whom a simple lottery serves.

    WorldSettings, Viewers, Videos, rng  ->  live  ->  Exposures, Outcomes, Truth, show times

- Steps go on in the order of a day's sessions: everybody's first, everybody's second, ...; within
  one, view by view, all viewers together.
- What is served is what `exposure` would serve: a topic the viewer leans to, then a popular video
  of it; a share is drawn uniformly from all videos, with propensity.

Knows `living`, `exposure`, `clock`; is read by `log`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipwise.progress import Progress
from skipwise.simulation.clock import GAP_MS, PAUSE_MS
from skipwise.simulation.exposure import REQUEST_SIZE, Exposures, TasteServing
from skipwise.simulation.living import LivingViewers, Sessions
from skipwise.simulation.population import Integers, Videos, Viewers
from skipwise.simulation.watching import Outcomes, Truth
from skipwise.simulation.world import WorldSettings

LONGEST_SESSION = 200
"""Views after which everyone leaves."""


@dataclass(frozen=True, slots=True)
class Lived:
    """What came of it, one row per impression, in no order."""

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
    rows: list[dict[str, NDArray[Any]]] = []
    free_ms = np.zeros(viewers.patience.size, dtype=np.int64)
    with progress.task("viewers live", total=settings.days, unit="days") as task:
        for day in range(settings.days):
            sessions = crowd.come(day)
            for place in _in_turn(sessions):
                rows += _one_session(crowd, lottery, sessions, place, free_ms)
            crowd.sleep()
            task.advance()
    return _gathered(rows, crowd.intercept)


class _Lottery:
    """Chooses videos, and numbers sessions and requests."""

    def __init__(
        self, settings: WorldSettings, serving: TasteServing, rng: np.random.Generator
    ) -> None:
        self.settings, self.serving, self.rng = settings, serving, rng
        self.sessions = self.requests = 0

    def draw(self, viewer: Integers) -> tuple[Integers, NDArray[np.bool_]]:
        is_random = self.rng.random(viewer.size) < self.settings.random_share
        served = self.serving.draw(viewer, self.rng)
        anything = self.rng.integers(0, self.settings.videos, size=viewer.size)
        return np.where(is_random, anything, served), is_random

    def surface(self, number: int) -> Integers:
        shares = self.settings.habits.surface_shares
        drawn: Integers = self.rng.choice(len(shares), size=number, p=shares)
        return drawn


def _one_session(
    crowd: LivingViewers,
    lottery: _Lottery,
    sessions: Sessions,
    place: Integers,
    free_ms: Integers,
) -> list[dict[str, NDArray[Any]]]:
    """Let each viewer of these sessions, all different, watch until he leaves."""
    viewer = sessions.viewer[place]
    now_ms = np.maximum(sessions.starts_ms[place], free_ms[viewer] + PAUSE_MS)
    started_ms, session = now_ms, lottery.sessions + np.arange(viewer.size)
    lottery.sessions += viewer.size
    crowd.begin(viewer)
    rows = []
    surface = request = np.zeros(viewer.size, dtype=np.int64)
    for step in range(LONGEST_SESSION):
        if step % REQUEST_SIZE == 0:
            surface = lottery.surface(viewer.size)
            request = lottery.requests + np.arange(viewer.size)
            lottery.requests += viewer.size
        video, is_random = lottery.draw(viewer)
        watched, hidden = crowd.watch(viewer, video, surface, started_ms)
        rows.append(
            {
                "viewer": viewer,
                "video": video,
                "session": session,
                "request": request,
                "position": np.full(viewer.size, step % REQUEST_SIZE),
                "surface": surface,
                "is_random": is_random,
                "shown_at_ms": now_ms,
                "watch_ms": watched.watch_ms,
                "flags": watched.flags,
                "p_glance": hidden.p_glance,
                "expected_watch_s": hidden.expected_watch_s,
                "affinity": hidden.affinity,
                "parts": hidden.parts,
            }
        )
        gap_ms = lottery.rng.integers(*GAP_MS, size=viewer.size)
        now_ms = now_ms + watched.watch_ms + gap_ms
        free_ms[viewer] = now_ms
        stays = ~watched.leaves
        viewer, now_ms, started_ms, session, surface, request = (
            column[stays] for column in (viewer, now_ms, started_ms, session, surface, request)
        )
        if not viewer.size:
            break
    return rows


def _in_turn(sessions: Sessions) -> Iterator[Integers]:
    """Give the places of everybody's first session of the day, then of the second, ..."""
    for number in range(int(sessions.number.max(initial=-1)) + 1):
        yield np.flatnonzero(sessions.number == number)


def _gathered(rows: list[dict[str, NDArray[Any]]], intercept: float) -> Lived:
    def column(name: str, empty: tuple[int, ...] = (0,)) -> NDArray[Any]:
        if not rows:
            kind = {"is_random": np.bool_, "flags": np.bool_}.get(name, np.int64)
            return np.zeros(empty, dtype=kind)
        return np.concatenate([row[name] for row in rows])

    exposures = Exposures(
        viewer=column("viewer"),
        video=column("video"),
        session=column("session"),
        request=column("request"),
        position=column("position"),
        surface=column("surface"),
        is_random=column("is_random"),
        session_starts_ms=np.zeros(0, dtype=np.int64),
    )
    outcomes = Outcomes(watch_ms=column("watch_ms"), flags=column("flags", (0, 5)))
    truth = Truth(
        p_glance=column("p_glance"),
        expected_watch_s=column("expected_watch_s"),
        affinity=column("affinity"),
        parts=column("parts", (0, 9)),
    )
    return Lived(exposures, outcomes, truth, column("shown_at_ms"), intercept)
