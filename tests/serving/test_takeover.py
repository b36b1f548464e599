"""A server process takes over what is published, and takes back what is worse."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from skipwise.errors import RunError, SettingError
from skipwise.features.dataset import Dataset
from skipwise.serving.engine import Engine
from skipwise.serving.opening import open_engine, prepare_state
from skipwise.serving.serve import Service
from skipwise.serving.state.store import StateSettings, open_store
from skipwise.serving.takeover import Takeover
from skipwise.serving.trial import TrialSettings
from skipwise.serving.worker import Worker
from skipwise.training.checkpoint import MODEL_FILE, TrainedRun
from skipwise.training.published import forget_old
from tests.serving.published import Skips, Viewers, publish, spoil, told, until
from tests.serving.running import Command, running

SOON = (
    "follow.poll_s=0.3",
    "follow.views_at_least=100",
    "follow.views_planned=400",
    "follow.skips_worse_by=0.02",
)


@pytest.fixture
def command(small_run: TrainedRun, small_dataset: Dataset, tmp_path: Path) -> Iterator[Command]:
    """`skipwise serve --follow` with two workers."""
    words = ("--workers", "2", "--follow", str(tmp_path / "live"), *SOON)
    state = f"sqlite:{tmp_path / 'state.db'}"
    made = Command(small_run.path, small_dataset.path, state, *words)
    made.start()
    yield made
    if made.process.poll() is None:
        made.stop()


@contextlib.contextmanager
def watching(command: Command, skips: Skips | None = None) -> Iterator[Viewers]:
    """Two threads of viewers; none of their requests may fail."""
    crowd = [Viewers(str(command.client.base_url), number, skips) for number in range(2)]
    for viewers in crowd:
        viewers.start()
    try:
        yield crowd[0]
    finally:
        for viewers in crowd:
            viewers.over.set()
        for viewers in crowd:
            viewers.join(timeout=60)
    assert [viewers.failures for viewers in crowd] == [[], []]


def test_a_published_model_is_taken_over_under_load_and_no_request_fails(
    command: Command, small_run: TrainedRun, tmp_path: Path
) -> None:
    with watching(command) as viewers:
        until(lambda: viewers.answers.get("current", 0) > 5)
        publish(tmp_path / "live", "model-00001", small_run)
        until(lambda: command.client.ask("GET", "/v1/models")["trial"] is not None)
        until(lambda: ("kept", "model-00001") in told(command.client))
        until(lambda: command.client.ask("GET", "/ready")["model"] == "model-00001")
    assert viewers.answers["canary"] > 5
    models = command.client.ask("GET", "/v1/models")
    assert (models["current"], models["previous"], models["canary"]) == (
        "model-00001",
        "first",
        None,
    )
    assert told(command.client) == [("tried", "model-00001"), ("kept", "model-00001")]
    metrics = command.client.get("/metrics").text
    assert 'skipwise_takeovers_total{what="kept"} 1.0' in metrics
    assert 'skipwise_takeovers_total{what="tried"} 1.0' in metrics


def test_a_model_whose_chances_are_off_is_rolled_back_and_not_taken_again(
    command: Command, small_run: TrainedRun, tmp_path: Path
) -> None:
    with watching(command):
        publish(tmp_path / "live", "model-00001", small_run, glance_bias=3.0)
        until(lambda: ("rolled back", "model-00001") in told(command.client))
        assert (
            "chances of glance are off by +"
            in command.client.ask("GET", "/v1/models")["told"][-1]["why"]
        )
        before = told(command.client)
        publish(tmp_path / "live", "model-00002", small_run)
        until(lambda: ("kept", "model-00002") in told(command.client))
        publish(tmp_path / "live", "model-00003", small_run, glance_bias=-3.0)
        until(lambda: ("rolled back", "model-00003") in told(command.client))
    assert told(command.client)[: len(before)] == before
    assert [run for what, run in told(command.client) if what == "tried"] == [
        "model-00001",
        "model-00002",
        "model-00003",
    ], "each once"
    models = command.client.ask("GET", "/v1/models")
    assert (models["current"], models["canary"]) == ("model-00002", None)


def test_a_model_that_is_skipped_more_is_rolled_back(
    command: Command, small_run: TrainedRun, tmp_path: Path
) -> None:
    with watching(command, lambda variant, _: {"current": 0.3, "canary": 0.7}[variant]):
        publish(tmp_path / "live", "model-00001", small_run)
        until(lambda: ("rolled back", "model-00001") in told(command.client))
    assert command.client.ask("GET", "/v1/models")["told"][-1]["why"].startswith("skip rate 0.")
    assert command.client.ask("GET", "/ready")["model"] == "first"


def test_a_damaged_model_is_refused_told_and_taken_when_it_was_mended(
    small_run: TrainedRun, small_dataset: Dataset, tmp_path: Path
) -> None:
    live = tmp_path / "live"
    words = ("--follow", str(live), *SOON, "follow.minutes_at_most=0.02")
    made = Command(small_run.path, small_dataset.path, f"sqlite:{tmp_path / 'state.db'}", *words)
    made.start()
    publish(live, "model-00001", small_run, damaged=True)
    until(lambda: made.client.ask("GET", "/v1/models")["refused"])
    ready = made.client.ask("GET", "/ready")
    assert "does not fit its checksum" in ready["problems"]["follow"]
    assert ready["model"] == "first"
    assert ready["status"] == "degraded"
    spoil(live / "model-00001" / MODEL_FILE)
    until(lambda: made.client.ask("GET", "/ready")["model"] == "model-00001")
    assert made.client.ask("GET", "/ready")["status"] == "ready"
    made.stop()


def test_a_model_that_answers_outlives_newer_ones_and_a_restart(
    small_run: TrainedRun, small_dataset: Dataset, tmp_path: Path
) -> None:
    """Published while the server is down, then tidied: it comes back with what it answered by."""
    live, state = tmp_path / "live", f"sqlite:{tmp_path / 'state.db'}"
    words = ("--follow", str(live), *SOON, "follow.minutes_at_most=0.02")
    made = Command(small_run.path, small_dataset.path, state, *words)
    made.start()
    for name in ("model-00001", "model-00002"):
        publish(live, name, small_run)
        until(partial(_answers, made, name))
    (mark,) = (live / "served").glob("*.json")
    until(lambda: json.loads(mark.read_text())["models"] == ["model-00001", "model-00002"])
    made.stop()
    for number in range(3, 7):
        publish(live, f"model-{number:05d}", small_run)
    assert forget_old(live, 6, 2) == ["model-00003", "model-00004"]
    again = Command(small_run.path, small_dataset.path, state, *words)
    again.start()
    assert again.client.ask("GET", "/v1/models")["current"] == "model-00002"
    until(partial(_answers, again, "model-00006"))
    until(lambda: json.loads(mark.read_text())["models"] == ["model-00002", "model-00006"])
    again.stop()
    assert forget_old(live, 6, 2) == ["model-00001"]


def _answers(server: Command, model: str) -> bool:
    answering: str = server.client.ask("GET", "/ready")["model"]
    return answering == model


def test_what_an_operator_rolls_back_is_not_taken_again(
    small_run: TrainedRun, small_dataset: Dataset, tmp_path: Path
) -> None:
    live = tmp_path / "live"
    service = Service(
        run=small_run.path,
        data=small_dataset.path,
        state=f"sqlite:{tmp_path / 'state.db'}",
        follow=live,
    )
    publish(live, "model-00001", small_run)
    with running(service) as client:
        until(lambda: client.ask("GET", "/v1/models")["canary"] == "model-00001")
        client.ask("POST", "/v1/models", {"action": "roll_back"})
        with pytest.raises(AssertionError):
            until(lambda: client.ask("GET", "/v1/models")["canary"], 8)


def test_a_file_is_no_folder_to_follow(small_run: TrainedRun, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="is a file, must be the folder"):
        Service(run=small_run.path, state="sqlite:x", follow=tmp_path / "file")


@pytest.fixture
def followed(small_run: TrainedRun, small_dataset: Dataset, tmp_path: Path) -> Iterator[Engine]:
    """An engine that follows `live`, of which two models are published."""
    live, store = tmp_path / "live", open_store(f"sqlite:{tmp_path / 'state.db'}")
    for name in ("model-00001", "model-00002"):
        publish(live, name, small_run)
    prepare_state(small_run.path, small_dataset.path, store, StateSettings())
    yield open_engine(small_run.path, small_dataset.path, store, followed=live)
    store.close()


@pytest.mark.parametrize("action", ["swap", "canary"])
def test_what_an_operator_lets_in_is_marked_before_it_answers(
    followed: Engine, tmp_path: Path, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, models = tmp_path / "live", followed.models
    Takeover(followed, live, TrialSettings())
    put, marked = followed.store.put, []

    def noted(*words: Any) -> int:
        (mark,) = (live / "served").glob("*.json")
        marked.append(json.loads(mark.read_text())["models"])
        return put(*words)

    monkeypatch.setattr(followed.store, "put", noted)
    models.change("swap", "model-00001", 0.0)
    models.change(action, "model-00002", 0.5)
    assert marked == [["model-00001"], ["model-00001", "model-00002"]]
    models.change("roll_back", None, 0.0)
    assert forget_old(live, 2, 0) == [], "what was rolled back is marked until the next look"


def test_a_model_that_was_put_aside_is_none_to_swap_in(followed: Engine, tmp_path: Path) -> None:
    aside = tmp_path / "live" / ".gone-model-00001"
    (tmp_path / "live" / "model-00001").rename(aside)
    assert "model-00002" in followed.models.runs()
    assert aside.name not in followed.models.runs()
    with pytest.raises(RunError, match="must be the name of a RUN folder"):
        followed.models.change("swap", aside.name, 0.0)


def test_files_that_vanish_while_they_are_looked_at_are_none(
    followed: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = tmp_path / "live"
    (live / "model-00002" / MODEL_FILE).unlink()
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    takeover = Takeover(followed, live, TrialSettings())
    takeover.look()
    assert followed.problems["follow"].endswith("goes on answering.")


def test_looking_goes_on_after_a_look_that_failed() -> None:
    async def looked() -> int:
        looks, done = 0, asyncio.Event()
        loop = asyncio.get_running_loop()

        def look() -> None:
            nonlocal looks
            looks += 1
            if looks == 1:
                raise FileNotFoundError("gone")
            loop.call_soon_threadsafe(done.set)

        async def apart(call: Callable[[], None]) -> None:
            call()

        takeover = SimpleNamespace(settings=TrialSettings(poll_s=0.01), look=look)
        engine = SimpleNamespace(catch_up=lambda: None)
        task = asyncio.ensure_future(
            Worker.take_over(SimpleNamespace(takeover=takeover, apart=apart, engine=engine))  # type: ignore[arg-type]
        )
        await asyncio.wait_for(done.wait(), 5)
        task.cancel()
        return looks

    assert asyncio.run(looked()) >= 2
