"""Which published models are kept on disk?

    FOLDER/model-00007, ...          ->  forget_old   ->  the newest, and what is served
    names that servers answer by     ->  mark_served  ->  FOLDER/served/STATE.json

- A server says what it answers by before it answers by it, whoever changes that, and then looks
  whether it is still there; here a model is put aside first, and comes back where a server has said
  so meanwhile. So what serves or is on trial is never deleted, also while the server is down.
- A mark of a server that is gone for good keeps its models until the file is deleted.

Knows `storage`; is read by `follow` and by `takeover` of serving.
"""

import json
import logging
import shutil
from collections.abc import Collection
from pathlib import Path

from skipwise.storage import write_json

LATEST_FILE = "latest.json"
"""Names the newest model in the folder."""
SERVED_FOLDER = "served"
_GONE = ".gone-"

log = logging.getLogger("skipwise.training")


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
    """Delete published models but the newest and those that any server answers by.

    Args:
        folder: Where they are published.
        published: Number of the newest.
        keep: How many of the newest stay.

    Returns:
        Names of what was deleted, oldest first; no more from where a mark cannot be read,
        or a folder cannot be renamed: that is logged, and tried again the next time.
    """
    deleted = []
    try:
        served = _served(folder)
        for half_gone in folder.glob(f"{_GONE}*"):
            _delete_unless(half_gone, served)
        for number in range(1, published - keep + 1):
            name = model_name(number)
            if name not in served and (folder / name).is_dir():
                gone = (folder / name).rename(folder / f"{_GONE}{name}")
                if _delete_unless(gone, _served(folder)):
                    deleted.append(name)
    except (OSError, ValueError, KeyError, TypeError) as problem:
        log.warning("old models in %s stay for now: %s", folder, problem)
    return deleted


def _delete_unless(gone: Path, served: Collection[str]) -> bool:
    """Delete a model that was put aside, or put it back where a server answers by it."""
    name = gone.name.removeprefix(_GONE)
    if name in served:
        gone.rename(gone.parent / name)
        return False
    shutil.rmtree(gone, ignore_errors=True)
    return True


def _served(folder: Path) -> set[str]:
    """Return what any server has said it answers by."""
    names: set[str] = set()
    for file in (folder / SERVED_FOLDER).glob("*.json"):
        names.update(json.loads(file.read_text(encoding="utf-8"))["models"])
    return names
