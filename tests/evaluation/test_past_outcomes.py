"""What happened before, counted from labels: nothing later, nothing unknown, key by key."""

import numpy as np
import pytest

from skipwise.evaluation.past_outcomes import Moments, count_past
from skipwise.features.dataset import Dataset
from skipwise.features.view import View


def test_counts_equal_those_made_row_by_row() -> None:
    random = np.random.default_rng(4)
    labels = random.integers(-1, 2, 400).astype(np.int8)
    keys, asked_keys = random.integers(0, 9, 400), random.integers(0, 11, 150)
    moments = Moments(known=random.integers(0, 20, 400), asked=random.integers(0, 21, 150))
    positives, outcomes = count_past(labels, keys, asked_keys, moments)
    for row, key in enumerate(asked_keys):
        before = (keys == key) & (moments.known < moments.asked[row]) & (labels >= 0)
        assert outcomes[row] == before.sum()
        assert positives[row] == labels[before].sum()
    assert outcomes.max() > 10


def test_nobody_asks_and_nothing_is_known() -> None:
    nothing, none = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int8)
    positives, outcomes = count_past(
        none, nothing, np.array([3]), Moments(known=nothing, asked=np.array([1]))
    )
    assert (positives[0], outcomes[0]) == (0, 0)
    positives, _ = count_past(none, nothing, nothing, Moments(known=nothing, asked=nothing))
    assert not len(positives)


@pytest.mark.parametrize(
    "view",
    [
        View(),
        View(mode="progressive"),
        View(mode="progressive", extra_delay_ms=3_600_000),
        View(mode="window", window_last_day=20_003),
    ],
    ids=["daily", "live", "late", "window"],
)
def test_a_row_counts_neither_itself_nor_what_its_view_does_not_know(
    small_dataset: Dataset, view: View
) -> None:
    events = small_dataset.events
    timed = np.flatnonzero(events["counter_row"].all() >= 0)
    last_day = small_dataset.days[1]
    if view.window_last_day is not None:
        view = View(mode="window", window_last_day=last_day - 1)
    rows = timed[events["day"].take(timed) == last_day]
    moments = Moments.of(small_dataset, rows, view)
    assert (moments.known[rows] >= moments.asked).all()
    known_day, shown_at_ms = events["known_day"].all(), events["shown_at_ms"].all()
    viewer = events["viewer"].all().astype(np.int64)
    labels = np.ones(len(viewer), dtype=np.int8)
    _, outcomes = count_past(labels, viewer, viewer[rows], moments)
    for row, found in list(zip(rows, outcomes, strict=True))[::97]:
        own = viewer == viewer[row]
        if view.mode == "progressive":
            known_at_ms = events["known_at_ms"].all() + view.extra_delay_ms
            own &= known_at_ms <= events["requested_at_ms"].all()[row]
            assert found <= (shown_at_ms[own] < shown_at_ms[row]).sum()
        else:
            own &= known_day < last_day
        assert found == own.sum()
    assert outcomes.max() > 0
