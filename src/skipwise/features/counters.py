"""How often a video, an author, a topic or a viewer was watched, skipped or liked before now.

    events (N), videos, asks (A)  ->  counters_as_of_*  ->  (A, K) float32, one row per ask

- As of the event: outcomes with `known_at_ms <= requested_at_ms` (ties: known first). As of a
  day D: outcomes with `known_day < D`. Nothing later can be seen.
- An outcome weighs `2 ** -((clock_day(ask) - clock_day(known)) / half_life_days)`; within a day 1.
- A live counter is the sum as of the start of the asker's local day plus the counts of that day
  (`tally`): the first is the same for all who ask on that day.
- Keys of videos alone are counted for the whole log at once (`share`), keys with a viewer for the
  viewers of a form: `spans` gives it some at a time, so memory is bounded by them, not by the log.
- An unknown author, surface or topic (code 0) counts nothing and reads zero.

Reads coded events (`prepare`); is read by `prepare` and evaluation. `live` is the same, one by one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from ibis import _
from ibis.expr.types import NumericValue, Table

from skipwise.errors import SettingError
from skipwise.features.counter_names import (
    COUNTABLE,
    KEYS,
    MAY_BE_UNKNOWN,
    CounterConfig,
    counter_names,
    sum_names,
)
from skipwise.features.tally import (
    Decay,
    Keep,
    Today,
    counts_of_today,
    daily_counts,
    sums_before_days,
)

_WIDEST_HALF_LIVES = 2000.0
"""Days a log may span, in half-lives: `2 ** +-1000` around its middle is what float64 carries."""

_VIDEO_KEYS = ("video", "author", "topic")
"""Keys counted over all viewers."""


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
    form = event_form(events, videos, config)
    shared = share(form, config, keep)
    before = before_today(form, shared, config, keep)
    return assemble(form, before, today(form, shared, config, keep), config)


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
        asks: (A) `ask_id` (unique), `viewer, video, surface` (codes), `state_day`: the day as of
            whose start the state is read.
        keep: Where intermediate tables go: given a name and a table, returns what to read on.

    Returns:
        (A) rows: `ask_id` and the counters, float32, in the order of
        `counter_names(config.counted)`.

    Raises:
        SettingError: `half_life_days` is too short for a log as long as this.
    """
    form = day_form(events, videos, config, asks)
    shared = share(form, config, keep)
    return assemble(form, before_today(form, shared, config, keep), {}, config)


@dataclass(frozen=True, slots=True)
class Form:
    """Who asks and what may answer: as of the event, or as of a day."""

    outcomes: Table
    """`viewer, video, surface`, `known_day` (usable from the day after), `clock_day` (weighs by
    it), the labels; live also `moment`, from which on it is known."""
    asks: Table
    """`ask_id, viewer, video, surface, state_day`; live also `clock_day, moment`."""
    videos: Table
    """`video, author, topics`."""
    is_live: bool


def event_form(
    events: Table, videos: Table, config: CounterConfig, carried: Sequence[str] = ()
) -> Form:
    """Say who asks and what answers as of the event; see `counters_as_of_event`.

    The asks also have the columns of the events that are `carried`.
    """
    asking = events.filter(events.requested_at_ms >= 0)
    asks = asking.select(
        *_ASKED, *_besides(carried),
        ask_id=asking.source_order, moment=asking.requested_at_ms,
        clock_day=asking.asked_clock_day, state_day=asking.asked_clock_day,
    )  # fmt: skip
    outcomes = events.select(
        "viewer", "video", "surface", *_labels(config),
        known_day=events.known_clock_day, clock_day=events.known_clock_day,
        moment=events.known_at_ms,
    )  # fmt: skip
    return Form(outcomes, asks, videos.select("video", "author", "topics"), is_live=True)


def day_form(
    events: Table,
    videos: Table,
    config: CounterConfig,
    asks: Table,
    carried: Sequence[str] = (),
) -> Form:
    """Say who asks and what answers as of a day; see `counters_as_of_day`.

    The asks also keep the columns that are `carried`.
    """
    outcomes = events.select(
        "viewer", "video", "surface", "known_day", *_labels(config),
        clock_day=events.known_clock_day,
    )  # fmt: skip
    asked = asks.select("ask_id", *_ASKED, "state_day", *_besides(carried))
    return Form(outcomes, asked, videos.select("video", "author", "topics"), is_live=False)


