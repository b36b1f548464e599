"""What had others watched, up to a day? Thresholds and ranks as the data engine computes them.

    events (viewer, video, watch, known_day)
        ->  counts on the grid, long form (key, known_day, bin, n)
        ->  counts as of each day that is asked for
        ->  quantiles, less the asker's own watches, shrunk to the duration bucket

- Only outcomes with `known_day < state_day` count: a day's thresholds stand still all day.
- A viewer's own watches of a video do not count for its threshold; only (viewer, video) pairs that
  were seen before cost anything for it.
- Sums, joins and window sums alone, so that any engine of Ibis gives the same bits as `grid`; the
  counts n are whole numbers kept as float64 (exact to 2^53), which the engines add up fastest.

Reads `grid` and `watch`; is read by `bulk` and, for frozen states, by evaluation.
"""

from collections.abc import Callable, Sequence

import ibis
import ibis.expr.types as ir

from skipwise.labels.grid import BIN_WIDTH_S, GRID_S
from skipwise.labels.watch import LabelConfig

Keep = Callable[[str, ir.Table], ir.Table]


def thresholds_as_of(events: ir.Table, asks: ir.Table, config: LabelConfig) -> ir.Table:
    """Give what a watch must exceed to be effective or finished, as of a day.

    `Q = (n Q_video + n0 Q_bucket) / (n + n0)` as in `grid.shrunk_quantile`; `Q_video` and n over
    other viewers than the asker, `Q_bucket` over all.

    Args:
        events: Canonical event columns, with `known_day` (day an outcome became known).
        asks: ask_id (unique), viewer_id, video_id, duration_bucket (0 = unknown), state_day.
        config: The quantiles, n0, and the duration buckets.

    Returns:
        A table of ask_id, effective_above_s, finished_above_s (float64 seconds), one row per ask;
        null where the duration is unknown or its bucket has no earlier watches.
    """
    found = add_thresholds(known_watches(events, config), asks, config)
    return found.select("ask_id", "effective_above_s", "finished_above_s")


def add_thresholds(
    watches: ir.Table, asks: ir.Table, config: LabelConfig, keep: Keep = lambda _, table: table
) -> ir.Table:
    """Add `effective_above_s` and `finished_above_s` to asks, as `thresholds_as_of` gives them.

    Args:
        watches: From `known_watches`.
        asks: As in `thresholds_as_of`, with any other columns; a null `state_day` asks for nothing.
        config: The quantiles, n0, and the duration buckets.
        keep: Where intermediate tables go: given a name and a table, returns what to read on.
    """
    asked = asks.filter(asks.state_day.notnull())
    by_bucket, by_video = ["duration_bucket", "state_day"], ["video_id", "state_day"]
    by_pair = ["viewer_id", "video_id", "state_day"]
    of_bucket = keep(
        "quantiles of buckets", _quantiles(bucket_counts(watches, asked), by_bucket, config)
    )
    video_counts = keep("watches of videos", _counts_as_of(watches, asked, "video_id"))
    of_video = keep("quantiles of videos", _quantiles(video_counts, by_video, config))
    without_own = keep(
        "quantiles without own watches",
        _quantiles(_less_own(video_counts, watches, asked), by_pair, config),
    )
    found = _look_up(asks, of_bucket, by_bucket, "bucket")
    found = _look_up(found, of_video, by_video, "video")
    found = _look_up(found, without_own, by_pair, "other")
    return found.select(
        *asks.columns,
        effective_above_s=_shrunk(found, "effective_s", config),
        finished_above_s=_shrunk(found, "finished_s", config),
    )


def known_watches(events: ir.Table, config: LabelConfig) -> ir.Table:
    """Keep the events with a known watch time.

    Returns:
        viewer_id, video_id, known_day, duration_bucket, bin.
    """
    timed = events.filter(events.watch_ms.notnull())
    return timed.select(
        "viewer_id",
        "video_id",
        "known_day",
        duration_bucket=bucket_expression(seconds(timed.duration_ms), config),
        bin=bin_expression(seconds(timed.watch_ms)),
    )


def bucket_counts(watches: ir.Table, asks: ir.Table) -> ir.Table:
    """Count the watches of each duration bucket as of each day that is asked for.

    Args:
        watches: From `known_watches`.
        asks: duration_bucket and state_day, in any number of rows.

    Returns:
        A table of duration_bucket (never 0), state_day, bin, n > 0.
    """
    return _counts_as_of(watches.filter(watches.duration_bucket > 0), asks, "duration_bucket")


def seconds(milliseconds: ir.Column) -> ir.FloatingColumn:
    """Turn a column of ms into seconds; null stays null."""
    return milliseconds.cast("float64") / 1000


def bin_expression(watch_s: ir.FloatingColumn) -> ir.IntegerColumn:
    """Find the bin of each watch time, as `grid.grid_bin`; a null has no bin of its own."""
    return _count_of_edges(watch_s, GRID_S[1:]).cast("int32")


