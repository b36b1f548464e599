"""What became known, and what was asked, on each day: set aside while events stream by.

    records of events, viewer by viewer  ->  DayFiles.add    ->  two files for each day
    one day's files                      ->  count_day       ->  the day's counts for each ask
    asks of some viewers                 ->  Today.of_asks   ->  their counts, in their order

- What is counted over all viewers needs the whole log, but only one of its days at a time, and of
  that day its order of time (some 40 bytes an event) and some keys.
- Asks of a day lie in the order of the events, so those of some viewers lie together.

Reads `merged`; is read by `local_spans`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skipwise.features.merged import Merged, by_key
from skipwise.features.packing import Integers, Packing, Sums

RECORD = np.dtype(
    [
        ("viewer", "<i4"),
        ("video", "<i4"),
        ("known_moment", "<i4"),
        ("asked_moment", "<i4"),
        ("surface", "<i2"),
        ("code", "<u2"),
        ("day", "<u2"),
        ("known_day", "<u2"),
        ("known_clock_day", "<u2"),
        ("asked_clock_day", "<u2"),
    ]
)
"""What counting reads of an event. Moments are ms from somewhere before their clock day, below
2 ** MOMENT_BITS; -1 where the event never asks. Days count from a first one."""
MOMENT_BITS = 28
ITEMS_TOGETHER = 1_000_000
"""Outcomes and asks of a day whose keys are counted together, unless one key has more: what a day
takes beside its order of time."""

_OUTCOME = np.dtype([("video", "<i4"), ("moment", "<i4"), ("code", "<u2")])
_ASK = np.dtype([("video", "<i4"), ("moment", "<i4")])

Records = NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The keys of videos: what is counted over all viewers."""

    author: Integers
    """(V,) author codes, 0 unknown."""
    topics: Integers
    """(V, T) distinct topic codes, filled up with 0."""

    def keys(self, key: str, video: NDArray[np.integer]) -> list[Integers]:
        """Return the keys of videos, one array per topic; -1 where there is none."""
        if key == "video":
            return [video.astype(np.int64)]
        if key == "author":
            return [unknown_out(self.author[video])]
        return [unknown_out(self.topics[video, slot]) for slot in range(self.topics.shape[1])]


def unknown_out(codes: NDArray[np.integer]) -> Integers:
    """Return codes with -1 for 0, the unknown."""
    return np.where(codes > 0, codes, -1).astype(np.int64)


class DayFiles:
    """Outcomes and asks of every day, in a folder that is deleted afterwards."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.num_asks: dict[int, int] = {}
        """Day -> asks so far."""
        self.num_items: dict[int, int] = {}
        """Day -> outcomes and asks so far."""

    def add(self, records: Records) -> dict[int, int]:
        """Set some viewers' records aside; returns, by day, how many asks were there before."""
        before = dict(self.num_asks)
        for day, of_day in _by_day(records, "known_clock_day"):
            rows = np.empty(len(of_day), dtype=_OUTCOME)
            rows["video"], rows["code"] = of_day["video"], of_day["code"]
            rows["moment"] = of_day["known_moment"]
            self._append("outcomes", day, rows)
        for day, of_day in _by_day(records[records["asked_moment"] >= 0], "asked_clock_day"):
            rows = np.empty(len(of_day), dtype=_ASK)
            rows["video"], rows["moment"] = of_day["video"], of_day["asked_moment"]
            self._append("asks", day, rows)
            self.num_asks[day] = self.num_asks.get(day, 0) + len(rows)
        return before

    def count_day(
        self, day: int, keys: Sequence[str], catalogue: Catalogue, num_objectives: int
    ) -> "Today":
        """Count what each ask of a day sees of that day; the day's files are deleted."""
        of_day = _in_time(self._taken("outcomes", day, _OUTCOME), self._taken("asks", day, _ASK))
        files = {key: self._folder / f"{key}-{day}.npy" for key in keys}
        packings = {
            key: _count_key(of_day, key, catalogue, num_objectives, files[key]) for key in keys
        }
        return Today(packings, files)

    def _append(self, what: str, day: int, rows: NDArray[np.void]) -> None:
        self.num_items[day] = self.num_items.get(day, 0) + len(rows)
        with (self._folder / f"{what}-{day}").open("ab") as file:
            rows.tofile(file)

    def _taken(self, what: str, day: int, kind: np.dtype[np.void]) -> Records:
        file = self._folder / f"{what}-{day}"
        rows = np.fromfile(file, dtype=kind) if file.exists() else np.empty(0, dtype=kind)
        file.unlink(missing_ok=True)
        return rows


