"""Sums over what was known before a day began, and counts of what became known since.

    daily counts, asked days        ->  sums_before_days  ->  decayed sums, a row per key and day
    outcomes, asks of the same days ->  counts_of_today   ->  packed counts, a row per ask

- An outcome weighs the same all day long, so a live counter is a sum as of the start of the asker's
  day, which many asks share, plus whole numbers of that day, which need no decay.
- Whole numbers are packed several to a float64, exact below 2^53, since a running sum costs by the
  column; `unpacked` takes them apart again.
- Joins, groups and running sums alone, so that any engine of Ibis gives the same numbers.

Reads nothing of ours; is read by `counters`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ibis
from ibis import _
from ibis.expr.types import FloatingValue, IntegerValue, Table

Keep = Callable[[str, Table], Table]

EXACT_BITS = 53
"""Bits of the whole numbers that a float64 holds exactly."""


@dataclass(frozen=True, slots=True)
class Decay:
    """Turn the decay between two days into a gain at one and a loss at the other.

    `2 ** -((ask - known) / H) = 2 ** ((known - m) / H) * 2 ** ((m - ask) / H)` for any day m, so
    that one running sum serves every ask. From the middle of the log the exponents are smallest.
    """

    half_life_days: float | None
    middle_day: int

    def gain(self, known_day: IntegerValue) -> FloatingValue:
        """Return the factor of an outcome in the running sum."""
        return self._power(known_day - self.middle_day)

    def loss(self, ask_day: IntegerValue) -> FloatingValue:
        """Return the factor of the running sum at an ask."""
        return self._power(self.middle_day - ask_day)

    def _power(self, days: IntegerValue) -> FloatingValue:
        if self.half_life_days is None:
            return ibis.literal(1.0)
        return ibis.literal(2.0).pow(days.cast("float64") / self.half_life_days)


def daily_counts(outcomes: Table, columns: Sequence[str], sums: Sequence[str]) -> Table:
    """Count the outcomes of each key by the days they became known on.

    Args:
        outcomes: The key's columns, `known_day` (counts from the day after), `clock_day` (weighs by
            this one), and `label_<objective>` (-1 unknown, 0, 1) for each objective of `sums`.
        columns: Columns of the key.
        sums: `views`, then `<objective>_known` and `<objective>` for each objective.

    Returns:
        The key's columns, `known_day`, `clock_day` and the counts (int64).
    """
    return outcomes.group_by([*columns, "known_day", "clock_day"]).aggregate(
        **{name: count.cast("int64") for name, count in _counts(outcomes, sums).items()}
    )


def sums_before_days(
    daily: Table,
    asked: Table,
    columns: Sequence[str],
    sums: Sequence[str],
    *,
    decay: Decay,
    keep: Keep,
) -> Table:
    """Sum, decayed, what each key was known for before each day that is asked for.

    Args:
        daily: From `daily_counts`, or several of them in one.
        asked: The key's columns and `state_day`, in any number of rows.
        columns: Columns of the key.
        sums: Names of the counts.
        decay: How fast it is forgotten.
        keep: Where intermediate tables go.

    Returns:
        The key's columns, `state_day` and the sums (float64), one row per key and day asked for; a
        key of which nothing was known before may have none.
    """
    first = daily.group_by(list(columns)).aggregate(_first_day=_.known_day.min())
    useful = asked.select(*columns, "state_day").distinct().join(first, list(columns))
    useful = useful.filter(useful.state_day > useful["_first_day"]).select(*columns, "state_day")
    useful = keep("days asked for", useful)
    known = daily.semi_join(useful.select(*columns).distinct(), list(columns))
    known = known.mutate(_gain=decay.gain(known.clock_day))
    stream = known.select(
        *columns, "known_day",
        _asks=ibis.literal(0, type="int8"),
        **{name: known[name].cast("float64") * known["_gain"] for name in sums},
    )  # fmt: skip
    stream = stream.union(
        useful.select(
            *columns,
            known_day=useful.state_day.cast("int32"),
            _asks=ibis.literal(1, type="int8"),
            **{name: ibis.literal(0.0) for name in sums},
        )
    )
    merged = stream.group_by([*columns, "known_day"]).aggregate(
        _asks=_["_asks"].max(), **{name: _[name].sum() for name in sums}
    )
    before = ibis.window(group_by=list(columns), order_by="known_day", preceding=(None, 1))
    running = merged.select(
        *columns, "_asks",
        state_day="known_day",
        **{name: merged[name].sum().over(before).fill_null(0.0) for name in sums},
    )  # fmt: skip
    answers = running.filter(running["_asks"] == 1)
    answers = answers.mutate(_loss=decay.loss(answers.state_day))
    return answers.select(
        *columns, "state_day", **{name: answers[name] * answers["_loss"] for name in sums}
    )


@dataclass(frozen=True, slots=True)
class Today:
    """Counts of an ask's own day, packed."""

    table: Table
    """`ask_id`, further columns of the asks as asked for, and `packed_0`, `packed_1`, ..."""
    sums: tuple[str, ...]
    bits: int
    """How many bits each count has."""

    @property
    def packed(self) -> tuple[str, ...]:
        """Names of the packed columns."""
        return tuple(f"packed_{place}" for place in range(-(-len(self.sums) // self._together)))

    def unpacked(self, table: Table, prefix: str = "") -> dict[str, IntegerValue]:
        """Take the counts out of the columns `<prefix>packed_*` of a table; null stays null."""
        mask = (1 << self.bits) - 1
        found = {}
        for place, name in enumerate(self.sums):
            word, shift = divmod(place, self._together)
            column = table[f"{prefix}packed_{word}"].cast("int64")
            found[name] = (column >> (shift * self.bits)) & mask if shift else column & mask
        return found

    @property
    def _together(self) -> int:
        return counts_together(self.bits)


def counts_together(bits: int) -> int:
    """Return how many counts of so many bits go into one float64.

    >>> counts_together(10), counts_together(40)
    (5, 1)
    """
    return max(1, EXACT_BITS // bits)


def counts_of_today(
    outcomes: Table,
    asks: Table,
    columns: Sequence[str],
    sums: Sequence[str],
    *,
    carried: Sequence[str] = (),
    keys_per_ask: int = 1,
    keep: Keep,
) -> Today:
    """Count what became known on the ask's own day, no later than the ask.

    Args:
        outcomes: The key's columns, `clock_day`, `moment` (when it became known) and the labels.
        asks: `ask_id`, the key's columns, `clock_day`, `moment` and the columns of `carried`.
        columns: Columns of the key.
        sums: Names of the counts.
        carried: Columns of the asks to have in the result.
        keys_per_ask: At most so many rows of `asks` share an `ask_id`; their counts are added.
        keep: Where intermediate tables go.

    Returns:
        The counts; an ask before whose moment nothing became known that day may have no row.
    """
    by = [*columns, "clock_day"]
    groups = outcomes.group_by(by).aggregate(_first=_.moment.min(), _views=_.count())
    useful = asks.select("ask_id", *by, "moment", *carried).join(groups, by)
    useful = useful.filter(useful.moment >= useful["_first"]).drop("_first")
    useful = keep("asks of the day", useful)
    known = outcomes.semi_join(useful.select(*by).distinct(), by)
    most = useful["_views"].max().to_pyarrow().as_py() or 1
    found = Today(useful, tuple(sums), (int(most) * keys_per_ask).bit_length())
    nothing = {name: ibis.null(useful[name].type()) for name in carried}
    stream = known.select(
        *by, "moment",
        _asks=ibis.literal(0, type="int8"),
        ask_id=ibis.null("int64"),
        **nothing,
        **_packed(known, found),
    ).union(
        useful.select(
            *by, "moment",
            _asks=ibis.literal(1, type="int8"),
            ask_id=useful.ask_id.cast("int64"),
            **{name: useful[name] for name in carried},
            **{name: ibis.literal(0.0) for name in found.packed},
        )
    )  # fmt: skip
    so_far = ibis.window(group_by=by, order_by=["moment", "_asks"], preceding=None, following=0)
    running = stream.select(
        "ask_id",
        "_asks",
        *carried,
        **{name: stream[name].sum().over(so_far) for name in found.packed},
    )
    answers = running.filter(running["_asks"] == 1).drop("_asks")
    if keys_per_ask > 1:
        answers = answers.group_by(["ask_id", *carried]).aggregate(
            **{name: _[name].sum() for name in found.packed}
        )
    return Today(keep("counts of the day", answers), found.sums, found.bits)


def _counts(outcomes: Table, sums: Sequence[str]) -> dict[str, IntegerValue]:
    return {
        name: outcomes.count() if test is None else test.cast("int64").sum()
        for name, test in _tests(outcomes, sums).items()
    }


def _tests(outcomes: Table, sums: Sequence[str]) -> dict[str, ibis.expr.types.BooleanValue | None]:
    """Say for each sum which outcomes it counts; None: all."""
    tests: dict[str, ibis.expr.types.BooleanValue | None] = {"views": None}
    for objective in sums[2::2]:
        label = outcomes[f"label_{objective}"]
        tests |= {f"{objective}_known": label >= 0, objective: label == 1}
    return tests


def _packed(outcomes: Table, found: Today) -> dict[str, FloatingValue]:
    """Write the counts of single outcomes, 0 or 1 each, into the packed columns."""
    tests = list(_tests(outcomes, found.sums).values())
    together = counts_together(found.bits)
    words: dict[str, FloatingValue] = {}
    for word, name in enumerate(found.packed):
        value: FloatingValue = ibis.literal(0.0)
        for shift, test in enumerate(tests[word * together : (word + 1) * together]):
            unit = float(1 << (shift * found.bits))
            value = value + (unit if test is None else ibis.ifelse(test, unit, 0.0))
        words[name] = value
    return words
