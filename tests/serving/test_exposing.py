"""A viewer's first slate under a variant is noted: once, in order, on disk before it leaves."""

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from skipwise.errors import StateError
from skipwise.experiments.assignment import assign
from skipwise.features.dataset import Dataset
from skipwise.serving import exposing
from skipwise.serving.engine import Engine
from skipwise.serving.serve import Service
from skipwise.serving.state.sqlite import SqliteStore
from skipwise.serving.state.store import START, Entry, Store, Update, open_store
from skipwise.serving.variants import stop, stops_of
from skipwise.serving.wire import Event, EventBatch
from skipwise.serving.world import Exposed, Viewed, read_line
from skipwise.training.checkpoint import TrainedRun
from tests.serving.conftest import RedisServer
from tests.serving.exposed import DEFINITION, NOON_MS, experimenting, lines, notes, serve
from tests.serving.running import Command, event, running
from tests.serving.test_experiment_served import definition as written

VIEWERS = [f"w{number}" for number in range(40)]
Opens = Callable[..., Engine]


@pytest.fixture
def opened(small_run: TrainedRun, small_dataset: Dataset) -> Opens:
    """Engines of processes that serve the experiment from one state."""

    def make(store: Store, at_ms: int = NOON_MS) -> Engine:
        return experimenting(small_run, small_dataset, store, at_ms)

    return make


def test_a_first_slate_is_noted_once_with_its_variant_and_time(opened: Opens, store: Store) -> None:
    engine, other = opened(store), opened(store, NOON_MS + 5000)
    serve(engine, VIEWERS)
    assert lines(store) == []  # they wait for one flush
    assert notes(engine).num_waiting == len([n for n in assign(DEFINITION, VIEWERS) if n])
    notes(engine).write()
    expected = [
        Exposed("seen", DEFINITION.assignment_key, viewer, name, NOON_MS)
        for viewer, name in zip(VIEWERS, assign(DEFINITION, VIEWERS), strict=True)
        if name is not None
    ]
    assert 20 < len(expected) < 40
    assert lines(store) == expected
    again = opened(store, NOON_MS + 9000)  # a restart, which has not followed those lines
    for each in (engine, other, again):
        serve(each, VIEWERS)
        notes(each).write()
    assert lines(store) == expected


def test_who_is_forgotten_elsewhere_before_it_was_written_is_not_written(
    opened: Opens, store: Store
) -> None:
    engine, other = opened(store), opened(store)
    serve(engine, VIEWERS)
    exposed = [v for v, name in zip(VIEWERS, assign(DEFINITION, VIEWERS), strict=True) if name]
    other.forget(exposed[0])
    engine.catch_up()
    notes(engine).write()
    assert [line.viewer_id for line in lines(store)] == exposed[1:]


