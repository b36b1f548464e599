"""The page in a real browser: what was done is what is kept, and the feed has learnt from it."""

import base64
import io
import json
import os
import re
import shutil
import statistics
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from PIL import Image

from skipwise.serving.app import ENDPOINTS
from tests.browser.conftest import FLAGS, HERE, Locked, Play, base_of, kept_of
from tests.browser.pictures import differs, keep, kept_names, reduced
from tests.serving.running import Client

CARDS = 30
STATES = 17
"""Of the three pages."""
LATER = 10
"""Slates at the end of a visit, and at the start of one, that are compared."""
HOSTILE = (
    "<script>window.caught = 1</script><img src=x onerror='window.caught = 2'>",
    "\u202egnp.exe \u2066right to left\u2069 مرحبا שלום",
    "😀👩‍👩‍👧‍👦🏳️‍🌈" * 40,
    "x" * 10_000,
    '"></h2><style>*{display:none}</style> \u0000\u2028 {{7*7}} ${alert(1)}',
)


def share_of(topic: str, slates: list[list[list[str]]]) -> float:
    """How many of the videos of some slates are on a topic."""
    return statistics.mean(topic in topics for slate in slates for topics in slate)


def visit(feed: Client, viewer: str) -> list[list[list[str]]]:
    """Watch every card for twelve seconds, whatever it is; returns the topics of each slate."""
    facts = feed.ask("GET", "/v1/page")["feed"]
    slates: list[list[list[str]]] = []
    seen: set[str] = set()
    for at in range(CARDS):
        slate = feed.ask("POST", "/v1/feed", {"viewer_id": viewer, "describe": True})
        slates.append([item["shown"].get("topics", []) for item in slate["items"]])
        item = next(each for each in slate["items"] if each["video_id"] not in seen)
        seen.add(item["video_id"])
        feed.keep(
            {
                "event_id": f"{viewer}-{at}",
                "viewer_id": viewer,
                "video_id": item["video_id"],
                "shown_at_ms": facts["now_ms"] + 13_000 * at,
                "watch_ms": min(12_000, item["shown"]["duration_ms"]),
                "duration_ms": item["shown"]["duration_ms"],
                "surface": facts["surface"],
                "liked": False,
                "followed": False,
                "shared": False,
                "disliked": False,
            }
        )
    return slates


def test_the_feed_turns_away_from_what_is_skipped_and_towards_what_is_watched(
    tasted_feed: Client, play: Play
) -> None:
    control = visit(tasted_feed, "control")
    topics = tasted_feed.ask("GET", "/v1/page")["feed"]["topics"]
    by_share = sorted(topics, key=lambda topic: share_of(topic, control[-LATER:]))
    skip, watch = by_share[-1], by_share[-3]  # there is much of the one, and room for the other
    told = play(
        "learns", base=base_of(tasted_feed), viewer="learner", skip=skip, watch=watch, cards=CARDS
    )

    later = told["slates"][-LATER:]
    assert share_of(skip, later) <= share_of(skip, control[-LATER:]) / 2
    assert share_of(watch, later) > share_of(watch, control[-LATER:])
    assert told["problems"] == []

    events = kept_of(tasted_feed, "learner")[: told["held"]]
    assert [event.video_id for event in events] == told["videos"]
    assert not any(getattr(event, flag) for event in events for flag in FLAGS)
    ahead_ms = events[0].shown_at_ms - told["shownMs"][0]
    for event, watched_ms, shown_ms in zip(
        events, told["watchedMs"], told["shownMs"], strict=False
    ):
        assert abs(event.watch_ms - watched_ms) <= 50
        assert abs(event.shown_at_ms - ahead_ms - shown_ms) <= 100
        assert told["asked"][event.request_id][event.position] == event.video_id


def test_a_reload_a_lost_connection_and_two_tabs_lose_nothing_and_count_nothing_twice(
    feed: Client, play: Play
) -> None:
    told = play("survives", base=base_of(feed), viewer="survivor")
    assert told["problems"] == []
    assert "offline: 3 events kept here" in told["said"]
    done, events = told["done"], kept_of(feed, "survivor")
    assert len(done) == 15
    assert sorted(event.video_id for event in events) == sorted(each["video"] for each in done)
    assert {event.event_id for event in events} >= set(told["posted"])
    assert len({event.event_id for event in events}) == 15
    by_video = {(each["video"], round(each["atMs"])): each for each in done}
    ahead_ms = events[0].shown_at_ms - done[0]["atMs"]
    for event in events:
        at = min(  # two tabs may show a video at the same time: then its watch tells which it is
            (key for key in by_video if key[0] == event.video_id),
            key=lambda key: (
                abs(key[1] + ahead_ms - event.shown_at_ms)
                + abs(by_video[key]["untilMs"] - by_video[key]["atMs"] - event.watch_ms)
            ),
        )
        seen = by_video.pop(at)  # each was done once, and is kept once
        assert abs(event.shown_at_ms - ahead_ms - seen["atMs"]) <= 500
        assert abs(event.watch_ms - (seen["untilMs"] - seen["atMs"])) <= 150
        assert told["asked"][event.request_id][event.position] == event.video_id
        assert not any(getattr(event, flag) for flag in FLAGS)


