import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from skipwise.errors import EventError
from skipwise.labels.grid import (
    BIN_WIDTH_S,
    GRID_S,
    NUM_BINS,
    grid_bin,
    quantile_from_counts,
    rank_in_counts,
    shrunk_quantile,
)

watch_times = st.lists(
    st.one_of(st.floats(0, 400), st.sampled_from(GRID_S)), min_size=1, max_size=60
).map(np.array)


def counts_of(watch_s: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.bincount(grid_bin(watch_s), minlength=NUM_BINS)


def test_the_grid_has_the_edges_that_labels_ask_for() -> None:
    assert GRID_S[0] == 0
    assert GRID_S[-1] == 300
    assert {1, 2, 3, 5, 7, 10, 18, 30, 60, 120, 300} <= set(GRID_S)
    assert (np.diff(GRID_S) > 0).all()
    assert len(GRID_S) == NUM_BINS == len(BIN_WIDTH_S)


def test_a_watch_belongs_to_the_bin_that_starts_at_or_before_it() -> None:
    for place, (left_s, width_s) in enumerate(zip(GRID_S, BIN_WIDTH_S, strict=True)):
        inside_s = np.array([left_s, left_s + width_s * 0.99])
        assert grid_bin(inside_s).tolist() == [place, place]


def test_an_unknown_watch_has_no_bin() -> None:
    assert grid_bin(np.array([np.nan, 1e9])).tolist() == [-1, NUM_BINS - 1]


def test_a_quantile_is_linear_inside_its_bin() -> None:
    """Of 5 watches 2 lie in [2, 2.5) and 3 in [3, 3.5): the median is half a watch into the 3."""
    counts = counts_of(np.array([2.1, 2.2, 3.0, 3.1, 3.4]))
    assert float(quantile_from_counts(counts, 0.5)) == 3 + (2.5 - 2) / 3 * 0.5
    assert float(quantile_from_counts(counts, 0.2)) == 2 + (1 - 0) / 2 * 0.5


@given(watch_s=watch_times, p=st.floats(0.01, 0.99))
def test_a_quantile_lies_within_a_bin_of_numpys(watch_s: NDArray[np.float64], p: float) -> None:
    exact_s = np.array(np.quantile(watch_s, p, method="inverted_cdf"))
    found_s = float(quantile_from_counts(counts_of(watch_s), p))
    width_s = BIN_WIDTH_S[int(grid_bin(exact_s))]
    assert abs(found_s - min(float(exact_s), 300)) <= width_s + 1e-9


@given(watch_s=watch_times, others_s=watch_times)
def test_counts_add_up(watch_s: NDArray[np.float64], others_s: NDArray[np.float64]) -> None:
    both = counts_of(np.concatenate([watch_s, others_s]))
    together = quantile_from_counts(counts_of(watch_s) + counts_of(others_s), 0.6)
    assert float(together) == float(quantile_from_counts(both, 0.6))


def test_watches_beyond_the_grid_count_as_its_end() -> None:
    assert float(quantile_from_counts(counts_of(np.array([301.0, 5000.0])), 0.7)) == 300


def test_many_quantiles_come_at_once_and_no_counts_give_none() -> None:
    counts = np.stack([counts_of(np.array([4.2])), np.zeros(NUM_BINS, dtype=np.int64)])
    found_s = quantile_from_counts(counts, 0.5)
    assert found_s[0] == 4.25
    assert math.isnan(found_s[1])


def test_a_quantile_shrinks_to_its_bucket_by_the_views_it_has() -> None:
    """n = 2 watches at 4.25 s against n0 = 6 of a bucket at 100 s."""
    counts, bucket = counts_of(np.array([4.2, 4.2])), counts_of(np.array([90.0]))
    found_s = float(shrunk_quantile(counts, bucket, 0.5, 6))
    assert found_s == (2 * 4.25 + 6 * 90) / (2 + 6)
    nothing = np.zeros_like(counts)
    assert float(shrunk_quantile(nothing, bucket, 0.5, 6)) == 90
    assert math.isnan(shrunk_quantile(counts, nothing, 0.5, 6))


def test_a_rank_is_the_share_below() -> None:
    """2 watches in [2, 2.5), 3 in [3, 3.5): 3.25 s lies above the 2 and half of the 3."""
    counts = counts_of(np.array([2.1, 2.2, 3.0, 3.1, 3.4]))
    ranks = rank_in_counts(np.array([0.0, 2.5, 3.25, 300, 999, np.nan]), np.tile(counts, (6, 1)))
    np.testing.assert_allclose(ranks, [0, 2 / 5, 3.5 / 5, 1, 1, np.nan])
    assert math.isnan(rank_in_counts(np.array(3.0), np.zeros_like(counts)))


@given(watch_s=watch_times, asked_s=st.floats(0, 400))
def test_a_rank_agrees_with_counting(watch_s: NDArray[np.float64], asked_s: float) -> None:
    """It lies between the shares below the left and the right edge of the watch's bin."""
    place = int(grid_bin(np.array(asked_s)))
    right_s = (*GRID_S, math.inf)[place + 1]
    rank = float(rank_in_counts(np.array(asked_s), counts_of(watch_s)))
    assert np.mean(watch_s < GRID_S[place]) - 1e-12 <= rank <= np.mean(watch_s < right_s) + 1e-12


@given(watch_s=watch_times, p=st.floats(0.01, 0.99))
def test_a_rank_undoes_a_quantile(watch_s: NDArray[np.float64], p: float) -> None:
    counts = counts_of(np.minimum(watch_s, 299))
    assert float(rank_in_counts(quantile_from_counts(counts, p), counts)) == pytest.approx(p)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: grid_bin(np.array([1.0, -0.5])), "a watch time is -0.5 s, must be >= 0"),
        (lambda: quantile_from_counts(np.ones(NUM_BINS, int), 1.0), "p = 1, must be > 0 and < 1"),
        (lambda: quantile_from_counts(np.ones(3, int), 0.5), r"shape \(3,\)"),
        (lambda: rank_in_counts(np.array(1.0), np.ones(3, int)), r"shape \(3,\)"),
    ],
)
def test_what_is_not_on_the_grid_is_refused(ask: Callable[[], object], said: str) -> None:
    with pytest.raises(EventError, match=said):
        ask()
