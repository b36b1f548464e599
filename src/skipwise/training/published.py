"""Which published models are kept on disk?

    FOLDER/model-00007, ...          ->  forget_old   ->  the newest, and what is served
    names that servers answer by     ->  mark_served  ->  FOLDER/served/STATE.json

- A server says what it answers by before it answers by it; so what serves or is on trial is never
  deleted, also while the server is down.
- A mark of a server that is gone for good keeps its models until the file is deleted.

Knows `storage`; is read by `follow` and by `takeover` of serving.
"""

import json
import shutil
from collections.abc import Collection
from pathlib import Path

from skipwise.storage import write_json

SERVED_FOLDER = "served"
_GONE = ".gone-"


def model_name(number: int) -> str:
    """Return the name of the RUN folder of a published model, from 1.

    >>> model_name(7)
    'model-00007'
    """
    return f"model-{number:05d}"


def mark_served(folder: Path, state: str, names: Collection[str]) -> None:
    """Say which models the servers of a state answer by, or may go back to.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    write_json(folder / SERVED_FOLDER / f"{state}.json", {"models": sorted(names)})


def forget_old(folder: Path, published: int, keep: int) -> list[str]:
    """Delete published models but the newest and those that any server has marked.

    Args:
        folder: Where they are published.
        published: Number of the newest.
        keep: How many of the newest stay.

    Returns:
        Names of what was deleted, oldest first; nothing where a mark cannot be read.
    """
    for half_gone in folder.glob(f"{_GONE}*"):
        shutil.rmtree(half_gone, ignore_errors=True)
    try:
        marked = _marked(folder)
    except (OSError, ValueError, KeyError, TypeError):
        return []
    deleted = []
    for number in range(1, published - keep + 1):
        name = model_name(number)
        if name not in marked and (folder / name).is_dir():
            gone = (folder / name).rename(folder / f"{_GONE}{name}")
            shutil.rmtree(gone, ignore_errors=True)
            deleted.append(name)
    return deleted


def _marked(folder: Path) -> set[str]:
    marked: set[str] = set()
    for file in (folder / SERVED_FOLDER).glob("*.json"):
        marked.update(json.loads(file.read_text(encoding="utf-8"))["models"])
    return marked
