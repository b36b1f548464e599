"""Served, learnt from, judged: a followed model on the log of the loop, against what is true.

A day is served with lotteries, a follow trainer learns from it and publishes, and what the second
day's lotteries drew judges the published model by the rows' own propensities.
"""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import ibis
import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from skipwise.errors import DatasetError
from skipwise.evaluation.offpolicy import Logged, estimate, first_place
from skipwise.events.read import read_log
from skipwise.experiments.definition import Definition, Goal, Variant
from skipwise.features.dataset import Dataset
from skipwise.loop.closed import loop_settings, run_closed_loop
from skipwise.loop.replay import Replayed, judge_weights, replay
from skipwise.model.score import ScoreWeights, fused_score
from skipwise.settings import apply_settings
from skipwise.simulation.living import Hidden, LivingViewers, Watched
from skipwise.simulation.world import FIRST_DAY, WorldSettings
from skipwise.training.checkpoint import load_run
from skipwise.training.follow import Follower, FollowSettings
from skipwise.training.published import model_name
from tests.training.trained import same_weights, short_run
from tests.worlds import prepared_world

WORLD = WorldSettings(
    viewers=130,
    videos=100,
    authors=20,
    topics=6,
    days=2,
    living=True,
    views_per_viewer_day=12,
    seed=4,
)
DEFINITION = Definition(
    name="own",
    start="2024-03-06",
    days=2,
    variants=(Variant(name="current", share=1.0, model="run"),),
    metrics=(Goal(name="watch_per_viewer"),),
)
JUDGED = FIRST_DAY + 3
POOL, BEST_OF = 40, 4
TARGETS = {
    "few skips": ScoreWeights(glance_power=20.0, watch_power=0.0),
    "watch time": ScoreWeights(glance_power=0.0, watch_power=1.0),
    "default": ScoreWeights(),
}
OUTCOMES = ("glance", "watch_s")


class Own(NamedTuple):
    """A log of the loop, and what any video would have met with at each of its rows."""

    folder: Path
    p_glance: NDArray[np.float64]
    """(own rows, videos), in the order of the log."""
    watch_s: NDArray[np.float64]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Own:
    folder = tmp_path_factory.mktemp("own")
    dataset = prepared_world(folder, WORLD)
    short_run(Dataset.open(dataset.path), folder / "run", "passes_at_most=2")
    told: list[Hidden] = []
    watch = LivingViewers.watch

    def watched(
        crowd: LivingViewers, viewer: Any, video: Any, surface: Any, started_ms: Any
    ) -> tuple[Watched, Hidden]:
        """Ask for the odds of every video before one of them is watched."""
        every = np.tile(np.arange(WORLD.videos), viewer.size)
        context = (np.repeat(each, WORLD.videos) for each in (viewer, surface, started_ms))
        who, where, when = context
        told.append(crowd.odds(who, every, where, when))
        return watch(crowd, viewer, video, surface, started_ms)

    settings = apply_settings(
        loop_settings(0), {"slate": {"candidates": POOL, "explore_share": 0.5}}
    )
    definition = dataclasses.replace(DEFINITION, folder=folder)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(LivingViewers, "watch", watched)
        run_closed_loop(
            folder / "log", folder / "DATASET", definition, folder / "own", settings=settings
        )
    shape = (-1, WORLD.videos)
    return Own(
        folder,
        np.concatenate([each.p_glance.reshape(shape) for each in told]),
        np.concatenate([each.expected_watch_s.reshape(shape) for each in told]),
    )


@pytest.fixture(scope="module")
def published(own: Own) -> Path:
    """What a follow trainer made of the first day that was served."""
    connection = ibis.duckdb.connect(threads=1)
    read = read_log(own.folder / "own", connection)
    first_day = dataclasses.replace(read, events=read.events.filter(read.events.day < JUDGED))
    settings = FollowSettings(events_together=500, publish_minutes=60.0)
    follower = Follower(own.folder / "run", own.folder / "live", settings)
    assert follower.advance(first_day, connection) >= 2, "parts were learnt"
    return own.folder / "live" / model_name(follower.position.published)


@pytest.fixture(scope="module")
def found(own: Own, published: Path) -> Replayed:
    connection = ibis.duckdb.connect(threads=1)
    read = read_log(own.folder / "own", connection)
    with pytest.raises(DatasetError, match="learnt from days up to 2024-03-06, must have"):
        replay(published, read, connection, JUDGED - 1, candidates=BEST_OF)
    return replay(published, read, connection, JUDGED, candidates=BEST_OF)


def rows_of_loop(own: Own) -> list[dict[str, Any]]:
    """The loop's own rows, in the order of the log; `drawn` is what is judged."""
    rows = pq.read_table(own.folder / "own" / "events.parquet").to_pylist()
    return [
        each | {"drawn": each["policy"] == "random" and each["day"] >= JUDGED}
        for each in rows
        if each["day"] >= JUDGED - 1
    ]


def truths(own: Own, found: Replayed, weights: ScoreWeights) -> dict[str, float]:
    """What the target would have brought at the same places, over the videos it would show."""
    drawn = np.flatnonzero([each["drawn"] for each in rows_of_loop(own)])
    assert drawn.size == found.num_drawn
    flat = {name: chance.ravel() for name, chance in found.chances.items()}
    score = fused_score(flat, found.watch_s.ravel(), weights).reshape(found.watch_s.shape)
    target = first_place(np.where(found.candidate, score, -np.inf), BEST_OF)
    video = [[int(name[1:]) if name else 0 for name in row] for row in found.video_id.tolist()]
    rows = drawn[found.row]
    tables = {"glance": own.p_glance, "watch_s": own.watch_s}
    return {
        name: float((target * np.take_along_axis(table[rows], np.array(video), 1)).sum(1).mean())
        for name, table in tables.items()
    }


