"""A viewer who was forgotten is in nothing that is kept."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from skipwise.features.dataset import Dataset
from skipwise.serving.forgetting import erase, viewer_of
from skipwise.serving.serve import Service
from skipwise.serving.state.redis import RedisStore
from skipwise.serving.state.sqlite import SqliteStore
from skipwise.serving.state.store import START, Entry, Store, open_store
from skipwise.serving.world import Exposed, Viewed, ViewerForgotten, pack_line, read_line
from skipwise.training.checkpoint import TrainedRun
from tests.serving.conftest import RedisServer
from tests.serving.running import Client, event, running

WHO, OTHER, ONLY_SEEN = "the-one-who-goes", "the-one-who-stays", "seen-by-the-one-who-goes"


@pytest.fixture(params=["sqlite", "redis"])
def served(
    request: pytest.FixtureRequest, small_run: TrainedRun, small_dataset: Dataset, tmp_path: Path
) -> Iterator[tuple[Client, str]]:
    """A server of either state."""
    if request.param == "sqlite":
        state = f"sqlite:{tmp_path / 'state.db'}"
    else:
        server: RedisServer = request.getfixturevalue("redis_server")
        state, store = server.url, RedisStore(server.url)
        store.redis.flushall()
        store.close()
    with running(Service(run=small_run.path, data=small_dataset.path, state=state)) as client:
        yield client, state


def test_nothing_of_a_forgotten_viewer_is_left(
    served: tuple[Client, str], videos: list[str]
) -> None:
    client, state = served
    client.keep(event(1, WHO, videos[0]), event(2, OTHER, videos[1]), event(3, WHO, ONLY_SEEN))
    late = {
        "event_id": "late",
        "of_event_id": "e1",
        "viewer_id": WHO,
        "video_id": videos[0],
        "known_at_ms": 1_700_000_200_000,
        "liked": True,
    }
    client.ask("POST", "/v1/events", {"outcomes": [late]})
    client.rank(WHO, videos[:5])
    answer = client.ask("DELETE", f"/v1/viewers/{WHO}")
    assert (answer["held"], answer["erased"]) == (True, 3)
    store = open_store(state)
    lines = [read_line(line.payload) for line in store.follow(START) if line.payload]
    store.close()
    assert WHO not in {viewer_of(line) for line in lines}
    assert [line.event.viewer_id for line in lines if isinstance(line, Viewed)] == [OTHER]
    assert [line.viewer_id for line in lines if isinstance(line, ViewerForgotten)] == [WHO]
    if state.startswith("sqlite:"):
        file = Path(state.removeprefix("sqlite:"))
        held = file.read_bytes() + file.with_name(file.name + "-wal").read_bytes()
        assert OTHER.encode() in held
        assert held.count(WHO.encode()) == 1, "but for the word that they are forgotten"
    assert client.ask("DELETE", f"/v1/viewers/{WHO}")["erased"] == 0
    assert client.keep(event(1, WHO, videos[0]))["duplicates"] == 1, "an event that was sent"
    assert client.ask("GET", f"/v1/viewers/{OTHER}")["num_events"] == 1


def test_the_place_of_a_viewer_is_overwritten_also_after_another_was_forgotten(
    sqlite_store: SqliteStore,
) -> None:
    store = sqlite_store
    keep(store, OTHER, range(3))
    store.forget(OTHER, pack_line(ViewerForgotten(OTHER)))
    for batch in range(50):
        keep(store, WHO, range(batch * 100, batch * 101))
        keep(store, f"{OTHER}-{batch}", range(batch * 100, batch * 100 + 20))
    store.forget(WHO, pack_line(ViewerForgotten(WHO)))
    assert erase(store, WHO) == sum(range(50))
    file = store.path
    held = file.read_bytes() + file.with_name(file.name + "-wal").read_bytes()
    assert held.count(WHO.encode()) == 1, "the word that they are forgotten"


def test_what_is_sent_after_the_word_stays(store: Store) -> None:
    word = pack_line(ViewerForgotten(WHO))
    keep(store, WHO, range(2))
    assert erase(store, WHO) == 0, "nobody has forgotten them"
    store.forget(WHO, word)
    keep(store, WHO, range(2, 5))
    assert erase(store, WHO) == 2
    assert store.read(WHO) == WHO.encode() * 3
    left = [line.payload for line in store.follow(START) if line.payload]
    assert left == [word, *(exposed(WHO, number) for number in range(2, 5))]
    store.forget(WHO, word)
    assert (erase(store, WHO), erase(store, WHO)) == (3, 0)


def exposed(viewer_id: str, number: int) -> bytes:
    return pack_line(Exposed("trial", "key", viewer_id, "new", number))


def keep(store: Store, viewer_id: str, numbers: Sequence[int]) -> None:
    """Keep events of a viewer, whose packed past names them once for each."""

    def update(_: str, before: bytes | None, items: Sequence[Any]) -> tuple[bytes, list[bytes]]:
        return (before or b"") + viewer_id.encode() * len(items), list(items)

    store.commit(
        [
            Entry(f"{viewer_id}/{number}", viewer_id, exposed(viewer_id, number))
            for number in numbers
        ],
        update,
    )
