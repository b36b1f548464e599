"""The drawer in a real browser: it shows what was answered and done, and sliders tell the truth."""

import math
import re
from typing import Any

import numpy as np
import pytest

from tests.browser.conftest import Play, base_of
from tests.serving.running import Client

HALF, MOST = (f"longer than {share}\xa0% of others" for share in (50, 60))
"""An effective and a finished view, by the labels' settings."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 36, 312, 14, 142
"""The curve's box in its drawing, px."""


@pytest.fixture(scope="module")
def compared(feed: Client, play: Play) -> dict[str, Any]:
    told: dict[str, Any] = play("compares", base=base_of(feed), viewer="new-compares")
    assert told["problems"] == []
    return told


def x_of(why: dict[str, Any], seconds: float) -> float:
    """Return where a second stands: early ones are wide."""
    return _LEFT + math.sqrt(min(1, seconds / why["curve_at_s"][-1])) * (_RIGHT - _LEFT)


def numbers_in(path: str) -> list[float]:
    return [float(each) for each in re.findall(r"[\d.]+", path)]


def test_the_view_that_was_had_is_drawn_on_the_curve_it_was_promised(
    compared: dict[str, Any],
) -> None:
    for at, drawn in enumerate(compared["again"]):
        why = compared["answers"][drawn["card"]]
        assert drawn["card"] == compared["on"][at]["card"]
        stayed = float(re.sub(r"[^\d.].*", "", drawn["words"].removeprefix("You stayed ")))
        if at == 0:
            assert 1.2 <= stayed < 2.6
            chance = float(np.interp(stayed, why["curve_at_s"], why["curve"]))
            y = _TOP + (1 - chance) * (_BOTTOM - _TOP)
            assert drawn["dot"] == pytest.approx([x_of(why, stayed), y], abs=2.5)
        x, start, end = numbers_in(drawn["drop"])
        assert [x, start] == drawn["dot"]
        assert end == _BOTTOM
        assert "It gave" in drawn["words"]


def test_the_marks_stand_at_three_seconds_and_at_the_effective_threshold(
    compared: dict[str, Any],
) -> None:
    for drawn in compared["on"]:
        why = compared["answers"][drawn["card"]]
        limits = why["thresholds_s"]
        assert limits["glance"] == 3.0
        for name, path in drawn["cuts"].items():
            assert numbers_in(path)[0] == pytest.approx(x_of(why, limits[name])), name
    assert len({drawn["cuts"]["effective"] for drawn in compared["on"]}) > 1


def test_what_you_did_stands_beside_what_was_expected_while_it_lasts_and_once_it_is_over(
    compared: dict[str, Any],
) -> None:
    skipped, watched, early = (drawn["did"] for drawn in compared["on"])
    lasting = {"skips it": "…", HALF: "…", "long view": "…", MOST: "…"}
    assert skipped | lasting == skipped
    assert early | lasting == early  # a glance is neither, though it is past both quantiles
    stayed = {"skips it": "no", HALF: "yes", "long view": "yes", MOST: "yes"}
    assert watched | stayed == watched
    skipped, watched, early = (drawn["did"] for drawn in compared["again"])
    left = {HALF: "no", "long view": "no", MOST: "no", "likes it": "no"}
    assert skipped | left | {"skips it": "yes"} == skipped
    assert early | left | {"skips it": "yes"} == early
    assert watched | stayed | {"likes it": "no"} == watched


def test_the_events_read_most_come_first_and_skips_have_their_own_colour(
    compared: dict[str, Any],
) -> None:
    assert compared["on"][0]["read"] == []  # a viewer without a past
    last = compared["last"]
    events = compared["answers"][last["card"]]["reading"]["events"]
    most = [max(each["as_watched"], each["as_skipped"]) for each in events]
    assert most == sorted(most, reverse=True)
    pairs = list(zip(events, last["read"], strict=True))
    for each, row in pairs:
        topics = each["shown"].get("topics")
        name = f"A video on {topics[0]}" if topics else f"Video {each['video_id']}"
        seconds = float(re.findall(r"[\d.]+", row["tag"])[0])
        assert row["name"] == name
        assert abs(seconds - each["watch_s"]) <= 0.5 or each["watch_s"] > 60
    skips = [each["feedback"] in ("glance", "negative") for each in events]
    assert [row["skip"] for row in last["read"]] == skips
    assert set(skips) == {False, True}
    assert len({(row["skip"], row["colour"]) for row in last["read"]}) == 2
    assert len({row["colour"] for row in last["read"]}) == 2
    tags = [row["tag"] for row in last["read"] if row["skip"]]
    assert all(tag.startswith("skipped ") for tag in tags)


def test_the_factors_shown_make_the_score_shown(compared: dict[str, Any]) -> None:
    for drawn in compared["on"]:
        score = float(drawn["title"].rsplit(" ", 1)[1])
        rounding = sum(0.005 / factor for factor in drawn["factors"]) + 0.005 / score
        assert len(drawn["factors"]) > 3
        assert math.prod(drawn["factors"]) == pytest.approx(score, rel=1.2 * rounding)
        assert score == pytest.approx(compared["answers"][drawn["card"]]["score"], abs=0.005)
        assert re.match(r"When its slate was made it was \d+\.\d\d; ", drawn["slate"])


def test_sliders_say_what_is_in_force_whatever_the_server_answers_and_when(
    feed: Client, play: Play
) -> None:
    try:
        told = play("weighs", base=base_of(feed), viewer="new-weighs")
    finally:
        feed.ask("PUT", "/v1/score", {})
    assert told["problems"] == []
    assert told["refused"] == {
        "words": "Not changed: a refusal.",
        "watch": told["first"]["watch"],
    }
    assert told["after"]["like"]["scale"] == 33
    assert told["after"]["watch_power"] == float(told["first"]["watch"])  # what was refused is gone
    assert told["late"] == {"shown": ["0.5"] * 15, "most": 1, "held": 0.5}
    assert told["unranked"]["watch"] == 1.2
    assert re.match(r"Weights version \d+ in force; .*: a fault\.", told["unranked"]["words"])
