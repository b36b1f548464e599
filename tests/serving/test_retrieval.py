"""A feed finds what the model's own vectors say is near, of what there is at this very moment."""

import threading
from pathlib import Path

import numpy as np
import pytest

from skipwise.features.dataset import Dataset
from skipwise.features.popularity import popularity_by_day
from skipwise.features.stretches import plan_stretches
from skipwise.features.view import View
from skipwise.model.predict import viewer_vectors
from skipwise.model.video_vectors import embed_all, retrieval_vectors
from skipwise.serving import retrieval
from skipwise.serving.catalogue import STRANGERS, VideoFacts
from skipwise.serving.engine import Engine
from skipwise.serving.opening import open_engine
from skipwise.serving.pipeline import viewer_vector
from skipwise.serving.retrieval import Finder, Vectors, VideoIndex
from skipwise.serving.serve import Service
from skipwise.serving.snapshot import pack_world, restore_world
from skipwise.serving.state.sqlite import SqliteStore
from skipwise.serving.wire import Event, EventBatch, FeedRequest, RankRequest
from skipwise.serving.world import World
from skipwise.training.checkpoint import TrainedRun
from tests.serving.replayed import Asking, replay
from tests.serving.running import Client, event, running
from tests.serving.test_same_numbers import midnight_before_end, seeded
from tests.training.trained import short_run
from tests.worlds import timed_rows

NOBODY = np.empty(0, dtype=np.int64)


def serving(run: TrainedRun, dataset: Dataset, store: SqliteStore, until_ms: int) -> Engine:
    """Start from what was known at an instant, which is now."""
    seeded(run, dataset, store, until_ms)
    return open_engine(run.path, dataset.path, store, clock=lambda: until_ms)


def situation_vector(engine: Engine, moment: Asking) -> Vectors:
    request = RankRequest(
        viewer_id=moment.viewer_id,
        candidates=(moment.video_id,),
        surface=moment.surface,
        requested_at_ms=moment.requested_at_ms,
        day=moment.day,
    )
    engine.catch_up()
    return viewer_vector(engine.situation(request, 1, [], cheap=False))


def test_vectors_are_those_of_evaluation_event_by_event(
    small_run: TrainedRun, small_dataset: Dataset, sqlite_store: SqliteStore
) -> None:
    after_ms = midnight_before_end(small_dataset, 1)
    engine = seeded(small_run, small_dataset, sqlite_store, after_ms)
    rows, live = [], []
    for moment in replay(small_dataset, after_ms):
        if isinstance(moment, Event):
            engine.keep([EventBatch(events=(moment,))])
        else:
            rows.append(moment.row)
            live.append(situation_vector(engine, moment))
    plan = plan_stretches(
        small_dataset,
        timed_rows(small_dataset),
        View(mode="progressive"),
        reach=small_run.settings.model.encoder.reach,
    )
    catalogue = small_run.catalogue(small_dataset)
    offline = viewer_vectors(small_run.model, catalogue, small_dataset, plan)
    order = np.argsort(plan.candidate_rows)
    expected = offline[order[np.searchsorted(plan.candidate_rows[order], rows)]]
    np.testing.assert_allclose(np.array(live), expected, rtol=0, atol=1e-5)
    assert expected.std(axis=0).max() > 0.1, "viewers differ"


def test_the_index_holds_the_vectors_and_the_popularity_of_evaluation(
    small_run: TrainedRun, small_dataset: Dataset, sqlite_store: SqliteStore
) -> None:
    after_ms = midnight_before_end(small_dataset, 1)
    last = small_dataset.days[1]
    engine = serving(small_run, small_dataset, sqlite_store, after_ms)
    finder = engine.models.every()[0].finder
    finder.build(engine.world, last)
    vectors = retrieval_vectors(
        small_run.model, embed_all(small_run.model, small_run.catalogue(small_dataset))
    )
    counts = popularity_by_day(small_dataset, last, last)[0]
    weights = small_run.model.retrieval.popularity.detach().numpy()
    popular = np.log1p(counts) @ weights
    expected = np.column_stack([vectors, popular])
    assert finder.index is not None
    for code in range(len(vectors)):
        found = finder.index.index.reconstruct(STRANGERS + code)
        np.testing.assert_allclose(found, expected[code], rtol=0, atol=1e-5)
    viewer = np.array(np.random.default_rng(0).normal(size=vectors.shape[1]), dtype=np.float32)
    nearest = finder.nearest(viewer, 20, NOBODY) - STRANGERS
    assert nearest.tolist() == np.argsort(-(vectors @ viewer + popular))[:20].tolist()
    assert counts.sum() > 100


