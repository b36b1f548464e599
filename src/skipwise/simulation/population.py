"""Who watches, and what there is to watch.

    WorldSettings, rng  ->  draw_viewers  ->  Viewers, (V,) per trait, (V, T) tastes
                        ->  draw_videos   ->  Videos, (M,) per trait

- A viewer loves some topics, dislikes some and hardly minds most; tastes drift slowly from one
  set to another, along a quarter of a circle in `DRIFT_DAYS` days.
- In a `skip_only` world every viewer dislikes the same number of topics (-1) and likes the rest
  (+1), for good, and every topic has as many enemies; all videos have one topic, and no other
  trait of anything moves an outcome.
- Everyone's traits are drawn before anything is shown: no trait depends on an outcome.

Knows `world`; is read by the rest of this folder.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skipwise.simulation.world import DAY_MS, FIRST_DAY, UTC_OFFSET_MS, WorldSettings

DRIFT_DAYS = 120.0
"""After so many days a viewer's tastes are those he began with no more."""

DISLIKED_SHARE = 0.25
"""Share of topics a viewer of a `skip_only` world dislikes (at least one)."""

AUTHOR_TRAITS = 4
"""Length of the vectors whose product is a viewer's affinity to an author."""

AGE_GROUPS = ("under_25", "25_to_40", "over_40")
"""Values of the viewers' extra column `age_group`; the older, the more patient."""

KINDS = ("clip", "advert")
"""Values of the videos' extra column `kind`; adverts are of lower quality."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Viewers:
    """The viewers' traits, one row each."""

    first_tastes: Floats
    """(V, T) taste for each topic on the first day; about -2 (disliked) to 2 (loved)."""

    later_tastes: Floats
    """(V, T) the tastes that take over as days pass; the first ones where nothing drifts."""

    author_traits: Floats
    """(V, AUTHOR_TRAITS) standard normal."""

    patience: Floats
    """(V,) how readily a viewer stays, in logits."""

    activity: Floats
    """(V,) factor on the views per day, mean about 1."""

    age_group: Integers
    """(V,) place in AGE_GROUPS."""

    num_followed: Integers
    """(V,) authors followed before the first day; says nothing about tastes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Videos:
    """The videos' traits, one row each."""

    topics: Integers
    """(M, 3) first, second and third topic; -1 where a video has fewer."""

    author: Integers
    """(M,) who made it."""

    author_traits: Floats
    """(M, AUTHOR_TRAITS) traits of its author, of length about 1."""

    quality: Floats
    """(M,) how good everyone finds it, in logits."""

    popularity: Floats
    """(M,) weight with which it is served within its first topic, > 0."""

    duration_ms: Integers
    """(M,) 5,000 to 300,000, median about 70,000."""

    uploaded_at_ms: Integers
    """(M,) UTC epoch, before the first day."""

    kind: Integers
    """(M,) place in KINDS."""

    title_length: Integers
    """(M,) characters; says nothing."""


def draw_viewers(settings: WorldSettings, rng: np.random.Generator) -> Viewers:
    """Draw the viewers of a world."""
    viewers = settings.viewers
    if settings.skip_only:
        first_tastes = later_tastes = _balanced_tastes(settings, rng)
    else:
        first_tastes, later_tastes = _free_tastes(settings, rng), _free_tastes(settings, rng)
    age_group = rng.choice(len(AGE_GROUPS), size=viewers, p=[0.4, 0.4, 0.2])
    spread = settings.activity_spread
    return Viewers(
        first_tastes=first_tastes,
        later_tastes=later_tastes,
        author_traits=rng.standard_normal((viewers, AUTHOR_TRAITS)),
        patience=settings.habits.patience_spread * rng.standard_normal(viewers)
        + 0.3 * (age_group - 0.8),
        activity=np.exp(spread * rng.standard_normal(viewers) - spread**2 / 2),
        age_group=age_group,
        num_followed=rng.geometric(0.05, size=viewers) - 1,
    )


