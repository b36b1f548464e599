"""How popular a video is: by hand, one at a time as in bulk, and blind to what is not yet known."""

import numpy as np
import pytest

from skipwise.features.dataset import Dataset
from skipwise.features.popularity import EffectiveCounts, popularity_by_day
from tests.worlds import days_of, timed_rows, with_events


def test_a_view_loses_half_its_weight_in_a_day_and_in_a_week() -> None:
    counts = EffectiveCounts(num_videos=3, day=10)
    counts.learn(np.array([1, 1, 2]), known_day=10)
    np.testing.assert_array_equal(counts.counts(), np.zeros((3, 2)))
    counts.move_to(11)
    week = 2 ** (-1 / 7)
    expected = np.array([[0.0, 0.0], [1.0, 2 * week], [0.5, week]])
    np.testing.assert_allclose(counts.counts(), expected, rtol=1e-6)
    counts.learn(np.array([2]), known_day=12)
    counts.move_to(13)
    np.testing.assert_allclose(counts.counts()[2], [0.125 + 0.5, week**3 + week], rtol=1e-6)


def test_a_new_video_makes_room_for_itself() -> None:
    counts = EffectiveCounts(num_videos=1, day=0)
    counts.learn(np.array([4]), known_day=0)
    counts.move_to(1)
    assert counts.counts().shape == (5, 2)


def test_bulk_counts_what_one_at_a_time_counts(small_dataset: Dataset) -> None:
    events, (first, last) = small_dataset.events, small_dataset.days
    table = popularity_by_day(small_dataset, first, last)
    effective = timed_rows(small_dataset) & (events["label_effective"].all() == 1)
    known_day, video = events["known_day"].all(), events["video"].all()
    for day in range(first, last + 1):
        expected = np.zeros((small_dataset.videos.num_rows, 2))
        for row in np.flatnonzero(effective & (known_day < day)):
            age = day - int(known_day[row])
            expected[video[row]] += [2.0**-age, 2.0 ** (-age / 7)]
        np.testing.assert_allclose(table[day - first], expected, rtol=1e-5)
    assert table[-1].sum() > 100


def test_no_day_knows_its_own_outcomes(small_dataset: Dataset) -> None:
    first, last = small_dataset.days
    later = days_of(small_dataset) >= last
    edited = with_events(
        small_dataset, label_effective=lambda labels: np.where(later, 1 - labels, labels)
    )
    before, after = (popularity_by_day(each, first, last) for each in (small_dataset, edited))
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("until", [1, 2])
def test_what_is_known_later_than_asked_is_left_out(small_dataset: Dataset, until: int) -> None:
    first, last = small_dataset.days
    table = popularity_by_day(small_dataset, first, last, known_until=first + until)
    ageing = table[-1, :, 0] / np.maximum(table[until + 1, :, 0], 1e-9)
    shown = table[until + 1, :, 0] > 0
    np.testing.assert_allclose(ageing[shown], 2.0 ** -(last - first - until - 1), rtol=1e-5)
