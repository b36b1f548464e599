"""By what following tells that a log only grew: a key of each row's content, in log order.

    EventLog  ->  rows_of  ->  Rows: keys, source order, times, days
    keys      ->  digest   ->  one checksum of all rows so far

Is read by `follow`.
"""

import hashlib
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from skipwise.events.read import EventLog


class Rows(NamedTuple):
    """What following asks of a log's taken rows, (N,) each, in log order."""

    keys: NDArray[np.uint64]
    """What a row's content hashes to."""
    sources: NDArray[np.int64]
    """`source_order`, ascending: refused rows leave gaps in it."""
    shown_ms: NDArray[np.int64]
    """0 = untimed."""
    day: NDArray[np.int64]
    """-1 = untimed."""


_NULLABLE = {
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
}
"""Kinds in which the first null of a column leaves the others what they were, and so their keys."""


def rows_of(log: EventLog) -> Rows:
    """Read a log's taken rows, in log order."""
    found = log.events.order_by("source_order").to_pyarrow()
    table = found.to_pandas(types_mapper=_NULLABLE.get)
    content = table.drop(columns="source_order")
    return Rows(
        keys=pd.util.hash_pandas_object(content, index=False).to_numpy(np.uint64),
        sources=table.source_order.to_numpy(np.int64),
        shown_ms=table.shown_at_ms.fillna(0).to_numpy(np.int64),
        day=table.day.fillna(-1).to_numpy(np.int64),
    )


def digest(keys: NDArray[np.uint64]) -> str:
    """Return the SHA-256 of keys in their order, in hex."""
    return hashlib.sha256(np.ascontiguousarray(keys).tobytes()).hexdigest()
