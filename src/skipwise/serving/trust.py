"""Who may ask for what, and how often: keys with scopes, and a measure of requests.

    keys file (JSON)  ->  Keys  ->  Keys.holder(token)  ->  Holder, or None
    Holder, now       ->  RateLimit.take  ->  seconds to wait; 0 = go on

- A key is shown once, when it is made; the file holds its SHA-256 (a key is 256 bits of chance:
  there is nothing to guess, so nothing to slow down).
- A running server takes over what the file says as soon as it changes: a key made since opens, one
  taken out does not. A file that is gone or damaged meanwhile changes nothing, and is logged.
- Without a file there are no keys, and a server answers on the loopback interface only.

Reads `errors`, `settings` and `storage`; is read by `app` and the command line.
"""

import hashlib
import hmac
import ipaddress
import json
import logging
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from skipwise.errors import SettingError
from skipwise.settings import check_choice
from skipwise.storage import write_json

log = logging.getLogger("skipwise.serving")

Scope = Literal["feed", "events", "admin"]
SCOPES: tuple[Scope, ...] = ("feed", "events", "admin")
_HOLDERS_AT_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose key it is, and what it opens."""

    name: str
    scopes: frozenset[str]


EVERYBODY = Holder("loopback", frozenset(SCOPES))
"""Who asks where there are no keys."""


class Keys:
    """The keys of a server, as its file says now."""

    def __init__(self, path: Path) -> None:
        """Read a keys file.

        Raises:
            SettingError: It is missing or is no keys file.
        """
        self._path = path
        self._seen = _version(path)
        self._holders = _holders(path)

    def holder(self, token: str) -> Holder | None:
        """Return whose key a token is; the file is looked at, and read where it has changed."""
        self._follow()
        hashed = _hash(token)
        for known, holder in self._holders.items():
            if hmac.compare_digest(known, hashed):
                return holder
        return None

    def _follow(self) -> None:
        version = _version(self._path)
        if version == self._seen:
            return
        self._seen = version
        try:
            self._holders = _holders(self._path)
        except SettingError as problem:
            log.warning("the keys stay as they were: %s", problem)


def add_key(path: Path, name: str, scopes: list[str]) -> str:
    """Make a key, keep its hash in the file, and return it: it cannot be read again.

    Raises:
        SettingError: An unknown scope, or the name is taken.
    """
    for scope in scopes:
        check_choice("--scopes", scope, SCOPES)
    entries = _entries(path) if path.exists() else []
    if any(entry["name"] == name for entry in entries):
        raise SettingError(f"{path} has a key {name!r} already; names must differ. Choose another.")
    token = secrets.token_urlsafe(32)
    write_json(path, [*entries, {"name": name, "scopes": scopes, "sha256": _hash(token)}])
    path.chmod(0o600)
    return token


def check_reach(host: str, keys: Path | None) -> None:
    """Refuse to answer others without keys.

    Raises:
        SettingError: The host is not loopback and there is no keys file.
    """
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if keys is None and not loopback:
        raise SettingError(
            f"--host {host} can be reached from elsewhere, where keys must be asked for. Make one "
            "with `skipwise key NAME --keys FILE` and give --keys FILE, or use --host 127.0.0.1."
        )


class RateLimit:
    """A bucket of requests per holder, refilled evenly."""

    def __init__(self, per_second: float, burst: float) -> None:
        self.per_second, self.burst = per_second, burst
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, now_s: float) -> float:
        """Take one request; returns 0, or how many seconds to wait.

        Args:
            name: Whose.
            now_s: A clock that does not go back.
        """
        left, at = self._left.pop(name, (self.burst, now_s))
        left = min(self.burst, left + max(now_s - at, 0.0) * self.per_second)
        wait = 0.0 if left >= 1 else (1 - left) / self.per_second
        self._left[name] = (left - 1 if left >= 1 else left, now_s)
        if len(self._left) > _HOLDERS_AT_MOST:
            self._left.popitem(last=False)
        return wait


def _version(path: Path) -> tuple[int, ...]:
    """What changes with a file: it is written aside and renamed, so its number does, too."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _holders(path: Path) -> dict[str, Holder]:
    return {str(entry["sha256"]): _holder(entry, path) for entry in _entries(path)}


def _entries(path: Path) -> list[dict[str, object]]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        well = isinstance(entries, list) and all(
            {"name", "scopes", "sha256"} <= e.keys() for e in entries
        )
    except (OSError, ValueError, AttributeError):
        well = False
    if not well:
        raise SettingError(
            f"{path} is not a keys file; it must be one that `skipwise key` wrote. "
            "Make one with `skipwise key NAME --keys FILE`."
        )
    return list(entries)


def _holder(entry: dict[str, object], path: Path) -> Holder:
    scopes = entry["scopes"]
    if not isinstance(scopes, list) or not set(scopes) <= set(SCOPES):
        raise SettingError(
            f"{path}: key {entry['name']!r} has scopes {scopes!r}, must be some of "
            f"{', '.join(SCOPES)}. Mend that line."
        )
    return Holder(str(entry["name"]), frozenset(scopes))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
