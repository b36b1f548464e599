"""What the lab is told: every view once, whatever follows it, and the front of weights."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skipwise.evaluation.bootstrap import Interval
from skipwise.evaluation.tuning import Found, Trade, Tried, found_to_json
from skipwise.features.dataset import Dataset
from skipwise.model.score import ScoreWeights
from skipwise.serving import front
from skipwise.serving.engine import Engine
from skipwise.serving.lab import EVERY_S, Recorder, Sample
from skipwise.serving.serve import Service
from skipwise.settings import settings_to_dict
from skipwise.training.checkpoint import MODEL_FILE, TrainedRun
from tests.serving.running import Client, Command, event, running

EVENTS = 12


def test_two_processes_count_a_view_once(
    small_run: TrainedRun, small_dataset: Dataset, tmp_path: Path
) -> None:
    """Both follow the log of all views; it was counted by each. And it says once where it is."""
    state = f"sqlite:{tmp_path / 'state.db'}"
    command = Command(small_run.path, small_dataset.path, state, "--workers", "2").start()
    try:
        videos = small_dataset.videos["video_id"].to_pylist()[:EVENTS]
        for at, video in enumerate(videos):
            slate = command.client.rank(f"viewer{at}", [video])
            sent = event(
                at,
                f"viewer{at}",
                video,
                watch_ms=500 if at % 3 == 0 else 20_000,
                request_id=slate["request_id"],
            )
            command.client.close()  # another connection, perhaps to the other process
            command.client = Client(base_url=f"http://127.0.0.1:{command.port}", timeout=20)
            command.client.keep(sent)
            command.client.keep(sent)  # again: a duplicate
        for _ in range(8):  # every process has followed the log
            with Client(base_url=f"http://127.0.0.1:{command.port}", timeout=20) as client:
                client.ask("GET", "/ready")
        told = command.client.ask("GET", "/v1/lab")
    finally:
        printed = command.stop()
    ready = f"ready: http://127.0.0.1:{command.port}/ (the feed), /lab, /docs"
    assert printed.count(ready) == 1
    assert printed.index(f"starting {small_run.path}, state {state}") < printed.index(ready)
    assert told["trained_glance_share"] == small_run.description["label_shares"]["glance"]
    last = told["samples"][-1]
    assert last["views"] == last["watched"] == EVENTS
    assert last["glances"] == EVENTS // 3
    assert last["watch_s"] == pytest.approx(0.5 * EVENTS / 3 + 20 * EVENTS * 2 / 3)
    assert {each["shown"] for each in told["calibration"] if each["objective"] == "glance"} == {
        EVENTS
    }


def test_two_samples_are_never_so_close_that_one_request_looks_like_hundreds() -> None:
    recorder = Recorder()
    for at_ms in (0, 5000, 10_000):
        recorder.samples.append(sample(at_ms))
    now = sample(10_040)
    assert [each.at_ms for each in recorder.until(now)] == [0, 5000, 10_040]
    later = sample(10_000 + 600 * EVERY_S)
    assert [each.at_ms for each in recorder.until(later)] == [0, 5000, 10_000, later.at_ms]
    assert len(recorder.samples) == 3  # who looks leaves nothing behind


def sample(at_ms: int) -> Sample:
    return Sample(
        at_ms=at_ms,
        requests=0,
        refused=0,
        failed=0,
        views=0,
        glances=0,
        watched=0,
        watch_s=0.0,
        stages={},
    )


@pytest.fixture
def served_beside(
    small_run: TrainedRun, small_dataset: Dataset, tmp_path: Path
) -> Iterator[tuple[Client, Path]]:
    """A server of a run that lies in a folder of its own, and that folder."""
    run = Path(shutil.copytree(small_run.path, tmp_path / "beside" / "run"))
    service = Service(run=run, data=small_dataset.path, state=f"sqlite:{tmp_path / 'state.db'}")
    with running(service) as client:
        yield client, run.parent


def test_without_a_search_the_front_is_predicted_and_says_so(
    served_beside: tuple[Client, Path],
) -> None:
    client, _ = served_beside
    told = client.ask("GET", "/v1/lab/front")
    assert (told["source"], told["found"], told["verdict"]) == ("predicted", None, None)
    assert sum(each["now"] for each in told["trials"]) == 1
    check_front(told["trials"])


def test_a_promise_is_made_once_a_minute_and_anew_for_other_weights(
    served_beside: tuple[Client, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = served_beside
    made: list[str] = []

    def counted(engine: Engine, request_id: str) -> front.LabFront:
        made.append(request_id)
        return predicted(engine, request_id)

    predicted = front._predicted
    monkeypatch.setattr(front, "_predicted", counted)
    first, again = (client.ask("GET", "/v1/lab/front") for _ in range(2))
    assert len(made) == 1
    assert first["request_id"] != again["request_id"]
    assert first["trials"] == again["trials"]
    client.ask("PUT", "/v1/score", {"glance_power": 7.0})
    assert client.ask("GET", "/v1/lab/front")["trials"] != first["trials"]
    assert len(made) == 2
    monkeypatch.setattr(front, "_PROMISED_FOR_MS", 0)
    client.ask("GET", "/v1/lab/front")
    assert len(made) == 3


def test_a_search_of_this_model_is_the_front_with_the_weights_in_force_on_it(
    served_beside: tuple[Client, Path], small_run: TrainedRun
) -> None:
    client, folder = served_beside
    model = small_run.description["checksums"][MODEL_FILE]
    write_search(folder / "older", model, verdict="An older one.")
    os.utime(folder / "older" / "tune.json", (1, 1))
    write_search(folder / "tuned", model)
    write_search(folder / "of-another", "0" * 64, verdict="Of another model.")
    (folder / "broken").mkdir()
    (folder / "broken" / "tune.json").write_text('{"run": {"model": 7', encoding="utf-8")
    told = client.ask("GET", "/v1/lab/front")
    assert (told["source"], told["found"], told["at"]) == ("searched", "tuned", 5)
    assert told["verdict"] == "Better: by hand."
    assert marks(told) == {"now": [0.30], "today": [0.30], "choice": [0.20], "best": [0.15, 0.20]}
    check_front(told["trials"])

    client.ask("PUT", "/v1/score", settings_to_dict(CHOICE.weights))
    assert marks(client.ask("GET", "/v1/lab/front"))["now"] == [0.20]
    client.ask("PUT", "/v1/score", {"glance_power": 7.0})
    assert marks(client.ask("GET", "/v1/lab/front"))["now"] == []


TODAY = Tried(improve=0.30, keep=10.0, weights=ScoreWeights())
CHOICE = Tried(improve=0.20, keep=11.0, weights=ScoreWeights(glance_power=2.5), on_front=True)
FEWEST = Tried(improve=0.15, keep=8.0, weights=ScoreWeights(glance_power=9.0), on_front=True)
BEHIND = Tried(improve=0.40, keep=9.0, weights=ScoreWeights(watch_power=2.0))


def write_search(folder: Path, model: str, verdict: str = "Better: by hand.") -> None:
    """Write what `skipwise tune` writes."""
    change = Interval(-0.1, -0.12, -0.08)
    found = Found(
        today=TODAY,
        tried=[TODAY, CHOICE, FEWEST, BEHIND],
        choice=CHOICE,
        judged={"glance": {"today": change, "choice": change, "difference": change}},
        slates={"searched": 40, "judged": 41},
    )
    folder.mkdir()
    head = {"run": {"name": "run", "model": model}, "verdict": verdict}
    text = json.dumps(head | found_to_json(found, Trade(trials=10)))
    (folder / "tune.json").write_text(text, encoding="utf-8")


def marks(told: Any) -> dict[str, list[float]]:
    """Return where each kind of point lies."""
    return {
        name: sorted(each["improve"] for each in told["trials"] if each[name])
        for name in ("now", "today", "choice", "best")
    }


def check_front(trials: list[dict[str, Any]]) -> None:
    """Hold the front against a plain loop: fewer skips and more watch time are better."""
    for one in trials:
        beaten = any(
            other["improve"] <= one["improve"]
            and other["keep"] >= one["keep"]
            and (other["improve"], other["keep"]) != (one["improve"], one["keep"])
            for other in trials
        )
        assert one["best"] != beaten


def test_an_experiment_beside_the_run_is_told_day_by_day(
    served_beside: tuple[Client, Path],
) -> None:
    client, folder = served_beside
    assert client.ask("GET", "/v1/lab")["experiments"] == []
    look = {
        "metric": "glance_rate",
        "treatment": "treatment",
        "control_mean": 0.4,
        "effect": -0.04,
        "always_low": -0.08,
        "always_high": 0.02,
        "always_level": 0.05,
    }
    blank = {**look, "always_low": None}
    analysis = {"looks": [{**blank, "day": 0}, {**look, "day": 1}, {**look, "day": 2}]}
    definition = {"name": "by-hand", "control": "control", "days": 7, "alpha": 0.1}
    (folder / "result").mkdir()
    held = {"analysis": analysis, "definition": definition, "simulated": True}
    (folder / "result" / "analysis.json").write_text(json.dumps(held), encoding="utf-8")
    (folder / "broken").mkdir()
    (folder / "broken" / "analysis.json").write_text("[1, ", encoding="utf-8")
    (seen,) = client.ask("GET", "/v1/lab")["experiments"]
    assert (seen["experiment"], seen["days"], seen["simulated"]) == ("by-hand", 7, True)
    assert (seen["alpha"], seen["fewer_is_better"]) == (0.05, True)
    assert [each["day"] for each in seen["looks"]] == [1, 2]
    assert seen["looks"][0]["effect"] == pytest.approx(-0.1)
    assert (seen["looks"][0]["low"], seen["looks"][0]["high"]) == pytest.approx((-0.2, 0.05))


def test_an_analysis_is_read_again_when_its_file_has_changed_and_not_before(
    served_beside: tuple[Client, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, folder = served_beside
    look = {"metric": "glance_rate", "treatment": "b", "control_mean": 0.4, "day": 0}
    bounds = {"always_low": -0.08, "always_high": 0.02, "always_level": 0.05}
    effect = {"effect": -0.04, **bounds}
    definition = {"name": "first", "control": "a", "days": 7, "alpha": 0.05}
    held = {"analysis": {"looks": [look | effect]}, "definition": definition, "simulated": False}
    path = folder / "result" / "analysis.json"
    path.parent.mkdir()
    read: list[Path] = []

    def counted(path: Path, encoding: str) -> str:
        read.append(path)
        return path.read_bytes().decode(encoding)

    monkeypatch.setattr(Path, "read_text", counted)
    for name in ("first", "first", "another"):
        definition["name"] = name
        path.write_text(json.dumps(held), encoding="utf-8")
        os.utime(path, (len(name), len(name)))
        told = [client.ask("GET", "/v1/lab")["experiments"][0]["experiment"] for _ in range(3)]
        assert told == [name] * 3
    assert read == [path.resolve()] * 2
