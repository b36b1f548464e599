"""What must hold when things break, on real processes, files and servers."""

import contextlib
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from skipwise.errors import RunError, StateError
from skipwise.features.dataset import Dataset
from skipwise.serving.engine import Engine
from skipwise.serving.opening import open_engine, prepare_state
from skipwise.serving.serve import Service, serve
from skipwise.serving.state.sqlite import SqliteStore
from skipwise.serving.state.store import START, StateSettings, open_store
from skipwise.serving.wire import Event, EventBatch, RankRequest
from skipwise.serving.world import Viewed, read_line
from skipwise.training.checkpoint import TrainedRun
from tests.serving.conftest import RedisServer
from tests.serving.running import Client, Command, event, running


@pytest.fixture(scope="module")
def command(
    small_run: TrainedRun, small_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Command]:
    """`skipwise serve` with two workers; the last test stops it."""
    folder = tmp_path_factory.mktemp("command")
    state = f"sqlite:{folder / 'state.db'}"
    command = Command(small_run.path, small_dataset.path, state, "--workers", "2").start()
    yield command
    if command.process.poll() is None:
        command.stop(signal.SIGKILL)


def state_of(command: Command) -> str:
    return command.arguments[command.arguments.index("--state") + 1]


def logged_ids(state: str) -> list[str]:
    """Return the event ids of the log, in order."""
    store = open_store(state)
    lines = [read_line(line.payload) for line in store.follow(START, 10**6) if line.payload]
    store.close()
    return [line.event.event_id for line in lines if isinstance(line, Viewed)]


class Writer(threading.Thread):
    """Sends events one after the other, each until it is acknowledged."""

    def __init__(self, command: Command, name: str, videos: list[str]) -> None:
        super().__init__(daemon=True)
        self.command, self.writer, self.videos = command, name, videos
        self.acknowledged: list[str] = []
        self.enough = threading.Event()

    def run(self) -> None:
        with httpx.Client(base_url=self.command.client.base_url, timeout=5) as client:
            for place in range(100_000):
                sent = event(place, f"viewer {self.writer}", self.videos[place % len(self.videos)])
                sent["event_id"] = f"{self.writer}-{place}"
                while not self._sent(client, sent):
                    if self.enough.is_set():
                        return
                    time.sleep(0.01)
                if self.enough.is_set():
                    return

    def _sent(self, client: httpx.Client, sent: dict[str, Any]) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            answer = client.post("/v1/events", json={"events": [sent]})
            if answer.status_code == 200:
                self.acknowledged.append(sent["event_id"])
                return True
        return False


def test_a_worker_killed_while_it_writes_loses_nothing_and_doubles_nothing(
    command: Command, videos: list[str]
) -> None:
    writers = [Writer(command, f"kill{number}", videos) for number in range(3)]
    for writer in writers:
        writer.start()
    before = command.workers()
    assert len(before) == 2
    for pid in before:
        _until(lambda: min(len(writer.acknowledged) for writer in writers) > 5)
        os.kill(pid, signal.SIGKILL)
        at = [len(writer.acknowledged) for writer in writers]
        _until(lambda at=at: all(len(w.acknowledged) > n for w, n in zip(writers, at, strict=True)))
    for writer in writers:
        writer.enough.set()
    for writer in writers:
        writer.join(10)
    acknowledged = [name for writer in writers for name in writer.acknowledged]
    logged = [name for name in logged_ids(state_of(command)) if name.startswith("kill")]
    assert len(logged) == len(set(logged))
    assert set(acknowledged) <= set(logged)
    for writer in writers:
        held = command.client.ask("GET", f"/v1/viewers/viewer {writer.writer}")
        of_writer = [name for name in logged if name.startswith(writer.writer)]
        assert held["num_events"] == min(len(of_writer), 400)


def test_a_full_disk_refuses_events_and_still_ranks(command: Command, videos: list[str]) -> None:
    _until(lambda: len(command.workers()) == 2)
    client, path = command.client, Path(state_of(command).removeprefix("sqlite:"))
    full = path.with_name(path.name + "-wal").stat().st_size
    for pid in command.workers():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (full // 4096 * 4096, -1))
    refused = None
    for place in range(3000):
        sent = [event(place * 50 + n, f"full {place}", videos[n]) for n in range(50)]
        answer = client.post("/v1/events", json={"events": sent})
        if answer.status_code != 200:
            refused = answer
            break
    assert refused is not None
    assert refused.status_code == 507, refused.text
    assert "Nothing of it was kept" in refused.json()["error"]
    assert len(client.rank("full 0", videos[:4])["items"]) == 4
    for pid in command.workers():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (-1, -1))
    assert client.keep(event(1, "roomy", videos[0]))["accepted"] == 1


def test_sigterm_drains(command: Command, videos: list[str]) -> None:
    writers = [Writer(command, f"term{number}", videos) for number in range(3)]
    for writer in writers:
        writer.start()
    _until(lambda: min(len(writer.acknowledged) for writer in writers) > 5)
    for writer in writers:
        writer.enough.set()
    printed = command.stop(signal.SIGTERM)
    for writer in writers:
        writer.join(10)
    assert command.process.returncode in (0, -signal.SIGTERM)
    assert "Traceback" not in printed
    assert "viewer term" not in printed
    logged = logged_ids(state_of(command))
    for writer in writers:
        assert set(writer.acknowledged) <= set(logged)


@pytest.fixture
def own(redis_server: RedisServer, tmp_path: Path) -> Iterator[RedisServer]:
    """A redis-server that a test may stop; skips where the other one does."""
    assert redis_server.process
    own = RedisServer(tmp_path)
    own.start()
    yield own
    own.stop()


