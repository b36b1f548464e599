"""Live state in one SQLite file: the default, for all processes of one host.

- WAL with `synchronous=FULL`: a commit returns when it is on disk. Readers never wait for writers.
- One connection per thread; SQLite's own lock keeps processes apart.
- What is deleted or replaced is overwritten in the file (`secure_delete`), whoever does it.

Answers `store.Store`.
"""

import contextlib
import hashlib
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from skipwise.errors import SkipwiseError, StateError, StorageError
from skipwise.serving.state.store import (
    START,
    Document,
    Entry,
    Logged,
    StateSettings,
    Update,
)

VERSION = 1
_TABLES = """
create table if not exists viewers (id text primary key, past blob not null, touched_s integer not
null); create index if not exists viewers_touched on viewers (touched_s);
create table if not exists log (seq integer primary key autoincrement, id blob unique, at_s integer
not null, payload blob not null);
create table if not exists documents (name text primary key, version integer not null, value blob
not null);
"""
_LAST = "select seq from sqlite_sequence where name = 'log'"
"""Number of the newest line there ever was: it stays when all are cut."""
_WAIT_S = 10.0
_CACHE_KIB = 4096
"""Pages that each connection holds; the system's own cache has the file too, and is not ours."""


class SqliteStore:
    """See the module header."""

    def __init__(self, path: str) -> None:
        """Open or make the file.

        Raises:
            StateError: It is no SQLite file, damaged, of another version, or cannot be opened.
        """
        self.path = Path(path)
        self._of_thread = threading.local()
        self._all: list[sqlite3.Connection] = []
        with self._told():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = self._connection()
            found = connection.execute("pragma quick_check(1)").fetchone()[0]
            if found != "ok":
                raise self._damaged(str(found))
            version = connection.execute("pragma user_version").fetchone()[0]
            if version not in (0, VERSION):
                raise StateError(
                    f"{path} is live state of version {version}, must be {VERSION}. It was written "
                    "by another version of Skipwise: give another --state."
                )
            connection.executescript(_TABLES)
            connection.execute(f"pragma user_version = {VERSION}")

    def commit(self, entries: Sequence[Entry], update: Update) -> list[bool]:
        """Keep entries in one transaction."""
        with self._transaction() as connection:
            keys = [digest(entry.id) for entry in entries]
            new = _are_new(connection, keys)
            lines: dict[int, bytes] = {}
            by_viewer: dict[str, list[int]] = {}
            for place, entry in enumerate(entries):
                if new[place]:
                    by_viewer.setdefault(entry.viewer_id, []).append(place)
            now_s = int(time.time())
            for viewer_id, places in by_viewer.items():
                row = connection.execute(
                    "select past from viewers where id = ?", (viewer_id,)
                ).fetchone()
                items = [entries[place].item for place in places]
                past, payloads = update(viewer_id, row[0] if row else None, items)
                if past is not None and viewer_id:
                    connection.execute(
                        "insert into viewers values (?, ?, ?) on conflict (id) do update set "
                        "past = excluded.past, touched_s = excluded.touched_s",
                        (viewer_id, past, now_s),
                    )
                lines.update(zip(places, payloads, strict=True))
            # at once, not empty first: a line that grows moves others, and their copies stay behind
            connection.executemany(
                "insert into log (id, at_s, payload) values (?, ?, ?)",
                [(keys[place], now_s, lines[place]) for place in sorted(lines)],
            )
        return new

    def read(self, viewer_id: str) -> bytes | None:
        """Return a viewer's bytes."""
        with self._told():
            row = (
                self._connection()
                .execute("select past from viewers where id = ?", (viewer_id,))
                .fetchone()
            )
            return row[0] if row else None

    def forget(self, viewer_id: str, notice: bytes | None = None) -> bool:
        """Delete a viewer's bytes."""
        with self._out_of_the_log() as connection:
            if notice is not None:
                _log(connection, notice)
            return connection.execute("delete from viewers where id = ?", (viewer_id,)).rowcount > 0

    def load(self, viewers: Sequence[tuple[str, bytes]], now_s: int) -> None:
        """Write many viewers at once."""
        with self._transaction() as connection:
            connection.executemany(
                "insert or replace into viewers values (?, ?, ?)",
                ((viewer_id, past, now_s) for viewer_id, past in viewers),
            )

    def follow(self, after: str, at_most: int = 1000) -> list[Logged]:
        """Return lines after a cursor."""
        with self._told():
            rows = self._connection().execute(
                "select seq, payload from log where seq > ? order by seq limit ?",
                (int(after), at_most),
            )
            return [Logged(str(seq), payload) for seq, payload in rows]

    def end(self) -> str:
        """Return the newest cursor, also of a line that was cut since."""
        with self._told():
            row = self._connection().execute(_LAST).fetchone()
            return str(row[0]) if row else START

    def begin(self) -> str:
        """Return the oldest cursor; where all were cut, that of the line to come."""
        with self._told():
            found = self._connection().execute(f"select (select min(seq) from log), ({_LAST})")
            oldest, last = found.fetchone()
            if oldest is None:
                return START if last is None else str(last + 1)
            return str(oldest)

    def erase(self, cursors: Sequence[str]) -> None:
        """Empty lines of the log."""
        with self._out_of_the_log() as connection:
            connection.executemany(
                "update log set payload = x'' where seq = ?", [(int(each),) for each in cursors]
            )

    def get(self, name: str) -> Document | None:
        """Return a document."""
        with self._told():
            row = (
                self._connection()
                .execute("select version, value from documents where name = ?", (name,))
                .fetchone()
            )
            return Document(*row) if row else None

    def names(self, prefix: str) -> list[str]:
        """Return the names that begin so."""
        with self._told():
            rows = self._connection().execute(
                "select name from documents where substr(name, 1, ?) = ? order by name",
                (len(prefix), prefix),
            )
            return [name for (name,) in rows]

    def put(self, name: str, value: bytes, notice: bytes | None = None) -> int:
        """Write a document and its notice."""
        with self._transaction() as connection:
            return _put(connection, name, value, notice)

    def put_all(self, documents: Sequence[tuple[str, bytes, bytes]]) -> None:
        """Write many documents and their notices."""
        with self._transaction() as connection:
            for name, value, notice in documents:
                _put(connection, name, value, notice)

    def prune(self, settings: StateSettings, now_s: int, keep_after: str) -> int:
        """Forget what is past its time or number."""
        with self._transaction() as connection:
            gone = connection.execute(
                "delete from viewers where touched_s < ?",
                (now_s - settings.viewer_days * 86_400,),
            ).rowcount
            (held,) = connection.execute("select count(*) from viewers").fetchone()
            if held > settings.viewers_at_most:
                gone += connection.execute(
                    "delete from viewers where id in "
                    "(select id from viewers order by touched_s limit ?)",
                    (held - settings.viewers_at_most,),
                ).rowcount
            connection.execute(
                "delete from log where seq <= ? and at_s < ?",
                (int(keep_after), now_s - settings.log_days * 86_400),
            )
        return gone

    def num_viewers(self) -> int:
        """Count the viewers."""
        with self._told():
            (number,) = self._connection().execute("select count(*) from viewers").fetchone()
            return int(number)

    def num_bytes(self) -> int:
        """Return the size of the file and its log."""
        parts = (self.path, self.path.with_name(self.path.name + "-wal"))
        return sum(part.stat().st_size for part in parts if part.exists())

    def close(self) -> None:
        """Close every thread's connection."""
        for connection in self._all:
            connection.close()
        self._all.clear()
        self._of_thread = threading.local()

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._of_thread, "connection", None)
        if connection is None:
            connection = sqlite3.connect(
                self.path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False
            )
            for pragma in (
                "journal_mode = wal",
                "synchronous = full",
                f"cache_size = -{_CACHE_KIB}",
                "secure_delete = on",
            ):
                connection.execute(f"pragma {pragma}")
            self._of_thread.connection = connection
            self._all.append(connection)
        return connection

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._told():
            connection = self._connection()
            connection.execute("begin immediate")
            try:
                yield connection
                connection.execute("commit")
            except BaseException:
                if connection.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        connection.execute("rollback")
                raise

    @contextlib.contextmanager
    def _out_of_the_log(self) -> Iterator[sqlite3.Connection]:
        """A transaction whose deletions leave nothing in the WAL either, as soon as may be."""
        with self._transaction() as connection:
            yield connection
        with self._told():
            connection = self._connection()
            connection.execute("pragma busy_timeout = 0")  # who reads the old pages may go on
            try:
                connection.execute("pragma wal_checkpoint(truncate)")
            finally:
                connection.execute(f"pragma busy_timeout = {int(_WAIT_S * 1000)}")

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except SkipwiseError:
            raise
        except sqlite3.Error as problem:
            name = getattr(problem, "sqlite_errorname", "")
            if name == "SQLITE_FULL" or name.startswith("SQLITE_IOERR"):
                raise StorageError(
                    f"{self.path} could not be written: the disk is full or broken ({problem}). "
                    "Nothing of it was kept. Free some space."
                ) from problem
            if name in ("SQLITE_CORRUPT", "SQLITE_NOTADB"):
                raise self._damaged(str(problem)) from problem
            raise StateError(
                f"{self.path} cannot be used: {problem}; it must be a file this user may read and "
                "write. Check the path, or give another --state."
            ) from problem
        except OSError as problem:
            raise StateError(
                f"{self.path} cannot be used: {problem.strerror}; it must be a file this user may "
                "read and write. Give another --state."
            ) from problem

    def _damaged(self, what: str) -> StateError:
        return StateError(
            f"{self.path} is damaged ({what}); it must be live state as a server left it. Put a "
            "copy back, or move it away and start again with --data."
        )


def _are_new(connection: sqlite3.Connection, keys: Sequence[bytes]) -> list[bool]:
    """Return for each id whether it is neither held nor one of those before it."""
    seen: set[bytes] = set()
    new = []
    for key in keys:
        held = connection.execute("select 1 from log where id = ?", (key,)).fetchone()
        new.append(held is None and key not in seen)
        seen.add(key)
    return new


def _put(connection: sqlite3.Connection, name: str, value: bytes, notice: bytes | None) -> int:
    (version,) = connection.execute(
        "insert into documents values (?, 1, ?) on conflict (name) do update set "
        "version = version + 1, value = excluded.value returning version",
        (name, value),
    ).fetchone()
    if notice is not None:
        _log(connection, notice)
    return int(version)


def _log(connection: sqlite3.Connection, notice: bytes) -> None:
    connection.execute("insert into log (at_s, payload) values (?, ?)", (int(time.time()), notice))


def digest(entry_id: str) -> bytes:
    """Shorten an entry's id to 16 bytes."""
    return hashlib.blake2b(entry_id.encode(), digest_size=16).digest()
