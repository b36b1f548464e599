"""How what a server was sent becomes a log that can be followed.

    the log before, a state's log  ->  ServedLog.pull  ->  FOLDER, in Skipwise's own form, growing;
                                                           FOLDER/exposures.jsonl beside it

- First the rows of the log that the server began with, then every view in the order in which it was
  accepted; nothing that was written is changed or moved.
- How far the state has been read stands in the file that holds the rows: killed at any moment, each
  view is there once. It moves on over lines that are no views too, so that a log that is cut up to
  where it was read is still whole.
- A late outcome is taken where its view was not written yet (`late_minutes`); else it is counted.
  It waits a day for a view that comes after it.

Reads `served_exposures`, `events` and `serving`; is read by the command line.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ibis
import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from skipwise.errors import RunError
from skipwise.events.canonical import (
    DESCRIPTION_FILE,
    EVENTS_FILE,
    VIDEOS_FILE,
    VIEWERS_FILE,
    part_name,
)
from skipwise.events.read import EventLog
from skipwise.events.schema import FLAGS, SourceDescription
from skipwise.experiments.exposure import EXPOSURES_FILE
from skipwise.loop.served_exposures import ServedExposures
from skipwise.serving.catalogue import VideoFacts
from skipwise.serving.intake import day_of
from skipwise.serving.state.store import START, Store
from skipwise.serving.wire import Event
from skipwise.serving.world import Amended, Exposed, VideoPosted, Viewed, read_line
from skipwise.storage import replace_file, replace_folder, write_json

ROWS_OF_A_PART = 50_000
_CURSOR, _LATE = b"skipwise.read_until", b"skipwise.late_outcomes"
_VIEW_COMES_WITHIN_MS = 86_400_000
"""So long a late outcome waits for its view, which may be sent after it."""
_STATES = ("sqlite:", "redis://", "rediss://", "unix://")


def is_state(log: str) -> bool:
    """Whether a log is named as a server's state is."""
    return log.startswith(_STATES)


@dataclass(slots=True)
class _Read:
    """What was found in the state's log."""

    until: str
    """Cursor of the last line."""
    views: list[tuple[Viewed, str]] = field(default_factory=list)
    """With the cursor before each."""
    late: dict[str, list[tuple[Amended, str]]] = field(default_factory=dict)
    """By the event they are of, with the cursor before each."""
    posted: dict[str, VideoFacts] = field(default_factory=dict)
    exposed: list[Exposed] = field(default_factory=list)