def test_redis_gone_and_back(
    small_run: TrainedRun, small_dataset: Dataset, own: RedisServer, videos: list[str]
) -> None:
    service = Service(run=small_run.path, data=small_dataset.path, state=own.url)
    with running(service) as client:
        client.keep(event(1, "reda", videos[0]))
        asked = {"requested_at_ms": 1_700_000_900_000}
        whole = client.rank("reda", videos[:4], **asked)
        own.stop()
        poor = client.rank("reda", videos[:4], **asked)
        assert poor["degraded"] == ["state: last known"]
        assert poor["items"] == whole["items"], "the last known past was read"
        assert len(client.ask("POST", "/v1/feed", {"viewer_id": "reda", "k": 3})["items"]) == 3
        refused = client.post("/v1/events", json={"events": [event(2, "reda", videos[1])]})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        ready = client.get("/ready").json()
        assert ready["status"] == "degraded"
        assert "cannot be reached" in ready["problems"]["state"]
        own.start()
        back(client)
        assert client.keep(event(2, "reda", videos[1]))["accepted"] == 1
        assert client.ask("GET", "/v1/viewers/reda")["num_events"] == 2
        assert client.get("/ready").json()["status"] == "ready"


def back(client: Client) -> None:
    """Wait until the server says that its state answers again."""
    until = time.monotonic() + 20
    while client.get("/ready").json()["status"] != "ready":
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_redis_that_hangs_is_waited_for_once(
    small_run: TrainedRun, small_dataset: Dataset, own: RedisServer, videos: list[str]
) -> None:
    """It takes connections and answers nothing: 2 s for who asks first, and nothing for others."""
    assert own.process is not None
    with running(Service(run=small_run.path, data=small_dataset.path, state=own.url)) as client:
        client.keep(event(1, "reda", videos[0]))
        own.process.send_signal(signal.SIGSTOP)
        try:
            client.rank("reda", videos[:4])
            begun = time.monotonic()
            for _ in range(10):
                assert client.rank("reda", videos[:4])["degraded"] == ["state: last known"]
                refused = client.post("/v1/events", json={"events": [event(2, "r", videos[1])]})
                assert refused.status_code == 503
            assert time.monotonic() - begun < 2, "each would wait 2 s"
        finally:
            own.process.send_signal(signal.SIGCONT)
        back(client)
        assert client.keep(event(2, "reda", videos[1]))["accepted"] == 1


def test_a_corrupt_state_is_told_at_the_start(
    small_run: TrainedRun, small_dataset: Dataset, tmp_path: Path
) -> None:
    path = tmp_path / "state.db"
    store = SqliteStore(str(path))
    prepare_state(small_run.path, small_dataset.path, store, StateSettings())
    store.close()
    content = bytearray(path.read_bytes())
    content[5000:-100] = bytes(255 - byte for byte in content[5000:-100])
    path.write_bytes(content)
    with pytest.raises(StateError, match=r"(?s)is damaged .* Put a copy back"):
        SqliteStore(str(path))
    path.write_bytes(b"hello, I am a diary" * 100)
    with pytest.raises(StateError, match="is damaged"):
        SqliteStore(str(path))


@pytest.fixture
def engine(small_run: TrainedRun, small_dataset: Dataset, sqlite_store: SqliteStore) -> Engine:
    prepare_state(small_run.path, small_dataset.path, sqlite_store, StateSettings())
    return open_engine(small_run.path, small_dataset.path, sqlite_store)


def test_a_clock_that_goes_back_does_not_hide_what_was_seen(
    engine: Engine, videos: list[str]
) -> None:
    now = 1_700_000_000_000
    engine.clock = lambda: now + 61_000
    seen = Event(event_id="e", viewer_id="v", video_id=videos[0], shown_at_ms=now, watch_ms=500)
    engine.keep([EventBatch(events=(seen,))])
    request = RankRequest(viewer_id="v", candidates=tuple(videos[:3]), explain=True)
    at_its_end = RankRequest(
        viewer_id="v", candidates=tuple(videos[:3]), explain=True, requested_at_ms=now + 500
    )
    engine.clock = lambda: now - 3_600_000
    assert engine.rank(request, "r").items == engine.rank(at_its_end, "r").items


def test_a_restart_comes_to_the_same_state_from_a_snapshot_and_the_log(
    engine: Engine, small_run: TrainedRun, small_dataset: Dataset, videos: list[str]
) -> None:
    def views(first: int) -> EventBatch:
        return EventBatch(
            events=tuple(
                Event(
                    event_id=f"e{place}",
                    viewer_id=f"v{place % 3}",
                    video_id=(*videos[:4], "only in the log")[place % 5],
                    shown_at_ms=1_700_000_000_000 + place * 40_000_000,
                    watch_ms=place * 700,
                    duration_ms=30_000,
                )
                for place in range(first, first + 12)
            )
        )

    def answer(of: Engine) -> object:
        asked = RankRequest(
            viewer_id="v1",
            candidates=(*videos[:8], "only in the log"),
            requested_at_ms=1_701_000_000_000,
            explain=True,
        )
        return of.rank(asked, "r").items

    engine.keep([views(0)])
    engine.write_down(at_least=1)
    engine.keep([views(12)])
    engine.forget("v2")
    assert engine.prune() == 0
    again = open_engine(small_run.path, small_dataset.path, engine.store)
    assert answer(again) == answer(engine)
    assert again.held("v2") is None


def _until(holds: Any) -> None:
    for _ in range(1500):
        if holds():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come to pass")


def test_what_is_no_run_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    missing = tmp_path / "norun"
    with pytest.raises(RunError, match=r"is not a trained run \(it has no run\.json\)"):
        serve(Service(run=missing, state=f"sqlite:{missing / 'state.db'}"))
    assert not missing.exists()
