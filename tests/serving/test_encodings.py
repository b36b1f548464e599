"""A past that is encoded event by event, as it comes about, is a past that is encoded at once."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skipwise.features.dataset import Dataset
from skipwise.features.vocabulary import learn_vocabulary
from skipwise.model.request import Array, Encoded, History
from skipwise.model.score import ScoreWeights
from skipwise.serving.backends import Backend, eager_backend
from skipwise.serving.catalogue import STRANGERS, BoundVideos
from skipwise.serving.encodings import Encodings
from skipwise.serving.models import Served
from skipwise.serving.negatives import NegativeSettings
from skipwise.serving.opening import open_engine
from skipwise.serving.past import EVENT, Past
from skipwise.serving.pipeline import Situation, SlateSettings, score
from skipwise.serving.rows import Ask
from skipwise.serving.state.sqlite import SqliteStore
from skipwise.serving.world import World
from skipwise.training.checkpoint import TrainedRun
from tests.models import untrained

pytestmark = pytest.mark.usefixtures("one_thread")

W = 5
NIGHT_MS = 86_400_000
SESSION_GAP_MS = 30 * 60_000
SHAPES = {
    "one block": (1, 40, 32),
    "one block, little kept": (1, 10, 0),
    "as many events as are read": (1, 9, 2),
    "three blocks": (3, 40, 2),
    "two blocks, fewer events than are read": (2, 8, 2),
}
"""Blocks, events of a viewer that are held, encoded events kept beside the window."""


@dataclass
class Watcher:
    """A viewer whose past comes about, and two models that read it."""

    world: World
    models: tuple[Served, Served]
    keep_events: int
    past: Past
    encodings: Encodings = field(default_factory=lambda: Encodings(4))
    now_ms: int = 10 * NIGHT_MS
    num_events: int = 0
    name: str = "watcher"

    def watch(self, back_ms: int, number: int) -> None:
        """End a view; one that began earlier than others arrives late."""
        self.num_events += 1
        self.now_ms += 1000
        event = np.zeros(1, dtype=EVENT)[0]
        event["event"] = self.num_events
        known = len(self.world.catalogue) - STRANGERS
        event["video"] = self.world.catalogue.name[STRANGERS + number % known]
        event["shown_at_ms"] = -1 if number % 17 == 0 else self.now_ms - back_ms
        event["known_at_ms"] = self.now_ms
        event["watch_s"] = np.nan if number % 13 == 0 else number % 40
        event["duration_s"], event["hour"] = 30, number % 24
        event["feedback"] = number % 6
        event["known"], event["positive"] = 1, number % 3 == 0
        self.past.add(event, SESSION_GAP_MS, self.keep_events)

    def change(self, back: int, feedback: int) -> None:
        """Let an outcome of one of the last events come late."""
        if len(self.past.events):
            self.past.amend(
                len(self.past.events) - 1 - back % len(self.past.events), 3, 1, feedback
            )

    def predictions(self, model: int, encodings: Encodings, before_ms: int = 0) -> Array:
        at_ms = self.now_ms - before_ms
        now = Situation(
            world=self.world,
            model=self.models[model],
            past=self.past,
            ask=Ask(
                viewer_id=self.name,
                surface="",
                requested_at_ms=at_ms,
                clock_day=at_ms // NIGHT_MS,
                day=at_ms // NIGHT_MS,
                hour=7,
            ),
            weights=ScoreWeights(),
            negatives=NegativeSettings(),
            settings=SlateSettings(),
            random=np.random.default_rng(0),
            encodings=encodings,
            k=3,
            candidates=np.arange(3) + STRANGERS,
        )
        score(now)
        return np.stack([np.log1p(values) for values in now.predictions.values()])


Living = Callable[[int, int], Watcher]


@pytest.fixture
def living(small_run: TrainedRun, small_dataset: Dataset, sqlite_store: SqliteStore) -> Living:
    """Make a watcher of models with random weights, of some blocks."""
    engine = open_engine(small_run.path, small_dataset.path, sqlite_store)
    served, world = engine.models.every()[0], engine.world
    vocabulary = learn_vocabulary(small_dataset, np.arange(small_dataset.num_events))

    def bound(blocks: int, seed: int) -> Served:
        words = (f"model.encoder.history_length={W}", f"model.encoder.blocks={blocks}")
        made = untrained(small_dataset, *words, seed=seed)
        videos = BoundVideos(made.model, vocabulary, world.catalogue, made.catalogue)
        videos.follow(world.catalogue)
        return dataclasses.replace(
            served,
            checksum=f"of seed {seed}",
            run=dataclasses.replace(served.run, model=made.model, vocabulary=vocabulary),
            backend=eager_backend(made.model),
            videos=videos,
        )

    def make(blocks: int, keep_events: int) -> Watcher:
        rules = world.rules
        past = Past(rules.num_sums, rules.counters.half_life_days)
        return Watcher(world, (bound(blocks, 0), bound(blocks, 1)), keep_events, past)

    return make


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("watch"), st.integers(0, 999), st.just(0)),
        st.tuples(st.just("watch"), st.integers(0, 999), st.just(0)),
        st.tuples(st.just("watch late"), st.integers(0, 999), st.integers(0, 8_000)),
        st.tuples(st.just("wait"), st.integers(0, 2 * NIGHT_MS), st.just(0)),
        st.tuples(st.just("change"), st.integers(0, 20), st.integers(1, 5)),
        st.tuples(st.just("ask"), st.integers(0, 9), st.integers(0, 3000)),
    ),
    min_size=10,
    max_size=60,
)


@pytest.mark.parametrize(("blocks", "keep_events", "beside"), SHAPES.values(), ids=SHAPES)
def test_whatever_happens_it_predicts_what_encoding_anew_does(
    living: Living, blocks: int, keep_events: int, beside: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skipwise.serving.backends.KEPT_BESIDE", beside)
    first = living(blocks, keep_events)

    @settings(max_examples=6, deadline=None, derandomize=True)
    @given(STEPS)
    def holds(steps: list[tuple[str, int, int]]) -> None:
        past = Past(first.past.num_sums, first.past.half_life_days)
        viewer = Watcher(first.world, first.models, keep_events, past)
        for step, number, other in steps:
            if step == "wait":
                viewer.now_ms += number
            elif step == "change":
                viewer.change(number, other)
            elif step != "ask":
                viewer.watch(other, number)
            model, before_ms = (number == 0, other) if step == "ask" else (0, 0)
            np.testing.assert_allclose(
                viewer.predictions(model, viewer.encodings, before_ms),
                viewer.predictions(model, Encodings(), before_ms),
                rtol=0,
                atol=1e-5,
            )

    holds()


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Put down how many events are encoded at a time."""
    numbers: list[int] = []
    encode = Backend.encode

    def counted(backend: Backend, history: History, before: Encoded | None = None) -> Encoded:
        numbers.append(len(history))
        return encode(backend, history, before)

    monkeypatch.setattr(Backend, "encode", counted)
    return numbers


