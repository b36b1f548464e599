"""How one machine computes and writes histories and counters: three passes over the events.

    events in sequence  ->  1. by spans of viewers: events.arrow, records set aside by day
                        ->  2. by day: what was counted that day over all viewers
                        ->  3. by spans again: counters_day.arrow, counters_event.arrow

- Nothing is held but a span, or a day's outcomes and asks, and the sums before days of what is
  counted over all viewers; the rest lies in a folder that goes at the end.
- Spans are counted by as many threads as the engine has, and written in order; days by as many of
  them as find room in the memory that the engine may take.
- The files are those of `spans`, which has any engine do the same; counters agree after rounding.

Reads `viewer_counters`, `day_files` and `sequence`; is read by `prepare`.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
from ibis.expr.types import Table
from numpy.typing import NDArray

from skipwise.features.counter_names import COUNTABLE, CounterConfig, counter_names, sum_names
from skipwise.features.counters import check_half_life, event_form
from skipwise.features.day_files import ITEMS_TOGETHER, RECORD, Catalogue, DayFiles, Records, Today
from skipwise.features.day_sums import DAY_BITS, DaySums, Fading
from skipwise.features.files import events_file
from skipwise.features.known import DAY_MS
from skipwise.features.packing import Integers, Sums, verdict_codes
from skipwise.features.sequence import SEQUENCE_ORDER, places_in_sequence
from skipwise.features.spans import FORMS, events_of_viewers, viewer_spans
from skipwise.features.steps import Steps
from skipwise.features.tally import daily_counts
from skipwise.features.viewer_counters import SHARED_KEYS, Matrix, Shared, counters_of
from skipwise.features.write import counters_file, matrix_column
from skipwise.labels.watch import LABELS
from skipwise.progress import Progress

EVENTS_AT_ONCE = 65_536
"""Events of one span, unless a single viewer has more."""

DAY_BYTES = 42
"""What counting a day takes of memory for each of its outcomes and asks, and for each three times
of those whose keys are counted together (docs/data-at-scale.md)."""

_DAYS = ("day", "known_day", "known_clock_day", "asked_clock_day")

Given = TypeVar("Given")
Made = TypeVar("Made")


class _Task(NamedTuple):
    """What is to be done, and where."""

    folder: Path
    aside: Path
    """For what is deleted at the end."""
    events: Table
    config: CounterConfig
    first_day: int
    """What the days of records count from."""
    made: Steps
    progress: Progress

    @property
    def records(self) -> Path:
        """What counting reads of each event, one after the other."""
        return self.aside / "records"


class _Span(NamedTuple):
    """Some viewers' events, as they were set aside."""

    first: int
    """How many events stand before."""
    number: int
    asks_before: dict[int, int]
    """Day -> how many asks of that clock day stand before."""


def write_in_passes(
    folder: Path,
    events: Table,
    videos: Table,
    config: CounterConfig,
    session_gap_s: float,
    made: Steps,
    progress: Progress,
) -> dict[str, int]:
    """Write the events and both forms of their counters, as `spans.write_in_spans` does.

    Args:
        folder: The dataset being made; its `viewers.arrow` is written.
        events: Coded events without null, in sequence.
        videos: `video, author, topics`.
        config: What is counted.
        session_gap_s: A longer pause between two showings starts a new session.
        made: Where intermediate tables go.
        progress: Who hears how far it is.

    Returns:
        `num_events` and `num_timed_events`, the numbers of rows.

    Raises:
        SettingError: `half_life_days` is too short for a log as long as this.
    """
    check_half_life(event_form(events, videos, config), config)
    with TemporaryDirectory(dir=folder, prefix="aside-") as aside:
        task = _Task(folder, Path(aside), events, config, _first_day(events), made, progress)
        days = DayFiles(task.aside)
        spans = _write_events(task, days, session_gap_s)
        num_timed = _write_counters(task, spans, _over_all_viewers(task, days, _catalogue(videos)))
    return {"num_events": sum(span.number for span in spans), "num_timed_events": num_timed}


