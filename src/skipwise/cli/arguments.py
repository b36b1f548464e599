"""How commands turn words into settings, days and an engine.

    preset or default -> --config FILE -> key=value ...  ->  settings_from  ->  checked settings

Is read by the commands.
"""

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import duckdb
import ibis
from ibis.backends.duckdb import Backend as Connection

from skipwise.engine import check_memory
from skipwise.errors import SettingError, StorageError
from skipwise.settings import apply_settings, check_setting, parse_overrides, read_settings_file

Settings = TypeVar("Settings")

MEMORY_GIB = 4.0
"""What the data engine may take by default; beyond it spills to disk."""

_DISK_IS_FULL = ("no space left", "disk quota", "max_temp_directory_size")
"""How the engine's messages say so."""


def settings_from(start: Settings, config: Path | None, overrides: list[str] | None) -> Settings:
    """Apply a TOML file, then key=value words, to a settings dataclass.

    Raises:
        SettingError: An unknown key, a wrong type, a value out of range.
    """
    if config is not None:
        start = apply_settings(start, read_settings_file(config))
    return apply_settings(start, parse_overrides(overrides or []))


def day_from(text: str, option: str) -> int:
    """Turn `2022-04-25` or `20220425` into days since 1970-01-01.

    Raises:
        SettingError: It is no day.

    >>> day_from("1970-01-11", "--until")
    10
    """
    try:
        day = datetime.date.fromisoformat(text)
    except ValueError:
        raise SettingError(
            f"{option} {text} is not a day; it must read like 2022-05-01. Mend it."
        ) from None
    return (day - datetime.date(1970, 1, 1)).days


@contextmanager
def data_engine(memory_gib: float = MEMORY_GIB, threads: int = 0) -> Iterator[Connection]:
    """Give a data engine that keeps to a memory limit, spilling to a folder that goes with it.

    Args:
        memory_gib: Memory it may take, GiB.
        threads: CPU threads; 0 = all.

    Raises:
        SettingError: A value is out of range, or there is not so much memory.
        StorageError: The engine ran out of memory or disk on the way.
    """
    check_setting("--memory", memory_gib, at_least=0.5, at_most=100_000)
    check_setting("--threads", threads, at_least=0, at_most=1024)
    check_memory(memory_gib, "--memory")
    with TemporaryDirectory(prefix="skipwise-") as folder:
        settings = {"memory_limit": f"{memory_gib:g}GiB", "temp_directory": folder}
        if threads:
            settings["threads"] = str(threads)
        connection = ibis.duckdb.connect(str(Path(folder) / "engine.duckdb"), **settings)
        try:
            yield connection
        except (duckdb.IOException, duckdb.OutOfMemoryException) as problem:
            raise _said_plainly(problem, memory_gib, folder) from problem
        finally:
            connection.disconnect()


def _said_plainly(problem: duckdb.Error, memory_gib: float, folder: str) -> StorageError:
    """Tell an engine without room from one that cannot use a file."""
    what = (str(problem).splitlines() or ["no reason given"])[0].rstrip(". ")
    full = any(words in str(problem).lower() for words in _DISK_IS_FULL)
    if full or isinstance(problem, duckdb.OutOfMemoryException):
        return StorageError(
            f"the data engine ran out of room: {what}. It may take {memory_gib:g} GiB of memory "
            f"and what {folder} holds of disk. Raise --memory, or free some disk; nothing "
            "half-written was left."
        )
    return StorageError(
        f"the data engine could not use a file: {what}. It must be able to read the log and to "
        f"write in {folder}. Check that they are there, whole and allowed to you."
    )