@dataclass(frozen=True, slots=True)
class Shared:
    """What is counted over all viewers, for every ask of a form."""

    before: Table
    """`video, state_day` and the sums of the video, its author and its topics, `<key>.<sum>`."""
    today: Mapping[str, Today]
    """Of a live form, by key; their tables have the asker's `viewer`."""
    decay: Decay

    def of_viewers(self, first: int, last: int) -> "Shared":
        """Leave out the counts for other viewers than those with codes from `first` to `last`."""
        here = {
            key: replace(counts, table=counts.table.filter(_.viewer.between(first, last)))
            for key, counts in self.today.items()
        }
        return replace(self, today=here)


def share(form: Form, config: CounterConfig, keep: Keep, asked: Table | None = None) -> Shared:
    """Count the keys without a viewer, over all viewers.

    Args:
        form: Who asks and what answers, of all viewers.
        config: What is counted.
        keep: Where intermediate tables go.
        asked: Asks as of days, when more days are asked for than those of the form's asks.

    Raises:
        SettingError: `half_life_days` is too short for a log as long as this.
    """
    decay = Decay(config.half_life_days, check_half_life(form, config))
    return Shared(
        _before_of_videos(form, asked, config, decay, keep),
        _today(form, _VIDEO_KEYS, config, keep, carried=("viewer",)) if form.is_live else {},
        decay,
    )


def before_today(
    form: Form, shared: Shared, config: CounterConfig, keep: Keep, asked: Table | None = None
) -> dict[str, Table]:
    """Sum what was known before each ask's day.

    Args:
        form: The asks, of all viewers or some, and the outcomes of the same viewers.
        shared: From `share`, over all viewers.
        config: What is counted.
        keep: Where intermediate tables go.
        asked: As in `share`.

    Returns:
        Tables to be looked up from an ask: `videos` and, by key, those of keys with a viewer.
    """
    sums, found = sum_names(config.counted), {"videos": shared.before}
    for key, columns in KEYS.items():
        if key in _VIDEO_KEYS:
            continue
        daily = daily_counts(_keyed(form.outcomes, columns, form.videos), columns, sums)
        daily = keep(f"{key} daily counts", daily)
        keyed = _keyed(form.asks if asked is None else asked, columns, form.videos)
        named = partial(_kept_for, keep, key)
        table = sums_before_days(daily, keyed, columns, sums, decay=shared.decay, keep=named)
        if "topic" in columns:
            by = [*columns, "state_day"]
            table = keyed.select("ask_id", *by).join(table, by)
            table = table.group_by("ask_id", "state_day").aggregate(
                **{name: _[name].sum() for name in sums}
            )
        found[key] = keep(f"{key} counters", table.rename({f"{key}.{name}": name for name in sums}))
    return found


def today(form: Form, shared: Shared, config: CounterConfig, keep: Keep) -> dict[str, Today]:
    """Count what became known on each ask's own day, in a live form."""
    viewer_keys = tuple(key for key in KEYS if key not in _VIDEO_KEYS)
    return {**shared.today, **_today(form, viewer_keys, config, keep)}


def assemble(
    form: Form,
    before: Mapping[str, Table],
    added: Mapping[str, Today],
    config: CounterConfig,
    carried: Sequence[str] = (),
) -> Table:
    """Put the counters of each ask together.

    Args:
        form: Whose asks.
        before: From `before_today`.
        added: From `today`; nothing for the counters as of the day.
        config: What is counted.
        carried: Further columns of the asks to have in the result.

    Returns:
        `ask_id`, the carried columns and the counters, float32, in order.
    """
    keys = {key: (*columns, "state_day") for key, columns in KEYS.items()}
    keys |= {"videos": ("video", "state_day"), "viewer_topic": ("ask_id", "state_day")}
    table = _look_up(form.asks, form.videos.drop("topics"), ("video",), "catalogue")
    for name, sums in before.items():
        table = _look_up(table, sums, keys[name], name)
    for key, counts in added.items():
        packed = counts.table.select("ask_id", *counts.packed)
        packed = packed.rename({f"{key}.{name}": name for name in counts.packed})
        table = _look_up(table, packed, ("ask_id",), f"{key} today")
    values: dict[str, NumericValue] = {
        name: table[name].fill_null(0.0) for name in counter_names(config.counted)
    }
    for key, counts in added.items():
        for name, count in counts.unpacked(table, f"{key}.").items():
            values[f"{key}.{name}"] = values[f"{key}.{name}"] + count.fill_null(0)
    return table.select(
        "ask_id", *carried, **{name: value.cast("float32") for name, value in values.items()}
    )


