"""One pass over a stretch scores each candidate as if it were alone, and reads no future."""

import dataclasses
from collections.abc import Callable

import ibis
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from skipwise.errors import SettingError
from skipwise.features.dataset import Dataset
from skipwise.features.stretches import Plan, plan_stretches, read_stretches
from skipwise.features.view import View
from skipwise.features.window_state import freeze_state
from skipwise.model.batch import Batch, to_batch
from tests.models import (
    LIVE,
    SHORT,
    VIEW_NAMES,
    VIEWS,
    Untrained,
    logits_of,
    stacked,
    tiny_settings,
    untrained,
)
from tests.worlds import days_of, timed_rows, with_counters, with_events, with_other_outcomes

pytestmark = pytest.mark.usefixtures("one_thread")


def assert_alone_is_the_same(model: Untrained, view: View) -> None:
    """Compare stretches with every candidate alone, on just what it may depend on."""
    together = model.predict(model.plan(view))
    alone = model.predict(model.plan(view, candidates_at_most=1), tokens_per_batch=5_000)
    np.testing.assert_array_equal(together.row, alone.row)
    np.testing.assert_allclose(stacked(together), stacked(alone), rtol=1e-5, atol=1e-5)
    assert stacked(together).std(axis=0).min() > 1e-2, "the model says different things"


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("view", VIEWS, ids=VIEW_NAMES)
def test_a_stretch_gives_what_each_impression_gives_alone(
    small_dataset: Dataset, blocks: int, view: View
) -> None:
    model = untrained(small_dataset, SHORT, f"model.encoder.blocks={blocks}")
    assert_alone_is_the_same(model, view)


@pytest.mark.parametrize("slots", [64, 3])
@pytest.mark.parametrize("view", VIEWS, ids=VIEW_NAMES)
def test_a_long_stretch_is_read_in_rows_as_it_is_in_one(
    small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch, view: View, slots: int
) -> None:
    """A stretch of up to 60 events, window 7: blocks of 4 events, rows of few candidates."""
    model = untrained(small_dataset, SHORT, "model.encoder.blocks=2")
    plan = model.plan(view)
    assert plan.num_tokens.max() > 30
    whole = stacked(model.predict(plan))
    monkeypatch.setattr("skipwise.model.band.BLOCK_AT_LEAST", 4)
    monkeypatch.setattr("skipwise.model.rows.BLOCK", 4)
    monkeypatch.setattr("skipwise.model.rows.SLOTS_AT_MOST", slots)
    in_rows = stacked(model.predict(plan))
    np.testing.assert_allclose(in_rows, whole, rtol=1e-5, atol=1e-5)
    assert not np.array_equal(in_rows, whole), "the sums are in another order"


@pytest.mark.slow
@pytest.mark.kuairand
@pytest.mark.parametrize("blocks", [1, 2])
def test_on_real_rows_a_stretch_gives_what_each_impression_gives_alone(
    real_dataset: Dataset, blocks: int
) -> None:
    model = untrained(real_dataset, SHORT, f"model.encoder.blocks={blocks}")
    for view in VIEWS:
        assert_alone_is_the_same(model, view)


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_reach_is_just_far_enough(small_dataset: Dataset, blocks: int) -> None:
    """The whole past gives nothing new; one event less than the reach gives something else."""
    model = untrained(
        small_dataset, "model.encoder.history_length=5", f"model.encoder.blocks={blocks}"
    )
    assert model.reach == 5 + blocks * 4
    selected = timed_rows(small_dataset)

    def scores(reach: int) -> NDArray[np.float64]:
        plan = plan_stretches(small_dataset, selected, LIVE, reach=reach, candidates_at_most=1)
        return stacked(model.predict(plan))

    enough = scores(model.reach)
    np.testing.assert_allclose(enough, scores(10_000), rtol=1e-5, atol=1e-5)
    assert np.abs(enough - scores(model.reach - 1)).max() > 3e-5


