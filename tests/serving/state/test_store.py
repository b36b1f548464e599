"""What every store promises, asked of both."""

import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from skipwise.errors import SettingError
from skipwise.serving.state.redis import RedisStore
from skipwise.serving.state.store import START, Entry, StateSettings, Store, open_store
from tests.serving.conftest import RedisServer

NOW_S, LATER_S = 1_700_000_000, 4_000_000_000


def appended(_viewer: str, before: bytes | None, items: Sequence[Any]) -> tuple[bytes, list[bytes]]:
    """Add items to what is held; log each."""
    lines = [str(item).encode() for item in items]
    return (before or b"") + b"".join(lines), lines


def entry(name: str, viewer: str = "v") -> Entry:
    return Entry(name, viewer, name)


def payloads(store: Store) -> list[bytes]:
    return [line.payload for line in store.follow(START)]


def test_what_is_kept_is_read_and_followed_in_order(store: Store) -> None:
    assert store.read("v") is None
    assert store.end() == START
    assert store.commit([entry("a"), entry("b", "w"), entry("c")], appended) == [True] * 3
    assert (store.read("v"), store.read("w")) == (b"ac", b"b")
    assert sorted(payloads(store)) == [b"a", b"b", b"c"]
    middle = store.follow(START, at_most=1)[0].cursor
    assert len(store.follow(middle)) == 2
    assert store.follow(store.end()) == []


def test_an_id_counts_once_across_and_inside_commits(store: Store) -> None:
    assert store.commit([entry("a"), entry("a"), entry("b")], appended) == [True, False, True]
    assert store.commit([entry("b"), entry("c")], appended) == [False, True]
    assert store.read("v") == b"abc"
    assert payloads(store) == [b"a", b"b", b"c"]


def test_a_failed_commit_leaves_nothing(store: Store) -> None:
    def breaks(*_: Any) -> tuple[bytes, list[bytes]]:
        raise SettingError("no")

    with pytest.raises(SettingError):
        store.commit([entry("a")], breaks)
    assert store.read("v") is None
    assert payloads(store) == []
    assert store.commit([entry("a")], appended) == [True]


def test_many_writers_of_one_viewer_lose_nothing(store: Store) -> None:
    def write(writer: int) -> None:
        for number in range(10):
            store.commit([entry(f"{writer}.{number};")], appended)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = (store.read("v") or b"").decode().rstrip(";").split(";")
    assert sorted(held) == sorted(
        f"{writer}.{number}" for writer in range(4) for number in range(10)
    )
    assert len(payloads(store)) == 40


def test_documents_have_versions_and_tell_others(store: Store) -> None:
    assert store.get("score") is None
    assert store.put("score", b"1", b"score changed") == 1
    assert store.put("score", b"2") == 2
    assert store.get("score") == (2, b"2")
    store.put("video/x", b"x")
    assert store.names("video/") == ["video/x"]
    store.put_all([("video/y", b"y", b"y came"), ("video/x", b"z", b"x changed")])
    assert store.names("video/") == ["video/x", "video/y"]
    assert store.get("video/x") == (2, b"z")
    assert payloads(store) == [b"score changed", b"y came", b"x changed"]


def test_a_viewer_is_forgotten(store: Store) -> None:
    store.load([("v", b"1"), ("w", b"2")], NOW_S)
    assert store.num_viewers() == 2
    assert store.forget("v")
    assert not store.forget("v")
    assert (store.read("v"), store.read("w"), store.num_viewers()) == (None, b"2", 1)
    assert store.forget("w", b"w is forgotten")
    assert payloads(store) == [b"w is forgotten"]


def test_lines_are_erased_and_their_ids_stay_known(store: Store) -> None:
    assert store.begin() == START
    store.commit([entry("a"), entry("b"), entry("c")], appended)
    store.put("score", b"1", b"score changed")
    first, second = [line.cursor for line in store.follow(START)][:2]
    assert store.begin() == first
    store.erase([first, second])
    store.erase([])
    assert [line for line in payloads(store) if line] == [b"c", b"score changed"]
    assert store.begin() == first, "or who has read so far would take the log for cut"
    assert store.commit([entry("a"), entry("d")], appended) == [False, True]


