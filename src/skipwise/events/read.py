"""What happened, whatever the source it is read from.

    path (folder or file)  ->  read_log  ->  EventLog: events, videos, viewers in the engine

- No row is dropped in silence: a refused row is counted with its reason, its place and what is
  written there; a quirk that makes no row wrong is noted.
- Out of core: rows stay in the engine, only counts and examples come to Python.
- `source_order` puts the untimed past events of a history file before all others, oldest first,
  then the rows as they stand in the files.

Knows every file of this folder; is read by `features` and the command line.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import ibis
import ibis.expr.types as ir
from ibis.backends.duckdb import Backend
from ibis.util import gen_name

from skipwise.errors import EventError
from skipwise.events.catalogue import read_catalogue
from skipwise.events.checks import ReadSettings, Refusal, event_rules, stop_if_too_many
from skipwise.events.layout import Layout, TableLayout
from skipwise.events.notes import Note, count_as_written, notes_in
from skipwise.events.parsing import local_day
from skipwise.events.schema import EVENT_SCHEMA, SourceDescription, video_schema, viewer_schema
from skipwise.events.sources import SOURCES, find_layout
from skipwise.events.staging import Staged, absent_columns, stage
from skipwise.events.units import check_units
from skipwise.progress import SILENT, Progress

__all__ = [
    "DEFAULT_READ_SETTINGS",
    "SOURCES",
    "EventLog",
    "Note",
    "ReadSettings",
    "Refusal",
    "read_log",
]

DEFAULT_READ_SETTINGS = ReadSettings()


@dataclass(frozen=True, kw_only=True, slots=True)
class EventLog:
    """A source as canonical tables; `schema` says what the columns mean."""

    events: ir.Table
    """One row per impression, exactly the columns of `EVENT_SCHEMA`, in no order."""

    videos: ir.Table
    """One row per video of the log or of the source's video table; extras last."""

    viewers: ir.Table
    """One row per viewer of the log or of the source's viewer table; extras last."""

    description: SourceDescription
    """Time zone and extra columns."""

    refusals: tuple[Refusal, ...]
    """The rows that are in no table, by reason."""

    notes: tuple[Note, ...]
    """The quirks that were handled."""

    num_rows_read: int
    """Rows met in the log and its history, refused ones included."""


def read_log(
    path: Path,
    connection: Backend,
    *,
    source: str | None = None,
    mapping: Path | None = None,
    settings: ReadSettings = DEFAULT_READ_SETTINGS,
    progress: Progress = SILENT,
) -> EventLog:
    """Read a source into the engine.

    Args:
        path: A KuaiRand folder, a folder in Skipwise's own form, or what a mapping file describes.
        connection: The engine; new tables are made in it, under names of their own.
        source: One of `SOURCES`; recognised by the folder when None.
        mapping: A mapping file, for any other source.
        settings: What is absurd, and how much may be refused.
        progress: Who is told how far it is.

    Raises:
        EventError: The path or a column is missing, the log is empty or seems to be in other
            units, the mapping is wrong, or too many rows are refused.
        SettingError: `source` is not one of `SOURCES`.
    """
    layout = find_layout(path, source=source, mapping=mapping)
    zone = layout.description.time_zone
    with contextlib.ExitStack() as stack:
        parts = [
            _stage_part(part, zone, settings, connection, progress, stack)
            for part in (layout.history, layout.events)
            if part is not None
        ]
        _check(parts, layout, settings, connection)
        written = count_as_written(parts[-1].taken, connection)
        events = connection.create_view(
            gen_name("skipwise_events"), _in_order(parts, zone, connection)
        )
        stack.pop_all()
    video_table = read_catalogue(
        layout.videos,
        video_schema(layout.description),
        events,
        settings,
        connection,
        time_zone=zone,
        progress=progress,
    )
    viewer_table = read_catalogue(
        layout.viewers,
        viewer_schema(layout.description),
        events,
        settings,
        connection,
        time_zone=zone,
        progress=progress,
    )
    return EventLog(
        events=events,
        videos=video_table.table,
        viewers=viewer_table.table,
        description=layout.description,
        refusals=(
            *(refusal for part in parts for refusal in part.refusals),
            *video_table.refusals,
            *viewer_table.refusals,
        ),
        notes=(
            *notes_in(events, written, zone, connection),
            *(note for part in parts for note in absent_columns(part)),
            *video_table.notes,
            *viewer_table.notes,
        ),
        num_rows_read=sum(part.num_rows for part in parts),
    )


def _stage_part(
    part: TableLayout,
    zone: str,
    settings: ReadSettings,
    connection: Backend,
    progress: Progress,
    stack: contextlib.ExitStack,
) -> Staged:
    """Read the log or its history; the staged table goes if it cannot be used."""
    staged = stage(
        part,
        EVENT_SCHEMA,
        lambda parsed: event_rules(parsed, settings, may_be_untimed=part.may_be_untimed),
        connection,
        time_zone=zone,
        progress=progress,
    )
    stack.callback(connection.drop_table, staged.rows.get_name())
    return staged


def _check(
    parts: list[Staged], layout: Layout, settings: ReadSettings, connection: Backend
) -> None:
    log = parts[-1]
    if log.num_rows == 0:
        raise EventError(
            f"{', '.join(map(str, log.files))} holds no row; a log must hold at least one event. "
            "Check that it was copied whole."
        )
    check_units(log, layout, settings, connection)
    for part in parts:
        empty = part is not log
        stop_if_too_many(part.refusals, part.num_rows, part.what, settings, may_be_empty=empty)


def _in_order(parts: list[Staged], zone: str, connection: Backend) -> ir.Table:
    """Select the rows that are taken, numbered: history oldest first, then file by file.

    The rows of a log stay where they were staged: a copy would take as long as reading them.
    """
    numbered, start = [], 0
    for part in parts:
        taken = part.taken
        if part.counts_back:
            order = [taken.viewer_id, ibis.desc(taken.counts_back), taken.file_ix, taken.file_row]
            number = ibis.row_number().over(ibis.window(order_by=order)) + start
            rows = _canonical(taken.mutate(source_order=number), zone)
            numbered.append(connection.create_table(gen_name("skipwise_history"), rows))
        else:
            number = _file_starts(part, start, connection) + taken.file_row
            numbered.append(_canonical(taken.mutate(source_order=number), zone))
        start += part.num_rows
    return ibis.union(*numbered) if len(numbered) > 1 else numbered[0]


def _file_starts(part: Staged, start: int, connection: Backend) -> ir.IntegerValue:
    """Return the number of the first row of each row's file."""
    counted = part.rows.group_by("file_ix").agg(num_rows=part.rows.file_row.max() + 1)
    sizes = {row["file_ix"]: row["num_rows"] for row in connection.to_pyarrow(counted).to_pylist()}
    starts = [
        start + sum(sizes.get(before, 0) for before in range(ix)) for ix in range(len(part.files))
    ]
    return part.taken.file_ix.cases(*enumerate(starts)).cast("int64")


def _canonical(rows: ir.Table, zone: str) -> ir.Table:
    """Fill in what the canonical form promises: the day of a timed row, the policy, no zeros."""
    timed = rows.shown_at_ms.notnull()
    rows = rows.mutate(
        day=timed.ifelse(rows.day.fill_null(local_day(rows.shown_at_ms, zone)), None),
        duration_ms=rows.duration_ms.nullif(0),
        policy=rows.policy.fill_null("served"),
    )
    return rows.select(**{name: rows[name].cast(kind) for name, kind in EVENT_SCHEMA.items()})
