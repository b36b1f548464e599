"""Counters of a prepared dataset as of any day: what a model left alone would see.

    Dataset, event rows (N), day  ->  counters_frozen_at  ->  (N, K) float32

- The outcomes are the dataset's own, those with `known_day < day`: the window mode of evaluation
  sees the state at the end of training, however late its rows are (docs/model.md).
- With each row's own day it returns the rows of `counters_day.arrow`: one definition, two doors.

Reads `dataset` and `counters`; is read by evaluation.
"""

from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
from ibis import _
from ibis.backends.duckdb import Backend as Connection
from ibis.expr.types import Table
from numpy.typing import NDArray

from skipwise.features.counter_names import CounterConfig
from skipwise.features.counters import counters_as_of_day
from skipwise.features.dataset import Dataset
from skipwise.features.known import DAY_MS, clock_day
from skipwise.features.steps import steps
from skipwise.progress import SILENT, Progress

_LATEST_OUTCOME_DAYS = 40
"""No outcome is known later after its showing: a day of watching, 30 of delay, and some."""


def counters_frozen_at(
    dataset: Dataset,
    rows: NDArray[np.int64],
    day: int | NDArray[np.int64],
    connection: Connection,
    progress: Progress = SILENT,
) -> NDArray[np.float32]:
    """Count, for some events as candidates, what was known before a day began.

    Args:
        dataset: Holds the events, the catalogue and the settings of the counters.
        rows: (N,) event rows asked for.
        day: As of whose start the state is read, days since 1970-01-01; one for all, or (N,).
        connection: The engine.
        progress: Who hears how far it is.

    Returns:
        (N, K) counters in the order of `dataset.counter_names`.

    Raises:
        SettingError: The dataset's `half_life_days` is too short for a day so far away.
    """
    names, config = dataset.counter_names, _config_of(dataset)
    with steps(connection, progress, 3) as made:
        events = made.keep("events", _events(dataset, config))
        videos = _file(dataset.path / "videos.arrow").select("author", "topics")
        videos = made.keep("videos", videos.mutate(video=ibis.row_number().cast("int32")))
        counters = counters_as_of_day(
            events, videos, config, _asks(dataset, rows, day), made.silent().keep
        )
        found = made.keep("frozen counters", counters).order_by("ask_id").to_pyarrow()
    if not len(rows):
        return np.empty((0, len(names)), dtype=np.float32)
    return np.stack([found[name].to_numpy() for name in names], axis=1)


def _config_of(dataset: Dataset) -> CounterConfig:
    """Return the settings the dataset was made with, less what its log could not answer."""
    values = dataset.description["settings"]["counters"]
    names = set(dataset.counter_names)
    return CounterConfig(
        half_life_days=values["half_life_days"],
        counted=tuple(name for name in values["counted"] if f"video.{name}" in names),
    )


def _events(dataset: Dataset, config: CounterConfig) -> Table:
    """Return what counters read of the events, with the local day each outcome was known on."""
    first_day, last_day = dataset.days
    span_ms = ((first_day - 1) * DAY_MS, (last_day + _LATEST_OUTCOME_DAYS) * DAY_MS)
    events = _file(dataset.path / "events.arrow")
    local_day = clock_day(events.known_at_ms, str(dataset.description["time_zone"]), span_ms)
    return events.select(
        "viewer",
        "video",
        "surface",
        "known_day",
        *(f"label_{name}" for name in config.counted),
        known_clock_day=(_.shown_at_ms >= 0).ifelse(local_day, _.known_day).cast("int32"),
    )


def _asks(dataset: Dataset, rows: NDArray[np.int64], day: int | NDArray[np.int64]) -> Table:
    columns = {name: dataset.events[name].take(rows) for name in ("viewer", "video", "surface")}
    state_day = np.broadcast_to(np.asarray(day, dtype=np.int32), len(rows))
    return ibis.memtable(
        pa.table({"ask_id": np.arange(len(rows)), **columns, "state_day": state_day})
    )


def _file(path: Path) -> Table:
    return ibis.memtable(pa.ipc.open_file(pa.memory_map(str(path))).read_all())
