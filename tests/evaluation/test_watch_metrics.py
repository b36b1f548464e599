"""Watch time: MAE by hand, XAUC against a loop over all pairs."""

import math
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from skipwise.errors import DatasetError
from skipwise.evaluation.metrics import auc
from skipwise.evaluation.watch import group_xauc, mae_s, mae_statistic, xauc, xauc_statistic


class Rows(NamedTuple):
    """150 rows with ties in what was watched and what was expected."""

    watch_s: NDArray[np.float64]
    expected_s: NDArray[np.float64]
    weights: NDArray[np.int64]
    group: NDArray[np.int64]


@pytest.fixture
def rows() -> Rows:
    random = np.random.default_rng(13)
    watch_s = random.exponential(8, 150).round()
    return Rows(
        watch_s=watch_s,
        expected_s=(watch_s + random.exponential(15, 150)).round(),
        weights=random.integers(0, 3, 150),
        group=random.integers(-1, 12, 150),
    )


def xauc_by_loop(
    watch_s: NDArray[np.float64], expected_s: NDArray[np.float64], weights: NDArray[np.float64]
) -> float:
    """Look at every pair."""
    agreeing = comparable = 0.0
    for i, j in combinations(range(len(watch_s)), 2):
        if watch_s[i] != watch_s[j]:
            sign = np.sign(watch_s[i] - watch_s[j]) * np.sign(expected_s[i] - expected_s[j])
            agreeing += weights[i] * weights[j] * (sign + 1) / 2
            comparable += weights[i] * weights[j]
    return agreeing / comparable if comparable else math.nan


def test_mae_is_the_mean_miss() -> None:
    assert mae_s(np.array([3.0, 10.0]), np.array([5.0, 9.0])) == (2 + 1) / 2


def test_mae_weighs_rows() -> None:
    found = mae_s(np.array([3.0, 10.0]), np.array([5.0, 9.0]), np.array([3.0, 1.0]))
    assert found == (2 * 3 + 1) / 4


def test_xauc_counts_every_pair_once(rows: Rows) -> None:
    expected = xauc_by_loop(rows.watch_s, rows.expected_s, np.ones(150))
    assert xauc(rows.watch_s, rows.expected_s) == pytest.approx(expected, abs=1e-12)


def test_xauc_weighs_pairs(rows: Rows) -> None:
    weights = rows.weights.astype(np.float64)
    expected = xauc_by_loop(rows.watch_s, rows.expected_s, weights)
    assert xauc(rows.watch_s, rows.expected_s, weights) == pytest.approx(expected, abs=1e-12)


def test_a_weight_is_the_row_written_so_many_times(rows: Rows) -> None:
    weighed = xauc(rows.watch_s, rows.expected_s, rows.weights.astype(np.float64))
    repeated = xauc(np.repeat(rows.watch_s, rows.weights), np.repeat(rows.expected_s, rows.weights))
    assert weighed == pytest.approx(repeated, abs=1e-12)


def test_with_two_watch_times_xauc_is_auc(rows: Rows) -> None:
    long = rows.watch_s > 8
    expected = auc(long.astype(np.int8), rows.expected_s)
    assert xauc(long.astype(np.float64), rows.expected_s) == pytest.approx(expected, abs=1e-12)


def test_xauc_turns_round_with_the_order(rows: Rows) -> None:
    forward = xauc(rows.watch_s, rows.expected_s)
    assert xauc(rows.watch_s, -rows.expected_s) == pytest.approx(1 - forward, abs=1e-12)
    assert xauc(rows.watch_s, rows.watch_s) == 1.0
    assert xauc(rows.watch_s, np.ones(150)) == 0.5


def test_each_group_has_the_xauc_of_its_rows(rows: Rows) -> None:
    figures = group_xauc(rows.watch_s, rows.expected_s, rows.group)
    assert figures.group.tolist() == list(range(12))
    for group, value, size in zip(figures.group, figures.values, figures.num_rows, strict=True):
        mine = rows.group == group
        expected = xauc(rows.watch_s[mine], rows.expected_s[mine])
        assert value == pytest.approx(expected, abs=1e-12)
        assert size == mine.sum()


def test_a_group_watched_alike_has_no_figure() -> None:
    figures = group_xauc(np.array([2.0, 2.0]), np.array([1.0, 3.0]), np.array([0, 0]))
    assert np.isnan(figures.values).all()


def test_watched_alike_there_is_no_xauc() -> None:
    assert math.isnan(xauc(np.array([2.0, 2.0]), np.array([1.0, 3.0])))


def test_weighing_viewers_is_weighing_their_rows(rows: Rows) -> None:
    viewer_ix = np.arange(150) % 17
    weights = np.random.default_rng(1).integers(0, 3, (3, 17)).astype(np.float64)
    by_pairs = xauc_statistic(rows.watch_s, rows.expected_s, viewer_ix)(weights)
    by_rows = mae_statistic(rows.watch_s, rows.expected_s, viewer_ix, 17)(weights)
    for number, draw in enumerate(weights):
        row_weights = draw[viewer_ix]
        assert by_pairs[number] == pytest.approx(xauc(rows.watch_s, rows.expected_s, row_weights))
        assert by_rows[number] == pytest.approx(mae_s(rows.watch_s, rows.expected_s, row_weights))


def test_unknown_and_missing_watch_times_are_refused() -> None:
    with pytest.raises(DatasetError, match=r"watch_s\[0\] is nan, must be finite"):
        xauc(np.array([np.nan]), np.array([1.0]))
    with pytest.raises(DatasetError, match=r"expected_s\[0\] is inf, must be finite"):
        mae_s(np.array([1.0]), np.array([np.inf]))
    with pytest.raises(DatasetError, match="both must be"):
        xauc(np.array([]), np.array([]))
