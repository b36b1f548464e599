"""What does one watch say about taste?

One event is one impression. This module decides what it says, and nothing else.

    watch_s, duration_s, thresholds, flags (N,)  ->  label_watches  ->  {label: (N,) in {-1, 0, 1}}

- An event that cannot answer a question is masked (-1), never guessed; one rule may be chosen
  otherwise, for the figures that others have published: `glance_needs_duration`.
- Leaving early must be early in seconds and as a share: a two-second clip seen whole is no glance.
- A glance is never effective, finished or complete, and by our rule never long; where the source
  states its own verdict on a long view, that verdict stands.

Reads `grid` and `settings`; is read by `live`; `bulk` says the same in the data engine. No torch,
no I/O, no randomness.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipwise.errors import EventError, SettingError
from skipwise.labels.grid import GRID_S, Seconds
from skipwise.settings import check_setting

Label = NDArray[np.int8]
"""(N,) 1 = yes, 0 = no, -1 = cannot be known."""

FLAG_OF: Mapping[str, str] = {
    "like": "liked",
    "follow": "followed",
    "comment": "commented",
    "share": "shared",
    "negative": "disliked",
    "click": "clicked",
}
"""Labels that repeat a column of the event table, and which."""

LABELS: tuple[str, ...] = ("glance", "effective", "long", "finished", "complete", *FLAG_OF)
"""Every label, in the order in which tables list them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelConfig:
    """When a watch counts as a glance, as effective, long or finished."""

    glance_below_s: float = 3.0
    """Leaving before this many seconds (or the whole video, if shorter) is a glance."""
    glance_needs_duration: bool = True
    """Off, a watch of a video of unknown length counts as no glance instead of as unknown: the
    convention of figures that read an unknown duration as 0 s, and so the default for KuaiRand."""
    long_from_s: float = 18.0
    """Staying this many seconds (or the whole video, if shorter) is a long view."""
    effective_quantile: float = 0.5
    """Watching longer than this share of earlier watches of other viewers is effective."""
    finished_quantile: float = 0.6
    """Watching longer than this share of earlier watches of other viewers is finished."""
    shrinkage_views: float = 20.0
    """How many watches the duration bucket weighs against those of the video itself."""
    watch_at_most_s: float = 300.0
    """Watch time as an objective is cut here, so that a video left running does not rule."""
    duration_edges_s: tuple[float, ...] = (12, 18, 30, 45, 60, 90, 120, 180, 300)
    """Where the duration buckets meet; bucket 1 lies below the first edge."""

    def __post_init__(self) -> None:
        check_setting("glance_below_s", self.glance_below_s, above=0, at_most=60)
        check_setting(
            "long_from_s", self.long_from_s, at_least=self.glance_below_s, at_most=GRID_S[-1]
        )
        check_setting("effective_quantile", self.effective_quantile, above=0, below=1)
        check_setting(
            "finished_quantile", self.finished_quantile, at_least=self.effective_quantile, below=1
        )
        check_setting("shrinkage_views", self.shrinkage_views, above=0)
        check_setting("watch_at_most_s", self.watch_at_most_s, above=0, at_most=GRID_S[-1])
        edges_s = (0.0, *self.duration_edges_s)
        if not 2 <= len(edges_s) <= 100 or (np.diff(edges_s) <= 0).any():
            raise SettingError(
                f"duration_edges_s = {self.duration_edges_s}, must be 1 to 99 rising numbers of "
                "seconds above 0. Change duration_edges_s."
            )

    @property
    def num_duration_buckets(self) -> int:
        """How many buckets there are, with bucket 0 for an unknown duration."""
        return len(self.duration_edges_s) + 2


def label_watches(
    watch_s: Seconds,
    duration_s: Seconds,
    effective_above_s: Seconds,
    finished_above_s: Seconds,
    flags: Mapping[str, Label],
    config: LabelConfig,
) -> dict[str, Label]:
    """Give every label of every event.

    Args:
        watch_s: (N,) seconds on screen, replays included; may exceed duration_s; NaN where unknown.
        duration_s: (N,) length in seconds, > 0; NaN where unknown.
        effective_above_s: (N,) what an effective view must exceed; NaN where unknown.
        finished_above_s: (N,) what a finished view must exceed; NaN where unknown.
        flags: Columns of the event table (`liked`, ..., `long_viewed`) as (N,) in {-1, 0, 1}; a
            column that the log lacks may be absent.
        config: The rules' numbers.

    Returns:
        One (N,) array in {-1, 0, 1} for each of LABELS, in that order.

    Raises:
        EventError: Shapes differ, a watch time is negative, or a duration is not positive.
    """
    unknown = np.full(np.shape(watch_s), -1, dtype=np.int8)
    labels = {
        "glance": glance(watch_s, duration_s, config),
        "effective": effective(watch_s, duration_s, effective_above_s, config),
        "long": long(watch_s, duration_s, flags.get("long_viewed", unknown), config),
        "finished": finished(watch_s, duration_s, finished_above_s, config),
        "complete": complete(watch_s, duration_s),
    }
    return labels | {label: flags.get(column, unknown) for label, column in FLAG_OF.items()}


