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

from ibis.backends import BaseBackend
from ibis.expr.types import Table
from ibis.util import gen_name

from skipwise.engine import Engine, engine_of
from skipwise.progress import UNHEARD, Progress, Task

logger = logging.getLogger(__name__)


@dataclass
class Steps:
    """The tables made so far; `keep` makes one more."""

    engine: Engine
    task: Task
    _alive: dict[str, str] = field(default_factory=dict)
    _staying: set[str] = field(default_factory=set)

    def keep(self, name: str, table: Table, *, stays: bool = False) -> Table:
        """Compute a table now and keep it in the engine until the work ends.

        Args:
            name: What the step is called: in progress, in logs, and to drop it.
            table: What to compute.
            stays: Whether the table outlives the `passing` block it is kept in.

        Returns:
            The kept table.
        """
        started, busy = time.perf_counter(), time.process_time()
        in_engine = gen_name("skipwise_step")
        kept = self.engine.keep(in_engine, table)
        self._alive[in_engine] = name
        if stays:
            self._staying.add(in_engine)
        taken_s, cpu_s = time.perf_counter() - started, time.process_time() - busy
        logger.info("%s: %.1f s, %.1f s of CPU", name, taken_s, cpu_s)
        self.task.advance(note=name)
        return kept

    def drop(self, *names: str) -> None:
        """Drop kept tables that no later step reads."""
        for in_engine, name in list(self._alive.items()):
            if name in names:
                self._drop(in_engine)

    def silent(self) -> "Steps":
        """Keep tables in the same engine without telling of each."""
        return Steps(self.engine, UNHEARD, self._alive, self._staying)

    @contextmanager
    def passing(self) -> Iterator["Steps"]:
        """Drop at the end of a block what was kept inside it."""
        before = set(self._alive)
        try:
            yield self
        finally:
            for in_engine in [kept for kept in self._alive if kept not in before]:
                if in_engine not in self._staying:
                    self._drop(in_engine)

    def _drop(self, in_engine: str) -> None:
        self.engine.drop(in_engine)
        del self._alive[in_engine]


@contextmanager
def steps(connection: BaseBackend, progress: Progress, total: int) -> Iterator[Steps]:
    """Give a place for intermediate tables; it is emptied when the block ends.

    Args:
        connection: The engine.
        progress: Who hears of each step.
        total: How many steps there will be.
    """
    with (
        progress.task("preparing", total=total, unit="steps") as task,
        Steps(engine_of(connection), task).passing() as made,
    ):
        try:
            yield made
        finally:
            made._staying.clear()
