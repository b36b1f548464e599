"""Keys, scopes, rates; and that no crowd of a few can put a video down."""

import itertools
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skipwise.errors import SettingError
from skipwise.features.dataset import Dataset
from skipwise.model.score import Reward, ScoreWeights, save_score_weights
from skipwise.serving.engine import Engine
from skipwise.serving.negatives import NegativeSettings, standing
from skipwise.serving.opening import open_engine, prepare_state
from skipwise.serving.serve import Service, ServiceSettings, begin_with
from skipwise.serving.state.sqlite import SqliteStore
from skipwise.serving.state.store import StateSettings
from skipwise.serving.trust import Keys, RateLimit, add_key, check_reach
from skipwise.serving.wire import Event, EventBatch, LateOutcome, RankRequest
from skipwise.settings import apply_settings, parse_overrides
from skipwise.training.checkpoint import TrainedRun
from tests.serving.running import Client, event, running

AT_MS = 1_790_000_000_000
"""After the small log; counters fade with every day."""


@pytest.fixture
def locked(
    small_run: TrainedRun, small_dataset: Dataset, tmp_path: Path
) -> Iterator[tuple[Client, str]]:
    """A server with keys, and a key for events alone."""
    keys = tmp_path / "keys.json"
    token = add_key(keys, "phone", ["events"])
    settings = apply_settings(
        ServiceSettings(), parse_overrides(["limits.per_second=0.001", "limits.burst=4"])
    )
    service = Service(
        run=small_run.path,
        data=small_dataset.path,
        state=f"sqlite:{tmp_path / 'state.db'}",
        keys=keys,
        settings=settings,
    )
    with running(service) as client:
        yield client, token


def test_a_key_opens_its_scopes_at_its_rate(locked: tuple[Client, str], videos: list[str]) -> None:
    client, token = locked
    body = {"events": [event(1, "v", videos[0])]}
    nobody = client.post("/v1/events", json=body)
    assert nobody.status_code == 401
    assert nobody.headers["www-authenticate"] == "Bearer"
    client.headers["authorization"] = "Bearer wrong"
    assert client.post("/v1/events", json=body).status_code == 401
    client.headers["authorization"] = f"Bearer {token}"
    assert client.post("/v1/events", json=body).status_code == 200
    refused = client.get("/v1/score")
    assert refused.status_code == 403
    assert "this needs admin" in refused.json()["error"]
    assert client.get("/health").status_code == 200
    statuses = [client.post("/v1/events", json=body).status_code for _ in range(6)]
    assert statuses == [200] * 3 + [429] * 3
    assert int(client.post("/v1/events", json=body).headers["retry-after"]) > 60


