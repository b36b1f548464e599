"""What the service answers, over a real socket."""

import json
import re
from typing import Any
from urllib.parse import quote

import pytest

from skipwise.errors import SettingError
from skipwise.model.score import Reward, ScoreWeights
from tests.serving.running import Client, event


def test_an_event_is_in_the_next_request_and_counts_once(client: Client, videos: list[str]) -> None:
    asked = {"requested_at_ms": 1_700_000_900_000, "explain": True}
    before = client.rank("tina", videos[:3], **asked)
    skipped = event(1, "tina", videos[0], watch_ms=400)
    assert client.keep(skipped)["accepted"] == 1
    after = client.rank("tina", videos[:3], **asked)
    assert before["items"] != after["items"]
    again = client.keep(skipped, event(2, "tina", videos[1]))
    assert (again["accepted"], again["duplicates"]) == (1, 1)
    held = client.ask("GET", "/v1/viewers/tina")
    assert [each["video_id"] for each in held["events"]] == videos[:2]
    assert held["events"][0]["feedback"] == "glance"


def test_a_time_long_before_everything_is_answered(client: Client, videos: list[str]) -> None:
    """Found by the fuzz: counters read 45 years before their day grew past all numbers."""
    slate = client.rank("early", videos[:3], requested_at_ms=100_000_000_000, explain=True)
    assert all(0 < each["predictions"]["glance"] < 1 for each in slate["items"])


def test_another_viewer_may_use_the_same_event_id(client: Client, videos: list[str]) -> None:
    assert client.keep(event(1, "a", videos[0]), event(1, "b", videos[0]))["accepted"] == 2


def test_a_late_outcome_is_a_row_of_its_own_and_changes_what_is_read(
    client: Client, videos: list[str]
) -> None:
    client.keep(event(1, "late", videos[0]))
    report = {
        "event_id": "o1",
        "of_event_id": "e1",
        "viewer_id": "late",
        "video_id": videos[0],
        "known_at_ms": 1_700_003_700_000,
        "disliked": True,
    }
    assert client.ask("POST", "/v1/events", {"outcomes": [report]})["accepted"] == 1
    assert client.ask("POST", "/v1/events", {"outcomes": [report]})["duplicates"] == 1
    held = client.ask("GET", "/v1/viewers/late")
    assert [each["feedback"] for each in held["events"]] == ["negative"]


@pytest.mark.parametrize("viewer", [".", ".."])
def test_an_id_that_no_path_can_hold_is_refused(
    client: Client, videos: list[str], viewer: str
) -> None:
    """Found by the long fuzz: what was kept of it could not be read back, nor forgotten."""
    for path, body in (
        ("/v1/events", {"events": [event(1, viewer, videos[0])]}),
        ("/v1/feed", {"viewer_id": viewer}),
    ):
        refused = client.post(path, json=body)
        assert refused.status_code == 422
        assert refused.json()["must_be"].startswith("another id than . and ..")
    kept = f"{viewer}x"
    assert client.keep(event(1, kept, videos[0]))["accepted"] == 1
    assert client.ask("GET", f"/v1/viewers/{kept}")["num_events"] == 1


@pytest.mark.parametrize("viewer", ["x/y z", "a\nb", "\n", "ends\n"])
def test_a_viewer_is_forgotten(client: Client, videos: list[str], viewer: str) -> None:
    """Line ends were found by the long fuzz: no route took them."""
    path = f"/v1/viewers/{quote(viewer, safe='')}"
    client.keep(event(1, viewer, videos[0]))
    assert client.ask("GET", path)["viewer_id"] == viewer
    assert client.ask("DELETE", path)["held"]
    assert client.get(path).status_code == 404
    assert not client.ask("DELETE", path)["held"]


def test_strangers_are_ranked_and_a_posted_video_at_once(client: Client) -> None:
    slate = client.rank("nobody", ["no such video", "nor this"], explain=True)
    assert len(slate["items"]) == 2
    posted = {
        "video_id": "brand new",
        "author_id": "someone",
        "topics": ["topic-1"],
        "duration_ms": 9000,
        "uploaded_at_ms": 1_700_000_000_000,
    }
    assert client.ask("PUT", "/v1/videos", {"videos": [posted]})["videos"] == 1
    ranked = client.rank("nobody", ["brand new", "no such video"], explain=True)
    chances = {each["video_id"]: each["predictions"] for each in ranked["items"]}
    assert chances["brand new"] != chances["no such video"]
    feed = client.ask("POST", "/v1/feed", {"viewer_id": "nobody", "k": 20})
    assert "brand new" in [each["video_id"] for each in feed["items"]] or len(feed["items"]) == 20


