"""What the quality tables measure beyond the card: by bucket, tenth and viewer, off the curve."""

import dataclasses
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from benchmarks.quality_measures import (
    asks,
    by_tenth,
    by_viewer,
    figures_of,
    median_s,
    watch_by_bucket,
)
from benchmarks.quality_report import figure_of
from sklearn import metrics as oracle

from skipwise.evaluation.figures import watch_figures
from skipwise.evaluation.scored import Scored
from skipwise.evaluation.watch import xauc
from skipwise.model.batch import Batch
from skipwise.model.curve import NUM_HAZARDS, WatchCurve
from skipwise.model.objectives import Predictions
from tests.evaluation.conftest import make_scored

BUCKET = np.repeat([3, 5], [1100, 100])


@pytest.fixture(scope="module")
def scored() -> Scored:
    """1,200 rows of 120 viewers; the second bucket has fewer rows than are measured alone."""
    plain = make_scored()
    return dataclasses.replace(
        plain,
        slices={"duration_bucket": BUCKET},
        labels={**plain.labels, "long": plain.labels["effective"]},
        probabilities={**plain.probabilities, "long": plain.probabilities["effective"]},
    )


def test_watch_time_by_bucket_is_that_of_the_buckets_rows(scored: Scored) -> None:
    found = watch_by_bucket(scored)
    rows = (BUCKET == 3) & np.isfinite(scored.watch_s)
    watch_s, expected_s = scored.watch_s[rows], np.minimum(scored.expected_watch_s[rows], 300)
    assert found["watch/bucket 3/rows"] == rows.sum()
    assert found["watch/bucket 3/mae_s"] == pytest.approx(np.abs(watch_s - expected_s).mean())
    assert found["watch/bucket 3/xauc"] == pytest.approx(xauc(watch_s, expected_s))
    by_group = []
    for group in np.unique(scored.group[rows & (scored.group >= 0)]):
        inside = scored.group[rows] == group
        if len(np.unique(watch_s[inside])) > 1:
            by_group.append((inside.sum(), xauc(watch_s[inside], expected_s[inside])))
    sizes, values = zip(*by_group, strict=True)
    assert found["watch/bucket 3/xgauc"] == pytest.approx(np.average(values, weights=sizes))
    assert not any(name.startswith("watch/bucket 5/") for name in found), "100 rows are too few"


def test_watch_time_of_all_is_that_of_the_card(scored: Scored) -> None:
    found = watch_by_bucket(scored)
    card = watch_figures(scored, at_most_s=300.0).statistics
    everybody = np.ones((1, scored.viewer_ix()[1]))
    for metric in ("mae_s", "xauc", "xgauc"):
        assert found[f"watch/all/{metric}"] == pytest.approx(card[metric](everybody)[0])


def test_without_groups_there_is_no_xgauc_and_without_expectations_nothing(scored: Scored) -> None:
    alone = watch_by_bucket(dataclasses.replace(scored, group=np.full(1200, -1)))
    assert "watch/all/xauc" in alone
    assert "watch/all/xgauc" not in alone
    silent = dataclasses.replace(scored, expected_watch_s=np.full(1200, np.nan))
    assert watch_by_bucket(silent) == {}


def test_the_ladder_ranks_a_viewers_rows_as_one_group(scored: Scored) -> None:
    """Mean over viewers with both outcomes, by their rows, against scikit-learn."""
    found = by_viewer(scored)
    figures = []
    for viewer in np.unique(scored.viewer):
        rows = (scored.viewer == viewer) & (scored.labels["long"] >= 0)
        label, chance = scored.labels["long"][rows], scored.probabilities["long"][rows]
        if 0 < label.sum() < len(label):
            of_five = oracle.ndcg_score([label], [chance], k=5)
            figures.append((len(label), oracle.roc_auc_score(label, chance), of_five))
    sizes, by_auc, by_ndcg = map(np.array, zip(*figures, strict=True))
    assert found["viewer/gauc"] == pytest.approx(np.average(by_auc, weights=sizes))
    assert found["viewer/ndcg"] == pytest.approx(np.average(by_ndcg, weights=sizes))
    assert found["viewer/primary"] == (found["viewer/gauc"] + found["viewer/ndcg"]) / 2


