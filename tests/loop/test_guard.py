"""A served experiment is looked at on its first day: what cannot be judged yet stops nothing."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import ibis
import pytest
from ibis.backends.duckdb import Backend

from skipwise.events.read import read_log
from skipwise.experiments.definition import Goal, Guardrail
from skipwise.experiments.stops import STOPS_FILE, read_stops
from skipwise.features.dataset import Dataset
from skipwise.loop.guard import look
from skipwise.loop.served_log import ServedLog
from skipwise.serving.engine import Engine
from skipwise.serving.state.sqlite import SqliteStore
from skipwise.serving.variants import EXPERIMENT_DOCUMENT, stops_of
from skipwise.serving.wire import Event, EventBatch, FeedRequest
from skipwise.training.checkpoint import TrainedRun
from tests.serving.exposed import DEFINITION, NOON_MS, experimenting, notes

WEEK = dataclasses.replace(
    DEFINITION,
    days=7,
    metrics=(Goal(name="return_rate"), Goal(name="watch_per_viewer")),
    guardrails=(
        Guardrail(name="return_rate", worse_by_at_most=0.02),
        Guardrail(name="glance_rate", worse_by_at_most=0.1),
    ),
)
"""Nobody can have returned on the first of seven days."""
DAY_MS, HOUR_MS = 86_400_000, 3_600_000


@pytest.fixture
def engine(small_run: TrainedRun, small_dataset: Dataset, tmp_path: Path) -> Iterator[Engine]:
    store = SqliteStore(str(tmp_path / "state.db"))
    yield experimenting(small_run, small_dataset, store)
    store.close()


@pytest.fixture
def connection() -> Iterator[Backend]:
    made = ibis.duckdb.connect(threads=1)
    yield made
    made.disconnect()


def live(engine: Engine, skips: int, day: int = 0) -> None:
    """Each viewer sees five cards and leaves one or two at once, the treated `skips` more."""
    events: list[Event] = []
    for number in range(160):
        asked = FeedRequest(viewer_id=f"w{number}", k=5)
        slate = engine.feed(asked, f"q{day}-{number}", cheap=True)
        left = 1 + number % 2 + skips * (slate.variant == "treatment")
        events += (
            Event(
                event_id=f"e{day}-{number}-{place}",
                viewer_id=f"w{number}",
                video_id=item.video_id,
                shown_at_ms=NOON_MS + day * DAY_MS + place * 30_000,
                watch_ms=500 if place < left else 10_000 + 10 * number,
                duration_ms=30_000,
                variant=slate.variant,
            )
            for place, item in enumerate(slate.items)
        )
    notes(engine).write()
    engine.keep([EventBatch(events=tuple(events))])


def looked(engine: Engine, dataset: Dataset, folder: Path, connection: Backend) -> str:
    before = dataset.path.parent / "log"
    ServedLog(folder / "log", engine.store, lambda: read_log(before, connection)).pull()
    return look(WEEK, folder, engine.store, connection, lambda: NOON_MS + HOUR_MS)


def test_a_look_on_the_first_day_judges_what_it_can_and_stops_nothing_sound(
    engine: Engine, small_dataset: Dataset, tmp_path: Path, connection: Backend
) -> None:
    assert looked(engine, small_dataset, tmp_path, connection).startswith("Nothing can be said yet")
    live(engine, skips=0)
    told = looked(engine, small_dataset, tmp_path, connection)
    assert told.startswith("treatment: Keep running: it is day 1 of 7.")
    assert "Not judged yet: next-day return" in told
    assert engine.store.get(EXPERIMENT_DOCUMENT) is None
    held = json.loads((tmp_path / "analysis.json").read_text(encoding="utf-8"))["analysis"]
    assert held["days"] == 1
    assert [each["metric"] for each in held["looks"]] == ["watch_per_viewer", "glance_rate"]
    live(engine, skips=0, day=1)  # all of them come back: still the same for everybody
    told = looked(engine, small_dataset, tmp_path, connection)
    assert "day 2 of 7" in told
    assert engine.store.get(EXPERIMENT_DOCUMENT) is None


def test_a_look_on_the_first_day_stops_what_is_broken_beside_what_is_not_judged_yet(
    engine: Engine, small_dataset: Dataset, tmp_path: Path, connection: Backend
) -> None:
    live(engine, skips=3)
    told = looked(engine, small_dataset, tmp_path, connection)
    assert told.startswith("treatment: Stop: skip rate")
    assert "Not judged yet: next-day return" in told
    stopped = engine.store.get(EXPERIMENT_DOCUMENT)
    assert stopped is not None
    assert b"treatment" in stopped.value
    engine.catch_up()
    slates = [engine.feed(FeedRequest(viewer_id=f"n{number}", k=2), "q") for number in range(40)]
    assert {slate.variant for slate in slates} == {"control", "stopped", "current"}


def test_what_viewers_do_after_the_stop_does_not_change_what_they_were_stopped_for(
    engine: Engine, small_dataset: Dataset, tmp_path: Path, connection: Backend
) -> None:
    """A day on, with control for everybody: the state knows when, and so does the log."""
    live(engine, skips=3)
    first = looked(engine, small_dataset, tmp_path, connection)
    (stop,) = read_stops(WEEK, tmp_path / "log" / STOPS_FILE).values()
    assert stop == stops_of(engine.store, WEEK)["treatment"]
    assert (stop.at_ms, stop.guardrail) == (NOON_MS + HOUR_MS, "glance_rate")
    assert f"treatment: {stop.why}" == first
    engine.catch_up()
    live(engine, skips=0, day=1)
    for _ in range(2):
        told = looked(engine, small_dataset, tmp_path, connection)
        assert told.startswith(
            "treatment: Stopped on day 1 of 7 by guardrail glance_rate; judged on day 1 up to"
        )
        assert first.partition("Stop: ")[2].partition(" Not judged")[0] in told
        held = json.loads((tmp_path / "analysis.json").read_text(encoding="utf-8"))["analysis"]
        assert held["days"] == 2
        assert {each["day"] for each in held["looks"]} == {0}
    assert len((tmp_path / "log" / STOPS_FILE).read_text(encoding="utf-8").splitlines()) == 1
    assert stops_of(engine.store, WEEK)["treatment"].at_ms == stop.at_ms
