"""Decayed sums of what was known before a day began, in whole columns.

    counts of keys and days   ->  sums_before  ->  sums before each of the same days
                              ->  DaySums      ->  look_up: sums before any day

- `s(D) = sum over days d < D of 2 ** -((D - d) / half_life) n(d)`, carried from one of a key's days
  to its next: no factor is ever larger than 1, and no key's sum meets another's.

Reads nothing of ours; is read by the counters of one machine. `tally` says the same to an engine.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipwise.features.packing import Integers, Sums

DAY_BITS = 16
"""Room for the number of a day in a sort key: a hundred years are 36,525."""


@dataclass(frozen=True, slots=True)
class Fading:
    """What an outcome weighs after so many days."""

    half_life_days: float | None

    def weight(self, days: NDArray[np.integer]) -> Sums:
        """Return `2 ** -(days / half_life)`, elementwise; 1 where nothing is forgotten."""
        if self.half_life_days is None:
            return np.ones(len(days))
        table: Sums = np.exp2(-np.arange(int(days.max(initial=0)) + 1) / self.half_life_days)
        weights: Sums = table[days]
        return weights


def sums_before(
    day: NDArray[np.integer], is_first: NDArray[np.bool_], counts: Sums, fading: Fading
) -> Sums:
    """Sum what each key counted on its earlier days, decayed.

    Args:
        day: (G,) days, rising within a key (equal ones are allowed and count as earlier).
        is_first: (G,) whether a row is its key's first.
        counts: (G, S) counts of the day; changed in place to the sums with the day's own.
        fading: How fast it is forgotten.

    Returns:
        (G, S) sums before each row.
    """
    place = np.arange(len(day))
    rank = place - np.maximum.accumulate(np.where(is_first, place, 0))
    by_rank = np.argsort(rank.astype(np.uint16) if len(rank) < 2**16 else rank, kind="stable")
    ends = np.cumsum(np.bincount(rank)) if len(rank) else np.zeros(1, dtype=np.int64)
    before = np.zeros_like(counts)
    for step in range(1, len(ends)):
        rows = by_rank[ends[step - 1] : ends[step]]
        faded = counts[rows - 1] * fading.weight(day[rows] - day[rows - 1])[:, None]
        before[rows] = faded
        counts[rows] += faded
    return before


class DaySums:
    """Sums as of the start of days, for keys that many ask for."""

    def __init__(
        self,
        key: Integers,
        known_day: Integers,
        clock_day: Integers,
        counts: Sums,
        fading: Fading,
    ) -> None:
        """Take the counts of keys and days, in any order.

        Args:
            key: (R,) whole numbers >= 0.
            known_day: (R,) days counted from some first one; counts from the day after.
            clock_day: (R,) weighs by this one, at most `known_day`.
            counts: (R, S).
            fading: How fast it is forgotten.
        """
        self._fading = fading
        code = (key << DAY_BITS) | known_day
        order = np.argsort(code, kind="stable")
        code = code[order]
        starts = np.flatnonzero(np.diff(code, prepend=-1))
        held = counts[order]
        held *= fading.weight((known_day - clock_day)[order])[:, None]
        self._codes = code[starts]
        if len(starts) < len(order):
            held = np.add.reduceat(held, starts, axis=0)
        keys, day = self._codes >> DAY_BITS, self._codes & ((1 << DAY_BITS) - 1)
        sums_before(day, np.diff(keys, prepend=-1) != 0, held, fading)
        self._until, self._day = held, day

    def look_up(self, key: Integers, day: Integers) -> Sums:
        """Return the (A, S) sums of keys before days; zero where nothing was known."""
        if not len(self._codes):
            return np.zeros((len(key), self._until.shape[1]))
        place = np.searchsorted(self._codes, (key << DAY_BITS) | day) - 1
        place = np.maximum(place, 0)
        code = self._codes[place]
        there = (code >> DAY_BITS == key) & (self._day[place] < day)
        age = np.where(there, day - self._day[place], 0)
        found: Sums = self._until[place] * (self._fading.weight(age) * there)[:, None]
        return found
