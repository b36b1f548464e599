"""Better or not: paired differences on the same drawn viewers."""

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import pytest

from skipwise.errors import DatasetError, SettingError
from skipwise.evaluation.bootstrap import Interval
from skipwise.evaluation.comparison import compare, is_better, paired_difference
from skipwise.evaluation.scorecard import EvaluationSettings, scorecard
from skipwise.evaluation.scored import Scored

ScoredMaker = Callable[..., Scored]
QUICK = EvaluationSettings(bootstrap_samples=100, slice_bootstrap_samples=20)


@pytest.fixture(scope="module")
def good(scored_maker: ScoredMaker) -> Scored:
    return scored_maker(noise=0.5)


@pytest.fixture(scope="module")
def rough(good: Scored) -> Scored:
    """The same rows, scored with more noise."""
    noise = np.random.default_rng(4).normal(size=1200)
    odds = np.log(1 / good.probabilities["glance"] - 1) + 2 * noise
    return dataclasses.replace(good, probabilities={"glance": 1 / (1 + np.exp(odds))})


def test_a_difference_is_that_of_the_two_cards(good: Scored, rough: Scored) -> None:
    first, second = (
        scorecard(each, settings=QUICK)["objectives"]["glance"] for each in (good, rough)
    )
    for metric in ("auc", "gauc", "ndcg", "log_loss", "ece"):
        found = paired_difference(good, rough, "glance", metric, settings=QUICK)
        assert found is not None
        expected = first[metric]["value"] - second[metric]["value"]
        assert found["value"] == pytest.approx(expected)


def test_a_better_scorer_is_clear_of_zero_and_its_twin_is_not(good: Scored, rough: Scored) -> None:
    ahead = paired_difference(good, rough, "glance", "auc", settings=QUICK)
    behind = paired_difference(rough, good, "glance", "auc", settings=QUICK)
    assert ahead is not None
    assert ahead["low"] is not None
    assert ahead["low"] > 0
    assert behind is not None
    assert behind["high"] == pytest.approx(-ahead["low"])
    twin = paired_difference(good, good, "glance", "auc", settings=QUICK)
    assert twin == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_pairing_makes_the_interval_narrower(good: Scored) -> None:
    """A scorer a little worse than ours: apart their intervals overlap, paired they do not."""
    nudge = 0.4 * np.random.default_rng(4).normal(size=1200)
    odds = np.log(1 / good.probabilities["glance"] - 1) + nudge
    near = dataclasses.replace(good, probabilities={"glance": 1 / (1 + np.exp(odds))})
    apart = scorecard(good, settings=QUICK)["objectives"]["glance"]["auc"]
    paired = paired_difference(good, near, "glance", "auc", settings=QUICK)
    assert paired is not None
    assert paired["low"] is not None
    assert paired["high"] is not None
    assert paired["high"] - paired["low"] < (apart["high"] - apart["low"]) / 2


def test_compare_says_of_each_baseline_how_far_ours_is_ahead(good: Scored, rough: Scored) -> None:
    found = compare(good, {"rough": rough, "twin": good}, settings=QUICK)
    glance = found["rough"]["objectives"]["glance"]
    assert glance["rows"] == 1200
    assert glance["auc"]["low"] < glance["auc"]["value"] < glance["auc"]["high"]
    assert glance["difference"]["auc"] == paired_difference(
        good, rough, "glance", "auc", settings=QUICK
    )
    assert glance["better"] == {
        "auc": True, "gauc": True, "ndcg": True, "log_loss": True, "ece": True,
    }  # fmt: skip
    assert set(found["rough"]["objectives"]) == {"glance"}
    assert not any(found["twin"]["objectives"]["glance"]["better"].values())
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_what_a_baseline_cannot_answer_is_null_with_the_reason(good: Scored) -> None:
    like = compare(good, {"twin": good}, settings=QUICK)["twin"]["objectives"]["like"]
    assert like["auc"] is None
    assert "no positive" in like["reasons"]["auc"]
    assert like["difference"] == like["better"] == {}
    assert paired_difference(good, good, "like", "auc", settings=QUICK) is None


@pytest.mark.parametrize(
    ("metric", "low", "high", "better"),
    [
        ("auc", 0.01, 0.03, True),
        ("auc", -0.01, 0.03, False),
        ("auc", -0.03, -0.01, False),
        ("log_loss", -0.03, -0.01, True),
        ("log_loss", -0.03, 0.01, False),
        ("log_loss", 0.01, 0.03, False),
        ("auc", np.nan, np.nan, False),
    ],
)
def test_better_is_clear_of_zero_on_the_good_side(
    metric: str, low: float, high: float, better: bool
) -> None:
    assert is_better(metric, Interval((low + high) / 2, low, high)) is better


def test_other_rows_are_not_compared(good: Scored) -> None:
    flipped = {name: np.flip(values) for name, values in good.labels.items()}
    with pytest.raises(DatasetError, match="different rows"):
        compare(good, {"other": dataclasses.replace(good, labels=flipped)}, settings=QUICK)


def test_an_unknown_metric_or_objective_is_refused(good: Scored, rough: Scored) -> None:
    with pytest.raises(SettingError, match=r"metric = 'acu'.*Did you mean 'auc'"):
        paired_difference(good, rough, "glance", "acu")
    with pytest.raises(SettingError, match="objective = 'effective', must be one of glance"):
        paired_difference(good, rough, "effective", "auc")
