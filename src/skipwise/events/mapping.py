"""Where any other table keeps what, as a mapping file says.

    path (folder or file) + TOML file  ->  mapping_layout  ->  Layout

- A field is a column (`viewer_id = "member"`), a column with its form
  (`watch = { column = "seen", unit = "s" }`) or a constant (`surface = { constant = "feed" }`).
- Times must say how they are written and lengths in which unit: neither is guessed.
- An unknown key is refused with the nearest right one.

`docs/data.md` explains every key. Knows `fields`, `layout`; is read by `sources`.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skipwise.errors import EventError
from skipwise.events.fields import (
    EVENT_FIELDS,
    VIDEO_FIELDS,
    VIEWER_FIELDS,
    Field,
    check_keys,
    group_of,
    read_field,
    text_of,
    truth_of,
)
from skipwise.events.files import DUCKDB_ENDINGS
from skipwise.events.layout import Column, Constant, Layout, TableLayout
from skipwise.events.schema import ExtraColumn, ExtraKind, SourceDescription

_KEYS = ("name", "time_zone", "glance_needs_duration", "events", "videos", "viewers")
_TABLE_KEYS = ("file", "table", "delimiter")


def mapping_layout(path: Path, mapping: Path) -> Layout:
    """Say where a source keeps everything, after its mapping file.

    Args:
        path: The folder the mapping's `file` entries start from, or the one file they all mean.
        mapping: The mapping file.

    Raises:
        EventError: The mapping is missing, is not TOML, or says something that cannot be.
    """
    written = _read(mapping)
    check_keys(written, _KEYS, "", mapping)
    for key in ("time_zone", "events"):
        if key not in written:
            raise EventError(
                f"{mapping} lacks {key}; it must say it. Add {key} (see docs/data.md)."
            )
    videos, video_extras = _catalogue("videos", written, VIDEO_FIELDS, path, mapping)
    viewers, viewer_extras = _catalogue("viewers", written, VIEWER_FIELDS, path, mapping)
    return Layout(
        description=SourceDescription(
            name=text_of(written.get("name", mapping.stem), "name", mapping),
            time_zone=text_of(written["time_zone"], "time_zone", mapping),
            viewer_extras=viewer_extras,
            video_extras=video_extras,
            glance_needs_duration=truth_of(
                written.get("glance_needs_duration", True), "glance_needs_duration", mapping
            ),
        ),
        events=_table("events", written["events"], EVENT_FIELDS, path, mapping),
        videos=videos,
        viewers=viewers,
        to_change_a_unit=f"Set {{setting}} for {{of}} in {mapping}",
    )


def _read(mapping: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(mapping.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EventError(
            f"{mapping} does not exist; --mapping needs a TOML file. Check the path."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as problem:
        raise EventError(f"{mapping} cannot be read as TOML: {problem}. Mend that line.") from None


def _catalogue(
    key: str,
    written: Mapping[str, Any],
    fields: Mapping[str, Field],
    path: Path,
    mapping: Path,
) -> tuple[TableLayout | None, tuple[ExtraColumn, ...]]:
    if key not in written:
        return None, ()
    entries = dict(group_of(written[key], key, mapping))
    declared = group_of(entries.pop("extras", {}), f"{key}.extras", mapping)
    extras, columns = [], {}
    for name, entry in declared.items():
        where = f"{key}.extras.{name}"
        options: Mapping[str, Any] = (
            {"kind": entry} if isinstance(entry, str) else group_of(entry, where, mapping)
        )
        check_keys(options, ("column", "kind"), f"{where}.", mapping)
        if "kind" not in options:
            raise EventError(
                f"{where} in {mapping} lacks kind; it must be 'categorical' or 'numeric'. Add it."
            )
        kind: ExtraKind = options["kind"]
        extras.append(ExtraColumn(name, kind))
        columns[name] = Column(
            written=text_of(options.get("column", name), f"{where}.column", mapping),
            form="text" if kind == "categorical" else "number",
        )
    layout = _table(key, entries, fields, path, mapping, more=columns)
    return layout, tuple(extras)


def _table(
    key: str,
    entries: object,
    fields: Mapping[str, Field],
    path: Path,
    mapping: Path,
    more: Mapping[str, Column] | None = None,
) -> TableLayout:
    group = group_of(entries, key, mapping)
    more_keys = ("extras",) if key != "events" else ()
    check_keys(group, (*_TABLE_KEYS, *fields, *more_keys), f"{key}.", mapping)
    columns: dict[str, Column] = {}
    constants: dict[str, Constant] = {}
    for name, field in fields.items():
        if name not in group:
            if field.needed:
                raise EventError(
                    f"{mapping} lacks {key}.{name}; it must say where that is. Add {name} = "
                    f'"COLUMN" under [{key}] (see docs/data.md).'
                )
            continue
        entry = read_field(group[name], field, f"{key}.{name}", mapping)
        if isinstance(entry, Column):
            columns[field.canonical] = entry
        else:
            constants[field.canonical] = entry
    return TableLayout(
        what={"events": "log", "videos": "video table", "viewers": "viewer table"}[key],
        files=_files(group, key, path, mapping),
        columns=columns | dict(more or {}),
        constants=constants,
        table=None if "table" not in group else text_of(group["table"], f"{key}.table", mapping),
        delimiter=_delimiter(group, key, mapping),
        to_name_a_column=f"Name the right column under [{key}] in {mapping}.",
    )


def _delimiter(group: Mapping[str, Any], key: str, mapping: Path) -> str:
    delimiter = text_of(group.get("delimiter", ","), f"{key}.delimiter", mapping)
    if len(delimiter) != 1 or delimiter in '"\n\r':
        raise EventError(
            f"{key}.delimiter = {delimiter!r} in {mapping}, must be one character that is no quote "
            'and no line break. Write it as ";" or "\\t".'
        )
    return delimiter


def _files(group: Mapping[str, Any], key: str, path: Path, mapping: Path) -> tuple[Path, ...]:
    """List the files of a table: those that `file` means, from the folder, or the path itself."""
    if path.is_file():
        if "file" in group and path.name != group["file"] and not _is_database(path):
            return _matching(group, key, path.parent, mapping)
        return (path,)
    if "file" not in group:
        raise EventError(
            f"{mapping} lacks {key}.file, and {path} is a folder; it must say which file of it. "
            f'Add file = "NAME" under [{key}]; a pattern such as "plays/*.parquet" is allowed.'
        )
    return _matching(group, key, path, mapping)


def _matching(group: Mapping[str, Any], key: str, folder: Path, mapping: Path) -> tuple[Path, ...]:
    pattern = text_of(group["file"], f"{key}.file", mapping)
    if Path(pattern).is_absolute():
        return (Path(pattern),)
    files = tuple(sorted(folder.glob(pattern)))
    if not files:
        raise EventError(
            f"no file in {folder} matches {key}.file = {pattern!r} of {mapping}; at least one "
            "must. Check the name, or give its folder as the path."
        )
    return files


def _is_database(path: Path) -> bool:
    return path.name.lower().endswith(DUCKDB_ENDINGS)
