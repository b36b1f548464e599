"""What everybody together has watched: counters of videos, authors and topics, and quantiles.

    Outcome (in the order of the log)  ->  Crowd.learn
    video, author, topic codes, a day  ->  Crowd.ask, Crowd.thresholds

- The sums of `features.live.LiveCounters` and the counts of `labels.live.LiveQuantiles`, in arrays,
  so that 200 candidates cost no more than a few gathers; tests hold them equal.
- Thresholds have day-start semantics: what became known today counts from tomorrow on.
- Codes are this process's own (`catalogue`); nothing here is stored under them.

Reads `labels`, `rules` and `watches`; is read by `intake`, `rows` and `snapshot`.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipwise.labels.grid import NUM_BINS, grid_bin, rank_in_counts, shrunk_quantile
from skipwise.serving.rules import Rules
from skipwise.serving.watches import Codes, DayOfWatches

Sums = NDArray[np.float64]

RECENT_DAYS = 3
"""How many days back a state may be asked for; earlier ones read as the earliest kept."""
_NO_DAY = -(2**31)
_AGES = 20_000
"""Days for which what a sum still weighs is worked out beforehand; an older one weighs no less."""


class Tallies:
    """Decayed sums, one row per code."""

    def __init__(self, num_sums: int, half_life_days: float | None) -> None:
        self.day = np.zeros(0, dtype=np.int32)
        self.sums = np.zeros((0, num_sums))
        self.half_life_days = half_life_days
        ages = np.arange(_AGES)
        self._weights = np.ones(_AGES)
        if half_life_days is not None:
            self._weights = 2.0 ** (-ages / half_life_days)

    def grow(self, number: int) -> None:
        """Make room for codes up to `number`."""
        lacking = number - len(self.day)
        if lacking > 0:
            room = max(lacking, len(self.day) // 4, 64)
            self.day = np.concatenate([self.day, np.zeros(room, dtype=np.int32)])
            self.sums = np.concatenate([self.sums, np.zeros((room, self.sums.shape[1]))])

    def learn(self, code: int, outcome: Sums, clock_day: int) -> None:
        """Add an outcome known on a day."""
        if clock_day > self.day[code]:
            self.sums[code] *= self._decay(float(clock_day - self.day[code]))
            self.day[code] = clock_day
        self.sums[code] += outcome * self._decay(float(self.day[code] - clock_day))

    def ask(self, codes: Codes, clock_day: int, known: NDArray[np.bool_] | None = None) -> Sums:
        """Read sums as they weigh on a day, (...) -> (..., S); never more than whole.

        Args:
            codes: (...) rows.
            clock_day: Local calendar day of the request.
            known: (...) False where there is nothing to ask about; None = nowhere.
        """
        asked, weight = self.sums.take(codes, 0), self._weight(codes, clock_day)
        asked *= (weight if known is None else weight * known)[..., None]
        return asked

    def ask_first(self, codes: Codes, clock_day: int) -> Sums:
        """Read the first of the sums alone, (...) -> (...): of counters, the views."""
        asked: Sums = self.sums[codes, 0] * self._weight(codes, clock_day)
        return asked

    def _weight(self, codes: Codes, clock_day: int) -> Sums:
        age = clock_day - self.day.take(codes)
        return self._weights.take(np.minimum(np.maximum(age, 0), _AGES - 1))

    def _decay(self, days: float) -> float:
        if self.half_life_days is None:
            return 1.0
        return float(2.0 ** (-max(days, 0.0) / self.half_life_days))


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What one event adds to the crowd, in codes."""

    video: int
    author: int
    """0 unknown."""
    topics: tuple[int, ...]
    sums: Sums
    """(S,)"""
    clock_day: int
    """Local day on which it became known."""
    known_day: int
    """From the next day on it counts for thresholds."""
    duration_bucket: int
    watch_bin: int
    """-1 unknown."""


