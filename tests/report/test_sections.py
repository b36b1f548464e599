"""Counts, verdicts, presets and names of the sections, against plain loops and by hand."""

import numpy as np
import pytest

from skipwise.features.dataset import Dataset
from skipwise.labels.grid import GRID_S
from skipwise.labels.watch import LabelConfig
from skipwise.report import data_section
from skipwise.report.cells import compared_cell, difference_words, figure_cell, verdict
from skipwise.report.data_section import glances_by_surface, watch_counts
from skipwise.report.names import part_name, plain
from skipwise.report.slate_section import outcome_name
from skipwise.report.training_section import nearest_preset
from skipwise.settings import apply_settings, settings_to_dict
from skipwise.training.settings import preset


def test_watch_times_are_counted_as_a_plain_loop_does(
    small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pieces of 100 rows, too."""
    watch_s = small_dataset.events["watch_s"].all()
    expected = [0] * len(GRID_S)
    for watched in watch_s[~np.isnan(watch_s)].astype(float):
        expected[max(bin_ for bin_, left in enumerate(GRID_S) if left <= watched)] += 1
    assert watch_counts(small_dataset).tolist() == expected
    monkeypatch.setattr(data_section, "_ROWS_AT_ONCE", 100)
    assert watch_counts(small_dataset).tolist() == expected


def test_glances_are_counted_by_surface(small_dataset: Dataset) -> None:
    names = ["unknown", *small_dataset.description["surfaces"]]
    surface = small_dataset.events["surface"].all()
    glance = small_dataset.events["label_glance"].all()
    found = glances_by_surface(small_dataset)
    assert sum(judged for _, judged, _ in found) == (glance >= 0).sum()
    assert [judged for _, judged, _ in found] == sorted((j for _, j, _ in found), reverse=True)
    for name, judged, glances in found:
        here = surface == names.index(name)
        assert judged == (here & (glance >= 0)).sum()
        assert glances == (here & (glance == 1)).sum()


@pytest.mark.parametrize(
    ("metric", "low", "high", "said"),
    [
        ("auc", 0.01, 0.03, "ahead"),
        ("auc", -0.03, -0.01, "behind"),
        ("auc", -0.01, 0.01, "unclear"),
        ("auc", 0.0, 0.02, "unclear"),
        ("log_loss", 0.01, 0.03, "behind"),
        ("log_loss", -0.03, -0.01, "ahead"),
        ("ece", None, None, "unknown"),
    ],
)
def test_ahead_is_said_only_when_clear_of_zero_on_the_good_side(
    metric: str, low: float | None, high: float | None, said: str
) -> None:
    assert verdict(metric, {"value": 0.02, "low": low, "high": high}) == said


def test_a_verdict_is_a_mark_and_words_not_colour_alone() -> None:
    difference = {"value": 0.0213, "low": 0.01, "high": 0.03}
    assert difference_words("log_loss", difference) == "▼ ours behind by 0.021 (0.010 to 0.030)"
    cell = compared_cell("log_loss", {"value": 0.5, "low": 0.4, "high": 0.6}, difference)
    assert cell.below == "0.400 to 0.600\n▼ ours behind by 0.021 (0.010 to 0.030)"
    assert cell.tone == "bad"
    assert compared_cell("auc", None, None).text == "–"  # noqa: RUF001


def test_what_is_unknown_is_a_dash_never_a_number() -> None:
    assert figure_cell(None).text == "–"  # noqa: RUF001
    alone = figure_cell({"value": -0.5, "low": None, "high": None}, 1)
    assert (alone.text, alone.below) == ("−0.5", "")  # noqa: RUF001


def test_the_nearest_preset_is_the_one_that_differs_least() -> None:
    assert nearest_preset(settings_to_dict(preset("base"))) == ("base", {})
    changed = apply_settings(preset("base"), {"seed": 7, "model": {"encoder": {"blocks": 2}}})
    name, differences = nearest_preset(settings_to_dict(changed))
    assert name == "base"
    assert differences == {"seed": (7, 0), "model.encoder.blocks": (2, 1)}


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("0", "length unknown"),
        ("1", "length under 12 s"),
        ("2", "length 12 to 18 s"),
        ("10", "length 300 s and more"),
        ("11", "length unknown"),
    ],
)
def test_duration_buckets_are_named_by_their_edges(part: str, said: str) -> None:
    assert part_name("duration_bucket", part, LabelConfig()) == said


def test_names_are_shown_as_they_are_but_for_controls_and_length() -> None:
    assert plain("<b>\u202e推荐") == "<b>�推荐"
    assert plain("x" * 100) == "x" * 59 + "…"
    assert outcome_name("negative_at_5") == "NEG@5: share of explicit negatives"
    assert outcome_name("follow_at_2") == "follow@2"
