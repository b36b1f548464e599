"""Label one event at a time, as serving sees them.

    an event ends  ->  label_event (thresholds as of its day)  ->  LiveQuantiles.learn

- The same grid, the same formulas and the same rules as `bulk`: the same labels on every row.
- Day-start semantics: what became known today counts from tomorrow on.
- `settle` folds past days together, so that the counts do not grow with the age of the service.

Reads `grid`, `watch` and `feedback`; is read by serving. One thread at a time.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from skipwise.errors import EventError
from skipwise.labels.feedback import Feedback, feedback_states
from skipwise.labels.grid import NUM_BINS, grid_bin, rank_in_counts, shrunk_quantile
from skipwise.labels.watch import FLAG_OF, LabelConfig, duration_bucket, label_watches

Counts = NDArray[np.int64]
Key = TypeVar("Key", str, int)


class Thresholds(NamedTuple):
    """What a watch must exceed, in seconds; NaN where it cannot be known."""

    effective_above_s: float
    finished_above_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchedEvent:
    """One impression and what came of it; None = unknown."""

    viewer_id: str
    video_id: str
    day: int
    """Calendar day, days since 1970-01-01."""
    watch_ms: int | None
    duration_ms: int | None
    flags: Mapping[str, bool | None]
    """`liked`, `followed`, ..., `long_viewed`; one that is absent is unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledEvent:
    """What one event says; the columns that `bulk.label_events` adds."""

    watch_s: float
    """NaN where unknown, as every float here."""
    duration_s: float
    duration_bucket: int
    """0 where unknown."""
    thresholds: Thresholds
    watch_rank: float
    """In [0, 1]."""
    labels: Mapping[str, int]
    """-1 unknown, 0 or 1, for each of `watch.LABELS`."""
    feedback: Feedback


class LiveQuantiles:
    """What others watched, as of any day not yet settled."""

    def __init__(self, config: LabelConfig) -> None:
        self.config = config
        self._of_video: defaultdict[str, _DailyCounts] = defaultdict(_DailyCounts)
        self._of_bucket: defaultdict[int, _DailyCounts] = defaultdict(_DailyCounts)
        self._own: defaultdict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
        self._settled_day: int | None = None

    def learn(
        self, viewer_id: str, video_id: str, duration_bucket: int, watch_s: float, known_day: int
    ) -> None:
        """Take in the outcome of one event; one with an unknown watch time teaches nothing.

        Args:
            viewer_id: Who watched.
            video_id: What was watched.
            duration_bucket: Of the video; 0 = unknown.
            watch_s: Seconds on screen, >= 0; NaN where unknown.
            known_day: The day it became known; it counts from the next day on.

        Raises:
            EventError: The watch time is negative.
        """
        place = int(grid_bin(np.array(watch_s)))
        if place < 0:
            return
        self._of_video[video_id].add(known_day, place)
        self._own[viewer_id, video_id].append((known_day, place))
        if duration_bucket > 0:
            self._of_bucket[duration_bucket].add(known_day, place)

    def thresholds(
        self, viewer_id: str, video_id: str, duration_bucket: int, state_day: int
    ) -> Thresholds:
        """Give the thresholds for one viewer and video as of the start of a day.

        Args:
            viewer_id: Whose own watches of the video do not count.
            video_id: The video.
            duration_bucket: Of the video; 0 = unknown.
            state_day: Outcomes known on this day or later do not count.

        Returns:
            Seconds; NaN where the duration is unknown or its bucket has no earlier watches.

        Raises:
            EventError: The day lies before the last `settle`.
        """
        of_bucket = self._bucket_counts(duration_bucket, state_day)
        of_video = self._as_of(self._of_video, video_id, state_day)
        for known_day, place in self._own.get((viewer_id, video_id), ()):
            if known_day < state_day:
                of_video[place] -= 1
        config = self.config
        return Thresholds(
            *(
                float(shrunk_quantile(of_video, of_bucket, p, config.shrinkage_views))
                for p in (config.effective_quantile, config.finished_quantile)
            )
        )

    def watch_rank(self, duration_bucket: int, watch_s: float, state_day: int) -> float:
        """Say which share of the earlier watches of a duration bucket lies below a watch time.

        Args:
            duration_bucket: 0 = unknown.
            watch_s: Seconds, >= 0; NaN where unknown.
            state_day: Outcomes known on this day or later do not count.

        Returns:
            In [0, 1]; NaN where it cannot be known.

        Raises:
            EventError: The day lies before the last `settle`, or the watch time is negative.
        """
        counts = self._bucket_counts(duration_bucket, state_day)
        return float(rank_in_counts(np.array(watch_s), counts))

    def settle(self, day: int) -> None:
        """Fold everything known before a day together; no earlier day can be asked for again."""
        self._settled_day = day if self._settled_day is None else max(day, self._settled_day)
        for table in (self._of_video, self._of_bucket):
            for counts in table.values():
                counts.settle(day)

    def _bucket_counts(self, duration_bucket: int, state_day: int) -> Counts:
        return self._as_of(self._of_bucket, duration_bucket, state_day)

    def _as_of(self, table: Mapping[Key, "_DailyCounts"], key: Key, state_day: int) -> Counts:
        if self._settled_day is not None and state_day < self._settled_day:
            raise EventError(
                f"state_day = {state_day} lies before day {self._settled_day}, up to which the "
                "counts were settled. Ask for that day or a later one."
            )
        counts = table.get(key)
        return counts.as_of(state_day) if counts else np.zeros(NUM_BINS, dtype=np.int64)


