"""What makes a viewer leave at once, apart from the mood he is in.

    WorldSettings, Viewers, Videos, Exposures  ->  odds_before_mood  ->  affinity (N,), parts (N, 9)

- The logit of a glance is a sum of named parts: intercept, taste, author, patience, quality,
  surface, fatigue (the same topic again and again in a session), hour at which the session was to
  begin, and mood, which depends on outcomes and is filled in by `watching`.
- The intercept makes the mean probability what the settings ask for.
- In a `skip_only` world taste is the only part.

All forms and numbers are our own choice, set by eye to KuaiRand-Pure's shares.
Knows `exposure`, `population`, `world`; is read by `watching` and `tables`.
"""

from typing import NamedTuple

import numpy as np

from skipwise.simulation.exposure import Exposures, run_length, skip_only_logit
from skipwise.simulation.population import Floats, Integers, Videos, Viewers, tastes_on
from skipwise.simulation.world import DAY_MS, FIRST_DAY, UTC_OFFSET_MS, WorldSettings

PART_NAMES = (
    "intercept",
    "taste",
    "author",
    "patience",
    "quality",
    "surface",
    "fatigue",
    "hour",
    "mood",
)
"""What the logit of a glance is the sum of."""

FATIGUE_PER_VIEW, LONGEST_FATIGUE = 0.15, 4
"""Part of each view of the same topic just before; views that count."""


def odds_before_mood(
    settings: WorldSettings,
    viewers: Viewers,
    videos: Videos,
    exposures: Exposures,
    intercept: float | None = None,
) -> tuple[Floats, Floats]:
    """Return (N,) affinities and (N, 9) parts, the mood's column still 0.

    The intercept, one for the whole world, is found on these impressions where it is None.
    """
    started_ms = exposures.session_starts_ms[exposures.session]
    repeats = run_length(videos.topics[exposures.video, 0], exposures.session)
    affinity, parts = odds_of(
        settings,
        viewers,
        videos,
        Showing(exposures.viewer, exposures.video, exposures.surface, started_ms, repeats),
    )
    if settings.skip_only:
        return affinity, parts
    if intercept is None:
        intercept = intercept_for(parts.sum(axis=1), settings.glance_share)
    parts[:, 0] = intercept
    return affinity, parts


class Showing(NamedTuple):
    """One video shown to one viewer, row by row, (N,)."""

    viewer: Integers
    video: Integers
    surface: Integers
    started_ms: Integers
    """When the session began, UTC epoch."""
    repeats: Integers
    """Views of the same topic just before, in the same session."""


def odds_of(
    settings: WorldSettings, viewers: Viewers, videos: Videos, showing: Showing
) -> tuple[Floats, Floats]:
    """Return (N,) affinities and (N, 9) parts, those of intercept and mood still 0."""
    viewer, video = showing.viewer, showing.video
    started_ms = showing.started_ms + UTC_OFFSET_MS
    taste = _mean_taste(viewers, viewer, videos.topics[video], started_ms / DAY_MS - FIRST_DAY)
    parts = np.zeros((viewer.size, len(PART_NAMES)))
    if settings.skip_only:
        parts[:, 1] = skip_only_logit(taste, settings.taste_strength)
        return settings.taste_strength * taste, parts
    habits = settings.habits
    to_topic = settings.taste_strength * taste
    traits = viewers.author_traits[viewer] * videos.author_traits[video]
    to_author = 0.4 * settings.taste_strength * traits.sum(axis=1)
    parts[:, 1] = -1.3 * to_topic
    parts[:, 2] = -1.3 * to_author
    parts[:, 3] = -viewers.patience[viewer]
    parts[:, 4] = -0.9 * videos.quality[video]
    if habits.duration_logit:
        longer = np.log(videos.duration_ms[video] / (1000.0 * habits.duration_median_s))
        parts[:, 4] += habits.duration_logit * longer
    parts[:, 5] = np.array(habits.surface_logits)[showing.surface]
    parts[:, 6] = FATIGUE_PER_VIEW * np.minimum(showing.repeats, LONGEST_FATIGUE)
    parts[:, 7] = -0.2 * np.cos(2.0 * np.pi * (started_ms / DAY_MS - 21.0 / 24.0))  # calm at 21 h
    return to_topic + to_author, parts


def sigmoid(logit: Floats) -> Floats:
    """Turn logits into probabilities."""
    p: Floats = 1.0 / (1.0 + np.exp(-logit))
    return p


def _mean_taste(viewers: Viewers, viewer: Integers, topics: Integers, days_in: Floats) -> Floats:
    """Average a viewer's tastes over the topics of a video, (N, 3) with -1 for none."""
    total: Floats = np.zeros(viewer.size)
    for topic in topics.T:
        total += np.where(topic >= 0, tastes_on(viewers, viewer, topic, days_in), 0.0)
    total /= (topics >= 0).sum(axis=1)
    return total


def intercept_for(logits: Floats, wanted_share: float) -> float:
    """Find, by bisection, what to add so that the mean of the sigmoids is as wanted."""
    low, high = -20.0, 20.0
    for _ in range(40):
        middle = (low + high) / 2
        if logits.size and sigmoid(logits + middle).mean() < wanted_share:
            low = middle
        else:
            high = middle
    return (low + high) / 2
