"""From an event log to a prepared DATASET.

    EventLog  ->  codes  ->  times known  ->  labels  ->  spans of viewers: sequence, counters
              ->  prepare  ->  DATASET folder (docs/design.md)

- Out of core: every step is a table of the engine, and files are written some viewers at a time.
- The folder appears whole or not at all.
- The same log and settings give the same events and catalogues, and the same fingerprint.

Reads `events` and `labels`; is read by the command line. `dataset` maps what this writes.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

import ibis
from ibis import _
from ibis.backends import BaseBackend
from ibis.expr.types import Table, Value

from skipwise.engine import engine_of
from skipwise.errors import EventError
from skipwise.events.read import EventLog, ReadSettings
from skipwise.events.schema import FLAGS, SourceDescription
from skipwise.features.codes import (
    Codes,
    add_codes,
    code_extras,
    code_videos,
    code_viewers,
    make_codes,
    words_of,
)
from skipwise.features.counter_names import CounterConfig, counter_names
from skipwise.features.describe import Contents, describe
from skipwise.features.files import write_authors, write_videos, write_viewers
from skipwise.features.known import add_known_times
from skipwise.features.local_spans import write_in_passes
from skipwise.features.sequence import SEQUENCE_ORDER, SESSION_GAP_S
from skipwise.features.spans import write_in_spans
from skipwise.features.steps import Steps, steps
from skipwise.labels.bulk import label_events
from skipwise.labels.watch import LABELS, LabelConfig
from skipwise.progress import SILENT, Progress
from skipwise.settings import check_setting
from skipwise.storage import check_replaceable, replace_folder, write_json


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareSettings:
    """How a log becomes a dataset."""

    read: ReadSettings = field(default_factory=ReadSettings)
    """What is refused while the log is read: given to `read_log`, kept here."""
    labels: LabelConfig = field(default_factory=LabelConfig)
    """What a watch means."""
    counters: CounterConfig = field(default_factory=CounterConfig)
    """What is counted, and how fast it is forgotten."""
    outcome_delay_s: float = 0.0
    """How long after a watch has ended its outcome is known."""
    session_gap_s: float = SESSION_GAP_S
    """A longer pause between two showings starts a new session."""

    def __post_init__(self) -> None:
        check_setting("outcome_delay_s", self.outcome_delay_s, at_least=0, at_most=30 * 86_400)
        check_setting("session_gap_s", self.session_gap_s, above=0, at_most=7 * 86_400)


def settings_of(source: SourceDescription) -> PrepareSettings:
    """Return the settings a source starts from: the defaults, with its own rule of a glance."""
    return PrepareSettings(labels=LabelConfig(glance_needs_duration=source.glance_needs_duration))


def prepare(
    log: EventLog,
    connection: BaseBackend,
    out: Path,
    settings: PrepareSettings | None = None,
    progress: Progress = SILENT,
) -> None:
    """Write the DATASET of a log.

    Args:
        log: What a reader made of a source; its tables live in `connection`.
        connection: The engine; its memory limit and threads hold.
        out: The DATASET folder; an old one is replaced.
        settings: How; what `settings_of` gives for the source where None.
        progress: Who hears how far it is.

    Raises:
        EventError: The log has no event with a time, or a catalogue names something twice.
        SettingError: `half_life_days` is too short for a log as long as this, or `out` holds
            something that is not a dataset.
        StorageError: The disk is full or the folder cannot be written.
    """
    settings = settings or settings_of(log.description)
    check_replaceable(out, "dataset.json", "a prepared dataset")
    span = _span(log.events)
    with replace_folder(out) as folder, _steps(log, connection, progress) as made:
        codes = make_codes(log.events, log.videos, log.viewers, made.keep)
        events = _code_events(log, codes, span, settings, made)
        writer = _Writer(folder, connection, progress)
        videos, categories = _write_catalogues(writer, log, codes, settings.labels, made)
        labels = _count_labels(events)
        counters = _answered(settings.counters, labels)
        write = write_in_passes if made.engine.is_local else write_in_spans
        writer.rows |= write(
            folder, events, videos, counters, settings.session_gap_s, made, progress
        )
        contents = Contents(
            first_day=span.first_day,
            last_day=span.last_day,
            labels=labels,
            counter_names=counter_names(counters.counted),
            surfaces=words_of(codes.surfaces),
            topics=words_of(codes.topics),
            categories=categories,
            row_counts=writer.rows,
        )
        threads = made.engine.num_threads
        write_json(folder / "dataset.json", describe(folder, log, settings, contents, threads))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Span:
    """What time the timed events take."""

    first_day: int
    last_day: int
    first_ms: int
    last_ms: int


@dataclass(slots=True)
class _Writer:
    """Where files go, and how many rows went."""

    folder: Path
    connection: BaseBackend
    progress: Progress
    rows: dict[str, int] = field(default_factory=dict)


def _steps(
    log: EventLog, connection: BaseBackend, progress: Progress
) -> AbstractContextManager[Steps]:
    """Count the tables that will be kept: codes, events, labels, catalogues, counters."""
    extras = (*log.description.video_extras, *log.description.viewer_extras)
    of_counters = 1 if engine_of(connection).is_local else 15
    total = 5 + 2 + 5 + 2 + of_counters + sum(extra.kind == "categorical" for extra in extras)
    return steps(connection, progress, total)


def _span(events: Table) -> _Span:
    timed = events.filter(events.shown_at_ms.notnull())
    found = timed.aggregate(
        first_day=_.day.min(),
        last_day=_.day.max(),
        first_ms=_.shown_at_ms.min(),
        last_ms=_.shown_at_ms.max(),
    )
    ends = found.to_pyarrow().to_pylist()[0]
    if ends["first_ms"] is None:
        raise EventError(
            "the log has no event with a time; a dataset needs at least one. "
            "Check that the log is not empty, and that its time column is the right one."
        )
    return _Span(**ends)


def _code_events(
    log: EventLog, codes: Codes, span: _Span, settings: PrepareSettings, made: Steps
) -> Table:
    """Give every event its codes, times and labels, as files and counters read them, in sequence.

    Codes come first: what follows joins and sorts whole numbers, not words.
    """
    coded = add_known_times(
        _in_codes(log.events, codes),
        log.description.time_zone,
        span.first_day,
        (span.first_ms, span.last_ms),
        round(settings.outcome_delay_s * 1000),
    )
    coded = made.keep("codes and times of events", coded.drop("request_id"))
    with made.passing():
        labelled = _without_null(label_events(coded, settings.labels, made.keep))
        events = made.keep("labels", labelled.order_by(list(SEQUENCE_ORDER)), stays=True)
    made.drop("codes and times of events")
    return events


def _in_codes(events: Table, codes: Codes) -> Table:
    """Put numbers in the place of the words of events, and leave out what no file holds."""
    table = add_codes(
        events,
        {
            "viewer": ("viewer_id", codes.viewers),
            "video": ("video_id", codes.videos),
            "surface": ("surface", codes.surfaces),
        },
    )
    return table.select(
        "day", "shown_at_ms", "watch_ms", "duration_ms", "request_id", *FLAGS, "source_order",
        viewer_id=table.viewer, video_id=table.video, surface=table.surface.cast("int16"),
    )  # fmt: skip


def _without_null(table: Table) -> Table:
    """Put labelled events in the types of `events.arrow`."""
    return table.select(
        "day", "known_day", "known_clock_day", "asked_clock_day", "hour",
        "requested_at_ms", "known_at_ms", "request", "source_order", "surface",
        viewer=table.viewer_id,
        video=table.video_id,
        shown_at_ms=table.shown_at_ms.fill_null(-1),
        duration_bucket=table.duration_bucket.fill_null(0).cast("int8"),
        feedback=table.feedback.cast("int8"),
        **{f"label_{name}": _verdict(table[f"label_{name}"]) for name in LABELS},
        **{
            name: _number(table[name])
            for name in (
                "watch_s", "duration_s", "watch_rank", "effective_above_s", "finished_above_s"
            )
        },
    )  # fmt: skip


def _verdict(label: Value) -> Value:
    return label.cast("int8").fill_null(ibis.literal(-1, type="int8"))


def _number(value: Value) -> Value:
    return value.cast("float32").fill_null(ibis.literal(float("nan"), type="float32"))


def _write_catalogues(
    writer: _Writer, log: EventLog, codes: Codes, labels: LabelConfig, made: Steps
) -> tuple[Table, dict[str, dict[str, list[str]]]]:
    """Write videos, viewers and authors; returns the coded videos and the words of each extra."""
    video_extras = code_extras(log.videos, log.description.video_extras, made.keep)
    viewer_extras = code_extras(log.viewers, log.description.viewer_extras, made.keep)
    zone = log.description.time_zone
    videos = code_videos(codes, log.videos, log.events, video_extras, zone, labels)
    videos = made.keep("videos", videos)
    viewers = made.keep("viewers", code_viewers(codes, log.viewers, log.events, viewer_extras))
    place = (writer.connection, writer.progress)
    writer.rows["num_videos"] = write_videos(writer.folder, videos, video_extras, *place)
    writer.rows["num_viewers"] = write_viewers(writer.folder, viewers, viewer_extras, *place)
    writer.rows["num_authors"] = write_authors(writer.folder, codes.authors, *place)
    return videos, {"video_extras": _words(video_extras), "viewer_extras": _words(viewer_extras)}


def _words(extras: Mapping[str, Table | None]) -> dict[str, list[str]]:
    return {name: words_of(codes) for name, codes in extras.items() if codes is not None}


def _count_labels(events: Table) -> dict[str, dict[str, int]]:
    """Count, for each label, the events that have it known, and those that have it positive."""
    counts = {
        f"{name}_{what}": test.cast("int64").sum()
        for name in LABELS
        for what, test in (
            ("known", events[f"label_{name}"] >= 0),
            ("positive", events[f"label_{name}"] == 1),
        )
    }
    found = events.aggregate(**counts).to_pyarrow().to_pylist()[0]
    return {
        name: {what: int(found[f"{name}_{what}"]) for what in ("known", "positive")}
        for name in LABELS
    }


def _answered(counters: CounterConfig, labels: Mapping[str, Mapping[str, int]]) -> CounterConfig:
    """Leave out what the log cannot answer: it would be columns of zeros."""
    return replace(
        counters, counted=tuple(name for name in counters.counted if labels[name]["known"])
    )
