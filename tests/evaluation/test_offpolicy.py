import dataclasses
import itertools

import numpy as np
import pytest

from skipwise.errors import DatasetError
from skipwise.evaluation.offpolicy import (
    ESTIMATORS,
    Estimate,
    Estimates,
    Logged,
    estimate,
    first_place,
    report_card,
)
from tests.simulation.random_slates import RandomSlates, random_slates

FOUR = Logged(
    viewer=np.array([1, 1, 2, 3]),
    outcome=np.array([1.0, 0.0, 1.0, 0.0]),
    propensity=np.array([0.5, 0.25, 0.5, 0.5]),
    target=np.array([1.0, 0.5, 0.0, 0.5]),
    predicted=np.array([0.8, 0.1, 0.6, 0.3]),
    predicted_target=np.array([0.7, 0.2, 0.4, 0.3]),
)
"""Weights 2, 2, 0, 1."""


def test_four_rows_by_hand() -> None:
    found = estimate(FOUR, least_effective_rows=1.0)
    assert found.by["ips"].value == pytest.approx((2 * 1 + 0 + 0 + 0) / 4)
    assert found.by["snips"].value == pytest.approx(2 / (2 + 2 + 0 + 1))
    assert found.by["direct"].value == pytest.approx((0.7 + 0.2 + 0.4 + 0.3) / 4)
    corrections = 2 * (1 - 0.8) + 2 * (0 - 0.1) + 0 + 1 * (0 - 0.3)
    assert found.by["doubly_robust"].value == pytest.approx(0.4 + corrections / 4)
    assert found.effective_rows == pytest.approx(25 / 9)
    # IPS: influences w y - V = 1.5, -0.5 (viewer 1), -0.5 (2), -0.5 (3)
    error = np.sqrt(1.0**2 + 0.5**2 + 0.5**2) / 4
    assert found.by["ips"].high == pytest.approx(0.5 + 1.959964 * error)
    # SNIPS: w (y - 0.4) / 1.25 = 0.96, -0.64 (1), 0 (2), -0.32 (3)
    error = np.sqrt((0.96 - 0.64) ** 2 + 0.32**2) / 4
    assert found.by["snips"].low == pytest.approx(0.4 - 1.959964 * error)
    # doubly robust: q_pi + w (y - q) - 0.375 = 0.725, -0.375 (1), 0.025 (2), -0.375 (3)
    error = np.sqrt((0.725 - 0.375) ** 2 + 0.025**2 + 0.375**2) / 4
    assert found.by["doubly_robust"].high == pytest.approx(0.375 + 1.959964 * error)


def test_a_report_card_by_hand() -> None:
    """Three policies, one misjudged past another, one outside its interval."""
    estimates = [
        Estimates(
            by={name: Estimate(value=at, low=at - 0.15, high=at + 0.15) for name in ESTIMATORS},
            effective_rows=1.0,
            num_rows=1,
            mean_weight=1.0,
        )
        for at in (0.1, 0.2, 0.4)
    ]
    card = report_card(estimates, [0.1, 0.6, 0.5])["snips"]
    assert card.mean_error == pytest.approx((0.0 + 0.4 + 0.1) / 3)
    assert card.covered == pytest.approx(2 / 3)
    assert card.rank_correlation == pytest.approx(1 - 6 * (0 + 1 + 1) / (3 * (9 - 1)))


def test_a_log_that_cannot_answer_is_refused() -> None:
    with pytest.raises(DatasetError, match="4 rows weigh as much as 3; at least 100"):
        estimate(FOUR)
    never = dataclasses.replace(FOUR, target=np.zeros(4))
    with pytest.raises(DatasetError, match="weigh as much as 0"):
        estimate(never)
    for wrong in (np.nan, 0.0, 1.5):
        unknown = dataclasses.replace(FOUR, propensity=np.array([0.5, wrong, 0.5, 0.5]))
        with pytest.raises(DatasetError, match=r"propensity\[1\] is"):
            estimate(unknown)
    none = np.zeros(0)
    empty = Logged(
        viewer=np.zeros(0, dtype=np.int64),
        outcome=none,
        propensity=none,
        target=none,
        predicted=none,
        predicted_target=none,
    )
    with pytest.raises(DatasetError, match="No row of the log was drawn at random"):
        estimate(empty)


def test_ties_share_the_first_place() -> None:
    chances = first_place(np.array([[1.0, 3.0, 3.0], [0.0, 0.0, 5.0]]))
    np.testing.assert_array_equal(chances, [[0.0, 0.5, 0.5], [0.0, 0.0, 1.0]])


