"""Which rows are refused, and why.

    parsed columns  ->  event_rules | catalogue_rules: rules  ->  staging marks each refused row
    refused rows    ->  refusals_in: Refusal per reason  ->  stop_if_too_many

- A row is refused for the first rule it breaks, and is counted with that reason, the place of the
  first such row and what is written there.
- A quirk that does not make a row wrong is no refusal: see `notes`.

Knows `parsing`; is read by `staging` and `read`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import ibis
import ibis.expr.types as ir

from skipwise.errors import EventError
from skipwise.events.parsing import Parsed
from skipwise.settings import check_setting

FIRST_MS = 946_684_800_000
"""2000-01-01 UTC: no log is older."""

LAST_MS = 4_102_444_800_000
"""2100-01-01 UTC: no log is younger."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadSettings:
    """What is taken for absurd, and how much of it stops the run."""

    refused_share_at_most: float = 0.01
    """A log of which a larger share of rows is refused is not read at all."""

    watch_at_most_s: float = 86_400.0
    """A longer watch time is absurd: a day."""

    duration_at_most_s: float = 86_400.0
    """A longer video is absurd: a day."""

    typical_watch_at_most_s: float = 1_800.0
    """When the median watch of a file is longer, its unit is doubted."""

    typical_duration_at_most_s: float = 10_800.0
    """When the median duration of a file is longer, its unit is doubted."""

    def __post_init__(self) -> None:
        """Refuse what cannot be a limit.

        Raises:
            SettingError: A setting is out of range.
        """
        check_setting("refused_share_at_most", self.refused_share_at_most, at_least=0, at_most=1)
        for name in (
            "watch_at_most_s",
            "duration_at_most_s",
            "typical_watch_at_most_s",
            "typical_duration_at_most_s",
        ):
            check_setting(name, getattr(self, name), above=0, at_most=1e9)


@dataclass(frozen=True)
class Refusal:
    """How many rows were refused for one reason, and the first of them."""

    reason: str
    """What is wrong, naming the column as the source does."""

    count: int
    """How many rows."""

    file: str
    """The file of the first of them."""

    line: int
    """Its line in a CSV file, the header being line 1; its row, from 1, in Parquet or DuckDB."""

    example: str
    """What is written there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One reason to refuse a row."""

    reason: str
    when: ir.BooleanValue
    """True where the row breaks the rule; never null."""
    example: ir.StringValue
    """What to show of such a row."""


def event_rules(
    parsed: Mapping[str, Parsed], settings: ReadSettings, *, may_be_untimed: bool
) -> list[Rule]:
    """List the rules for rows of a log, by canonical column name, first rule first."""
    needed = ["viewer_id", "video_id"]
    if not may_be_untimed:
        needed += [name for name in ("shown_at_ms", "day") if name in parsed]
    rules = [_missing(parsed[name]) for name in needed]
    rules += [_unreadable(column) for column in parsed.values() if not column.always_readable]
    rules += _out_of_range(parsed, settings)
    return rules


def catalogue_rules(parsed: Mapping[str, Parsed], id_name: str) -> list[Rule]:
    """List the rules for rows of a video or viewer table: only a row without id is refused."""
    return [_missing(parsed[id_name])]


def apply_rules(rules: Iterable[Rule]) -> tuple[ir.StringValue, ir.StringValue]:
    """Return the reason to refuse each row (null = taken) and what to show of it."""
    rules = list(rules)
    reason = ibis.cases(*((rule.when, rule.reason) for rule in rules))
    return reason, ibis.cases(*((rule.when, rule.example) for rule in rules))


def stop_if_too_many(
    refusals: Sequence[Refusal],
    num_rows: int,
    what: str,
    settings: ReadSettings,
    *,
    may_be_empty: bool = True,
) -> None:
    """Stop when more rows of a table were refused than the settings allow.

    Raises:
        EventError: The share of refused rows is above `refused_share_at_most`, or no row is left
            of a table that may not be empty.
    """
    num_refused = sum(refusal.count for refusal in refusals)
    none_left = num_refused == num_rows > 0
    allowed = num_refused <= settings.refused_share_at_most * num_rows
    if allowed and (may_be_empty or not none_left):
        return
    reasons = "\n".join(f"  {describe(refusal)}" for refusal in refusals)
    enough = min(1.0, (1000 * num_refused // num_rows + 1) / 1000)
    told = f"{num_refused:,} of {num_rows:,} rows of the {what} ({num_refused / num_rows:.1%}) are "
    if none_left:
        raise EventError(
            f"{told}refused, so none is left; at least one must be taken:\n{reasons}\n"
            "Mend these rows, or the mapping that names their columns and units."
        )
    raise EventError(
        f"{told}refused, must be at most {settings.refused_share_at_most:.1%}:\n{reasons}\n"
        "Mend these rows, or read the log without them: add "
        f"read.refused_share_at_most={enough:g} to the command."
    )


def describe(refusal: Refusal) -> str:
    """Say a refusal in one line.

    >>> describe(Refusal("play_time_ms is negative", 2, "log.csv", 7, "play_time_ms = '-5'"))
    "play_time_ms is negative: 2 rows, first in log.csv line 7 (play_time_ms = '-5')"
    """
    place = "line" if refusal.file.endswith((".csv", ".tsv", ".csv.gz")) else "row"
    rows = "1 row" if refusal.count == 1 else f"{refusal.count:,} rows"
    return (
        f"{refusal.reason}: {rows}, first in {refusal.file} {place} {refusal.line} "
        f"({refusal.example})"
    )


def _missing(column: Parsed) -> Rule:
    return Rule(
        reason=f"{column.name} is missing",
        when=column.absent,
        example=ibis.literal(f"{column.name} is empty"),
    )


def _unreadable(column: Parsed) -> Rule:
    return Rule(
        reason=f"{column.name} must be {column.must_be}",
        when=column.unreadable,
        example=_shown(column),
    )


def _out_of_range(parsed: Mapping[str, Parsed], settings: ReadSettings) -> list[Rule]:
    longest = {"watch_ms": settings.watch_at_most_s, "duration_ms": settings.duration_at_most_s}
    rules = []
    for name in ("watch_ms", "duration_ms", "position"):
        if name in parsed:
            column = parsed[name]
            rules.append(_rule(column, f"{column.name} is negative", column.value < 0))
            if name in longest:
                absurd = column.value > longest[name] * 1000
                rules.append(_rule(column, f"{column.name} is above {longest[name]:g} s", absurd))
    if "shown_at_ms" in parsed:
        column = parsed["shown_at_ms"]
        outside = ~column.value.between(FIRST_MS, LAST_MS)
        rules.append(_rule(column, f"{column.name} is outside the years 2000-2100", outside))
    if "propensity" in parsed:
        column = parsed["propensity"]
        outside = (column.value <= 0) | (column.value > 1)
        rules.append(_rule(column, f"{column.name} is not above 0 and at most 1", outside))
    return rules


def _rule(column: Parsed, reason: str, when: ir.BooleanValue) -> Rule:
    return Rule(reason=reason, when=when.fill_null(False), example=_shown(column))


def _shown(column: Parsed) -> ir.StringValue:
    return ibis.literal(f"{column.name} = '") + column.written[0:80] + "'"