def test_a_keys_file_holds_hashes_only(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    token = add_key(path, "phone", ["feed", "events"])
    assert token not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    holder = Keys(path).holder(token)
    assert holder is not None
    assert holder.scopes == {"feed", "events"}
    assert Keys(path).holder(token + "x") is None
    with pytest.raises(SettingError, match="has a key 'phone' already"):
        add_key(path, "phone", ["feed"])
    with pytest.raises(SettingError, match="must be one of feed, events, admin"):
        add_key(path, "other", ["root"])
    path.write_text(json.dumps({"a": 1}))
    with pytest.raises(SettingError, match="is not a keys file"):
        Keys(path)


def test_a_running_server_heeds_a_key_made_or_taken_out_since(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.json"
    first = add_key(path, "phone", ["feed"])
    keys = Keys(path)
    second = add_key(path, "tablet", ["events"])
    assert [bool(keys.holder(token)) for token in (first, second)] == [True, True]
    path.write_text("[")
    assert [bool(keys.holder(token)) for token in (first, second)] == [True, True]
    path.unlink()
    assert keys.holder(first) is not None
    assert caplog.text.count("the keys stay as they were") == 2
    third = add_key(path, "laptop", ["feed"])  # of a file of its own: the others are taken out
    assert [bool(keys.holder(token)) for token in (first, second, third)] == [False, False, True]


def test_without_keys_only_loopback_is_answered(tmp_path: Path) -> None:
    for host in ("127.0.0.1", "::1", "localhost"):
        check_reach(host, None)
    for host in ("0.0.0.0", "192.168.1.4", "example.org"):  # noqa: S104
        with pytest.raises(SettingError, match="can be reached from elsewhere"):
            check_reach(host, None)
        check_reach(host, tmp_path)


def test_a_rate_is_refilled_evenly_and_a_clock_back_gives_nothing() -> None:
    rate = RateLimit(per_second=2, burst=2)
    assert [rate.take("a", 10.0) for _ in range(3)] == [0, 0, 0.5]
    assert rate.take("a", 5.0) == 0.5
    assert rate.take("a", 5.5) == 0
    assert rate.take("b", 5.0) == 0


def test_what_viewers_send_is_in_no_log(
    client: Client, videos: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG", logger="skipwise"):
        client.keep(event(1, "secret-viewer", videos[0]))
        client.rank("secret-viewer", videos[:2])
        client.post("/v1/events", json={"events": [{"viewer_id": "secret-viewer"}]})
    assert "secret-viewer" not in caplog.text


@pytest.fixture
def engine(small_run: TrainedRun, small_dataset: Dataset, sqlite_store: SqliteStore) -> Engine:
    torch.set_num_threads(1)
    prepare_state(small_run.path, small_dataset.path, sqlite_store, StateSettings())
    return open_engine(small_run.path, small_dataset.path, sqlite_store)


NONE: dict[str, Any] = dict.fromkeys(ScoreWeights().rewards, Reward(power=0.0))


def test_weights_to_begin_with_must_order_something(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "weights.json"
    save_score_weights(
        file, ScoreWeights(watch_power=0.0, glance_power=0.0, negative_power=0.0, **NONE)
    )
    before = engine.score()
    with pytest.raises(SettingError, match="nothing can be ordered"):
        begin_with(engine, file)
    assert engine.score() == before
    save_score_weights(file, ScoreWeights(watch_power=0.0, glance_power=2.0))
    begin_with(engine, file)
    assert engine.score()[1]["glance_power"] == 2.0


def flood(viewers: int, each: int, target: str) -> list[LateOutcome]:
    """Return reports of one video by some viewers, many times each."""
    return [
        LateOutcome(
            event_id=f"report {number}",
            of_event_id="none",
            viewer_id=f"crowd {viewer}",
            video_id=target,
            known_at_ms=AT_MS + number,
            disliked=True,
        )
        for viewer in range(viewers)
        for number in range(each)
    ]


def test_one_in_a_hundred_viewers_cannot_put_a_video_down(
    engine: Engine, videos: list[str]
) -> None:
    """Of 300 viewers who saw 6 videos, 3 report the best 100 times each; others still get it."""
    candidates = tuple(videos[:6])
    request = RankRequest(
        viewer_id="someone else", candidates=candidates, requested_at_ms=AT_MS + 10**6
    )
    for start in range(0, 300, 50):
        viewers = range(start, start + 50)
        seen = [_view(f"viewer {n}", video, n) for video in candidates for n in viewers]
        engine.keep([EventBatch(events=tuple(seen))])
    before = engine.rank(request, "r").items
    target = before[0].video_id
    engine.keep([EventBatch(outcomes=tuple(flood(3, 100, target)))])
    after = {item.video_id: item for item in engine.rank(request, "r").items}
    code = np.array([engine.world.catalogue.code(target)])
    weight = engine.world.negatives.sums[code, 0]
    views = engine.world.crowd.videos.sums[code, 0]
    assert 0 < weight[0] <= 3.0
    assert views[0] > 290
    kept = after[target].score / before[0].score
    assert kept > 0.95, "3 of 350, to the power of four"
    assert list(after).index(target) <= 1
    plainly = standing(np.array([300.0]), views, NegativeSettings())[0] * before[0].score
    assert plainly < before[-1].score, "300 reports counted plainly would put it last"


def test_a_negative_counts_once_fades_with_habit_and_is_capped(
    engine: Engine, videos: list[str]
) -> None:
    def weight(target: str) -> float:
        engine.world.follow(engine.store)
        code = engine.world.catalogue.code(target)
        return float(engine.world.negatives.sums[code, 0])

    first = flood(1, 1, videos[0])[0]
    engine.keep([EventBatch(outcomes=(first,))])
    assert weight(videos[0]) == pytest.approx(1.0, rel=0.5)
    once = weight(videos[0])
    engine.keep([EventBatch(outcomes=tuple(flood(1, 5, videos[0])[1:]))])
    assert weight(videos[0]) == once
    for place, video in enumerate(videos[1:20]):
        said = LateOutcome(
            event_id=f"no {place}", of_event_id="x", viewer_id="crowd 0", video_id=video,
            known_at_ms=AT_MS + place, disliked=True,
        )  # fmt: skip
        engine.keep([EventBatch(outcomes=(said,))])
    weights = [weight(video) for video in videos[1:20]]
    assert all(later <= earlier for earlier, later in itertools.pairwise(weights))
    assert weights[12:] == [0.0] * 7, "ten are all that one viewer may say in a half-life"


def _view(viewer: str, video: str, number: int) -> Event:
    return Event(
        event_id=f"view {video} {number}",
        viewer_id=viewer,
        video_id=video,
        shown_at_ms=AT_MS - 1000 + number % 900,
        watch_ms=15_000,
        duration_ms=30_000,
    )
