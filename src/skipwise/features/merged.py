"""Outcomes and asks in one order of time, counted for one key after the other.

    outcomes, asks  ->  Merged  ->  by_key(second key)  ->  Counted: today's words, sums before

- An item is an outcome or an ask; its group says of whom and on which day. Of one group and one
  key, an ask sees the outcomes that stand before it: its day's. What the key counted on its earlier
  days comes from the same sorted rows.
- Sorting is of whole numbers that hold the key and the item's place: nothing else is moved.

Reads `packing` and `day_sums`; is read by the counters of one machine.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skipwise.features.day_sums import Fading, sums_before
from skipwise.features.packing import Integers, Packing, Sums

ITEMS_AT_ONCE = 1_000_000
"""Sorted items counted together, unless one key has more: what memory beside the items is for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Merged:
    """(M,) items, viewer by viewer, day by day, in the order of time; outcomes first in a tie."""

    group: Integers
    """Whose and which day's an item is: rising numbers."""
    owner: Integers
    """Whose alone."""
    day: Integers
    """Its day, counted from some first one."""
    ask: Integers
    """Which ask it is; -1 for an outcome."""
    words: Integers
    """(W, M) what an outcome counts; zero for an ask."""
    packing: Packing
    num_asks: int


class Counted(NamedTuple):
    """What each of the A asks sees of a key."""

    today: Integers
    """(W, A) of its own day."""
    before: Sums
    """(A, S) of the days before, decayed; (0, S) where they were not asked for."""


def by_key(items: Merged, keys: list[Integers], fading: Fading | None) -> Counted:
    """Count the keys of items.

    Args:
        items: In the order of time.
        keys: One or several (M,) keys of each item, distinct within an item; -1 for none. What an
            ask sees is the sum over its keys.
        fading: How earlier days are forgotten; None = they are not asked for.
    """
    item_bits = max(1, (len(items.ask) - 1).bit_length())
    slot_bits = (len(keys) - 1).bit_length()
    today = np.zeros((items.packing.num_words, items.num_asks), dtype=np.int64)
    before = np.zeros((items.num_asks if fading else 0, items.packing.num_sums))
    for codes in _parts(_sorted(keys, item_bits, slot_bits), item_bits + slot_bits):
        place = (codes >> slot_bits) & ((1 << item_bits) - 1)
        rows = _rows(items, codes >> (item_bits + slot_bits), place)
        earlier = None if fading is None else _before_of_rows(items, rows, fading)
        ask = items.ask[place]
        for slot in range(len(keys)):
            asked = ask >= 0
            if len(keys) > 1:
                asked &= codes & ((1 << slot_bits) - 1) == slot
            at = np.flatnonzero(asked)
            row, whose = rows.row[at], ask[at]
            for word in range(len(today)):
                today[word, whose] += rows.running[word, at] - rows.base[word, row]
            if earlier is not None:
                sums, place_of = earlier
                before[whose] += sums[place_of[row]]
    return Counted(today, before)


def _parts(codes: Integers, key_shift: int) -> Iterator[Integers]:
    """Cut sorted items between two keys, about `ITEMS_AT_ONCE` together."""
    first = 0
    while first < len(codes):
        last = min(first + ITEMS_AT_ONCE, len(codes)) - 1
        key = codes[last] >> key_shift
        ends = int(np.searchsorted(codes, (key + 1) << key_shift))
        yield codes[first:ends]
        first = ends


class _Rows(NamedTuple):
    """Rows of one key and group each, over the sorted items."""

    start: Integers
    """(G,) first sorted item."""
    row: Integers
    """(M,) row of each sorted item."""
    is_first: NDArray[np.bool_]
    """(G,) whether it is the first of its key and owner."""
    running: Integers
    """(W, M) running sums of words."""
    base: Integers
    """(W, G) running sums before each row."""
    day: Integers
    """(G,)."""


def _sorted(keys: list[Integers], item_bits: int, slot_bits: int) -> Integers:
    place = np.arange(len(keys[0]))
    parts = []
    for slot, key in enumerate(keys):
        code = (((key << item_bits) | place) << slot_bits) | slot
        parts.append(code[key >= 0])
    codes: Integers = np.concatenate(parts) if len(parts) > 1 else parts[0]
    codes.sort()
    return codes


def _rows(items: Merged, key: Integers, place: Integers) -> _Rows:
    group = items.group[place]
    is_new_key = np.diff(key, prepend=-1) != 0
    is_new = is_new_key | (np.diff(group, prepend=-1) != 0)
    start = np.flatnonzero(is_new)
    words = items.words[:, place]
    running = np.cumsum(words, axis=1)
    owner = items.owner[place[start]]
    return _Rows(
        start=start,
        row=np.cumsum(is_new) - 1,
        is_first=is_new_key[start] | (np.diff(owner, prepend=-1) != 0),
        running=running,
        base=running[:, start] - words[:, start],
        day=items.day[place[start]],
    )


def _before_of_rows(items: Merged, rows: _Rows, fading: Fading) -> tuple[Sums, Integers]:
    """Sum the earlier days of each row; most keys have one row, which has none.

    Returns:
        (1 + R, S) sums, the first of them zero, and (G,) which of them is each row's.
    """
    lasts = np.append(rows.is_first[1:], True)
    several = np.flatnonzero(~(rows.is_first & lasts))
    ends = np.append(rows.start[1:], rows.running.shape[1]) - 1
    words = rows.running[:, ends[several]] - rows.base[:, several]
    counts = items.packing.counts(words)
    found = np.zeros((len(several) + 1, items.packing.num_sums))
    found[1:] = sums_before(rows.day[several], rows.is_first[several], counts, fading)
    place_of = np.zeros(len(rows.start), dtype=np.int64)
    place_of[several] = np.arange(1, len(several) + 1)
    return found, place_of