def test_a_feed_leaves_out_what_was_seen_blocked_or_withdrawn_and_says_so(
    client: Client, small_authors: dict[str, str]
) -> None:
    asked = {"viewer_id": "feed", "k": 30, "explain": True}
    first = client.ask("POST", "/v1/feed", asked)
    shown = [each["video_id"] for each in first["items"]]
    assert len(set(shown)) == len(shown) > 5
    assert all(0 < each["propensity"] <= 1 for each in first["items"])
    client.keep(event(1, "feed", shown[0]))
    blocked = small_authors[shown[1]]
    old = [each["video_id"] for each in first["items"][2:] if each["source"] != "fresh"]
    gone = next(video for video in old if small_authors[video] != blocked)
    withdrawn = {"video_id": gone, "eligible": False}
    client.ask("PUT", "/v1/videos", {"videos": [withdrawn]})
    second = client.ask("POST", "/v1/feed", {**asked, "blocked_authors": [blocked]})
    reasons = {each["video_id"]: each["reason"] for each in second["removed"]}
    assert reasons[shown[0]] == "seen"
    assert reasons[shown[1]] == "blocked author"
    assert reasons[gone] == "not eligible"
    assert not {*shown[:2], gone} & {each["video_id"] for each in second["items"]}
    client.ask("PUT", "/v1/videos", {"videos": [{**withdrawn, "eligible": True}]})


def test_the_score_is_changed_for_all_and_has_a_version(client: Client, videos: list[str]) -> None:
    before = client.ask("GET", "/v1/score")
    changed = client.ask("PUT", "/v1/score", {"glance_power": 7.5})
    assert changed["version"] == before["version"] + 1
    assert changed["weights"]["glance_power"] == 7.5
    slate = client.rank("score", videos[:5], explain=True)
    assert slate["score_version"] == changed["version"]
    refused = client.put("/v1/score", json={"glance_power": -1})
    assert refused.status_code == 422
    assert "glance_power is -1, must be `float` >= 0" in refused.json()["error"]
    client.ask("PUT", "/v1/score", {})


def test_each_answer_has_an_id_and_the_service_describes_itself(client: Client) -> None:
    answer = client.get("/health")
    assert re.fullmatch(r"[0-9a-f]{16}", answer.headers["x-request-id"])
    described = client.get("/openapi.json").json()
    assert described["openapi"].startswith("3.1")
    assert {"/v1/feed", "/v1/rank", "/v1/events", "/v1/models"} <= set(described["paths"])
    page = client.get("/docs").text
    assert "://" not in page.replace('"/openapi.json"', "")
    assert client.get("/ready").json()["status"] == "ready"
    assert 'skipwise_requests_total{route="/health"' in client.get("/metrics").text


RANK: dict[str, Any] = {"viewer_id": "v", "candidates": ["a"]}
MANY = [str(place) for place in range(3000)]
VIEW: dict[str, Any] = event(1, "v", "a")


