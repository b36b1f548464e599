"""What the page is told: an explanation is the ranking itself, taken apart."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skipwise.features.dataset import Dataset
from skipwise.serving.checks import check_feed
from skipwise.serving.opening import open_engine, prepare_state
from skipwise.serving.refusal import Refusal
from skipwise.serving.seed import now_ms
from skipwise.serving.serve_settings import ServeSettings
from skipwise.serving.state.store import StateSettings, open_store
from skipwise.serving.wire import FeedRequest
from skipwise.training.checkpoint import TrainedRun
from tests.serving.running import Client, event


def explained(client: Client, viewer: str, *videos: str) -> Any:
    return client.ask("POST", "/v1/explain", {"viewer_id": viewer, "video_ids": list(videos)})


def test_the_factors_of_an_explanation_multiply_to_the_score(
    client: Client, videos: list[str]
) -> None:
    client.keep(*(event(place, "curious", videos[place], watch_ms=900) for place in range(3)))
    asked = [*videos[10:14], "no such video"]
    ranked = client.rank("curious", asked, explain=True)
    told = {each["video_id"]: each for each in explained(client, "curious", *asked)["videos"]}
    for item in ranked["items"]:
        why = told[item["video_id"]]
        assert why["score"] == pytest.approx(item["score"], rel=1e-4)
        assert math.prod(each["factor"] for each in why["factors"]) == pytest.approx(why["score"])
        for name, chance in item["predictions"].items():
            assert why["predictions"][name] == pytest.approx(chance, rel=1e-4, abs=1e-5)


def test_a_curve_never_rises_and_the_thresholds_are_those_of_the_labels(
    client: Client, videos: list[str]
) -> None:
    (why,) = explained(client, "curious", videos[12])["videos"]
    assert why["curve"][0] == 1
    assert (np.diff(why["curve"]) <= 0).all()
    assert (np.diff(why["curve_at_s"]) > 0).all()
    assert why["curve_at_s"][-1] > why["shown"]["duration_ms"] / 1000
    assert why["thresholds_s"]["glance"] == 3.0
    assert why["thresholds_s"]["long"] == min(18.0, why["shown"]["duration_ms"] / 1000)


def test_attention_is_shared_out_among_the_past_and_nothing(
    client: Client, videos: list[str]
) -> None:
    number = 15
    client.keep(
        *(
            event(100 + place, "read", videos[place], watch_ms=500 if place % 2 else 20_000)
            for place in range(number)
        )
    )
    (why,) = explained(client, "read", videos[20])["videos"]
    reading = why["reading"]
    assert reading["num_events"] == number
    for place, name in ((1, "as_watched"), (2, "as_skipped")):
        seen = sum(of[place] for of in reading["by_feedback"].values())
        assert seen + reading[f"nothing_{name}"] == pytest.approx(1, abs=1e-5)
        assert all(0 <= each[name] <= 1 for each in reading["events"])
    assert sum(of[0] for of in reading["by_feedback"].values()) == number
    assert reading["by_feedback"]["glance"][0] == number // 2
    assert {each["feedback"] for each in reading["events"]} <= set(reading["by_feedback"])
    assert {each["video_id"] for each in reading["events"]} <= set(videos[:number])
    early = {"viewer_id": "read", "video_ids": [videos[20]], "requested_at_ms": 1_600_000_000_000}
    (before,) = client.ask("POST", "/v1/explain", early)["videos"]
    assert before["reading"]["num_events"] == 0


def test_the_page_is_told_what_it_may_ask_for_and_who_has_a_past(
    client: Client, small_dataset: Dataset
) -> None:
    page = client.ask("GET", "/v1/page")
    assert (page["keys_needed"], page["scopes"]) == (False, ["admin", "events", "feed"])
    assert set(page["feed"]["topics"]) >= set(small_dataset.description["topics"])
    assert page["feed"]["surface"] == "feed"
    assert abs(page["feed"]["now_ms"] - now_ms()) < 60_000
    viewers = client.ask("GET", "/v1/viewers")["viewers"]
    known = set(small_dataset.viewers["viewer_id"].to_pylist())
    assert {each["viewer_id"] for each in viewers} <= known
    assert all(each["num_events"] > 0 and 0 <= each["skipped_share"] <= 1 for each in viewers)


def test_time_goes_on_from_the_end_of_a_log_of_the_past(
    small_run: TrainedRun, small_dataset: Dataset, tmp_path: Path
) -> None:
    store = open_store(f"sqlite:{tmp_path / 'state.db'}")
    prepare_state(small_run.path, small_dataset.path, store, StateSettings())
    settings = ServeSettings(clock="log")
    engine = open_engine(small_run.path, small_dataset.path, store, settings)
    last_ms = int(small_dataset.events["known_at_ms"].all().max())
    assert 0 < engine.clock() - last_ms < 60_000
    assert now_ms() - engine.clock() > 86_400_000
    today = FeedRequest(viewer_id="v", k=1, requested_at_ms=now_ms())
    with pytest.raises(Refusal, match="lives on in its log's time"):
        check_feed(engine, today)
    store.close()


def test_the_lab_counts_what_happens_and_holds_promises_against_it(client: Client) -> None:
    before = client.ask("GET", "/v1/lab")
    slate = client.ask("POST", "/v1/feed", {"viewer_id": "counted", "k": 4})
    client.keep(
        *(
            event(
                200 + place,
                "counted",
                item["video_id"],
                watch_ms=500 if place else 20_000,
                request_id=slate["request_id"],
                liked=not place,
            )
            for place, item in enumerate(slate["items"])
        )
    )
    after = client.ask("GET", "/v1/lab")
    first, last = before["samples"][-1], after["samples"][-1]
    assert last["views"] - first["views"] == 4
    assert last["glances"] - first["glances"] == 3
    assert last["watch_s"] - first["watch_s"] == pytest.approx(21.5)
    assert last["requests"] > first["requests"]
    assert last["stages"]["score"]["count"] > first["stages"].get("score", {"count": 0})["count"]

    def of(figures: Any, objective: str) -> Any:
        found = [each for each in figures["calibration"] if each["objective"] == objective]
        return found[0] if found else {"shown": 0, "expected": 0.0, "happened": 0}

    for objective, happened in (("glance", 3), ("like", 1)):
        was, now = of(before, objective), of(after, objective)
        assert now["shown"] - was["shown"] == 4
        assert now["happened"] - was["happened"] == happened
        assert 0 < now["expected"] - was["expected"] < 4


def test_the_front_holds_what_no_other_weights_beat(client: Client) -> None:
    trials = client.ask("GET", "/v1/lab/front")["trials"]
    assert sum(each["now"] for each in trials) == 1
    best = [each for each in trials if each["best"]]
    assert best
    for one in best:
        assert not any(
            other["improve"] < one["improve"] and other["keep"] > one["keep"] for other in trials
        )
