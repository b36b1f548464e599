"""Which columns each file of a DATASET has, and the order of its rows.

    coded tables of the engine  ->  events_file, write_videos, write_viewers, ...  ->  FILE.arrow

- Row i of a catalogue is code i; events stand by viewer, then in sequence.
- `counter_row` and `first_row` are counted while the rows stream by: that is their definition.

Reads the tables `prepare` makes; is read by `prepare`. `dataset` maps these files.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
from ibis.backends import BaseBackend
from ibis.expr.types import Table

from skipwise.features.write import RowsFile, rows_file, write_rows
from skipwise.progress import SILENT, Progress

_EVENT_COLUMNS: Mapping[str, pa.DataType] = {
    "viewer": pa.int32(),
    "video": pa.int32(),
    "day": pa.int32(),
    "known_day": pa.int32(),
    "shown_at_ms": pa.int64(),
    "requested_at_ms": pa.int64(),
    "known_at_ms": pa.int64(),
    "watch_s": pa.float32(),
    "duration_s": pa.float32(),
    "surface": pa.int16(),
    "hour": pa.int8(),
    "duration_bucket": pa.int8(),
    "feedback": pa.int8(),
    "glance_run": pa.int16(),
    "session_place": pa.int16(),
    "request": pa.int64(),
    "counter_row": pa.int64(),
    "source_order": pa.int64(),
}
_THRESHOLD_COLUMNS = ("watch_rank", "effective_above_s", "finished_above_s")


def event_schema(labels: Iterable[str]) -> pa.Schema:
    """Return the schema of `events.arrow`: one int8 column per label."""
    columns = {
        **_EVENT_COLUMNS,
        **{f"label_{name}": pa.int8() for name in labels},
        **dict.fromkeys(_THRESHOLD_COLUMNS, pa.float32()),
    }
    return _schema(columns)


@contextmanager
def events_file(folder: Path, labels: Iterable[str], connection: BaseBackend) -> Iterator[RowsFile]:
    """Open `events.arrow` for rows by viewer, then in sequence: `counter_row` is counted here.

    Args:
        folder: The dataset being made.
        labels: Names of the labels.
        connection: Where the tables to come live; they have the schema's columns, except
            `counter_row`, without null.
    """
    num_timed = 0

    def count_timed(columns: dict[str, pa.Array]) -> None:
        nonlocal num_timed
        timed = columns["shown_at_ms"].to_numpy() >= 0
        rows = num_timed + np.cumsum(timed) - 1
        columns["counter_row"] = pa.array(np.where(timed, rows, -1), type=pa.int64())
        num_timed += int(timed.sum())

    path = folder / "events.arrow"
    with rows_file(path, event_schema(labels), connection, count_timed) as rows:
        yield rows


def write_videos(
    folder: Path,
    videos: Table,
    extras: Mapping[str, Table | None],
    connection: BaseBackend,
    progress: Progress = SILENT,
) -> int:
    """Write `videos.arrow`, row i = code i; returns how many.

    Raises:
        OSError: The disk is full or the file cannot be written.
    """
    columns = {
        "video_id": pa.string(),
        "author": pa.int32(),
        "topics": pa.list_(pa.int32()),
        "duration_s": pa.float32(),
        "duration_bucket": pa.int8(),
        "uploaded_day": pa.int32(),
        **_extra_columns(extras),
    }
    path = folder / "videos.arrow"
    return write_rows(path, videos, _schema(columns), ["video"], connection, progress=progress)


def write_viewers(
    folder: Path,
    viewers: Table,
    extras: Mapping[str, Table | None],
    connection: BaseBackend,
    progress: Progress = SILENT,
) -> int:
    """Write `viewers.arrow`, row i = code i, with where their events lie; returns how many.

    Raises:
        OSError: The disk is full or the file cannot be written.
    """
    columns = {
        "viewer_id": pa.string(),
        "first_row": pa.int64(),
        "num_rows": pa.int32(),
        **_extra_columns(extras),
    }
    rows_before = 0

    def count_rows(columns: dict[str, pa.Array]) -> None:
        nonlocal rows_before
        ends = rows_before + np.cumsum(columns["num_rows"].to_numpy(), dtype=np.int64)
        columns["first_row"] = pa.array(ends - columns["num_rows"].to_numpy(), type=pa.int64())
        rows_before = int(ends[-1])

    return write_rows(
        folder / "viewers.arrow",
        viewers,
        _schema(columns),
        ["viewer"],
        connection,
        finish=count_rows,
        progress=progress,
    )


def write_authors(
    folder: Path, authors: Table, connection: BaseBackend, progress: Progress = SILENT
) -> int:
    """Write `authors.arrow`, row i = code i, row 0 the unknown author; returns how many, with it.

    Args:
        folder: The dataset being made.
        authors: `word`, `code` from 1.
        connection: Where `authors` lives.
        progress: Who hears how far it is.

    Raises:
        OSError: The disk is full or the file cannot be written.
    """
    unknown = ibis.memtable(pa.table({"author_id": [""], "code": pa.array([0], type=pa.int32())}))
    everyone = unknown.union(authors.select(author_id=authors.word, code=authors.code))
    schema = _schema({"author_id": pa.string()})
    path = folder / "authors.arrow"
    return write_rows(path, everyone, schema, ["code"], connection, progress=progress)


def _extra_columns(extras: Mapping[str, Table | None]) -> dict[str, pa.DataType]:
    return {
        f"extra_{name}": pa.float32() if codes is None else pa.int32()
        for name, codes in extras.items()
    }


def _schema(columns: Mapping[str, pa.DataType]) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])
