"""Several counts in one whole number, so that one running sum serves them all.

    labels (N,) per objective   ->  verdict_codes   ->  (N,) uint16, what an outcome says
    codes (N,), room per count  ->  Packing.words   ->  (W, N) int64, to be summed
    sums of words (W, A)        ->  Packing.counts  ->  (A, S) counts

- Sums and differences of words are exact as long as no count outgrows its bits.

Reads nothing of ours; is read by the counters of one machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Sums = NDArray[np.float64]

_WORD_BITS = 63


def verdict_codes(labels: Sequence[NDArray[np.int8]], num_rows: int) -> NDArray[np.uint16]:
    """Write the verdicts of each outcome into one number, two bits for each objective.

    Args:
        labels: Per counted objective (N,): -1 unknown, 0, 1.
        num_rows: N.

    >>> verdict_codes([np.array([-1, 0, 1], np.int8), np.array([1, 1, -1], np.int8)], 3).tolist()
    [8, 9, 2]
    """
    codes = np.zeros(num_rows, dtype=np.uint16)
    for place, label in enumerate(labels):
        codes |= (label + 1).astype(np.uint16) << np.uint16(2 * place)
    return codes


@dataclass(frozen=True, slots=True)
class Packing:
    """How the sums of a key lie in words: views, then known and positive per objective."""

    num_objectives: int
    bits: int
    """Room of each count."""

    @classmethod
    def for_counts(cls, num_objectives: int, largest: int) -> "Packing":
        """Give each count room for numbers up to the largest.

        >>> Packing.for_counts(5, 1000)
        Packing(num_objectives=5, bits=10)
        """
        return cls(num_objectives, max(1, int(largest).bit_length()))

    @property
    def num_sums(self) -> int:
        """S, how many counts."""
        return 1 + 2 * self.num_objectives

    @property
    def together(self) -> int:
        """How many counts share a word."""
        return max(1, _WORD_BITS // self.bits)

    @property
    def num_words(self) -> int:
        """W, how many words."""
        return -(-self.num_sums // self.together)

    def words(self, codes: NDArray[np.uint16]) -> Integers:
        """Return the (W, N) words of outcomes, each count 0 or 1."""
        possible = np.arange(1 << (2 * self.num_objectives))
        table = np.zeros((self.num_words, len(possible)), dtype=np.int64)
        for place in range(self.num_sums):
            word, shift = self._place(place)
            table[word] |= self._says(place, possible) << shift
        return np.take(table, codes, axis=1)

    def counts(self, words: Integers, into: Sums | None = None) -> Sums:
        """Take sums of words apart.

        Args:
            words: (W, A).
            into: (A, S) numbers to add the counts to, in place; new zeros where None.

        Returns:
            (A, S).
        """
        found = np.zeros((words.shape[1], self.num_sums)) if into is None else into
        mask = (1 << self.bits) - 1
        for place in range(self.num_sums):
            word, shift = self._place(place)
            found[:, place] += (words[word] >> shift) & mask
        return found

    def _says(self, place: int, codes: Integers) -> Integers:
        """Return 1 for the codes that a count counts, else 0: 1 is known and 2 also positive."""
        if place == 0:
            return np.ones_like(codes)
        verdict = (codes >> (2 * ((place - 1) // 2))) & 3
        return (verdict >= (1 if place % 2 else 2)).astype(np.int64)

    def _place(self, place: int) -> tuple[int, int]:
        word, within = divmod(place, self.together)
        return word, within * self.bits