def _over_all_viewers(task: _Task, days: DayFiles, catalogue: Catalogue) -> Shared:
    live, nightly = _day_sums(task, catalogue)
    num_objectives = len(task.config.counted)
    today: dict[int, Today] = {}
    of_largest = DAY_BYTES * (max(days.num_items.values(), default=1) + 3 * ITEMS_TOGETHER)
    engine = task.made.engine
    threads = max(1, min(engine.num_threads, engine.memory_bytes // of_largest))
    with task.progress.task("counting by day", total=len(days.num_asks), unit="days") as told:
        counted = _in_order(
            sorted(days.num_asks),
            lambda day: (day, days.count_day(day, SHARED_KEYS, catalogue, num_objectives)),
            threads,
        )
        for day, of_day in counted:
            today[day] = of_day
            told.advance()
    return Shared(
        catalogue=catalogue,
        live=live,
        nightly=nightly,
        today=today,
        num_objectives=num_objectives,
        fading=Fading(task.config.half_life_days),
    )


def _write_counters(task: _Task, spans: list[_Span], shared: Shared) -> int:
    """Write both forms of the counters; returns how many rows."""
    names, engine = counter_names(task.config.counted), task.made.engine
    num_events = sum(span.number for span in spans)

    def count(span: _Span) -> tuple[_Span, tuple[Matrix, Matrix]]:
        return span, counters_of(_records(task.records, span), span.asks_before, shared)

    with ExitStack() as stack:
        files = [
            stack.enter_context(
                counters_file(task.folder / f"counters_{form}.arrow", names, engine.connection)
            )
            for form in FORMS
        ]
        what = "counting and writing"
        told = stack.enter_context(task.progress.task(what, total=num_events, unit="events"))
        for span, matrices in _in_order(spans, count, engine.num_threads):
            for file, matrix in zip(files, matrices, strict=True):
                if len(matrix):
                    file.put({"counters": matrix_column(matrix)})
            told.advance(span.number)
    return files[0].num_rows


def _first_day(events: Table) -> int:
    ends = events.aggregate(**{name: events[name].min() for name in _DAYS})
    return int(min(ends.to_pyarrow().to_pylist()[0].values()))


def _catalogue(videos: Table) -> Catalogue:
    rows = videos.select("video", "author", "topics").to_pyarrow()
    video = rows["video"].to_numpy()
    author = np.zeros(int(video.max(initial=-1)) + 1, dtype=np.int64)
    author[video] = rows["author"].to_numpy()
    lists = rows["topics"].combine_chunks()
    number = np.diff(lists.offsets.to_numpy())
    topics = np.zeros((len(author), max(1, int(number.max(initial=0)))), dtype=np.int64)
    slot = np.arange(int(number.sum())) - np.repeat(np.cumsum(number) - number, number)
    topics[np.repeat(video, number), slot] = lists.flatten().to_numpy()
    return Catalogue(author, topics)


def _day_sums(
    task: _Task, catalogue: Catalogue
) -> tuple[dict[str, DaySums], dict[str, DaySums] | None]:
    """Sum what is counted over all viewers: live, and nightly where that is another."""
    events = task.events
    live = events.mutate(known_day=events.known_clock_day, clock_day=events.known_clock_day)
    sums = _of_videos(live, task, catalogue)
    ahead = events.filter(events.known_day != events.known_clock_day)
    if not ahead.limit(1).count().to_pyarrow().as_py():
        return sums, None
    nightly = events.mutate(clock_day=events.known_clock_day)
    return sums, _of_videos(nightly, task._replace(made=task.made.silent()), catalogue)


def _of_videos(outcomes: Table, task: _Task, catalogue: Catalogue) -> dict[str, DaySums]:
    config, made, first_day = task.config, task.made, task.first_day
    names = sum_names(config.counted)
    daily = made.keep("daily counts of videos", daily_counts(outcomes, ("video",), names))
    rows = daily.to_pyarrow()
    made.drop("daily counts of videos")
    video = rows["video"].to_numpy().astype(np.int64)
    known, clock = (
        rows[name].to_numpy().astype(np.int64) - first_day for name in ("known_day", "clock_day")
    )
    counts: Sums = np.stack([rows[name].to_numpy() for name in names], axis=1).astype(np.float64)
    fading = Fading(config.half_life_days)
    found = {}
    for key in SHARED_KEYS:
        if key == "video":
            found[key] = DaySums(video, known, clock, counts, fading)
            continue
        parts = [_summed(each, known, clock, counts) for each in catalogue.keys(key, video)]
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        found[key] = DaySums(columns[0], columns[1], columns[2], columns[3], fading)
    return found


def _summed(
    key: Integers, known: Integers, clock: Integers, counts: Sums
) -> tuple[Integers, Integers, Integers, Sums]:
    """Sum the counts of each key and its two days; a key of -1 is none."""
    rows = np.flatnonzero(key >= 0)
    code = (((key[rows] << DAY_BITS) | known[rows]) << DAY_BITS) | clock[rows]
    different, place = np.unique(code, return_inverse=True)
    columns = [np.bincount(place, column[rows], len(different)) for column in counts.T]
    sums = np.stack(columns, axis=1).astype(np.float64)
    last = (1 << DAY_BITS) - 1
    return different >> 2 * DAY_BITS, different >> DAY_BITS & last, different & last, sums


def _write_events(task: _Task, days: DayFiles, session_gap_s: float) -> list[_Span]:
    """Write `events.arrow`, and set aside what counting reads."""
    spans, first = [], 0
    viewers = viewer_spans(events_of_viewers(task.folder), EVENTS_AT_ONCE)
    num_events = sum(number for _, _, number in viewers)
    with (
        events_file(task.folder, LABELS, task.made.engine.connection) as rows,
        task.records.open("wb") as records,
        task.progress.task("writing histories", total=num_events, unit="events") as told,
    ):
        for first_viewer, last_viewer, number in viewers:
            here = task.events.filter(task.events.viewer.between(first_viewer, last_viewer))
            columns = _in_sequence(here.to_pyarrow())
            place, run = places_in_sequence(
                columns["viewer"].to_numpy(),
                columns["shown_at_ms"].to_numpy(),
                columns["label_glance"].to_numpy(),
                session_gap_s,
            )
            columns |= {"session_place": pa.array(place), "glance_run": pa.array(run)}
            rows.finish_and_put(columns)
            of_span = _record(columns, task.config, task.first_day)
            of_span.tofile(records)
            spans.append(_Span(first, number, days.add(of_span)))
            first += number
            told.advance(number)
    return spans


def _in_sequence(table: pa.Table) -> dict[str, pa.Array]:
    """Return the columns of rows, sorted if the engine gave them in another order."""
    keys = [table[name].to_numpy() for name in SEQUENCE_ORDER]
    order = np.lexsort(keys[::-1])
    if (np.diff(order) != 1).any():
        table = table.take(order)
    return {name: table[name].combine_chunks() for name in table.column_names}


def _record(columns: dict[str, pa.Array], config: CounterConfig, first_day: int) -> Records:
    number = len(columns["viewer"])
    values = {name: column.to_numpy() for name, column in columns.items()}
    record = np.empty(number, dtype=RECORD)
    for name in ("viewer", "video", "surface"):
        record[name] = values[name]
    for name in _DAYS:
        record[name] = values[name] - first_day
    labels = [values[f"label_{name}"] for name in COUNTABLE if name in config.counted]
    record["code"] = verdict_codes(labels, number)
    record["known_moment"] = _moment(values["known_at_ms"], values["known_clock_day"])
    asked = _moment(values["requested_at_ms"], values["asked_clock_day"])
    record["asked_moment"] = np.where(values["requested_at_ms"] >= 0, asked, -1)
    return record


def _moment(at_ms: Integers, clock_day: NDArray[np.int32]) -> Integers:
    """Return ms since a day before the clock day begins in UTC: no zone is farther off.

    What is known before everything has 0.
    """
    since = at_ms - (clock_day.astype(np.int64) - 1) * DAY_MS
    return np.where(at_ms < 0, 0, since)


def _records(file: Path, span: _Span) -> Records:
    records: Records = np.fromfile(
        file, dtype=RECORD, count=span.number, offset=span.first * RECORD.itemsize
    )
    return records


def _in_order(
    given: Iterable[Given], make: Callable[[Given], Made], threads: int
) -> Iterator[Made]:
    """Make things in threads, at most one more than there are threads ahead, in their order."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Made]] = deque()
        for each in given:
            waiting.append(pool.submit(make, each))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