class ServedLog:
    """A folder that holds what was before serving, and what was served; see the module header."""

    def __init__(
        self,
        folder: Path,
        store: Store,
        before: Callable[[], EventLog],
        *,
        late_minutes: float = 0.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Begin, or go on where the folder ends.

        Args:
            folder: To be written; on one that is there it goes on.
            store: The server's state.
            before: Reads the log that the server's dataset was prepared from; asked for once.
            late_minutes: A view is written when its outcome has been known for so long.
            clock: Seconds since 1970.

        Raises:
            ExperimentError: A line of its exposure log is none.
        """
        self.folder, self.store, self.clock = folder, store, clock
        self.late_ms = late_minutes * 60_000
        if not (folder / EVENTS_FILE).is_file():
            _write_before(folder, before())
        self.schema = pq.read_schema(folder / EVENTS_FILE).remove_metadata()
        self.exposures = ServedExposures(folder / EXPOSURES_FILE)

    def pull(self) -> int:
        """Write what was accepted since; returns how many views.

        Raises:
            RunError: The state's log was cut or is another's, so views would be missing.
            StateError: The state is out of reach.
            StorageError: The disk is full.
        """
        number, rows, about = self._tail()
        cursor = about.get(_CURSOR, START.encode()).decode()
        self._check_whole(cursor)
        found = self._read(cursor)
        self.exposures.add(found.exposed)
        if found.posted:
            self._post(found.posted)
        ripe = self._ripe(found.views)
        until = self._until(found, len(ripe))
        if not ripe and (rows is None or until == cursor):
            return 0
        lengths = self._lengths() if any(v.event.duration_ms is None for v, _ in ripe) else {}
        table = pa.Table.from_pylist(
            [
                _row(view.event, found.late.get(view.event.event_id, ()), lengths)
                for view, _ in ripe
            ],
            schema=self.schema,
        )
        late = int(about.get(_LATE, b"0")) + _missed(found, until)
        if ripe and rows is not None and rows.num_rows >= ROWS_OF_A_PART:
            number, rows = number + 1, None
        whole = table if rows is None else pa.concat_tables([rows, table])
        told = {_CURSOR: until.encode(), _LATE: str(late).encode()}
        with replace_file(self.folder / part_name(number)) as aside:
            pq.write_table(whole.replace_schema_metadata(told), aside, compression="zstd")
        return len(ripe)

    def _tail(self) -> tuple[int, pa.Table | None, Mapping[bytes, bytes]]:
        """Return the number of the last part, its rows, and what it says of itself."""
        number = 1
        while (self.folder / part_name(number + 1)).is_file():
            number += 1
        path = self.folder / part_name(number)
        if not path.is_file():
            return number, None, {}
        rows = pq.read_table(path)
        return number, rows.replace_schema_metadata(None), rows.schema.metadata or {}

    def _check_whole(self, cursor: str) -> None:
        if cursor == START:
            return
        first, end = self.store.begin(), self.store.end()
        if _place(first) > _after(cursor) or _place(end) < _place(cursor):
            raise RunError(
                f"the state was read until {cursor} before; its log now goes from {first} to "
                f"{end}, so it was cut or is another's, and views would be missing. Follow anew "
                "with another --out, and read the state more often than its log is kept "
                "(serving.state.log_days)."
            )

    def _read(self, cursor: str) -> _Read:
        found = _Read(cursor)
        while lines := self.store.follow(found.until):
            for logged in lines:
                before, found.until = found.until, logged.cursor
                line = read_line(logged.payload) if logged.payload else None
                match line:
                    case Viewed():
                        found.views.append((line, before))
                    case Amended(outcome=outcome):
                        found.late.setdefault(outcome.of_event_id, []).append((line, before))
                    case VideoPosted(facts=facts):
                        found.posted[facts.video_id] = facts
                    case Exposed():
                        found.exposed.append(line)
                    case _:
                        pass
        return found

    def _ripe(self, views: list[tuple[Viewed, str]]) -> list[tuple[Viewed, str]]:
        """Return the views before the first that still waits for late outcomes."""
        until_ms = self.clock() * 1000 - self.late_ms
        waits = (
            place
            for place, (view, _) in enumerate(views)
            if self.late_ms and view.known_at_ms > until_ms
        )
        return views[: next(waits, len(views))]

    def _until(self, found: _Read, ripe: int) -> str:
        """Return the cursor of the last line before the first after the ripe views that waits."""
        late_ms = max(self.late_ms, _VIEW_COMES_WITHIN_MS)
        patient_ms = self.clock() * 1000 - late_ms
        taken = {view.event.event_id for view, _ in found.views[:ripe]}
        coming = {view.event.event_id for view, _ in found.views[ripe:]}
        waits = [before for _, before in found.views[ripe : ripe + 1]]
        waits += [
            before
            for event_id, each in found.late.items()
            for amended, before in each
            if event_id not in taken
            and (event_id in coming or amended.outcome.known_at_ms > patient_ms)
            and (not ripe or _place(before) > _place(found.views[ripe - 1][1]))
        ]
        return min(waits, key=_place, default=found.until)

    def _lengths(self) -> dict[str, int]:
        videos = pq.read_table(self.folder / VIDEOS_FILE, columns=["video_id", "duration_ms"])
        return dict(zip(*(videos[name].to_pylist() for name in videos.column_names), strict=True))

    def _post(self, posted: Mapping[str, VideoFacts]) -> None:
        videos = pq.read_table(self.folder / VIDEOS_FILE)
        known = pc.is_in(videos["video_id"], value_set=pa.array(list(posted), pa.string()))
        rows = [_video(facts, videos.schema.names) for facts in posted.values()]
        more = pa.Table.from_pylist(rows, schema=videos.schema)
        with replace_file(self.folder / VIDEOS_FILE) as aside:
            pq.write_table(pa.concat_tables([videos.filter(pc.invert(known)), more]), aside)


def _write_before(folder: Path, log: EventLog) -> None:
    """Write a log in Skipwise's own form: its rows in their order, its catalogues, its zone."""
    with replace_folder(folder) as aside:
        ordered = log.events.order_by("source_order").drop("source_order")
        for name, table in (
            (EVENTS_FILE, ordered),
            (VIDEOS_FILE, log.videos.order_by("video_id")),
            (VIEWERS_FILE, log.viewers.order_by("viewer_id")),
        ):
            pq.write_table(_plain(table), aside / name, compression="zstd")
        write_json(aside / DESCRIPTION_FILE, _described(log.description))


def _plain(table: ibis.Table) -> pa.Table:
    """Fetch a table with plain columns, all nullable."""
    found = table.to_pyarrow()
    fields = [pa.field(each.name, each.type, nullable=True) for each in found.schema]
    return found.cast(pa.schema(fields))


def _described(description: SourceDescription) -> dict[str, Any]:
    extras = {
        key: [{"name": each.name, "kind": each.kind} for each in getattr(description, key)]
        for key in ("viewer_extras", "video_extras")
    }
    return {
        "name": description.name,
        "time_zone": description.time_zone,
        "glance_needs_duration": description.glance_needs_duration,
        **extras,
    }


def _row(
    event: Event, late: Iterable[tuple[Amended, str]], lengths: Mapping[str, int]
) -> dict[str, Any]:
    row = {name: getattr(event, name) for name in _SAME}
    row["day"] = None if event.day is None else day_of(event.day, 0)
    row["duration_ms"] = event.duration_ms or lengths.get(event.video_id)
    for amended, _ in late:
        said = {name: getattr(amended.outcome, name, None) for name in FLAGS}
        row |= {name: value for name, value in said.items() if value is not None}
    return row


_SAME = (
    *("viewer_id", "video_id", "shown_at_ms", "watch_ms", "surface", "request_id", "position"),
    *(*FLAGS, "policy", "propensity", "variant"),
)


def _video(facts: VideoFacts, names: list[str]) -> dict[str, Any]:
    told = {**facts.extras, **json.loads(msgspec.json.encode(facts))}
    return {name: told.get(name) for name in names} | {"topics": list(facts.topics)}


def _missed(found: _Read, until: str) -> int:
    """Count late outcomes that are passed over, of views that were written before."""
    there = {view.event.event_id for view, _ in found.views}
    return sum(
        _place(before) < _place(until)
        for event_id, each in found.late.items()
        if event_id not in there
        for _, before in each
    )


def _place(cursor: str) -> tuple[int, ...]:
    """Put cursors of either store in order."""
    return tuple(int(part) for part in cursor.split("-"))


def _after(cursor: str) -> tuple[int, ...]:
    """Return the first place after a cursor's, in either store: no line lies between them."""
    *stem, last = _place(cursor)
    return (*stem, last + 1)
