"""A model takes over from another under load, goes back, and is tried out on some viewers."""

import dataclasses
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from skipwise.features.dataset import Dataset
from skipwise.model.score import ScoreWeights
from skipwise.serving.catalogue import LiveCatalogue
from skipwise.serving.models import Served, load_model
from skipwise.serving.rules import Rules
from skipwise.serving.serve import Service, ServiceSettings
from skipwise.serving.worker import LimitSettings
from skipwise.serving.world import World
from skipwise.training.checkpoint import MODEL_FILE, TrainedRun
from tests.serving.running import Client, running
from tests.training.trained import short_run


@pytest.fixture(scope="module")
def second_run(small_run: TrainedRun, small_dataset: Dataset) -> TrainedRun:
    """Another model, beside the first."""
    folder = small_run.path.parent / "second"
    return short_run(small_dataset, folder, "seed=5", last_day=small_dataset.days[1] - 2)


@pytest.fixture
def swapping(
    small_run: TrainedRun, second_run: TrainedRun, small_dataset: Dataset, tmp_path: Path
) -> Iterator[Client]:
    assert second_run.path.name == "second"
    state = f"sqlite:{tmp_path / 'state.db'}"
    with running(Service(run=small_run.path, data=small_dataset.path, state=state)) as client:
        yield client


def change(client: Client, **body: Any) -> Any:
    return client.ask("POST", "/v1/models", body)


def test_a_swap_under_load_fails_no_request_and_mixes_no_slate(
    swapping: Client, videos: list[str]
) -> None:
    over = threading.Event()

    def ask(number: int) -> dict[str, set[str]]:
        answers: dict[str, set[str]] = {}
        with Client(base_url=swapping.base_url, timeout=20) as client:
            while not over.is_set():
                slate = client.rank(f"v{number}", videos[:20], requested_at_ms=1_700_000_000_000)
                answers.setdefault(slate["model"].split("@")[0], set()).add(str(slate["items"]))
        return answers

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, number) for number in range(4)]
        time.sleep(0.3)
        assert change(swapping, action="swap", run="second")["current"] == "second"
        time.sleep(0.3)
        assert change(swapping, action="roll_back")["current"] == "first"
        time.sleep(0.2)
        over.set()
        for each in asking:
            answers = each.result()
            assert set(answers) == {"first", "second"}
            assert all(len(slates) == 1 for slates in answers.values()), "each is of one model"
            assert answers["first"] != answers["second"]


def test_a_canary_answers_its_share_of_viewers_and_always_the_same(
    swapping: Client, videos: list[str]
) -> None:
    change(swapping, action="canary", run="second", share=0.3)
    first = [swapping.rank(f"v{place}", videos[:2])["variant"] for place in range(120)]
    again = [swapping.rank(f"v{place}", videos[:2])["variant"] for place in range(120)]
    assert first == again
    assert 0.15 < first.count("canary") / 120 < 0.45
    assert change(swapping, action="roll_back")["canary"] is None
    assert {swapping.rank(f"v{place}", videos[:2])["variant"] for place in range(20)} == {"current"}


