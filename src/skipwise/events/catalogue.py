"""What is known of every video and every viewer of a log.

    video table or viewer table of a source + ids in the log  ->  read_catalogue
      ->  one row per id: those of the source, then those only the log knows, with nulls

- An id stands once; of several rows with the same id the first is taken, and they are noted.
- A value that cannot be read is unknown and noted; a column most of whose values cannot be read is
  refused, for its form is then not what the layout says.

Knows `staging`, `notes`; is read by `read`.
"""

from dataclasses import dataclass

import ibis
import ibis.expr.types as ir
from ibis.backends.duckdb import Backend
from ibis.util import gen_name

from skipwise.errors import EventError
from skipwise.events.checks import ReadSettings, Refusal, catalogue_rules, stop_if_too_many
from skipwise.events.layout import TableLayout
from skipwise.events.notes import Note, met
from skipwise.events.staging import Staged, absent_columns, stage
from skipwise.progress import Progress

_UNREADABLE_AT_MOST = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Catalogue:
    """A video or viewer table."""

    table: ir.Table
    """Exactly the wanted columns, one row per id, in no order."""

    refusals: tuple[Refusal, ...]
    notes: tuple[Note, ...]


def read_catalogue(
    layout: TableLayout | None,
    schema: ibis.Schema,
    events: ir.Table,
    settings: ReadSettings,
    connection: Backend,
    *,
    time_zone: str,
    progress: Progress,
) -> Catalogue:
    """Read a video or viewer table and complete it with the ids of a log.

    Args:
        layout: Where it is; None when the source has none.
        schema: The columns wanted; the first is the id, named as in `events`.
        events: The event table.
        settings: How much may be refused.
        connection: The engine; the table is made there.
        time_zone: The source's zone.
        progress: Who is told how far it is.

    Raises:
        EventError: A file is missing or damaged, too many rows have no id, or a column is mistyped.
    """
    key = schema.names[0]
    what = f"{key.removesuffix('_id')} table"
    staged = stage(
        layout or TableLayout(what=what, files=(), columns={}),
        schema,
        lambda parsed: catalogue_rules(parsed, key),
        connection,
        time_zone=time_zone,
        progress=progress,
    )
    try:
        stop_if_too_many(staged.refusals, staged.num_rows, what, settings)
        notes = _unreadable(staged, what, connection)
        table = _complete(staged.taken, schema, events, connection)
        notes += _completed(staged, table, connection) + absent_columns(staged)
    finally:
        connection.drop_table(staged.rows.get_name())
    return Catalogue(table=table, refusals=staged.refusals, notes=tuple(notes))


def _complete(
    taken: ir.Table, schema: ibis.Schema, events: ir.Table, connection: Backend
) -> ir.Table:
    """Make the table: the first row of each id, then the ids only the log knows."""
    key = schema.names[0]
    place = ibis.row_number().over(
        ibis.window(group_by=taken[key], order_by=[taken.file_ix, taken.file_row])
    )
    ranked = taken.mutate(place=place)
    listed = ranked.filter(ranked.place == 0).select(*schema.names)
    if "duration_ms" in schema:
        listed = listed.mutate(
            duration_ms=ibis.ifelse(listed.duration_ms > 0, listed.duration_ms, None)
        )
    unlisted = events.select(key).distinct().anti_join(listed, key)
    nothing: dict[str, ir.Value] = {
        name: ibis.literal([] if kind.is_array() else None, type=kind)
        for name, kind in schema.items()
        if name != key
    }
    name = gen_name(f"skipwise_{key.removesuffix('_id')}s")
    everything = listed.union(unlisted.mutate(**nothing).select(*schema.names))
    return connection.create_table(name, everything)


def _completed(staged: Staged, table: ir.Table, connection: Backend) -> list[Note]:
    """Count what was left out of the table, added to it and changed in it."""
    key, taken, what = table.columns[0], staged.taken, staged.what
    no_length = (
        (taken.duration_ms <= 0).sum().fill_null(0)
        if "duration_ms" in table.columns
        else ibis.literal(0)
    )
    found = taken.agg(
        num_rows=taken.count(),
        num_ids=taken[key].nunique(),
        num_all=table.count().as_scalar(),
        no_length=no_length,
    )
    count = connection.to_pyarrow(found).to_pylist()[0]
    kind = f"{key.removesuffix('_id')}s"
    alone = f"{kind} that are not in the {what}" if staged.files else f"{kind}, without a {what}"
    return met(
        (
            Note(
                f"rows of the {what} whose id stood before, left out",
                count["num_rows"] - count["num_ids"],
            ),
            Note(f"{alone}, known by their id alone", count["num_all"] - count["num_ids"]),
            Note(f"durations of 0 or less in the {what}, read as unknown", count["no_length"]),
        )
    )


def _unreadable(staged: Staged, what: str, connection: Backend) -> list[Note]:
    """Count the values that could not be read, by column."""
    taken = staged.taken
    found = taken.select(column=taken.unreadable.unnest()).filter(lambda row: row.column.notnull())
    counts = connection.to_pyarrow(found.group_by("column").agg(count=found.count())).to_pylist()
    for row in counts:
        if row["count"] > _UNREADABLE_AT_MOST * staged.num_rows:
            raise EventError(
                f"{row['column']} of the {what} cannot be read in {row['count']:,} of "
                f"{staged.num_rows:,} rows; its values must have the form the source promises. "
                "Mend the column, or say its form with --mapping."
            )
    return [
        Note(f"values of {row['column']} in the {what} that cannot be read, unknown", row["count"])
        for row in sorted(counts, key=lambda row: str(row["column"]))
    ]