@pytest.mark.parametrize("view", VIEWS, ids=VIEW_NAMES)
def test_the_order_and_the_size_of_batches_are_irrelevant(
    small_dataset: Dataset, view: View
) -> None:
    model = untrained(small_dataset, SHORT)
    plan = model.plan(view, candidates_at_most=9)
    expected = stacked(model.predict(plan))
    for tokens_per_batch in (1, 700):
        again = stacked(model.predict(plan, tokens_per_batch=tokens_per_batch))
        np.testing.assert_allclose(again, expected, rtol=1e-5, atol=1e-5)
    order = np.random.default_rng(0).permutation(len(plan))
    shuffled = logits_by_row(model, plan, order)
    np.testing.assert_allclose(shuffled, expected[:, :-1], rtol=1e-5, atol=1e-5)


def logits_by_row(model: Untrained, plan: Plan, order: NDArray[np.int64]) -> NDArray[np.float64]:
    batch = to_batch(read_stretches(model.dataset, plan, order), model.catalogue)
    by_row = np.argsort(batch.row)
    return logits_of(model, batch).double().numpy()[by_row]


def test_padding_is_inert(small_dataset: Dataset) -> None:
    """Whatever stands there, and however much of it."""
    model = untrained(small_dataset, "model.encoder.blocks=2")
    batch = model.batch(LIVE)
    padding = ~batch.token_valid
    assert padding.any()
    garbled = dataclasses.replace(
        batch,
        token_video=batch.token_video.masked_fill(padding, 3),
        feedback=batch.feedback.masked_fill(padding, 7),
        watch_share=batch.watch_share.masked_fill(padding, 5),
        token_time_s=batch.token_time_s.masked_fill(padding, 1e9),
        token_context=dataclasses.replace(
            batch.token_context,
            gap=batch.token_context.gap.masked_fill(padding, 9),
            run=batch.token_context.run.masked_fill(padding, 7),
        ),
    )
    expected = logits_of(model, batch)
    torch.testing.assert_close(logits_of(model, garbled), expected, rtol=0, atol=0)
    torch.testing.assert_close(logits_of(model, lengthened(batch, 5)), expected)
    seen = dataclasses.replace(batch, feedback=batch.feedback.masked_fill(~padding, 7))
    assert not torch.allclose(logits_of(model, seen), expected)


def lengthened(batch: Batch, more: int) -> Batch:
    """Add columns of padding."""

    def longer(values_BT: Tensor) -> Tensor:
        added = values_BT.new_zeros(len(values_BT), more)
        return torch.cat([values_BT, added], 1)

    context = batch.token_context
    names = [each.name for each in dataclasses.fields(context)]
    return dataclasses.replace(
        batch,
        token_video=longer(batch.token_video),
        token_valid=longer(batch.token_valid),
        feedback=longer(batch.feedback),
        watch_share=longer(batch.watch_share),
        token_time_s=longer(batch.token_time_s),
        token_context=dataclasses.replace(
            context, **{name: longer(getattr(context, name)) for name in names}
        ),
    )


def test_a_candidate_depends_on_nobody_else_in_the_batch(small_dataset: Dataset) -> None:
    model = untrained(small_dataset)
    everyone = model.predict(model.plan(View()))
    some = timed_rows(small_dataset) & (small_dataset.events["viewer"].all() % 7 == 2)
    few = model.predict(model.plan(View(), some))
    here = np.isin(everyone.row, few.row)
    np.testing.assert_allclose(stacked(few), stacked(everyone)[here], rtol=1e-5, atol=1e-5)


