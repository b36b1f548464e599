"""AUC, log-loss and calibration ratio: by hand, against scikit-learn, and under weights."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as oracle

from skipwise.errors import DatasetError
from skipwise.evaluation.metrics import (
    auc,
    auc_statistic,
    calibration_ratio,
    calibration_ratio_statistic,
    log_loss,
    log_loss_statistic,
)

Metric = Callable[..., float]
METRICS: tuple[Metric, ...] = (auc, log_loss, calibration_ratio)


class Rows(NamedTuple):
    """300 rows with many ties, whole weights (some 0), and 40 viewers."""

    labels: NDArray[np.int8]
    chances: NDArray[np.float64]
    weights: NDArray[np.int64]
    viewer_ix: NDArray[np.int64]


@pytest.fixture
def rows() -> Rows:
    random = np.random.default_rng(7)
    chances = random.integers(0, 20, 300) / 20
    return Rows(
        labels=(random.random(300) < chances).astype(np.int8),
        chances=chances,
        weights=random.integers(0, 4, 300),
        viewer_ix=random.integers(0, 40, 300),
    )


def labels(*values: int) -> NDArray[np.int8]:
    return np.array(values, dtype=np.int8)


def test_auc_counts_won_pairs_and_half_the_tied() -> None:
    found = auc(labels(1, 1, 0, 0), np.array([0.9, 0.3, 0.3, 0.1]))
    assert found == (1 + 1 + 0.5 + 1) / 4


def test_log_loss_is_the_mean_surprise() -> None:
    found = log_loss(labels(1, 0), np.array([0.8, 0.4]))
    assert found == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)


def test_a_sure_mistake_costs_what_clipping_allows() -> None:
    assert log_loss(labels(1), np.array([0.0])) == pytest.approx(-math.log(1e-7))


def test_calibration_ratio_is_foretold_over_come() -> None:
    assert calibration_ratio(labels(1, 0, 1), np.array([0.5, 0.5, 0.5])) == 1.5 / 2


def test_scikit_learn_agrees_on_auc_with_ties_and_weights(rows: Rows) -> None:
    weights = rows.weights.astype(np.float64)
    expected = oracle.roc_auc_score(rows.labels, rows.chances, sample_weight=weights)
    assert auc(rows.labels, rows.chances, weights) == pytest.approx(expected, abs=1e-12)


def test_scikit_learn_agrees_on_log_loss_with_weights(rows: Rows) -> None:
    weights = rows.weights.astype(np.float64)
    clipped = np.clip(rows.chances, 1e-7, 1 - 1e-7)
    expected = oracle.log_loss(rows.labels, clipped, sample_weight=weights)
    assert log_loss(rows.labels, rows.chances, weights) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_a_weight_is_the_row_written_so_many_times(metric: Metric, rows: Rows) -> None:
    weighed = metric(rows.labels, rows.chances, rows.weights.astype(np.float64))
    repeated = metric(np.repeat(rows.labels, rows.weights), np.repeat(rows.chances, rows.weights))
    assert weighed == pytest.approx(repeated, abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_the_order_of_the_rows_does_not_matter(metric: Metric, rows: Rows) -> None:
    shuffled = np.random.default_rng(0).permutation(len(rows.labels))
    again = metric(rows.labels[shuffled], rows.chances[shuffled])
    assert metric(rows.labels, rows.chances) == pytest.approx(again, abs=1e-12)


def test_weighing_viewers_is_weighing_their_rows(rows: Rows) -> None:
    """Three draws at once give what each gives row by row."""
    label, chance, viewer = rows.labels, rows.chances, rows.viewer_ix
    weights = np.random.default_rng(1).integers(0, 3, (3, 40)).astype(np.float64)
    for statistic, metric in (
        (auc_statistic(label, chance, viewer), auc),
        (log_loss_statistic(label, chance, viewer, 40), log_loss),
        (calibration_ratio_statistic(label, chance, viewer, 40), calibration_ratio),
    ):
        expected = [metric(label, chance, draw[viewer]) for draw in weights]
        np.testing.assert_allclose(statistic(weights), expected, rtol=1e-12)


def test_auc_finds_a_planted_signal_and_not_a_shuffled_one() -> None:
    random = np.random.default_rng(3)
    label = (random.random(20_000) < 0.4).astype(np.int8)
    score = label + random.normal(size=20_000)
    assert auc(label, score) == pytest.approx(0.760, abs=0.01)  # Phi(1 / sqrt 2)
    assert auc(label, random.permutation(score)) == pytest.approx(0.5, abs=0.015)


def test_one_class_has_no_auc() -> None:
    assert math.isnan(auc(labels(1, 1), np.array([0.1, 0.2])))
    assert math.isnan(auc(labels(1, 0), np.array([0.1, 0.2]), np.array([1.0, 0.0])))


def test_no_positive_has_no_calibration_ratio() -> None:
    assert math.isnan(calibration_ratio(labels(0, 0), np.array([0.1, 0.2])))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("label", "chance", "said"),
    [
        (labels(), np.array([]), "no row to measure"),
        (labels(0, 1), np.array([0.5]), r"both must be \(N,\)"),
        (labels(0, -1), np.array([0.5, 0.5]), r"labels\[1\] is -1, must be 0 or 1"),
        (labels(0, 1), np.array([0.5, math.nan]), r"scores\[1\] is nan, must be finite"),
    ],
)
def test_rows_that_cannot_be_measured_are_refused(
    metric: Metric, label: NDArray[np.int8], chance: NDArray[np.float64], said: str
) -> None:
    with pytest.raises(DatasetError, match=said):
        metric(label, chance)


@pytest.mark.parametrize("metric", [log_loss, calibration_ratio])
def test_a_score_is_no_probability(metric: Metric) -> None:
    with pytest.raises(DatasetError, match=r"probabilities\[1\] is 1.5, must be in \[0, 1\]"):
        metric(labels(0, 1), np.array([0.5, 1.5]))


def test_auc_takes_any_score() -> None:
    assert auc(labels(0, 1), np.array([-7.0, 1.5])) == 1.0
