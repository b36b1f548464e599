"""What did each exposed viewer do, day by day, and before?

    EventLog, Exposures, Definition, Stops  ->  make_panel  ->  Panel: (parts, days, viewers)
    Panel, day  ->  Panel.totals  ->  sums per viewer as known at the end of that day

- A viewer counts from his first exposure on; who was exposed and did nothing counts with zeros,
  which only an exposure log can tell: by the events' variants he was never exposed.
- A view that names the variant was served by it, however far behind the clock is that dated it.
- A stopped treatment is summed a second time, with control and until the stop alone: who was
  exposed before it, what was shown before it, on both sides. A view that names no longer the
  variant came after it, however its clock is set.
- Labels are those of `prepare`, with a dataset's settings where one is given: one rule of what a
  watch means.
- What is summed before the start can only reduce variance: no variant touched it.

Reads `definition`, `exposure`, `stops`, `metrics`, events and labels; is read by `analysis`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
from ibis.backends.duckdb import Backend
from numpy.typing import NDArray

from skipwise.errors import ExperimentError
from skipwise.events.read import EventLog
from skipwise.experiments.definition import Definition
from skipwise.experiments.exposure import Exposures
from skipwise.experiments.metrics import PARTS
from skipwise.experiments.stops import Stop
from skipwise.features.known import add_known_times, clock_day_of
from skipwise.features.sequence import SESSION_GAP_S
from skipwise.features.steps import Steps, steps
from skipwise.labels.bulk import label_events
from skipwise.labels.watch import LabelConfig
from skipwise.progress import SILENT, Progress

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

SESSION_GAP_MS = round(1000 * SESSION_GAP_S)

SEGMENTS = ("new", "light", "heavy")
"""No event before the start; as many as the median of the others before it, or fewer; more."""

_LABELS = {"glances": "glance", "effective": "effective", "long": "long", "finished": "finished"}
_DERIVED = ("active_days", "returns", "returnable")


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """Sums of the exposed viewers."""

    variant: Integers
    """(V,) place among the definition's variants."""
    since: Integers
    """(V,) first day of exposure, 0 = the experiment's first."""
    segment: Integers
    """(V,) place in SEGMENTS."""
    sums: Floats
    """(PARTS, D, V) on each day, from the first exposure on."""
    before: Floats
    """(PARTS, V) over the days before the start that reduce variance."""
    stopped: "Mapping[str, UntilStop]" = field(default_factory=dict)
    """By treatment that was stopped before the planned end."""

    @property
    def num_days(self) -> int:
        """How many days of the experiment the log holds."""
        return int(self.sums.shape[1])

    def totals(self, day: int) -> Floats:
        """Return (PARTS, V) sums up to and with a day."""
        return add_up(self.sums[:, : day + 1])

    def of(self, viewers: NDArray[np.bool_]) -> "Panel":
        """Return the panel of some viewers, (V,) bool, without what was stopped."""
        return Panel(
            variant=self.variant[viewers],
            since=self.since[viewers],
            segment=self.segment[viewers],
            sums=self.sums[:, :, viewers],
            before=self.before[:, viewers],
        )


class UntilStop(NamedTuple):
    """A stopped treatment and control, as of the stop."""

    stop: Stop
    day: int
    """Of the stop, 0 = the experiment's first."""
    panel: Panel
    """Its viewers and control's; ends with the day of the stop, or of the log where that is
    sooner."""


def add_up(sums: Floats) -> Floats:
    """Add (PARTS, D, V) sums up over days; on which days a viewer came decides the returns."""
    totals: Floats = sums.sum(axis=1)
    active = sums[PARTS.index("views")] > 0
    totals[PARTS.index("active_days")] = active.sum(axis=0)
    totals[PARTS.index("returnable")] = active[:-1].sum(axis=0)
    totals[PARTS.index("returns")] = (active[:-1] & active[1:]).sum(axis=0)
    return totals


