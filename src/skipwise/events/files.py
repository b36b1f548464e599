"""How a CSV, Parquet or DuckDB file becomes rows of the engine, with their numbers.

    file  ->  open_rows  ->  OpenFile: ibis table of its columns + `file_row` (0, 1, ... downwards)

- Nothing is read into Python: the engine reads the file when the expression runs.
- A CSV value stays text here; what it means is decided by `parsing`.
- A CSV line that cannot be split into the header's columns is counted with its line, and has no
  row number.

Knows `layout`, `checks`; is read by `staging`.
"""

import contextlib
import csv
import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import duckdb
import ibis
import ibis.expr.types as ir
from ibis.backends.duckdb import Backend
from ibis.util import gen_name

from skipwise.errors import EventError
from skipwise.events.checks import Refusal
from skipwise.events.layout import TableLayout
from skipwise.settings import nearest

CSV_ENDINGS = (".csv", ".tsv", ".csv.gz")
PARQUET_ENDINGS = (".parquet",)
DUCKDB_ENDINGS = (".duckdb", ".ddb", ".db")

_BROKEN_FILE = (
    duckdb.IOException,
    duckdb.InvalidInputException,
    duckdb.SerializationException,
    duckdb.ConversionException,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenFile:
    """A file as the engine sees it."""

    file: Path
    rows: ir.Table
    """Its columns, and `file_row` (int64)."""


@contextlib.contextmanager
def open_rows(file: Path, layout: TableLayout, connection: Backend) -> Iterator[OpenFile]:
    """Open a file while its rows are being read.

    Args:
        file: One file of the layout.
        layout: What it holds.
        connection: The engine.

    Raises:
        EventError: The file is missing, empty, damaged, of a kind that is not read, or lacks a
            required column.
    """
    if not file.is_file():
        raise EventError(
            f"{file} does not exist; the {layout.what} must be a file. Check the path."
        )
    name = file.name.lower()
    with _said_plainly(file, layout):
        if name.endswith(CSV_ENDINGS):
            with _csv(file, layout, connection) as rows:
                yield _numbered(file, layout, rows)
        elif name.endswith(PARQUET_ENDINGS):
            with _parquet(file, connection) as rows:
                yield _numbered(file, layout, rows)
        elif name.endswith(DUCKDB_ENDINGS):
            with _duckdb(file, layout, connection) as rows:
                yield _numbered(file, layout, rows)
        else:
            endings = ", ".join(CSV_ENDINGS + PARQUET_ENDINGS + DUCKDB_ENDINGS)
            raise EventError(
                f"{file} has an ending that is not read; the {layout.what} must end in one of "
                f"{endings}. Rename or convert the file."
            )


def broken_lines(opened: OpenFile, connection: Backend) -> list[Refusal]:
    """Count the lines of a CSV file, once read, that could not be split into columns."""
    if not opened.file.name.lower().endswith(CSV_ENDINGS):
        return []
    lines = connection.table(_REJECTS)
    lines = lines.group_by("line").agg(text=lines.csv_line.max().strip())
    found = lines.agg(
        # a quote that never closes takes the lines below it along: count what was lost
        count=(lines.text.length() - lines.text.replace("\n", "").length() + 1).sum(),
        line=lines.line.min(),
        example=lines.text.argmin(lines.line),
    )
    broken = connection.to_pyarrow(found).to_pylist()[0]
    if not broken["count"]:
        return []
    num_columns = len(opened.rows.columns) - 1
    return [
        Refusal(
            reason=f"the line is not UTF-8 text in the {num_columns} columns of the header",
            count=broken["count"],
            file=str(opened.file),
            line=broken["line"],
            example=broken["example"].splitlines()[0][:80],
        )
    ]


def line_of(file: Path, file_row: int, delimiter: str) -> int:
    """Return the line of a row in a CSV file (header = 1), or its number from 1 elsewhere.

    Blank lines, broken lines and line breaks inside quotes are why a CSV file is read again here;
    only a log with refused rows pays for it.
    """
    if not file.name.lower().endswith(CSV_ENDINGS):
        return file_row + 1
    with _open_text(file) as text:
        reader = csv.reader(text, delimiter=delimiter)
        num_columns, row = len(next(reader)), -1
        line = reader.line_num + 1
        with contextlib.suppress(csv.Error):  # a line of more than 128 kB: the line reached so far
            for fields in reader:
                row += len(fields) == num_columns and not _is_damaged(fields)
                if row == file_row:
                    break
                line = reader.line_num + 1
    return line


def _is_damaged(fields: list[str]) -> bool:
    """Whether a line is not UTF-8: such bytes are read as lone surrogates."""
    return any("\udc80" <= letter <= "\udcff" for field in fields for letter in field)


def _numbered(file: Path, layout: TableLayout, rows: ir.Table) -> OpenFile:
    _check_columns(file, layout, rows.columns)
    if _ROW_NUMBER in rows.columns:
        return OpenFile(file=file, rows=rows.rename(file_row=_ROW_NUMBER))
    return OpenFile(file=file, rows=rows.mutate(file_row=ibis.row_number()))


def _check_columns(file: Path, layout: TableLayout, present: Sequence[str]) -> None:
    needed = [column.written for column in layout.columns.values() if column.required]
    if layout.counts_back:
        needed.append(layout.counts_back)
    for name in needed:
        if name not in present:
            raise EventError(
                f"{file} has no column {name!r}; the {layout.what} must have it, and has "
                f"{', '.join(present)}.{nearest(name, present)} {layout.to_name_a_column}"
            )


_ROW_NUMBER = "file_row_number"
"""The engine's own number of a Parquet row: counting rows ourselves would take one thread."""

_REJECTS = "skipwise_broken_lines"
_SCANS = "skipwise_broken_scans"


@contextlib.contextmanager
def _csv(file: Path, layout: TableLayout, connection: Backend) -> Iterator[ir.Table]:
    names = _header(file, layout)
    _check_columns(file, layout, names)
    view = gen_name("skipwise_csv")
    rows = connection.read_csv(
        str(file),
        table_name=view,
        auto_detect=False,
        columns=dict.fromkeys(names, "VARCHAR"),
        header=True,
        delim=layout.delimiter,
        quote='"',
        escape='"',
        ignore_errors=True,
        store_rejects=True,
        rejects_table=_REJECTS,
        rejects_scan=_SCANS,
    )
    try:
        yield _with_all_columns(rows, layout)
    finally:
        connection.drop_view(view, force=True)
        for table in (_REJECTS, _SCANS):
            connection.raw_sql(f"DROP TABLE IF EXISTS {table}")


def _with_all_columns(rows: ir.Table, layout: TableLayout) -> ir.Table:
    """Make the engine read the columns nobody wants too, by a condition that always holds.

    DuckDB 1.4 dies (an internal error that ends the connection) when it stores a line with a broken
    last column and reads only some of the columns.
    """
    wanted = {column.written for column in layout.columns.values()} | {layout.counts_back}
    unwanted = [rows[name] for name in rows.columns if name not in wanted]
    always = [column.length().fill_null(0) >= 0 for column in unwanted]
    return rows.filter(always) if always else rows


def _header(file: Path, layout: TableLayout) -> list[str]:
    with _open_text(file) as text:
        names = next(csv.reader(text, delimiter=layout.delimiter), [])
    if not any(names):
        raise EventError(
            f"{file} is empty; the {layout.what} must begin with a line of column names. "
            "Check that the file was copied whole."
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise EventError(
            f"{file} names the column {twice[0]!r} twice in its header; names must differ. "
            "Rename one of them."
        )
    if "" in names:
        raise EventError(
            f"{file} has no name for column {names.index('') + 1} in its header; every column must "
            "have one. Name it, or take away the delimiter at the end of the lines."
        )
    return names


def _open_text(file: Path) -> TextIO:
    if file.name.lower().endswith(".gz"):
        return gzip.open(file, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="")
    return file.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


@contextlib.contextmanager
def _parquet(file: Path, connection: Backend) -> Iterator[ir.Table]:
    view = gen_name("skipwise_parquet")
    try:
        rows = connection.read_parquet(str(file), table_name=view)
        if _ROW_NUMBER in rows.columns:
            raise EventError(
                f"{file} has a column {_ROW_NUMBER}, a name that the data engine needs; it must "
                "have another. Rename the column."
            )
        yield connection.read_parquet(str(file), table_name=view, file_row_number=True)
    finally:
        connection.drop_view(view, force=True)


@contextlib.contextmanager
def _duckdb(file: Path, layout: TableLayout, connection: Backend) -> Iterator[ir.Table]:
    catalog = gen_name("skipwise_database")
    connection.attach(file, name=catalog, read_only=True)
    try:
        tables = connection.list_tables(database=(catalog, "main"))
        if layout.table not in tables:
            wanted = "names no table" if layout.table is None else f"has no table {layout.table!r}"
            raise EventError(
                f"the {layout.what} in {file} {wanted}; it must be one of {', '.join(tables)}."
                f"{nearest(layout.table or '', tables)} Set table = ... in the mapping."
            )
        yield connection.table(layout.table, database=(catalog, "main"))
    finally:
        connection.detach(catalog)


@contextlib.contextmanager
def _said_plainly(file: Path, layout: TableLayout) -> Iterator[None]:
    try:
        yield
    except _BROKEN_FILE as problem:
        reason = str(problem).splitlines()[0]
        raise EventError(
            f"{file} cannot be read: {reason} The {layout.what} must be a whole file of the kind "
            "its ending says. Check that it was copied whole, or write it anew."
        ) from problem
