"""Where a folder in Skipwise's own form keeps what.

    folder with events.parquet, videos.parquet, viewers.parquet, source.json  ->  canonical_layout
      ->  Layout

- The columns are those of `schema`, as written by `skipwise simulate` or by any other program.
- More rows may stand in `events-00001.parquet`, `events-00002.parquet`, ...: a log that grows.
- `source.json` holds `name`, `time_zone`, the extras, as `{"name": ..., "kind": ...}`, and may say
  `glance_needs_duration`.

Knows `layout`; is read by `read`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skipwise.errors import EventError
from skipwise.events.fields import truth_of
from skipwise.events.layout import Column, Form, Layout, TableLayout, extra_columns
from skipwise.events.schema import FLAGS, ExtraColumn, SourceDescription

EVENTS_FILE = "events.parquet"
VIDEOS_FILE = "videos.parquet"
VIEWERS_FILE = "viewers.parquet"
DESCRIPTION_FILE = "source.json"

_NEEDED = ("viewer_id", "video_id", "shown_at_ms", "watch_ms", "author_id", "topics")

_FORMS: Mapping[str, Form] = {
    "day": "whole",
    "shown_at_ms": "epoch_ms",
    "watch_ms": "ms",
    "duration_ms": "ms",
    "position": "whole",
    "policy": "policy",
    "propensity": "number",
    "topics": "list",
    "uploaded_at_ms": "epoch_ms",
    **dict.fromkeys(FLAGS, "flag"),
}

_EVENTS = (
    *("viewer_id", "video_id", "day", "shown_at_ms", "watch_ms", "duration_ms", "surface"),
    *("request_id", "position", *FLAGS, "policy", "propensity", "variant"),
)
_VIDEOS = ("video_id", "author_id", "topics", "duration_ms", "uploaded_at_ms")


def is_canonical(folder: Path) -> bool:
    """Whether a folder holds tables in Skipwise's own form."""
    return (folder / EVENTS_FILE).is_file()


def canonical_layout(folder: Path) -> Layout:
    """Say where a folder in Skipwise's own form keeps everything.

    Raises:
        EventError: `source.json` is missing, is not JSON, does not say the time zone, or says
            something that cannot be.
    """
    description = _description(folder / DESCRIPTION_FILE)
    return Layout(
        description=description,
        events=TableLayout(
            what="event table",
            files=_event_files(folder),
            columns=_columns(_EVENTS, ()),
            may_be_untimed=True,
        ),
        videos=_catalogue("video table", folder / VIDEOS_FILE, _VIDEOS, description.video_extras),
        viewers=_catalogue(
            "viewer table", folder / VIEWERS_FILE, ("viewer_id",), description.viewer_extras
        ),
        to_change_a_unit="Columns whose name ends in _ms hold milliseconds; write the table anew, "
        "or read it through a mapping file with {setting} for {of}",
    )


def part_name(number: int) -> str:
    """Return the name of the file with more rows of a log that grows, from 1."""
    return f"events-{number:05d}.parquet"


def _event_files(folder: Path) -> tuple[Path, ...]:
    files, number = [folder / EVENTS_FILE], 1
    while (folder / part_name(number)).is_file():
        files.append(folder / part_name(number))
        number += 1
    return tuple(files)


def _catalogue(
    what: str, file: Path, names: tuple[str, ...], extras: tuple[ExtraColumn, ...]
) -> TableLayout | None:
    if not file.is_file():
        return None
    return TableLayout(what=what, files=(file,), columns=_columns(names, extras))


def _columns(names: tuple[str, ...], extras: tuple[ExtraColumn, ...]) -> dict[str, Column]:
    canonical = {
        name: Column(written=name, form=_FORMS.get(name, "text"), required=name in _NEEDED)
        for name in names
    }
    return canonical | extra_columns(extras)


def _description(file: Path) -> SourceDescription:
    try:
        written = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EventError(
            f"{file} does not exist; it must say the time zone and the extra columns of the "
            f'tables beside it. Write {{"name": "my-app", "time_zone": "UTC"}} there.'
        ) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as problem:
        raise EventError(f"{file} is not JSON: {problem}; it must be. Mend it.") from None
    if not isinstance(written, dict) or not isinstance(written.get("time_zone"), str):
        raise EventError(
            f'{file} does not say the time zone; it must hold "time_zone", as "Asia/Shanghai". '
            "Add it."
        )
    return SourceDescription(
        name=str(written.get("name", "skipwise")),
        time_zone=written["time_zone"],
        viewer_extras=_extras(written, "viewer_extras", file),
        video_extras=_extras(written, "video_extras", file),
        glance_needs_duration=truth_of(
            written.get("glance_needs_duration", True), "glance_needs_duration", file
        ),
    )


def _extras(written: dict[str, Any], key: str, file: Path) -> tuple[ExtraColumn, ...]:
    try:
        return tuple(
            ExtraColumn(str(extra["name"]), extra["kind"]) for extra in written.get(key, ())
        )
    except (TypeError, KeyError):
        raise EventError(
            f'{key} in {file} cannot be read; it must be a list of {{"name": ..., "kind": '
            '"categorical" or "numeric"}. Mend it.'
        ) from None
