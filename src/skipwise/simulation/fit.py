"""What are the habits of a real log, and how like it is a world made with them?

    EventLog, days  ->  facts_of  ->  LogFacts: the distributions that are compared
    facts of the first days  ->  fit_world  ->  WorldSettings    (a few rounds of simulating)
    facts of held-out days, of the world  ->  compare  ->  Distance per distribution, and what fits

- A number that a log tells at once is read off; one that tastes and context move too is found by
  simulating, measuring the same way, and correcting.
- Judged on days the fit has not seen. The yardstick is how far the log's own days lie apart.

Reads `events` and the rest of this folder; is read by the command line and the page.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skipwise.errors import EventError
from skipwise.events.read import EventLog
from skipwise.labels.watch import LabelConfig
from skipwise.progress import SILENT, Progress
from skipwise.simulation.log import simulate_tables
from skipwise.simulation.population import Floats, Integers
from skipwise.simulation.world import WorldSettings

SURFACES_AT_MOST = 5
SESSION_GAP_MS = 1_800_000
GLANCE_BELOW_S = LabelConfig().glance_below_s
"""What a glance is by default, in the log and in the world alike."""
ROUNDS = 4
LEAST_VIEWS = 5
"""Views of a viewer or a video below which its own rate says too little."""
FITS_WITHIN, OF_OWN = 0.05, 2.0
"""A distance fits below the first, or below so many times the log's own between its days."""
COLUMNS = ("viewer_id", "video_id", "day", "shown_at_ms", "watch_ms", "duration_ms", "surface")


@dataclass(frozen=True, kw_only=True, slots=True)
class LogFacts:
    """What is measured of a log, real or simulated, in the same way."""

    num_viewers: int
    num_videos: int
    num_days: int
    num_events: int
    surfaces: tuple[str, ...]
    surface_shares: tuple[float, ...]
    glance_by_surface: tuple[float, ...]
    zeros_by_surface: tuple[float, ...]
    """Share of glances that last 0 s."""
    glance_share: float
    duration_median_s: float
    duration_spread: float
    duration_logit: float
    glance_shape: float
    stay_scale_s: float
    stay_by_duration: float
    rewatch_share: float
    session_views: float
    activity_spread: float
    viewer_spread: float
    """Standard deviation of viewers' glance rates beyond chance, in logits."""
    video_spread: float
    samples: Mapping[str, Floats]
    """Distribution -> its values: watch times by surface and by length, session lengths, ..."""


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


def facts_of(
    events: pa.Table, days: tuple[int, int], surfaces: tuple[str, ...] | None = None
) -> LogFacts:
    """Measure the timed events of some days whose watch time and length are known.

    Args:
        events: Canonical events.
        days: First and last, inclusive.
        surfaces: What surfaces are told apart; None = the most frequent, and `other`.

    Raises:
        EventError: There are too few such events.
    """
    table = events.select(list(COLUMNS)).to_pandas()
    known = table.shown_at_ms.notna() & table.watch_ms.notna() & table.duration_ms.notna()
    table = table[known & table.day.between(*days)]
    if len(table) < 1000:
        raise EventError(
            f"{len(table):,} events of the days fitted have a time, a watch time and a length; at "
            "least 1,000 are needed. Give a longer log."
        )
    watch_s = table.watch_ms.to_numpy(np.float64) / 1000
    duration_s = np.clip(table.duration_ms.to_numpy(np.float64) / 1000, 5.0, 300.0)
    surface = table.surface.fillna("unknown").astype(str).to_numpy()
    if surfaces is None:
        names, counts = np.unique(surface, return_counts=True)
        often = names[np.argsort(-counts, kind="stable")][:SURFACES_AT_MOST]
        surfaces = tuple(often.tolist())
        surfaces += ("other",) if len(names) > len(often) else ()
    surface = np.where(np.isin(surface, surfaces), surface, "other")
    glance = watch_s < np.minimum(GLANCE_BELOW_S, duration_s)
    viewer = np.unique(table.viewer_id.to_numpy(str), return_inverse=True)[1]
    video = np.unique(table.video_id.to_numpy(str), return_inverse=True)[1]
    sessions = _session_lengths(viewer, table.shown_at_ms.to_numpy(np.int64))
    long = duration_s > np.median(duration_s)
    per_viewer = np.bincount(viewer).astype(np.float64)
    shares = tuple(float((surface == name).mean()) for name in surfaces)
    scales = [_stay_scale(watch_s, duration_s, ~glance & part) for part in (~long, long)]
    reach = np.log(np.median(duration_s[long]) / np.median(duration_s[~long]))
    return LogFacts(
        num_viewers=len(per_viewer),
        num_videos=int(video.max()) + 1,
        num_days=days[1] - days[0] + 1,
        num_events=len(table),
        surfaces=surfaces,
        surface_shares=shares,
        glance_by_surface=tuple(_share(glance[surface == name]) for name in surfaces),
        zeros_by_surface=tuple(
            _share((watch_s == 0)[glance & (surface == name)]) for name in surfaces
        ),
        glance_share=float(glance.mean()),
        duration_median_s=float(np.median(duration_s)),
        duration_spread=float(np.log(duration_s).std()),
        duration_logit=float((_logit(glance[long]) - _logit(glance[~long])) / reach),
        glance_shape=float(
            1.0 / max(watch_s[glance & (watch_s > 0)].mean() / GLANCE_BELOW_S, 0.05) - 1.0
        ),
        stay_scale_s=_stay_scale(watch_s, duration_s, ~glance),
        stay_by_duration=float(np.log(scales[1] / scales[0]) / reach),
        rewatch_share=_share((watch_s > duration_s + 0.5)[watch_s >= duration_s]),
        session_views=float(sessions.mean()),
        activity_spread=_log_spread(per_viewer),
        viewer_spread=_rate_spread(glance, viewer),
        video_spread=_rate_spread(glance, video),
        samples=_samples(watch_s, duration_s, surface, surfaces)
        | {
            "views in a session": sessions,
            "views of a viewer": per_viewer,
            "skip rate of a viewer": _rates(glance, viewer),
            "skip rate of a video": _rates(glance, video),
        },
    )


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
            surface_logits=tuple(_to_logit(np.array(facts.glance_by_surface)).tolist()),
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
    """Simulate a world and measure it."""
    events = simulate_tables(world)["events"]
    days = np.asarray(events["day"])
    return facts_of(events, (int(days.min()), int(days.max())), surfaces)