def test_the_best_of_some_drawn_is_counted_out() -> None:
    """Against every way of drawing c of M, ties shared by who is drawn."""
    score = np.array([[3.0, 1.0, 3.0, 2.0, -np.inf], [1.0, 1.0, -np.inf, -np.inf, -np.inf]])
    for drawn in (1, 2, 3, 4, 9):
        expected = np.zeros(score.shape)
        for row, scores in enumerate(score):
            there = np.flatnonzero(np.isfinite(scores)).tolist()
            ways = list(itertools.combinations(there, min(drawn, len(there))))
            for way in ways:
                best = [place for place in way if scores[place] == max(scores[list(way)])]
                expected[row, best] += 1 / len(best) / len(ways)
        np.testing.assert_allclose(first_place(score, drawn), expected, atol=1e-12)
    assert not first_place(np.full((1, 3), -np.inf), 2).any()


def test_rows_with_propensities_of_their_own_meet_the_truth() -> None:
    """A leaning lottery; read as if all were alike, its log is seen not to be that."""
    leaning = random_slates(viewers=1000, steps=12, candidates=5, seed=2, lean=1.0)
    assert leaning.propensity.max() > 20 * leaning.propensity.min()
    cards = report_card(*policies(leaning, 12))
    for name in ("ips", "snips", "doubly_robust"):
        assert cards[name].mean_error < 0.03, name
        assert cards[name].covered >= 0.75, name
    alike = leaning._replace(propensity=np.full(leaning.viewer.size, 0.2))
    with pytest.raises(DatasetError, match="could have drawn"):
        policies(alike, 12)


def test_weights_that_cannot_be_are_refused() -> None:
    """Half of what the target would show could not be drawn; propensities ten times too small."""
    rng, number = np.random.default_rng(0), 2000
    logged = Logged(
        viewer=np.arange(number) // 4,
        outcome=rng.random(number),
        propensity=np.full(number, 0.5),
        target=rng.random(number),
        predicted=np.full(number, 0.5),
        predicted_target=np.full(number, 0.5),
    )
    assert estimate(logged).mean_weight == pytest.approx(1.0, abs=0.05)
    half = dataclasses.replace(logged, target=logged.target / 2)
    with pytest.raises(DatasetError, match=r"could have drawn [45]\d%; it must be 80%"):
        estimate(half)
    small = dataclasses.replace(logged, propensity=logged.propensity / 10)
    with pytest.raises(DatasetError, match=r"weights are \d+.* must be about 1"):
        estimate(small)


def policies(slates: RandomSlates, number: int) -> tuple[list[Estimates], list[float]]:
    """Policies from the worst order to the best; a model half right and too sure as q."""
    rng = np.random.default_rng(3)
    shape = slates.p_glance.shape
    q = np.clip(0.5 * slates.p_glance + 0.3 + 0.1 * rng.standard_normal(shape), 0.0, 1.0)
    estimates, truths = [], []
    for liking in np.linspace(-2.0, 4.0, number):
        score = -liking * slates.p_glance + rng.standard_normal(shape) * 0.3
        target = first_place(score)
        logged = Logged(
            viewer=slates.viewer,
            outcome=slates.glance,
            propensity=slates.propensity,
            target=target[:, 0],
            predicted=q[:, 0],
            predicted_target=(target * q).sum(axis=1),
        )
        estimates.append(estimate(logged))
        truths.append(float((target * slates.p_glance).sum(axis=1).mean()))
    return estimates, truths


@pytest.fixture(scope="module")
def slates() -> RandomSlates:
    return random_slates(viewers=1000, steps=12, candidates=5, seed=1)


def test_the_truth_is_met_and_policies_are_ranked_on_simulated_logs(slates: RandomSlates) -> None:
    cards = report_card(*policies(slates, 12))
    assert set(cards) == set(ESTIMATORS)
    for name in ("ips", "snips", "doubly_robust"):
        assert cards[name].mean_error < 0.02, name
        assert cards[name].rank_correlation > 0.9, name
        assert cards[name].covered >= 0.75, name
    # the model is biased: the direct method misses the truth, DR repairs it
    assert cards["direct"].mean_error > 3 * cards["doubly_robust"].mean_error
    assert cards["direct"].covered < 0.5


def test_the_random_log_is_as_random_as_it_says(slates: RandomSlates) -> None:
    """Mean weights are 1 but for chance: what was shown is any of the candidates alike."""
    found, _ = policies(slates, 3)
    for each in found:
        assert abs(each.mean_weight - 1) < 4 * np.sqrt(4 / each.num_rows)
