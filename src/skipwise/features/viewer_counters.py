"""Both forms of the counters of some viewers' events, in whole columns.

    records of some viewers, Shared  ->  counters_of  ->  (A, K) as of the day, and of the event

- What these counters mean stands in `counters`, as expressions for any engine; a test holds both to
  the same numbers. Here each key is one sort of whole numbers and a few running sums.
- A live counter gives the sums before the asker's local day, which are those of the nightly form
  too wherever outcomes are usable from the day after their clock's and the ask is of its own day.
  Viewers of whom that is not so are summed anew.

Reads `merged`, `day_sums` and `day_files`; is read by `local_spans`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipwise.features.counter_names import KEYS
from skipwise.features.day_files import MOMENT_BITS, Catalogue, Records, Today, unknown_out
from skipwise.features.day_sums import DAY_BITS, DaySums, Fading
from skipwise.features.merged import Merged, by_key
from skipwise.features.packing import Integers, Packing, Sums

Matrix = NDArray[np.float32]

SHARED_KEYS = ("video", "author", "topic")
"""Keys counted over all viewers."""

_VIEWER_BITS = 18


@dataclass(frozen=True, kw_only=True, slots=True)
class Shared:
    """What is counted over all viewers."""

    catalogue: Catalogue
    live: Mapping[str, DaySums]
    nightly: Mapping[str, DaySums] | None
    """None where every outcome is usable from the day after its clock's: `live` serves both."""
    today: Mapping[int, Today]
    """By clock day."""
    num_objectives: int
    fading: Fading


def counters_of(
    records: Records, asks_before: Mapping[int, int], shared: Shared
) -> tuple[Matrix, Matrix]:
    """Count for the events of some viewers.

    Args:
        records: (N,) of whole viewers, in sequence.
        asks_before: Day -> how many asks of that clock day stand before these.
        shared: Over all viewers.

    Returns:
        (A, K) as of the start of each ask's day, and (A, K) as of its request; K in the order of
        `counter_names`.
    """
    asking = np.flatnonzero(records["asked_moment"] >= 0)
    num_sums = 1 + 2 * shared.num_objectives
    by_day, by_event = (
        np.empty((len(asking), len(KEYS) * num_sums), dtype=np.float32) for _ in range(2)
    )
    if not len(asking):
        return by_day, by_event
    viewers = _Viewers(records, asking, shared)
    for place, key in enumerate(KEYS):
        columns = slice(place * num_sums, (place + 1) * num_sums)
        if key in SHARED_KEYS:
            nightly, before = _before_of_shared(key, records[asking], shared)
            live = before + _today_of_shared(key, records[asking], asks_before, shared)
        else:
            nightly, live = viewers.count(key)
        by_day[:, columns], by_event[:, columns] = nightly, live
    return by_day, by_event


def _before_of_shared(key: str, asks: Records, shared: Shared) -> tuple[Sums, Sums]:
    """Return what was known before the asks' days: nightly, live."""
    live = _looked_up(shared.live[key], key, asks, "asked_clock_day", shared.catalogue)
    if shared.nightly is not None:
        nightly = _looked_up(shared.nightly[key], key, asks, "day", shared.catalogue)
        return nightly, live
    other = np.flatnonzero(asks["day"] != asks["asked_clock_day"])
    if not len(other):
        return live, live
    nightly = live.copy()
    nightly[other] = _looked_up(shared.live[key], key, asks[other], "day", shared.catalogue)
    return nightly, live


def _looked_up(sums: DaySums, key: str, asks: Records, column: str, catalogue: Catalogue) -> Sums:
    day = asks[column].astype(np.int64)
    first, *others = (sums.look_up(keys, day) for keys in catalogue.keys(key, asks["video"]))
    for other in others:
        first += other
    return first


def _today_of_shared(
    key: str, asks: Records, asks_before: Mapping[int, int], shared: Shared
) -> Sums:
    found = np.zeros((len(asks), 1 + 2 * shared.num_objectives))
    days = asks["asked_clock_day"]
    for day in np.unique(days).tolist():
        rows = np.flatnonzero(days == day)
        found[rows] = shared.today[day].of_asks(key, asks_before.get(day, 0), len(rows))
    return found


