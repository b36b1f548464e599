"""What is worked out of many views together is what each view by itself would give."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from skipwise.progress import SILENT
from skipwise.simulation.clock import GAP_MS, PAUSE_MS, in_sessions
from skipwise.simulation.exposure import REQUEST_SIZE, TasteServing
from skipwise.simulation.habits import Habits
from skipwise.simulation.living import LivingViewers
from skipwise.simulation.living_log import LONGEST_SESSION, _Lottery, live
from skipwise.simulation.population import draw_videos, draw_viewers
from skipwise.simulation.world import WorldSettings

Columns = dict[str, NDArray[Any]]


def view_by_view(settings: WorldSettings) -> Iterator[Columns]:
    """Let viewers live as the plainest loop would: each step is watched and told at once."""
    rng = np.random.default_rng(settings.seed)
    viewers, videos = draw_viewers(settings, rng), draw_videos(settings, rng)
    crowd = LivingViewers(settings, viewers, videos, rng)
    lottery = _Lottery(settings, TasteServing(settings, viewers, videos), rng)
    free_ms, requests, sessions_before = np.zeros(settings.viewers, np.int64), 0, 0
    for day in range(settings.days):
        sessions = crowd.come(day)
        for number in range(sessions.number.max(initial=-1) + 1):
            at = np.flatnonzero(sessions.number == number)
            viewer, session = sessions.viewer[at], sessions_before + np.arange(at.size)
            sessions_before += at.size
            now_ms = started_ms = np.maximum(sessions.starts_ms[at], free_ms[viewer] + PAUSE_MS)
            crowd.begin(viewer)
            for step in range(LONGEST_SESSION):
                if step % REQUEST_SIZE == 0:
                    surface = lottery.surface(viewer.size)
                    request = requests + np.arange(viewer.size)
                    requests += viewer.size
                video, is_random = lottery.draw(viewer)
                watched, hidden = crowd.watch(viewer, video, surface, started_ms)
                yield {
                    "viewer": viewer, "video": video, "session": session, "request": request,
                    "position": np.full(viewer.size, step % REQUEST_SIZE), "surface": surface,
                    "is_random": is_random, "shown_at_ms": now_ms, "watch_ms": watched.watch_ms,
                    "flags": watched.flags, "p_glance": hidden.p_glance,
                    "expected_watch_s": hidden.expected_watch_s, "affinity": hidden.affinity,
                    "parts": hidden.parts,
                }  # fmt: skip
                now_ms = now_ms + watched.watch_ms + rng.integers(*GAP_MS, size=viewer.size)
                free_ms[viewer] = now_ms
                stays = ~watched.leaves
                viewer, now_ms, started_ms, session, surface, request = (
                    each[stays] for each in (viewer, now_ms, started_ms, session, surface, request)
                )
                if not viewer.size:
                    break
        crowd.sleep()


@pytest.mark.parametrize(
    "habits",
    [
        Habits(),
        Habits(surface_zeros=(0.2, 0.0, 0.6), glance_shape=2.0, session_views=25.0, boredom=1.0),
    ],
)
def test_a_log_lived_together_is_that_of_each_view_by_itself(habits: Habits) -> None:
    settings = WorldSettings(viewers=150, days=4, living=True, random_share=0.1, habits=habits)
    rng = np.random.default_rng(settings.seed)
    viewers, videos = draw_viewers(settings, rng), draw_videos(settings, rng)
    lived = live(settings, viewers, videos, rng, SILENT)
    steps = list(view_by_view(settings))
    plain = {name: np.concatenate([step[name] for step in steps]) for name in steps[0]}
    order = np.argsort(plain["shown_at_ms"], kind="stable")
    assert order.size > 3000
    assert (np.diff(lived.shown_at_ms) >= 0).all()
    for name, column in plain.items():
        owner = next(
            each
            for each in (lived, lived.exposures, lived.outcomes, lived.truth)
            if hasattr(each, name)
        )
        np.testing.assert_array_equal(getattr(owner, name), column[order], err_msg=name)


def test_sessions_are_laid_out_each_from_its_own_start() -> None:
    rng = np.random.default_rng(0)
    session = rng.permutation(np.repeat(np.arange(20), rng.integers(1, 9, size=20)))
    starts_ms, busy_ms = rng.integers(0, 10**12, 20), rng.integers(0, 1000, session.size)
    shown_at_ms, ends_ms = in_sessions(session, starts_ms, busy_ms)
    free_ms = starts_ms.copy()
    for row, of in enumerate(session):
        assert shown_at_ms[row] == free_ms[of]
        free_ms[of] += busy_ms[row]
    np.testing.assert_array_equal(ends_ms, free_ms)