class Crowd:
    """The live state that is nobody's own."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        half_life = rules.counters.half_life_days
        self.videos = Tallies(rules.num_sums, half_life)
        self.authors = Tallies(rules.num_sums, half_life)
        self.topics = Tallies(rules.num_sums, half_life)
        self.watches = np.zeros((0, NUM_BINS), dtype=np.int32)
        """(videos, bins) watches known before `day`."""
        self.bucket_watches = np.zeros((rules.labels.num_duration_buckets, NUM_BINS), np.int64)
        self.cuts = np.zeros((0, 2))
        """(videos, 2) thresholds as of `day`, where `cut_bucket` says they have been asked for."""
        self.cut_bucket = np.zeros(0, dtype=np.int16)
        """The duration bucket they hold for; -1 not asked for."""
        self.day = _NO_DAY
        self.recent: defaultdict[int, DayOfWatches] = defaultdict(DayOfWatches)

    def grow(self, num_videos: int, num_authors: int, num_topics: int) -> None:
        """Make room for codes up to these."""
        self.videos.grow(num_videos)
        self.authors.grow(num_authors)
        self.topics.grow(num_topics)
        lacking = num_videos - len(self.watches)
        if lacking > 0:
            room = max(lacking, len(self.watches) // 4, 64)
            more = np.zeros((room, NUM_BINS), dtype=np.int32)
            self.watches = np.concatenate([self.watches, more])
            self.cuts = np.concatenate([self.cuts, np.zeros((room, 2))])
            self.cut_bucket = np.concatenate([self.cut_bucket, np.full(room, -1, np.int16)])

    def learn(self, outcome: Outcome) -> None:
        """Add an outcome."""
        self.videos.learn(outcome.video, outcome.sums, outcome.clock_day)
        if outcome.author:
            self.authors.learn(outcome.author, outcome.sums, outcome.clock_day)
        for topic in outcome.topics:
            self.topics.learn(topic, outcome.sums, outcome.clock_day)
        if outcome.watch_bin >= 0:
            self.watched(
                outcome.video, outcome.duration_bucket, outcome.watch_bin, outcome.known_day
            )

    def watched(self, video: int, bucket: int, watch_bin: int, known_day: int) -> None:
        """Count a watch for the thresholds of the days after."""
        if known_day < self.day:
            self._count(*(np.array([value]) for value in (video, bucket, watch_bin, 1)))
        if known_day >= self.day - RECENT_DAYS:
            self.recent[known_day].add(video, bucket, watch_bin)

    def ask(self, video: Codes, author: Codes, topics_MT: Codes, clock_day: int) -> list[Sums]:
        """Read the sums of M candidates: three of (M, S), of video, author and topics."""
        of_videos = self.videos.ask(video, clock_day)
        of_authors = self.authors.ask(author, clock_day, author > 0)
        return [of_videos, of_authors, self.topics.ask(topics_MT, clock_day, topics_MT > 0).sum(1)]

    def thresholds(
        self, video: Codes, bucket: Codes, own: list[tuple[int, int]], state_day: int
    ) -> tuple[Sums, Sums]:
        """Give what a watch of each of M videos must exceed, as `LiveQuantiles.thresholds`.

        Args:
            video: (M,) codes.
            bucket: (M,) duration buckets, 0 unknown.
            own: The viewer's own watches of them, known before the day: (place in M, bin).
            state_day: Outcomes known on this day or later do not count.

        Returns:
            (M,) seconds for effective and for finished; NaN where they cannot be known.
        """
        if state_day > self.day:
            self._begin(state_day)
        if not len(video):
            return np.empty(0), np.empty(0)
        if state_day < self.day:
            return self._thresholds(video, bucket, own, state_day)
        new = np.flatnonzero(self.cut_bucket.take(video) != bucket)
        if len(new):
            codes = video[new]
            self.cuts[codes] = np.stack(self._thresholds(codes, bucket[new], [], state_day), 1)
            self.cut_bucket[codes] = bucket[new]
        cuts = self.cuts.take(video, 0)
        if own:
            places = np.array(sorted({place for place, _ in own}))
            mine = [(int(np.searchsorted(places, place)), watch) for place, watch in own]
            cuts[places] = np.stack(
                self._thresholds(video[places], bucket[places], mine, state_day), 1
            )
        return cuts[:, 0], cuts[:, 1]

    def lack_thresholds(self, number: int) -> Codes:
        """Return which of the first `number` videos nobody has asked for as of `day`."""
        return np.flatnonzero(self.cut_bucket[:number] < 0)

    def _thresholds(
        self, video: Codes, bucket: Codes, own: list[tuple[int, int]], state_day: int
    ) -> tuple[Sums, Sums]:
        of_video, of_bucket = self._as_of(video, bucket, state_day)
        for place, watch_bin in own:
            of_video[place, watch_bin] -= 1
        labels = self.rules.labels
        effective, finished = (
            shrunk_quantile(of_video, of_bucket, p, labels.shrinkage_views)
            for p in (labels.effective_quantile, labels.finished_quantile)
        )
        return effective, finished

    def watch_rank(self, bucket: int, watch_s: float, state_day: int) -> float:
        """Say which share of earlier watches of a duration bucket lies below; NaN unknown."""
        _, counts = self._as_of(np.array([], dtype=np.int64), np.array([bucket]), state_day)
        return float(rank_in_counts(np.array(watch_s), counts[0]))

    def _as_of(
        self, video: Codes, bucket: Codes, state_day: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if state_day > self.day:
            self._begin(state_day)
        of_video = self.watches[video].astype(np.int64)
        of_bucket = self.bucket_watches.copy()
        for day in range(max(state_day, self.day - RECENT_DAYS), self.day):
            if day in self.recent:
                _, buckets, bins, counts = self.recent[day].counted()
                np.subtract.at(of_bucket, (buckets, bins), counts)
                place, bins, counts = self.recent[day].of(video)
                np.subtract.at(of_video, (place, bins), counts)
        of_bucket[0] = 0
        return of_video, of_bucket[bucket]

    def _begin(self, day: int) -> None:
        """Let everything known before a day count."""
        for known_day in sorted(self.recent):
            if self.day <= known_day < day:
                self._count(*self.recent[known_day].counted())
        self.day = day
        self.cut_bucket[:] = -1
        for known_day in [known for known in self.recent if known < day - RECENT_DAYS]:
            del self.recent[known_day]

    def _count(self, video: Codes, bucket: Codes, watch_bin: Codes, count: Codes) -> None:
        """Count watches; thresholds of their videos, and of all of their buckets, are old then."""
        np.add.at(self.watches, (video, watch_bin), count)
        np.add.at(self.bucket_watches, (bucket, watch_bin), count)
        self.cut_bucket[video] = -1
        for each in np.unique(bucket):
            if each:  # of the bucket 0, of no known duration, nothing is read
                self.cut_bucket[self.cut_bucket == each] = -1


def watch_bin(watch_s: float) -> int:
    """Return the bin of a watch time on the grid; -1 for NaN."""
    return int(grid_bin(np.array(watch_s)))