def test_popularity_counted_live_is_that_of_the_dataset_and_outlives_a_restart(
    small_run: TrainedRun, small_dataset: Dataset, sqlite_store: SqliteStore
) -> None:
    after_ms, last = midnight_before_end(small_dataset, 2), small_dataset.days[1]
    engine = serving(small_run, small_dataset, sqlite_store, after_ms)
    for moment in replay(small_dataset, after_ms):
        if isinstance(moment, Event):
            engine.keep([EventBatch(events=(moment,))])
    engine.catch_up()
    copy = World(engine.world.rules, engine.world.catalogue)
    restore_world(copy, pack_world(engine.world))
    expected = popularity_by_day(small_dataset, last + 1, last + 1)[0]
    for world in (engine.world, copy):
        codes = STRANGERS + np.arange(len(expected))
        found = world.popularity.as_of(last + 1, codes)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def feed_of(client: Client, viewer: str, k: int = 200) -> dict[str, str]:
    """Return what a feed shows a viewer, and where each comes from."""
    slate = client.ask("POST", "/v1/feed", {"viewer_id": viewer, "k": k})
    assert slate.get("degraded", []) == []
    return {item["video_id"]: item["source"] for item in slate["items"]}


def test_an_unknown_viewer_is_given_what_the_model_finds(client: Client) -> None:
    found = feed_of(client, "never seen before")
    assert len(found) > 50
    assert "model" in found.values()


def test_a_posted_video_is_found_at_once_and_one_taken_off_is_gone_at_once(client: Client) -> None:
    facts = {"video_id": "just posted", "topics": ["t1"], "duration_ms": 20_000}
    client.ask("PUT", "/v1/videos", {"videos": [facts]})
    assert "just posted" in feed_of(client, "curious")
    client.ask("PUT", "/v1/videos", {"videos": [{**facts, "eligible": False}]})
    assert "just posted" not in feed_of(client, "curious")


def test_what_was_just_seen_is_not_found_again(client: Client) -> None:
    first = next(video for video, source in feed_of(client, "quick").items() if source == "model")
    client.keep(event(1, "quick", first))
    assert first not in feed_of(client, "quick")


def test_the_index_itself_follows_every_change(
    small_run: TrainedRun, small_dataset: Dataset, sqlite_store: SqliteStore
) -> None:
    engine = seeded(small_run, small_dataset, sqlite_store, 10**15)
    finder = engine.models.every()[0].finder
    number = len(finder.index or [])
    assert number == small_dataset.videos.num_rows
    engine.post([VideoFacts(video_id="new")])
    code = engine.world.catalogue.code("new")
    viewer = np.zeros(_width(small_run), dtype=np.float32)
    assert code in finder.nearest(viewer, 10_000, NOBODY)
    assert code not in finder.nearest(viewer, 10_000, np.array([code]))
    engine.post([VideoFacts(video_id="new", author_id="a", eligible=False)])
    assert code not in finder.nearest(viewer, 10_000, NOBODY)
    assert len(finder.index or []) == number


def _width(run: TrainedRun) -> int:
    return run.settings.model.retrieval.width + run.settings.model.retrieval.co_watched


def random_index(
    number: int,
) -> tuple[VideoIndex, Vectors]:
    random = np.random.default_rng(0)
    centres = random.normal(size=(40, 16))
    near = centres[random.integers(40, size=number)] + 0.7 * random.normal(size=(number, 16))
    vectors = np.column_stack([near, random.exponential(size=number)]).astype(np.float32)
    made = VideoIndex(index=retrieval._trained(vectors), day=0, version=0, built_with=number)
    made.put(np.arange(number), vectors, np.ones(number, dtype=np.bool_))
    retrieval._choose_lists(made, vectors, 8)
    return made, vectors


