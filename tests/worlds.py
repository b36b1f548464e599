"""Small prepared datasets, and how to change one without preparing it again."""

import dataclasses
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from skipwise.events.read import read_log
from skipwise.features.dataset import Column, Dataset
from skipwise.features.prepare import prepare
from skipwise.simulation.log import simulate
from skipwise.simulation.watching import FLAG_NAMES
from skipwise.simulation.world import WorldSettings

Edit = Callable[[NDArray[Any]], NDArray[Any]]

SMALL_WORLD = WorldSettings(
    viewers=40,
    videos=60,
    authors=15,
    topics=6,
    days=5,
    views_per_viewer_day=6.0,
    seed=3,
)
"""About 1,200 events of 40 viewers, with every kind of column."""

OUTCOMES = ("watch_s", "feedback", "glance_run", "watch_rank")
"""Event columns that say how an event ended, labels beside them."""


def prepared(log: Path, out: Path) -> Dataset:
    """Prepare a log with one thread, and open what came out."""
    connection = ibis.duckdb.connect(threads=1)
    prepare(read_log(log, connection), connection, out)
    connection.disconnect()
    return Dataset.open(out)


def prepared_world(folder: Path, world: WorldSettings) -> Dataset:
    """Simulate a world and prepare its log."""
    simulate(folder / "log", world)
    return prepared(folder / "log", folder / "DATASET")


def reduced_kuairand(source: Path, out: Path, *, one_viewer_in: int) -> Path:
    """Copy a KuaiRand folder with the log and history rows of some viewers only."""
    (out / "data").mkdir(parents=True)
    for file in sorted((source / "data").glob("*.csv")):
        if not file.name.startswith("log_"):
            shutil.copyfile(file, out / "data" / file.name)
            continue
        header, *lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if int(line.split(",", 1)[0]) % one_viewer_in == 0]
        (out / "data" / file.name).write_text(header + "".join(kept), encoding="utf-8")
    for file in sorted(source.glob("history_*.parquet")):
        history = pq.read_table(file)
        chosen = np.asarray(history["user_id"]) % one_viewer_in == 0
        pq.write_table(history.filter(pa.array(chosen)), out / file.name)
    return out


def edited_after(log: Path, out: Path, last_day: int) -> Path:
    """Copy a simulated log whose events after a day ended otherwise: watch times, every flag."""
    shutil.copytree(log, out)
    events = pq.read_table(log / "events.parquet")
    late = np.asarray(events["day"]) > last_day
    watch_ms = np.asarray(events["watch_ms"])
    swapped_ms = np.where(watch_ms < 3000, watch_ms + 20_000, 500)
    others = {"watch_ms": pa.array(np.where(late, swapped_ms, watch_ms))} | {
        name: pc.if_else(pa.array(late), pc.invert(events[name]), events[name])
        for name in FLAG_NAMES
    }
    for name, values in others.items():
        events = events.set_column(events.column_names.index(name), name, values)
    pq.write_table(events, out / "events.parquet")
    return out


def with_events(dataset: Dataset, **edits: Edit) -> Dataset:
    """Copy a dataset in memory with some event columns edited."""
    events = dict(dataset.events)
    for name, edit in edits.items():
        before = np.array(events[name].all())
        after = edit(before.copy())
        assert after.shape == before.shape
        events[name] = Column([after.astype(before.dtype)], before.dtype)
    return dataclasses.replace(dataset, events=events)


def with_other_outcomes(dataset: Dataset, rows: NDArray[np.bool_]) -> Dataset:
    """Copy a dataset whose chosen events ended otherwise: glances as likes, others as glances."""
    was_glance = np.array(dataset.events["label_glance"].all()) == 1

    def chosen(of_glances: float, of_others: float) -> Edit:
        return lambda values: np.where(rows, np.where(was_glance, of_glances, of_others), values)

    labels = [name for name in dataset.events if name.startswith("label_")]
    return with_events(
        dataset,
        watch_s=chosen(45.0, 0.4),
        feedback=chosen(6, 2),
        glance_run=chosen(0, 5),
        watch_rank=chosen(0.9, 0.05),
        **{name: chosen(float(name != "label_glance"), float(name == "label_glance"))
           for name in labels},
    )  # fmt: skip


def with_other_videos(dataset: Dataset, rows: NDArray[np.bool_]) -> Dataset:
    """Copy a dataset whose chosen events showed other videos."""
    last = dataset.videos.num_rows - 1
    return with_events(dataset, video=lambda codes: np.where(rows, last - codes, codes))


def with_counters(
    dataset: Dataset, edit: Edit, forms: Iterable[str] = ("counters_day", "counters_event")
) -> Dataset:
    """Copy a dataset in memory with its counters edited, (timed events, K) -> the same."""
    changed: dict[str, Any] = {}
    for form in forms:
        column: Column = getattr(dataset, form)
        values = edit(np.array(column.all()))
        changed[form] = Column([values.astype(np.float32)], column.dtype, values.shape[1])
    return dataclasses.replace(dataset, **changed)


def timed_rows(dataset: Dataset) -> NDArray[np.bool_]:
    """Return which events can be scored, (E,)."""
    timed: NDArray[np.bool_] = np.array(dataset.events["counter_row"].all()) >= 0
    return timed


def days_of(dataset: Dataset) -> NDArray[np.int32]:
    """Return each event's calendar day, (E,)."""
    return np.array(dataset.events["day"].all(), dtype=np.int32)
