"""Whether the files of a DATASET are those that were written.

    folder  ->  sizes_and_checksums  ->  what `dataset.json` keeps of each file
    folder, dataset.json  ->  check_sizes (at once), check_contents (reads everything)

- Sizes are compared whenever a dataset is opened, contents before it is trained on, up to
  `READ_UP_TO` bytes in all: beyond, reading would take longer than it is worth unasked.

Reads `storage`; is read by `dataset`, `describe` and `prepare`.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from skipwise.errors import DatasetError
from skipwise.progress import SILENT, Progress
from skipwise.storage import checksum

FILES = (
    "authors.arrow",
    "counters_day.arrow",
    "counters_event.arrow",
    "events.arrow",
    "videos.arrow",
    "viewers.arrow",
)
"""What a dataset holds beside `dataset.json`."""
READ_UP_TO = 4 * 1024**3


def sizes_and_checksums(folder: Path, threads: int) -> dict[str, dict[str, Any]]:
    """Return each file's `bytes` and `sha256`; the longest files begin."""
    sizes = {name: (folder / name).stat().st_size for name in FILES}
    with ThreadPoolExecutor(threads) as pool:
        begun = {
            name: pool.submit(checksum, folder / name)
            for name in sorted(FILES, key=lambda name: -sizes[name])
        }
        return {name: {"bytes": sizes[name], "sha256": begun[name].result()} for name in FILES}


def check_sizes(folder: Path, description: Mapping[str, Any]) -> None:
    """Refuse a folder in which a file is missing or has another size.

    Raises:
        DatasetError: Which one, and how to rebuild only it.
    """
    for name, written in description["files"].items():
        file = folder / name
        found = file.stat().st_size if file.is_file() else None
        if found != written["bytes"]:
            what = "is missing" if found is None else f"has {found:,} bytes"
            raise DatasetError(
                f"{file} {what}, dataset.json says {written['bytes']:,}: it was cut short or "
                f"changed. {how_to_rebuild(folder, name)}"
            )


def check_contents(
    folder: Path, description: Mapping[str, Any], progress: Progress = SILENT
) -> None:
    """Refuse a folder in which a file holds something else than was written; reads it all.

    Raises:
        DatasetError: Which one, and how to rebuild only it.
    """
    files = description["files"]
    with progress.task("checking files", total=len(files), unit="files") as task:
        for name, written in files.items():
            if checksum(folder / name) != written["sha256"]:
                raise DatasetError(
                    f"{folder / name} does not fit its checksum in dataset.json: it was changed "
                    f"after it was written. {how_to_rebuild(folder, name)}"
                )
            task.advance(note=name)


def check_before_training(
    folder: Path, description: Mapping[str, Any], progress: Progress = SILENT
) -> None:
    """Check contents where that does not take long.

    Raises:
        DatasetError: Which file is damaged, and how to rebuild only it.
    """
    if sum(each["bytes"] for each in description["files"].values()) <= READ_UP_TO:
        check_contents(folder, description, progress)


def how_to_rebuild(folder: Path, name: str) -> str:
    """Say how to make one file anew."""
    command = f"skipwise prepare LOG --out {folder} --only {name}"
    return f"Rebuild only it from the same log: `{command}`."
