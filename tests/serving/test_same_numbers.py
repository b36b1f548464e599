"""What is served is what was evaluated: every prediction of a replay, to 1e-5."""

from pathlib import Path

import numpy as np
import pytest
from msgspec import to_builtins

from skipwise.features.dataset import Dataset
from skipwise.features.known import clock_day_of
from skipwise.features.view import View
from skipwise.serving.engine import Engine
from skipwise.serving.opening import open_engine
from skipwise.serving.seed import seed
from skipwise.serving.serve import Service
from skipwise.serving.state.redis import RedisStore
from skipwise.serving.state.sqlite import SqliteStore
from skipwise.serving.state.store import StateSettings, Store, open_store
from skipwise.serving.wire import Event, EventBatch, RankRequest
from skipwise.training.checkpoint import TrainedRun
from tests.serving.conftest import RedisServer
from tests.serving.replayed import replay
from tests.serving.running import Client, running
from tests.training.trained import predictions, short_run

Chosen = np.ndarray[tuple[int], np.dtype[np.bool_]]
Numbers = dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]


def midnight_before_end(dataset: Dataset, days: int) -> int:
    """Return the first request of the last so many days, ms."""
    day, asked = dataset.events["day"].all(), dataset.events["requested_at_ms"].all()
    return int(asked[(day > dataset.days[1] - days) & (asked >= 0)].min()) - 1


def seeded(run: TrainedRun, dataset: Dataset, store: Store, until_ms: int) -> Engine:
    """Start from what was known at an instant, as a server that had run until then."""
    engine = open_engine(run.path, dataset.path, store)
    seed(dataset, engine.world, store, StateSettings(), known_until_ms=until_ms)
    return open_engine(run.path, dataset.path, store)


def served(engine: Engine, dataset: Dataset, after_ms: int) -> tuple[list[int], Numbers]:
    """Replay everything after an instant, asking for each row just before it is shown."""
    rows: list[int] = []
    found: list[dict[str, float]] = []
    for moment in replay(dataset, after_ms):
        if isinstance(moment, Event):
            assert engine.keep([EventBatch(events=(moment,))]) == [(1, 0)]
            continue
        slate = engine.rank(
            RankRequest(
                viewer_id=moment.viewer_id,
                candidates=(moment.video_id,),
                surface=moment.surface,
                requested_at_ms=moment.requested_at_ms,
                day=moment.day,
                explain=True,
            ),
            "r",
        )
        assert slate.degraded == ()
        rows.append(moment.row)
        found.append(dict(slate.items[0].predictions or {}))
    return rows, {name: np.array([each[name] for each in found]) for name in found[0]}


def served_over_http(client: Client, dataset: Dataset, after_ms: int) -> tuple[list[int], Numbers]:
    """Replay through a socket."""
    rows: list[int] = []
    found: list[dict[str, float]] = []
    for moment in replay(dataset, after_ms):
        if isinstance(moment, Event):
            sent = {"events": [to_builtins(moment)]}
            assert client.ask("POST", "/v1/events", sent)["accepted"] == 1
            continue
        slate = client.rank(
            moment.viewer_id,
            [moment.video_id],
            requested_at_ms=moment.requested_at_ms,
            day=moment.day,
            explain=True,
            **({} if moment.surface is None else {"surface": moment.surface}),
        )
        rows.append(moment.row)
        found.append(slate["items"][0]["predictions"])
    return rows, {name: np.array([each[name] for each in found]) for name in found[0]}


def offline(run: TrainedRun, dataset: Dataset, rows: list[int]) -> Numbers:
    """Evaluate the same rows in progressive mode."""
    predicted = predictions(run, dataset, View(mode="progressive"))
    place = np.searchsorted(predicted.row, rows)
    numbers = {**predicted.probabilities(), "watch_s": predicted.expected_watch_s}
    return {name: values[place] for name, values in numbers.items()}


