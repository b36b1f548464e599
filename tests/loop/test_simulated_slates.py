"""A search among simulated viewers must find a planted better order, and claim none on noise."""

import dataclasses

import numpy as np
import pytest

from skipwise.errors import DatasetError
from skipwise.evaluation.tuning import Found, Trade
from skipwise.loop.closed import crowd_of
from skipwise.loop.simulated_slates import Offered, SimulatedSlates, search_simulated
from skipwise.model.score import Reward, ScoreWeights
from skipwise.report.tuning_page import verdict_words
from skipwise.serving.pipeline import SlateSettings
from skipwise.simulation.living import LivingViewers
from skipwise.simulation.world import DAY_MS, FIRST_DAY, UTC_OFFSET_MS, WorldSettings

WORLD = WorldSettings(viewers=300, videos=200, authors=60, topics=10, days=3, living=True, seed=2)
TRADE = Trade(trials=30, at=3)
BLIND = ScoreWeights(
    glance_power=0.0, watch_power=0.0, negative_power=0.0, effective=Reward(power=1.0)
)
"""Today's weights: they go by what is drawn at random, and give skips no say."""
ANY_NUMBER = SlateSettings(per_author=100, per_topic=100)


@pytest.fixture(scope="module")
def crowd() -> LivingViewers:
    return crowd_of(WORLD, np.random.default_rng(0))


def offered(crowd: LivingViewers, *, knows: bool, seed: int = 0) -> Offered:
    """Two visits of each viewer, 12 candidates; chances of a glance are the truth, or mixed up."""
    rng = np.random.default_rng(seed)
    viewer = np.tile(np.arange(WORLD.viewers), 2)
    video = np.array([rng.choice(WORLD.videos, 12, replace=False) for _ in viewer])
    started_ms = np.full(viewer.size, (FIRST_DAY + 3) * DAY_MS - UTC_OFFSET_MS)
    surface = np.zeros(viewer.size, dtype=np.int64)
    crowd.begin(np.arange(WORLD.viewers))
    truth = crowd.odds(
        np.repeat(viewer, 12), video.ravel(), np.repeat(surface, 12), np.repeat(started_ms, 12)
    )
    p = truth.p_glance if knows else rng.permutation(truth.p_glance)
    return Offered(
        visit=np.repeat([0, 1], WORLD.viewers),
        viewer=viewer,
        surface=surface,
        started_ms=started_ms,
        video=video,
        trust=np.ones(video.shape),
        probabilities={"glance": p.reshape(video.shape), "effective": rng.random(video.shape)},
        expected_watch_s=rng.exponential(20.0, video.shape),
    )


@pytest.fixture(scope="module")
def found(crowd: LivingViewers) -> Found:
    return search_simulated(offered(crowd, knows=True), crowd, BLIND, TRADE)


def test_a_planted_gain_is_found_and_holds_for_other_viewers(found: Found) -> None:
    assert found.choice.weights.glance_power > 0
    change = found.judged["glance"]["difference"]
    assert change.low < change.value < change.high < -0.05
    assert found.judged["watch_s"]["difference"].low > 0
    words = verdict_words(found, TRADE)
    assert words.startswith("Simulated viewers. Better: skips per view -")
    assert "watch time per slate" in words


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_gain_is_claimed_where_nothing_is_known(crowd: LivingViewers, seed: int) -> None:
    noise = search_simulated(offered(crowd, knows=False, seed=seed), crowd, BLIND, TRADE)
    assert "Better" not in verdict_words(noise, TRADE)


def test_the_first_place_is_the_mean_chance_of_what_is_put_there(crowd: LivingViewers) -> None:
    """By hand: of one place, the least chance of a glance, in the truth's own numbers."""
    asked = offered(crowd, knows=True)
    slates = SimulatedSlates(asked, crowd, Trade(at=1, trials=10), ANY_NUMBER)
    only_skips = dataclasses.replace(BLIND, glance_power=1.0, effective=Reward(power=0.0))
    least = asked.probabilities["glance"].min(axis=1)
    assert slates.value(only_skips, "glance") == pytest.approx(least.mean())
    gone = dataclasses.replace(asked, video=np.where(np.arange(12) < 6, asked.video, -1))
    fewer = SimulatedSlates(gone, crowd, Trade(at=1, trials=10), ANY_NUMBER)
    least = asked.probabilities["glance"][:, :6].min(axis=1)
    assert fewer.value(only_skips, "glance") == pytest.approx(least.mean())


def test_two_weights_of_one_order_differ_by_nothing_at_all(crowd: LivingViewers) -> None:
    """Chance is common: whoever leaves, leaves in both."""
    slates = SimulatedSlates(offered(crowd, knows=True), crowd, TRADE)
    one = dataclasses.replace(BLIND, glance_power=1.0, effective=Reward(power=0.0))
    two = dataclasses.replace(one, glance_power=2.0)
    first, second = slates.lived(one), slates.lived(two)
    assert first is not second
    np.testing.assert_array_equal(first.views, second.views)
    np.testing.assert_array_equal(first.watch_s, second.watch_s)
    assert 1 < first.views.mean() < 3, "some leave before the end"
    other = slates.lived(BLIND)
    assert (other.views != first.views).any(), "and what they are shown decides who"


def test_what_is_not_counted_there_or_too_few_viewers_are_refused(crowd: LivingViewers) -> None:
    asked = offered(crowd, knows=True)
    with pytest.raises(DatasetError, match="improve = effective, which is not counted in the sim"):
        search_simulated(asked, crowd, BLIND, Trade(improve="effective", trials=10))
    with pytest.raises(DatasetError, match="each half needs 30"):
        search_simulated(asked.of(asked.viewer < 20), crowd, BLIND, TRADE)
