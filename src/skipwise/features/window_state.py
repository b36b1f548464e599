"""A dataset as a model left alone sees it: nothing known after the training window.

    Dataset, rows, last day  ->  freeze_state  ->  the same Dataset, its state for those rows frozen

- Counters and thresholds of the rows are computed anew as of the end of `last_day`, by the same
  expressions that prepared them.
- Only what was known by then is read, so no later outcome can reach a prediction.

Reads `dataset`, `frozen` and the labels' thresholds; is read by evaluation.
"""

import dataclasses
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
from ibis.backends.duckdb import Backend as Connection
from ibis.expr.types import Table
from numpy.typing import NDArray

from skipwise.features.dataset import Column, Dataset
from skipwise.features.frozen import counters_frozen_at
from skipwise.labels.thresholds import thresholds_as_of
from skipwise.progress import SILENT, Progress

_THRESHOLDS = ("effective_above_s", "finished_above_s")


def freeze_state(
    dataset: Dataset,
    rows: NDArray[np.int64],
    last_day: int,
    connection: Connection,
    progress: Progress = SILENT,
) -> Dataset:
    """Replace the state that rows are scored with by that at the end of a day.

    Args:
        dataset: Prepared events.
        rows: (N,) timed event rows, rising; only these may be scored with the result.
        last_day: Last day whose outcomes may be known.
        connection: The engine.
        progress: Who is told.

    Returns:
        The dataset with `counters_day` and both thresholds of those rows as of `last_day + 1`.
    """
    counters = counters_frozen_at(dataset, rows, last_day + 1, connection, progress)
    counter_rows = dataset.events["counter_row"].take(rows)
    asked = thresholds_as_of(
        _known_watches(dataset, last_day), _asks(dataset, rows, last_day + 1), dataset.label_config
    )
    found = connection.to_pyarrow(asked.order_by("ask_id"))
    thresholds = {
        name: _FrozenColumn(rows, _numbers(found, name), dataset.num_events) for name in _THRESHOLDS
    }
    return dataclasses.replace(
        dataset,
        counters_day=_FrozenColumn(counter_rows, counters, len(dataset.counters_day)),
        events={**dataset.events, **thresholds},
    )


class _FrozenColumn(Column):
    """Values of some rows of a column; the others may not be asked for."""

    def __init__(self, rows: NDArray[np.int64], values: NDArray[Any], length: int) -> None:
        super().__init__([values], values.dtype, values.shape[1] if values.ndim > 1 else 0)
        self._rows, self._length = rows, length

    def __len__(self) -> int:
        return self._length

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Copy some rows out; each must be among those that were frozen."""
        place = np.searchsorted(self._rows, rows)
        if len(rows) and (self._rows[np.minimum(place, len(self._rows) - 1)] != rows).any():
            raise IndexError("a row was asked for that was not frozen")
        return super().take(place)


def _known_watches(dataset: Dataset, last_day: int) -> Table:
    """Return the watches known by a day, in the canonical columns that thresholds read."""
    rows = np.flatnonzero(dataset.events["known_day"].all() <= last_day)
    watch_ms = _milliseconds(dataset, "watch_s", rows)
    known = rows[~np.isnan(watch_ms)]
    duration_ms = _milliseconds(dataset, "duration_s", known)
    return ibis.memtable(
        pa.table(
            {
                "viewer_id": dataset.events["viewer"].take(known),
                "video_id": dataset.events["video"].take(known),
                "known_day": dataset.events["known_day"].take(known),
                "watch_ms": watch_ms[~np.isnan(watch_ms)].astype(np.int64),
                "duration_ms": pa.array(duration_ms, mask=np.isnan(duration_ms)).cast(pa.int64()),
            }
        )
    )


def _asks(dataset: Dataset, rows: NDArray[np.int64], state_day: int) -> Table:
    return ibis.memtable(
        pa.table(
            {
                "ask_id": np.arange(len(rows)),
                "viewer_id": dataset.events["viewer"].take(rows),
                "video_id": dataset.events["video"].take(rows),
                "duration_bucket": dataset.events["duration_bucket"].take(rows),
                "state_day": np.full(len(rows), state_day, dtype=np.int32),
            }
        )
    )


def _milliseconds(dataset: Dataset, name: str, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return whole milliseconds, NaN unknown; float32 seconds hold them exactly up to 4 hours."""
    return np.round(dataset.events[name].take(rows).astype(np.float64) * 1000)


def _numbers(found: pa.Table, name: str) -> NDArray[np.float32]:
    """Return a column's values, null as NaN."""
    values: NDArray[np.float32] = found[name].to_numpy().astype(np.float32)
    return values