@pytest.mark.parametrize("blocks", [1, 3])
def test_after_an_event_that_event_alone_is_encoded(
    living: Living, blocks: int, encoded: list[int]
) -> None:
    viewer = living(blocks, 40)
    viewer.predictions(0, viewer.encodings)
    for number in range(59):
        viewer.watch(0, 17 * number + 1)  # timed
        viewer.predictions(0, viewer.encodings)
    assert encoded == [0, *[1] * 59]
    viewer.predictions(0, viewer.encodings)
    assert len(encoded) == 60, "nothing has happened since"
    viewer.change(3, 4)
    viewer.predictions(0, viewer.encodings)
    assert encoded[60:] == [4], "the changed one and the three after it"
    viewer.change(39, 4)
    viewer.predictions(0, viewer.encodings)
    assert len(encoded) == 61, "it was not read any more"


def test_what_another_model_encoded_or_was_forgotten_is_not_read(
    living: Living, encoded: list[int]
) -> None:
    viewer = living(1, 40)
    for number in range(1, 9):
        viewer.watch(0, number)
    for model in (0, 1, 0):
        viewer.predictions(model, viewer.encodings)
    assert encoded == [8, 8, 8]
    viewer.encodings.forget("watcher")
    viewer.predictions(0, viewer.encodings)
    assert encoded == [8, 8, 8, 8]


def test_memory_is_bounded_by_viewers_and_window(living: Living) -> None:
    viewer, read = living(1, 40), []
    for number in range(59):
        viewer.watch(0, 17 * number + 1)  # timed
        for viewer.name in ("a", "b", "c", "d"):
            viewer.predictions(0, viewer.encodings)
        read.append(viewer.encodings.num_bytes)
    width, co_watched = viewer.models[0].backend.width, 32
    numbers = 4 * (2 * width + co_watched) + 8 * 8  # and seven codes and a time
    events = viewer.models[0].backend.reach + 1
    assert read[-1] == read[-10] == 4 * ((W + 32) * numbers + events * EVENT.itemsize)
    for viewer.name in ("e", "f"):
        viewer.predictions(0, viewer.encodings)
    assert len(viewer.encodings) == 4
    assert viewer.encodings.num_bytes < read[-1]
