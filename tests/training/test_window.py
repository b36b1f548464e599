"""Days decide what is learnt, what chooses when to stop, and what is never touched."""

import numpy as np
import pytest

from skipwise.errors import DatasetError
from skipwise.features.dataset import Dataset, iso_day
from skipwise.training.window import learnable_objectives, training_window
from tests.worlds import days_of, timed_rows, with_events


def test_days_are_split_between_learning_and_stopping(small_dataset: Dataset) -> None:
    """Five days, of which one is left alone: two to learn from, two to stop by."""
    first, last = small_dataset.days
    window = training_window(small_dataset, last - 1, 2)
    day, timed = days_of(small_dataset), timed_rows(small_dataset)
    assert (window.first_day, window.last_day) == (first, last - 1)
    assert window.validation_from == first + 2
    np.testing.assert_array_equal(
        window.training(with_validation=False), timed & (day <= first + 1)
    )
    np.testing.assert_array_equal(window.training(with_validation=True), timed & (day <= last - 1))
    np.testing.assert_array_equal(
        window.validation(), timed & ((day == first + 2) | (day == first + 3))
    )
    for rows in (window.training(with_validation=True), window.validation()):
        assert rows.any()
        assert not rows[day == last].any()


def test_without_a_last_day_all_days_are_used(small_dataset: Dataset) -> None:
    window = training_window(small_dataset, None, 1)
    assert window.last_day == small_dataset.days[1]
    assert window.training(with_validation=True).all()


@pytest.mark.slow
@pytest.mark.kuairand
def test_untimed_events_are_known_but_never_learnt(real_dataset: Dataset) -> None:
    window = training_window(real_dataset, real_dataset.days[0] + 3, 1)
    untimed = ~timed_rows(real_dataset)
    assert untimed.sum() > 1000
    assert window.known(with_validation=False)[untimed].all()
    assert not window.training(with_validation=True)[untimed].any()
    assert not window.validation()[untimed].any()


@pytest.mark.parametrize("off", [-1, 5])
def test_a_day_outside_the_data_is_refused(small_dataset: Dataset, off: int) -> None:
    first, last = (iso_day(day) for day in small_dataset.days)
    day = small_dataset.days[0] + off
    says = rf"^--until {iso_day(day)} is outside the data, .* {first} to {last}\. Choose a day"
    with pytest.raises(DatasetError, match=says):
        training_window(small_dataset, day, 1)


@pytest.mark.parametrize(("until", "validation_days"), [(0, 1), (2, 3), (4, 5), (4, 300)])
def test_too_few_days_are_refused(small_dataset: Dataset, until: int, validation_days: int) -> None:
    says = rf"has {until + 1} days, of which validation_days = {validation_days} .* later --until"
    with pytest.raises(DatasetError, match=says):
        training_window(small_dataset, small_dataset.days[0] + until, validation_days)
    shortest = training_window(small_dataset, small_dataset.days[0] + 2, 2)
    assert shortest.training(with_validation=False).any()


def test_one_viewer_is_refused(small_dataset: Dataset) -> None:
    alone = with_events(small_dataset, viewer=lambda codes: codes * 0)
    with pytest.raises(
        DatasetError, match=r"has 1 viewer; it must have at least 2, .*more viewers"
    ):
        training_window(alone, None, 1)
    late = days_of(small_dataset) == small_dataset.days[1]
    only_later = with_events(small_dataset, viewer=lambda codes: np.where(late, codes, 0))
    with pytest.raises(DatasetError, match="has 1 viewer"):
        training_window(only_later, small_dataset.days[1] - 1, 1)


def test_an_objective_without_both_outcomes_is_masked_and_said(small_dataset: Dataset) -> None:
    """No like at all, only long views, effective unknown, and no column that tells clicks."""
    edited = with_events(
        small_dataset,
        label_like=lambda labels: labels * 0,
        label_long=lambda labels: labels * 0 + 1,
        label_effective=lambda labels: labels * 0 - 1,
    )
    learnt, masked = learnable_objectives(edited, timed_rows(edited))
    assert "click" not in small_dataset.objectives
    assert masked["click"] == "the log does not say"
    assert masked["like"] == "no positive outcome in the training window"
    assert masked["long"] == "no negative outcome in the training window"
    assert masked["effective"] == "no positive outcome in the training window"
    assert "glance" in learnt
    assert not set(learnt) & set(masked)


def test_outcomes_after_the_window_do_not_make_an_objective_learnable(
    small_dataset: Dataset,
) -> None:
    rows = training_window(small_dataset, small_dataset.days[0] + 2, 1).training(
        with_validation=True
    )
    later_only = with_events(small_dataset, label_glance=lambda _: np.where(rows, 0, 1))
    learnt, masked = learnable_objectives(later_only, rows)
    assert "glance" not in learnt
    assert "glance" in masked


def test_a_window_in_which_nothing_can_be_learnt_is_refused(small_dataset: Dataset) -> None:
    names = [f"label_{name}" for name in small_dataset.objectives]
    nothing = with_events(small_dataset, **dict.fromkeys(names, lambda labels: labels * 0))
    with pytest.raises(DatasetError, match=r"no objective has both .*Reasons: .*Widen the window"):
        learnable_objectives(nothing, timed_rows(nothing))
