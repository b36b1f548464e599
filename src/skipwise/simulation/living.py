"""Viewers who react to what they are shown: while they watch, when they leave, whether they return.

    day            ->  LivingViewers.come     ->  sessions of the day, and when each begins
    videos shown   ->  LivingViewers.watch    ->  Watched, (N,) per column; their state moves on
    day is over    ->  LivingViewers.sleep    ->  what the day was like decides who comes tomorrow

- Whoever chooses the videos, a serving system or a lottery, only ever sees `Watched`; what no log
  tells stands in `Hidden`.
- Within a session: the same topic again tires, glances in a row spoil the mood, and a spoilt mood
  makes leaving likelier. Over days: the share of views that were no glance, remembered for some
  days, makes coming back likelier. Explicit feedback is rare, and some of it arrives late.
- All viewers of a step are one array; no step loops over viewers.

The forms and numbers are our own choice. Knows `odds`, `watching`, `population`, `world`; is read
by `living_log` and by the closed loop.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipwise.simulation.exposure import HOUR_WEIGHTS, TasteServing
from skipwise.simulation.odds import Showing, intercept_for, odds_of, sigmoid
from skipwise.simulation.population import Floats, Integers, Videos, Viewers
from skipwise.simulation.watching import (
    FLAG_NAMES,
    LONGEST_MOOD,
    MEAN_MOOD,
    MOOD_PER_GLANCE,
    draw_watch_ms,
    expected_watch_s,
    p_flags,
    stay_scale_s,
)
from skipwise.simulation.world import DAY_MS, FIRST_DAY, UTC_OFFSET_MS, WorldSettings

LONGEST_BOREDOM = 6
"""Glances in a row that make leaving likelier."""

REMEMBERED = 0.6
"""Of what was felt about the days before, when a day is over."""

USUAL_STAYS = 0.6
"""Share of views without a glance at which coming back is neither likelier nor less likely."""

LATE_SHARE, LATE_MS = 0.3, 3 * 3_600_000
"""Share of explicit feedback that is given later, and its mean delay (exponential)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """What viewers did, as a log tells it, (N,) per column."""

    watch_ms: Integers
    flags: NDArray[np.bool_]
    """(N, 5) in the order of FLAG_NAMES."""
    feedback_delay_ms: Integers
    """0 where it was given at once, or not at all."""
    leaves: NDArray[np.bool_]
    """Whether the session ends here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hidden:
    """What no log tells, (N,) per column."""

    p_glance: Floats
    expected_watch_s: Floats
    affinity: Floats
    parts: Floats
    """(N, 9) parts of the logit of `p_glance`, in the order of PART_NAMES."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sessions:
    """The sessions of a day, by viewer, then time."""

    viewer: Integers
    """(S,) ascending."""
    number: Integers
    """(S,) 0 for a viewer's first of the day."""
    starts_ms: Integers
    """(S,) wanted start, UTC epoch."""


