"""Watches of the last days, which may have to be taken back: counted, one row per video and bin.

    (video, bucket, bin), a watch  ->  DayOfWatches.add  ->  counted(), of()

A state is asked as of a day, and what became known on it or later does not count (`crowd`). So each
day's watches are kept apart until they are old. Held are 16 bytes per different triple, and 8 per
watch that is not counted yet, a quarter of them at most or a few thousand: memory ends with the
catalogue, however much is watched.

Reads nothing of serving; is read by `crowd`, `seed` and `snapshot`.
"""

from array import array

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]

_BINS, _BUCKETS = 1 << 8, 1 << 8
"""More than there are of either: `labels.grid.NUM_BINS`, `LabelConfig.num_duration_buckets`."""
_AT_A_TIME = 4096
"""Watches at least that are counted together; a quarter of a day's rows if that is more."""


class DayOfWatches:
    """How often each video was watched into each bin of watch time, as one day made known."""

    def __init__(self) -> None:
        self._keys = np.zeros(0, dtype=np.int64)
        """Ascending, each once."""
        self._counts = np.zeros(0, dtype=np.int64)
        self._new = array("q")

    def add(self, video: int, bucket: int, watch_bin: int) -> None:
        """Count one watch: of a video's code, in its duration bucket, into a bin."""
        self._new.append((video * _BUCKETS + bucket) * _BINS + watch_bin)
        if len(self._new) >= max(_AT_A_TIME, len(self._keys) // 4):
            self._count_new()

    def add_all(self, video: Codes, bucket: Codes, watch_bin: Codes, count: Codes) -> None:
        """Count many, (n,) each; `count` says how often each row was watched."""
        self._merge((video * _BUCKETS + bucket) * _BINS + watch_bin, count)

    def counted(self) -> tuple[Codes, Codes, Codes, Codes]:
        """Return videos, buckets, bins and how often, (n,) each, ascending; each triple once."""
        self._count_new()
        return *_parts(self._keys), self._counts.copy()

    def of(self, video: Codes) -> tuple[Codes, Codes, Codes]:
        """Find the watches of M videos: places in `video`, bins and how often, (n,) each."""
        self._count_new()
        begin, end = (
            np.searchsorted(self._keys, (video + more) * (_BUCKETS * _BINS)) for more in (0, 1)
        )
        number = end - begin
        place = np.repeat(np.arange(len(video)), number)
        row = np.arange(len(place)) + np.repeat(begin - np.cumsum(number) + number, number)
        return place, self._keys[row] % _BINS, self._counts[row]

    def _count_new(self) -> None:
        if self._new:
            new, self._new = np.frombuffer(self._new, dtype=np.int64), array("q")
            self._merge(new, np.ones(len(new), dtype=np.int64))

    def _merge(self, keys: Codes, counts: Codes) -> None:
        keys, row = np.unique(keys, return_inverse=True)
        counts = np.bincount(row, counts, len(keys)).astype(np.int64)
        place = np.searchsorted(self._keys, keys)
        held = place < len(self._keys)
        held[held] = self._keys[place[held]] == keys[held]
        self._counts[place[held]] += counts[held]
        self._counts = np.insert(self._counts, place[~held], counts[~held])
        self._keys = np.insert(self._keys, place[~held], keys[~held])


def _parts(keys: Codes) -> tuple[Codes, Codes, Codes]:
    video_and_bucket, watch_bin = np.divmod(keys, _BINS)
    return *np.divmod(video_and_bucket, _BUCKETS), watch_bin