def bucket_expression(duration_s: ir.FloatingColumn, config: LabelConfig) -> ir.IntegerColumn:
    """Sort videos by length, as `watch.duration_bucket`: 0 where unknown."""
    bucket = _count_of_edges(duration_s, config.duration_edges_s) + 1
    return ibis.ifelse(duration_s.isnull(), 0, bucket).cast("int8")


def left_s(bins: ir.IntegerColumn) -> ir.FloatingColumn:
    """Look up the left edge of each bin."""
    return _by_bin(bins, GRID_S)


def width_s(bins: ir.IntegerColumn) -> ir.FloatingColumn:
    """Look up the width of each bin; 0 for the open one."""
    return _by_bin(bins, BIN_WIDTH_S)


def _count_of_edges(values: ir.FloatingColumn, edges: Sequence[float]) -> ir.IntegerValue:
    """Count the (rising) edges at or below each value."""
    cases = [(values < edge, place) for place, edge in enumerate(edges)]
    return ibis.cases(*cases, else_=len(edges))


def _by_bin(bins: ir.IntegerColumn, values: Sequence[float]) -> ir.FloatingColumn:
    cases = [(bins == place, value) for place, value in enumerate(values)]
    return ibis.cases(*cases).cast("float64")


def _counts_as_of(watches: ir.Table, asks: ir.Table, key: str) -> ir.Table:
    """Count the watches of each key as of each day asked for: key, state_day, bin, n.

    A running count holds from the day after its own to the day of the next: one row of it answers
    for each day, so nothing is summed twice.
    """
    daily = watches.group_by(key, "bin", "known_day").agg(n=watches.count().cast("float64"))
    in_time = ibis.window(group_by=[key, "bin"], order_by="known_day")
    running = daily.select(
        key,
        "bin",
        n=daily.n.sum().over(ibis.cumulative_window(group_by=[key, "bin"], order_by="known_day")),
        known_day="known_day",
        next_day=daily.known_day.lead().over(in_time),
    )
    asked = asks.select(key, "state_day").distinct()
    joined = asked.join(
        running,
        [
            asked[key] == running[key],
            running.known_day < asked.state_day,
            running.next_day.isnull() | (asked.state_day <= running.next_day),
        ],
    )
    return joined.select(key, "state_day", "bin", "n")


def _less_own(video_counts: ir.Table, watches: ir.Table, asks: ir.Table) -> ir.Table:
    """Take the asker's own watches out, for the askers who have any.

    Returns:
        viewer_id, video_id, state_day, bin, n >= 0.
    """
    pair = ["viewer_id", "video_id"]
    asked = asks.select(*pair, "state_day").distinct()
    earlier = asked.join(
        watches,
        [*(asked[name] == watches[name] for name in pair), watches.known_day < asked.state_day],
    )
    own = earlier.group_by(*pair, "state_day", "bin").agg(own_n=earlier.count())
    seen_before = own.select(*pair, "state_day").distinct()
    counts = seen_before.join(video_counts, ["video_id", "state_day"])
    counts = counts.left_join(own, [*pair, "state_day", "bin"])
    return counts.select(*pair, "state_day", "bin", n=counts.n - counts.own_n.fill_null(0))


def _quantiles(counts: ir.Table, keys: Sequence[str], config: LabelConfig) -> ir.Table:
    """Read both quantiles off the counts of each key, as `grid.quantile_from_counts`.

    Returns:
        keys, num_views, effective_s, finished_s (null where num_views = 0).
    """
    counts = counts.mutate(
        up_to=counts.n.sum().over(ibis.cumulative_window(group_by=keys, order_by="bin")),
        total=counts.n.sum().over(ibis.window(group_by=keys)),
    )
    return counts.group_by(*keys).agg(
        num_views=counts.total.max(),
        effective_s=_quantile(counts, config.effective_quantile),
        finished_s=_quantile(counts, config.finished_quantile),
    )


def _quantile(counts: ir.Table, p: float) -> ir.FloatingScalar:
    target = counts.total * p
    before = counts.up_to - counts.n
    inside_s = (target - before) * width_s(counts.bin) / counts.n
    here = (counts.up_to >= target) & (before < target)
    return ibis.ifelse(here, left_s(counts.bin) + inside_s, None).max()


def _look_up(found: ir.Table, table: ir.Table, keys: Sequence[str], name: str) -> ir.Table:
    """Add a table's columns as `<name>_<column>`, null where it has no such key."""
    values = [column for column in table.columns if column not in keys]
    table = table.rename({f"{name}_{column}": column for column in values})
    joined = found.left_join(table, list(keys))
    return joined.select(*found.columns, *(f"{name}_{column}" for column in values))


def _shrunk(found: ir.Table, quantile: str, config: LabelConfig) -> ir.FloatingColumn:
    seen_before = found.other_num_views.notnull()
    num_views = ibis.ifelse(seen_before, found.other_num_views, found.video_num_views)
    own_s = ibis.ifelse(seen_before, found[f"other_{quantile}"], found[f"video_{quantile}"])
    n = num_views.fill_null(0.0)
    weighted = n * own_s.fill_null(0.0) + config.shrinkage_views * found[f"bucket_{quantile}"]
    return weighted / (n + config.shrinkage_views)
