"""What a written value means.

    source column + Column (its form)  ->  parse  ->  Parsed: canonical value, and where it failed

- Nothing raises in the middle of a log: a value that cannot be read is null and marked.
- An empty text and NaN are absent, not unreadable.
- A time without an offset is local to the source's time zone.

Knows `layout`; is read by `staging` and `checks`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from skipwise.events.layout import Column, Form

_TRUE = ("1", "1.0", "true", "t", "yes", "y")
_ABSENT = ("", "nan", "NaN", "NaT")
_LARGEST = 2.0**53  # a double holds every whole number below it
_FALSE = ("0", "0.0", "false", "f", "no", "n")
_ZONED = dt.Timestamp(timezone="UTC")
_TEXTS = dt.Array(dt.string)
_OFFSET = r"([Zz]|[+-]\d{2}(:?\d{2})?)$"
_CLOCK = r"\d{2}:\d{2}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Parsed:
    """One column after reading."""

    name: str
    """Its name in the source."""

    written: ir.StringValue
    """The value as text, for examples; null where absent."""

    value: ir.Value
    """The canonical value; null where absent or unreadable."""

    must_be: str
    """What the form takes, in words."""

    always_readable: bool = False
    """Whether the column has the canonical type already: a value is there, or absent."""

    @property
    def absent(self) -> ir.BooleanValue:
        """True where nothing is written; never null."""
        return self.value.isnull() if self.always_readable else self.written.isnull()

    @property
    def unreadable(self) -> ir.BooleanValue:
        """True where something is written that the form does not take; never null."""
        if self.always_readable:
            return ibis.literal(False)
        return self.value.isnull() & self.written.notnull()


@ibis.udf.scalar.builtin(name="timezone", signature=((dt.string, dt.timestamp), _ZONED))
def _instant_of(zone, local):  # type: ignore[no-untyped-def]
    """Return the instant at which the clocks of a zone show a local time."""


@ibis.udf.scalar.builtin(name="timezone", signature=((dt.string, _ZONED), dt.timestamp))
def _local_of(zone, instant):  # type: ignore[no-untyped-def]
    """Return what the clocks of a zone show at an instant."""


@ibis.udf.scalar.builtin(name="epoch_ms", signature=((_ZONED,), dt.int64))
def _epoch_ms(instant):  # type: ignore[no-untyped-def]
    """Return the milliseconds from 1970 to an instant."""


@ibis.udf.scalar.builtin(name="list_distinct", signature=((_TEXTS,), _TEXTS))
def _distinct(items):  # type: ignore[no-untyped-def]
    """Return the different items of a list, in no order: ibis' own looks for nulls, slowly."""


def parse(raw: ir.Value, column: Column, time_zone: str) -> Parsed:
    """Read one column of a source.

    Args:
        raw: The column: text from a CSV file, any type from elsewhere.
        column: How it is written.
        time_zone: The source's zone, for local times.
    """
    if column.form == "list":
        return _list(raw, column)
    text, kind = raw.cast("string"), raw.type()
    may_be_nan = column.form != "text" or kind.is_floating()
    written = ibis.ifelse(text.isin(_ABSENT), None, text) if may_be_nan else text.nullif("")
    reader, must_be = _FORMS[column.form]
    value = _as_it_is(raw, column.form)
    as_it_is = value is not None and not (kind.is_floating() or kind.is_unsigned_integer())
    if value is None:
        value = reader(written, time_zone)
    return Parsed(
        name=column.written,
        written=written,
        value=value,
        must_be=must_be,
        always_readable=as_it_is or (column.form == "text" and kind.is_string()),
    )


def local_day(shown_at_ms: ir.IntegerValue, time_zone: str) -> ir.IntegerValue:
    """Return the calendar day of an instant in a zone, in days since 1970-01-01; null for null."""
    instant = _instant_of("UTC", shown_at_ms.as_timestamp("ms"))
    return _local_of(time_zone, instant).date().epoch_days().cast("int32")


def _as_it_is(raw: ir.Value, form: Form) -> ir.Value | None:
    """Return a column that already has the canonical type, so that nothing is read from text."""
    kind = raw.type()
    if form == "text" and kind.is_integer():
        return raw.cast("string")
    if form == "text" and kind.is_floating():  # ids that went through a float: 5239.0
        return raw.try_cast("int64").cast("string")
    if form in ("whole", "ms", "epoch_ms") and kind.is_integer():
        return raw.try_cast("int64")
    if form == "flag" and kind.is_boolean():
        return raw
    return None


def _text(written: ir.StringValue, _zone: str) -> ir.Value:
    return written


def _number(written: ir.StringValue, _zone: str) -> ir.Value:
    value = written.try_cast("float64")
    return ibis.ifelse(value.abs() < _LARGEST, value, None)


def _times(factor: float) -> Callable[[ir.StringValue, str], ir.Value]:
    def whole(written: ir.StringValue, zone: str) -> ir.Value:
        return (_number(written, zone) * factor).round().cast("int64")

    return whole


def _flag(written: ir.StringValue, _zone: str) -> ir.Value:
    word = written.lower()
    return ibis.cases((word.isin(_TRUE), True), (word.isin(_FALSE), False))


def _random_flag(written: ir.StringValue, zone: str) -> ir.Value:
    is_random = _flag(written, zone)
    return ibis.cases((is_random, "random"), (~is_random, "served"))


def _policy(written: ir.StringValue, _zone: str) -> ir.Value:
    return ibis.ifelse(written.isin(("served", "random")), written, None)


def _iso(written: ir.StringValue, zone: str) -> ir.Value:
    zoned = written.re_search(_CLOCK) & written.re_search(_OFFSET)
    instant = ibis.ifelse(
        zoned, written.try_cast(_ZONED), _instant_of(zone, written.try_cast("timestamp"))
    )
    return _epoch_ms(instant)


def _day_iso(written: ir.StringValue, _zone: str) -> ir.Value:
    return written.try_cast("date").epoch_days().cast("int32")


def _day_yyyymmdd(written: ir.StringValue, zone: str) -> ir.Value:
    dashed = written[0:4] + "-" + written[4:6] + "-" + written[6:8]
    return ibis.ifelse(written.re_search(r"^\d{8}$"), _day_iso(dashed, zone), None)


def _list(raw: ir.Value, column: Column) -> Parsed:
    if isinstance(raw, ir.ArrayValue):
        items = raw.map(lambda item: item.cast("string"))
    else:
        items = raw.cast("string").split(column.separator)
    items = items.map(lambda item: item.strip()).filter(lambda item: item != "")
    return Parsed(
        name=column.written,
        written=raw.cast("string"),
        value=_distinct(items).sort().fill_null(ibis.literal([], type="array<string>")),
        must_be="a list",
    )


_FORMS: dict[str, tuple[Callable[[ir.StringValue, str], ir.Value], str]] = {
    "text": (_text, "a text"),
    "number": (_number, "a number"),
    "whole": (_times(1), "a whole number"),
    "flag": (_flag, "0 or 1"),
    "ms": (_times(1), "a number of milliseconds"),
    "s": (_times(1000), "a number of seconds"),
    "epoch_ms": (_times(1), "milliseconds since 1970"),
    "epoch_s": (_times(1000), "seconds since 1970"),
    "iso": (_iso, "a time such as 2022-04-25 18:30:00"),
    "day_iso": (_day_iso, "a day such as 2022-04-25"),
    "day_yyyymmdd": (_day_yyyymmdd, "a day such as 20220425"),
    "policy": (_policy, "served or random"),
    "random_flag": (_random_flag, "0 or 1"),
}