def glance(watch_s: Seconds, duration_s: Seconds, config: LabelConfig) -> Label:
    """Mark the watches that were skips: `w < min(glance_below_s, d)` (docs/model.md).

    Args:
        watch_s: (N,) seconds, >= 0; NaN where unknown.
        duration_s: (N,) seconds, > 0; NaN where unknown.
        config: The rules' numbers.

    Returns:
        (N,) in {-1, 0, 1}; -1 where the watch time is unknown, or the duration, unless
        `glance_needs_duration` is off: then a watch of unknown length is no glance, 0.

    Raises:
        EventError: Shapes differ, a watch time is negative, or a duration is not positive.

    >>> glance(np.array([2.0, 2.0, np.nan]), np.array([60.0, 2.0, 60.0]), LabelConfig()).tolist()
    [1, 0, -1]
    """
    known = _known(watch_s, duration_s)
    if not config.glance_needs_duration:
        known = ~np.isnan(watch_s)
    return _masked(watch_s < np.minimum(config.glance_below_s, duration_s), known)


def effective(
    watch_s: Seconds, duration_s: Seconds, effective_above_s: Seconds, config: LabelConfig
) -> Label:
    """Mark the watches longer than most others' of that video: `w > Q_0.50`, and no glance.

    Args:
        watch_s: (N,) seconds, >= 0; NaN where unknown.
        duration_s: (N,) seconds, > 0; NaN where unknown.
        effective_above_s: (N,) the quantile Q as of the event's day; NaN where unknown.
        config: The rules' numbers.

    Returns:
        (N,) in {-1, 0, 1}; -1 where any of the three is unknown.

    Raises:
        EventError: Shapes differ, a watch time is negative, or a duration is not positive.
    """
    known = _known(watch_s, duration_s, effective_above_s)
    skipped = glance(watch_s, duration_s, config) == 1
    return _masked((watch_s > effective_above_s) & ~skipped, known)


def finished(
    watch_s: Seconds, duration_s: Seconds, finished_above_s: Seconds, config: LabelConfig
) -> Label:
    """Mark the watches far into a video: `w > Q_0.60`, and no glance; see `effective`."""
    return effective(watch_s, duration_s, finished_above_s, config)


def long(watch_s: Seconds, duration_s: Seconds, long_viewed: Label, config: LabelConfig) -> Label:
    """Mark the long views: the source's own verdict, else `w >= min(d, long_from_s)`.

    The rule is KuaiRand's published one; it repeats KuaiRand's own column on 99.8 % of rows.

    Args:
        watch_s: (N,) seconds, >= 0; NaN where unknown.
        duration_s: (N,) seconds, > 0; NaN where unknown.
        long_viewed: (N,) the source's verdict, -1 where it states none.
        config: The rules' numbers.

    Returns:
        (N,) in {-1, 0, 1}; -1 where there is no verdict and the rule cannot be applied.

    Raises:
        EventError: Shapes differ, a watch time is negative, or a duration is not positive.
    """
    known = _known(watch_s, duration_s, long_viewed)
    ruled = _masked(watch_s >= np.minimum(config.long_from_s, duration_s), known)
    return np.where(long_viewed >= 0, long_viewed, ruled).astype(np.int8)


def complete(watch_s: Seconds, duration_s: Seconds) -> Label:
    """Mark the watches to the end or beyond: `w >= d`.

    Args:
        watch_s: (N,) seconds, >= 0; NaN where unknown.
        duration_s: (N,) seconds, > 0; NaN where unknown.

    Returns:
        (N,) in {-1, 0, 1}; -1 where the watch time or the duration is unknown.

    Raises:
        EventError: Shapes differ, a watch time is negative, or a duration is not positive.
    """
    return _masked(watch_s >= duration_s, _known(watch_s, duration_s))


def duration_bucket(duration_s: Seconds, config: LabelConfig) -> NDArray[np.int8]:
    """Sort videos by length, so that watch times are compared among the like.

    Args:
        duration_s: (N,) seconds, > 0; NaN where unknown.
        config: Holds the edges.

    Returns:
        (N,) 0 where unknown, 1 below the first edge, 2 from it on, and so on.

    >>> duration_bucket(np.array([np.nan, 5.0, 12.0, 900.0]), LabelConfig()).tolist()
    [0, 1, 2, 10]
    """
    buckets = np.searchsorted(config.duration_edges_s, duration_s, side="right") + 1
    return np.where(np.isnan(duration_s), 0, buckets).astype(np.int8)


def _masked(yes: NDArray[np.bool_], known: NDArray[np.bool_]) -> Label:
    return np.where(known, yes, -1).astype(np.int8)


def _known(
    watch_s: Seconds, duration_s: Seconds, *others: NDArray[np.generic]
) -> NDArray[np.bool_]:
    """Refuse impossible values; say where all of them (NaN = unknown) are there."""
    shapes = {np.shape(values) for values in (watch_s, duration_s, *others)}
    if len(shapes) > 1:
        raise EventError(
            f"the columns of the events have the shapes {sorted(shapes)}, must be of one shape. "
            "Pass one value per event."
        )
    _check_all(watch_s >= 0, watch_s, "watch_s", ">= 0")
    _check_all(duration_s > 0, duration_s, "duration_s", "> 0, or NaN where unknown")
    known = ~np.isnan(watch_s) & ~np.isnan(duration_s)
    for values in others:
        known = known & ~np.isnan(values)
    return known


def _check_all(holds: NDArray[np.bool_], values: Seconds, name: str, wanted: str) -> None:
    wrong = ~holds & ~np.isnan(values)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise EventError(
            f"{name}[{row}] is {values[row]:g} s, must be {wanted}. Refuse such rows in the reader."
        )
