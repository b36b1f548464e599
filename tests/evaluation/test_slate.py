"""What the first places of a slate bring, under the score, the log's order and chance."""

from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray

from skipwise.evaluation.slate import slate_orders, slate_statistic

GLANCED = np.array([1.0, 0, 0, 1, 0, 1, 1])
SCORE = np.array([0.1, 0.9, 0.5, 0.2, 0.3, 0.8, 0.4])
GROUP = np.array([0, 0, 0, 0, 1, 1, 1])


def at(
    places: int,
    order: NDArray[np.float64],
    *,
    outcome: NDArray[np.float64] = GLANCED,
    group: NDArray[np.int64] = GROUP,
) -> tuple[float, int]:
    """The mean outcome in the first places over all viewers, and how many slates there are."""
    viewer_ix = np.maximum(group, 0)
    statistic, slates = slate_statistic(outcome, order, group, viewer_ix, 2, at=places)
    return float(statistic(np.ones((1, 2)))[0]), slates


def test_the_best_places_of_each_slate_are_averaged() -> None:
    assert at(2, SCORE) == (((0 + 0) / 2 + (1 + 1) / 2) / 2, 2)


def test_the_log_shows_what_came_first() -> None:
    logged = slate_orders(SCORE)["logged"]
    assert at(1, logged) == ((1 + 0) / 2, 2)


def test_chance_is_the_mean_over_all_orders() -> None:
    orders = [GLANCED[list(order)][:2].mean() for order in permutations(range(4))]
    of_first, of_second = np.mean(orders), (0 + 1 + 1) / 3
    found, _ = at(2, slate_orders(SCORE)["random"])
    assert found == pytest.approx((of_first + of_second) / 2)


def test_a_slate_needs_more_rows_than_places() -> None:
    assert at(3, SCORE) == ((0 + 0 + 1) / 3, 1)
    found, slates = at(4, SCORE)
    assert np.isnan(found)
    assert slates == 0


def test_rows_of_unknown_outcome_are_no_candidates() -> None:
    outcome = GLANCED.copy()
    outcome[[1, 5]] = np.nan
    assert at(1, SCORE, outcome=outcome) == ((0 + 1) / 2, 2)


def test_rows_without_a_group_are_in_no_slate() -> None:
    group = np.where(GROUP == 1, -1, GROUP)
    assert at(1, SCORE, group=group) == (0.0, 1)


def test_a_viewer_counts_as_often_as_drawn() -> None:
    statistic, _ = slate_statistic(GLANCED, SCORE, GROUP, GROUP, 2, at=1)
    np.testing.assert_allclose(statistic(np.array([[3.0, 1.0], [0.0, 2.0]])), [1 / 4, 1.0])


def test_a_good_score_skips_less_and_a_bad_one_more_than_chance() -> None:
    random = np.random.default_rng(0)
    group = np.repeat(np.arange(500), 8)
    glanced = (random.random(4000) < 0.4).astype(np.float64)
    knowing = -glanced + random.normal(size=4000)

    def glance_rate(order: NDArray[np.float64]) -> float:
        statistic, _ = slate_statistic(glanced, order, group, group, 500, at=3)
        return float(statistic(np.ones((1, 500)))[0])

    chance = glance_rate(np.zeros(4000))
    assert glance_rate(knowing) < chance - 0.1
    assert glance_rate(-knowing) > chance + 0.1
    assert glance_rate(random.permutation(knowing)) == pytest.approx(chance, abs=0.04)