_ASKED = ("viewer", "video", "surface")


def _besides(carried: Sequence[str]) -> list[str]:
    return [name for name in carried if name not in _ASKED]


def _labels(config: CounterConfig) -> list[str]:
    return [f"label_{objective}" for objective in COUNTABLE if objective in config.counted]


def _before_of_videos(
    form: Form, asked: Table | None, config: CounterConfig, decay: Decay, keep: Keep
) -> Table:
    """Sum the keys without a viewer, at the days on which each video is asked for."""
    sums = sum_names(config.counted)
    daily = keep("daily counts of videos", daily_counts(form.outcomes, ("video",), sums))
    days = (form.asks if asked is None else asked).select("video", "state_day").distinct()
    found = _look_up(days, form.videos.drop("topics"), ("video",), "catalogue")
    table = keep("videos and days asked for", found)
    for key in _VIDEO_KEYS:
        columns = KEYS[key]
        keyed = _keyed(days, columns, form.videos)
        found = _keyed(daily, columns, form.videos)
        named = partial(_kept_for, keep, key)
        found = sums_before_days(found, keyed, columns, sums, decay=decay, keep=named)
        by: tuple[str, ...] = (*columns, "state_day")
        if key == "topic":
            found, by = keyed.join(found, list(by)), ("video", "state_day")
            found = found.group_by(list(by)).aggregate(**{name: _[name].sum() for name in sums})
        found = found.select(*by, **{f"{key}.{name}": found[name] for name in sums})
        table = _look_up(table, named("sums before days", found), by, key)
    return keep("video, author and topic counters", table.drop("author"))


def _today(
    form: Form,
    keys: Sequence[str],
    config: CounterConfig,
    keep: Keep,
    carried: tuple[str, ...] = (),
) -> dict[str, Today]:
    sums, found = sum_names(config.counted), {}
    for key in keys:
        columns = KEYS[key]
        found[key] = counts_of_today(
            _keyed(form.outcomes, columns, form.videos),
            _keyed(form.asks, columns, form.videos),
            columns,
            sums,
            carried=[name for name in carried if name not in columns],
            keys_per_ask=_most_topics(form.videos) if "topic" in columns else 1,
            keep=partial(_kept_for, keep, key),
        )
    return found


def _kept_for(keep: Keep, key: str, name: str, table: Table) -> Table:
    return keep(f"{key} {name}", table)


def _most_topics(videos: Table) -> int:
    return int(videos.topics.length().max().to_pyarrow().as_py() or 1)


def _keyed(rows: Table, columns: Sequence[str], videos: Table) -> Table:
    """Give each row its key columns, one row per topic, without rows whose key is unknown."""
    if "author" in columns:
        rows = _look_up(rows, videos.select("video", "author"), ("video",), "catalogue")
    if "topic" in columns:
        rows = _look_up(rows, videos.select("video", "topics"), ("video",), "catalogue")
        rows = rows.mutate(topic=rows.topics.unnest()).drop("topics")
    unknown = [column for column in columns if column in MAY_BE_UNKNOWN]
    return rows.filter([rows[column] > 0 for column in unknown]) if unknown else rows


def _look_up(table: Table, found: Table, keys: Sequence[str], name: str) -> Table:
    """Add the columns of a table that has one row per key; null where it lacks the key."""
    values = [column for column in found.columns if column not in keys]
    found = found.rename({f"{name} {key}": key for key in keys})
    joined = table.left_join(found, [table[key] == found[f"{name} {key}"] for key in keys])
    return joined.select(*table.columns, *values)


def check_half_life(form: Form, config: CounterConfig) -> int:
    """Return the middle of the days that are weighed, refusing more than float64 carries.

    Raises:
        SettingError: `half_life_days` is too short for a log as long as this.
    """
    if config.half_life_days is None:
        return 0
    ends = [
        table.aggregate(first=day.min(), last=day.max()).to_pyarrow().to_pylist()[0]
        for table, day in (
            (form.outcomes, form.outcomes.clock_day),
            (form.asks, form.asks.state_day),
        )
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
