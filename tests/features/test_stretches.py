"""Stretches hold what each candidate may read, far enough back, and nothing of the future."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from skipwise.errors import SettingError
from skipwise.features.dataset import Dataset
from skipwise.features.stretches import (
    NUM_PLACES,
    Context,
    Plan,
    Stretches,
    batches_by_size,
    plan_stretches,
    read_stretches,
)
from skipwise.features.view import View, Views
from skipwise.training.views import draw_views
from tests.models import LATE, LIVE, VIEW_NAMES, VIEWS
from tests.worlds import days_of, timed_rows, with_events, with_other_outcomes


def everything(plan: Plan) -> NDArray[np.int64]:
    return np.arange(len(plan))


def visible_counts(dataset: Dataset, view: View) -> NDArray[np.int64]:
    """Count, by a plain loop over the columns, what each event may read as a candidate, (E,)."""
    columns = {
        name: dataset.events[name].all()
        for name in ("viewer", "known_day", "day", "known_at_ms", "requested_at_ms")
    }
    counts = np.zeros(dataset.num_events, dtype=np.int64)
    first, number = dataset.viewer_rows()
    for start, length in zip(first, number, strict=True):
        for row in range(start, start + length):
            for earlier in range(start, row):
                if view.mode == "daily":
                    known = columns["known_day"][earlier] < columns["day"][row]
                else:
                    late = view.extra_delay_ms if columns["requested_at_ms"][earlier] >= 0 else 0
                    known = (
                        columns["known_at_ms"][earlier] + late <= columns["requested_at_ms"][row]
                    )
                if not known:
                    break
                counts[row] += 1
    return counts


@pytest.mark.parametrize("view", VIEWS, ids=VIEW_NAMES)
@pytest.mark.parametrize("candidates_at_most", [1, 7, 1000])
def test_every_selected_row_reads_its_own_past(
    small_dataset: Dataset, view: View, candidates_at_most: int
) -> None:
    """Each row once, in order, with the prefix that a plain loop counts."""
    selected = timed_rows(small_dataset) & (days_of(small_dataset) > small_dataset.days[0])
    plan = plan_stretches(
        small_dataset, selected, view, reach=10, candidates_at_most=candidates_at_most
    )
    np.testing.assert_array_equal(plan.candidate_rows, np.flatnonzero(selected))
    assert plan.num_candidates.min() >= 1
    assert plan.num_candidates.max() <= candidates_at_most
    stretch = np.repeat(everything(plan), plan.num_candidates)
    visible = plan.start[stretch] + plan.candidate_prefix
    np.testing.assert_array_equal(visible, visible_counts(small_dataset, view)[selected])
    assert visible.max() > 10


def test_a_stretch_reaches_as_far_back_as_its_first_candidate_needs(small_dataset: Dataset) -> None:
    selected = timed_rows(small_dataset)
    for reach in (1, 5, 10_000):
        plan = plan_stretches(small_dataset, selected, LIVE, reach=reach, candidates_at_most=4)
        for place in everything(plan):
            span = slice(*plan.candidate_offsets[place : place + 2])
            prefix = plan.candidate_prefix[span]
            assert prefix.min() == min(reach, prefix.min() + plan.start[place])
            assert plan.num_tokens[place] == prefix.max()


def test_views_are_taken_viewer_by_viewer(small_dataset: Dataset) -> None:
    selected = timed_rows(small_dataset)
    viewers = np.unique(small_dataset.events["viewer"].all())
    delay_ms = np.where(viewers % 4 == 0, LATE.extra_delay_ms, 0)
    views = Views(live=viewers % 2 == 0, extra_delay_ms=delay_ms)
    plan = plan_stretches(small_dataset, selected, views, reach=50)
    np.testing.assert_array_equal(plan.views.live, plan.viewer % 2 == 0)
    np.testing.assert_array_equal(plan.views.live_counters, plan.viewer % 4 == 2)
    stretch = np.repeat(everything(plan), plan.num_candidates)
    visible = plan.start[stretch] + plan.candidate_prefix
    kinds = plan.viewer[stretch] % 4
    expected = np.select(
        [kinds % 2 == 1, kinds == 2],
        [visible_counts(small_dataset, view)[selected] for view in (View(), LIVE)],
        visible_counts(small_dataset, LATE)[selected],
    )
    np.testing.assert_array_equal(visible, expected)


@pytest.mark.parametrize("rows_at_once", [1, 30, 200])
def test_viewers_are_planned_in_blocks_as_they_are_at_once(
    small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch, rows_at_once: int
) -> None:
    selected = timed_rows(small_dataset) & (np.arange(small_dataset.num_events) % 3 == 0)
    views = draw_views(len(small_dataset.viewers), 0.4, np.random.default_rng(0))
    whole = plan_stretches(small_dataset, selected, views, reach=4, candidates_at_most=3)
    monkeypatch.setattr("skipwise.features.stretches.EVENTS_TOGETHER", rows_at_once)
    parts = plan_stretches(small_dataset, selected, views, reach=4, candidates_at_most=3)
    for name in ("viewer", "first_row", "start", "num_tokens", "candidate_prefix"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


def test_a_window_needs_its_last_day_and_nothing_else_has_one() -> None:
    columns = {"known_day": np.array([7, 7, 8]), "day": np.array([7, 9, 9])}
    window = Views.same(View(mode="window", window_last_day=7), 3)
    assert window.prefix(columns, np.arange(3)).tolist() == [0, 1, 2]
    with pytest.raises(SettingError, match="window_last_day"):
        View(mode="window")
    with pytest.raises(SettingError, match="window_last_day"):
        View(mode="progressive", window_last_day=7)


def test_no_selected_row_makes_no_stretch(small_dataset: Dataset) -> None:
    nothing = np.zeros(small_dataset.num_events, dtype=bool)
    plan = plan_stretches(small_dataset, nothing, View(), reach=5)
    assert len(plan) == 0
    assert list(batches_by_size(plan, everything(plan), 100)) == []
    assert len(read_stretches(small_dataset, plan, everything(plan)).row) == 0


def test_batches_hold_every_stretch_once_within_bounds_and_those_cut_off_apart(
    small_dataset: Dataset,
) -> None:
    selected = timed_rows(small_dataset)
    plan = plan_stretches(small_dataset, selected, LIVE, reach=4, candidates_at_most=6)
    order = np.random.default_rng(0).permutation(len(plan))
    packed = list(batches_by_size(plan, order, 120))
    assert sorted(np.concatenate(packed).tolist()) == list(range(len(plan)))
    cost = plan.num_tokens + plan.num_candidates + 1
    assert all(len(each) == 1 or len(each) * cost[each].max() <= 120 for each in packed)
    kinds = [set((plan.start[each] > 0).tolist()) for each in packed]
    assert sorted(map(len, kinds))[-1] == 1
    assert set.union(*kinds) == {True, False}


@pytest.mark.kuairand
def test_batches_of_real_viewers_are_padded_by_less_than_a_tenth(real_dataset: Dataset) -> None:
    """Of some thousand; of the 300 here alone it is 22 %, so each is taken sixteen times."""
    few = plan_stretches(real_dataset, timed_rows(real_dataset), View(), reach=199)
    plan = dataclasses.replace(
        few,
        viewer=np.tile(few.viewer, 16),
        start=np.tile(few.start, 16),
        num_tokens=np.tile(few.num_tokens, 16),
        candidate_offsets=np.append(0, np.cumsum(np.tile(few.num_candidates, 16))),
    )
    order = np.random.default_rng(0).permutation(len(plan))

    def padding(batches: list[NDArray[np.int64]]) -> float:
        laid_out = sum(len(each) * int(plan.num_tokens[each].max()) for each in batches)
        return 1 - float(plan.num_tokens.sum()) / laid_out

    packed = list(batches_by_size(plan, order, 3000))
    assert padding(packed) < 0.1
    assert padding(np.array_split(order, len(packed))) > 0.25, "unsorted it is far more"


def test_padding_stands_at_the_end_and_says_nothing(small_dataset: Dataset) -> None:
    plan = plan_stretches(small_dataset, timed_rows(small_dataset), LIVE, reach=20)
    batch = read_stretches(small_dataset, plan, everything(plan))
    valid = np.arange(batch.video.shape[1]) < plan.num_tokens[:, None]
    assert valid.any()
    assert not valid.all()
    np.testing.assert_array_equal(batch.video >= 0, valid)
    for values in (batch.feedback, batch.watch_share, *dataclasses.astuple(batch.context)):
        assert (values[~valid] == 0).all()
    assert np.isnan(batch.time_s[~valid]).all()
    assert (batch.feedback[valid] > 0).all()


def test_events_and_candidates_are_those_of_the_rows(small_dataset: Dataset) -> None:
    """Token by token, against the columns."""
    plan = plan_stretches(small_dataset, timed_rows(small_dataset), LIVE, reach=3)
    chosen = everything(plan)[::-2]
    batch = read_stretches(small_dataset, plan, chosen)
    events = {name: column.all() for name, column in small_dataset.events.items()}
    for place, stretch in enumerate(chosen):
        rows = plan.first_row[stretch] + plan.start[stretch] + np.arange(plan.num_tokens[stretch])
        assert (events["viewer"][rows] == batch.viewer[place]).all()
        span = slice(0, len(rows))
        np.testing.assert_array_equal(batch.video[place, span], events["video"][rows])
        np.testing.assert_array_equal(batch.feedback[place, span], events["feedback"][rows])
        np.testing.assert_allclose(batch.time_s[place, span], events["shown_at_ms"][rows] / 1000)
        span = slice(*plan.candidate_offsets[stretch : stretch + 2])
        mine = batch.stretch == place
        np.testing.assert_array_equal(batch.row[mine], plan.candidate_rows[span])
    np.testing.assert_array_equal(batch.candidate_video, events["video"][batch.row])
    np.testing.assert_array_equal(batch.targets["label_glance"], events["label_glance"][batch.row])
    np.testing.assert_array_equal(batch.day, events["day"][batch.row])


def test_a_candidate_has_the_counters_of_its_view(small_dataset: Dataset) -> None:
    selected = timed_rows(small_dataset)
    forms = []
    for view in (View(), LIVE):
        plan = plan_stretches(small_dataset, selected, view, reach=1)
        forms.append(read_stretches(small_dataset, plan, everything(plan)).counters)
    counter_row = small_dataset.events["counter_row"].take(np.flatnonzero(selected))
    np.testing.assert_array_equal(forms[0], small_dataset.counters_day.take(counter_row))
    np.testing.assert_array_equal(forms[1], small_dataset.counters_event.take(counter_row))
    assert (forms[0] != forms[1]).any()


A_SECOND_APART: Mapping[str, list[float]] = {
    "shown_at_ms": [1000, 2000, 3000, 4000],
    "requested_at_ms": [1000, 2000, 3000, 4000],
    "known_at_ms": [1001, 2001, 3001, 4001],
}
"""Columns of `one_viewer`."""


def one_viewer(dataset: Dataset, view: View, **columns: list[float]) -> Stretches:
    """Read the first four events of the first viewer, with these columns instead of theirs."""
    rows = np.arange(dataset.num_events) < 4

    def replaced(values: list[float]) -> NDArray[np.float64]:
        return np.array([*values, *[0] * (dataset.num_events - 4)])

    edited = with_events(
        dataset,
        **{name: lambda _, values=values: replaced(values) for name, values in columns.items()},
    )
    plan = plan_stretches(edited, rows, view, reach=100)
    return read_stretches(edited, plan, everything(plan))


def test_the_context_of_a_request_is_worked_by_hand(small_dataset: Dataset) -> None:
    """Four events: two in a session, a third an hour later, a fourth in the third's slate."""
    hour_s = 3600.0
    shown_s = [1000.0, 1007.0, 1007.0 + hour_s, 1017.0 + hour_s]
    batch = one_viewer(
        small_dataset,
        LIVE,
        shown_at_ms=[1000 * second for second in shown_s],
        requested_at_ms=[1_000_000, 1_007_000, 1_007_000 + 3_600_000, 1_007_000 + 3_600_000],
        known_at_ms=[1_002_000, 1_009_000, 1_009_000 + 3_600_000, 1_019_000 + 3_600_000],
        session_place=[0, 1, 0, 1],
        glance_run=[1, 2, 0, 1],
        hour=[0, 23, 5, 5],
    )
    assert batch.prefix.tolist() == [0, 1, 2, 2]
    context = batch.candidate_context
    # gap bucket = 1 + floor(log2(1 + seconds since the last visible event was shown)), 0 = none
    assert context.gap.tolist() == [0, 1 + 3, 1 + 11, 1 + 11]
    # place = that of the last visible event + 1, if it was in the same session (1800 s)
    assert context.place.tolist() == [0, 1, 0, 0]
    assert context.run.tolist() == [0, 1, 0, 0]
    assert context.hour.tolist() == [1, 24, 6, 6]
    # the two events that were read: each has the context its own request saw
    assert batch.context.gap.tolist() == [[0, 1 + 3]]
    assert batch.context.place.tolist() == [[0, 1]]
    assert batch.context.run.tolist() == [[0, 1]]
    assert batch.candidate_time_s.tolist() == [1000, 1007, 1007 + hour_s, 1007 + hour_s]


