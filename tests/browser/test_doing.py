"""What is done with the cards, by every way there is, is what is kept; and nothing else is."""

import re

import pytest

from skipwise.serving.wire import Event
from tests.browser.conftest import FLAGS, Play, base_of, kept_of
from tests.serving.running import Client

REFUSALS = (
    (429, "the server is past its capacity."),
    (503, "the state is out of reach."),
    (507, "the disk is full."),
)


def share_of(topic: str, slate: list[list[str]]) -> float:
    return sum(topic in topics for topics in slate) / len(slate)


def watched_of(events: list[Event]) -> list[int]:
    return [event.watch_ms for event in events if event.watch_ms is not None]


def test_steps_before_the_first_card_or_beside_a_retry_skip_none(feed: Client, play: Play) -> None:
    told = play("hastens", base=base_of(feed), viewer="hasty")
    assert [each for each in told["problems"] if "ERR_FAILED" not in each] == []
    first, covered, later = told["cards"]
    assert first == 1
    assert later == covered + 1
    assert told["back"][0] == told["back"][1]  # back from the words leads to the card before them
    assert min(watched_of(kept_of(feed, "hasty"))) >= 300


def test_a_roll_moves_one_card_however_long_it_runs_out_and_a_right_click_does_nothing(
    feed: Client, play: Play
) -> None:
    told = play("rolls", base=base_of(feed), viewer="rolling")
    assert told["problems"] == []
    # Two rolls, one each; a third that is pushed anew while it runs out; the wheel, on and back.
    assert told["cards"] == [1, 2, 3, 5, 6, 7]
    assert told["paused"] == [False, True]


def test_what_is_done_by_button_key_or_finger_is_in_the_event_of_its_card(
    feed: Client, play: Play
) -> None:
    told = play("deeds", base=base_of(feed), viewer="doing")
    assert told["problems"] == []
    assert told["held"] == len(told["done"])
    events = kept_of(feed, "doing")[: told["held"]]
    ahead_ms = events[0].shown_at_ms - told["done"][0]["atMs"]
    for event, done in zip(events, told["done"], strict=True):
        assert event.video_id == done["video"]
        assert [flag for flag in FLAGS if getattr(event, flag)] == sorted(
            done["flags"], key=FLAGS.index
        )
        assert abs(event.shown_at_ms - ahead_ms - done["atMs"]) < 100
        assert told["asked"][event.request_id][event.position] == event.video_id
    videos = [done["video"] for done in told["done"]]
    assert videos[1] == videos[3] == videos[5]
    assert videos[2] == videos[4] == videos[6]
    assert len(set(videos)) == 6


def test_the_tour_tells_of_events_that_are_held_and_of_slates_that_were_made(
    tasted_feed: Client, play: Play
) -> None:
    told = play("guided", base=base_of(tasted_feed), viewer="new-guided")
    assert told["problems"] == []
    topic, events = told["topic"], kept_of(tasted_feed, "new-guided")[:10]
    assert told["held"] == 10
    watched_ms = watched_of(events)
    skips = sum(each < 3000 for each in watched_ms)
    assert 0 < skips < 10
    before, after = share_of(topic, told["first"]), share_of(topic, told["last"])
    assert after < before
    assert told["slates"] == 11
    assert told["points"] == 11
    for at, words in enumerate(told["words"][:-1]):
        skipped = sum(each < 3000 for each in watched_ms[: at + 1])
        assert f"{at + 1} of 10 swipes, {skipped} of {topic} skipped." in words
    fell = re.search(r"(\S+) fell from (\d+)\s?% to (\d+)\s?%", told["words"][-1])
    assert fell is not None, told["words"][-1]
    assert fell.groups() == (topic.capitalize(), f"{100 * before:.0f}", f"{100 * after:.0f}")
    told_skips = rf"On the way you skipped {skips}(\.| and watched)"  # a slow machine watches some
    assert re.search(told_skips, told["words"][-1])


@pytest.mark.parametrize("by", ["event", "trying"])
def test_a_connection_that_is_back_makes_good_what_was_told(
    feed: Client, play: Play, by: str
) -> None:
    told = play("returns", base=base_of(feed), viewer=f"new-returning-{by}", by=by)
    lost = ("ERR_INTERNET_DISCONNECTED", "ERR_FAILED")
    assert [each for each in told["problems"] if not any(name in each for name in lost)] == []
    assert told["open"] == [3, 0]
    assert "On disk after" in told["last"]
    assert told["slates"] >= 1
    assert told["cards"] == 5  # nothing moved by itself
    assert told["held"] == 4


def test_a_server_that_keeps_nothing_is_not_called_a_lost_connection(
    feed: Client, play: Play
) -> None:
    told = play("busy", base=base_of(feed), viewer="refused", refusals=REFUSALS)
    assert [each for each in told["problems"] if "status of" not in each] == []
    assert told["said"] == [f"1 event kept here: {words}" for _, words in REFUSALS]