def apart(one: Numbers, other: Numbers, name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    scale = np.maximum(np.abs(other[name]), 1.0) if name == "watch_s" else 1.0
    return np.abs(one[name] - other[name]) / scale


def test_a_simulated_log_replayed_through_the_running_server(
    small_run: TrainedRun, small_dataset: Dataset, tmp_path: Path
) -> None:
    after_ms = midnight_before_end(small_dataset, 1)
    state = f"sqlite:{tmp_path / 'state.db'}"
    store = open_store(state)
    seeded(small_run, small_dataset, store, after_ms)
    store.close()
    service = Service(run=small_run.path, data=small_dataset.path, state=state)
    with running(service) as client:
        rows, live = served_over_http(client, small_dataset, after_ms)
    _check_same(rows, live, offline(small_run, small_dataset, rows))


def test_a_simulated_log_replayed_on_redis(
    small_run: TrainedRun, small_dataset: Dataset, redis_server: RedisServer
) -> None:
    after_ms = midnight_before_end(small_dataset, 1)
    store = RedisStore(redis_server.url)
    store.redis.flushall()
    engine = seeded(small_run, small_dataset, store, after_ms)
    rows, live = served(engine, small_dataset, after_ms)
    store.close()
    _check_same(rows, live, offline(small_run, small_dataset, rows))


def _check_same(rows: list[int], live: Numbers, expected: Numbers) -> None:
    assert len(rows) > 150
    assert set(live) == set(expected)
    for name in expected:
        assert apart(live, expected, name).max() <= 1e-5, name


@pytest.mark.kuairand
def test_real_events_replayed(
    real_dataset: Dataset, sqlite_store: SqliteStore, tmp_path: Path
) -> None:
    """What a log alone can say is left out, and is little.

    The calendar day of some rows is ahead of their clock, so that their thresholds hold the rest of
    the evening; and of two events shown in one millisecond a log knows which stands first.
    """
    run = short_run(real_dataset, tmp_path / "run", last_day=real_dataset.days[1] - 3)
    after_ms = midnight_before_end(real_dataset, 1)
    engine = seeded(run, real_dataset, sqlite_store, after_ms)
    rows, live = served(engine, real_dataset, after_ms)
    expected = offline(run, real_dataset, rows)
    ahead, tied = ahead_of_clock(real_dataset, rows), after_a_tie(real_dataset, rows)
    assert len(rows) > 150
    assert (ahead | tied).mean() < 0.05
    for name in expected:
        assert apart(live, expected, name)[~(ahead | tied)].max() <= 1e-5, name


def ahead_of_clock(dataset: Dataset, rows: list[int]) -> Chosen:
    """Mark the rows whose calendar day is not the local day of their request."""
    zone = str(dataset.description["time_zone"])
    asked = dataset.events["requested_at_ms"].take(np.array(rows)).tolist()
    days = dataset.events["day"].take(np.array(rows)).tolist()
    return np.array(
        [clock_day_of(at, zone) != day for at, day in zip(asked, days, strict=True)], dtype=bool
    )


def after_a_tie(dataset: Dataset, rows: list[int]) -> Chosen:
    """Mark the rows after two of their viewer's events that arrive against the log's order."""
    viewer, shown, known = (
        dataset.events[name].all() for name in ("viewer", "shown_at_ms", "known_at_ms")
    )
    same = (viewer[1:] == viewer[:-1]) & (shown[1:] == shown[:-1]) & (shown[1:] >= 0)
    ties = np.flatnonzero(same & (known[1:] < known[:-1]))
    return np.array(
        [bool(((viewer[ties] == viewer[row]) & (ties < row)).any()) for row in rows], dtype=bool
    )


def test_a_prediction_changes_with_what_was_just_skipped(
    small_run: TrainedRun, small_dataset: Dataset, sqlite_store: SqliteStore
) -> None:
    """The test above would pass on a server that ignores events only if they changed nothing."""
    after_ms = midnight_before_end(small_dataset, 2)
    engine = seeded(small_run, small_dataset, sqlite_store, after_ms)
    video = small_dataset.videos["video_id"].to_pylist()[0]

    def ask() -> float:
        request = RankRequest(
            viewer_id="new", candidates=(video,), requested_at_ms=after_ms + 60_000, explain=True
        )
        return (engine.rank(request, "r").items[0].predictions or {})["glance"]

    before = ask()
    event = Event(
        event_id="e", viewer_id="new", video_id=video, shown_at_ms=after_ms + 1, watch_ms=300,
        duration_ms=30_000,
    )  # fmt: skip
    engine.keep([EventBatch(events=(event,))])
    assert abs(ask() - before) > 1e-4