def compare(fitted: LogFacts, held_out: LogFacts, world: LogFacts) -> list[Distance]:
    """Set a world beside the held-out days, distribution by distribution.

    Views of a viewer are compared per day, as the spans differ.
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

    missed = _to_logit(np.array(wanted.glance_by_surface)) - _to_logit(
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


def _samples(
    watch_s: Floats, duration_s: Floats, surface: NDArray[np.str_], surfaces: tuple[str, ...]
) -> dict[str, Floats]:
    found = {"watch time": watch_s, "length of a shown video": duration_s}
    found |= {f"watch time on {name}": watch_s[surface == name] for name in surfaces}
    for low, high in ((0, 15), (15, 60), (60, 120), (120, 301)):
        inside = (duration_s >= low) & (duration_s < high)
        found[f"watch time of {low} to {high} s videos"] = watch_s[inside]
    return found


def _session_lengths(viewer: Integers, shown_at_ms: Integers) -> Floats:
    order = np.lexsort((shown_at_ms, viewer))
    gap = np.diff(shown_at_ms[order], prepend=0)
    begins = (np.diff(viewer[order], prepend=-1) != 0) | (gap > SESSION_GAP_MS)
    return np.diff(np.append(np.flatnonzero(begins), viewer.size)).astype(np.float64)


def _stay_scale(watch_s: Floats, duration_s: Floats, stays: NDArray[np.bool_]) -> float:
    """Return the scale s of survival exp(-sqrt(x / s)), finishing as censoring.

    sqrt(x / s) is exponential, so sqrt(s) = sum sqrt(x) / number of those who did not finish.
    """
    rows = stays & (duration_s > GLANCE_BELOW_S)
    beyond = np.sqrt(np.maximum(np.minimum(watch_s, duration_s)[rows] - GLANCE_BELOW_S, 0.0))
    left = int((watch_s < duration_s)[rows].sum())
    return float((beyond.sum() / max(left, 1)) ** 2)


def _rate_spread(glance: NDArray[np.bool_], key: Integers) -> float:
    """Return how unlike rates are beyond chance, in logits.

    The excess of the variance of rates r_i of n_i over p (1 - p) / n_i, divided by p (1 - p) twice,
    the slope of the logit (method of moments).
    """
    number = np.bincount(key).astype(np.float64)
    enough = number >= LEAST_VIEWS
    rate = np.bincount(key, glance)[enough] / number[enough]
    p = float(np.clip(glance.mean(), 0.01, 0.99))
    if not rate.size:
        return 0.0
    excess = float(((rate - rate.mean()) ** 2).mean() - (p * (1 - p) / number[enough]).mean())
    return float(np.sqrt(max(excess, 0.0)) / (p * (1 - p)))


def _rates(glance: NDArray[np.bool_], key: Integers) -> Floats:
    number = np.bincount(key).astype(np.float64)
    enough = number >= LEAST_VIEWS
    rates: Floats = np.bincount(key, glance)[enough] / number[enough]
    return rates


def _log_spread(count: Floats) -> float:
    """Return the spread of a log-normal mean under Poisson counts: log(1 + (var - m) / m^2)."""
    mean = count.mean()
    return float(np.sqrt(np.log1p(max(count.var() - mean, 0.0) / mean**2)))


def _share(flags: NDArray[np.bool_]) -> float:
    return float(flags.mean()) if flags.size else 0.0


def _logit(flags: NDArray[np.bool_]) -> float:
    return float(_to_logit(np.array(_share(flags))))


def _to_logit(share: Floats) -> Floats:
    p = np.clip(share, 0.005, 0.995)
    return np.asarray(np.log(p / (1 - p)))