class LivingViewers:
    """A world's viewers and how they feel; see the module header."""

    def __init__(
        self,
        settings: WorldSettings,
        viewers: Viewers,
        videos: Videos,
        rng: np.random.Generator,
        intercept: float | None = None,
    ) -> None:
        """Start them all in the usual mood.

        Args:
            settings: The world.
            viewers: Their traits.
            videos: The catalogue.
            rng: Draws everything they do.
            intercept: Of the logit of a glance; None = found so that what a simple lottery serves
                is left at once as often as the settings say.
        """
        self.settings, self.viewers, self.videos, self.rng = settings, viewers, videos, rng
        number = viewers.patience.size
        self.run = np.zeros(number, dtype=np.int64)
        self.topic = np.full(number, -1, dtype=np.int64)
        self.repeats = np.zeros(number, dtype=np.int64)
        self.feeling: Floats = np.zeros(number)
        """Stays less the usual, remembered over days."""
        self._views = np.zeros(number)
        self._stays = np.zeros(number)
        self.intercept = self._find_intercept() if intercept is None else intercept

    def come(self, day: int) -> Sessions:
        """Draw who comes on a day (0 = the first), how often and when.

            p(comes) = sigmoid(logit(1 - exp(-rate)) + return_slope * feeling)

        with `rate` the viewer's usual sessions a day; who comes has a Poisson number of them, given
        that it is positive.
        """
        habits = self.settings.habits
        rate = self.viewers.activity * self.settings.views_per_viewer_day / habits.session_views
        usual = -np.expm1(-rate)
        logit = np.log(usual) + rate + habits.return_slope * self.feeling
        comes = self.rng.random(rate.size) < sigmoid(logit)
        number = np.where(comes, _positive_poisson(rate, self.rng), 0)
        viewer = np.repeat(np.arange(rate.size), number)
        weights = np.array(HOUR_WEIGHTS) / np.sum(HOUR_WEIGHTS)
        hour = self.rng.choice(24, size=viewer.size, p=weights)
        in_day = hour * 3_600_000 + self.rng.integers(0, 3_600_000, size=viewer.size)
        in_day = in_day[np.lexsort((in_day, viewer))]
        first = np.searchsorted(viewer, viewer, side="left")
        return Sessions(
            viewer=viewer,
            number=np.arange(viewer.size) - first,
            starts_ms=(FIRST_DAY + day) * DAY_MS - UTC_OFFSET_MS + in_day,
        )

    def begin(self, viewer: Integers) -> None:
        """Begin a session: nothing has tired or annoyed these viewers yet."""
        self.run[viewer] = self.repeats[viewer] = 0
        self.topic[viewer] = -1

    def odds(
        self, viewer: Integers, video: Integers, surface: Integers, started_ms: Integers
    ) -> Hidden:
        """Say what would be likely if these viewers were shown these videos now, (N,) each.

        Nothing moves, so any number of videos may be asked for one viewer.
        """
        topic = self.videos.topics[video, 0]
        repeats = np.where(topic == self.topic[viewer], self.repeats[viewer], 0)
        showing = Showing(viewer, video, surface, started_ms, repeats)
        affinity, parts = odds_of(self.settings, self.viewers, self.videos, showing)
        parts[:, 0] = self.intercept
        glances = np.minimum(self.run[viewer], LONGEST_MOOD)
        parts[:, -1] = MOOD_PER_GLANCE * (glances - MEAN_MOOD)
        p_glance = sigmoid(parts.sum(axis=1))
        habits = self.settings.habits
        watch_s = expected_watch_s(
            p_glance,
            stay_scale_s(self.settings, affinity, self.videos, video),
            self.videos.duration_ms[video] / 1000.0,
            habits.rewatch_share,
            habits.glance_shape,
            np.array(habits.surface_zeros)[surface],
        )
        return Hidden(p_glance=p_glance, expected_watch_s=watch_s, affinity=affinity, parts=parts)

    def watch(
        self, viewer: Integers, video: Integers, surface: Integers, started_ms: Integers
    ) -> tuple[Watched, Hidden]:
        """Let each of these viewers, all different, watch one video."""
        rng, habits = self.rng, self.settings.habits
        hidden = self.odds(viewer, video, surface, started_ms)
        glanced = rng.random(viewer.size) < hidden.p_glance
        scale_s = stay_scale_s(self.settings, hidden.affinity, self.videos, video)
        zeros, duration_ms = np.array(habits.surface_zeros)[surface], self.videos.duration_ms[video]
        watch_ms = draw_watch_ms(habits, glanced, scale_s, duration_ms, rng, zeros)
        chances = p_flags(self.settings, hidden.affinity, glanced)
        flags = rng.random((viewer.size, len(FLAG_NAMES))) < chances
        late = flags.any(axis=1) & (rng.random(viewer.size) < LATE_SHARE)
        delay_ms = np.where(late, rng.exponential(LATE_MS, size=viewer.size), 0.0)
        self._feel(viewer, video, glanced)
        boredom = habits.boredom * (np.minimum(self.run[viewer], LONGEST_BOREDOM) - 1.0)
        ends = 1.0 / habits.session_views
        logit = np.log(ends / (1.0 - ends)) + boredom if ends < 1 else np.full(viewer.size, 50.0)
        watched = Watched(
            watch_ms=watch_ms,
            flags=flags,
            feedback_delay_ms=delay_ms.astype(np.int64),
            leaves=rng.random(viewer.size) < sigmoid(logit),
        )
        return watched, hidden

    def sleep(self) -> None:
        """End the day: feelings move towards what it was like, or towards nothing in particular."""
        came = self._views > 0
        today = np.divide(self._stays, self._views, out=np.zeros(came.size), where=came)
        felt = np.where(came, today - USUAL_STAYS, 0.0)
        self.feeling = REMEMBERED * self.feeling + (1 - REMEMBERED) * felt
        self._views[:] = self._stays[:] = 0.0

    def _feel(self, viewer: Integers, video: Integers, glanced: NDArray[np.bool_]) -> None:
        topic = self.videos.topics[video, 0]
        again = topic == self.topic[viewer]
        self.repeats[viewer] = np.where(again, self.repeats[viewer] + 1, 1)
        self.topic[viewer] = topic
        self.run[viewer] = np.where(glanced, self.run[viewer] + 1, 0)
        self._views[viewer] += 1.0
        self._stays[viewer] += ~glanced

    def _find_intercept(self) -> float:
        """Ask for 20,000 views that a simple lottery serves, at a random hour of the first day."""
        rng, settings = np.random.default_rng([self.settings.seed, 1_000_003]), self.settings
        number = 20_000
        shares = settings.habits.surface_shares
        viewer = rng.integers(0, self.viewers.patience.size, number)
        showing = Showing(
            viewer,
            TasteServing(settings, self.viewers, self.videos).draw(viewer, rng),
            rng.choice(len(shares), size=number, p=shares),
            FIRST_DAY * DAY_MS - UTC_OFFSET_MS + rng.integers(0, DAY_MS, number),
            np.zeros(number, dtype=np.int64),
        )
        _, parts = odds_of(settings, self.viewers, self.videos, showing)
        return intercept_for(parts.sum(axis=1), settings.glance_share)


def _positive_poisson(rate: Floats, rng: np.random.Generator) -> Integers:
    """Draw Poisson numbers given that they are positive.

    The first arrival, given that there is one before time 1, is at
    -log(1 - u (1 - e^-rate)) / rate; what comes in the rest of the time is Poisson.
    """
    first = -np.log1p(-rng.random(rate.size) * -np.expm1(-rate))
    rest = np.maximum(rate - first, 0.0)
    return 1 + rng.poisson(rest)