def test_who_is_forgotten_while_others_are_written_is_not_written_and_is_met_anew(
    opened: Opens, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, commit = opened(store), store.commit
    serve(engine, VIEWERS)
    exposed = [v for v, name in zip(VIEWERS, assign(DEFINITION, VIEWERS), strict=True) if name]

    def meanwhile(entries: Sequence[Entry], update: Update) -> list[bool]:
        notes(engine).forget(exposed[2])
        return commit(entries, update)

    with monkeypatch.context() as patched:
        patched.setattr(exposing, "_TOGETHER", 1)
        patched.setattr(store, "commit", meanwhile)
        notes(engine).write()
    assert [line.viewer_id for line in lines(store)] == [*exposed[:2], *exposed[3:]]
    serve(engine, VIEWERS)
    notes(engine).write()
    assert [line.viewer_id for line in lines(store)] == [*exposed[:2], *exposed[3:], exposed[2]]


def test_another_process_hears_of_it_and_does_not_ask_the_store(
    opened: Opens, store: Store
) -> None:
    engine, other = opened(store), opened(store)
    serve(engine, VIEWERS)
    notes(engine).write()
    serve(other, VIEWERS)  # each answer begins by following the log
    assert notes(other).num_waiting == 0


def test_who_is_forgotten_by_the_process_is_known_to_the_store(
    opened: Opens, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposing, "NOTED_AT_MOST", 5)
    engine = opened(store)
    for _ in range(2):
        serve(engine, VIEWERS)
        assert notes(engine).num_waiting > 20
        notes(engine).write()
    noted = [line.viewer_id for line in lines(store)]
    assert len(noted) == len(set(noted)) > 20


def test_a_stopped_variant_exposes_nobody_new(opened: Opens, store: Store) -> None:
    engine = opened(store)
    serve(engine, VIEWERS[:20])
    notes(engine).write()
    before = lines(store)
    assert {line.variant for line in before} == {"control", "treatment"}
    assert engine.variants is not None
    definition = engine.variants.definition
    for at_ms in (NOON_MS, NOON_MS + 1):  # the first counts
        stop(store, definition, "treatment", at_ms, guardrail="glance_rate", why="because")
    assert stops_of(store, definition)["treatment"].at_ms == NOON_MS
    serve(engine, VIEWERS[20:])
    notes(engine).write()
    after = lines(store)[len(before) :]
    assert {line.variant for line in after} == {"control"}
    assert lines(store)[: len(before)] == before  # what was, stays


def test_who_came_before_the_first_day_is_noted_when_he_comes_again(
    opened: Opens, store: Store
) -> None:
    eve = opened(store, NOON_MS - 86_400_000)
    serve(eve, VIEWERS)
    notes(eve).write()
    assert lines(store) == []
    engine = opened(store)
    serve(engine, VIEWERS[:10])
    notes(engine).write()
    assert {line.at_ms for line in lines(store)} == {NOON_MS}


def test_an_exposure_comes_before_its_events(opened: Opens, store: Store) -> None:
    engine = opened(store)
    for viewer in VIEWERS[:5]:
        serve(engine, [viewer])
        notes(engine).write()
        seen = Event(event_id="e", viewer_id=viewer, video_id="v0", shown_at_ms=NOON_MS + 1)
        engine.keep([EventBatch(events=(seen,))])
    met: set[str] = set()
    for line in store.follow(START, 1000):
        match read_line(line.payload):
            case Exposed(viewer_id=viewer):
                met.add(viewer)
            case Viewed(event=event) if assign(DEFINITION, [event.viewer_id])[0]:
                assert event.viewer_id in met
    assert met


def test_what_cannot_be_written_goes_on_waiting(
    opened: Opens, sqlite_store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = opened(sqlite_store)
    serve(engine, VIEWERS)

    def broken(*_: Any) -> None:
        raise StateError("the state is out of reach")

    with monkeypatch.context() as patched:
        patched.setattr(sqlite_store, "commit", broken)
        with pytest.raises(StateError):
            notes(engine).write()
    waits = notes(engine).num_waiting
    assert waits > 20
    assert notes(engine).waits(next(v for v in VIEWERS if assign(DEFINITION, [v])[0]))
    notes(engine).write()
    assert len(lines(sqlite_store)) == waits
    assert notes(engine).num_waiting == 0


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_served_by_two_processes_each_viewer_is_noted_before_his_slate_is_there(
    kind: str,
    small_run: TrainedRun,
    small_dataset: Dataset,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """Ten threads ask at once, viewers twice; killed right after, nothing is lost or twice."""
    state = f"sqlite:{tmp_path / 'state.db'}"
    if kind == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        state = server.url
        made: Any = open_store(state)
        made.redis.flushall()
        made.close()
    path = written(tmp_path, small_run)
    words = ("--experiment", str(path), "--workers", "2")
    process = Command(small_run.path, small_dataset.path, state, *words).start()
    store, missing = open_store(state), []

    def ask(viewers: list[str]) -> None:
        for viewer in viewers:
            slate = process.client.ask("POST", "/v1/feed", {"viewer_id": viewer, "k": 3})
            there = {line.viewer_id for line in lines(store)}
            if slate["variant"] != "current" and viewer not in there:
                missing.append(viewer)

    try:
        threads = [
            threading.Thread(target=ask, args=(VIEWERS[start % 5 :: 5],)) for start in range(10)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        process.client.keep(event(0, VIEWERS[0], "v0"))
        told = process.client.ask("GET", "/ready")
        assert told["problems"] == {}
        for pid in process.workers():
            os.kill(pid, signal.SIGKILL)
    finally:
        process.stop()
    assert missing == []
    noted = [line.viewer_id for line in lines(store)]
    assert len(noted) == len(set(noted)) > 20
    store.close()


def test_redis_gone_no_slate_waits_and_back_every_exposure_is_written(
    small_run: TrainedRun, small_dataset: Dataset, redis_server: RedisServer, tmp_path: Path
) -> None:
    assert redis_server.process
    own = RedisServer(tmp_path)
    own.start()
    service = Service(
        run=small_run.path,
        data=small_dataset.path,
        state=own.url,
        experiment=written(tmp_path, small_run),
    )
    with running(service) as client:
        own.stop()
        exposed = set()
        for viewer in VIEWERS[:10]:
            slate = client.ask("POST", "/v1/feed", {"viewer_id": viewer, "k": 3})
            assert slate["degraded"] == ["state: last known"]
            exposed |= {viewer} if slate["variant"] != "current" else set()
        assert len(exposed) > 5
        assert "cannot be reached" in client.get("/ready").json()["problems"]["exposures"]
        own.start()
        store, until = open_store(own.url), time.monotonic() + 20
        while {line.viewer_id for line in lines(store)} != exposed and time.monotonic() < until:
            time.sleep(0.1)
        assert {line.viewer_id for line in lines(store)} == exposed
        assert "exposures" not in client.get("/ready").json()["problems"]
        store.close()
    own.stop()
