"""What is shown to whom, where and in which session: the plan, before anyone watches.

    WorldSettings, Viewers, Videos, rng  ->  plan_exposures  ->  Exposures, (N,) per column

- Rows are ordered by viewer, then by time; the plan knows no outcome, so an outcome cannot choose
  what is shown (the loop that lets it do so belongs to a serving system).
- A session is cut into requests of up to `REQUEST_SIZE` videos, each on one surface.
- Served: a topic the viewer leans to, then a video of it by popularity. Random: any video, with
  the known propensity 1 / videos.
- In a `skip_only` world a topic is shown in proportion to 1 / (1 - p_glance). What is then
  *watched* falls evenly on all topics, loved or not, so that watched views tell nothing and only
  the skips do.

Knows `population`, `world`; is read by `odds`, `watching`, `clock` and `tables`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipwise.simulation.population import Floats, Integers, Videos, Viewers
from skipwise.simulation.world import DAY_MS, FIRST_DAY, UTC_OFFSET_MS, WorldSettings

REQUEST_SIZE = 6
"""Most videos that one request brings."""

SERVING_LEAN = 0.5
"""How much the serving system leans to what a viewer likes (softmax of lean * taste)."""

HOUR_WEIGHTS = (1, 0.5, 0.3, 0.2, 0.2, 0.4, 1, 2, 2, 2, 2, 3, 4, 3, 2, 2, 2, 3, 4, 5, 6, 6, 4, 2)
"""How often sessions begin in each local hour, midnight first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exposures:
    """One row per impression, ordered by viewer, then time."""

    viewer: Integers
    """(N,) which viewer, ascending."""

    video: Integers
    """(N,) which video."""

    session: Integers
    """(N,) running number of the session over all viewers, ascending."""

    request: Integers
    """(N,) running number of the request over all viewers, ascending."""

    position: Integers
    """(N,) place in the request, from 0."""

    surface: Integers
    """(N,) place in `Habits.surfaces`."""

    is_random: NDArray[np.bool_]
    """(N,) whether the video was drawn uniformly from all videos."""

    session_starts_ms: Integers
    """(S,) wanted start of each session, UTC epoch, ascending within a viewer."""


def plan_exposures(
    settings: WorldSettings, viewers: Viewers, videos: Videos, rng: np.random.Generator
) -> Exposures:
    """Draw who is shown what, on all days.

    Returns:
        The plan; empty columns when nobody came.
    """
    mean_views = np.outer(viewers.activity, np.full(settings.days, settings.views_per_viewer_day))
    views = rng.poisson(mean_views)
    viewer_day = np.repeat(np.arange(views.size), views.ravel())
    viewer = viewer_day // settings.days
    new_session = rng.random(viewer.size) < 1.0 / settings.habits.session_views
    new_session |= _changes(viewer_day)
    session = np.cumsum(new_session) - 1
    place = _place_in_run(session)
    request = np.cumsum(place % REQUEST_SIZE == 0) - 1
    shares = settings.habits.surface_shares
    surface = rng.choice(len(shares), size=_count(request), p=shares)[request]
    is_random = rng.random(viewer.size) < settings.random_share
    served = TasteServing(settings, viewers, videos).draw(viewer, rng)
    at_random = rng.integers(0, settings.videos, size=viewer.size)
    return Exposures(
        viewer=viewer,
        video=np.where(is_random, at_random, served),
        session=session,
        request=request,
        position=place % REQUEST_SIZE,
        surface=surface,
        is_random=is_random,
        session_starts_ms=_draw_starts(viewer_day[new_session], settings.days, rng),
    )


def run_length(key: Integers, session: Integers) -> Integers:
    """Count how many rows just before, in the same session, have the same key.

    Args:
        key: (N,) what is compared.
        session: (N,) sessions, ascending.

    Returns:
        (N,) counts >= 0.

    >>> run_length(np.array([7, 7, 7, 5, 5, 5]), np.array([0, 0, 0, 0, 0, 1])).tolist()
    [0, 1, 2, 0, 1, 0]
    """
    return _place_in_run(np.cumsum(_changes(key) | _changes(session)))


def skip_only_logit(taste: Floats, taste_strength: float) -> Floats:
    """Return the logit of a glance in a `skip_only` world: -2 * strength * taste, nothing else."""
    return -2.0 * taste_strength * taste


class TasteServing:
    """Draws a topic by the viewer's weights, then one of its videos by popularity."""

    def __init__(self, settings: WorldSettings, viewers: Viewers, videos: Videos) -> None:
        if settings.skip_only:
            logit = skip_only_logit(viewers.first_tastes, settings.taste_strength)
            weights = 1.0 + np.exp(logit)  # = 1 / (1 - p_glance)
        else:
            weights = np.exp(SERVING_LEAN * viewers.first_tastes)
        below = np.cumsum(weights, axis=1)
        self._below = (below / below[:, -1:] + np.arange(len(weights))[:, None]).ravel()
        self._by_topic = np.argsort(videos.topics[:, 0], kind="stable")
        self._mass = np.cumsum(videos.popularity[self._by_topic])
        first_topic = videos.topics[self._by_topic, 0]
        ends = np.searchsorted(first_topic, np.arange(settings.topics), side="right")
        self._last = ends - 1
        upper = self._mass[self._last]
        self._lower = np.concatenate([[0.0], upper[:-1]])
        self._weight = upper - self._lower
        self._topics = settings.topics

    def draw(self, viewer: Integers, rng: np.random.Generator) -> Integers:
        """Draw a video for each viewer, (N,)."""
        return self.drawn(viewer, *rng.random((2, viewer.size)))

    def drawn(self, viewer: Integers, topic_lot: Floats, video_lot: Floats) -> Integers:
        """Return the video that two uniform numbers in [0, 1) draw for each viewer, (N,)."""
        place = self._below.searchsorted(viewer + topic_lot, side="right")
        topic = np.minimum(place - viewer * self._topics, self._topics - 1)
        wanted = self._lower.take(topic) + video_lot * self._weight.take(topic)
        place = self._mass.searchsorted(wanted, side="right")
        video: Integers = self._by_topic.take(np.minimum(place, self._last.take(topic)))
        return video


def _draw_starts(viewer_day: Integers, days: int, rng: np.random.Generator) -> Integers:
    """Draw the wanted start of each session, sorted within its viewer and day."""
    weights = np.array(HOUR_WEIGHTS) / np.sum(HOUR_WEIGHTS)
    hour = rng.choice(24, size=viewer_day.size, p=weights)
    in_day = hour * 3_600_000 + rng.integers(0, 3_600_000, size=viewer_day.size)
    in_day = in_day[np.lexsort((in_day, viewer_day))]
    return (FIRST_DAY + viewer_day % days) * DAY_MS - UTC_OFFSET_MS + in_day


def _changes(key: Integers) -> NDArray[np.bool_]:
    """Mark the rows that differ from the row before; the first row does."""
    return np.concatenate([np.ones(min(1, key.size), bool), key[1:] != key[:-1]])


def _place_in_run(key: Integers) -> Integers:
    """Return each row's place, from 0, among equal neighbours."""
    starts = np.flatnonzero(_changes(key))
    lengths = np.diff(np.append(starts, key.size))
    return np.arange(key.size) - np.repeat(starts, lengths)


def _count(ascending: Integers) -> int:
    return int(ascending[-1]) + 1 if ascending.size else 0