def test_the_log_begins_after_the_last_cut_and_ends_at_what_was_last_erased(store: Store) -> None:
    store.commit([entry(name) for name in "abcdef"], appended)
    a, b, c, d, _, f = [line.cursor for line in store.follow(START)]
    store.erase([b, c, f])
    store.prune(StateSettings(), LATER_S, a)
    assert place(a) < place(store.begin()) <= place(b), "who has read up to b or c lost nothing"
    assert store.end() == f, "or who has read it would take the log for another's"
    store.prune(StateSettings(), LATER_S, START)
    assert place(a) < place(store.begin()) <= place(b)
    store.prune(StateSettings(), LATER_S, c)
    assert place(a) < place(store.begin()) <= place(d), "b and c said nothing any more"
    store.prune(StateSettings(), LATER_S, d)
    assert place(store.begin()) == right_after(d)
    store.prune(StateSettings(), LATER_S, a)
    assert place(store.begin()) == right_after(d), "it never goes back"


def test_a_log_that_is_cut_whole_begins_right_after_its_last_line(store: Store) -> None:
    """Whoever had read it all has missed nothing, and it is still the same log."""
    store.commit([entry("a"), entry("b")], appended)
    last = store.end()
    store.prune(StateSettings(), LATER_S, last)
    assert store.follow(START) == []
    assert (place(store.begin()), store.end()) == (right_after(last), last)
    store.prune(StateSettings(), LATER_S + 400 * 86_400, last)
    assert place(store.begin()) == right_after(last), "nothing more was there to cut"
    store.commit([entry("c")], appended)
    assert [line.payload for line in store.follow(last)] == [b"c"]
    assert place(store.begin()) <= place(store.end())


def test_a_log_cut_by_its_days_begins_right_after_the_last_line_that_went(store: Store) -> None:
    """Not where the days begin: between the two nothing was said, so nothing is missed."""
    store.commit([entry("a"), entry("b")], appended)
    gone = store.end()
    second_s = int(time.time()) + 1
    while time.time() < second_s + 0.05:
        time.sleep(0.01)
    store.commit([entry("c")], appended)
    settings = StateSettings()
    store.prune(settings, second_s + settings.log_days * 86_400, store.end())
    assert payloads(store) == [b"c"]
    assert place(store.begin()) == right_after(gone)


def test_a_cut_while_lines_are_erased_is_not_undone(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = RedisStore(redis_server.url), RedisStore(redis_server.url)
    store.redis.flushall()
    store.commit([entry(name) for name in "abcd"], appended)
    a, b, c, _ = [line.cursor for line in store.follow(START)]

    def read_before_the_cut() -> str:
        found = RedisStore.begin(store)
        other.prune(StateSettings(), LATER_S, b)
        return found

    monkeypatch.setattr(store, "begin", read_before_the_cut)
    store.erase([c])
    assert place(other.begin()) > place(b) > place(a)
    store.close()
    other.close()


def place(cursor: str) -> tuple[int, ...]:
    return tuple(int(part) for part in cursor.split("-"))


def right_after(cursor: str) -> tuple[int, ...]:
    *stem, last = place(cursor)
    return (*stem, last + 1)


def test_the_longest_untouched_and_the_expired_go_first(store: Store) -> None:
    settings = StateSettings(viewers_at_most=2, viewer_days=10)
    for place, viewer in enumerate("abcd"):
        store.load([(viewer, b"x")], NOW_S + place)
    store.load([("old", b"x")], NOW_S - 11 * 86_400)
    assert store.prune(settings, NOW_S + 10, START) == 3
    assert [store.read(viewer) for viewer in ("old", "a", "b")] == [None] * 3
    assert store.read("c") == store.read("d") == b"x"


def test_the_log_is_cut_only_where_a_snapshot_stands_for_it(store: Store) -> None:
    store.commit([entry("a"), entry("b")], appended)
    later_s = 4_000_000_000
    store.prune(StateSettings(viewers_at_most=5), later_s, START)
    assert len(payloads(store)) == 2
    store.prune(StateSettings(viewers_at_most=5), later_s, store.end())
    assert payloads(store) == []
    assert store.commit([entry("c")], appended) == [True]
    assert payloads(store) == [b"c"]


def test_its_size_is_told(store: Store) -> None:
    before = store.num_bytes()
    store.load([(str(place), bytes(1000)) for place in range(200)], NOW_S)
    assert store.num_bytes() - before > 150_000


def test_a_word_that_is_no_store_is_refused() -> None:
    with pytest.raises(SettingError, match="neither sqlite:PATH nor redis"):
        open_store("mysql://here")
