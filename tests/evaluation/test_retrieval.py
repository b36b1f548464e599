"""Recall@k: by hand, ties shared, what was seen before left out, nothing known too early."""

import numpy as np
import pytest

from skipwise.evaluation.finders import Wanted, co_occurrence_finder, popularity_finder
from skipwise.evaluation.retrieval import retrieval_card, wanted_views
from skipwise.evaluation.scorecard import EvaluationSettings
from skipwise.evaluation.tables import retrieval_rows
from skipwise.features.dataset import Dataset
from skipwise.features.stretches import plan_stretches
from skipwise.features.view import View
from skipwise.model.request import Array
from tests.worlds import days_of, timed_rows

FEW = EvaluationSettings(bootstrap_samples=20)


@pytest.fixture(scope="module")
def last_day_rows(small_dataset: Dataset) -> Array:
    effective = small_dataset.events["label_effective"].all() == 1
    return np.asarray(
        timed_rows(small_dataset) & effective & (days_of(small_dataset) == small_dataset.days[1])
    )


def test_only_videos_not_shown_before_are_wanted(
    small_dataset: Dataset, last_day_rows: Array
) -> None:
    plan = plan_stretches(small_dataset, last_day_rows, View(), reach=50)
    views = wanted_views(small_dataset, plan)
    video, viewer, known = (
        small_dataset.events[name].all() for name in ("video", "viewer", "known_day")
    )
    expected = [
        row
        for row in np.flatnonzero(last_day_rows)
        if video[row] not in video[(viewer == viewer[row]) & (known < small_dataset.days[1])]
    ]
    assert sorted(views.wanted.row) == expected
    assert views.seen_before == last_day_rows.sum() - len(expected) > 0


def test_recall_counts_hits_and_shares_ties(small_dataset: Dataset, last_day_rows: Array) -> None:
    plan = plan_stretches(small_dataset, last_day_rows, View(), reach=50)
    views = wanted_views(small_dataset, plan)
    num_videos = small_dataset.videos.num_rows

    def knows(wanted: Wanted, places: Array) -> Array:
        scores = np.zeros((len(places), num_videos))
        scores[np.arange(len(places)), wanted.video[places]] = 1.0
        return scores

    def tied(_: Wanted, places: Array) -> Array:
        return np.zeros((len(places), num_videos))

    card = retrieval_card(
        small_dataset, views, {"ours": knows, "tied": tied}, at=(1, 10), settings=FEW
    )
    left = [
        num_videos - len(np.unique(views.wanted.seen(small_dataset.events["video"], place)))
        for place in range(len(views.wanted))
    ]
    assert card["at"]["1"]["ours"]["value"] == 1.0
    chance = np.mean([10 / each for each in left])
    assert card["at"]["10"]["tied"]["value"] == pytest.approx(chance)
    assert card["at"]["10"]["ahead"]["tied"]["value"] == pytest.approx(1 - chance)
    assert [row[1] for row in retrieval_rows(card)] == ["by", "ours", "tied", "ours", "tied"]


def test_popularity_is_that_of_the_view_s_own_day() -> None:
    table = np.zeros((2, 3, 2), dtype=np.float32)
    table[0, 1, 0], table[1, 2, 0] = 5.0, 7.0
    wanted = _wanted(day=np.array([100, 101]))
    found = popularity_finder(table, first_day=100)(wanted, np.array([0, 1]))
    np.testing.assert_array_equal(found, [[0, 5, 0], [0, 0, 7]])


def test_co_occurrence_is_the_share_of_viewers_who_watched_both(small_dataset: Dataset) -> None:
    events = small_dataset.events
    known = np.flatnonzero(days_of(small_dataset) < small_dataset.days[1])
    watched = np.isin(events["feedback"].all(), [4, 5, 6])
    video, viewer = events["video"].all(), events["viewer"].all()
    by_video = {
        code: set(viewer[known][watched[known] & (video[known] == code)])
        for code in range(small_dataset.videos.num_rows)
    }
    first, _ = small_dataset.viewer_rows()
    wanted = _wanted(day=np.zeros(1), first_row=first[3:4], visible=np.array([20]))
    found = co_occurrence_finder(small_dataset, known)(wanted, np.array([0]))[0]
    past = np.arange(first[3], first[3] + 20)
    expected = np.zeros(len(found))
    for one in video[past[watched[past]]]:
        for other, viewers in by_video.items():
            if other != one and by_video[one]:
                expected[other] += len(by_video[one] & viewers) / len(by_video[one])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert expected.max() > 0.5


def _wanted(*, day: Array, first_row: Array | None = None, visible: Array | None = None) -> Wanted:
    zeros = np.zeros(len(day), dtype=np.int64)
    return Wanted(
        row=zeros,
        viewer=zeros,
        video=zeros,
        day=day.astype(np.int64),
        first_row=zeros if first_row is None else first_row,
        visible=zeros if visible is None else visible,
    )
