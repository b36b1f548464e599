"""Which world has the habits of a real log, and how like the log is it?

    EventLog  ->  split_days  ->  events, days to fit on, days held out
    facts of the first days  ->  fit_world  ->  WorldSettings    (a few rounds of simulating)
    facts of held-out days, of the world  ->  compare  ->  Distance per distribution, and what fits

- A number that a log tells at once is read off; one that tastes and context move too is found by
  simulating, measuring the same way, and correcting.
- Judged on days the fit has not seen. The yardstick is how far the log's own days lie apart.

Reads `log_facts`, `events` and the rest of this folder; is read by the command line and the page.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from skipwise.errors import EventError
from skipwise.events.read import EventLog
from skipwise.progress import SILENT, Progress
from skipwise.simulation.log import simulate_tables
from skipwise.simulation.log_facts import COLUMNS, LogFacts, facts_of, to_logit
from skipwise.simulation.population import Floats
from skipwise.simulation.world import WorldSettings

ROUNDS = 4
"""How often a world is simulated, measured and corrected."""
FITS_WITHIN, OF_OWN = 0.05, 2.0
"""A distance fits below the first, or below so many times the log's own between its days."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Distance:
    """How far a world lies from held-out days in one distribution."""

    name: str
    simulated: float
    """Kolmogorov and Smirnov's largest gap between the two distribution functions."""
    own: float
    """The same between the days fitted on and the held-out ones, of the log itself."""

    @property
    def fits(self) -> bool:
        """Whether it is small, or not much larger than the log's own."""
        return self.simulated <= max(FITS_WITHIN, OF_OWN * self.own)


def fit_world(
    facts: LogFacts, start: WorldSettings, progress: Progress = SILENT, rounds: int = ROUNDS
) -> WorldSettings:
    """Find the settings of a world that is measured as the log is.

    What is read off at once goes in as it is; then, round by round, a world is simulated and every
    such number moved by how far it was missed: logits and logs by the difference, spreads by the
    ratio.

    Args:
        facts: Of the days fitted on.
        start: What is not fitted: seed, topics, tastes, ...
        progress: Who is told.
        rounds: How often it is corrected.
    """
    views = facts.num_events / (facts.num_viewers * facts.num_days)
    world = dataclasses.replace(
        start,
        viewers=min(facts.num_viewers, 4000),
        videos=max(min(facts.num_videos, 8000), start.topics),
        days=min(facts.num_days, 14),
        views_per_viewer_day=max(min(views, 300.0), 0.05),
        glance_share=float(np.clip(facts.glance_share, 0.05, 0.95)),
        activity_spread=min(facts.activity_spread, 2.0),
        habits=dataclasses.replace(
            start.habits,
            surfaces=facts.surfaces,
            surface_shares=tuple(np.array(facts.surface_shares) / sum(facts.surface_shares)),
            surface_logits=tuple(to_logit(np.array(facts.glance_by_surface)).tolist()),
            surface_zeros=facts.zeros_by_surface,
            session_views=max(facts.session_views, 1.0),
            duration_median_s=float(np.clip(facts.duration_median_s, 5.1, 299.0)),
            duration_spread=min(facts.duration_spread, 3.0),
            glance_shape=float(np.clip(facts.glance_shape, 0.1, 10.0)),
            stay_scale_s=float(np.clip(facts.stay_scale_s, 0.1, 3600.0)),
            rewatch_share=facts.rewatch_share,
        ),
    )
    with progress.task("fit", total=rounds, unit="rounds") as task:
        for _ in range(rounds):
            world = _corrected(world, facts, measured(world, facts.surfaces))
            task.advance(note=f"skips {world.glance_share:.1%}")
    return world


def measured(world: WorldSettings, surfaces: tuple[str, ...]) -> LogFacts:
    """Simulate a world and measure it.

    Args:
        world: What is simulated.
        surfaces: Those of the log; see `facts_of`.

    Raises:
        EventError: It has fewer than 1,000 views.
    """
    events = simulate_tables(world)["events"]
    days = np.asarray(events["day"])
    return facts_of(events, (int(days.min()), int(days.max())), surfaces)


