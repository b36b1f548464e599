"""Where a source keeps each canonical column, and how it is written there.

    path  ->  kuairand | canonical | mapping  ->  Layout  ->  read.read_log

- A source is data, not code: it says which file, which column and which form, and the same few
  functions read them all.

Knows `schema`; is read by every source and by everything that reads rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from skipwise.events.schema import ExtraColumn, SourceDescription

Form = Literal[
    "text",
    "number",
    "whole",
    "flag",
    "ms",
    "s",
    "epoch_ms",
    "epoch_s",
    "iso",
    "day_iso",
    "day_yyyymmdd",
    "policy",
    "random_flag",
    "list",
]
"""How a value is written; `parsing` says what each form takes."""

Constant = str | int | float | bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column of a source."""

    written: str
    """Its name in the source."""

    form: Form = "text"
    """How its values are written."""

    separator: str = ","
    """What stands between the items of a `list`."""

    required: bool = True
    """Whether a file without it is refused; otherwise all its values are unknown, and noted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TableLayout:
    """One table of a source: an event log, a video table or a viewer table."""

    what: str
    """What it is, in messages: `log`, `video table`."""

    files: tuple[Path, ...]
    """CSV, Parquet or DuckDB files, in the order in which their rows count."""

    columns: Mapping[str, Column]
    """Canonical name -> column of the source. What is not named is null in every row."""

    table: str | None = None
    """Name of the table inside a DuckDB file."""

    delimiter: str = ","
    """What stands between the columns of a CSV file."""

    constants: Mapping[str, Constant] = field(default_factory=dict)
    """Canonical name -> the one value it has in every row."""

    counts_back: str | None = None
    """Only for untimed past events: the column that is 0 for a viewer's latest, 1 before it, ..."""

    to_name_a_column: str = "Rename the column, or say with --mapping which one it is."
    """What to do about a column that is not there."""

    may_be_untimed: bool = False
    """Whether a row without time is a past event rather than a mistake."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """A whole source."""

    description: SourceDescription
    events: TableLayout
    history: TableLayout | None = None
    """Past events without times; they come before all others."""
    videos: TableLayout | None = None
    viewers: TableLayout | None = None
    to_change_a_unit: str
    """What a user does when a column turns out to be in another unit; `{of}` stands for the field
    of the mapping and `{setting}` for what to write there."""


def extra_columns(extras: tuple[ExtraColumn, ...], *, required: bool = True) -> dict[str, Column]:
    """Say that every extra column is in its table under its own name."""
    return {
        extra.name: Column(
            written=extra.name,
            form="text" if extra.kind == "categorical" else "number",
            required=required,
        )
        for extra in extras
    }
