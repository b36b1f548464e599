"""How long a shown video is watched, whether it is liked, and what the odds were.

    WorldSettings, Viewers, Videos, Exposures, rng  ->  watch  ->  Outcomes, Truth, (N,) per column

One watch, w seconds of a video of d >= 5 s:

    glance    with p = sigmoid(sum of the parts of `odds`): w = 3 u^g, u uniform, g = 1
    stay      w = 3 + X, X with survival exp(-sqrt(x / scale)): interest is lost ever more slowly
    finish    where 3 + X >= d: w = d and up to half a second, or now and then a second watch

- Only the mood reads outcomes, and only earlier ones: glances just before, in the same session,
  make the next one likelier.
- In a `skip_only` world there is no mood, the scale is one number, and nothing is liked.
- The probabilities stay apart, in `Truth`; shuffling moves outcomes and leaves them as they were.

All forms and numbers are our own choice, set by eye to KuaiRand-Pure's shares.
Knows `odds`, `exposure`, `population`, `world`; is read by `tables` and `log`.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skipwise.progress import Progress
from skipwise.simulation.exposure import Exposures
from skipwise.simulation.habits import Habits
from skipwise.simulation.odds import logit_of, odds_before_mood, sigmoid
from skipwise.simulation.population import Floats, Integers, Videos, Viewers
from skipwise.simulation.world import WorldSettings

GLANCE_MS = 3000
"""A glance ends before this."""

FINISH_JITTER_MS = 500
"""A finished watch may run on for less than this."""

MOOD_PER_GLANCE, LONGEST_MOOD, MEAN_MOOD = 0.2, 4, 0.65
"""Part of each glance just before; glances that count; their mean number if 40 % are glances."""

FLAG_NAMES = ("liked", "followed", "commented", "shared", "disliked")
"""Explicit feedback, in the order of the event table."""

FLAG_SHARES = (0.018, 0.0012, 0.0035, 0.0012, 0.0013)
"""Probability of each at affinity 0 among the watches it can follow: a glance for a dislike, any
other watch for the rest."""

FLAG_SLOPES = (0.9, 1.0, 0.7, 0.8, -1.2)
"""How the log of that probability grows with affinity."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcomes:
    """What viewers did, one row per impression."""

    watch_ms: Integers
    """(N,) >= 0, replays included."""

    flags: NDArray[np.bool_]
    """(N, 5) explicit feedback, in the order of FLAG_NAMES."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """What a log never tells, one row per impression."""

    p_glance: Floats
    """(N,) probability of a glance, given everything before."""

    expected_watch_s: Floats
    """(N,) expected watch time, replays included."""

    affinity: Floats
    """(N,) liking of topic and author; 0 is indifferent."""

    parts: Floats
    """(N, 9) parts of the logit of `p_glance`, in the order of PART_NAMES."""


def watch(
    settings: WorldSettings,
    viewers: Viewers,
    videos: Videos,
    exposures: Exposures,
    rng: np.random.Generator,
    progress: Progress,
    intercept: float | None = None,
) -> tuple[Outcomes, Truth]:
    """Let everyone watch what they are shown; see `odds_before_mood` for the intercept."""
    affinity, parts = odds_before_mood(settings, viewers, videos, exposures, intercept)
    mood_per_glance = 0.0 if settings.skip_only else MOOD_PER_GLANCE
    glanced, parts[:, -1] = leave_at_once(
        logit_of(parts.T), exposures, mood_per_glance, rng, progress
    )
    p_glance = sigmoid(logit_of(parts.T))
    duration_ms = videos.duration_ms[exposures.video]
    scale_s = stay_scale_s(settings, affinity, videos, exposures.video)
    zeros = np.array(settings.habits.surface_zeros)[exposures.surface]
    lots = draw_lots(settings.habits, zeros, rng)
    watch_ms = watch_ms_of(lots, glanced, scale_s, duration_ms)
    flags = rng.random((glanced.size, len(FLAG_NAMES))) < p_flags(settings, affinity, glanced)
    outcomes = Outcomes(watch_ms=watch_ms, flags=flags)
    if settings.shuffle_outcomes:
        dealt = rng.permutation(glanced.size)
        outcomes = replace(outcomes, watch_ms=watch_ms[dealt], flags=flags[dealt])
    expected_s = expected_watch_s(
        p_glance,
        scale_s,
        duration_ms / 1000.0,
        settings.habits.rewatch_share,
        settings.habits.glance_shape,
        zeros,
    )
    truth = Truth(p_glance=p_glance, expected_watch_s=expected_s, affinity=affinity, parts=parts)
    return outcomes, truth


def leave_at_once(
    logits: Floats,
    exposures: Exposures,
    mood_per_glance: float,
    rng: np.random.Generator,
    progress: Progress,
) -> tuple[NDArray[np.bool_], Floats]:
    """Decide who leaves at once, step by step, all viewers together.

    Viewers with more impressions come first, so that those still watching are a slice.

    Returns:
        (N,) who left at once, and (N,) the mood's part of the logit.
    """
    drawn = rng.random(logits.size)
    glanced, mood = np.zeros(logits.size, bool), np.zeros(logits.size)
    _, first_row, views = np.unique(exposures.viewer, return_index=True, return_counts=True)
    by_views = np.argsort(-views, kind="stable")
    first_row, views = first_row[by_views], views[by_views]
    still_watching = np.searchsorted(-views, -np.arange(views.max(initial=0)), side="left")
    run, last_session = np.zeros(views.size), np.full(views.size, -1)
    with progress.task("viewers watch", total=drawn.size, unit="impressions") as task:
        for step, watching in enumerate(still_watching):
            rows = first_row[:watching] + step
            session = exposures.session[rows]
            run = np.where(session == last_session[:watching], run[:watching], 0.0)
            mood[rows] = mood_per_glance * (np.minimum(run, LONGEST_MOOD) - MEAN_MOOD)
            glanced[rows] = drawn[rows] < sigmoid(logits[rows] + mood[rows])
            run, last_session = np.where(glanced[rows], run + 1.0, 0.0), session
            task.advance(int(watching))
    return glanced, mood


def expected_watch_s(
    p_glance: Floats,
    scale_s: Floats,
    duration_s: Floats,
    rewatch_share: float = 0.08,
    glance_shape: float = 1.0,
    zeros: Floats | float = 0.0,
) -> Floats:
    """Return the mean of the watch process above.

        E[w] = p (1 - z) 3 / (1 + g)
               + (1 - p) (3 + 2 s (1 - (1 + x) e^-x) + e^-x (jitter / 2 + r d / 2)),
        x = sqrt((d - 3) / s)

    where the middle term is the integral of exp(-sqrt(t / s)) over 0 <= t <= d - 3 (substitute
    u = sqrt(t / s)), r is the share of rewatches and g the shape of glances.

    Args:
        p_glance: (N,) probability of a glance.
        scale_s: (N,) seconds, > 0.
        duration_s: (N,) seconds, >= 3.
        rewatch_share: `Habits.rewatch_share`.
        glance_shape: `Habits.glance_shape`.
        zeros: (N,) share z of glances that last 0 s.

    Returns:
        (N,) seconds.
    """
    glance_s = GLANCE_MS / 1000.0
    reach = np.sqrt((duration_s - glance_s) / scale_s)
    finishes = np.exp(-reach)
    stays_s = 2.0 * scale_s * (1.0 - (1.0 + reach) * finishes)
    runs_on_s = FINISH_JITTER_MS / 2000.0 + rewatch_share * duration_s / 2.0
    stayed_s = glance_s + stays_s + finishes * runs_on_s
    return p_glance * (1.0 - zeros) * glance_s / (1.0 + glance_shape) + (1.0 - p_glance) * stayed_s


def stay_scale_s(
    settings: WorldSettings, affinity: Floats, videos: Videos, video: Integers
) -> Floats:
    """Return the scale of the time each viewer stays beyond a glance, (N,) seconds."""
    habits = settings.habits
    if settings.skip_only:
        return np.full(affinity.size, habits.stay_scale_s)
    scale_s = habits.stay_scale_s * np.exp(0.6 * affinity + 0.4 * videos.quality[video])
    if habits.stay_by_duration:
        longer = videos.duration_ms[video] / (1000.0 * habits.duration_median_s)
        scale_s = scale_s * longer**habits.stay_by_duration
    return scale_s


class Lots(NamedTuple):
    """What chance says of a watch before it is known how the video is liked, (N,) each."""

    glance_ms: Integers
    """Length of the watch if it is a glance, below GLANCE_MS."""
    interest: Floats
    """Exponential: its square, times the scale, is how long interest would last after that."""
    jitter_ms: Integers
    """What a finished watch runs on for."""
    again: Floats
    """Part of the video that a finished watch goes on for, once more; 0 = none."""


def draw_lots(habits: Habits, zeros: Floats, rng: np.random.Generator) -> Lots:
    """Draw what does not depend on tastes; `zeros` (N,) is the share of glances that last 0 s."""
    number = zeros.size
    glance_ms = rng.integers(0, GLANCE_MS, size=number)
    if habits.glance_shape != 1.0:
        part = (glance_ms / GLANCE_MS) ** habits.glance_shape
        glance_ms = np.minimum(np.rint(GLANCE_MS * part), GLANCE_MS - 1).astype(np.int64)
    if zeros.any():
        glance_ms = np.where(rng.random(number) < zeros, 0, glance_ms)
    interest = rng.exponential(size=number)
    jitter_ms = rng.integers(0, FINISH_JITTER_MS, size=number)
    is_again, part = rng.random((2, number))
    return Lots(glance_ms, interest, jitter_ms, part * (is_again < habits.rewatch_share))


def watch_ms_of(
    lots: Lots, glanced: NDArray[np.bool_], scale_s: Floats, duration_ms: Integers
) -> Integers:
    """Return whole milliseconds: below GLANCE_MS for a glance, never below it otherwise."""
    stay_ms = GLANCE_MS + 1000.0 * scale_s * lots.interest**2
    finish_ms = duration_ms + lots.jitter_ms + lots.again * duration_ms
    stayed_ms = np.where(stay_ms >= duration_ms, finish_ms, stay_ms)
    return np.where(glanced, lots.glance_ms, stayed_ms).astype(np.int64)


def p_flags(settings: WorldSettings, affinity: Floats, glanced: NDArray[np.bool_]) -> Floats:
    """Return (N, 5) probabilities of explicit feedback after this watch."""
    if settings.skip_only:
        return np.zeros((glanced.size, len(FLAG_NAMES)))
    follows = glanced[:, None] == np.array([name == "disliked" for name in FLAG_NAMES])
    p = np.array(FLAG_SHARES) * np.exp(np.outer(affinity, FLAG_SLOPES))
    return np.where(follows, np.minimum(p, 1.0), 0.0)
