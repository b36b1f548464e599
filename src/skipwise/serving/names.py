"""How ids from outside are named inside: 64 bits that mean the same in every process.

    "video-7"  ->  name_of  ->  13 digits and more, never 0

- A name depends on the word alone: what is stored under it outlives a restart, a new dataset and a
  new model, and two workers never have to agree on codes.
- 0 is no word. Two of ten million words share a name with a chance of 3 in a million.

Reads nothing; is read by every part of serving that stores.
"""

import hashlib
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Names = NDArray[np.uint64]
_MARKS = 1 << 15


@lru_cache(maxsize=200_000)
def name_of(word: str) -> int:
    """Name a word; the empty word, which stands for unknown, is 0.

    >>> name_of(""), name_of("a") == name_of("a"), name_of("a") == name_of("b")
    (0, True, False)
    """
    if not word:
        return 0
    return max(1, int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little"))


def name_of_event(event_id: str) -> int:
    """Name an event: as `name_of`, but not remembered, since an id comes once."""
    return name_of.__wrapped__(event_id)


def names_of(words: Iterable[str]) -> Names:
    """Name many words, (N,)."""
    return np.array([name_of(word) for word in words], dtype=np.uint64)


def maybe_among(names: Names, held: Names) -> NDArray[np.int64]:
    """Return which names may be held: all that are, and of the others one in 32768 / H.

    Told by 15 of their bits, so that few are looked up in vain. [Bloom, 1970, with one hash]

    Args:
        names: (N,) asked.
        held: (H,)

    Returns:
        (n,) places in names, ascending.

    >>> maybe_among(names_of(["a", "b"]), names_of(["b"])).tolist()
    [1]
    """
    marked = np.zeros(_MARKS, dtype=bool)
    marked[held.view(np.int64) & (_MARKS - 1)] = True
    return np.flatnonzero(marked.take(names.view(np.int64) & (_MARKS - 1)))
