"""How rows go from the data engine into the files of a DATASET, a batch at a time.

    tables, schema, order     ->  write_rows     ->  FILE.arrow (rows in order), number of rows
    tables, K counters, order ->  counters_file  ->  counters_*.arrow

- No table is ever held whole: batches stream from the engine to the disk.
- A file holds no null: what is unknown has a value of its own (docs/design.md), so that columns can
  be mapped as they are.

Reads engine tables; is read by `prepare`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
from ibis.backends import BaseBackend
from ibis.expr.types import Table
from numpy.typing import NDArray

from skipwise.engine import engine_of
from skipwise.progress import SILENT, Progress

Finish = Callable[[dict[str, pa.Array]], None]
"""Adds, in place, the columns of a batch that need to know how many rows came before."""


class RowsFile:
    """An Arrow IPC file that grows by the rows of one table after the other."""

    def __init__(
        self,
        name: str,
        schema: pa.Schema,
        writer: pa.ipc.RecordBatchFileWriter,
        connection: BaseBackend,
        finish: Finish | None,
    ) -> None:
        self._name, self._schema, self._writer, self._finish = name, schema, writer, finish
        self._engine = engine_of(connection)
        self.num_rows = 0

    def add(self, table: Table, order: Sequence[str]) -> int:
        """Append the rows of a table, in an order; returns how many.

        Raises:
            OSError: The disk is full or the file cannot be written.
        """
        before = self.num_rows
        for batch in self._engine.batches(table.order_by(list(order))):
            if batch.num_rows:
                self.finish_and_put({name: batch.column(name) for name in batch.schema.names})
        return self.num_rows - before

    def finish_and_put(self, columns: dict[str, pa.Array]) -> None:
        """Append rows that lack the columns which `finish` adds."""
        if self._finish is not None:
            self._finish(columns)
        self.put(columns)

    def put(self, columns: Mapping[str, pa.Array]) -> None:
        """Append rows as they are, all columns of the schema.

        Raises:
            OSError: The disk is full or the file cannot be written.
        """
        batch = _fit(columns, self._schema, self._name)
        self._writer.write_batch(batch)
        self.num_rows += batch.num_rows


@contextmanager
def rows_file(
    path: Path, schema: pa.Schema, connection: BaseBackend, finish: Finish | None = None
) -> Iterator[RowsFile]:
    """Open a new file for rows of a schema.

    Args:
        path: The new file.
        schema: Columns and types of the file.
        connection: Where the tables to come live.
        finish: Adds columns that need a running count.
    """
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        yield RowsFile(path.name, schema, writer, connection, finish)


@contextmanager
def counters_file(path: Path, names: Sequence[str], connection: BaseBackend) -> Iterator[RowsFile]:
    """Open a new file for counters as one matrix column.

    Args:
        path: The new file.
        names: The K counters in column order; the tables to come have them as float32.
        connection: Where the tables to come live.
    """
    schema = pa.schema([pa.field("counters", _matrix_type(len(names)), nullable=False)])

    def as_matrix(columns: dict[str, pa.Array]) -> None:
        matrix = np.empty((len(columns[names[0]]), len(names)), dtype=np.float32)
        for place, name in enumerate(names):
            matrix[:, place] = columns[name].to_numpy()
        columns["counters"] = matrix_column(matrix)

    with rows_file(path, schema, connection, as_matrix) as rows:
        yield rows


def matrix_column(matrix: NDArray[np.float32]) -> pa.Array:
    """Return the (N, K) counters of N rows as the column of `counters_file`, not copied."""
    kind = _matrix_type(matrix.shape[1])
    return pa.FixedSizeListArray.from_arrays(matrix.reshape(-1), type=kind)


def write_rows(
    path: Path,
    table: Table,
    schema: pa.Schema,
    order: Sequence[str],
    connection: BaseBackend,
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
    with (
        rows_file(path, schema, connection, finish) as rows,
        progress.task(f"writing {path.name}", total=None, unit="rows") as task,
    ):
        task.advance(rows.add(table, order))
    return rows.num_rows


def _matrix_type(num_columns: int) -> pa.DataType:
    return pa.list_(pa.field("item", pa.float32(), nullable=False), num_columns)


def _fit(columns: Mapping[str, pa.Array], schema: pa.Schema, file_name: str) -> pa.RecordBatch:
    arrays = []
    for field in schema:
        array = columns[field.name]
        if array.type != field.type:
            array = array.cast(field.type)
        if array.null_count:
            raise ValueError(f"{file_name}: {field.name} holds null; prepare must fill it")
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