def test_estimates_of_the_loops_own_log_are_near_the_truth(own: Own, found: Replayed) -> None:
    """Three targets, two outcomes, three estimators that lean on propensities."""
    inside, robust, true_rates = [], [], []
    for weights in TARGETS.values():
        by, true = judge_weights(found, weights), truths(own, found, weights)
        for outcome in OUTCOMES:
            assert abs(by[outcome].mean_weight - 1) < 0.15, (
                "the feed has what the lottery could draw"
            )
            assert by[outcome].effective_rows > 100
            for way in ("ips", "snips", "doubly_robust"):
                each = by[outcome].by[way]
                inside.append(each.low <= true[outcome] <= each.high)
        robust.append(by["glance"].by["doubly_robust"].value)
        true_rates.append(true["glance"])
    assert np.mean(inside) > 0.85
    assert np.argmin(robust) == np.argmin(true_rates) == 0, "who asks for few skips gets fewest"
    assert true_rates[1] - true_rates[0] > 0.02, "and it is a difference worth telling"


def test_each_row_was_drawn_from_what_its_request_had_left(found: Replayed) -> None:
    """Pools of 40 less what was seen and what stands above: propensities differ by place."""
    assert found.candidate.sum(axis=1).max() <= POOL < WORLD.videos
    assert found.propensity.max() > 1.1 * found.propensity.min()
    assert found.propensity.min() >= 1 / POOL


def test_viewer_video_propensity_and_outcomes_are_those_of_one_row(
    own: Own, found: Replayed
) -> None:
    drawn = [each for each in rows_of_loop(own) if each["drawn"]]
    rows = [drawn[place] for place in found.row.tolist()]
    assert found.video_id[:, 0].tolist() == [each["video_id"] for each in rows]
    assert found.propensity.tolist() == [each["propensity"] for each in rows]
    watch_s = np.array([each["watch_ms"] / 1000 for each in rows])
    length_s = np.array([each["duration_ms"] / 1000 for each in rows])
    np.testing.assert_allclose(found.outcomes["watch_s"], np.minimum(watch_s, 300))
    np.testing.assert_array_equal(found.outcomes["glance"], watch_s < np.minimum(3, length_s))
    named = {(each["viewer_id"], code) for each, code in zip(rows, found.viewer, strict=True)}
    assert len(named) == len({name for name, _ in named}) == len({code for _, code in named})


def test_candidates_are_what_the_viewer_had_not_seen_by_then_and_no_less(
    own: Own, found: Replayed
) -> None:
    """What he was shown on the day before a row is no candidate; what he is shown after it may."""
    events = rows_of_loop(own)
    drawn = [each for each in events if each["drawn"]]
    later = 0
    for place, videos, may in zip(found.row, found.video_id, found.candidate, strict=True):
        row = drawn[place]
        his = [e for e in events if e["viewer_id"] == row["viewer_id"] and e["day"] >= JUDGED]
        candidates = set(videos[may].tolist())
        before = {e["video_id"] for e in his if e["shown_at_ms"] < row["shown_at_ms"]}
        assert not candidates & before
        later += len(candidates & {e["video_id"] for e in his} - before - {row["video_id"]})
    assert later > len(found.row), "nothing that came after is known to the state"


def test_the_lottery_judged_as_a_policy_is_what_it_was(found: Replayed) -> None:
    """Its doubly robust estimate leans on what the published model says of what was not drawn."""
    for name, predicted in {"glance": found.chances["glance"], "watch_s": found.watch_s}.items():
        any_alike = first_place(np.where(found.candidate, 0.0, -np.inf), BEST_OF)
        outcome = found.outcomes[name]
        logged = Logged(
            viewer=found.viewer,
            outcome=outcome,
            propensity=found.propensity,
            target=any_alike[:, 0],
            predicted=predicted[:, 0],
            predicted_target=(any_alike * predicted).sum(axis=1),
        )
        told = estimate(logged)
        assert told.mean_weight == pytest.approx(1.0, abs=0.05), "the pools are as large as told"
        robust = told.by["doubly_robust"]
        assert robust.low < outcome.mean() < robust.high
        assert robust.high - robust.low < 0.5 * outcome.mean(), "and it says something"


def test_a_published_model_learnt_from_what_was_served(own: Own, published: Path) -> None:
    before, after = load_run(own.folder / "run"), load_run(published)
    assert not same_weights(before, after)
    assert after.description["window"]["last_day"] == "2024-03-06"


def test_more_than_the_log_can_tell_is_refused(found: Replayed) -> None:
    rows = judge_weights(found, ScoreWeights())["glance"].effective_rows
    assert judge_weights(found, ScoreWeights(), least_effective_rows=rows - 1)
    with pytest.raises(DatasetError, match="are needed for an answer"):
        judge_weights(found, ScoreWeights(), least_effective_rows=rows + 1)


def test_propensities_that_are_not_what_was_done_are_refused(found: Replayed) -> None:
    shares_in = dataclasses.replace(found, propensity=0.5 * found.propensity)
    with pytest.raises(DatasetError, match="not multiplied by how often one is held"):
        judge_weights(shares_in, ScoreWeights())
    narrow = dataclasses.replace(found, propensity=np.full(len(found.viewer), 1 / 8))
    with pytest.raises(DatasetError, match=r"lottery could have drawn \d+%; it must be 80%"):
        judge_weights(narrow, ScoreWeights(), least_effective_rows=1)
