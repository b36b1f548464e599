"""Where the intermediate tables of `prepare` live while it runs.

    name, expression  ->  Steps.keep  ->  the same rows, computed once

- Every step is materialised, so that memory holds one step at a time and the engine can spill.
- All are dropped at the end, whatever happens.

Knows `progress`; is read by `prepare`.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ibis.backends.duckdb import Backend as Connection
from ibis.expr.types import Table

from skipwise.progress import Progress, Task

logger = logging.getLogger(__name__)


@dataclass
class Steps:
    """The tables made so far; `keep` makes one more."""

    connection: Connection
    task: Task
    _alive: dict[str, str] = field(default_factory=dict)
    _num_made: int = 0

    def keep(self, name: str, table: Table) -> Table:
        """Compute a table now and keep it in the engine until the work ends.

        Args:
            name: What the step is called: in progress, in logs, and to drop it.
            table: What to compute.

        Returns:
            The kept table.
        """
        started = time.perf_counter()
        in_engine = f"skipwise_step_{self._num_made}"
        self._num_made += 1
        kept = self.connection.create_table(in_engine, table, temp=True, overwrite=True)
        self._alive[name] = in_engine
        logger.info("%s: %.1f s", name, time.perf_counter() - started)
        self.task.advance(note=name)
        return kept

    def drop(self, *names: str) -> None:
        """Drop kept tables that no later step reads."""
        for name in names:
            self.connection.drop_table(self._alive.pop(name), force=True)

    @contextmanager
    def passing(self) -> Iterator["Steps"]:
        """Drop at the end of a block what was kept inside it."""
        before = set(self._alive)
        try:
            yield self
        finally:
            self.drop(*(name for name in list(self._alive) if name not in before))


@contextmanager
def steps(connection: Connection, progress: Progress, total: int) -> Iterator[Steps]:
    """Give a place for intermediate tables; it is emptied when the block ends.

    Args:
        connection: The engine.
        progress: Who hears of each step.
        total: How many steps there will be.
    """
    with (
        progress.task("preparing", total=total, unit="steps") as task,
        Steps(connection, task).passing() as made,
    ):
        yield made
