"""What the page says in words is what it was told: the tour's figures, how what was done fares."""

from typing import Any

from tests.browser.conftest import Play, base_of
from tests.serving.running import Client


def slate_of(pets: int) -> list[list[str]]:
    """Ten videos' topics."""
    return [["pets"]] * pets + [["music"]] * (10 - pets)


def view(topic: str, watch_ms: int, **flags: bool) -> dict[str, Any]:
    return {"topics": [topic], "watch_ms": watch_ms, **flags}


def test_the_tour_counts_skips_and_watches_of_its_topic_and_says_whether_it_fell(
    feed: Client, play: Play
) -> None:
    views = [
        view("pets", 500),
        view("music", 9000),
        view("pets", 2999),
        view("pets", 9000, disliked=True),
        view("music", 200),  # a skip, of another topic
        view("pets", 3000),
        view("pets", 100, liked=True),
        *[view("music", 9000)] * 3,
        view("pets", 100),  # after the tour
    ]
    fell = {
        "slates": [slate_of(each) for each in (6, 5, 5, 4, 3, 3, 4, 5, 3, 2, 1, 9)],
        "views": views,
    }
    stays = {"slates": [slate_of(6)] * 11, "views": [view("music", 9000)] * 10}
    told = play("tours", base=base_of(feed), tours=[fell, stays])
    assert told["problems"] == []
    said, still = ([words.replace("\xa0", " ") for words in each] for each in told["said"])
    assert "Skip every pets video for ten swipes." in said[0]
    shares, skips = (60, 50, 50, 40, 30, 30, 40, 50, 30, 20), (0, 1, 1, 2, 3, 3, 3, 3, 3, 3)
    for at, (share, skipped) in enumerate(zip(shares, skips, strict=True)):
        counted = f"{at} of 10 swipes, {skipped} of pets skipped. In the next ten: {share} %."
        assert counted in said[at + 1]
    assert "Pets fell from 60 % to 10 %" in said[-1]
    assert said[-1] == said[-2]
    assert (
        "After ten swipes 1 of ten videos to come was of pets; before, 6. "
        "On the way you skipped 3 and watched 2, which it has learnt as well."
    ) in said[-1]
    assert "Pets stands at 60 %" in still[-1]
    assert "6 of ten videos to come were of pets; before, 6. On the way you skipped 0." in still[-1]


def test_the_status_line_says_what_waits_where_and_why(feed: Client, play: Play) -> None:
    lost, locked, busy = [0, "no answer"], [401, "a key"], [429, "past its capacity."]
    refusal = {"why": "watch_ms is -7."}
    cases: list[tuple[dict[str, Any], tuple[str, str]]] = [
        ({}, ("saved", "saved")),
        ({"waiting": 2}, ("sending", "sending 2")),
        ({"waiting": 1, "failing": lost}, ("offline", "offline: 1 event kept here")),
        ({"waiting": 3, "failing": locked}, ("refused", "needs a key: 3 events kept here")),
        ({"waiting": 3, "failing": busy}, ("refused", "3 events kept here: past its capacity.")),
        (
            {"waiting": 3, "failing": lost, "inTab": 2, "full": True},
            ("offline", "offline: 3 events kept, 2 in this tab only"),
        ),
        ({"refused": [refusal]}, ("refused", "1 refused: watch_ms is -7.")),
        ({"trouble": "no connection"}, ("refused", "no new slate: no connection")),
        ({"full": True}, ("full", "saved; no room to keep more here")),
        ({"waiting": 0, "failing": lost}, ("saved", "saved")),
    ]
    told = play("states", base=base_of(feed), told=[given for given, _ in cases])
    assert told["problems"] == []
    assert [tuple(each) for each in told["said"]] == [wanted for _, wanted in cases]
