"""Living viewers served by real engines: in process, and over HTTP for a short form."""

import dataclasses
import itertools
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skipwise.errors import ExperimentError, StateError
from skipwise.experiments.assignment import assign
from skipwise.experiments.definition import Definition, Goal, Variant
from skipwise.experiments.exposure import EXPOSURES_FILE, read_exposure_log
from skipwise.features.dataset import Dataset
from skipwise.loop.arms import Arm, EngineArm, HttpArm, open_arms
from skipwise.loop.closed import crowd_of, loop_settings, read_world, run_closed_loop
from skipwise.loop.days import HOUR_MS, Clock, Columns, Loop
from skipwise.loop.served_exposures import ServedExposures
from skipwise.model.score import ScoreWeights, save_score_weights
from skipwise.serving.app import build_app
from skipwise.serving.engine import Engine
from skipwise.serving.opening import open_engine, prepare_state
from skipwise.serving.serve import Service, ServiceSettings
from skipwise.serving.serve_settings import ServeSettings
from skipwise.serving.state.store import START, Store, open_store
from skipwise.serving.variants import open_variants
from skipwise.serving.wire import Event, EventBatch, FeedRequest, Slate
from skipwise.serving.worker import Worker
from skipwise.serving.world import Amended, Exposed, Viewed, read_line
from skipwise.settings import apply_settings
from skipwise.simulation.world import DAY_MS, FIRST_DAY, UTC_OFFSET_MS, WorldSettings
from tests.serving.running import PATIENT, answering, running
from tests.training.trained import short_run
from tests.worlds import prepared_world

