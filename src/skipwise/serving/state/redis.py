"""Live state in Redis: for all processes of several hosts.

- A viewer's bytes are one key, the log is one Redis Stream (the bus), documents are one hash.
- What belongs together changes in one MULTI; a viewer changed meanwhile by another process is read
  and changed again (WATCH).
- A server that does not answer is waited for once, by 2 s; until it answers again, which a thread
  asks it twice a second, everything is refused at once.
- An answer means "on disk" only where the server says `appendonly yes` and `appendfsync always`;
  anything less is told in `durability`.

Answers `store.Store`.
"""

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from skipwise.errors import StateError, StorageError
from skipwise.serving.state.sqlite import digest
from skipwise.serving.state.store import (
    START,
    Document,
    Entry,
    Logged,
    StateSettings,
    Update,
)

_TRIES = 100
_ASKED_EVERY_S = 0.5
"""How often a server that has not answered is asked whether it does again."""
_PREFIX = b"skipwise:"
LOG, TOUCHED, DOCUMENTS = _PREFIX + b"log", _PREFIX + b"touched", _PREFIX + b"documents"
VERSIONS, BEGIN = _PREFIX + b"versions", _PREFIX + b"begin"


class RedisStore:
    """See the module header."""

    def __init__(self, url: str, log_days: int = StateSettings().log_days) -> None:
        """Connect.

        Raises:
            StateError: The server cannot be reached.
        """
        self.url = url.rsplit("@", 1)[-1].partition("?")[0]
        self.log_s = log_days * 86_400
        self.redis: Any = redis.Redis.from_url(
            url,
            socket_timeout=2.0,
            socket_connect_timeout=1.0,
            retry=Retry(ConstantBackoff(0.02), 1, supported_errors=(redis.ConnectionError,)),
            health_check_interval=5,
        )
        self._out: str | None = None
        """What is told while the server does not answer."""
        self._asking = threading.Lock()
        self._closed = threading.Event()
        with self._told(asked_again=False):
            self.redis.ping()
        self.durability = self._durability()

    def commit(self, entries: Sequence[Entry], update: Update) -> list[bool]:
        """Keep entries in one MULTI."""
        keys = [_PREFIX + b"id:" + digest(entry.id) for entry in entries]
        viewers = sorted({entry.viewer_id for entry in entries})
        with self._told(), self.redis.pipeline() as pipe:
            for _ in range(_TRIES):
                try:
                    pipe.watch(*keys, *(_viewer(viewer_id) for viewer_id in viewers))
                    new = self._try_commit(pipe, entries, keys, update)
                except redis.WatchError:
                    continue
                return new
        raise StateError(
            f"{self.url}: {len(entries)} events were changed by others {_TRIES} times while they "
            "were kept; they must be left alone once. Send them again."
        )

    def read(self, viewer_id: str) -> bytes | None:
        """Return a viewer's bytes."""
        with self._told():
            found: bytes | None = self.redis.get(_viewer(viewer_id))
            return found

    def forget(self, viewer_id: str, notice: bytes | None = None) -> bool:
        """Delete a viewer's bytes."""
        with self._told(), self.redis.pipeline() as pipe:
            pipe.delete(_viewer(viewer_id)).zrem(TOUCHED, viewer_id)
            if notice is not None:
                pipe.xadd(LOG, {"p": notice})
            return bool(pipe.execute()[0])

    def load(self, viewers: Sequence[tuple[str, bytes]], now_s: int) -> None:
        """Write many viewers at once."""
        with self._told(), self.redis.pipeline(transaction=False) as pipe:
            for place, (viewer_id, past) in enumerate(viewers):
                pipe.set(_viewer(viewer_id), past).zadd(TOUCHED, {viewer_id: now_s})
                if place % 1000 == 999:
                    pipe.execute()
            pipe.execute()

    def follow(self, after: str, at_most: int = 1000) -> list[Logged]:
        """Return lines after a cursor."""
        with self._told():
            start = "-" if after == START else f"({after}"
            lines = self.redis.xrange(LOG, start, "+", count=at_most)
            return [Logged(cursor.decode(), fields[b"p"]) for cursor, fields in lines]

    def end(self) -> str:
        """Return the newest cursor."""
        with self._told():
            if not self.redis.exists(LOG):
                return START
            newest: bytes = self.redis.xinfo_stream(LOG)["last-generated-id"]
            return newest.decode()  # also where that line was erased

    def begin(self) -> str:
        """Return the oldest cursor."""
        with self._told(), self.redis.pipeline() as pipe:
            lines, noted = pipe.xrange(LOG, count=1).get(BEGIN).execute()
        found: bytes | None = noted or (lines[0][0] if lines else None)
        return self.end() if found is None else found.decode()

    def erase(self, cursors: Sequence[str]) -> None:
        """Delete lines of the stream, remembering where it began."""
        begin = self.begin()
        with self._told(), self.redis.pipeline() as pipe:
            if cursors:
                pipe.set(BEGIN, begin, nx=True).xdel(LOG, *cursors)  # a cut meanwhile has set it
                pipe.execute()

    def get(self, name: str) -> Document | None:
        """Return a document."""
        with self._told(), self.redis.pipeline() as pipe:
            value, version = pipe.hget(DOCUMENTS, name).hget(VERSIONS, name).execute()
            return None if value is None else Document(int(version), value)

    def names(self, prefix: str) -> list[str]:
        """Return the names that begin so."""
        with self._told():
            names = (name.decode() for name in self.redis.hkeys(DOCUMENTS))
            return sorted(name for name in names if name.startswith(prefix))

    def put(self, name: str, value: bytes, notice: bytes | None = None) -> int:
        """Write a document and its notice."""
        with self._told(), self.redis.pipeline() as pipe:
            pipe.hset(DOCUMENTS, name, value).hincrby(VERSIONS, name)
            if notice is not None:
                pipe.xadd(LOG, {"p": notice})
            return int(pipe.execute()[1])

    def put_all(self, documents: Sequence[tuple[str, bytes, bytes]]) -> None:
        """Write many documents and their notices."""
        with self._told(), self.redis.pipeline() as pipe:
            for name, value, notice in documents:
                pipe.hset(DOCUMENTS, name, value).hincrby(VERSIONS, name)
                pipe.xadd(LOG, {"p": notice})
            pipe.execute()

    def prune(self, settings: StateSettings, now_s: int, keep_after: str) -> int:
        """Forget what is past its time or number."""
        gone = 0
        with self._told():
            oldest = now_s - settings.viewer_days * 86_400
            while stale := self.redis.zrangebyscore(TOUCHED, "-inf", f"({oldest}", 0, 1000):
                gone += self._drop(stale)
            surplus = self.redis.zcard(TOUCHED) - settings.viewers_at_most
            if surplus > 0:
                gone += self._drop(self.redis.zrange(TOUCHED, 0, surplus - 1))
            if keep_after != START:
                kept_ms, place = (int(part) for part in keep_after.split("-"))
                past_days_ms = (now_s - settings.log_days * 86_400) * 1000
                first = f"{kept_ms}-{place + 1}" if kept_ms < past_days_ms else f"{past_days_ms}-0"
                self._cut(first)
        return gone

    def num_viewers(self) -> int:
        """Count the viewers."""
        with self._told():
            return int(self.redis.zcard(TOUCHED))

    def num_bytes(self) -> int:
        """Return what Redis says it holds."""
        with self._told():
            return int(self.redis.info("memory")["used_memory_dataset"])

    def close(self) -> None:
        """Close the connections."""
        self._closed.set()
        self.redis.close()

    def _try_commit(
        self,
        pipe: Any,
        entries: Sequence[Entry],
        keys: Sequence[bytes],
        update: Update,
    ) -> list[bool]:
        seen, new = set(), []
        for key, held in zip(keys, pipe.mget(keys), strict=True):
            new.append(held is None and key not in seen)
            seen.add(key)
        by_viewer: dict[str, list[int]] = {}
        for place, entry in enumerate(entries):
            if new[place]:
                by_viewer.setdefault(entry.viewer_id, []).append(place)
        changed = []
        for viewer_id, places in by_viewer.items():
            before: bytes | None = pipe.get(_viewer(viewer_id))
            changed.append(
                (viewer_id, *update(viewer_id, before, [entries[p].item for p in places]))
            )
        pipe.multi()
        for key, fresh in zip(keys, new, strict=True):
            if fresh:
                pipe.set(key, b"", ex=self.log_s)
        now_s = int(time.time())
        for viewer_id, past, payloads in changed:
            if past is not None and viewer_id:
                pipe.set(_viewer(viewer_id), past).zadd(TOUCHED, {viewer_id: now_s})
            for payload in payloads:
                pipe.xadd(LOG, {"p": payload})
        pipe.execute()
        return new

    def _cut(self, first: str) -> None:
        """Drop lines before a place and note that the log begins after the last of them."""

        def cut(pipe: Any) -> None:
            gone = self.redis.xrevrange(LOG, f"({first}", "-", count=1)
            pipe.multi()
            if gone:
                last_ms, place = gone[0][0].decode().split("-")
                begin = f"{last_ms}-{int(place) + 1}"
                pipe.xtrim(LOG, minid=first, approximate=False).set(BEGIN, begin)

        self.redis.transaction(cut, BEGIN)

    def _drop(self, viewers: Sequence[bytes]) -> int:
        with self.redis.pipeline() as pipe:
            pipe.delete(*(_PREFIX + b"viewer:" + viewer for viewer in viewers))
            pipe.zrem(TOUCHED, *viewers)
            pipe.execute()
        return len(viewers)

    def _durability(self) -> str:
        try:
            said = self.redis.config_get("append*")
        except redis.RedisError:
            return "unknown: this Redis does not tell its settings"
        if said.get("appendonly") == "yes" and said.get("appendfsync") == "always":
            return "on disk before the answer"
        return (
            f"weaker than promised: appendonly {said.get('appendonly')}, appendfsync "
            f"{said.get('appendfsync')}; set them to yes and always"
        )

    def _ask_again(self) -> None:
        """Ask, beside everybody, until the server answers."""
        while not self._closed.wait(_ASKED_EVERY_S):
            with contextlib.suppress(redis.RedisError, OSError):
                self.redis.ping()
                break
        self._out = None

    @contextlib.contextmanager
    def _told(self, *, asked_again: bool = True) -> Iterator[None]:
        if self._out is not None:
            raise StateError(self._out)
        try:
            yield
        except redis.WatchError:
            raise
        except redis.OutOfMemoryError as problem:
            raise StorageError(
                f"Redis at {self.url} is full: {problem}. Nothing was kept. Raise its maxmemory."
            ) from problem
        except redis.ResponseError as problem:
            if "MISCONF" in str(problem):
                raise StorageError(
                    f"Redis at {self.url} cannot write its disk: {problem}. Nothing was kept. "
                    "Free some space there."
                ) from problem
            raise StateError(
                f"Redis at {self.url} refused: {problem}; it must be a Redis 6.2 or later with "
                "nothing else under `skipwise:`. Give another --state."
            ) from problem
        except redis.AuthenticationError as problem:
            raise StateError(
                f"Redis at {self.url} wants a password, or another: {problem}; --state must hold "
                "it. Give redis://:PASSWORD@HOST:PORT."
            ) from problem
        except (redis.RedisError, OSError) as problem:
            told = (
                f"Redis at {self.url} cannot be reached: {problem}; it must answer within 2 s. "
                "Start it, or give another --state."
            )
            with self._asking:
                if asked_again and self._out is None:
                    self._out = told
                    threading.Thread(target=self._ask_again, name="redis", daemon=True).start()
            raise StateError(told) from problem


def _viewer(viewer_id: str) -> bytes:
    return _PREFIX + b"viewer:" + viewer_id.encode()
