"""What makes a viewer leave at once, apart from the mood he is in.

    WorldSettings, Viewers, Videos, Exposures  ->  odds_before_mood  ->  affinity (N,), parts (N, 9)
    the same, one step after the other  ->  Odds.showing, Odds.parts  ->  nine parts (N,)

- The logit of a glance is a sum of named parts: intercept, taste, author, patience, quality,
  surface, fatigue (the same topic again and again in a session), hour at which the session was to
  begin, and mood, which depends on outcomes and is filled in by `watching`.
- The intercept makes the mean probability what the settings ask for.
- In a `skip_only` world taste is the only part.

All forms and numbers are our own choice, set by eye to KuaiRand-Pure's shares.
Knows `exposure`, `population`, `world`; is read by `watching`, `living` and `tables`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from skipwise.simulation.exposure import Exposures, run_length, skip_only_logit
from skipwise.simulation.population import (
    Drift,
    Floats,
    Integers,
    Videos,
    Viewers,
    drift_after,
    tastes_on,
)
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
    odds = Odds(settings, viewers, videos)
    showing = odds.showing(
        exposures.viewer,
        exposures.video,
        exposures.surface,
        run_length(videos.topics[exposures.video, 0], exposures.session),
        moment_of(exposures.session_starts_ms[exposures.session]),
    )
    parts = stacked(odds.parts(showing))
    if settings.skip_only:
        return showing.affinity, parts
    if intercept is None:
        intercept = intercept_for(logit_of(parts.T), settings.glance_share)
    parts[:, 0] = intercept
    return showing.affinity, parts


class Moment(NamedTuple):
    """What the start of a session settles, (N,)."""

    drift: Drift
    hour: Floats
    """Part of the logit."""

    def of(self, rows: Integers) -> "Moment":
        """Return that of some rows."""
        first, later = self.drift
        return Moment(Drift(first.take(rows), later.take(rows)), self.hour.take(rows))


def moment_of(started_ms: Integers) -> Moment:
    """Say what sessions that begin at `started_ms` (N,), UTC epoch, have in common."""
    days = (started_ms + UTC_OFFSET_MS) / DAY_MS
    calm_at_21 = -0.2 * np.cos(2.0 * np.pi * (days - 21.0 / 24.0))
    return Moment(drift_after(days - FIRST_DAY), calm_at_21)


class Showing(NamedTuple):
    """One video shown to one viewer, row by row, (N,)."""

    viewer: Integers
    video: Integers
    surface: Integers
    repeats: Integers
    """Views of the same topic just before, in the same session."""
    hour: Floats
    """Part of the logit, of when the session began."""
    to_topic: Floats
    """Liking of the video's topics; 0 is indifferent."""
    to_author: Floats

    @property
    def affinity(self) -> Floats:
        """Liking of topic and author."""
        return self.to_topic + self.to_author


class Odds:
    """The parts of the logit of a glance in one world; keeps what only viewer or video settle."""

    def __init__(self, settings: WorldSettings, viewers: Viewers, videos: Videos) -> None:
        habits = settings.habits
        self._settings, self._viewers = settings, viewers
        self._topics = np.ascontiguousarray(videos.topics.T)
        self._num_topics = (videos.topics >= 0).sum(axis=1).astype(np.float64)
        self._viewer_traits = np.ascontiguousarray(viewers.author_traits.T)
        self._author_traits = np.ascontiguousarray(videos.author_traits.T)
        self._patience = -viewers.patience
        self._quality = -0.9 * videos.quality
        if habits.duration_logit:
            longer = np.log(videos.duration_ms / (1000.0 * habits.duration_median_s))
            self._quality += habits.duration_logit * longer
        self._surface = np.array(habits.surface_logits)
        self._fatigue = FATIGUE_PER_VIEW * np.arange(LONGEST_FATIGUE + 1.0)

    def showing(
        self,
        viewer: Integers,
        video: Integers,
        surface: Integers,
        repeats: Integers,
        moment: Moment,
    ) -> Showing:
        """Look up how a viewer likes what he is shown, (N,) each.

        The taste for a video is the mean of those for its one to three topics.
        """
        topics = self._topics.take(video, axis=1)
        tastes = tastes_on(self._viewers, viewer, topics, moment.drift)
        tastes *= topics >= 0
        to_topic = np.add.reduce(tastes)
        to_topic /= self._num_topics.take(video)
        to_topic *= self._settings.taste_strength
        if self._settings.skip_only:
            nothing = np.zeros(viewer.size)
            return Showing(viewer, video, surface, repeats, nothing, to_topic, nothing)
        traits = self._viewer_traits.take(viewer, axis=1)
        traits *= self._author_traits.take(video, axis=1)
        to_author = np.add.reduce(traits)
        to_author *= 0.4 * self._settings.taste_strength
        return Showing(viewer, video, surface, repeats, moment.hour, to_topic, to_author)

    def parts(self, showing: Showing, intercept: float = 0.0) -> list[Floats | float]:
        """Return nine numbers or arrays (N,), in the order of PART_NAMES; that of mood is 0."""
        if self._settings.skip_only:
            return [0.0, skip_only_logit(showing.to_topic, 1.0), *7 * [0.0]]
        return [
            intercept,
            -1.3 * showing.to_topic,
            -1.3 * showing.to_author,
            self._patience.take(showing.viewer),
            self._quality.take(showing.video),
            self._surface.take(showing.surface),
            self._fatigue.take(showing.repeats, mode="clip"),
            showing.hour,
            0.0,
        ]


def stacked(parts: Sequence[Floats | float]) -> Floats:
    """Return nine parts (N,) as one array (N, 9) whose columns lie together."""
    columns = np.empty((len(parts), np.size(parts[1])))
    for column, part in zip(columns, parts, strict=True):
        column[:] = part
    return columns.T


def logit_of(parts: Sequence[Floats | float] | Floats) -> Floats:
    """Add nine parts (N,) up, in pairs; the second is an array."""
    one, two, three, four, five, six, seven, eight, nine = parts
    return np.asarray((one + two) + (three + four) + ((five + six) + (seven + eight)) + nine)


def sigmoid(logit: Floats) -> Floats:
    """Turn logits into probabilities."""
    p: Floats = 1.0 / (1.0 + np.exp(-logit))
    return p


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
