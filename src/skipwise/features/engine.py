"""What differs between data engines: how a table is kept, and how rows leave it.

    Ibis connection  ->  engine_of  ->  Engine: keep, drop, batches

- Everything else of `prepare` is one set of expressions for all engines.
- Rows leave an engine in bounded batches: `EVENTS_AT_ONCE` events at a time are asked for.

Knows no layer; is read by `steps`, `write` and `prepare`.
"""

from collections.abc import Iterator
from typing import Protocol

import pyarrow as pa
from ibis.backends import BaseBackend
from ibis.expr.types import Table

ROWS_AT_ONCE = 262_144
"""Most rows of one batch."""


class Engine(Protocol):
    """Where tables are computed."""

    connection: BaseBackend

    def keep(self, name: str, table: Table) -> Table:
        """Compute a table now; it stays until dropped."""

    def drop(self, name: str) -> None:
        """Forget a kept table."""

    def batches(self, table: Table) -> Iterator[pa.RecordBatch]:
        """Give the rows of a table in its order, a batch at a time."""


class DuckDB:
    """Tables lie in the connection's database file, where there is one, compressed."""

    def __init__(self, connection: BaseBackend) -> None:
        self.connection = connection

    def keep(self, name: str, table: Table) -> Table:
        """Compute a table now; it stays until dropped."""
        return self.connection.create_table(name, table, overwrite=True)

    def drop(self, name: str) -> None:
        """Forget a kept table."""
        self.connection.drop_table(name, force=True)

    def batches(self, table: Table) -> Iterator[pa.RecordBatch]:
        """Give the rows of a table in its order, streaming."""
        yield from self.connection.to_pyarrow_batches(table, chunk_size=ROWS_AT_ONCE)


class Spark:
    """Tables lie in the executors' memory and on their disks, as temporary views."""

    def __init__(self, connection: BaseBackend) -> None:
        self.connection = connection
        self._session = connection._session
        self._frames: dict[str, object] = {}

    def keep(self, name: str, table: Table) -> Table:
        """Compute a table now; it stays until dropped."""
        frame = self._frame(table).persist()
        frame.count()
        frame.createOrReplaceTempView(name)
        self._frames[name] = frame
        return self.connection.table(name)

    def drop(self, name: str) -> None:
        """Forget a kept table."""
        self._session.catalog.dropTempView(name)
        self._frames.pop(name).unpersist()  # type: ignore[attr-defined]

    def batches(self, table: Table) -> Iterator[pa.RecordBatch]:
        """Give the rows of a table in its order; they come to the driver together, as Arrow."""
        rows = self._frame(table).toArrow()
        yield from rows.to_batches(max_chunksize=ROWS_AT_ONCE)

    def _frame(self, table: Table):  # type: ignore[no-untyped-def]
        self.connection._run_pre_execute_hooks(table)
        return self._session.sql(self.connection.compile(table))


def engine_of(connection: BaseBackend) -> Engine:
    """Return the engine behind a connection."""
    return Spark(connection) if connection.name == "pyspark" else DuckDB(connection)