class _Viewers:
    """Items of some viewers in the order of time, for every key that has a viewer."""

    def __init__(self, records: Records, asking: Integers, shared: Shared) -> None:
        self._records, self._asking, self._shared = records, asking, shared
        self._viewer = np.cumsum(np.diff(records["viewer"], prepend=-1) != 0) - 1
        answers = _when(self._viewer, records["known_clock_day"], records["known_moment"])
        asks = records[asking]
        asks_at = _when(self._viewer[asking], asks["asked_clock_day"], asks["asked_moment"])
        code = np.concatenate([answers, asks_at | 1])
        order = np.argsort(code, kind="stable")
        code = code[order]
        self._row = np.concatenate([np.arange(len(records)), asking])[order]
        is_ask = order >= len(records)
        group = code >> (MOMENT_BITS + 1)
        most = int(np.bincount(np.cumsum(np.diff(group, prepend=-1) != 0)).max())
        slots = max(1, shared.catalogue.topics.shape[1])
        packing = Packing.for_counts(shared.num_objectives, most * slots)
        words = packing.words(records["code"][self._row])
        words[:, is_ask] = 0
        self._items = Merged(
            group=group,
            owner=group >> DAY_BITS,
            day=group & ((1 << DAY_BITS) - 1),
            ask=np.where(is_ask, order - len(records), -1),
            words=words,
            packing=packing,
            num_asks=len(asking),
        )
        self._other_viewers = self._of_other_days()

    def count(self, key: str) -> tuple[Sums, Sums]:
        """Return (A, S) sums of a key as of the day, and as of the event."""
        counted = by_key(self._items, self._keys(key, self._row), self._shared.fading)
        nightly = counted.before
        live = self._items.packing.counts(counted.today, into=nightly.copy())
        if self._other_viewers.any():
            self._count_anew(key, nightly)
        return nightly, live

    def _count_anew(self, key: str, nightly: Sums) -> None:
        """Replace the nightly sums of viewers whose days are not those of the clock."""
        rows = np.flatnonzero(self._other_viewers[self._viewer])
        asks = np.flatnonzero(self._other_viewers[self._viewer[self._asking]])
        packing = Packing(self._shared.num_objectives, 1)
        counts = packing.counts(packing.words(self._records["code"][rows]))
        known, clock = (
            self._records[name][rows].astype(np.int64) for name in ("known_day", "known_clock_day")
        )
        answers = self._with_viewer(key, rows)
        kept = [np.flatnonzero(each >= 0) for each in answers]
        sums = DaySums(
            np.concatenate([each[at] for each, at in zip(answers, kept, strict=True)]),
            np.concatenate([known[at] for at in kept]),
            np.concatenate([clock[at] for at in kept]),
            np.concatenate([counts[at] for at in kept]),
            self._shared.fading,
        )
        asked = self._asking[asks]
        day = self._records["day"][asked].astype(np.int64)
        nightly[asks] = 0
        for keys in self._with_viewer(key, asked):
            nightly[asks] += sums.look_up(keys, day)

    def _of_other_days(self) -> NDArray[np.bool_]:
        """Mark the viewers with an outcome or an ask whose day is not its clock's."""
        records = self._records
        other = records["known_day"] != records["known_clock_day"]
        other[self._asking] |= (records["day"] != records["asked_clock_day"])[self._asking]
        marked = np.zeros(int(self._viewer[-1]) + 1, dtype=np.bool_)
        marked[self._viewer[other]] = True
        return marked

    def _with_viewer(self, key: str, rows: Integers) -> list[Integers]:
        return [
            np.where(keys >= 0, (keys << _VIEWER_BITS) | self._viewer[rows], -1)
            for keys in self._keys(key, rows)
        ]

    def _keys(self, key: str, rows: Integers) -> list[Integers]:
        """Return what stands beside the viewer in a key."""
        if key == "viewer":
            return [np.zeros(len(rows), dtype=np.int64)]
        beside = KEYS[key][1]
        if beside == "surface":
            return [unknown_out(self._records["surface"][rows])]
        return self._shared.catalogue.keys(beside, self._records["video"][rows])


def _when(viewer: Integers, day: NDArray[np.integer], moment: NDArray[np.integer]) -> Integers:
    """Write viewer, day and moment into one number that rises with them; its last bit is 0."""
    whose = (viewer.astype(np.int64) << DAY_BITS) | day
    return ((whose << MOMENT_BITS) | moment) << 1
