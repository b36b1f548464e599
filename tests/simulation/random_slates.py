"""A random log of living viewers, with the true odds of every candidate."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skipwise.simulation.living import LivingViewers
from skipwise.simulation.population import draw_videos, draw_viewers
from skipwise.simulation.world import DAY_MS, FIRST_DAY, WorldSettings

Floats = NDArray[np.float64]


class RandomSlates(NamedTuple):
    """N requests of C candidates each; one, place 0, was shown: all were drawn uniformly."""

    viewer: NDArray[np.int64]
    glance: Floats
    """(N,) 1 where what was shown was left at once."""
    p_glance: Floats
    """(N, C) the truth, which no log tells."""


def random_slates(*, viewers: int, steps: int, candidates: int, seed: int) -> RandomSlates:
    """Show every viewer videos drawn uniformly, and note the odds of others that were not shown."""
    settings = WorldSettings(viewers=viewers, seed=seed)
    rng = np.random.default_rng(seed)
    crowd = LivingViewers(settings, draw_viewers(settings, rng), draw_videos(settings, rng), rng)
    everyone = np.arange(viewers)
    crowd.begin(everyone)
    started = np.full(viewers * candidates, FIRST_DAY * DAY_MS)
    rows: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = []
    for _ in range(steps):
        video = rng.integers(0, settings.videos, size=(viewers, candidates))
        surface = rng.integers(0, 3, size=viewers)
        odds = crowd.odds(
            np.repeat(everyone, candidates),
            video.ravel(),
            np.repeat(surface, candidates),
            started,
        )
        watched, _ = crowd.watch(everyone, video[:, 0], surface, started[:viewers])
        rows.append(
            (everyone, (watched.watch_ms < 3000) * 1.0, odds.p_glance.reshape(viewers, candidates))
        )
    viewer, glance, p_glance = (np.concatenate(column) for column in zip(*rows, strict=True))
    return RandomSlates(viewer, glance, p_glance)
