"""What `dataset.json` says: all that the rows themselves do not.

    log, settings, written files  ->  describe  ->  plain values, JSON

- The fingerprint names the content: checksums of the events and catalogues, with the settings. The
  counters follow from those, so they are left out: the last bit of a sum may depend on the number
  of threads that added it up.

Reads what `prepare` has written; is read by `prepare`.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skipwise.events.read import EventLog
from skipwise.features.dataset import FORMAT_VERSION, iso_day
from skipwise.features.soundness import sizes_and_checksums

_NAMED_BY = ("events.arrow", "videos.arrow", "viewers.arrow", "authors.arrow")


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """What was found and written, beside the rows."""

    first_day: int
    last_day: int
    """Calendar days of the timed events, days since 1970-01-01."""
    labels: Mapping[str, Mapping[str, int]]
    """For each label, how many events have it known, and how many positive."""
    counter_names: tuple[str, ...]
    surfaces: list[str]
    topics: list[str]
    """Words in code order; the first has code 1."""
    categories: Mapping[str, Mapping[str, list[str]]]
    """`video_extras`, `viewer_extras`: for each categorical extra its words in code order."""
    row_counts: Mapping[str, int]


def describe(
    folder: Path, log: EventLog, settings: Any, contents: Contents, threads: int
) -> dict[str, Any]:
    """Say what a dataset is.

    Args:
        folder: Holds the finished Arrow files.
        log: Where they come from.
        settings: The `PrepareSettings` they were made with.
        contents: What was found on the way.
        threads: How many files are read at once.

    Returns:
        Plain values for `dataset.json`.
    """
    settings_values, files = dataclasses.asdict(settings), sizes_and_checksums(folder, threads)
    return {
        "format_version": FORMAT_VERSION,
        "fingerprint": _fingerprint(files, settings_values, contents.counter_names),
        "files": files,
        "source": log.description.name,
        "time_zone": log.description.time_zone,
        "first_day": iso_day(contents.first_day),
        "last_day": iso_day(contents.last_day),
        "settings": settings_values,
        "objectives": [name for name, counts in contents.labels.items() if counts["known"]],
        "labels": contents.labels,
        "counter_names": list(contents.counter_names),
        "surfaces": contents.surfaces,
        "topics": contents.topics,
        **{
            table: [_declared(extra, contents.categories[table]) for extra in extras]
            for table, extras in (
                ("video_extras", log.description.video_extras),
                ("viewer_extras", log.description.viewer_extras),
            )
        },
        **contents.row_counts,
        "num_rows_read": log.num_rows_read,
        "refusals": [dataclasses.asdict(refusal) for refusal in log.refusals],
        "notes": [dataclasses.asdict(note) for note in log.notes],
    }


def _declared(extra: Any, categories: Mapping[str, list[str]]) -> dict[str, Any]:
    declared = {"name": extra.name, "kind": extra.kind}
    if extra.name in categories:
        declared["categories"] = categories[extra.name]
    return declared


def _fingerprint(
    files: Mapping[str, Mapping[str, Any]],
    settings: Mapping[str, Any],
    counter_names: tuple[str, ...],
) -> str:
    parts = {
        "format_version": FORMAT_VERSION,
        "files": {name: files[name]["sha256"] for name in _NAMED_BY},
        "settings": settings,
        "counter_names": counter_names,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
