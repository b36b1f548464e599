"""How the files of one table become one table of the engine with every row judged.

    TableLayout + rules  ->  stage  ->  Staged: a table of canonical columns
                                        + `file_ix, file_row, refused, example`

- One pass over each file; a row that breaks a rule is kept here, with its reason, until counted.

Knows `files`, `parsing`, `checks`; is read by `read` and `catalogue`.
"""

import contextlib
import dataclasses
import functools
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import ibis
import ibis.expr.types as ir
from ibis.backends.duckdb import Backend
from ibis.util import gen_name

from skipwise.events.checks import Refusal, Rule, apply_rules
from skipwise.events.files import OpenFile, broken_lines, line_of, open_rows
from skipwise.events.layout import TableLayout
from skipwise.events.notes import Note
from skipwise.events.parsing import Parsed, parse
from skipwise.progress import Progress

_JUDGED = {
    "counts_back": "int64",
    "unreadable": "array<string>",
    "file_ix": "int32",
    "file_row": "int64",
    "refused": "string",
    "example": "string",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Staged:
    """One table of a source, read and judged."""

    what: str
    """What it is, in messages."""

    rows: ir.Table
    """The canonical columns, `counts_back` (int64, null but for untimed events), `unreadable` (the
    columns of the row that could not be read) and `file_ix, file_row, refused, example`."""

    files: tuple[Path, ...]
    """What `file_ix` counts."""

    num_rows: int
    """Rows met, broken lines included."""

    refusals: tuple[Refusal, ...]
    """The rows that are not taken, by reason, most frequent first."""

    counts_back: bool
    """Whether `counts_back` orders the rows of a viewer."""

    absent: tuple[str, ...]
    """Columns of the source that are in none of its files."""

    @property
    def taken(self) -> ir.Table:
        """The rows that broke no rule."""
        return self.rows.filter(self.rows.refused.isnull())


def stage(
    layout: TableLayout,
    schema: ibis.Schema,
    rules: Callable[[Mapping[str, Parsed]], list[Rule]],
    connection: Backend,
    *,
    time_zone: str,
    progress: Progress,
) -> Staged:
    """Read every file of a table.

    Args:
        layout: Where the columns are.
        schema: The canonical columns wanted, in order.
        rules: Lists the reasons to refuse a row, from the parsed columns.
        connection: The engine; the caller drops `rows` when done.
        time_zone: The source's zone.
        progress: Who is told how far it is.

    Raises:
        EventError: A file is missing or cannot be read.
    """
    name = gen_name("skipwise_staged")
    connection.create_table(name, schema=ibis.schema({**schema, **_JUDGED}))
    rows = connection.table(name)
    broken: list[Refusal] = []
    present: set[str] = set()
    try:
        with progress.task(f"read {layout.what}", total=len(layout.files), unit="files") as task:
            for file_ix, file in enumerate(layout.files):
                with open_rows(file, layout, connection) as opened:
                    with _parsed(opened, layout, time_zone, connection) as (table, parsed):
                        judged = _judge(table, parsed, layout, schema, rules(parsed))
                        judged = judged.mutate(file_ix=file_ix).select(rows.columns)
                        connection.insert(name, judged)
                    broken += broken_lines(opened, connection)
                    present |= set(opened.rows.columns)
                task.advance(note=file.name)
    except BaseException:
        connection.drop_table(name)
        raise
    num_rows = int(connection.to_pyarrow(rows.count()).as_py())
    return Staged(
        what=layout.what,
        rows=rows,
        files=layout.files,
        num_rows=num_rows + sum(refusal.count for refusal in broken),
        refusals=tuple(broken + _refusals(rows, layout, connection)),
        counts_back=layout.counts_back is not None,
        absent=tuple(
            column.written for column in layout.columns.values() if column.written not in present
        ),
    )


def absent_columns(staged: Staged) -> list[Note]:
    """Say which columns the source might have and has not."""
    return [
        Note(f"column {name} is not in the {staged.what}, unknown in all rows", staged.num_rows)
        for name in staged.absent
        if staged.files
    ]


@contextlib.contextmanager
def _parsed(
    opened: OpenFile, layout: TableLayout, time_zone: str, connection: Backend
) -> Iterator[tuple[ir.Table, dict[str, Parsed]]]:
    """Give a view in which every column is read once, however many rules ask for it."""
    rows, back = opened.rows, layout.counts_back
    columns = {
        name: parse(rows[column.written], column, time_zone)
        for name, column in layout.columns.items()
        if column.written in rows.columns
    }
    view = gen_name("skipwise_parsed")
    table = connection.create_view(
        view,
        rows.select(
            file_row=rows.file_row,
            counts_back=rows[back].try_cast("int64") if back else ibis.null("int64"),
            **{f"value_{name}": column.value for name, column in columns.items()},
            **{
                f"written_{name}": column.written
                for name, column in columns.items()
                if not column.always_readable
            },
        ),
    )
    try:
        yield table, {name: _seen(column, name, table) for name, column in columns.items()}
    finally:
        connection.drop_view(view)


def _seen(column: Parsed, name: str, table: ir.Table) -> Parsed:
    """Return a column as the view has it.

    What is always readable becomes a text only where an example is shown: as text for every row it
    would take as long as the rest.
    """
    value = table[f"value_{name}"]
    written = value.cast("string") if column.always_readable else table[f"written_{name}"]
    return dataclasses.replace(column, value=value, written=written)


def _judge(
    table: ir.Table,
    parsed: Mapping[str, Parsed],
    layout: TableLayout,
    schema: ibis.Schema,
    rules: list[Rule],
) -> ir.Table:
    """Select the canonical columns of a file, each row with the reason it is refused."""
    reason, example = apply_rules(rules)
    values = {
        name: parsed[name].value if name in parsed else ibis.literal(layout.constants.get(name))
        for name in schema.names
    }
    return table.select(
        **{name: value.cast(schema[name]) for name, value in values.items()},
        counts_back=table.counts_back,
        unreadable=_unreadable(parsed),
        file_row=table.file_row,
        refused=reason,
        example=example,
    )


def _unreadable(parsed: Mapping[str, Parsed]) -> ir.Value:
    """List the columns of a row that could not be read; null, the common case, for none."""
    columns = [column for column in parsed.values() if not column.always_readable]
    if not columns:
        return ibis.null("array<string>")
    names = [ibis.ifelse(column.unreadable, column.name, None) for column in columns]
    some = functools.reduce(operator.or_, (column.unreadable for column in columns))
    return ibis.ifelse(some, ibis.array(names), None).cast("array<string>")


def _refusals(rows: ir.Table, layout: TableLayout, connection: Backend) -> list[Refusal]:
    refused = rows.filter(rows.refused.notnull())
    place = refused.file_ix.cast("int64") * (1 << 40) + refused.file_row
    found = refused.group_by(reason=refused.refused).agg(
        count=refused.count(),
        file_ix=refused.file_ix.argmin(place),
        file_row=refused.file_row.argmin(place),
        example=refused.example.argmin(place),
    )
    found = found.order_by(ibis.desc("count"), "reason")
    return [
        Refusal(
            reason=row["reason"],
            count=row["count"],
            file=str(layout.files[row["file_ix"]]),
            line=line_of(layout.files[row["file_ix"]], row["file_row"], layout.delimiter),
            example=row["example"],
        )
        for row in connection.to_pyarrow(found).to_pylist()
    ]