def test_many_videos_lie_in_lists_of_which_few_are_searched() -> None:
    made, vectors = random_index(6000)
    assert made.found_share >= retrieval.FOUND_AT_LEAST
    assert 1 <= made.searched_lists < made.index.nlist
    gone = made.nearest(vectors[7, :-1], 50, NOBODY)
    made.put(gone, vectors[gone], np.zeros(len(gone), dtype=np.bool_))
    left = made.nearest(vectors[7, :-1], 50, NOBODY)
    assert len(made) == 6000 - 50
    assert not set(left.tolist()) & set(gone.tolist())
    made.put(gone, vectors[gone], np.ones(len(gone), dtype=np.bool_))
    assert made.nearest(vectors[7, :-1], 50, NOBODY).tolist() == gone.tolist()


def test_asked_for_none_or_fewer_it_finds_none() -> None:
    """Shares of fresh and popular videos, each rounded, can take one more than there are."""
    made, vectors = random_index(300)
    for number in (0, -1):
        assert made.nearest(vectors[7, :-1], number, NOBODY).size == 0


def test_a_new_day_asks_for_a_new_index_and_the_old_one_answers_meanwhile(
    small_run: TrainedRun,
    small_dataset: Dataset,
    sqlite_store: SqliteStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    after_ms = midnight_before_end(small_dataset, 1)
    now = [after_ms]
    seeded(small_run, small_dataset, sqlite_store, after_ms)
    engine = open_engine(small_run.path, small_dataset.path, sqlite_store, clock=lambda: now[0])
    finder, request = engine.models.every()[0].finder, FeedRequest(viewer_id="v")
    assert finder.index is not None
    before, day = finder.index, finder.index.day
    assert not engine.refresh()
    now[0] += 86_400_000
    begun, go_on, trained = threading.Event(), threading.Event(), retrieval._trained

    def slowly(vectors: Vectors) -> object:
        begun.set()
        assert go_on.wait(20)
        return trained(vectors)

    monkeypatch.setattr(retrieval, "_trained", slowly)
    building = threading.Thread(target=engine.refresh)
    building.start()
    assert begun.wait(20)
    assert finder.index is before
    assert engine.feed(request, "r").items
    engine.post([VideoFacts(video_id="posted meanwhile")])
    go_on.set()
    building.join(20)
    assert finder.index is not before
    assert finder.index.day == day + 1
    assert finder.index.held[engine.world.catalogue.code("posted meanwhile")]
    assert not engine.refresh()


def test_a_run_whose_head_was_not_taught_serves_and_says_so(
    small_dataset: Dataset, tmp_path: Path
) -> None:
    run = short_run(small_dataset, tmp_path / "run", "loss.retrieval=0", "passes_at_most=1")
    service = Service(
        run=run.path, data=small_dataset.path, state=f"sqlite:{tmp_path / 'state.db'}"
    )
    with running(service) as client:
        told = client.ask("GET", "/ready")
        assert "not taught" in told["problems"]["retrieval"]
        assert set(feed_of(client, "v").values()) <= {"popular", "fresh"}


def test_a_model_swapped_in_has_its_own_index_before_it_answers(
    small_run: TrainedRun,
    small_dataset: Dataset,
    sqlite_store: SqliteStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = seeded(small_run, small_dataset, sqlite_store, 10**15)
    first = engine.models.every()[0]
    short_run(small_dataset, small_run.path.parent / "third", "seed=3", "passes_at_most=1")
    engine.post([VideoFacts(video_id="posted before the swap", topics=("t1",))])
    build, built_while = Finder.build, []

    def watched(self: Finder, world: World, day: int) -> None:
        build(self, world, day)
        built_while.append(engine.models.every()[0].name)

    monkeypatch.setattr(Finder, "build", watched)
    engine.models.change("swap", "third", 0.05)
    assert built_while == [first.name], "the old model answers while the index is built"
    third = engine.models.every()[0]
    assert third.name == "third"
    assert third.finder.index is not None
    assert third.finder.index.held[engine.world.catalogue.code("posted before the swap")]
