"""What other commands wrote into folders beside the run, read again only when it has changed.

    folder of runs, a file's name  ->  found_beside  ->  (path, what its JSON holds), newest first

- What is no JSON, or is gone meanwhile, is passed over: somebody may be writing there.

Knows nobody; is read by `lab` and `front`.
"""

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

_HELD = 128


def found_beside(folder: Path, name: str) -> Iterator[tuple[Path, Any]]:
    """Yield what each `folder/*/name` holds, the one changed last first.

    Args:
        folder: Where runs and results lie side by side.
        name: Of the file, as `tune.json`.
    """
    found = [(_changed(path), path) for path in folder.glob(f"*/{name}")]
    for changed, path in sorted(found, reverse=True):
        try:
            yield path, _read(path, changed)
        except (OSError, ValueError):
            continue


def _changed(path: Path) -> tuple[int, int]:
    """Return when a file was changed last, in ns, and its bytes; zeros where it is gone."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=_HELD)
def _read(path: Path, _changed: tuple[int, int]) -> Any:
    """Read a file as it is since then."""
    return json.loads(path.read_text(encoding="utf-8"))
