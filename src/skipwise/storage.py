"""How a file or a folder comes to be on disk: whole, or not at all.

    write aside (same disk) -> flush to disk -> rename over the old one

- A crash, Ctrl-C or a full disk leaves the old content or nothing, never a half.

Knows nobody; is read by every layer that writes.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from skipwise.errors import SettingError, StorageError


@contextlib.contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Give a temporary path; when the block ends well, it becomes `path` in one step.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with _said_plainly(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield aside
            _flush(aside)
            aside.replace(path)
            _flush(path.parent)
        finally:
            aside.unlink(missing_ok=True)


@contextlib.contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Give an empty temporary folder; when the block ends well, it becomes `path` in one step.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    with _said_plainly(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
        aside.chmod(0o755)
        try:
            yield aside
            for file in sorted(aside.rglob("*")):
                _flush(file)
            _swap(aside, path)
            _flush(path.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def check_replaceable(out: Path, marker: str, what: str) -> None:
    """Refuse to replace anything but what we wrote ourselves, or an empty folder.

    Args:
        out: The folder to be written.
        marker: A file that an earlier one of ours holds.
        what: What ours is called, for the message.

    Raises:
        SettingError: `out` is a file, or a folder that holds something else.
    """
    if not out.exists() or (out / marker).is_file():
        return
    if not out.is_dir() or any(out.iterdir()):
        raise SettingError(
            f"{out} exists and is not {what}; the output must be a new folder, or an earlier one "
            "of its kind to replace. Choose another name."
        )


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, atomically; NaN becomes null.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    with replace_file(path) as aside:
        aside.write_text(
            json.dumps(_without_nan(value), indent=1, allow_nan=False) + "\n", encoding="utf-8"
        )


def append_json_lines(path: Path, rows: Iterable[Any]) -> None:
    """Append a line of JSON for each row; they are on disk when it returns."""
    with path.open("a", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, separators=(",", ":")) + "\n")
        file.flush()
        os.fsync(file.fileno())


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_checksum(value: Any) -> str:
    """Return the SHA-256, in hex, of a value's JSON as `write_json` would keep it.

    The same for what was written and for what is read back: keys sorted, no white space.

    >>> json_checksum({"b": 1, "a": (2.5, math.nan)}) == json_checksum({"a": [2.5, None], "b": 1})
    True
    """
    text = json.dumps(_without_nan(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@contextlib.contextmanager
def _said_plainly(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        if problem.errno == errno.ENOSPC:
            reason, remedy = "the disk is full", "Free some space, or choose another disk"
        elif problem.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            reason, remedy = "the folder may not be written", "Choose a folder of your own"
        elif problem.errno in (errno.ENOTDIR, errno.EISDIR, errno.EFBIG, errno.EDQUOT):
            reason, remedy = str(problem.strerror).lower(), "Choose another place"
        else:
            raise
        raise StorageError(
            f"{path} could not be written: {reason}. Nothing half-written was left. {remedy}."
        ) from problem


def _swap(new: Path, place: Path) -> None:
    """Move a folder into place; an old one is first moved away, then deleted."""
    if place.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=".old", dir=place.parent))
        place.replace(old / "content")
        try:
            new.replace(place)
        except BaseException:
            (old / "content").replace(place)
            raise
        finally:
            shutil.rmtree(old, ignore_errors=True)
    else:
        new.replace(place)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value
