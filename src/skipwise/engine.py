"""What differs between data engines: how one is opened, how a table is kept, how rows leave it.

    master URL          ->  open_spark  ->  Ibis connection to Spark
    Ibis connection     ->  engine_of   ->  Engine: keep, drop, batches
    GiB                 ->  check_memory

- Everything else of `prepare` is one set of Ibis expressions for all engines.
- Rows leave an engine in bounded batches: `prepare` asks for some viewers at a time.
- Spark is an extra: nothing of it is imported before it is asked for.

Knows `errors` and `settings`; is read by `features` and the command line.
"""

import contextlib
import importlib.util
import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import ibis
import pyarrow as pa
from ibis.backends import BaseBackend
from ibis.expr.types import Table

from skipwise.errors import EngineError, SettingError

ENGINES = ("duckdb", "spark")
"""What `prepare --engine` takes."""

ROWS_AT_ONCE = 262_144
"""Most rows of one batch."""


_LIMITS_OF_CONTAINERS = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)
"""Control groups, version 2 and 1."""

_SCRATCH = "spark.skipwise.scratch"
_DRIVER_MEMORY = "spark.driver.memory"

_OF_SPARK = {
    "spark.app.name": "skipwise",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.sql.ansi.enabled": "false",  # a cast that fails is null, as the readers expect
    "spark.driver.maxResultSize": "4g",
}

_OF_LOCAL = {
    "spark.ui.enabled": "false",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.sql.shuffle.partitions": "4",
}
"""One machine needs no page, no name in the network and few partitions."""


class Engine(Protocol):
    """Where tables are computed."""

    connection: BaseBackend
    is_local: bool
    """Whether its rows are in reach of this process, so that whole columns may be read of it."""

    @property
    def num_threads(self) -> int:
        """How many threads of this process may compute."""

    @property
    def memory_bytes(self) -> int:
        """What tables may take of this process's memory."""

    def keep(self, name: str, table: Table) -> Table:
        """Compute a table now; it stays until dropped."""

    def drop(self, name: str) -> None:
        """Forget a kept table."""

    def batches(self, table: Table) -> Iterator[pa.RecordBatch]:
        """Give the rows of a table in its order, a batch at a time."""


def engine_of(connection: BaseBackend) -> Engine:
    """Return the engine behind a connection."""
    return _Spark(connection) if connection.name == "pyspark" else _DuckDB(connection)


def check_memory(asked_gib: float, setting: str) -> None:
    """Refuse to ask for more memory than the machine, or its container, has.

    Raises:
        SettingError: More is asked for than there is.
    """
    there_gib = machine_memory_gib()
    if there_gib is not None and asked_gib > there_gib:
        raise SettingError(
            f"{setting} = {asked_gib:g} GiB, but this machine has {there_gib:.1f} GiB; it must be "
            f"less. Lower {setting}: beyond it the data engine goes on with the disk."
        )


def machine_memory_gib() -> float | None:
    """Return the memory of this machine or of the container it is, GiB; None where unknown."""
    found = []
    with contextlib.suppress(OSError, ValueError):
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for limit in _LIMITS_OF_CONTAINERS:
        with contextlib.suppress(OSError, ValueError):
            found.append(int(Path(limit).read_text(encoding="ascii")))
    return min(found) / 2**30 if found else None


@contextlib.contextmanager
def open_spark(
    master: str, scratch: str, options: Mapping[str, str] | None = None, *, wait_s: float = 10.0
) -> Iterator[BaseBackend]:
    """Open a Spark session as an Ibis connection; it is stopped when the block ends.

    Args:
        master: Spark's master URL: `local[2]`, `spark://host:7077`, `k8s://https://host:443`,
            `yarn`.
        scratch: Folder for intermediate tables, which all executors reach: a path or a URL that
            Spark writes to (`hdfs://...`, `s3a://...`).
        options: Spark's own settings, `spark.executor.memory` and the like.
        wait_s: How long an address may take to answer.

    Raises:
        EngineError: PySpark or Java is not installed, or the master does not answer.
        SettingError: Spark's driver, which runs here, is given more memory than there is.
    """
    _check_driver_memory(options or {})
    _check_installed()
    _check_answers(master, wait_s)
    from pyspark.sql import SparkSession  # noqa: PLC0415 - an extra

    local = _OF_LOCAL if master.startswith("local") else {}
    settings = {**_OF_SPARK, **local, **(options or {}), _SCRATCH: scratch}
    builder = SparkSession.builder.master(master)
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    try:
        yield ibis.pyspark.connect(session)
    finally:
        session.stop()


