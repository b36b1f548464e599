"""What a server was sent is written down once, in order, however it is read."""

from collections.abc import Callable
from pathlib import Path

import ibis
import pyarrow.parquet as pq
import pytest

from skipwise.errors import RunError
from skipwise.events.read import read_log
from skipwise.features.dataset import Dataset
from skipwise.loop import served_log
from skipwise.loop.served_log import ServedLog
from skipwise.serving.catalogue import VideoFacts
from skipwise.serving.engine import Engine
from skipwise.serving.opening import open_engine, prepare_state
from skipwise.serving.state.store import START, StateSettings, Store, open_store
from skipwise.serving.wire import Event, EventBatch, LateOutcome
from skipwise.serving.world import Viewed, read_line
from skipwise.simulation.world import DAY_MS
from skipwise.training.checkpoint import TrainedRun


@pytest.fixture
def engine(small_run: TrainedRun, small_dataset: Dataset, store: Store) -> Engine:
    """An engine on either store."""
    prepare_state(small_run.path, small_dataset.path, store, StateSettings())
    now_ms = (small_dataset.days[1] + 2) * DAY_MS
    return open_engine(small_run.path, small_dataset.path, store, clock=lambda: now_ms)


Opens = Callable[..., ServedLog]


@pytest.fixture
def opened(small_dataset: Dataset, tmp_path: Path, engine: Engine) -> Opens:
    def make(folder: Path = tmp_path / "log", **more: object) -> ServedLog:
        connection = ibis.duckdb.connect(threads=1)
        log = small_dataset.path.parent / "log"
        return ServedLog(
            folder,
            engine.store,
            lambda: read_log(log, connection),
            clock=lambda: engine.clock() / 1000,
            **more,  # type: ignore[arg-type]
        )

    return make


def view(engine: Engine, place: int, **more: object) -> Event:
    return Event(
        event_id=f"e{place}",
        viewer_id=f"u{place % 40}",
        video_id=f"v{place % 60}",
        shown_at_ms=engine.clock() - DAY_MS + place * 1000,
        watch_ms=5000,
        request_id=f"q{place}",
        **more,  # type: ignore[arg-type]
    )


def send(engine: Engine, places: range) -> None:
    engine.keep([EventBatch(events=tuple(view(engine, place) for place in places))])


def rows(folder: Path) -> list[str]:
    connection = ibis.duckdb.connect(threads=1)
    table = read_log(folder, connection).events.order_by("source_order").to_pyarrow()
    return [str(each) for each in table["request_id"].to_pylist()]


