"""Viewers who react to what they are shown: while they watch, when they leave, whether they return.

    day            ->  LivingViewers.come     ->  sessions of the day, and when each begins
    videos shown   ->  LivingViewers.watch    ->  Watched, (N,) per column; their state moves on
                   (= decide, then watched and hidden of as many steps together as one likes)
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
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skipwise.simulation.exposure import HOUR_WEIGHTS, TasteServing
from skipwise.simulation.habits import Habits
from skipwise.simulation.odds import (
    Moment,
    Odds,
    Showing,
    intercept_for,
    logit_of,
    moment_of,
    sigmoid,
    stacked,
)
from skipwise.simulation.population import Floats, Integers, Videos, Viewers
from skipwise.simulation.watching import (
    FLAG_NAMES,
    LONGEST_MOOD,
    MEAN_MOOD,
    MOOD_PER_GLANCE,
    Lots,
    draw_lots,
    expected_watch_s,
    p_flags,
    stay_scale_s,
    watch_ms_of,
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


class Views(NamedTuple):
    """Views that are decided, (N,) per column: all that what viewers did follows from."""

    showing: Showing
    glances: Integers
    """In a row just before."""
    glanced: NDArray[np.bool_]
    leaves: NDArray[np.bool_]
    lots: Lots
    flag_lots: Floats
    """(N, 5) uniform."""
    delay_ms: Floats
    """Of explicit feedback, if there is any."""


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
        habits = settings.habits
        self._odds = Odds(settings, viewers, videos)
        self._topic_of = np.ascontiguousarray(videos.topics[:, 0])
        self._zeros = np.array(habits.surface_zeros)
        self._mood = MOOD_PER_GLANCE * (np.arange(LONGEST_MOOD + 1.0) - MEAN_MOOD)
        self._p_leaves = _p_leaves(habits)
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
        repeats = self._repeats(viewer, self._topic_of[video])
        showing = self._odds.showing(viewer, video, surface, repeats, moment_of(started_ms))
        return self.hidden(showing, self.run[viewer])

    def watch(
        self, viewer: Integers, video: Integers, surface: Integers, started_ms: Integers
    ) -> tuple[Watched, Hidden]:
        """Let each of these viewers, all different, watch one video."""
        views = self.decide(viewer, video, surface, moment_of(started_ms))
        return self.watched(views), self.hidden(views.showing, views.glances)

    def decide(self, viewer: Integers, video: Integers, surface: Integers, moment: Moment) -> Views:
        """Do what the next view depends on, and draw the rest; of viewers who all differ.

        What they did, and what was likely, is worked out of many steps together.
        """
        rng, topic = self.rng, self._topic_of.take(video)
        repeats, glances = self._repeats(viewer, topic), self.run.take(viewer)
        showing = self._odds.showing(viewer, video, surface, repeats, moment)
        glanced = rng.random(viewer.size) < sigmoid(logit_of(self._parts(showing, glances)))
        lots = draw_lots(self.settings.habits, self._zeros.take(surface), rng)
        flag_lots = rng.random((viewer.size, len(FLAG_NAMES)))
        is_late = rng.random(viewer.size) < LATE_SHARE
        delay_ms = rng.exponential(LATE_MS, size=viewer.size) * is_late
        stays = ~glanced
        run = (glances + 1) * glanced
        self.run[viewer], self.topic[viewer], self.repeats[viewer] = run, topic, repeats + 1
        self._views[viewer] += 1.0
        self._stays[viewer] += stays
        leaves = rng.random(viewer.size) < self._p_leaves.take(run, mode="clip")
        return Views(showing, glances, glanced, leaves, lots, flag_lots, delay_ms)

    def watched(self, views: Views) -> Watched:
        """Work out what a log tells of these views."""
        video, affinity = views.showing.video, views.showing.affinity
        scale_s = stay_scale_s(self.settings, affinity, self.videos, video)
        flags = views.flag_lots < p_flags(self.settings, affinity, views.glanced)
        return Watched(
            watch_ms=watch_ms_of(
                views.lots, views.glanced, scale_s, self.videos.duration_ms.take(video)
            ),
            flags=flags,
            feedback_delay_ms=(views.delay_ms * flags.any(axis=1)).astype(np.int64),
            leaves=views.leaves,
        )

    def hidden(self, showing: Showing, glances: Integers) -> Hidden:
        """Work out what no log tells, where `glances` (N,) went before in a row."""
        habits, parts = self.settings.habits, self._parts(showing, glances)
        p_glance = sigmoid(logit_of(parts))
        watch_s = expected_watch_s(
            p_glance,
            stay_scale_s(self.settings, showing.affinity, self.videos, showing.video),
            self.videos.duration_ms.take(showing.video) / 1000.0,
            habits.rewatch_share,
            habits.glance_shape,
            self._zeros.take(showing.surface),
        )
        return Hidden(
            p_glance=p_glance,
            expected_watch_s=watch_s,
            affinity=showing.affinity,
            parts=stacked(parts),
        )

    def sleep(self) -> None:
        """End the day: feelings move towards what it was like, or towards nothing in particular."""
        came = self._views > 0
        today = np.divide(self._stays, self._views, out=np.zeros(came.size), where=came)
        felt = np.where(came, today - USUAL_STAYS, 0.0)
        self.feeling = REMEMBERED * self.feeling + (1 - REMEMBERED) * felt
        self._views[:] = self._stays[:] = 0.0

    def _repeats(self, viewer: Integers, topic: Integers) -> Integers:
        repeats: Integers = self.repeats.take(viewer) * (topic == self.topic.take(viewer))
        return repeats

    def _parts(self, showing: Showing, glances: Integers) -> list[Floats | float]:
        parts = self._odds.parts(showing, self.intercept)
        parts[-1] = self._mood.take(glances, mode="clip")
        return parts

    def _find_intercept(self) -> float:
        """Ask for 20,000 views that a simple lottery serves, at a random hour of the first day."""
        rng, settings = np.random.default_rng([self.settings.seed, 1_000_003]), self.settings
        number = 20_000
        shares = settings.habits.surface_shares
        viewer = rng.integers(0, self.viewers.patience.size, number)
        video = TasteServing(settings, self.viewers, self.videos).draw(viewer, rng)
        surface = rng.choice(len(shares), size=number, p=shares)
        started_ms = FIRST_DAY * DAY_MS - UTC_OFFSET_MS + rng.integers(0, DAY_MS, number)
        showing = self._odds.showing(
            viewer, video, surface, np.zeros(number, dtype=np.int64), moment_of(started_ms)
        )
        parts = self._odds.parts(showing)
        return intercept_for(logit_of(parts), settings.glance_share)


def _p_leaves(habits: Habits) -> Floats:
    """Return the chance of leaving after 0 to LONGEST_BOREDOM glances in a row."""
    ends = 1.0 / habits.session_views
    glances = np.arange(LONGEST_BOREDOM + 1.0)
    if ends >= 1:
        return sigmoid(np.full(glances.size, 50.0))
    return sigmoid(np.log(ends / (1.0 - ends)) + habits.boredom * (glances - 1.0))


def _positive_poisson(rate: Floats, rng: np.random.Generator) -> Integers:
    """Draw Poisson numbers given that they are positive.

    The first arrival, given that there is one before time 1, is at
    -log(1 - u (1 - e^-rate)) / rate; what comes in the rest of the time is Poisson.
    """
    first = -np.log1p(-rng.random(rate.size) * -np.expm1(-rate))
    rest = np.maximum(rate - first, 0.0)
    return 1 + rng.poisson(rest)
