"""How histories and counters are computed and written, some viewers at a time.

    events in sequence, videos  ->  write_in_spans  ->  events.arrow, counters_day.arrow,
                                                        counters_event.arrow

- A span of viewers is all its viewers' events: what belongs to a viewer (sequence, counters of keys
  with a viewer) needs nothing else, and memory is bounded by the span, not by the log.
- What is counted over all viewers is counted once, before, and looked up.
- Where every outcome is usable from the day after that of its clock (most logs), one table of sums
  as of the start of days serves both forms of the counters.

Reads `counters` and `sequence`; is read by `prepare`.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from ibis.expr.types import Table
from numpy.typing import NDArray

from skipwise.features.counter_names import CounterConfig, counter_names
from skipwise.features.counters import (
    Form,
    Shared,
    assemble,
    before_today,
    day_form,
    event_form,
    share,
    today,
)
from skipwise.features.files import events_file
from skipwise.features.sequence import SEQUENCE_ORDER, add_sequence
from skipwise.features.steps import Steps
from skipwise.features.write import counters_file
from skipwise.labels.watch import LABELS
from skipwise.progress import Progress

EVENTS_AT_ONCE = 1_000_000
"""Events of one span, unless a single viewer has more."""

FORMS = ("day", "event")
"""The two forms of the counters, each a file."""

_ORDER = ("viewer", "shown_at_ms")
"""With `ask_id`, the order of the events."""


def write_in_spans(
    folder: Path,
    events: Table,
    videos: Table,
    config: CounterConfig,
    session_gap_s: float,
    made: Steps,
    progress: Progress,
) -> dict[str, int]:
    """Write the events and both forms of their counters.

    Args:
        folder: The dataset being made; its `viewers.arrow` is written.
        events: Coded events without null, best in sequence.
        videos: `video, author, topics`.
        config: What is counted.
        session_gap_s: A longer pause between two showings starts a new session.
        made: Where intermediate tables go.
        progress: Who hears how far it is.

    Returns:
        `num_events` and `num_timed_events`, the numbers of rows.
    """
    spans = viewer_spans(events_of_viewers(folder), EVENTS_AT_ONCE)
    num_events = sum(number for _, _, number in spans)
    names = counter_names(config.counted)
    connection = made.engine.connection
    with ExitStack() as stack:
        counting = _over_all_viewers(events, videos, config, made)
        rows = stack.enter_context(events_file(folder, LABELS, connection))
        files = {
            form: stack.enter_context(
                counters_file(folder / f"counters_{form}.arrow", names, connection)
            )
            for form in FORMS
        }
        what = "writing histories and counters"
        task = stack.enter_context(progress.task(what, total=num_events, unit="events"))
        for first, last, number in spans:
            with made.silent().passing() as steps:
                here = events.filter(events.viewer.between(first, last))
                here = steps.keep("events of some viewers", here)
                rows.add(add_sequence(here, session_gap_s), SEQUENCE_ORDER)
                for form, counters in _counters(here, counting, (first, last), steps):
                    files[form].add(counters, (*_ORDER, "ask_id"))
            task.advance(number)
    return {"num_events": rows.num_rows, "num_timed_events": files["day"].num_rows}


def viewer_spans(
    events_of_viewers: NDArray[np.integer], events_at_once: int
) -> list[tuple[int, int, int]]:
    """Cut viewers, in code order, into spans of about so many events.

    Returns:
        For each span its first and last viewer and its number of events; viewers without events
        at the ends of the list may be left out.

    >>> viewer_spans(np.array([3, 3, 9, 1]), 5)
    [(0, 0, 3), (1, 1, 3), (2, 2, 9), (3, 3, 1)]
    >>> viewer_spans(np.array([3, 2, 2]), 5)
    [(0, 1, 5), (2, 2, 2)]
    """
    ends = np.cumsum(events_of_viewers, dtype=np.int64)
    spans, first, before = [], 0, 0
    while first < len(ends) and before < ends[-1]:
        last = int(np.searchsorted(ends, before + events_at_once, side="right")) - 1
        last = max(last, first)
        spans.append((first, last, int(ends[last]) - before))
        first, before = last + 1, int(ends[last])
    return spans


def events_of_viewers(folder: Path) -> NDArray[np.int32]:
    """Return the number of events of each viewer, in code order, as `viewers.arrow` has them."""
    with pa.memory_map(str(folder / "viewers.arrow")) as source:
        number: NDArray[np.int32] = pa.ipc.open_file(source).read_all()["num_rows"].to_numpy()
        return number.copy()


@dataclass(frozen=True, slots=True)
class _Counting:
    """What every span reads: the catalogue, and what is counted over all viewers."""

    videos: Table
    config: CounterConfig
    live: Shared
    nightly: Shared | None
    """None where every outcome is usable from the day after its clock's: `live` serves both."""


def _over_all_viewers(
    events: Table, videos: Table, config: CounterConfig, made: Steps
) -> _Counting:
    form, asks = event_form(events, videos, config), _nightly_asks(events)
    ahead = events.filter(events.known_day != events.known_clock_day)
    if not ahead.limit(1).count().to_pyarrow().as_py():
        live = share(form, config, made.keep, _both_days(form, asks))
        return _Counting(videos, config, live, None)
    nightly = share(day_form(events, videos, config, asks), config, made.silent().keep)
    return _Counting(videos, config, share(form, config, made.keep), nightly)


def _nightly_asks(events: Table) -> Table:
    asking = events.filter(events.requested_at_ms >= 0)
    return asking.select(
        "viewer", "video", "surface", "shown_at_ms",
        ask_id=asking.source_order, state_day=asking.day,
    )  # fmt: skip


def _both_days(live: Form, nightly_asks: Table) -> Table:
    """List the asks of both forms, once where their days agree: a request may be of yesterday."""
    columns = ("ask_id", "viewer", "video", "surface", "state_day")
    return live.asks.select(*columns).union(nightly_asks.select(*columns), distinct=True)


def _counters(
    events: Table, counting: _Counting, viewers: tuple[int, int], made: Steps
) -> Iterator[tuple[str, Table]]:
    """Give both forms of the counters of some viewers' events, one after the other."""
    videos, config = counting.videos, counting.config
    form = event_form(events, videos, config, _ORDER)
    asks = _nightly_asks(events)
    nightly = day_form(events, videos, config, asks, _ORDER)
    if counting.nightly is None:
        both = made.keep("asks of both days", _both_days(form, asks))
        before = before_today(form, counting.live, config, made.keep, both)
        yield "day", assemble(nightly, before, {}, config, _ORDER)
    else:
        with made.passing():
            sums = before_today(nightly, counting.nightly, config, made.keep)
            yield "day", assemble(nightly, sums, {}, config, _ORDER)
        before = before_today(form, counting.live, config, made.keep)
    shared = counting.live.of_viewers(*viewers)
    yield "event", assemble(form, before, today(form, shared, config, made.keep), config, _ORDER)