def test_what_is_long_falls_in_the_last_bucket(small_dataset: Dataset) -> None:
    batch = one_viewer(
        small_dataset,
        LIVE,
        **A_SECOND_APART,
        session_place=[500, 501, 502, 503],
        glance_run=[500, 501, 502, 503],
        hour=[1, 1, 1, 1],
    )
    assert batch.candidate_context.place.tolist() == [0, *[NUM_PLACES - 1] * 3]
    assert batch.candidate_context.run.tolist() == [0, 7, 7, 7]


def test_the_watched_share_is_a_bucket_of_w_over_d(small_dataset: Dataset) -> None:
    """0/10 = 0, 5/10 = .5 and 30/10 = 3; a NaN is unknown."""
    batch = one_viewer(
        small_dataset,
        LIVE,
        **A_SECOND_APART,
        watch_s=[0.0, 5.0, np.nan, 30.0],
        duration_s=[10.0, 10.0, 10.0, 10.0],
    )
    # edges 0, .05, .1, .2, .35, .5: a share of .5 starts the sixth bucket
    assert batch.watch_share.tolist() == [[1, 6, 0]]
    batch = one_viewer(
        small_dataset,
        LIVE,
        **A_SECOND_APART,
        watch_s=[30.0, 5.0, 1.0, 0.0],
        duration_s=[10.0, np.nan, 1.0, 1.0],
    )
    assert batch.watch_share.tolist() == [[13, 0, 9]]