def test_a_damaged_model_is_refused_and_the_old_one_goes_on(
    swapping: Client, small_run: TrainedRun, videos: list[str]
) -> None:
    damaged = small_run.path.parent / "damaged"
    shutil.copytree(small_run.path, damaged, dirs_exist_ok=True)
    weights = bytearray((damaged / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (damaged / "model.safetensors").write_bytes(weights)
    answer = swapping.post("/v1/models", json={"action": "swap", "run": "damaged"})
    shutil.rmtree(damaged)
    assert answer.status_code == 422
    assert "does not fit its checksum" in answer.json()["error"]
    assert swapping.rank("v", videos[:2])["model"].startswith("first@")
    assert swapping.post("/v1/models", json={"action": "roll_back"}).status_code == 422


def test_a_model_that_predicts_nothing_the_weights_ask_for_is_refused(
    swapping: Client, small_run: TrainedRun, small_dataset: Dataset, videos: list[str]
) -> None:
    early = short_run(
        small_dataset, small_run.path.parent / "early", last_day=small_dataset.days[0] + 1
    )
    assert set(small_run.model.objectives) - set(early.model.objectives) >= {"share"}
    shares = {name: {"power": float(name == "share")} for name in ScoreWeights().rewards}
    powers = dict.fromkeys(("watch_power", "glance_power", "negative_power"), 0.0)
    swapping.ask("PUT", "/v1/score", shares | powers)
    for action in ("swap", "canary"):
        refused = swapping.post("/v1/models", json={"action": action, "run": "early"})
        assert refused.status_code == 422, refused.text
        assert refused.json()["field"] == "run"
        assert "to which the weights in force give a power" in refused.json()["error"]
        assert swapping.rank("v", videos[:2])["model"].startswith("first@")
    swapping.ask("PUT", "/v1/score", {"watch_power": 1.0})
    change(swapping, action="swap", run="early")
    assert swapping.rank("v", videos[:2])["model"].startswith("early@")


def test_a_restart_remembers_who_serves(
    small_run: TrainedRun, second_run: TrainedRun, small_dataset: Dataset, tmp_path: Path
) -> None:
    assert second_run.path.is_dir()
    state = f"sqlite:{tmp_path / 'state.db'}"
    service = Service(run=small_run.path, data=small_dataset.path, state=state)
    with running(service) as client:
        change(client, action="swap", run="second")
    with running(service) as client:
        assert client.ask("GET", "/v1/models")["current"] == "second"
        assert client.rank("v", ["a"])["model"].startswith("second@")


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that takes 150 ms."""
    right = Served.viewer

    def late(self: Served, viewer_id: str) -> Any:
        time.sleep(0.15)
        return right(self, viewer_id)

    monkeypatch.setattr(Served, "viewer", late)


def asked_at_once(client: Client, videos: list[str], number: int) -> list[Any]:
    with ThreadPoolExecutor(number) as pool:
        return list(
            pool.map(
                lambda place: client.post(
                    "/v1/rank", json={"viewer_id": f"v{place}", "candidates": videos[:5]}
                ),
                range(number),
            )
        )


@pytest.mark.usefixtures("slow")
def test_past_its_deadline_a_request_is_answered_without_the_model_and_says_so(
    small_run: TrainedRun, small_dataset: Dataset, tmp_path: Path, videos: list[str]
) -> None:
    limits = LimitSettings(wait_ms=60_000, deadline_ms=100)
    with running(_limited(small_run, small_dataset, tmp_path, limits)) as client:
        answers = asked_at_once(client, videos, 6)
        assert {answer.status_code for answer in answers} == {200}
        cheap = [answer.json() for answer in answers if "degraded" in answer.json()]
        assert 0 < len(cheap) < 6
        assert cheap[0]["degraded"] == ["model: ordered by views, for want of time"]
        assert len(cheap[0]["items"]) == 5


@pytest.mark.usefixtures("slow")
def test_past_capacity_requests_are_refused_at_once_with_a_time_to_come_back(
    small_run: TrainedRun, small_dataset: Dataset, tmp_path: Path, videos: list[str]
) -> None:
    limits = LimitSettings(wait_ms=200)
    with running(_limited(small_run, small_dataset, tmp_path, limits)) as client:
        for _ in range(12):
            client.rank("v", videos[:5])
        answers = asked_at_once(client, videos, 12)
        shed = [answer for answer in answers if answer.status_code == 429]
        assert shed
        assert len(shed) < 12
        assert int(shed[0].headers["retry-after"]) >= 1
        assert "no request may wait" in shed[0].json()["error"]
        assert client.get("/health").status_code == 200


def _limited(run: TrainedRun, dataset: Dataset, folder: Path, limits: LimitSettings) -> Service:
    settings = dataclasses.replace(ServiceSettings(), limits=limits)
    state = f"sqlite:{folder / 'state.db'}"
    return Service(run=run.path, data=dataset.path, state=state, settings=settings)


def test_a_model_is_taken_where_no_video_is_known_yet(small_run: TrainedRun) -> None:
    rules = Rules.of(small_run.description["dataset"])
    world = World(rules, LiveCatalogue(rules.labels))
    served = load_model(small_run.path, world, None)
    assert served.checksum == small_run.description["checksums"][MODEL_FILE]