WORLD = WorldSettings(
    viewers=60,
    videos=120,
    authors=20,
    topics=6,
    days=3,
    living=True,
    views_per_viewer_day=10,
    seed=4,
)
DEFINITION = Definition(
    name="scores",
    start="2024-03-07",
    days=1,
    variants=(
        Variant(name="control", share=0.4, model="run"),
        Variant(name="treatment", share=0.4, model="run", score="skip.json"),
    ),
    metrics=(Goal(name="watch_per_viewer"),),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world, its dataset, a run, and weights that count skips alone."""
    folder = tmp_path_factory.mktemp("loop")
    dataset = prepared_world(folder, WORLD)
    short_run(Dataset.open(dataset.path), folder / "run", "passes_at_most=1")
    save_score_weights(folder / "skip.json", ScoreWeights(glance_power=50.0, watch_power=0.0))
    return folder


def views(state: str) -> Iterator[Event]:
    """Return the events as the servers of a state were sent them."""
    lines = open_store(state).follow(START, 100_000)
    for line in (read_line(each.payload) for each in lines if each.payload):
        if isinstance(line, Viewed):
            yield line.event


def looped(made: Path, out: Path, seed: int = 0) -> Path:
    definition = dataclasses.replace(DEFINITION, folder=made)
    small = apply_settings(loop_settings(seed), {"slate": {"candidates": 30, "explore_share": 0.1}})
    run_closed_loop(made / "log", made / "DATASET", definition, out, seed=seed, settings=small)
    return out


def test_a_day_goes_round_and_comes_back_the_same(made: Path, tmp_path: Path) -> None:
    first = looped(made, tmp_path / "first")
    events = pq.read_table(first / "events.parquet")
    before = pq.read_table(made / "log" / "events.parquet")
    assert events.slice(0, before.num_rows).equals(before)
    own = events.slice(before.num_rows).to_pylist()
    assert len(own) > 200
    assert {event["day"] for event in own} <= {FIRST_DAY + 3, FIRST_DAY + 4}
    ids = sorted({event["viewer_id"] for event in own})
    variants = dict(zip(ids, assign(DEFINITION, ids), strict=True))
    assert all(event["variant"] == variants[event["viewer_id"]] for event in own)
    assert {event["variant"] for event in own} == {"control", "treatment", None}
    truth = pq.read_table(first / "truth.parquet")
    assert truth["source_order"].to_pylist() == [event["source_order"] for event in own]
    glance = np.array([event["watch_ms"] < 3000 for event in own])
    p = np.asarray(truth["p_glance"])
    assert abs(glance.mean() - p.mean()) < 4 * np.sqrt((p * (1 - p)).sum()) / p.size
    random = [event for event in own if event["policy"] == "random"]
    assert 0.03 < len(random) / len(own) < 0.2
    assert all(0 < event["propensity"] < 1 for event in random)
    assert {event["propensity"] for event in own if event["policy"] == "served"} == {1.0}
    again = looped(made, tmp_path / "again")
    assert (again / "events.parquet").read_bytes() == (first / "events.parquet").read_bytes()
    other = looped(made, tmp_path / "other", seed=1)
    assert (other / "events.parquet").read_bytes() != (first / "events.parquet").read_bytes()


def test_views_in_the_loop_never_overlap_and_nothing_is_shown_twice(
    made: Path, tmp_path: Path
) -> None:
    events = pq.read_table(looped(made, tmp_path / "out") / "events.parquet").to_pylist()
    seen = sorted(events, key=lambda event: (event["viewer_id"], event["shown_at_ms"]))
    for one, two in itertools.pairwise(seen):
        if one["viewer_id"] == two["viewer_id"]:
            assert one["shown_at_ms"] + one["watch_ms"] <= two["shown_at_ms"]
    served = [(e["viewer_id"], e["video_id"]) for e in events if e["day"] >= FIRST_DAY + 3]
    assert len(set(served)) == len(served)  # the state knew of every view before the next request


def test_a_viewer_is_exposed_from_his_first_slate_on(made: Path, tmp_path: Path) -> None:
    out = looped(made, tmp_path / "out")
    events = pq.read_table(out / "events.parquet").to_pylist()
    first: dict[str, int] = {}
    for event in sorted(events, key=lambda event: event["shown_at_ms"]):
        if event["day"] >= FIRST_DAY + 3 and event["variant"] is not None:
            first.setdefault(event["viewer_id"], event["shown_at_ms"])
    exposures = read_exposure_log(out / EXPOSURES_FILE)
    assert {each.viewer_id: each.at_ms for each in exposures} == first
    assert len(exposures) == len(first) > 20
    names = assign(DEFINITION, [each.viewer_id for each in exposures])
    assert [each.variant for each in exposures] == names
    again = looped(made, tmp_path / "again")
    assert (again / EXPOSURES_FILE).read_bytes() == (out / EXPOSURES_FILE).read_bytes()


EVENING = 20
"""A new day makes new indexes, which a server may make between two requests, too."""


class Broken:
    """Shows nothing to every other viewer, as an app might that fails under one variant."""

    def __init__(self, arm: Arm) -> None:
        self.arm = arm

    def feed(self, request: FeedRequest, request_id: str) -> Slate:
        slate = self.arm.feed(request, request_id)
        lost = int(request.viewer_id[1:]) % 2
        return msgspec.structs.replace(slate, items=()) if lost else slate

    def keep(self, batch: EventBatch) -> None:
        self.arm.keep(batch)


def lived(made: Path, arms: Mapping[str, Arm], clock: Clock, until_hour: int = 48) -> Columns:
    """Let the viewers live a day with these arms, or until an hour of it; returns what happened."""
    ids = [f"u{number}" for number in range(WORLD.viewers)]
    loop = Loop(
        crowd=crowd_of(read_world(made / "log"), np.random.default_rng(0)),
        arms=arms,
        variant_of=assign(DEFINITION, ids),
        clock=clock,
        rng=np.random.default_rng(1),
    )
    until_ms = (FIRST_DAY + 3) * DAY_MS - UTC_OFFSET_MS + until_hour * HOUR_MS
    rows = list(
        itertools.takewhile(lambda row: row["shown_at_ms"].max() < until_ms, loop.live_day(3))
    )
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def small_settings(explore_share: float) -> ServeSettings:
    slate = {"candidates": 30, "explore_share": explore_share}
    return apply_settings(loop_settings(0), {"slate": slate})


def test_who_was_shown_nothing_is_exposed_all_the_same(made: Path, tmp_path: Path) -> None:
    definition = dataclasses.replace(DEFINITION, folder=made)
    clock, store = Clock(), open_store(f"sqlite:{tmp_path / 'state.db'}")
    clock.now_ms = definition.start_day * DAY_MS - UTC_OFFSET_MS
    with open_arms(definition, made / "DATASET", store, small_settings(0.0), clock) as arms:
        rows = lived(made, {**arms, "treatment": Broken(arms["treatment"])}, clock)
    ServedExposures(tmp_path / EXPOSURES_FILE).pull(store, START)
    store.close()
    exposed = {each.viewer_id: each for each in read_exposure_log(tmp_path / EXPOSURES_FILE)}
    sent = {f"u{viewer}" for viewer in rows["viewer"].tolist()}
    silent = [each for viewer, each in exposed.items() if viewer not in sent]
    assert len(silent) > 3
    assert {each.variant for each in silent} == {"treatment"}
    assert {int(each.viewer_id[1:]) % 2 for each in silent} == {1}


def served_engine(
    made: Path, definition: Definition, store: Store, settings: ServeSettings, clock: Clock
) -> Engine:
    """Open the engine of a server with this experiment, in the viewers' time."""
    prepare_state(made / "run", made / "DATASET", store, settings.state)
    engine = open_engine(made / "run", made / "DATASET", store, settings, clock)
    engine.variants = open_variants(definition, engine.models)
    return engine


@pytest.mark.parametrize(("explore_share", "inside"), [(0.1, "one engine"), (0.0, "arms")])
def test_the_same_seed_in_process_and_over_http_gives_the_same_events(
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    explore_share: float,
    inside: str,
) -> None:
    """Every row, what the state was told, and who was exposed; in the same order, to the bit.

    The arms of the loop are engines of their own, which draw what they explore each by itself: with
    exploration it is the server's own engine that must say the same in process.
    """
    monkeypatch.setattr("skipwise.simulation.living.LATE_SHARE", 1.0)  # else few, or none, is late
    monkeypatch.setattr("skipwise.simulation.living.LATE_MS", 60_000)
    definition, settings = (
        dataclasses.replace(DEFINITION, folder=made),
        small_settings(explore_share),
    )
    told, rows = {}, {}
    for way in ("in process", "over HTTP"):
        clock, store = Clock(), open_store(f"sqlite:{tmp_path / way}.db")
        clock.now_ms = definition.start_day * DAY_MS - UTC_OFFSET_MS
        if way == "over HTTP":
            engine = served_engine(made, definition, store, settings, clock)
            with answering(build_app(Worker(engine, None, PATIENT.limits))) as client:
                arm = HttpArm(str(client.base_url))
                rows[way] = lived(
                    made, dict.fromkeys(("control", "treatment"), arm), clock, EVENING
                )
                arm.close()
            store = open_store(f"sqlite:{tmp_path / way}.db")  # the server has closed it
        elif inside == "arms":
            with open_arms(definition, made / "DATASET", store, settings, clock) as arms:
                rows[way] = lived(made, arms, clock, EVENING)
        else:
            one = EngineArm(served_engine(made, definition, store, settings, clock))
            rows[way] = lived(made, dict.fromkeys(("control", "treatment"), one), clock, EVENING)
            one.note()
        lines = [read_line(each.payload) for each in store.follow(START, 100_000) if each.payload]
        store.close()
        told[way] = [
            [line for line in lines if isinstance(line, kind)]
            for kind in (Viewed, Amended, Exposed)
        ]
    here, there = rows["in process"], rows["over HTTP"]
    assert here["video"].size > 200
    assert set(here["variant"].tolist()) == {"control", "treatment", "current"}
    for name, values in here.items():
        np.testing.assert_array_equal(values, there[name], err_msg=name)
    views, late, exposed = told["in process"]
    assert len(views) > 200
    assert len(late) > 0
    assert len(exposed) > 10
    assert told["over HTTP"] == told["in process"]


def test_a_server_of_today_answers_the_loop(made: Path, tmp_path: Path) -> None:
    service = Service(
        run=made / "run",
        data=made / "DATASET",
        state=f"sqlite:{tmp_path / 'state.db'}",
        settings=apply_settings(ServiceSettings(), {"serving": {"slate": {"explore_share": 0.1}}}),
    )
    crowd = crowd_of(read_world(made / "log"), np.random.default_rng(0))
    with running(service) as client:
        arm = HttpArm(str(client.base_url))
        loop = Loop(
            crowd=crowd,
            arms={"control": arm},
            variant_of=[None] * WORLD.viewers,
            clock=Clock(),
            rng=np.random.default_rng(1),
        )
        rows = list(itertools.islice(loop.live_day(3), 40))
        arm.close()
        kept = list(views(f"sqlite:{tmp_path / 'state.db'}"))
        assert kept
        assert {event.variant for event in kept} == {"current"}
        assert {event.propensity for event in kept if event.policy == "served"} == {1.0}
        assert all(0 < (event.propensity or 0) < 0.1 for event in kept if event.policy == "random")
        number = sum(row["video"].size for row in rows)
        assert number > 50
        viewer = int(rows[0]["viewer"][0])
        held = client.ask("GET", f"/v1/viewers/u{viewer}")
        assert held["events"][-1]["shown_at_ms"] >= int(rows[0]["shown_at_ms"][0])
    gone = HttpArm("http://127.0.0.1:9")
    with pytest.raises(StateError, match="cannot be reached"):
        gone.keep(EventBatch())


def test_what_does_not_fit_the_world_is_refused(made: Path, tmp_path: Path) -> None:
    late = dataclasses.replace(DEFINITION, start="2024-03-09", folder=made)
    with pytest.raises(ExperimentError, match="must be 2024-03-07, the day after"):
        run_closed_loop(made / "log", made / "DATASET", late, tmp_path / "out")
    with pytest.raises(ExperimentError, match=r"holds no world\.json"):
        read_world(tmp_path)
    (tmp_path / "world.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ExperimentError, match="do not live"):
        read_world(tmp_path)
    with pytest.raises(ExperimentError, match="more than the loop can hold"):
        crowd_of(WorldSettings(viewers=1_000_000, living=True), np.random.default_rng(0))


def test_a_dataset_of_another_world_is_refused(made: Path, tmp_path: Path) -> None:
    """By its events; and where their number is the same, by the lengths of its videos."""
    definition = dataclasses.replace(DEFINITION, folder=made)
    dataset, out = made / "DATASET", tmp_path / "out"
    fewer, longer = tmp_path / "fewer", tmp_path / "longer"
    for world in (fewer, longer):
        shutil.copytree(made / "log", world)
    events, videos = (
        pq.read_table(made / "log" / f"{name}.parquet") for name in ("events", "videos")
    )
    pq.write_table(events.slice(1), fewer / "events.parquet")
    place = videos.column_names.index("duration_ms")
    one_longer = pa.array([each + (row == 7) for row, each in enumerate(videos[place].to_pylist())])
    pq.write_table(videos.set_column(place, "duration_ms", one_longer), longer / "videos.parquet")
    with pytest.raises(ExperimentError, match=r"was prepared from [\d,]+ events, .*fewer has"):
        run_closed_loop(fewer, dataset, definition, out)
    with pytest.raises(ExperimentError, match=r"has a video v7 that .*longer has not, or"):
        run_closed_loop(longer, dataset, definition, out)
    assert not out.exists()
