"""Where live state is kept: the one interface that SQLite and Redis answer alike.

    Entry (id, viewer, anything)  ->  Store.commit  ->  new or known; on disk when it returns
    a viewer id                   ->  Store.read    ->  packed bytes, or None
    a cursor                      ->  Store.follow  ->  what was logged since, in order

- An entry's id counts once for as long as the log is kept; a viewer's bytes and the log change
  together or not at all.
- The log is the bus between processes: each follows it and so has all others' events.
- A store knows nothing of what it keeps.

Reads `errors`; is read by `intake`, `follower` and `app`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from skipwise.errors import SettingError
from skipwise.settings import check_setting

START = "0"
"""The cursor before everything."""


class Entry(NamedTuple):
    """Something to commit."""

    id: str
    viewer_id: str
    """Whose bytes it changes; empty for nobody's."""
    item: Any


class Logged(NamedTuple):
    """One line of the log."""

    cursor: str
    payload: bytes


class Document(NamedTuple):
    """A named value and how often it has been written."""

    version: int
    value: bytes


Update = Callable[[str, bytes | None, Sequence[Any]], tuple[bytes | None, Sequence[bytes]]]
"""A viewer's id, bytes and new items -> its new bytes, and what to log for each item.

May be called again with newer bytes, so it changes nothing itself.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class StateSettings:
    """How much is kept, and for how long."""

    keep_events: int = 400
    """Events per viewer; a model reads its `reach` of them."""
    keep_sums: int = 2000
    """Decayed sums per viewer."""
    viewers_at_most: int = 5_000_000
    """The longest untouched are forgotten first."""
    viewer_days: int = 180
    """A viewer untouched for so long is forgotten."""
    log_days: int = 14
    """How long the log, and with it the ids that count once, are kept."""

    def __post_init__(self) -> None:
        check_setting("state.keep_events", self.keep_events, at_least=1, at_most=10_000)
        check_setting("state.keep_sums", self.keep_sums, at_least=1, at_most=100_000)
        check_setting("state.viewers_at_most", self.viewers_at_most, at_least=1)
        check_setting("state.viewer_days", self.viewer_days, at_least=1)
        check_setting("state.log_days", self.log_days, at_least=1)


class Store(Protocol):
    """Live state on disk; safe to use from several threads and processes at once.

    Every method raises `StateError` where the state is out of reach or damaged, and `commit`, `put`
    and `load` a `StorageError` where the disk is full; then nothing was kept.
    """

    def commit(self, entries: Sequence[Entry], update: Update) -> list[bool]:
        """Keep entries; returns, for each, whether it is new. On disk when it returns."""

    def read(self, viewer_id: str) -> bytes | None:
        """Return a viewer's bytes."""

    def forget(self, viewer_id: str, notice: bytes | None = None) -> bool:
        """Delete a viewer's bytes, with a line of the log that tells others; were there any?"""

    def load(self, viewers: Sequence[tuple[str, bytes]], now_s: int) -> None:
        """Write many viewers' bytes at once, as seeding does."""

    def follow(self, after: str, at_most: int = 1000) -> list[Logged]:
        """Return what was logged after a cursor, oldest first."""

    def end(self) -> str:
        """Return the cursor of the newest line, erased or cut too; `START` where none was."""

    def begin(self) -> str:
        """Return where the log begins: at the oldest line, erased or not, or right after a cut one.

        Who has read up to the place before it has missed nothing. `START` where nothing has been
        logged.
        """

    def erase(self, cursors: Sequence[str]) -> None:
        """Take what these lines of the log say; their ids stay known."""

    def get(self, name: str) -> Document | None:
        """Return a document."""

    def names(self, prefix: str) -> list[str]:
        """Return the names of documents that begin so."""

    def put(self, name: str, value: bytes, notice: bytes | None = None) -> int:
        """Write a document, with a line of the log that tells others; returns its version."""

    def put_all(self, documents: Sequence[tuple[str, bytes, bytes]]) -> None:
        """Write (name, value, notice) of many documents at once."""

    def prune(self, settings: StateSettings, now_s: int, keep_after: str) -> int:
        """Forget viewers past their time or number, and the log before a cursor and its days.

        Returns:
            How many viewers were forgotten.
        """

    def num_viewers(self) -> int:
        """Count the viewers held."""

    def num_bytes(self) -> int:
        """Return how much disk or memory the state takes."""

    def close(self) -> None:
        """Let go of files and connections."""


def without_password(url: str) -> str:
    """Return a state's address as it may be shown.

    >>> without_password("redis://me:secret@host:6379"), without_password("sqlite:state.db")
    ('redis://me:...@host:6379', 'sqlite:state.db')
    """
    shown = re.sub(r"(?<=://)([^/@:]*):.*@", r"\1:...@", url)
    return re.sub(r"(?<=password=)[^&]*", "...", shown)


def open_store(url: str) -> Store:
    """Open `sqlite:PATH` or `redis://...`.

    Raises:
        SettingError: It is neither.
        StateError: It cannot be reached, is damaged, or is of another version.
    """
    if url.startswith("sqlite:"):
        from skipwise.serving.state.sqlite import SqliteStore  # noqa: PLC0415

        return SqliteStore(url.removeprefix("sqlite:"))
    if url.startswith(("redis://", "rediss://", "unix://")):
        from skipwise.serving.state.redis import RedisStore  # noqa: PLC0415

        return RedisStore(url)
    raise SettingError(
        f"--state {without_password(url)} is neither sqlite:PATH nor redis://HOST:PORT. Give one "
        "of them."
    )
