"""How long work says where it is, without knowing who listens.

A function that may take more than two seconds takes `progress: Progress = SILENT`; the command
line gives one that draws bars, tests and libraries give none.

Knows nobody; is read by every layer.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One bar."""

    def advance(self, amount: float = 1, *, note: str = "") -> None:
        """Move the bar on; `note` is shown beside it."""


class Progress(Protocol):
    """Whoever shows how far the work is."""

    def task(self, what: str, *, total: float | None, unit: str) -> AbstractContextManager[Task]:
        """Open a bar: `with progress.task("labels", total=7, unit="days") as task: ...`."""


class _Silence:
    def advance(self, amount: float = 1, *, note: str = "") -> None:
        """Say nothing."""

    @contextmanager
    def task(self, what: str, *, total: float | None, unit: str) -> Iterator[Task]:  # noqa: ARG002 - the protocol names them
        """Open a bar nobody sees."""
        yield self


UNHEARD: Task = _Silence()
"""A bar nobody sees."""

SILENT: Progress = _Silence()
