"""The page when something goes wrong: it says so, goes on, loses nothing, counts nothing twice."""

import pytest

from tests.browser.conftest import Locked, Play, base_of
from tests.serving.running import Client


def test_a_card_is_not_covered_when_a_slate_fails_and_one_can_try_again(
    feed: Client, play: Play
) -> None:
    told = play("fails", base=base_of(feed), viewer="failing")
    assert [each for each in told["problems"] if "status of 422" not in each] == []
    assert told["later"] == {
        "status": "no new slate: not as it must be.",
        "covered": 0,
        "card": True,
    }
    assert 1 < told["swiped"] < 30
    assert "The server cannot make a slate." in told["place"]
    assert "not as it must be." in told["place"]
    assert told["held"]["num_events"] == told["swiped"] + 1  # the last card was left, too


def test_a_key_that_opens_no_more_is_asked_for_again_and_nothing_is_lost(
    locked: Locked, play: Play
) -> None:
    key, base = locked.keys["admin"], base_of(locked.client)
    told = play("rekeys", base=base, key=key, viewer="rekeyed")
    assert [each for each in told["problems"] if "status of 401" not in each] == []
    assert told["asked"] == {"status": "needs a key: 1 event kept here", "covered": 0}
    events = told["held"]["events"]
    assert len(events) == 3
    assert 0.4 < events[2]["watch_s"] < 1.9  # two seconds of asking are no watching


def test_what_is_explained_is_of_the_weights_in_force_also_after_they_could_not_be_read(
    feed: Client, play: Play
) -> None:
    told = play("reweighs", base=base_of(feed), viewer="reweighing")
    feed.ask("PUT", "/v1/score", {})
    assert [each for each in told["problems"] if "ERR_FAILED" not in each] == []
    assert told["disabled"]
    assert told["before"] != told["after"]
    assert told["focused"] == "weight-glance_power"


@pytest.mark.parametrize("locks", [True, False])
def test_the_view_of_a_tab_that_died_is_posted_and_that_of_a_living_one_is_its_own(
    feed: Client, play: Play, locks: bool
) -> None:
    """On plain http browsers have no locks to tell the two apart; the tabs ask each other."""
    told = play("dies", base=base_of(feed), viewer=f"dying-{locks}", locks=locks)
    assert told["problems"] == []
    assert told["locked"] == locks
    assert (told["left"], told["adopted"]) == (2, 1)
    events = told["held"]["events"]
    assert len(events) == 2
    # Adopted too early it would lack the half second after; its first card may be drawn slowly.
    assert min(abs(1000 * each["watch_s"] - told["watchedMs"]) for each in events) <= 300


def test_an_event_put_down_late_is_sent_whole_and_a_refusal_is_told_for_a_minute(
    feed: Client, play: Play
) -> None:
    told = play("posts", base=base_of(feed), viewer="posting")
    assert [each for each in told["problems"] if "status of 422" not in each] == []
    assert told["waits"] == 0
    assert [round(each["watch_s"], 3) for each in told["held"]["events"]] == [0.9, 0.9, 0.9]
    assert told["refused"].startswith("1 refused: ")


def test_a_page_out_of_the_browsers_cache_loses_nothing_and_counts_nothing_twice(
    feed: Client, play: Play
) -> None:
    told = play("restores", base=base_of(feed), viewer="restored")
    assert [each for each in told["problems"] if "ERR_FAILED" not in each] == []
    assert told["restored"] == [True, True]  # a real one: the page went on, it was not loaded again
    events = told["held"]["events"]
    first, left, left_again, last = (each["watch_s"] for each in events)
    assert len({each["video_id"] for each in events[1:]}) == 1
    assert 1.1 < left < 2.5
    assert 1.1 < left_again < 2.5
    assert first < 2.5
    assert 0.5 < last < 2.5


@pytest.mark.parametrize("closed", [False, True])
def test_a_browser_without_room_is_told_of_and_nothing_is_lost_that_can_be_posted(
    feed: Client, play: Play, closed: bool
) -> None:
    """A storage filled to its last letter, and one that is closed to pages."""
    told = play("fills", base=base_of(feed), viewer=f"full-{closed}", closed=closed)
    assert [each for each in told["problems"] if "ERR_FAILED" not in each] == []
    full = "saved; no room to keep more here"
    assert told["online"] == [1, full]
    assert told["offline"] == "offline: 3 events kept, in this tab only"
    assert told["asked"] == "beforeunload"
    assert told["again"] == [4, full]
    assert told["last"] == (5 if closed else 7)