def reads_any_of(dataset: Dataset, view: View, edited: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Say of each timed row whether its view may know the outcome of an edited event, (N,).

    Straight from the columns, one row at a time: what the model's own masks are judged by.
    """
    columns = {
        name: dataset.events[name].all()
        for name in ("viewer", "known_day", "day", "known_at_ms", "requested_at_ms")
    }
    answers = []
    for row in np.flatnonzero(timed_rows(dataset)):
        mine = columns["viewer"] == columns["viewer"][row]
        if view.mode == "daily":
            known = columns["known_day"] < columns["day"][row]
        else:
            arrives = columns["known_at_ms"] + view.extra_delay_ms * (columns["day"] >= 0)
            known = arrives <= columns["requested_at_ms"][row]
        answers.append(bool((mine & known & edited).any()))
    return np.array(answers)


def assert_the_future_cannot_change_the_past(
    model: Untrained, view: View, edited: NDArray[np.bool_]
) -> None:
    """Edit outcomes: whoever may not know them is scored as before, bit for bit; others are not."""
    dataset = model.dataset
    plan = model.plan(view)
    before = stacked(model.predict(plan))
    after = stacked(model.predict(plan, with_other_outcomes(dataset, edited)))
    sees = reads_any_of(dataset, view, edited)
    np.testing.assert_array_equal(before[~sees], after[~sees])
    assert (np.abs(after - before)[sees].max(axis=1) > 0).mean() > 0.95


@pytest.mark.parametrize("view", VIEWS, ids=VIEW_NAMES)
@pytest.mark.parametrize("relation", ["curve", "messages"])
def test_the_future_cannot_change_the_past(
    small_dataset: Dataset, view: View, relation: str
) -> None:
    model = untrained(
        small_dataset, "model.encoder.blocks=2", f"model.objectives.relation={relation}"
    )
    late = days_of(small_dataset) >= small_dataset.days[1] - 1
    assert_the_future_cannot_change_the_past(model, view, late)


def test_outcomes_of_the_same_day_are_invisible_in_daily_mode_and_seen_live(
    small_dataset: Dataset,
) -> None:
    model = untrained(small_dataset)
    last_day = days_of(small_dataset) == small_dataset.days[1]
    assert not reads_any_of(small_dataset, View(), last_day).any()
    assert reads_any_of(small_dataset, LIVE, last_day).any()
    edited = with_other_outcomes(small_dataset, last_day)
    daily, live = model.plan(View(), last_day), model.plan(LIVE, last_day)
    np.testing.assert_array_equal(
        stacked(model.predict(daily)), stacked(model.predict(daily, edited))
    )
    assert not np.array_equal(stacked(model.predict(live)), stacked(model.predict(live, edited)))


def test_when_an_outcome_became_known_decides_who_reads_it(small_dataset: Dataset) -> None:
    """An outcome that comes two days late is read two days later, and by nobody in between."""
    events = small_dataset.events
    first, number = small_dataset.viewer_rows()
    busiest = int(np.argmax(number))
    late_row = int(first[busiest]) + 5
    late = np.arange(small_dataset.num_events) == late_row
    delayed = with_events(
        small_dataset,
        known_at_ms=lambda values: values + late * 2 * 86_400_000,
        known_day=lambda values: values + late * 2,
    )
    usable_from = int(delayed.events["known_at_ms"].all()[late_row])
    asked = events["requested_at_ms"].all()
    mine = events["viewer"].all() == busiest
    waiting = mine & (asked >= events["known_at_ms"].all()[late_row]) & (asked < usable_from)
    assert waiting.sum() > 3
    model = untrained(small_dataset)
    on_time, too_late = (
        dataclasses.replace(model, dataset=dataset) for dataset in (small_dataset, delayed)
    )
    plans = [each.plan(LIVE) for each in (on_time, too_late)]
    before, after = (
        stacked(each.predict(plan)) for each, plan in zip((on_time, too_late), plans, strict=True)
    )
    changed = (before != after).any(axis=1)
    timed = np.flatnonzero(timed_rows(small_dataset))
    assert changed[waiting[timed]].all()
    np.testing.assert_allclose(
        before[~waiting[timed]], after[~waiting[timed]], rtol=1e-5, atol=1e-5
    )
    edited = with_other_outcomes(delayed, late)
    hidden = stacked(too_late.predict(plans[1], edited))
    np.testing.assert_array_equal(hidden[waiting[timed]], after[waiting[timed]])
    assert (
        hidden[(mine & (asked >= usable_from))[timed]]
        != after[(mine & (asked >= usable_from))[timed]]
    ).any()


@pytest.mark.parametrize(
    ("view", "name"), [(View(), "daily_prefix"), (LIVE, "live_prefix")], ids=["daily", "live"]
)
def test_a_planted_leak_is_caught(
    small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch, view: View, name: str
) -> None:
    """Let every candidate read itself: the invariant above fails."""

    def leaking(*columns: NDArray[np.int64]) -> NDArray[np.int64]:
        return columns[-1] + 1  # its own place among its viewer's events, and itself

    model = untrained(small_dataset)
    late = days_of(small_dataset) >= small_dataset.days[1] - 1
    assert_the_future_cannot_change_the_past(model, view, late)
    monkeypatch.setattr(f"skipwise.features.view.{name}", leaking)
    with pytest.raises(AssertionError, match="Arrays are not equal"):
        assert_the_future_cannot_change_the_past(model, view, late)


@pytest.mark.slow
def test_a_window_is_blind_to_the_outcomes_of_the_days_it_reports(
    small_dataset: Dataset, edited_dataset: Dataset
) -> None:
    """Two logs that differ in the outcomes of the last two days, each prepared from scratch."""
    until = small_dataset.days[1] - 2
    reported = timed_rows(small_dataset) & (days_of(small_dataset) > until)
    model = untrained(small_dataset)
    frozen, daily = [], []
    for dataset in (small_dataset, edited_dataset):
        its = dataclasses.replace(model, dataset=dataset)
        rows = np.flatnonzero(reported)
        connection = ibis.duckdb.connect(threads=1)
        state = freeze_state(dataset, rows, until, connection)
        window = View(mode="window", window_last_day=until)
        frozen.append(stacked(its.predict(its.plan(window, reported), state)))
        daily.append(stacked(its.predict(its.plan(View(), reported))))
        connection.disconnect()
    np.testing.assert_array_equal(frozen[0], frozen[1])
    second_day = (days_of(small_dataset) > until + 1)[reported]
    assert (daily[0] != daily[1]).any(axis=1)[second_day].mean() > 0.9
    np.testing.assert_array_equal(daily[0][~second_day], daily[1][~second_day])


def test_counters_are_read_unless_told_otherwise(small_dataset: Dataset) -> None:
    doubled = with_counters(small_dataset, lambda values: values * 2)
    for word, reads in (("true", True), ("false", False)):
        model = untrained(small_dataset, f"model.inputs.use_counters={word}")
        plan = model.plan(View())
        same = np.array_equal(stacked(model.predict(plan)), stacked(model.predict(plan, doubled)))
        assert same is not reads


@pytest.mark.parametrize(
    ("word", "edit"),
    [
        ("use_feedback", lambda batch: dataclasses.replace(batch, feedback=batch.feedback * 0 + 2)),
        (
            "use_context",
            lambda batch: dataclasses.replace(
                batch,
                candidate_context=dataclasses.replace(
                    batch.candidate_context, hour=batch.candidate_context.hour * 0
                ),
            ),
        ),
    ],
)
def test_what_is_switched_off_is_not_read(
    small_dataset: Dataset, word: str, edit: Callable[[Batch], Batch]
) -> None:
    for value, reads in (("true", True), ("false", False)):
        model = untrained(small_dataset, f"model.inputs.{word}={value}")
        batch = model.batch(LIVE)
        same = torch.equal(logits_of(model, batch), logits_of(model, edit(batch)))
        assert same is not reads


def test_a_candidate_asks_twice_or_once(small_dataset: Dataset) -> None:
    twice = untrained(small_dataset)
    once = untrained(small_dataset, "model.encoder.two_queries=false")
    for model, expected in ((twice, False), (once, True)):
        batch = model.batch(LIVE)
        with torch.no_grad():
            inputs = model.model.inputs(batch)
            history = model.model.encode(batch, inputs)
            read_QMD, attention = model.model.attend(batch, inputs, history)
        assert len(read_QMD) == 2 - expected
        assert torch.equal(read_QMD[0], read_QMD[-1]) is expected
        torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:-1]))


def test_a_width_the_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(SettingError, match=r"width = 18 is not a multiple of .*heads = 4"):
        tiny_settings("model.width=18", "model.encoder.heads=4")
