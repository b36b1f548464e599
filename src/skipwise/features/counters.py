"""How often a video, an author, a topic or a viewer was watched, skipped or liked before now.

    events (N), videos, asks (A)  ->  counters_as_of_*  ->  (A, K) float32, one row per ask

- As of the event: outcomes with `known_at_ms <= requested_at_ms` (ties: known first). As of a
  day D: outcomes with `known_day < D`. Nothing later can be seen.
- An outcome weighs `2 ** -((clock_day(ask) - clock_day(known)) / half_life_days)`; within a day 1.
- Per key there is one merged stream of outcomes and asks, and one running sum over it: one sort.
- Outcomes known at the same instant are first counted as whole numbers: a history without times
  becomes one row per key.
- An unknown author, surface or topic (code 0) counts nothing and reads zero.

Reads coded events (`prepare`); is read by `prepare` and evaluation. `live` is the same, one by one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ibis
from ibis import _
from ibis.expr.types import FloatingValue, IntegerValue, Table

from skipwise.errors import SettingError
from skipwise.settings import check_choice, check_setting

KEYS: Mapping[str, tuple[str, ...]] = {
    "video": ("video",),
    "author": ("author",),
    "topic": ("topic",),
    "viewer": ("viewer",),
    "viewer_author": ("viewer", "author"),
    "viewer_topic": ("viewer", "topic"),
    "viewer_surface": ("viewer", "surface"),
    "viewer_video": ("viewer", "video"),
}
"""What is counted: the columns of each key, in the order of the counters."""

COUNTABLE = ("glance", "effective", "long", "like", "click")
"""Objectives that may be counted, in the order of the counters."""

MAY_BE_UNKNOWN = ("author", "topic", "surface")
"""Columns in which code 0 means unknown."""

_WIDEST_HALF_LIVES = 2000.0
"""Days a log may span, in half-lives: `2 ** +-1000` around its middle is what float64 carries."""

Keep = Callable[[str, Table], Table]


@dataclass(frozen=True, kw_only=True, slots=True)
class CounterConfig:
    """What is counted, and how fast it is forgotten."""

    half_life_days: float | None = 7.0
    """After so many days an outcome weighs half; none: never forgotten."""
    counted: tuple[str, ...] = COUNTABLE
    """Objectives counted; one that the log cannot answer is left out by `prepare`."""

    def __post_init__(self) -> None:
        if self.half_life_days is not None:
            check_setting("half_life_days", self.half_life_days, above=0)
        for place, objective in enumerate(self.counted):
            check_choice(f"counted[{place}]", objective, COUNTABLE)
        if len(set(self.counted)) < len(self.counted):
            raise SettingError(
                f"counted = {self.counted} names an objective twice, must name each once. "
                "Take one out."
            )


def counter_names(counted: tuple[str, ...]) -> tuple[str, ...]:
    """Name the counters in column order: per key, views, then known and positive per objective.

    >>> counter_names(("glance",))[:6]
    ('video.views', 'video.glance_known', 'video.glance', 'author.views', 'author.glance_known', \
'author.glance')
    """
    return tuple(f"{key}.{sum_name}" for key in KEYS for sum_name in sum_names(counted))


def sum_names(counted: tuple[str, ...]) -> tuple[str, ...]:
    """Name the sums held per key, always in the order of `COUNTABLE`.

    >>> sum_names(("like",))
    ('views', 'like_known', 'like')
    """
    chosen = [objective for objective in COUNTABLE if objective in counted]
    return ("views", *(name for each in chosen for name in (f"{each}_known", each)))


def counters_as_of_event(
    events: Table, videos: Table, config: CounterConfig, keep: Keep = lambda _, table: table
) -> Table:
    """Count, for every timed event, what was known when its slate was requested.

    Args:
        events: (N) coded events: `source_order, viewer, video, surface` (codes), `requested_at_ms`
            (-1: never asks), `known_at_ms`, `known_clock_day`, `asked_clock_day` and
            `label_<objective>` (-1 unknown, 0, 1) for each counted one.
        videos: `video, author, topics`: a code, the author's (0 unknown), distinct topic codes.
        config: What is counted.
        keep: Where intermediate tables go: given a name and a table, returns what to read on.

    Returns:
        (A) rows: `ask_id` (the event's `source_order`) and the counters, float32, in the order of
        `counter_names(config.counted)`.

    Raises:
        SettingError: `half_life_days` is too short for a log as long as this.
    """
    asking = events.filter(events.requested_at_ms >= 0)
    asks = _with_catalogue(asking, videos).select(
        "viewer", "video", "author", "topics", "surface",
        ask_id=_.source_order, moment=_.requested_at_ms, clock_day=_.asked_clock_day,
    )  # fmt: skip
    outcomes = _outcomes(events, videos, events.known_at_ms, config)
    return _count(outcomes, asks, config, keep)


def counters_as_of_day(
    events: Table,
    videos: Table,
    config: CounterConfig,
    asks: Table,
    keep: Keep = lambda _, table: table,
) -> Table:
    """Count, for every ask, what was known before its day began.

    Args:
        events: (N) coded events: `viewer, video, surface, known_day, known_clock_day` and
            `label_<objective>` (-1 unknown, 0, 1) for each counted one.
        videos: `video, author, topics`: a code, the author's (0 unknown), distinct topic codes.
        config: What is counted.
        asks: (A) `ask_id` (unique), `viewer, video, author, topics, surface` (codes; an array of
            codes for topics), `state_day`: the day as of whose start the state is read.
        keep: Where intermediate tables go: given a name and a table, returns what to read on.

    Returns:
        (A) rows: `ask_id` and the counters, float32, in the order of
        `counter_names(config.counted)`.

    Raises:
        SettingError: `half_life_days` is too short for a log as long as this.
    """
    timed_asks = asks.select(
        "ask_id", "viewer", "video", "author", "topics", "surface",
        moment=_.state_day.cast("int64"), clock_day=_.state_day,
    )  # fmt: skip
    usable_from = events.known_day.cast("int64") + 1
    return _count(_outcomes(events, videos, usable_from, config), timed_asks, config, keep)


def _outcomes(
    events: Table, videos: Table, usable_from: IntegerValue, config: CounterConfig
) -> Table:
    """Keep of each event what counters read: its keys, when it counts from, and its labels."""
    labels = [f"label_{objective}" for objective in COUNTABLE if objective in config.counted]
    moments = events.mutate(moment=usable_from, clock_day=events.known_clock_day)
    return _with_catalogue(moments, videos).select(
        "viewer", "video", "author", "topics", "surface", "moment", "clock_day", *labels
    )


def _with_catalogue(events: Table, videos: Table) -> Table:
    catalogue = videos.select("video", "author", "topics")
    return events.left_join(catalogue, "video").drop("video_right")


def _count(outcomes: Table, asks: Table, config: CounterConfig, keep: Keep) -> Table:
    decay = _Decay(config.half_life_days, _middle_day(outcomes, asks, config))
    outcomes, asks = keep("outcomes", outcomes), keep("asks", asks)
    sums = sum_names(config.counted)
    everyone = asks.select("ask_id")
    table = everyone
    for key, columns in KEYS.items():
        counted = keep(f"{key} counters", _count_key(outcomes, asks, columns, config, decay))
        named = {f"{key}.{name}": counted[name] for name in sums}
        counted = counted.select(**{f"{key}.ask_id": counted.ask_id}, **named)
        table = table.left_join(counted, everyone.ask_id == counted[f"{key}.ask_id"])
    zero = ibis.literal(0, type="float32")
    return table.select(
        "ask_id", **{name: table[name].fill_null(zero) for name in counter_names(config.counted)}
    )


def _count_key(
    outcomes: Table, asks: Table, columns: tuple[str, ...], config: CounterConfig, decay: "_Decay"
) -> Table:
    """Run the sums of one key over the merged stream of its outcomes and asks.

    Returns:
        (at most A) rows: `ask_id` and the sums, float32; an ask whose key is unknown has no row.
    """
    sums = sum_names(config.counted)
    asked = _with_key(asks, columns)
    of_asked_keys = _with_key(outcomes, columns).semi_join(asked, list(columns))
    counts = _counts_at_instants(of_asked_keys, columns, sums)
    weight = decay.gain(counts.clock_day)
    stream = counts.select(
        *columns, "moment", "clock_day",
        place=ibis.literal(0, type="int8"),
        ask_id=ibis.null("int64"),
        **{name: counts[name].cast("float64") * weight for name in sums},
    )  # fmt: skip
    stream = stream.union(
        asked.select(
            *columns, "moment",
            clock_day=_.clock_day.cast("int32"),
            place=ibis.literal(1, type="int8"),
            ask_id=_.ask_id.cast("int64"),
            **{name: ibis.literal(0.0) for name in sums},
        )
    )  # fmt: skip
    so_far = ibis.window(
        group_by=columns, order_by=["moment", "place"], preceding=None, following=0
    )
    running = stream.mutate(**{name: stream[name].sum().over(so_far) for name in sums})
    answers = running.filter(running.place == 1)
    loss = decay.loss(answers.clock_day)
    answers = answers.select("ask_id", **{name: answers[name] * loss for name in sums})
    if "topic" in columns:
        answers = answers.group_by("ask_id").aggregate(**{name: _[name].sum() for name in sums})
    return answers.mutate(**{name: answers[name].cast("float32") for name in sums})


def _with_key(rows: Table, columns: tuple[str, ...]) -> Table:
    """Give each row its key columns, one row per topic, without rows whose key is unknown."""
    if "topic" in columns:
        rows = rows.mutate(topic=rows.topics.unnest())
    unknown = [column for column in columns if column in MAY_BE_UNKNOWN]
    return rows.filter([rows[column] > 0 for column in unknown]) if unknown else rows


def _counts_at_instants(outcomes: Table, columns: tuple[str, ...], sums: tuple[str, ...]) -> Table:
    """Count the outcomes of a key that become known at one instant: whole numbers, no rounding."""
    counts: dict[str, Any] = {"views": _.count()}
    for objective in sums[2::2]:
        label = _[f"label_{objective}"]
        counts[f"{objective}_known"] = (label >= 0).cast("int64").sum()
        counts[objective] = (label == 1).cast("int64").sum()
    return (
        outcomes.group_by([*columns, "moment", "clock_day"])
        .aggregate(**counts)
        .mutate(clock_day=_.clock_day.cast("int32"), moment=_.moment.cast("int64"))
    )


@dataclass(frozen=True, slots=True)
class _Decay:
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


def _middle_day(outcomes: Table, asks: Table, config: CounterConfig) -> int:
    """Return the middle of the days that are weighed, refusing more than float64 carries."""
    if config.half_life_days is None:
        return 0
    ends = [
        table.aggregate(first=table.clock_day.min(), last=table.clock_day.max())
        .to_pyarrow()
        .to_pylist()[0]
        for table in (outcomes, asks)
    ]
    days = [day for end in ends for day in end.values() if day is not None]
    if not days:
        return 0
    span = max(days) - min(days)
    if span > _WIDEST_HALF_LIVES * config.half_life_days:
        raise SettingError(
            f"half_life_days = {config.half_life_days:g} with a log of {span} days, must be at "
            f"least {span / _WIDEST_HALF_LIVES:.3g}: weights so far apart cannot be added up. "
            "Raise it, or look for wrong dates in the log."
        )
    return int(max(days) + min(days)) // 2