def test_pieces_give_the_rows_of_the_whole_and_begin_with_what_was_before(
    engine: Engine,
    opened: Opens,
    small_dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(served_log, "ROWS_OF_A_PART", 25)
    for start in (0, 10, 30, 60):
        send(engine, range(start, start + (10 if start == 0 else 20)))
        assert opened().pull() == (10 if start == 0 else 20)
        assert opened().pull() == 0
    send(engine, range(60, 80))  # sent twice: counts once
    assert opened().pull() == 0
    opened(tmp_path / "whole").pull()
    before = rows(small_dataset.path.parent / "log")
    served = [*range(50), *range(60, 80)]
    assert rows(tmp_path / "log") == [*before, *(f"q{place}" for place in served)]
    assert rows(tmp_path / "whole") == rows(tmp_path / "log")
    assert (tmp_path / "log" / "events-00002.parquet").is_file()


def test_killed_while_it_writes_nothing_is_there_twice(
    engine: Engine, opened: Opens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened()
    send(engine, range(10))
    engine.post([VideoFacts(video_id="new", topics=("t",), duration_ms=9000)])

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(served_log, "part_name", dies)
        with pytest.raises(KeyboardInterrupt):
            opened().pull()
    assert opened().pull() == 10
    assert [row for row in rows(tmp_path / "log") if row.startswith("q")][-10:] == [
        f"q{place}" for place in range(10)
    ]
    videos = pq.read_table(tmp_path / "log" / "videos.parquet")["video_id"].to_pylist()
    assert videos.count("new") == 1


def test_a_late_outcome_is_taken_where_the_view_waits_for_it(
    engine: Engine, opened: Opens, tmp_path: Path
) -> None:
    send(engine, range(2))
    late = LateOutcome(
        event_id="l", of_event_id="e1", viewer_id="u1", video_id="v1",
        known_at_ms=engine.clock() - 1000, disliked=True,
    )  # fmt: skip
    waits = opened(late_minutes=2 * 24 * 60.0)
    assert waits.pull() == 0
    engine.keep([EventBatch(outcomes=(late,))])
    assert opened().pull() == 2
    part = pq.read_table(tmp_path / "log" / "events-00001.parquet")
    assert part["disliked"].to_pylist() == [None, True]


def test_a_state_that_is_another_is_refused(engine: Engine, opened: Opens, tmp_path: Path) -> None:
    send(engine, range(30))
    opened().pull()
    other = open_store(f"sqlite:{tmp_path / 'other.db'}")
    again = opened()
    again.store = other
    with pytest.raises(RunError, match="it was cut or is another's"):
        again.pull()
    other.close()


LATER_S = 4_000_000_000
"""When every line is past its days."""


def test_a_quiet_log_that_is_cut_where_it_was_read_is_gone_on_with(
    engine: Engine, opened: Opens, tmp_path: Path
) -> None:
    """Whole, so that nothing is left of it; then it is followed as before."""
    send(engine, range(30))
    assert opened().pull() == 30
    engine.store.prune(StateSettings(), LATER_S, engine.store.end())
    assert engine.store.follow(START) == []
    assert opened().pull() == 0
    send(engine, range(30, 40))
    assert opened().pull() == 10
    assert rows(tmp_path / "log")[-40:] == [f"q{place}" for place in range(40)]


def test_a_log_that_is_cut_beyond_where_it_was_read_is_refused(
    engine: Engine, opened: Opens
) -> None:
    send(engine, range(30))
    assert opened().pull() == 30
    send(engine, range(30, 33))
    engine.store.prune(StateSettings(), LATER_S, _line_of(engine, 29))
    assert opened().pull() == 3, "what was cut had been read"
    send(engine, range(33, 36))
    for place in (33, 35):  # the first that was not read; all of them
        engine.store.prune(StateSettings(), LATER_S, _line_of(engine, place))
        with pytest.raises(RunError, match="it was cut or is another's, and views would be miss"):
            opened().pull()


def _line_of(engine: Engine, place: int) -> str:
    """Return the cursor of a view in the log."""
    for logged in engine.store.follow(START):
        line = read_line(logged.payload)
        if isinstance(line, Viewed) and line.event.event_id == f"e{place}":
            return logged.cursor
    raise AssertionError(place)


def test_lines_that_are_no_views_are_read_too_and_may_be_cut(
    engine: Engine, opened: Opens, tmp_path: Path
) -> None:
    """A video posted, weights changed: the log goes on without a view, and none is missed."""
    send(engine, range(3))
    engine.set_score({"glance_power": 2.0})
    assert opened().pull() == 3
    engine.post([VideoFacts(video_id="new", topics=("t",), duration_ms=9000)])
    assert opened().pull() == 0
    part = tmp_path / "log" / "events-00001.parquet"
    assert pq.read_table(part).num_rows == 3
    written = part.stat().st_mtime_ns
    assert opened().pull() == 0
    assert part.stat().st_mtime_ns == written, "nothing new, nothing written"
    engine.store.prune(StateSettings(), LATER_S, engine.store.end())
    assert opened().pull() == 0
    engine.set_score({"glance_power": 3.0})
    engine.store.prune(StateSettings(), LATER_S, engine.store.end())
    with pytest.raises(RunError, match="views would be missing"):  # it could have been a view
        opened().pull()


def test_an_outcome_that_comes_before_its_view_waits_a_day_for_it(
    engine: Engine, opened: Opens, tmp_path: Path
) -> None:
    def late(place: int, known_at_ms: int) -> LateOutcome:
        return LateOutcome(
            event_id=f"l{place}", of_event_id=f"e{place}", viewer_id=f"u{place}",
            video_id=f"v{place}", known_at_ms=known_at_ms, disliked=True,
        )  # fmt: skip

    send(engine, range(1))
    old, young = engine.clock() - DAY_MS - 1000, engine.clock() - 1000
    engine.keep([EventBatch(outcomes=(late(1, old), late(2, young)))])
    assert opened().pull() == 1
    assert opened().pull() == 0
    send(engine, range(1, 3))
    assert opened().pull() == 2
    part = pq.read_table(tmp_path / "log" / "events-00001.parquet")
    assert part["disliked"].to_pylist() == [None, None, True]
    assert part.schema.metadata[served_log._LATE] == b"1"


def test_lengths_come_from_the_catalogue_where_a_view_does_not_say(
    engine: Engine, opened: Opens, small_dataset: Dataset, tmp_path: Path
) -> None:
    send(engine, range(1))
    opened().pull()
    seconds = dict(
        zip(*(small_dataset.videos[n].to_pylist() for n in ("video_id", "duration_s")), strict=True)
    )
    part = pq.read_table(tmp_path / "log" / "events-00001.parquet")
    assert part["duration_ms"].to_pylist() == [round(seconds["v0"] * 1000)]