def draw_videos(settings: WorldSettings, rng: np.random.Generator) -> Videos:
    """Draw the catalogue of a world."""
    videos = settings.videos
    sizes = rng.pareto(1.2, size=settings.authors) + 0.2
    author = rng.choice(settings.authors, size=videos, p=sizes / sizes.sum())
    traits = rng.standard_normal((settings.authors, AUTHOR_TRAITS)) / np.sqrt(AUTHOR_TRAITS)
    kind = (rng.random(videos) < 0.08).astype(np.int64)
    quality = settings.habits.quality_spread * rng.standard_normal(videos) - 0.8 * kind
    median_s, spread = settings.habits.duration_median_s, settings.habits.duration_spread
    duration_s = np.exp(np.log(median_s) + spread * rng.standard_normal(videos))
    first_instant = FIRST_DAY * DAY_MS - UTC_OFFSET_MS
    return Videos(
        topics=_draw_topics(settings, rng),
        author=author,
        author_traits=traits[author],
        quality=quality,
        popularity=np.exp(1.2 * rng.standard_normal(videos) + 0.5 * quality),
        duration_ms=(1000 * np.clip(duration_s, 5.0, 300.0)).astype(np.int64),
        uploaded_at_ms=first_instant - rng.integers(1, 60 * DAY_MS, size=videos),
        kind=kind,
        title_length=rng.integers(0, 80, size=videos),
    )


class Drift(NamedTuple):
    """Weights of the tastes of the first day and of those that take over, (N,) each."""

    first: Floats
    later: Floats


def drift_after(days_in: Floats) -> Drift:
    """Weigh old tastes against new ones.

        taste = cos(a) first + sin(a) later,  a = (pi / 2) days_in / DRIFT_DAYS

    which keeps the spread of tastes the same on all days (own choice).

    Args:
        days_in: (N,) days since the first day.
    """
    angle = 0.5 * np.pi * days_in / DRIFT_DAYS
    return Drift(np.cos(angle), np.sin(angle))


def tastes_on(viewers: Viewers, viewer: Integers, topic: Integers, drift: Drift) -> Floats:
    """Return tastes after some drift.

    Args:
        viewers: Whose tastes.
        viewer: (N,) which viewer.
        topic: (..., N) which topic; -1 is of no meaning here, and allowed.
        drift: (N,) each.

    Returns:
        (..., N) tastes.
    """
    place = topic + viewer * viewers.first_tastes.shape[1]
    first: Floats = viewers.first_tastes.take(place)
    if viewers.later_tastes is viewers.first_tastes:
        return first
    first *= drift.first
    later = viewers.later_tastes.take(place)
    later *= drift.later
    first += later
    return first


def _free_tastes(settings: WorldSettings, rng: np.random.Generator) -> Floats:
    """Draw tastes: 15 % of topics loved, 15 % disliked, the rest hardly minded."""
    shape = (settings.viewers, settings.topics)
    lean = rng.choice([-1.4, 0.0, 1.4], size=shape, p=[0.15, 0.7, 0.15])
    return lean + 0.3 * rng.standard_normal(shape)


def _balanced_tastes(settings: WorldSettings, rng: np.random.Generator) -> Floats:
    """Draw tastes of -1 and +1, as many of each for every viewer and, in T viewers, every topic.

    So neither a viewer's nor a topic's own rate of glances tells anything. In a block of T viewers
    the i-th dislikes the topics i, i + 1, ... (mod T) of a random order.
    """
    topics = settings.topics
    disliked = max(1, round(DISLIKED_SHARE * topics))
    place = np.arange(topics)
    dislikes = (place[None, :] - place[:, None]) % topics < disliked
    blocks = -(-settings.viewers // topics)
    orders = rng.permuted(np.tile(place, (blocks, 1)), axis=1)
    in_blocks = dislikes[:, orders].swapaxes(0, 1).reshape(-1, topics)
    return np.where(in_blocks[: settings.viewers], -1.0, 1.0)


def _draw_topics(settings: WorldSettings, rng: np.random.Generator) -> Integers:
    """Draw one to three different topics per video; each topic is the first of some video."""
    first = rng.permutation(np.arange(settings.videos) % settings.topics)
    second = (first + rng.integers(1, settings.topics, size=settings.videos)) % settings.topics
    third = rng.integers(0, settings.topics, size=settings.videos)
    more = rng.random(settings.videos)
    has_second = (more < 0.4) & (not settings.skip_only)
    has_third = has_second & (more < 0.1) & (third != first) & (third != second)
    return np.stack(
        [first, np.where(has_second, second, -1), np.where(has_third, third, -1)], axis=1
    )
