"""How a log that was read in one data engine comes into another.

    EventLog in DuckDB  ->  move_log  ->  the same EventLog in Spark, through Parquet files

- Files are read, judged and refused by one reader; a cluster gets rows that have been checked.
- The files lie where both can read them: locally any folder, for a cluster a shared one.

Knows `read`; is read by the command line.
"""

import dataclasses
from pathlib import Path

from ibis.backends import BaseBackend
from ibis.expr.types import Table

from skipwise.events.read import EventLog

_TABLES = ("events", "videos", "viewers")


def move_log(log: EventLog, source: BaseBackend, target: BaseBackend, folder: Path) -> EventLog:
    """Write the tables of a log as Parquet files and open them in another engine.

    Args:
        log: What a reader made.
        source: Where its tables live.
        target: Where they are to be opened.
        folder: An empty folder that both engines reach; its files must stay while the log is used.

    Returns:
        The log with its tables in `target`.
    """
    moved: dict[str, Table] = {}
    for name in _TABLES:
        file = folder / f"{name}.parquet"
        source.to_parquet(getattr(log, name), str(file))
        moved[name] = target.read_parquet(str(file))
    return dataclasses.replace(log, **moved)
