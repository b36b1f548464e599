"""A random log of living viewers, with the true odds of every candidate."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skipwise.simulation.living import LivingViewers
from skipwise.simulation.population import draw_videos, draw_viewers
from skipwise.simulation.world import DAY_MS, FIRST_DAY, WorldSettings

Floats = NDArray[np.float64]


class RandomSlates(NamedTuple):
    """N requests of C candidates each, drawn uniformly; a lottery showed one of them, place 0."""

    viewer: NDArray[np.int64]
    glance: Floats
    """(N,) 1 where what was shown was left at once."""
    p_glance: Floats
    """(N, C) the truth, which no log tells."""
    propensity: Floats
    """(N,) with which the lottery drew place 0 among the C."""


def random_slates(
    *, viewers: int, steps: int, candidates: int, seed: int, lean: float = 0.0
) -> RandomSlates:
    """Show every viewer videos by lot, and note the odds of others that were not shown.

    The lottery draws candidate c with softmax_c(lean * (noise_c - 3 p_c)), noise standard normal,
    p the odds of a glance: with 0 any is as likely, else propensities differ from row to row.
    """
    settings = WorldSettings(viewers=viewers, seed=seed)
    rng = np.random.default_rng(seed)
    crowd = LivingViewers(settings, draw_viewers(settings, rng), draw_videos(settings, rng), rng)
    everyone = np.arange(viewers)
    crowd.begin(everyone)
    started = np.full(viewers * candidates, FIRST_DAY * DAY_MS)
    rows: list[tuple[NDArray[Any], ...]] = []
    for _ in range(steps):
        video = rng.integers(0, settings.videos, size=(viewers, candidates))
        surface = rng.integers(0, 3, size=viewers)
        odds = crowd.odds(
            np.repeat(everyone, candidates),
            video.ravel(),
            np.repeat(surface, candidates),
            started,
        )
        p_glance = odds.p_glance.reshape(viewers, candidates)
        propensity = np.full(viewers, 1.0 / candidates)
        if lean:
            chance = np.exp(lean * (rng.standard_normal(p_glance.shape) - 3 * p_glance))
            chance /= chance.sum(axis=1, keepdims=True)
            drawn = (chance.cumsum(axis=1) > rng.random((viewers, 1))).argmax(axis=1)
            propensity = chance[everyone, drawn]
            for table in (video, p_glance):
                table[everyone, drawn], table[:, 0] = table[:, 0].copy(), table[everyone, drawn]
        watched, _ = crowd.watch(everyone, video[:, 0], surface, started[:viewers])
        rows.append((everyone, (watched.watch_ms < 3000) * 1.0, p_glance, propensity))
    return RandomSlates(*(np.concatenate(column) for column in zip(*rows, strict=True)))
