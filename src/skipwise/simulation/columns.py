"""Named columns that lie side by side, and inside each other: joined, and put in order.

    NamedTuple of arrays (N, ...) or of such tuples  ->  joined, ordered  ->  one of the same kind

Knows nobody; is read by `living_log`.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Columns = TypeVar("Columns", bound=tuple[Any, ...])


def joined(parts: Sequence[Columns]) -> Columns:
    """Lay columns one after the other, of at least one part.

    >>> from typing import NamedTuple
    >>> Pair = NamedTuple("Pair", [("one", object), ("two", object)])
    >>> joined([Pair(np.array([1]), np.array([2])), Pair(np.array([3]), np.array([4]))]).two
    array([2, 4])
    """
    columns = zip(*parts, strict=True)
    return type(parts[0])(
        *(joined(each) if isinstance(each[0], tuple) else np.concatenate(each) for each in columns)
    )


def ordered(columns: Columns, rows: NDArray[np.int64]) -> Columns:
    """Take some rows of each column, in this order."""
    return type(columns)(
        *(
            ordered(each, rows) if isinstance(each, tuple) else each.take(rows, axis=0)
            for each in columns
        )
    )
