"""How often was each video watched effectively of late?

    Dataset, days                          ->  popularity_by_day      ->  (days, V, 2) counts
    outcomes in the order they are known   ->  EffectiveCounts.learn  ->  the same, one at a time

- As of the start of a day: only outcomes known on earlier days count.
- An outcome loses half its weight every HALF_LIVES_DAYS: what was watched yesterday, and of late.

Reads `dataset`; is read by training, evaluation and serving. No torch.
"""

import numpy as np
from numpy.typing import NDArray

from skipwise.features.dataset import Dataset

HALF_LIVES_DAYS = (1.0, 7.0)
"""One count per video for each."""
_KEPT_PER_DAY = np.array([2.0 ** (-1.0 / days) for days in HALF_LIVES_DAYS])

Counts = NDArray[np.float32]


class EffectiveCounts:
    """Decayed counts of effective views, as of the start of a day."""

    def __init__(self, num_videos: int, day: int) -> None:
        self.day = day
        self._counts = np.zeros((num_videos, len(HALF_LIVES_DAYS)))
        self._today = np.zeros(num_videos)

    def learn(self, videos: NDArray[np.int64], known_day: int) -> None:
        """Add effective views.

        Args:
            videos: (N,) codes; one may stand there often, and a new one makes room for itself.
            known_day: When their outcomes became known; an earlier day than the last learnt is
                weighed as if it had been told in time.
        """
        self.move_to(known_day)
        lacking = int(videos.max(initial=-1)) + 1 - len(self._today)
        if lacking > 0:
            self._counts = np.pad(self._counts, ((0, lacking), (0, 0)))
            self._today = np.pad(self._today, (0, lacking))
        if known_day < self.day:
            weight = _KEPT_PER_DAY ** (self.day - known_day)
            np.add.at(self._counts, videos, weight)
        elif len(videos) == 1:
            self._today[videos[0]] += 1
        else:
            self._today += np.bincount(videos, minlength=len(self._today))

    def move_to(self, day: int) -> None:
        """Let days pass; an earlier day changes nothing."""
        if day > self.day:
            self._counts = (self._counts + self._today[:, None]) * _KEPT_PER_DAY ** (day - self.day)
            self._today = np.zeros(len(self._today))
            self.day = day

    def grow(self, num_videos: int) -> None:
        """Make room for codes up to `num_videos`."""
        lacking = num_videos - len(self._today)
        if lacking > 0:
            room = max(lacking, len(self._today) // 4, 64)
            self._counts = np.pad(self._counts, ((0, room), (0, 0)))
            self._today = np.pad(self._today, (0, room))

    def held(self) -> NDArray[np.float64]:
        """Return (V, 3): a count per half-life, and what became known on `day` itself."""
        return np.column_stack([self._counts, self._today])

    def restore(self, videos: NDArray[np.int64], held: NDArray[np.float64], day: int) -> None:
        """Take up what `held` gave, of some videos."""
        self.day = day
        self._counts[videos], self._today[videos] = held[:, :-1], held[:, -1]

    def as_of(self, day: int, videos: NDArray[np.int64]) -> Counts:
        """Return the (N, 2) counts of some videos as of the start of a day, this one or later."""
        if day <= self.day:
            return self._counts[videos].astype(np.float32)
        whole = self._counts[videos] + self._today[videos, None]
        faded: NDArray[np.float64] = whole * _KEPT_PER_DAY ** (day - self.day)
        return faded.astype(np.float32)

    def counts(self) -> Counts:
        """Return (V, 2) counts of outcomes known before `day`, a column per half-life."""
        return self._counts.astype(np.float32)


def popularity_by_day(
    dataset: Dataset, first_day: int, last_day: int, *, known_until: int | None = None
) -> Counts:
    """Count the effective views of every video as of the start of each day.

        n(v, D) = sum of 2 ** -((D - known_day) / half_life) over effective views known before D

    Args:
        dataset: Where the events lie.
        first_day: First day D asked for.
        last_day: Last one, inclusive.
        known_until: Outcomes known after this day do not count; None = all count.

    Returns:
        (days, V, 2) float32.
    """
    events = dataset.events
    rows = np.flatnonzero(
        (events["counter_row"].all() >= 0) & (events["label_effective"].all() == 1)
    )
    known_day = events["known_day"].take(rows).astype(np.int64)
    video = events["video"].take(rows).astype(np.int64)
    order = np.argsort(known_day, kind="stable")
    known_day, video = known_day[order], video[order]
    start = min(int(known_day[0]), first_day) if len(known_day) else first_day
    held = EffectiveCounts(dataset.videos.num_rows, start)
    asked = []
    for day in range(start, last_day + 1):
        held.move_to(day)
        if day >= first_day:
            asked.append(held.counts())
        if known_until is None or day <= known_until:
            first, last = np.searchsorted(known_day, [day, day + 1])
            held.learn(video[first:last], day)
    return np.stack(asked)