def compare(fitted: LogFacts, held_out: LogFacts, world: LogFacts) -> list[Distance]:
    """Set a world beside the held-out days, distribution by distribution.

    Views of a viewer are compared per day, as the spans differ. A distribution of which the
    held-out days have fewer than 50 values is left out.

    Args:
        fitted: Facts of the days fitted on.
        held_out: Of the days that the fit has not seen.
        world: Of the simulated world.
    """

    def sample(facts: LogFacts, name: str) -> Floats:
        values = facts.samples.get(name, np.zeros(0))
        return values / facts.num_days if name == "views of a viewer" else values

    return [
        Distance(
            name=name,
            simulated=largest_gap(sample(world, name), sample(held_out, name)),
            own=largest_gap(sample(fitted, name), sample(held_out, name)),
        )
        for name in held_out.samples
        if sample(held_out, name).size >= 50
    ]


def split_days(log: EventLog) -> tuple[pa.Table, tuple[int, int], tuple[int, int]]:
    """Return the timed events, and the days to fit on and to hold out: the last third.

    Raises:
        EventError: The log has fewer than three days.
    """
    events = log.events.filter(log.events.shown_at_ms.notnull()).select(*COLUMNS).to_pyarrow()
    days = np.unique(np.asarray(events["day"])) if events.num_rows else np.zeros(0)
    if len(days) < 3:
        raise EventError(
            f"the log has {len(days)} days; at least three are needed, two to fit on and one to "
            "check. Give a longer log."
        )
    cut = int(days[len(days) - max(1, len(days) // 3)])
    return events, (int(days[0]), cut - 1), (cut, int(days[-1]))


def largest_gap(one: Floats, other: Floats) -> float:
    """Return Kolmogorov and Smirnov's distance between two samples; 1 where one is empty.

    >>> largest_gap(np.array([1.0, 2.0]), np.array([1.0, 3.0]))
    0.5
    """
    if not one.size or not other.size:
        return 1.0
    at = np.concatenate([one, other])
    below = [np.searchsorted(np.sort(each), at, side="right") / each.size for each in (one, other)]
    return float(np.abs(below[0] - below[1]).max())


def _corrected(world: WorldSettings, wanted: LogFacts, got: LogFacts) -> WorldSettings:
    habits = world.habits

    def moved(value: float, want: float, have: float, low: float, high: float) -> float:
        """Multiply by how far it was missed, at most threefold."""
        ratio = np.clip(max(want, 1e-3) / max(have, 1e-3), 1 / 3, 3)
        return float(np.clip(value * ratio, low, high))

    missed = to_logit(np.array(wanted.glance_by_surface)) - to_logit(
        np.array(got.glance_by_surface)
    )
    steps = np.where(np.isfinite(missed), np.clip(missed, -2, 2), 0.0)
    return dataclasses.replace(
        world,
        activity_spread=moved(
            world.activity_spread, wanted.activity_spread, got.activity_spread, 0.0, 2.0
        ),
        habits=dataclasses.replace(
            habits,
            surface_logits=tuple((np.array(habits.surface_logits) + steps).tolist()),
            session_views=moved(
                habits.session_views, wanted.session_views, got.session_views, 1.0, 1000.0
            ),
            patience_spread=moved(
                max(habits.patience_spread, 0.05), wanted.viewer_spread, got.viewer_spread, 0, 5.0
            ),
            quality_spread=moved(
                max(habits.quality_spread, 0.05), wanted.video_spread, got.video_spread, 0, 5.0
            ),
            duration_logit=float(
                np.clip(habits.duration_logit + wanted.duration_logit - got.duration_logit, -3, 3)
            ),
            stay_scale_s=moved(
                habits.stay_scale_s, wanted.stay_scale_s, got.stay_scale_s, 0.1, 3600.0
            ),
            stay_by_duration=float(
                np.clip(
                    habits.stay_by_duration + wanted.stay_by_duration - got.stay_by_duration, -2, 2
                )
            ),
        ),
    )