def test_only_time_on_screen_counts_and_a_bounce_on_the_way_back_is_no_view(
    feed: Client, play: Play
) -> None:
    told = play("measures", base=base_of(feed), viewer="measured")
    assert [each for each in told["problems"] if "ERR_FAILED" not in each] == []
    held = told["held"]["events"]
    forwarded_s = [3.8, 5, 1, 0.7, 2, 3, 1]  # and what really passed meanwhile on a busy machine
    for event, least_s in zip(held, forwarded_s, strict=True):
        assert least_s - 0.05 < event["watch_s"] < least_s + 1.5
    first, second, third, first_again, third_again, away, last = held
    assert away["video_id"] != last["video_id"]
    assert first["video_id"] == first_again["video_id"] != second["video_id"]
    assert third["video_id"] == third_again["video_id"]
    assert (first["feedback"], third["feedback"]) == ("liked", "negative")


def test_a_tab_behind_another_and_a_window_made_small_are_not_watched(
    feed: Client, play: Play
) -> None:
    """Really hidden ones, for as long as the whole view else lasts."""
    executable, viewer = shutil.which("chromium"), "hiding"
    told = play("hides", base=base_of(feed), viewer=viewer, executable=executable, awayMs=1500)
    assert told["problems"] == []
    assert told["seen"]["states"] == ["hidden", "visible", "hidden", "visible"]
    assert min(told["away"]) > 1200
    assert len(told["held"]) == 2
    for event, seen_ms in zip(told["held"], told["seen"]["ms"], strict=True):
        assert seen_ms > 1000
        assert abs(1000 * event["watch_s"] - seen_ms) <= 150


def test_a_view_belongs_to_who_watched_and_to_their_own_slate(feed: Client, play: Play) -> None:
    viewers = ["first-of-two", "second-of-two"]
    told = play("switches", base=base_of(feed), viewers=viewers)
    assert told["problems"] == []
    whose = [(each["viewer_id"], told["asked"][each["request_id"]]) for each in told["posted"]]
    assert {viewer for viewer, _ in whose} == set(viewers)
    assert len(whose) >= 4
    assert all(viewer == asked for viewer, asked in whose)


@pytest.fixture(scope="module")
def by_keys(feed: Client, play: Play) -> dict[str, Any]:
    told: dict[str, Any] = play("keyboard", base=base_of(feed), viewer="keys-only-viewer")
    assert told["problems"] == []
    return told


def test_everything_can_be_done_with_the_keyboard_alone(
    feed: Client, by_keys: dict[str, Any]
) -> None:
    told = by_keys
    assert told["liked"] == "true"
    assert told["inDrawer"]
    assert told["closed"]
    assert float(told["after"]) > float(told["before"])
    assert told["who"].startswith("Viewer u")
    for name in ("To the feed", "Lab", "Videos", "Like", "Not for me", "Why this?"):
        assert any(name in visited for visited in told["visited"]), (name, told["visited"])
    feed.ask("PUT", "/v1/score", {})
    for state, shot in told["edges"].items():
        edge = np.asarray(Image.open(io.BytesIO(base64.b64decode(shot))).convert("L"))
        assert (edge[:, :3] > 240).all(), state  # the ring: light outside,
        assert (edge[:, 3:6] < 50).all(), state  # dark inside, whatever the card's colours
    assert told["escaped"] == "Videos"
    assert told["toured"] == [
        ["Enter", "Videos", True],
        ["Enter", "Videos", False],
        ["Enter", "Videos", True],
        ["Escape", "Videos", False],
        ["Escape", "Videos", False],
    ]


def test_what_keys_do_is_said_and_of_like_and_not_for_me_the_last_word_counts(
    by_keys: dict[str, Any],
) -> None:
    assert by_keys["alike"] == 1  # the cards before and after are not read out
    *said, last = by_keys["said"]
    assert said == ["Followed", "Follow taken back", "Paused", "Playing"]
    assert last.startswith("Not for you. ")
    assert len(last) > 30  # and then the card that comes
    assert by_keys["pressed"] == ["Like"]
    assert "liked" in by_keys["held"]
    assert "negative" not in by_keys["held"]


