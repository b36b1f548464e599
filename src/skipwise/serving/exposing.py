"""Who was given a slate of the experiment: noted once, on disk before the slate leaves.

    viewer, variant, time  ->  Exposing.meet   ->  waits to be written, where he is new
    those who wait         ->  Exposing.write  ->  lines `Exposed` of the state's log, in one flush

- One line per viewer and experiment for as long as the log is kept, whichever process gave the
  slate. A second one, later, changes nothing: the first counts.
- Only a variant's own name exposes: who is in none, or whose variant was stopped, is not noted; nor
  is who came before the experiment's first day.
- Where the state is out of reach the slate leaves all the same; the line is written when it can be.

Reads `state` and `world`; is read by `variants`, `engine` and `worker`.
"""

import threading
from collections.abc import Sequence

from skipwise.experiments.definition import Definition
from skipwise.serving.names import name_of
from skipwise.serving.state.store import Entry, Store
from skipwise.serving.world import Exposed, pack_line

NOTED_AT_MOST = 500_000
"""Viewers a process remembers to have noted; who is forgotten is asked of the store once more."""
_TOGETHER = 1000


class Exposing:
    """Notes first exposures for one process; safe to use from several threads."""

    def __init__(self, definition: Definition, store: Store) -> None:
        self.definition, self.store = definition, store
        self._names = frozenset(variant.name for variant in definition.variants)
        self._key, self._start_day = definition.assignment_key, definition.start_day
        self._noted: dict[int, None] = {}
        """Names of viewers, oldest first."""
        self._waiting: dict[str, Exposed] = {}
        """By viewer, until it is on disk."""
        self._lock = threading.Lock()

    def meet(self, viewer_id: str, variant: str, at_ms: int, day: int) -> None:
        """Note that a viewer was given a slate.

        Args:
            viewer_id: Who.
            variant: The slate's.
            at_ms: When he asked, UTC ms.
            day: The calendar day of it, days since 1970-01-01.
        """
        if variant not in self._names or day < self._start_day:
            return
        with self._lock:
            if self._remember(viewer_id):
                self._waiting[viewer_id] = Exposed(
                    self.definition.name, self._key, viewer_id, variant, at_ms
                )

    def waits(self, viewer_id: str) -> bool:
        """Whether a viewer's exposure is not on disk yet."""
        return viewer_id in self._waiting

    def forget(self, viewer_id: str) -> None:
        """Write nothing of a viewer who waits: they are forgotten, and met anew if they return."""
        with self._lock:
            if self._waiting.pop(viewer_id, None) is not None:
                self._noted.pop(name_of(viewer_id), None)

    @property
    def num_waiting(self) -> int:
        """How many are not on disk yet."""
        return len(self._waiting)

    def write(self) -> None:
        """Write down who waits; they are on disk when it returns.

        Raises:
            StateError: The state is out of reach; they go on waiting.
            StorageError: The disk is full; they go on waiting.
        """
        with self._lock:
            waiting = list(self._waiting.values())
        for start in range(0, len(waiting), _TOGETHER):
            with self._lock:  # who was forgotten while others were written waits no more
                together = [
                    line
                    for line in waiting[start : start + _TOGETHER]
                    if line.viewer_id in self._waiting
                ]
            if not together:
                continue
            self.store.commit([_entry(line) for line in together], _as_they_are)
            with self._lock:
                for line in together:
                    self._waiting.pop(line.viewer_id, None)

    def hear(self, line: Exposed) -> None:
        """Take in from the log whom a process has noted; every process follows every line."""
        if (line.experiment, line.key) == (self.definition.name, self._key):
            with self._lock:
                self._remember(line.viewer_id)

    def _remember(self, viewer_id: str) -> bool:
        """Return whether a viewer is new."""
        name = name_of(viewer_id)
        if name in self._noted:
            return False
        if len(self._noted) >= NOTED_AT_MOST:
            del self._noted[next(iter(self._noted))]
        self._noted[name] = None
        return True


def _entry(line: Exposed) -> Entry:
    return Entry(f"exposed\0{line.experiment}\0{line.key}\0{line.viewer_id}", "", line)


def _as_they_are(_: str, __: bytes | None, lines: Sequence[Exposed]) -> tuple[None, list[bytes]]:
    return None, [pack_line(line) for line in lines]
