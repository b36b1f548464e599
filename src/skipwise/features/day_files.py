"""What became known, and what was asked, on each day: set aside while events stream by.

    records of events, viewer by viewer  ->  DayFiles.add    ->  two files for each day
    one day's files                      ->  count_day       ->  the day's counts for each ask
    asks of some viewers                 ->  Today.of_asks   ->  their counts, in their order

- What is counted over all viewers needs the whole log, but only one of its days at a time.
- Asks of a day lie in the order of the events, so those of some viewers lie together.

Reads `merged`; is read by `local_spans`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
        asks, outcomes = self._taken("asks", day, _ASK), self._taken("outcomes", day, _OUTCOME)
        bits = max(1, (len(asks) + len(outcomes)).bit_length())
        code = np.concatenate([outcomes["moment"], asks["moment"]]).astype(np.int64) << 1
        code[len(outcomes) :] |= 1
        code = (code << bits) | np.arange(len(code))
        code.sort()
        order = code & ((1 << bits) - 1)
        video = np.concatenate([outcomes["video"], asks["video"]])[order]
        ask = np.where(order >= len(outcomes), order - len(outcomes), -1)
        answer = np.flatnonzero(ask < 0)
        one = np.broadcast_to(np.int64(0), len(order))
        packings, files = {}, {}
        for key in keys:
            of_item = catalogue.keys(key, video)
            most = max(_most(each[answer]) for each in of_item) * len(of_item) ** 2
            packing = Packing.for_counts(num_objectives, most)
            words = np.zeros((packing.num_words, len(order)), dtype=np.int64)
            words[:, answer] = packing.words(outcomes["code"][order[answer]])
            items = Merged(
                group=one,
                owner=one,
                day=one,
                ask=ask,
                words=words,
                packing=packing,
                num_asks=len(asks),
            )
            packings[key], files[key] = packing, self._folder / f"{key}-{day}.npy"
            np.save(files[key], by_key(items, of_item, None).today, allow_pickle=False)
        return Today(packings, files)

    def _append(self, what: str, day: int, rows: NDArray[np.void]) -> None:
        with (self._folder / f"{what}-{day}").open("ab") as file:
            rows.tofile(file)

    def _taken(self, what: str, day: int, kind: np.dtype[np.void]) -> NDArray[np.void]:
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


def _by_day(records: Records, column: str) -> list[tuple[int, Records]]:
    days = records[column]
    order = np.argsort(days, kind="stable")
    different, starts = np.unique(days[order], return_index=True)
    parts = np.split(records[order], starts[1:])
    return list(zip(different.tolist(), parts, strict=True)) if len(different) else []


def _most(keys: Integers) -> int:
    known = keys[keys >= 0]
    return int(np.bincount(known).max()) if len(known) else 1