def test_titles_and_authors_are_shown_as_text_whatever_they_hold(
    locked: Locked, play: Play, tmp_path: Path
) -> None:
    every = {"viewer_id": "target", "k": 200, "describe": True}
    slate = locked.client.ask("POST", "/v1/feed", every)
    numbers = count()
    videos = [
        {
            "video_id": item["video_id"],
            **item["shown"],
            "title": HOSTILE[next(numbers) % len(HOSTILE)],
            "author_name": HOSTILE[next(numbers) % len(HOSTILE)],
        }
        for item in slate["items"]
    ]
    locked.client.ask("PUT", "/v1/videos", {"videos": videos})
    told = play(
        "hostile",
        base=base_of(locked.client),
        key=locked.keys["admin"],
        viewer="target",
        words=[words[:5] for words in HOSTILE],
        shot=str(tmp_path / "shot.png"),
    )
    assert told["problems"] == []
    assert told["caught"] is None
    begins = {words[:12] for words in HOSTILE}  # all of them are cut, some early
    shown: dict[str, set[str]] = {name: set() for name in ("title", "author", "subject")}
    listed: dict[str, set[str]] = {name: set() for name in ("next", "read")}
    for seen in told["seen"]:
        for name, found in shown.items():
            assert seen[name][:12] in begins, name
            found.add(seen[name][:12])
        for name, found in listed.items():
            assert {each[:12] for each in seen[name]} <= begins, name
            found |= {each[:12] for each in seen[name]}
        assert seen["elements"] == seen["inside"] == 0
        assert not seen["wide"]
        assert seen["tall"] < 320
    assert {name: found for name, found in shown.items() if found != begins} == {}
    assert {name: found for name, found in listed.items() if found != begins} == {}


def test_the_score_is_changed_with_the_admin_key_only(locked: Locked, play: Play) -> None:
    found = {"negative_power": 150.0}  # as a search finds, beyond what the slider reaches
    locked.client.ask("PUT", "/v1/score", found)
    told = play("locked", base=base_of(locked.client), keys=locked.keys)
    assert told["viewer"]["disabled"]
    assert "admin scope" in told["viewer"]["words"]
    assert not told["admin"]["disabled"]
    before, after = told["admin"]["next"]
    assert before != after
    assert locked.client.ask("GET", "/v1/score")["weights"]["watch_power"] == 2.0
    assert locked.client.ask("GET", "/v1/score")["weights"]["negative_power"] == 150.0
    assert told["viewer"]["problems"] == told["admin"]["problems"] == []


class Looked(NamedTuple):
    """What the page looks like, state by state."""

    folder: Path
    found: dict[str, list[str]]
    wide: list[str]
    problems: list[str]


@pytest.fixture(scope="module")
def looked(feed: Client, play: Play, tmp_path_factory: pytest.TempPathFactory) -> Looked:
    folder = tmp_path_factory.mktemp("looks")
    told = play("looks", base=base_of(feed), folder=str(folder))
    return Looked(folder, told["found"], told["wide"], told["problems"])


def test_axe_finds_nothing_in_any_state_of_all_pages(looked: Looked) -> None:
    assert {state: found for state, found in looked.found.items() if found} == {}
    assert looked.wide == []
    assert looked.problems == []
    assert len(looked.found) == 2 * STATES


def test_the_pictures_are_those_that_were_looked_at(looked: Looked) -> None:
    """Each state on a phone and a desk, one of them light and the other dark."""
    pictures = {name: reduced(looked.folder / f"{name}.png") for name in looked.found}
    if os.environ.get("SKIPWISE_KEEP_PICTURES"):
        keep(pictures)
    assert kept_names() == set(pictures)
    others = {name: differs(picture, name) for name, picture in pictures.items()}
    assert {name: share for name, share in others.items() if share >= 0.003} == {}, looked.folder


def test_what_the_pictures_are_made_of_is_what_the_server_would_answer() -> None:
    """The answers are written down; their types are the server's of today."""
    answers = json.loads((HERE / "answers.json").read_text(encoding="utf-8"))
    of = {each.described.path: each.described.answer for each in ENDPOINTS}
    for path, answer in answers.items():
        if path != "/openapi.json":
            wanted = of[{"trial": "/v1/models"}.get(path, path)]
            assert msgspec.to_builtins(msgspec.convert(answer, wanted)).keys() >= answer.keys(), (
                path
            )


@pytest.mark.parametrize("path", ["/", "/lab", "/docs", "/page/feed.js", "/page/look.css"])
def test_the_page_is_held_to_its_own_files(feed: Client, path: str) -> None:
    answer = feed.get(path)
    assert answer.status_code == 200
    if not path.endswith((".js", ".css")):
        inline = rb"<script(?![^>]*\bsrc=)|<style|\son\w+\s*=|\bstyle\s*="
        assert b"<script" in answer.content
        assert not re.search(inline, answer.content, flags=re.IGNORECASE)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    again = feed.get(path, headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
