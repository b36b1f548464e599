"""GAUC and nDCG against plain loops and scikit-learn; the trap of groups with mixed states."""

import math
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as oracle

from skipwise.errors import DatasetError
from skipwise.evaluation.grouped import (
    check_one_state,
    gauc,
    group_auc,
    group_ndcg,
    grouped_statistic,
    ndcg,
)
from skipwise.evaluation.metrics import auc


class Rows(NamedTuple):
    """400 rows in 60 groups of 20 viewers, some without a group, scores with ties."""

    labels: NDArray[np.int8]
    scores: NDArray[np.float64]
    group: NDArray[np.int64]
    viewer_ix: NDArray[np.int64]


@pytest.fixture
def rows() -> Rows:
    random = np.random.default_rng(11)
    group = random.integers(-1, 60, 400)
    return Rows(
        labels=(random.random(400) < 0.3).astype(np.int8),
        scores=random.integers(0, 6, 400) / 5,
        group=group,
        viewer_ix=np.where(group >= 0, group // 3, random.integers(0, 20, 400)),
    )


def mixed_groups(rows: Rows) -> list[NDArray[np.int64]]:
    """Row numbers of each group that holds both classes."""
    found = [np.flatnonzero(rows.group == group) for group in range(60)]
    return [each for each in found if 0 < rows.labels[each].sum() < len(each)]


def test_gauc_is_the_mean_by_rows_over_groups_with_both_classes(rows: Rows) -> None:
    groups = mixed_groups(rows)
    assert 0 < len(groups) < 60
    values = [oracle.roc_auc_score(rows.labels[each], rows.scores[each]) for each in groups]
    expected = np.average(values, weights=[len(each) for each in groups])
    assert gauc(rows.labels, rows.scores, rows.group) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("at", [1, 3, 50])
def test_ndcg_is_that_of_scikit_learn_in_each_group(rows: Rows, at: int) -> None:
    groups = mixed_groups(rows)
    values = [oracle.ndcg_score([rows.labels[i]], [rows.scores[i]], k=at) for i in groups]
    expected = np.average(values, weights=[len(each) for each in groups])
    assert ndcg(rows.labels, rows.scores, rows.group, at=at) == pytest.approx(expected, abs=1e-12)


def test_one_group_by_hand() -> None:
    label = np.array([0, 1, 0, 1], dtype=np.int8)
    score, group = np.array([0.4, 0.3, 0.2, 0.1]), np.zeros(4, dtype=np.int64)
    assert gauc(label, score, group) == (0 + 1 + 0 + 0) / 4
    assert ndcg(label, score, group, at=2) == pytest.approx(
        (1 / math.log2(3)) / (1 / math.log2(2) + 1 / math.log2(3))
    )


def test_groups_of_one_class_are_named_and_left_out() -> None:
    label = np.array([1, 1, 0, 1], dtype=np.int8)
    score, group = np.array([0.1, 0.2, 0.3, 0.9]), np.array([4, 4, 9, 9])
    figures = group_auc(label, score, group)
    assert figures.group.tolist() == [4, 9]
    assert figures.num_rows.tolist() == [2, 2]
    np.testing.assert_array_equal(figures.values, [np.nan, 1.0])
    assert gauc(label, score, group) == 1.0


def test_rows_without_a_group_change_nothing(rows: Rows) -> None:
    flipped = np.where(rows.group < 0, 1 - rows.labels, rows.labels).astype(np.int8)
    assert gauc(flipped, rows.scores, rows.group) == gauc(rows.labels, rows.scores, rows.group)
    grouped = np.where(rows.group < 0, 0, rows.group)
    assert gauc(flipped, rows.scores, grouped) != gauc(rows.labels, rows.scores, grouped)


def test_without_a_mixed_group_there_is_no_figure() -> None:
    label, score = np.array([0, 1], dtype=np.int8), np.array([0.1, 0.2])
    for group in ([0, 1], [-1, -1]):
        assert math.isnan(gauc(label, score, np.array(group)))
        assert math.isnan(ndcg(label, score, np.array(group)))


def test_weights_are_groups_written_so_many_times(rows: Rows) -> None:
    """Each copy of a viewer brings copies of its groups, not larger groups."""
    copies = np.random.default_rng(2).integers(0, 3, 20)
    parts = [
        (np.flatnonzero(rows.viewer_ix == viewer), copy)
        for viewer in range(20)
        for copy in range(copies[viewer])
    ]
    row = np.concatenate([part for part, _ in parts])
    copy = np.concatenate([np.full(len(part), number) for part, number in parts])
    group = np.where(rows.group[row] < 0, -1, rows.group[row] * 10 + copy)
    weights = copies[rows.viewer_ix].astype(np.float64)
    for metric in (gauc, ndcg):
        weighed = metric(rows.labels, rows.scores, rows.group, weights)
        assert weighed == pytest.approx(metric(rows.labels[row], rows.scores[row], group))


def test_weighing_viewers_is_weighing_their_rows(rows: Rows) -> None:
    weights = np.random.default_rng(1).integers(0, 3, (4, 20)).astype(np.float64)
    by_auc = group_auc(rows.labels, rows.scores, rows.group)
    by_ndcg = group_ndcg(rows.labels, rows.scores, rows.group)
    for figures, metric in ((by_auc, gauc), (by_ndcg, ndcg)):
        found = grouped_statistic(figures, rows.viewer_ix, 20)(weights)
        expected = [
            metric(rows.labels, rows.scores, rows.group, draw[rows.viewer_ix]) for draw in weights
        ]
        np.testing.assert_allclose(found, expected, rtol=1e-12)


class Diary(NamedTuple):
    """Viewers who skip at rates of their own; what they see has no say in it."""

    glanced: NDArray[np.int8]
    viewer: NDArray[np.int64]
    rate_so_far: NDArray[np.float64]
    """The viewer's skip rate before each row, moving from row to row."""
    rate_before_today: NDArray[np.float64]
    """The same as of the start of the day: one state per viewer-day."""


@pytest.fixture(scope="module")
def diary() -> Diary:
    """2,000 viewers, 10 rows of yesterday and 8 of today; only today's are measured."""
    random = np.random.default_rng(5)
    taste = random.beta(1.5, 2.0, 2000)
    glanced = random.random((2000, 18)) < taste[:, None]
    before: NDArray[np.int64] = np.cumsum(glanced, axis=1) - glanced
    so_far = (before + 1) / (np.arange(18) + 2)
    return Diary(
        glanced=glanced[:, 10:].ravel().astype(np.int8),
        viewer=np.repeat(np.arange(2000), 8),
        rate_so_far=so_far[:, 10:].ravel(),
        rate_before_today=np.repeat(so_far[:, 10], 8),
    )


def test_a_state_that_moves_inside_a_group_fools_gauc(diary: Diary) -> None:
    """A good rate, but far under chance: what has come makes the next less likely."""
    assert auc(diary.glanced, diary.rate_so_far) > 0.7
    assert gauc(diary.glanced, diary.rate_so_far, diary.viewer) < 0.4


def test_one_state_per_group_cures_it(diary: Diary) -> None:
    """As good a rate over all, and within the day it says nothing, which is the truth."""
    assert auc(diary.glanced, diary.rate_before_today) > 0.7
    assert gauc(diary.glanced, diary.rate_before_today, diary.viewer) == 0.5


def test_the_contract_tells_the_two_apart(diary: Diary) -> None:
    row = np.arange(len(diary.viewer))
    check_one_state(diary.viewer, diary.viewer)  # one state a day
    with pytest.raises(DatasetError, match="scored with different states"):
        check_one_state(diary.viewer, row)  # one state a row
    check_one_state(row, row)  # and then each row is a group of its own


def test_rows_without_a_group_may_have_any_state() -> None:
    check_one_state(np.array([-1, -1, 3]), np.array([1, 2, 5]))


def test_the_mixed_group_and_its_states_are_named() -> None:
    group, state = np.array([5, 8, 5, 8]), np.array([1, 2, 1, 3])
    with pytest.raises(DatasetError, match=r"Group 8 .*\(2 and 3\).*Group by viewer-day"):
        check_one_state(group, state)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(DatasetError, match=r"both must be \(N,\)"):
        check_one_state(np.array([1]), np.array([1, 2]))
    with pytest.raises(DatasetError, match="Give each row its group"):
        gauc(np.array([0, 1], dtype=np.int8), np.array([0.1, 0.2]), np.array([0]))