@pytest.mark.parametrize(
    ("path", "body", "status", "field", "told"),
    [
        ("rank", b'{"viewer_id": "v", ', 400, "body", "not JSON"),
        ("rank", b'{"viewer_id": "\xff\xfe", "candidates": ["a"]}', 400, "body", "not JSON"),
        ("rank", b'{"viewer_id": "v", "candidates": [NaN]}', 400, "body", "without NaN"),
        ("rank", b"[" * 100_000, 422, "body", "must be `object`"),
        ("rank", b'{"viewer_id": ' + b"[" * 100_000, 422, "viewer_id", "must be `str`"),
        ("rank", {**RANK, "viewer_id": 7}, 422, "viewer_id", "is 7, must be `str`"),
        ("rank", {**RANK, "viewer_id": "x" * 10_000}, 422, "viewer_id", "10002 characters"),
        ("rank", {**RANK, "candidates": []}, 422, "candidates", "length >= 1"),
        ("rank", {**RANK, "candidates": MANY}, 422, "candidates", "<= 2000"),
        ("rank", {**RANK, "candidates": ["a", "b", "a"]}, 422, "candidates[2]", "named once"),
        ("rank", {**RANK, "candidate": ["a"]}, 422, "candidate", "is no field"),
        ("rank", {"candidates": ["a"]}, 422, "viewer_id", "must be given"),
        ("rank", {**RANK, "requested_at_ms": 1_700_000_000}, 422, "requested_at_ms", "seconds"),
        ("rank", {**RANK, "requested_at_ms": 5 * 10**12}, 422, "requested_at_ms", "ahead of now"),
        ("rank", {**RANK, "day": "2022-13-40"}, 422, "day", "a day like"),
        ("rank", {**RANK, "day": "1999-01-01"}, 422, "day", "within a day of"),
        ("events", {"events": [{**VIEW, "watch_ms": -5}]}, 422, "events[0].watch_ms", "is -5"),
        ("events", {"events": [{**VIEW, "watch_ms": 1.5}]}, 422, "events[0].watch_ms", "`int"),
        ("events", {"events": [VIEW, {**VIEW, "shown_at_ms": 5 * 10**12}]}, 422,
         "events[1].shown_at_ms", "ahead of now"),
        ("events", {"events": [{**VIEW, "variant": "zebra"}]}, 422, "events[0].variant", "current"),
        ("events", {"events": [{**VIEW, "likes": True}]}, 422, "events[0].likes", "is no field"),
        ("events", {"events": [VIEW] * 1001}, 422, "events", "<= 1000"),
        ("events", b" " * 5_000_000, 413, "body", "larger than 4000000 bytes"),
        ("feed", {"viewer_id": "v", "k": 0}, 422, "k", "is 0, must be `int` >= 1"),
        ("events", {"events": [{**VIEW, "policy": "luck"}]}, 422, "events[0].policy",
         'is "luck", must be one of random, served'),
        ("events", {"events": [{**VIEW, "day": "May"}]}, 422, "events[0].day", "a day like"),
        ("events", b'{"events": "\xff"}', 400, "body", "not JSON"),
        ("events", b'{"events": 7, "more": NaN}', 400, "body", "without NaN"),
        ("explain", {"viewer_id": "v", "video_ids": ["a", "a"]}, 422, "video_ids[1]", "named once"),
        ("models", {"action": "swap", "run": "../../etc"}, 422, "run", "must be the name of a RUN"),
        ("models", {"action": "canary"}, 422, "run", "is null, must be the name of a RUN"),
        ("models", {"action": "explode"}, 422, "action",
         "must be one of canary, roll_back, swap"),
    ],
)  # fmt: skip
def test_bad_input_is_told_by_field(
    client: Client, path: str, body: Any, status: int, field: str | None, told: str
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post(f"/v1/{path}", content=content)
    problem = answer.json()
    assert answer.status_code == status, problem
    assert problem.get("field") == field
    assert told in problem["error"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("path", "body", "field", "told"),
    [
        ("score", b'{"glance_power": -1}', "glance_power", "is -1, must be `float` >= 0"),
        ("score", b'{"like": {"scale": 1e7}}', "like.scale", "must be `float` <= 1000000"),
        ("score", b'{"glance_power": 1e999}', "glance_power", "is too large a number"),
        ("score", b'{"version": 3}', "version", "is no field"),
        ("videos", b'{"videos": [{"video_id": "a"}, {"video_id": "a"}]}', "videos[1].video_id",
         "named once"),
        ("videos", b'{"videos": [{"video_id": "a", "uploaded_at_ms": 5000000000000}]}',
         "videos[0].uploaded_at_ms", "ahead of now"),
        ("videos", b'{"videos": [{"video_id": "a", "uploaded_at_ms": 1700000000}]}',
         "videos[0].uploaded_at_ms", "seconds"),
    ],
)  # fmt: skip
def test_what_is_put_is_refused_by_field(
    client: Client, path: str, body: bytes, field: str, told: str
) -> None:
    answer = client.put(f"/v1/{path}", content=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["field"] == field
    assert told in answer.json()["error"]
    assert {"value", "must_be"} <= answer.json().keys()


def test_weights_that_could_order_nothing_are_refused(client: Client, videos: list[str]) -> None:
    """Kept, every later request would be refused in their place."""
    before = client.ask("GET", "/v1/score")["version"]
    names = ("effective", "long", "finished", "click", "like", "follow", "comment", "share")
    mute = {name: {"power": 0} for name in names} | dict.fromkeys(
        ("watch_power", "glance_power", "negative_power"), 0
    )
    refused = client.put("/v1/score", json=mute)
    assert refused.status_code == 422
    assert "must be weights with a power above 0 for something" in refused.json()["error"]
    assert client.ask("GET", "/v1/score")["version"] == before
    assert client.rank("v", videos[:2])["items"]


def test_the_document_says_the_ranges_of_weights(client: Client) -> None:
    """The wire has them for what it refuses; the weights have them of their own."""
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    ranged = [
        (kind, name, bounds)
        for body, kind in (("ScoreWeightsBody", ScoreWeights), ("RewardBody", Reward))
        for name, bounds in schemas[body]["properties"].items()
        if "$ref" not in bounds
    ]
    assert len(ranged) == 6
    for kind, name, bounds in ranged:
        least, most = bounds.get("minimum", bounds.get("exclusiveMinimum")), bounds["maximum"]
        kind(**{name: most})
        for beyond in (least - 1e-6, most * 1.001):
            with pytest.raises(SettingError):
                kind(**{name: beyond})


@pytest.mark.parametrize("path", ["%ff%fe", "x" * 10_000, ""])
def test_an_id_in_a_path_is_refused_as_one_in_a_body_is(client: Client, path: str) -> None:
    for method in ("GET", "DELETE"):
        refused = client.request(method, f"/v1/viewers/{path}")
        assert refused.status_code == 422
        assert {"field", "value", "must_be"} <= refused.json().keys()


def test_pages_that_are_not_there_are_told(client: Client) -> None:
    missing = client.get("/v2/feed")
    assert missing.status_code == 404
    assert missing.headers["x-request-id"] == missing.json()["request_id"]
    refused = client.get("/v1/feed")
    assert refused.status_code == 405
    assert refused.headers["allow"] == "POST"
    assert "there is no GET" in refused.json()["error"]