def make_panel(
    log: EventLog,
    connection: Backend,
    definition: Definition,
    exposures: Exposures,
    progress: Progress = SILENT,
    labels: LabelConfig | None = None,
    stops: Mapping[str, Stop] | None = None,
) -> Panel:
    """Sum what the exposed viewers did.

    Args:
        log: The whole log.
        connection: Its engine.
        definition: The experiment.
        exposures: Who was exposed to what, since when.
        progress: Who is told.
        labels: What a watch means; None = the defaults and the log's own rule.
        stops: What was stopped, by treatment; None = nothing. After the planned end it is late.

    Raises:
        ExperimentError: The log holds no event of an exposed viewer on the experiment's days, or a
            treatment was stopped before they began.
    """
    start, zone = definition.start_day, log.description.time_zone
    names = [variant.name for variant in definition.variants]
    since = [clock_day_of(at_ms, zone) - start for at_ms in exposures.since_ms.tolist()]
    number = len(exposures.viewer_id)
    stop_days = _days_of(stops or {}, definition, zone)
    with steps(connection, progress, 5) as made:
        exposed = pa.table(
            {
                "viewer_id": exposures.viewer_id,
                "place": np.arange(number),
                "since_ms": exposures.since_ms,
                "exposed_to": exposures.variant,
            }
        )
        events = _labelled(log, made, labels).inner_join(ibis.memtable(exposed), "viewer_id")
        events = made.keep("viewers", events)
        since_then = events.shown_at_ms >= events.since_ms
        served = events.variant == events.exposed_to
        own = events.filter((events.day >= start) & (since_then | served))
        sums = _sum_by_day(own, start, definition.days, number)
        of_variant = own.filter(own.variant.isnull() | (own.variant == own.exposed_to))
        until = {
            name: _sum_by_day(
                of_variant.filter(of_variant.shown_at_ms < stop.at_ms), start, day + 1, number
            )
            for name, (stop, day) in stop_days.items()
        }
        reach = definition.covariate_days
        before = add_up(_sum_by_day(events, start - reach, reach, number))
        met_before = events.filter(events.day < start).select("place").distinct().to_pyarrow()
    if not sums.shape[1]:
        raise ExperimentError(
            f"the log holds no event of an exposed viewer from {definition.start} on, the "
            f"first day of {definition.name!r}; it must. Check the start, or give the log "
            "of those days."
        )
    panel = Panel(
        variant=np.array([names.index(name) for name in exposures.variant], dtype=np.int64),
        since=np.maximum(np.array(since, dtype=np.int64), 0),
        segment=_segments(before, np.asarray(met_before["place"], dtype=np.int64)),
        sums=sums,
        before=before,
    )
    stopped = {}
    for name, (stop, day) in stop_days.items():
        days = np.zeros_like(sums[:, : day + 1])  # its day counts, though nobody came on it
        days[:, : until[name].shape[1]] = until[name]
        pair = [names.index(each) for each in (definition.control, name)]
        met = np.isin(panel.variant, pair) & (exposures.since_ms < stop.at_ms)
        stopped[name] = UntilStop(stop, day, replace(panel, sums=days).of(met))
    return replace(panel, stopped=stopped)


def _days_of(
    stops: Mapping[str, Stop], definition: Definition, zone: str
) -> dict[str, tuple[Stop, int]]:
    """Return stops with their days, 0 = the first; those after the planned end are left out."""
    found = {}
    for name, stop in stops.items():
        day = clock_day_of(stop.at_ms, zone) - definition.start_day
        if day < 0:
            raise ExperimentError(
                f"{name!r} of {definition.name!r} was stopped {-day} days before {definition.start}"
                ", its first day; a stop must come after it. Check the start, and the stop's time."
            )
        if day < definition.days:
            found[name] = (stop, day)
    return found


def _labelled(log: EventLog, made: Steps, labels: LabelConfig | None) -> ir.Table:
    """Label the timed events of a log, as `prepare` does."""
    events = log.events.filter(log.events.shown_at_ms.notnull())
    span = events.aggregate(
        first_day=events.day.min(), low=events.shown_at_ms.min(), high=events.shown_at_ms.max()
    ).to_pyarrow()
    first_day, low, high = (span[name][0].as_py() for name in ("first_day", "low", "high"))
    timed = add_known_times(events, log.description.time_zone, first_day, (low, high), 0)
    config = labels or LabelConfig(glance_needs_duration=log.description.glance_needs_duration)
    return made.keep("labels", label_events(made.keep("times", timed), config, made.keep))


def _sum_by_day(events: ir.Table, start: int, days: int, num_viewers: int) -> Floats:
    """Sum parts per day and viewer, (PARTS, D, V); D ends with the last day that has an event."""
    events = events.filter((events.day >= start) & (events.day < start + days))
    of_viewer = ibis.window(group_by="place", order_by=["shown_at_ms", "source_order"])
    gap_ms = events.shown_at_ms - events.shown_at_ms.lag().over(of_viewer)
    events = events.mutate(begins=gap_ms.isnull() | (gap_ms > SESSION_GAP_MS))
    rows = events.group_by("place", "day").agg(**_parts(events)).to_pyarrow()
    at = np.asarray(rows["day"], dtype=np.int64) - start
    place = np.asarray(rows["place"], dtype=np.int64)
    sums = np.zeros((len(PARTS), int(at.max(initial=-1)) + 1, num_viewers))
    for index, part in enumerate(PARTS):
        if part not in _DERIVED:
            sums[index, at, place] = np.asarray(rows[part], dtype=np.float64)
    return sums


def _parts(events: ir.Table) -> dict[str, ir.Scalar]:
    def count(label: str, least: int) -> ir.IntegerScalar:
        return (events[f"label_{label}"] >= least).sum()

    return {
        "views": events.count(),
        "watch_s": events.watch_s.fill_null(0.0).sum(),
        "sessions": events.begins.sum(),
        "likes": count("like", 1),
        "negatives": count("negative", 1),
        "positives": sum(
            (count(kind, 1) for kind in ("follow", "comment", "share")), start=count("like", 1)
        ),
        **{part: count(label, 1) for part, label in _LABELS.items()},
        **{f"{part}_known": count(label, 0) for part, label in _LABELS.items()},
    }


def _segments(before: Floats, met_before: Integers) -> Integers:
    views = before[PARTS.index("views")]
    known = np.zeros(views.size, dtype=bool)
    known[met_before] = True
    middle = np.median(views[known]) if known.any() else 0.0
    return np.where(known, np.where(views > middle, 2, 1), 0).astype(np.int64)
