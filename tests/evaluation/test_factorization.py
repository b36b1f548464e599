"""Factorization machine and popularity: by hand, planted and shuffled."""

import numpy as np
import pytest
import torch

from skipwise.errors import DatasetError
from skipwise.evaluation.baselines import popularity_rate
from skipwise.evaluation.factorization import (
    Codes,
    FactorizationMachine,
    FactorSettings,
    binned,
    fm_baseline,
)
from skipwise.evaluation.metrics import Labels, auc

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = FactorSettings(passes_at_most=12, learning_rate=0.05, weight_decay=0.01)


def planted(seed: int) -> tuple[Codes, Labels]:
    """2,000 rows of 3 fields; what happens is told by the first two together and by neither."""
    random = np.random.default_rng(seed)
    codes = random.integers(1, 5, (2000, 3))
    agree = (codes[:, 0] % 2) == (codes[:, 1] % 2)
    labels = (random.random(2000) < np.where(agree, 0.9, 0.1)).astype(np.int8)
    return codes.astype(np.int64), labels


def test_a_logit_is_constant_weights_and_pairs() -> None:
    model = FactorizationMachine((3, 3, 3), 2)
    with torch.no_grad():
        model.constant.fill_(0.5)
        model.weight.copy_(torch.arange(9.0))
        model.vector.copy_(torch.arange(18.0).view(9, 2))
    place = [1, 3 + 2, 6 + 1]
    vectors = [np.array([2.0 * p, 2.0 * p + 1]) for p in place]
    pairs = vectors[0] @ vectors[1] + vectors[0] @ vectors[2] + vectors[1] @ vectors[2]
    found = model(torch.tensor([[1, 2, 1], [1, 0, 0]])).tolist()
    assert found == [pytest.approx(0.5 + sum(place) + pairs), pytest.approx(0.5 + 1)]


def test_it_learns_a_planted_pair_and_not_a_shuffled_one() -> None:
    train, labels = planted(0)
    test, truth = planted(1)
    shuffled = np.random.default_rng(2).permutation(labels)
    assert auc(truth, fm_baseline(train, labels, test, seed=0, settings=QUICK)) > 0.85
    chance = auc(truth, fm_baseline(train, shuffled, test, seed=0, settings=QUICK))
    assert chance == pytest.approx(0.5, abs=0.06)


def test_a_code_that_training_has_not_says_nothing() -> None:
    train, labels = planted(0)
    unmet, nothing = np.array([[999, 1, 1]]), np.array([[0, 1, 1]])
    one, other = (
        fm_baseline(train, labels, rows, seed=0, settings=QUICK) for rows in (unmet, nothing)
    )
    np.testing.assert_array_equal(one, other)


def test_unknown_labels_teach_nothing() -> None:
    train, labels = planted(0)
    gaps = np.where(np.arange(2000) < 400, -1, labels).astype(np.int8)
    with_gaps = fm_baseline(train, gaps, train, seed=0, settings=QUICK)
    without = fm_baseline(train[400:], labels[400:], train, seed=0, settings=QUICK)
    np.testing.assert_array_equal(with_gaps, without)


def test_one_class_is_refused() -> None:
    train, labels = planted(0)
    with pytest.raises(DatasetError, match="0 positives of 2000"):
        fm_baseline(train, np.zeros_like(labels), train, seed=0)


def test_bins_are_those_of_the_training_rows() -> None:
    train = np.array([0.0, 1.0, 2.0, 3.0, np.nan])
    train_bins, test_bins = binned(train, np.array([-9.0, 1.6, 99.0, np.nan]), num_bins=2)
    assert train_bins.tolist() == [1, 1, 2, 2, 0]
    assert test_bins.tolist() == [1, 2, 2, 0]
    assert binned(np.array([np.nan]), np.array([1.0]))[1].tolist() == [0]


def test_popularity_is_the_rate_of_what_was_shown_as_often() -> None:
    """Two bins, drawn towards 3/4 as by 20 outcomes; an unknown label counts for none."""
    views = np.array([0.0, 0.0, 10.0, 10.0, 10.0])
    labels = np.array([1, 0, 1, 1, -1], dtype=np.int8)
    found = popularity_rate(views, labels, np.array([0.0, 99.0]), num_bins=2)
    np.testing.assert_allclose(found, [(1 + 20 * 0.75) / (2 + 20), (2 + 20 * 0.75) / (2 + 20)])


def test_popularity_learns_what_is_planted_and_not_what_is_shuffled() -> None:
    random = np.random.default_rng(0)
    views = random.integers(0, 50, 3000).astype(np.float64)
    labels = (random.random(3000) < 0.1 + 0.016 * views).astype(np.int8)
    shuffled = random.permutation(labels)
    told = popularity_rate(views[:1500], labels[:1500], views[1500:])
    untold = popularity_rate(views[:1500], shuffled[:1500], views[1500:])
    assert auc(labels[1500:], told) > 0.7
    assert auc(labels[1500:], untold) == pytest.approx(0.5, abs=0.09)