@dataclass(frozen=True, slots=True)
class Today:
    """What each ask of one day sees of that day."""

    packings: Mapping[str, Packing]
    files: Mapping[str, Path]
    """Words (W, asks of the day), by key."""

    def of_asks(self, key: str, first: int, number: int) -> Sums:
        """Return the (number, S) counts of a key for some asks, as they stand in the day."""
        words = np.load(self.files[key], mmap_mode="r", allow_pickle=False)
        return self.packings[key].counts(np.asarray(words[:, first : first + number]))


class _OfDay(NamedTuple):
    """(M,) outcomes and asks of a day in the order of time; outcomes first in a tie."""

    video: NDArray[np.int32]
    ask: NDArray[np.int32]
    """Which ask it is, as they stand in the day's file; -1 for an outcome."""
    code: NDArray[np.uint16]
    """What an outcome says; 0 for an ask."""
    num_asks: int


def _in_time(outcomes: Records, asks: Records) -> _OfDay:
    number = len(outcomes)
    bits = max(1, (number + len(asks)).bit_length())
    order = np.empty(number + len(asks), dtype=np.int64)
    order[:number], order[number:] = outcomes["moment"], asks["moment"]
    order <<= bits + 1
    order |= np.arange(len(order))
    order[number:] |= 1 << bits
    order.sort()
    order &= (1 << bits) - 1
    is_outcome = order < number
    code = np.zeros(len(order), dtype=np.uint16)
    code[is_outcome] = outcomes["code"][order[is_outcome]]
    ask = order.astype(np.int32)
    ask -= number
    ask[is_outcome] = -1
    video = np.concatenate([outcomes["video"], asks["video"]])[order]
    return _OfDay(video, ask, code, len(asks))


def _count_key(
    of_day: _OfDay, key: str, catalogue: Catalogue, num_objectives: int, file: Path
) -> Packing:
    """Write the words of each ask for a key, some of its values at a time."""
    num_videos = len(catalogue.author)
    keys = catalogue.keys(key, np.arange(num_videos))
    outcomes = np.bincount(of_day.video[of_day.ask < 0], minlength=num_videos)
    most = int(_per_key(keys, outcomes).max(initial=1))
    packing = Packing.for_counts(num_objectives, most * len(keys))
    today = np.zeros((packing.num_words, of_day.num_asks), dtype=np.int64)
    items = _per_key(keys, np.bincount(of_day.video, minlength=num_videos))
    for first, last in _ranges(items, ITEMS_TOGETHER):
        here = [np.where((each >= first) & (each < last), each, -1) for each in keys]
        of_these = np.max(here, axis=0) >= 0
        at = np.flatnonzero(of_these[of_day.video])
        some = _OfDay(of_day.video[at], of_day.ask[at], of_day.code[at], of_day.num_asks)
        _add_words(today, some, here, packing)
    np.save(file, today, allow_pickle=False)
    return packing


def _add_words(today: Integers, some: _OfDay, keys: Sequence[Integers], packing: Packing) -> None:
    """Add what asks see of some keys, those of the videos they are about."""
    asked = np.flatnonzero(some.ask >= 0)
    ask = np.full(len(some.ask), -1, dtype=np.int64)
    ask[asked] = np.arange(len(asked))
    words = packing.words(some.code)
    words[:, asked] = 0
    one = np.broadcast_to(np.int64(0), len(ask))
    items = Merged(
        group=one,
        owner=one,
        day=one,
        ask=ask,
        words=words,
        packing=packing,
        num_asks=len(asked),
    )
    counted = by_key(items, [each[some.video] for each in keys], None)
    today[:, some.ask[asked]] += counted.today


def _per_key(keys: Sequence[Integers], of_video: Integers) -> Integers:
    """Sum numbers of videos over those that have a key, (K,)."""
    size = max(int(each.max(initial=-1)) for each in keys) + 1
    total = np.zeros(size, dtype=np.int64)
    for each in keys:
        np.add.at(total, each[each >= 0], of_video[each >= 0])
    return total


def _ranges(weight: Integers, at_most: int) -> Iterator[tuple[int, int]]:
    """Cut places into ranges that weigh so much at most, or have one place."""
    until, first = np.cumsum(weight), 0
    while first < len(weight):
        before = int(until[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(until, before + at_most, side="right")))
        yield first, last
        first = last


def _by_day(records: Records, column: str) -> list[tuple[int, Records]]:
    days = records[column]
    order = np.argsort(days, kind="stable")
    different, starts = np.unique(days[order], return_index=True)
    parts = np.split(records[order], starts[1:])
    return list(zip(different.tolist(), parts, strict=True)) if len(different) else []