def label_event(event: WatchedEvent, quantiles: LiveQuantiles) -> LabelledEvent:
    """Label one event by what was known when its day began.

    Args:
        event: The impression and its outcome.
        quantiles: Holds at least all that was known before `event.day`; is not changed.

    Raises:
        EventError: A watch time is negative, a duration is not positive, or the day is settled.
    """
    config = quantiles.config
    watch_s, duration_s = _seconds(event.watch_ms), _seconds(event.duration_ms)
    bucket = int(duration_bucket(duration_s, config)[0])
    thresholds = quantiles.thresholds(event.viewer_id, event.video_id, bucket, event.day)
    flags = {
        column: np.array([_flag(event.flags.get(column))], dtype=np.int8)
        for column in (*FLAG_OF.values(), "long_viewed")
    }
    effective_above_s, finished_above_s = np.array(thresholds)[:, None]
    labels = label_watches(watch_s, duration_s, effective_above_s, finished_above_s, flags, config)
    return LabelledEvent(
        watch_s=float(watch_s[0]),
        duration_s=float(duration_s[0]),
        duration_bucket=bucket,
        thresholds=thresholds,
        watch_rank=quantiles.watch_rank(bucket, float(watch_s[0]), event.day),
        labels={name: int(label[0]) for name, label in labels.items()},
        feedback=Feedback(int(feedback_states(labels, ~np.isnan(watch_s))[0])),
    )


class _DailyCounts:
    """Watches per bin, kept by the day they became known."""

    __slots__ = ("_by_day", "_settled")

    def __init__(self) -> None:
        self._by_day: dict[int, Counts] = {}
        self._settled = np.zeros(NUM_BINS, dtype=np.int64)

    def add(self, day: int, place: int) -> None:
        if day not in self._by_day:
            self._by_day[day] = np.zeros(NUM_BINS, dtype=np.int64)
        self._by_day[day][place] += 1

    def as_of(self, state_day: int) -> Counts:
        earlier = (counts for day, counts in self._by_day.items() if day < state_day)
        return sum(earlier, start=self._settled.copy())

    def settle(self, day: int) -> None:
        for earlier in [known_day for known_day in self._by_day if known_day < day]:
            self._settled += self._by_day.pop(earlier)


def _seconds(milliseconds: int | None) -> NDArray[np.float64]:
    return np.array([np.nan if milliseconds is None else milliseconds / 1000])


def _flag(value: bool | None) -> int:
    return -1 if value is None else int(value)