class _DuckDB:
    """Tables lie in the connection's database file, where there is one, compressed."""

    is_local = True

    def __init__(self, connection: BaseBackend) -> None:
        self.connection = connection

    @property
    def num_threads(self) -> int:
        """How many threads of this process may compute."""
        found = self.connection.raw_sql("SELECT current_setting('threads')").fetchone()
        return int(found[0])

    @property
    def memory_bytes(self) -> int:
        """What tables may take of this process's memory."""
        written = self.connection.raw_sql("SELECT current_setting('memory_limit')").fetchone()
        number, unit = str(written[0]).split()
        return int(float(number) * 1024 ** ("bytes", "KiB", "MiB", "GiB", "TiB").index(unit))

    def keep(self, name: str, table: Table) -> Table:
        """Compute a table now; it stays until dropped."""
        return self.connection.create_table(name, table, overwrite=True)

    def drop(self, name: str) -> None:
        """Forget a kept table."""
        self.connection.drop_table(name, force=True)

    def batches(self, table: Table) -> Iterator[pa.RecordBatch]:
        """Give the rows of a table in its order, streaming."""
        yield from self.connection.to_pyarrow_batches(table, chunk_size=ROWS_AT_ONCE)


class _Spark:
    """Tables lie as Parquet files in the scratch folder, read through temporary views.

    A kept table is thus a plan of one step. With Spark's own cache a plan would hold the plans of
    all tables before it, and merely printing it takes the driver's memory.
    """

    is_local = False

    def __init__(self, connection: BaseBackend) -> None:
        self.connection = connection
        self._session = connection._session

    @property
    def num_threads(self) -> int:
        """How many threads of this process may compute."""
        return 1

    @property
    def memory_bytes(self) -> int:
        """What tables may take of this process's memory: they lie elsewhere."""
        return 0

    def keep(self, name: str, table: Table) -> Table:
        """Compute a table now; it stays until dropped."""
        self._frame(table).write.mode("overwrite").parquet(self._place(name))
        self._session.read.parquet(self._place(name)).createOrReplaceTempView(name)
        return self.connection.table(name)

    def drop(self, name: str) -> None:
        """Forget a kept table."""
        self._session.catalog.dropTempView(name)
        path = self._session._jvm.org.apache.hadoop.fs.Path(self._place(name))
        path.getFileSystem(self._session._jsc.hadoopConfiguration()).delete(path, True)

    def batches(self, table: Table) -> Iterator[pa.RecordBatch]:
        """Give the rows of a table in its order; they come to the driver together, as Arrow."""
        yield from self._frame(table).toArrow().to_batches(max_chunksize=ROWS_AT_ONCE)

    def _place(self, name: str) -> str:
        return f"{self._session.conf.get(_SCRATCH)}/{name}"

    def _frame(self, table: Table) -> Any:
        self.connection._run_pre_execute_hooks(table)
        return self._session.sql(self.connection.compile(table))


def _check_installed() -> None:
    if importlib.util.find_spec("pyspark") is None:
        raise EngineError(
            "the data engine Spark is asked for, but PySpark is not installed; it must be. "
            "Install the extra [spark] (in a clone: make spark)."
        )
    home = os.environ.get("JAVA_HOME")
    if shutil.which("java") is None and not (home and (Path(home) / "bin" / "java").is_file()):
        raise EngineError(
            "the data engine Spark is asked for, but there is no Java on the PATH and JAVA_HOME "
            "does not lead to one; Spark 4.0 needs Java 17 or 21. Install it (Debian: "
            "openjdk-17-jre-headless), or set JAVA_HOME."
        )


def _check_driver_memory(options: Mapping[str, str]) -> None:
    """Compare what the driver is given with what there is; how it is written Spark judges."""
    written = re.fullmatch(r"(\d+)([kmgt])b?", options.get(_DRIVER_MEMORY, "").lower())
    if written:
        check_memory(int(written[1]) / 1024 ** (2 - "kmgt".index(written[2])), _DRIVER_MEMORY)


def _check_answers(master: str, wait_s: float) -> None:
    """Try the addresses of a master, so that one that is not there is told now."""
    addresses = re.findall(r"(?:^spark://|^k8s://https?://|,)([^:,/]+):(\d+)", master)
    if master.startswith(("spark://", "k8s://")) and not addresses:
        raise EngineError(
            f"--master {master} names no host and port; it must read like spark://host:7077. "
            "Mend it."
        )
    reasons = []
    for host, port in addresses:
        try:
            socket.create_connection((host, int(port)), timeout=wait_s).close()
        except OSError as problem:
            reasons.append(f"{host}:{port}: {problem}")
        else:
            return
    if reasons:
        raise EngineError(
            f"the Spark master {master} does not answer ({'; '.join(reasons)}, waited at most "
            f"{wait_s:g} s); it must be reachable from here. Check the address, and that the "
            "master runs."
        )
