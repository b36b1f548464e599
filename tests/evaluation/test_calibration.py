"""Bins of equal mass, the ECE and the calibration table."""

import numpy as np
import pytest

from skipwise.evaluation.calibration import (
    calibration_table,
    ece,
    ece_statistic,
    equal_mass_bins,
)


def test_ece_by_hand() -> None:
    label = np.array([0, 1, 1, 1], dtype=np.int8)
    chance = np.array([0.1, 0.3, 0.7, 0.9])
    expected = (2 / 4) * abs((0.1 + 0.3) / 2 - 1 / 2) + (2 / 4) * abs((0.7 + 0.9) / 2 - 1)
    assert ece(label, chance, num_bins=2) == pytest.approx(expected)


def test_bins_hold_equally_many_rows() -> None:
    chance = np.random.default_rng(0).random(1000)
    bins = equal_mass_bins(chance, 10)
    assert np.bincount(bins).tolist() == [100] * 10
    assert chance[bins == 3].max() < chance[bins == 4].min()


def test_rows_of_equal_probability_share_a_bin() -> None:
    assert len(set(equal_mass_bins(np.full(50, 0.2), 10).tolist())) == 1
    assert equal_mass_bins(np.array([0.1, 0.9, 0.9, 0.9]), 2).tolist() == [0, 1, 1, 1]
    chance = np.random.default_rng(0).integers(0, 4, 200) / 4
    bins = equal_mass_bins(chance, 10)
    assert all(len(set(bins[chance == value].tolist())) == 1 for value in set(chance.tolist()))


def test_a_weight_is_the_row_written_so_many_times() -> None:
    random = np.random.default_rng(1)
    chance, weights = random.random(200).round(1), random.integers(0, 4, 200)
    label = (random.random(200) < 0.4).astype(np.int8)
    repeated = ece(np.repeat(label, weights), np.repeat(chance, weights), num_bins=7)
    weighed = ece(label, chance, weights.astype(np.float64), num_bins=7)
    assert weighed == pytest.approx(repeated, abs=1e-12)


def test_the_truth_is_calibrated_and_a_boast_is_not() -> None:
    random = np.random.default_rng(2)
    chance = random.beta(2, 3, 50_000)
    label = (random.random(50_000) < chance).astype(np.int8)
    assert ece(label, chance) < 0.01
    assert ece(label, chance**0.5) == pytest.approx((chance**0.5 - chance).mean(), abs=0.005)


def test_for_everybody_the_statistic_is_the_ece() -> None:
    random = np.random.default_rng(3)
    chance, viewer = random.random(500), random.integers(0, 30, 500)
    label = (random.random(500) < 0.4).astype(np.int8)
    statistic = ece_statistic(label, chance, viewer, 30, num_bins=5)
    assert statistic(np.ones((1, 30)))[0] == pytest.approx(ece(label, chance, num_bins=5))
    assert np.isnan(statistic(np.zeros((1, 30)))).all()


def test_the_table_sets_observed_beside_predicted() -> None:
    label = np.array([0, 1, 1, 1], dtype=np.int8)
    chance, viewer = np.array([0.1, 0.3, 0.7, 0.9]), np.array([0, 1, 0, 1])
    low, high = calibration_table(label, chance, viewer, 2, num_bins=2)
    assert (low.num_rows, low.lowest, low.highest) == (2, 0.1, 0.3)
    assert low.predicted == pytest.approx((0.1 + 0.3) / 2)
    weights = np.array([[1.0, 1.0], [3.0, 1.0]])
    np.testing.assert_allclose(low.observed(weights), [1 / 2, 1 / 4])
    np.testing.assert_allclose(high.observed(weights), [1.0, 1.0])
