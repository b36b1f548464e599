"""How rows go from the data engine into the files of a DATASET, a batch at a time.

    table, schema, order  ->  write_rows      ->  FILE.arrow (rows in order), number of rows
    asks x K, order       ->  write_counters  ->  counters_*.arrow

- No table is ever held whole: batches stream from the engine to the disk.
- A file holds no null: what is unknown has a value of its own (docs/design.md), so that columns can
  be mapped as they are.

Reads engine tables; is read by `prepare`.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from ibis.backends.duckdb import Backend as Connection
from ibis.expr.types import Table

from skipwise.progress import SILENT, Progress

ROWS_AT_ONCE = 262_144

Finish = Callable[[dict[str, pa.Array]], None]
"""Adds, in place, the columns of a batch that need to know how many rows came before."""


def write_rows(
    path: Path,
    table: Table,
    schema: pa.Schema,
    order: Sequence[str],
    connection: Connection,
    *,
    finish: Finish | None = None,
    progress: Progress = SILENT,
) -> int:
    """Write a table's rows in an order as an Arrow IPC file.

    Args:
        path: The new file.
        table: What to write: at least the schema's columns and those of `order`.
        schema: Columns and types of the file.
        order: Columns to sort by; together they are unique.
        connection: Where `table` lives.
        finish: Adds columns that need a running count.
        progress: Who hears how far it is.

    Returns:
        How many rows were written.

    Raises:
        OSError: The disk is full or the file cannot be written.
    """
    num_rows = 0
    with (
        pa.OSFile(str(path), "wb") as file,
        pa.ipc.new_file(file, schema) as writer,
        progress.task(f"writing {path.name}", total=None, unit="rows") as task,
    ):
        for batch in _batches(table, order, connection):
            columns = {name: batch.column(name) for name in batch.schema.names}
            if finish is not None:
                finish(columns)
            writer.write_batch(_fit(columns, schema, path.name))
            num_rows += batch.num_rows
            task.advance(batch.num_rows)
    return num_rows


def write_counters(
    path: Path,
    counters: Table,
    names: Sequence[str],
    order: Sequence[str],
    connection: Connection,
    *,
    progress: Progress = SILENT,
) -> int:
    """Write counters as one matrix column.

    Args:
        path: The new file.
        counters: The columns `names` (float32) and those of `order`.
        names: The K counters in column order.
        order: Columns to sort by; together they are unique.
        connection: Where `counters` lives.
        progress: Who hears how far it is.

    Returns:
        How many rows were written.

    Raises:
        OSError: The disk is full or the file cannot be written.
    """
    kind = pa.list_(pa.field("item", pa.float32(), nullable=False), len(names))
    schema = pa.schema([pa.field("counters", kind, nullable=False)])

    def as_matrix(columns: dict[str, pa.Array]) -> None:
        matrix = np.stack([columns[name].to_numpy() for name in names], axis=1)
        columns["counters"] = pa.FixedSizeListArray.from_arrays(matrix.reshape(-1), type=kind)

    return write_rows(
        path, counters, schema, order, connection, finish=as_matrix, progress=progress
    )


def _batches(
    table: Table, order: Sequence[str], connection: Connection
) -> Iterator[pa.RecordBatch]:
    for batch in connection.to_pyarrow_batches(
        table.order_by(list(order)), chunk_size=ROWS_AT_ONCE
    ):
        if batch.num_rows:
            yield batch


def _fit(columns: dict[str, pa.Array], schema: pa.Schema, file_name: str) -> pa.RecordBatch:
    arrays = []
    for field in schema:
        array = columns[field.name]
        if array.type != field.type:
            array = array.cast(field.type)
        if array.null_count:
            raise ValueError(f"{file_name}: {field.name} holds null; prepare must fill it")
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
