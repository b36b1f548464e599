"""Whether a log is in the units its layout says.

    staged rows of a log  ->  check_units  ->  nothing, or an EventError that names the setting

- Milliseconds read as seconds make every video last hours; seconds read as milliseconds make every
  video end within its first second. No single row shows it, a whole file does: so each file is
  judged by its quantiles, and refused whole.
- Seconds since 1970 read as milliseconds put every event into January 1970.

Knows `staging`; is read by `read`.
"""

from typing import Any, Literal

from ibis.backends.duckdb import Backend

from skipwise.errors import EventError
from skipwise.events.checks import FIRST_MS, LAST_MS, ReadSettings
from skipwise.events.layout import Layout
from skipwise.events.staging import Staged

_SHORTEST_TYPICAL_S = 1.0
_MOST_LENGTHS_WATCHED = 30.0
_ROWS_TO_JUDGE_A_TAIL = 10
_ROWS_JUDGED = 100_000
"""A file is judged by its first so many rows and, of a longer log, by as many others of all."""


def check_units(
    staged: Staged, layout: Layout, settings: ReadSettings, connection: Backend
) -> None:
    """Refuse a log one of whose files seems to be in other units than its layout says.

    Raises:
        EventError: What the typical value is, what it must be, and which setting to change.
    """
    rows = staged.rows
    apart = 1 + staged.num_rows // _ROWS_JUDGED
    rows = rows.filter((rows.file_row < _ROWS_JUDGED) | (rows.file_row % apart == 0))
    found = rows.group_by("file_ix").agg(
        shown_at=rows.shown_at_ms.approx_quantile(0.5),
        watch=rows.watch_ms.approx_quantile(0.5),
        watch_tail=rows.watch_ms.approx_quantile(0.9),
        watch_top=rows.watch_ms.approx_quantile(0.99),
        duration=rows.duration_ms.approx_quantile(0.5, where=rows.duration_ms > 0),
        duration_tail=rows.duration_ms.approx_quantile(0.9, where=rows.duration_ms > 0),
        num_watches=rows.watch_ms.count(),
    )
    for typical in connection.to_pyarrow(found.order_by("file_ix")).to_pylist():
        place = str(staged.files[typical["file_ix"]])
        _check_time(typical["shown_at"], place, layout)
        _check_duration(typical["duration"], place, layout, settings)
        _check_watch(typical, place, layout, settings)


def _check_time(shown_at_ms: float | None, place: str, layout: Layout) -> None:
    column = layout.events.columns.get("shown_at_ms")
    if column is None or shown_at_ms is None or FIRST_MS <= shown_at_ms <= LAST_MS:
        return
    if column.form == "epoch_ms" and FIRST_MS <= shown_at_ms * 1000 <= LAST_MS:
        seen, right = "seconds since 1970, read as milliseconds", "epoch_s"
    elif column.form == "epoch_s" and FIRST_MS <= shown_at_ms / 1000 <= LAST_MS:
        seen, right = "milliseconds since 1970, read as seconds", "epoch_ms"
    else:
        return  # the rows are refused one by one, each with its value
    advice = layout.to_change_a_unit.format(setting=f'time = "{right}"', of="shown_at")
    raise EventError(
        f"{column.written} in {place} seems to hold {seen}; typical times must lie in the years "
        f"2000-2100. {advice}."
    )


def _check_duration(
    typical_ms: float | None, place: str, layout: Layout, settings: ReadSettings
) -> None:
    column = layout.events.columns.get("duration_ms")
    if column is None or typical_ms is None:
        return
    longest_s = settings.typical_duration_at_most_s
    if typical_ms < _SHORTEST_TYPICAL_S * 1000:
        wanted = f"at least {_SHORTEST_TYPICAL_S:g} s"
        raise _other_unit(layout, "duration", "small", place, typical_ms, wanted)
    if typical_ms > longest_s * 1000:
        wanted = f"at most {longest_s:g} s"
        raise _other_unit(layout, "duration", "large", place, typical_ms, wanted)


def _check_watch(
    typical: dict[str, Any], place: str, layout: Layout, settings: ReadSettings
) -> None:
    column, median_ms = layout.events.columns.get("watch_ms"), typical["watch"]
    if column is None or median_ms is None:
        return
    longest_s, length_ms = settings.typical_watch_at_most_s, typical["duration_tail"]
    if median_ms > longest_s * 1000:
        wanted = f"at most {longest_s:g} s"
        raise _other_unit(layout, "watch", "large", place, median_ms, wanted)
    if typical["num_watches"] < _ROWS_TO_JUDGE_A_TAIL:
        return
    if typical["watch_top"] < _SHORTEST_TYPICAL_S * 1000:
        wanted = f"such that more than 1 % of watches reach {_SHORTEST_TYPICAL_S:g} s"
        raise _other_unit(layout, "watch", "small", place, median_ms, wanted)
    if length_ms is not None and typical["watch_tail"] > _MOST_LENGTHS_WATCHED * length_ms:
        wanted = f"in keeping with durations up to {length_ms / 1000:g} s"
        raise _other_unit(layout, "watch", "large", place, median_ms, wanted)


def _other_unit(
    layout: Layout,
    of: Literal["watch", "duration"],
    seems: Literal["small", "large"],
    place: str,
    median_ms: float,
    wanted: str,
) -> EventError:
    column = layout.events.columns[f"{of}_ms"]
    right = {("ms", "small"): "s", ("s", "large"): "ms"}.get((column.form, seems))
    advice = (
        layout.to_change_a_unit.format(setting=f'unit = "{right}"', of=of)
        if right
        else "Write the column anew, in seconds or milliseconds"
    )
    read_as = "seconds" if column.form == "s" else "milliseconds"
    return EventError(
        f"{column.written} in {place} seems to be in another unit: read as {read_as}, its median "
        f"is {median_ms / 1000:g} s, must be {wanted}. {advice}."
    )
