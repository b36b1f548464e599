"""Which code has a 64-bit name, asked for many names at once?

    names (N,) of 64 bits  ->  CodeTable.find  ->  codes (N,), -1 where a dictionary must be asked

- A dictionary waits for memory several times a name, one name after the other; here all names are
  two gathers, whose waits overlap. A name has two places to lie in, and is never moved.
- A name whose two places are taken is not held, so a dictionary holds all of them beside this.
- What is found is right to all 64 bits, as `names` are everywhere. 0 is no name.
- 24 to 48 bytes a name. Callers hold the world's lock.

Reads nothing; is read by `catalogue`.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]
_SMALLEST = 1 << 10
_PLACES_PER_NAME = 2
_SHIFTS = (0, 32)


class CodeTable:
    """See the module header."""

    def __init__(self) -> None:
        self._make_room(_SMALLEST)

    def put(self, name: int, code: int, every: Callable[[], Codes]) -> None:
        """Add a name that is not there yet.

        Args:
            name: A signed integer of 64 bits.
            code: Its code, >= 0; no code was greater.
            every: Gives the names of codes 0, 1, ..., `code`, 0 where one has none; called where
                the table grows.
        """
        if (code + 1) * _PLACES_PER_NAME > len(self._code):
            self._make_room(2 * len(self._code))
            names = every()
            codes = np.flatnonzero(names)
            self._place(names[codes], codes)
        else:
            for shift in _SHIFTS:
                at = name >> shift & self._last
                if self._code[at] < 0:
                    self._name[at], self._code[at] = name, code
                    break

    def find(self, names: Codes) -> Codes:
        """Return the codes of (N,) signed integers of 64 bits, (N,); -1 where none is held here."""
        first, second = (names >> shift & self._last for shift in _SHIFTS)
        place = np.where(self._name.take(first) == names, first, second)
        found = np.where(self._name.take(place) == names, self._code.take(place), -1)
        return found.astype(np.int64)

    def _place(self, names: Codes, codes: Codes) -> None:
        """Hold (n,) distinct names under their codes, those of which a place is free."""
        for shift in _SHIFTS:
            at = names >> shift & self._last
            free = self._code[at] < 0
            self._name[at[free]], self._code[at[free]] = names[free], codes[free]
            lost = self._code[at] != codes
            names, codes = names[lost], codes[lost]

    def _make_room(self, places: int) -> None:
        self._last = places - 1
        self._name = np.zeros(places, dtype=np.int64)
        self._code = np.full(places, -1, dtype=np.int32)
