"""What are the habits of a log, real or simulated?

    canonical events, days  ->  facts_of  ->  LogFacts: numbers, and samples of distributions

- Measured alike in a real log and in a world, so that one can be set beside the other.
- Only events with a time, a watch time and a length are counted.

Reads `labels` and the default of `features.sequence`; is read by `fit` and by the page of a fit.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from skipwise.errors import EventError
from skipwise.features.sequence import SESSION_GAP_S
from skipwise.labels.watch import LabelConfig
from skipwise.simulation.population import Floats, Integers

SURFACES_AT_MOST = 5
SESSION_GAP_MS = round(1000 * SESSION_GAP_S)
GLANCE_BELOW_S = LabelConfig().glance_below_s
"""What a glance is by default, in the log and in the world alike."""
LEAST_EVENTS = 1000
LEAST_VIEWS = 5
"""Views of a viewer or a video below which its own rate says too little."""
COLUMNS = ("viewer_id", "video_id", "day", "shown_at_ms", "watch_ms", "duration_ms", "surface")


@dataclass(frozen=True, kw_only=True, slots=True)
class LogFacts:
    """What is measured of a log, real or simulated, in the same way."""

    num_viewers: int
    num_videos: int
    num_days: int
    num_events: int
    surfaces: tuple[str, ...]
    """S of them, told apart."""
    surface_shares: tuple[float, ...]
    """(S,) shares of views; they add up to 1."""
    glance_by_surface: tuple[float, ...]
    """(S,) shares of the surface's views that are glances."""
    zeros_by_surface: tuple[float, ...]
    """(S,) shares of the surface's glances that last 0 s."""
    glance_share: float
    duration_median_s: float
    duration_spread: float
    """Standard deviation of the log of a shown video's length."""
    duration_logit: float
    """By how much the logit of a glance grows per unit of log length."""
    glance_shape: float
    """k of a glance's time, 3 s times u ** k with u uniform, by its mean 3 s / (k + 1)."""
    stay_scale_s: float
    """See `_stay_scale`."""
    stay_by_duration: float
    """By how much the log of that scale grows per unit of log length."""
    rewatch_share: float
    """Of finished watches, those that go on by more than half a second."""
    session_views: float
    """Mean number of views between pauses of half an hour."""
    activity_spread: float
    """Standard deviation of the log of a viewer's mean number of views."""
    viewer_spread: float
    """Standard deviation of viewers' glance rates beyond chance, in logits."""
    video_spread: float
    """The same of videos'."""
    samples: Mapping[str, Floats]
    """Distribution -> its values: watch times by surface and by length, session lengths, ..."""


def facts_of(
    events: pa.Table, days: tuple[int, int], surfaces: tuple[str, ...] | None = None
) -> LogFacts:
    """Measure the timed events of some days whose watch time and length are known.

    Args:
        events: Canonical events.
        days: First and last, inclusive.
        surfaces: What surfaces are told apart; None = the most frequent, and `other`.

    Raises:
        EventError: There are fewer than 1,000 such events.
    """
    table = _known_rows(events, days)
    watch_s = table.watch_ms.to_numpy(np.float64) / 1000
    duration_s = np.clip(table.duration_ms.to_numpy(np.float64) / 1000, 5.0, 300.0)
    surface = table.surface.fillna("unknown").astype(str).to_numpy()
    surfaces = surfaces or _most_frequent(surface)
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


def to_logit(share: Floats) -> Floats:
    """Return log(p / (1 - p)) of shares, which are taken to lie in 0.005 to 0.995."""
    p = np.clip(share, 0.005, 0.995)
    return np.asarray(np.log(p / (1 - p)))


def _known_rows(events: pa.Table, days: tuple[int, int]) -> pd.DataFrame:
    table = events.select(list(COLUMNS)).to_pandas()
    known = table.shown_at_ms.notna() & table.watch_ms.notna() & table.duration_ms.notna()
    table = table[known & table.day.between(*days)]
    if len(table) < LEAST_EVENTS:
        raise EventError(
            f"{len(table):,} events of the days fitted have a time, a watch time and a length; at "
            f"least {LEAST_EVENTS:,} are needed. Give a longer log."
        )
    return table


def _most_frequent(surface: NDArray[np.str_]) -> tuple[str, ...]:
    """Name the most frequent surfaces, most frequent first, and `other` where there are more."""
    names, counts = np.unique(surface, return_counts=True)
    often = names[np.argsort(-counts, kind="stable")][:SURFACES_AT_MOST]
    return (*often.tolist(), *(("other",) if len(names) > len(often) else ()))


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
    return float(to_logit(np.array(_share(flags))))
