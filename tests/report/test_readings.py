"""What the model says of a sample: attention beside a uniform one, curves beside predictions."""

from pathlib import Path

import numpy as np
import pytest
import torch

from skipwise.features.dataset import Dataset
from skipwise.features.stretches import plan_stretches
from skipwise.features.view import View
from skipwise.labels.feedback import Feedback
from skipwise.model.predict import predict_rows
from skipwise.model.reader import CandidateReader
from skipwise.report.attention_section import attention_ratio, pair_bias
from skipwise.report.examples import example_rows
from skipwise.report.findings import Findings, gather
from skipwise.report.readings import Readings, rows_of, sample, span_of, take_readings

AT_S = np.array([1.0, 3.0, 10.0])


@pytest.fixture
def findings(run: Path) -> Findings:
    return gather(run)


def read(findings: Findings, dataset: Dataset) -> Readings:
    rows = rows_of(dataset, span_of(findings, dataset))
    return take_readings(findings, dataset, rows, AT_S)


def look_evenly(findings: Findings) -> None:
    """Make every logit of the reading zero, whatever the candidate and the event."""
    kept = ("key_value", "output", "norm", "no_past")
    with torch.no_grad():
        for name, parameter in findings.run.model.reader.named_parameters():
            if not name.startswith(kept):
                parameter.zero_()


def test_attention_adds_up_to_one_per_candidate(findings: Findings, small_dataset: Dataset) -> None:
    attention = read(findings, small_dataset).attention
    assert attention.num_candidates > 50
    total = attention.by_state.sum(1) + attention.no_past
    np.testing.assert_allclose(total, attention.num_candidates, rtol=1e-6)
    assert attention.in_view.sum() == pytest.approx(attention.num_candidates)
    assert attention.by_state[:, Feedback.PAD].tolist() == [0.0, 0.0]


def test_even_attention_is_as_much_as_the_number_of_events(
    findings: Findings, small_dataset: Dataset
) -> None:
    """All logits zero: each of n visible events and "no past" gets 1 / (n + 1)."""
    look_evenly(findings)
    attention = read(findings, small_dataset).attention
    seen = attention.num_events > 100
    assert seen.sum() >= 3
    np.testing.assert_allclose(attention_ratio(attention)[:, seen], 1.0, atol=0.05)


def test_a_planted_look_at_skips_is_found(findings: Findings, small_dataset: Dataset) -> None:
    look_evenly(findings)
    reader = findings.run.model.reader
    assert isinstance(reader, CandidateReader)
    with torch.no_grad():
        reader.group[:, 1] = 2.0  # the group of glances and explicit negatives
    ratio = attention_ratio(read(findings, small_dataset).attention)
    assert (ratio[:, Feedback.GLANCE] > 1.2).all()
    assert (ratio[:, Feedback.LONG] < 0.8).all()


def test_a_curve_is_the_predictions_curve(findings: Findings, small_dataset: Dataset) -> None:
    """Where objectives are cuts of it, P(glance) = 1 - S(3 s) for videos longer than that."""
    findings.run.model.predictor.relation = "curve"
    curves = read(findings, small_dataset).curves
    assert curves is not None
    selected = np.zeros(small_dataset.num_events, dtype=bool)
    selected[curves.row] = True
    plan = plan_stretches(
        small_dataset, selected, View(), reach=findings.run.settings.model.encoder.reach
    )
    run = findings.run
    predicted = predict_rows(run.model, run.catalogue(small_dataset), small_dataset, plan)
    longer = small_dataset.events["duration_s"].take(curves.row) > 3.0
    assert longer.sum() > 50
    np.testing.assert_allclose(
        1 - curves.survival[longer, 1], predicted.probabilities()["glance"][longer], atol=1e-5
    )
    np.testing.assert_array_equal(
        curves.watch_s, small_dataset.events["watch_s"].take(curves.row).astype(np.float64)
    )


def test_curves_never_rise(findings: Findings, small_dataset: Dataset) -> None:
    curves = read(findings, small_dataset).curves
    assert curves is not None
    assert (np.diff(curves.survival, axis=1) <= 0).all()


def test_examples_follow_their_rule_and_not_the_outcome(small_dataset: Dataset) -> None:
    """Viewers at 1/4, 1/2, 3/4 of those with a past; of each the first and last event."""
    last = small_dataset.days[1]
    day = small_dataset.events["day"].all()
    rows = np.flatnonzero(day == last)
    chosen = example_rows(small_dataset, rows)
    viewer = small_dataset.events["viewer"].all()
    first, _ = small_dataset.viewer_rows()
    eligible: dict[int, list[int]] = {}
    for row in rows.tolist():
        with_past = small_dataset.events["known_day"].all()[first[viewer[row]]] < last
        known = all(
            not np.isnan(small_dataset.events[name].all()[row])
            for name in ("watch_s", "duration_s", "effective_above_s")
        )
        if with_past and known:
            eligible.setdefault(int(viewer[row]), []).append(row)
    names = sorted(eligible)
    expected = {
        eligible[names[len(names) * part // 4]][end] for part in (1, 2, 3) for end in (0, -1)
    }
    assert chosen.tolist() == sorted(expected)


def test_a_viewer_without_a_past_is_no_example(small_dataset: Dataset) -> None:
    """Events of each viewer's own first day, when nothing of theirs was known yet."""
    first, _ = small_dataset.viewer_rows()
    day = small_dataset.events["day"].all()
    viewer = small_dataset.events["viewer"].all()
    own_first = np.flatnonzero(day == day[first[viewer]])
    judged = ~np.isnan(small_dataset.events["effective_above_s"].take(own_first))
    assert judged.sum() > 3
    assert not len(example_rows(small_dataset, own_first))


def test_a_sample_keeps_the_ends_and_never_grows() -> None:
    rows = np.arange(100, 200)
    assert sample(rows, 200) is rows
    assert sample(rows, 3).tolist() == [100, 149, 199]


def test_a_constant_added_to_a_row_of_pair_biases_changes_nothing() -> None:
    pair = torch.randn(3, 3, 2, generator=torch.Generator().manual_seed(0))
    lifted = pair + torch.tensor([1.0, -2.0, 5.0])[:, None, None]
    np.testing.assert_allclose(pair_bias(lifted), pair_bias(pair), atol=1e-6)
    assert not np.allclose(pair_bias(pair * 2), pair_bias(pair))
