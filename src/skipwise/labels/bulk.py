"""Label a whole log in the data engine.

    events (Ibis table)  ->  label_events  ->  events with labels, thresholds, rank, feedback

- The rules are those of `watch`, `grid` and `feedback`, said as expressions: nothing runs until the
  caller asks the engine, and no row passes through Python.
- Thresholds and ranks hold what was known when the row's day began, never the day itself.

Reads `thresholds`, `watch` and `feedback`; is read by the preparation of a DATASET.
"""

import ibis
import ibis.expr.types as ir

from skipwise.labels.feedback import feedback_expression
from skipwise.labels.thresholds import (
    Keep,
    add_thresholds,
    bin_expression,
    bucket_counts,
    bucket_expression,
    known_watches,
    left_s,
    seconds,
    thresholds_as_of,
    width_s,
)
from skipwise.labels.watch import FLAG_OF, LabelConfig

__all__ = ["label_events", "thresholds_as_of"]


def label_events(
    events: ir.Table, config: LabelConfig, keep: Keep = lambda _, table: table
) -> ir.Table:
    """Add to every event what it says.

    Args:
        events: Canonical event columns (docs/design.md), `day` filled in every row, and `known_day`
            (int32): the day the outcome became known; for untimed rows a day before the first. A
            flag column that the log lacks may be absent. The ids may be of any type.
        config: The rules' numbers.
        keep: Where intermediate tables go: given a name and a table, returns what to read on.

    Returns:
        The same rows, in no set order, with watch_s, duration_s (float64, null = unknown),
        duration_bucket (int8, 0 = unknown), effective_above_s, finished_above_s (float64, null),
        watch_rank (float64 in [0, 1], null), label_<name> (int8: -1 unknown, 0, 1) for each of
        `watch.LABELS`, and feedback (int8, `feedback.Feedback`).
    """
    events = events.mutate(watch_s=seconds(events.watch_ms), duration_s=seconds(events.duration_ms))
    events = events.mutate(duration_bucket=bucket_expression(events.duration_s, config))
    watches = keep("known watches", known_watches(events, config))
    events = _with_thresholds(events, watches, config, keep)
    events = _with_rank(events, watches)
    events = _with_labels(events, config)
    return events.mutate(feedback=feedback_expression(events))


def _with_thresholds(
    events: ir.Table, watches: ir.Table, config: LabelConfig, keep: Keep
) -> ir.Table:
    asks = events.mutate(state_day=ibis.ifelse(events.shown_at_ms.notnull(), events.day, None))
    return add_thresholds(watches, asks, config, keep).drop("state_day")


def _with_rank(events: ir.Table, watches: ir.Table) -> ir.Table:
    """Add watch_rank, as `grid.rank_in_counts` of the duration bucket's counts."""
    keys = ["duration_bucket", "state_day", "bin"]
    placed = events.mutate(
        state_day="day",
        bin=ibis.ifelse(events.watch_s.notnull(), bin_expression(events.watch_s), None),
    )
    asked = placed.select(*keys).distinct()
    counts = bucket_counts(watches, asked)
    counts = counts.rename(other_bin="bin")
    pairs = asked.join(counts, ["duration_bucket", "state_day"])
    sums = pairs.group_by(*keys).agg(
        before=ibis.ifelse(pairs.other_bin < pairs.bin, pairs.n, 0.0).sum(),
        inside=ibis.ifelse(pairs.other_bin == pairs.bin, pairs.n, 0.0).sum(),
        total=pairs.n.sum(),
    )
    ranked = placed.left_join(sums, keys)
    width = width_s(ranked.bin).nullif(0.0)
    part = ranked.inside * (ranked.watch_s - left_s(ranked.bin)) / width
    below = ranked.before + part.fill_null(0.0)
    return ranked.select(*events.columns, watch_rank=below / ranked.total)


def _with_labels(events: ir.Table, config: LabelConfig) -> ir.Table:
    """Add every label, by the rules of `watch`."""
    watch_s, duration_s = events.watch_s, events.duration_s
    known = watch_s.notnull() & duration_s.notnull()
    glance = watch_s < ibis.least(config.glance_below_s, duration_s)
    long = watch_s >= ibis.least(config.long_from_s, duration_s)
    verdict = _flag(events, "long_viewed")
    return events.mutate(
        label_glance=_masked(
            glance & duration_s.notnull(),
            known if config.glance_needs_duration else watch_s.notnull(),
        ),
        label_effective=_above(events.effective_above_s, events, known, glance),
        label_long=ibis.ifelse(verdict >= 0, verdict, _masked(long, known)),
        label_finished=_above(events.finished_above_s, events, known, glance),
        label_complete=_masked(watch_s >= duration_s, known),
        **{f"label_{label}": _flag(events, column) for label, column in FLAG_OF.items()},
    )


def _above(
    threshold_s: ir.FloatingColumn,
    events: ir.Table,
    known: ir.BooleanColumn,
    glance: ir.BooleanColumn,
) -> ir.IntegerColumn:
    return _masked((events.watch_s > threshold_s) & ~glance, known & threshold_s.notnull())


def _masked(yes: ir.BooleanValue, known: ir.BooleanValue) -> ir.IntegerColumn:
    return ibis.ifelse(known, yes.cast("int8"), ibis.literal(-1, "int8")).cast("int8")


def _flag(events: ir.Table, column: str) -> ir.IntegerColumn:
    """Turn a nullable boolean column into -1, 0, 1; -1 throughout where the log lacks it."""
    if column not in events.columns:
        return ibis.literal(-1, "int8")
    return events[column].cast("int8").fill_null(-1).cast("int8")
