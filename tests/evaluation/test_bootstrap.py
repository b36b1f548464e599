"""Intervals over viewers: repeatable, and as wide as the truth asks."""

import numpy as np
import pytest
from numpy.typing import NDArray

from skipwise.errors import DatasetError
from skipwise.evaluation.bootstrap import (
    bootstrap,
    draw_viewers,
    interval,
    mean_over_rows,
    ratio,
    replicate,
)
from skipwise.evaluation.metrics import auc_statistic


def test_a_draw_takes_as_many_viewers_as_there_are() -> None:
    draws = np.concatenate(list(draw_viewers(50, samples=100, seed=0)))
    assert draws.shape == (100, 50)
    assert (draws.sum(axis=1) == 50).all()
    assert draws.mean(axis=0) == pytest.approx(1.0, abs=0.6)
    assert draws.max() > 2


def test_the_same_seed_draws_the_same_viewers_and_another_others() -> None:
    first, again, other = (
        np.concatenate(list(draw_viewers(20, samples=40, seed=seed))) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_ratio_is_of_sums_not_a_mean_of_ratios() -> None:
    statistic = ratio(np.array([1.0, 6.0]), np.array([1.0, 2.0]))
    np.testing.assert_allclose(statistic(np.array([[1.0, 1.0], [2.0, 0.0]])), [7 / 3, 1.0])


def test_a_draw_of_nothing_has_no_ratio() -> None:
    statistic = ratio(np.array([1.0, 6.0]), np.array([0.0, 2.0]))
    assert np.isnan(statistic(np.array([[1.0, 0.0]]))).all()


def test_the_interval_is_read_off_the_draws() -> None:
    found = interval(np.concatenate([[0.3], np.linspace(0, 1, 1001)]))
    assert found == pytest.approx((0.3, 0.025, 0.975))


def test_a_tenth_of_the_draws_may_fail_and_no_more() -> None:
    draws = np.full(101, 0.5)
    draws[1:11] = np.nan
    assert interval(draws) == (0.5, 0.5, 0.5)
    draws[11] = np.nan
    assert np.isnan(interval(draws)[1:]).all()


def test_statistics_measured_together_share_their_draws() -> None:
    statistic = ratio(np.arange(9.0), np.ones(9))
    together = replicate({"a": statistic, "b": statistic}, 9, samples=50, seed=3)
    alone = replicate({"a": statistic}, 9, samples=50, seed=3)
    np.testing.assert_array_equal(together["a"], together["b"])
    np.testing.assert_array_equal(together["a"], alone["a"])
    assert np.ptp(together["a"]) > 0


def test_nobody_cannot_be_measured() -> None:
    with pytest.raises(DatasetError, match="no viewer to measure"):
        bootstrap({}, 0)


def coverage(viewer_of_row: NDArray[np.int64]) -> float:
    """How often the interval of a mean holds 0, its truth; each ten rows share a taste."""
    random = np.random.default_rng(8)
    num_viewers, held = int(viewer_of_row.max()) + 1, 0
    for trial in range(200):
        values = np.repeat(random.normal(size=60), 10) + random.normal(size=600, scale=0.5)
        statistic = mean_over_rows(values, viewer_of_row, num_viewers)
        found = bootstrap({"mean": statistic}, num_viewers, samples=200, seed=trial)["mean"]
        held += found.low <= 0.0 <= found.high
    return held / 200


def test_nineteen_of_twenty_intervals_hold_the_truth() -> None:
    assert 0.89 <= coverage(np.arange(600) // 10) <= 0.99


def test_an_interval_over_rows_would_be_too_narrow() -> None:
    """The same rows, each taken for a viewer of its own."""
    assert coverage(np.arange(600)) < 0.7


def test_intervals_of_auc_hold_the_truth_too() -> None:
    random, held = np.random.default_rng(9), 0
    viewer = np.arange(400) // 4
    for trial in range(100):
        label = (random.random(400) < 0.4).astype(np.int8)
        score = label + random.normal(size=400)
        statistic = auc_statistic(label, score, viewer)
        found = bootstrap({"auc": statistic}, 100, samples=150, seed=trial)["auc"]
        held += found.low <= 0.7602 <= found.high  # Phi(1 / sqrt 2)
    assert 86 <= held <= 100