@pytest.mark.parametrize("view", VIEWS, ids=VIEW_NAMES)
def test_the_future_cannot_change_the_past(small_dataset: Dataset, view: View) -> None:
    """Outcomes of the last two days change no input of a request that may not know them."""
    late = days_of(small_dataset) >= small_dataset.days[1] - 1
    edited = with_other_outcomes(small_dataset, late)
    plan = plan_stretches(small_dataset, timed_rows(small_dataset), view, reach=1000)
    first, after = (
        read_stretches(dataset, plan, everything(plan)) for dataset in (small_dataset, edited)
    )
    visible = visible_counts(small_dataset, view)[first.row]
    start = small_dataset.viewer_rows()[0][first.viewer[first.stretch]]
    sees = np.array(
        [late[begin : begin + count].any() for begin, count in zip(start, visible, strict=True)]
    )
    assert sees.any()
    assert not sees.all()
    for name in ("run", "place", "gap", "surface", "hour"):
        before, now = (getattr(each.candidate_context, name) for each in (first, after))
        np.testing.assert_array_equal(before[~sees], now[~sees])
    if view == LIVE:  # the others see nothing of the session that is going on
        assert (first.candidate_context.run[sees] != after.candidate_context.run[sees]).any()
    assert (first.feedback != after.feedback).any()
    for row in np.flatnonzero(~sees):
        span = slice(0, first.prefix[row])
        for one, other in zip(tokens(first), tokens(after), strict=True):
            np.testing.assert_array_equal(
                one[first.stretch[row], span], other[first.stretch[row], span]
            )


def tokens(batch: Stretches) -> list[NDArray[np.int64]]:
    context: Context = batch.context
    return [batch.video, batch.feedback, batch.watch_share, context.run, context.gap, context.place]


@pytest.mark.parametrize("tokens_at_most", [1, 100, 1500, 10**7])
def test_batches_hold_every_stretch_once_and_keep_their_bound(
    small_dataset: Dataset, tokens_at_most: int
) -> None:
    plan = plan_stretches(
        small_dataset, timed_rows(small_dataset), LIVE, reach=9, candidates_at_most=5
    )
    order = np.random.default_rng(0).permutation(len(plan))
    batches = list(batches_by_size(plan, order, tokens_at_most))
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), everything(plan))
    cost = plan.num_tokens + plan.num_candidates + 1
    for batch in batches:
        assert len(batch) == 1 or len(batch) * cost[batch].max() <= tokens_at_most
    assert (len(batches) == len(plan)) == (tokens_at_most == 1)