def test_tenths_go_from_the_least_to_the_most_likely() -> None:
    chance = np.array([0.05 * (place % 20) for place in range(40)])
    came = chance > 0.5
    predicted, observed = by_tenth(chance, came)
    np.testing.assert_allclose(predicted, [0.025 + 0.1 * place for place in range(10)])
    np.testing.assert_array_equal(observed, [0, 0, 0, 0, 0, 0.5, 1, 1, 1, 1])


def test_calibration_of_glances_is_of_known_glances_in_tenths(scored: Scored) -> None:
    label = np.where(np.arange(1200) < 200, -1, scored.labels["glance"]).astype(np.int8)
    unknown = dataclasses.replace(scored, labels={**scored.labels, "glance": label})
    found = figures_of(unknown, {}, draws=20)
    predicted, observed = by_tenth(scored.probabilities["glance"][200:], label[200:] == 1)
    np.testing.assert_array_equal(found["calibration/glance/predicted"], predicted)
    np.testing.assert_array_equal(found["calibration/glance/observed"], observed)
    assert not any(name.startswith("curve/") for name in found)


def test_the_curve_is_held_against_who_stayed_so_long_or_to_the_end(scored: Scored) -> None:
    short = np.where(np.arange(1200) % 2, 2.0, 60.0)
    clips = dataclasses.replace(scored, duration_s=np.where(np.arange(1200) < 7, np.nan, short))
    chance = np.linspace(0, 1, 1200)
    found = figures_of(clips, {"S(7)": chance, "S(end)": chance}, draws=20)
    known = np.isfinite(clips.watch_s) & (np.arange(1200) >= 7)
    for name, cut_s in (("S(7)", np.minimum(7.0, short)), ("S(end)", short)):
        stayed = (clips.watch_s >= cut_s)[known]
        expected = [tenth.mean() for tenth in np.array_split(stayed, 10)]
        np.testing.assert_allclose(found[f"curve/{name}/observed"], expected)


def told(curve: WatchCurve, duration_s: torch.Tensor) -> tuple[Predictions, Batch]:
    """What a question is asked of: a curve, and whose rows they are."""
    batch: Any = SimpleNamespace(row=torch.arange(3), targets={"duration_s": duration_s})
    return Predictions(logits={}, expected_watch_s=torch.zeros(3), curve=curve), cast(
        "Batch", batch
    )


def test_the_questions_put_to_a_curve_are_cut_at_the_end_of_the_video() -> None:
    generator = torch.Generator().manual_seed(0)
    duration_s = torch.tensor([5.0, 60.0, torch.nan])
    curve = WatchCurve.from_outputs(
        torch.randn(3, NUM_HAZARDS, generator=generator) - 2, duration_s
    )
    asked = {name: ask(*told(curve, duration_s)) for name, ask in asks().items()}
    torch.testing.assert_close(asked["S(7)"], curve.survival(torch.tensor([5.0, 7.0, 7.0])))
    torch.testing.assert_close(asked["S(end)"], curve.survival(torch.tensor([5.0, 60.0, 300.0])))
    middle = median_s(*told(curve, duration_s))
    torch.testing.assert_close(curve.survival(middle), torch.full((3,), 0.5), atol=1e-3, rtol=0)


def test_a_difference_is_paired_by_draw_over_the_mean_of_seeds() -> None:
    """Draws move both cells alike: apart by .1 in each, though each is anywhere from 0 to 1."""
    drawn = np.random.default_rng(0).random(101)
    first = [{"auc": drawn}, {"auc": drawn + 0.2}]
    other = [{"auc": drawn + 0.1}, {"auc": drawn + 0.3}]
    found = figure_of(other, first, "auc")
    assert found["value"] == pytest.approx(drawn[0] + 0.2)
    assert found["by_seed"] == [drawn[0] + 0.1, drawn[0] + 0.3]
    apart = found["minus_first"]
    assert [apart[part] for part in ("low", "value", "high")] == pytest.approx([0.1] * 3)
    assert found["high"] - found["low"] > 0.8
    assert "minus_first" not in figure_of(first, first, "auc")
