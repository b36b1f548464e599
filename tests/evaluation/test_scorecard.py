"""The scorecard: what is on it, what is null and why, and that JSON can hold it."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as oracle

from skipwise.errors import DatasetError, SettingError
from skipwise.evaluation.scorecard import EvaluationSettings, Scored, scorecard
from skipwise.model.score import ScoreWeights

ScoredMaker = Callable[..., Scored]
QUICK = EvaluationSettings(bootstrap_samples=60, slice_bootstrap_samples=30, calibration_bins=5)


@pytest.fixture(scope="module")
def scored(scored_maker: ScoredMaker) -> Scored:
    return scored_maker()


@pytest.fixture(scope="module")
def card(scored: Scored) -> dict[str, Any]:
    return scorecard(scored, settings=QUICK)


def test_every_figure_has_its_interval_around_it(card: dict[str, Any]) -> None:
    glance = card["objectives"]["glance"]
    for metric in ("auc", "gauc", "ndcg", "log_loss", "calibration_ratio"):
        assert glance[metric]["low"] < glance[metric]["value"] < glance[metric]["high"], metric
    for metric in ("mae_s", "xauc", "xgauc", "calibration_ratio"):
        watch = card["objectives"]["watch"][metric]
        assert watch["low"] < watch["value"] < watch["high"], metric


def test_unknown_labels_are_left_out(card: dict[str, Any], scored: Scored) -> None:
    effective, label = card["objectives"]["effective"], scored.labels["effective"]
    known = label >= 0
    assert effective["rows"] == len(label) - 7
    assert effective["positives"] == label[known].sum()
    assert effective["auc"]["value"] == pytest.approx(
        oracle.roc_auc_score(label[known], scored.probabilities["effective"][known])
    )
    assert card["objectives"]["watch"]["rows"] == len(label) - len(label[::50])


def test_without_both_classes_figures_are_null_with_the_reason(card: dict[str, Any]) -> None:
    like = card["objectives"]["like"]
    assert like["positives"] == 0
    assert like["auc"] is like["log_loss"] is like["gauc"] is None
    assert like["reasons"]["auc"] == "no positive among 1200 rows whose label is known"
    assert "like" not in card["calibration"]


def test_groups_are_counted(card: dict[str, Any], scored: Scored) -> None:
    assert card["rows"] == 1200
    assert card["viewers"] == 120
    assert card["groups"]["number"] == (1200 - 20) / 5
    assert card["groups"]["ungrouped_rows"] == 20
    label = scored.labels["glance"][20:].reshape(-1, 5).sum(axis=1)
    one_class = int(((label == 0) | (label == 5)).sum())
    assert card["groups"]["one_class"]["glance"] == one_class
    assert card["groups"]["used"]["glance"] == 236 - one_class
    assert card["groups"]["empty"] == {"glance": 0, "effective": 1, "like": 0}
    assert card["groups"]["one_class"]["like"] == 236, "nobody liked anything"
    assert card["groups"]["tied_rows"] == {"glance": 0, "effective": 0, "like": 1180}


def test_tied_rows_are_those_equal_to_another_of_their_group(scored: Scored) -> None:
    chance = scored.probabilities["glance"].copy()
    chance[[20, 22, 24]] = 0.5  # three of the first group
    chance[[25, 30]] = 0.25  # of two groups
    chance[[35, 36]] = 0.75  # two of another
    tied = dataclasses.replace(scored, probabilities={"glance": chance})
    assert scorecard(tied, settings=QUICK)["groups"]["tied_rows"] == {"glance": 3 + 2}


def test_slates_by_the_score_beat_chance_and_the_log(card: dict[str, Any]) -> None:
    glance = card["slate"]["glance_at_3"]
    assert glance["slates"] == 236
    assert glance["score"]["value"] < glance["random"]["value"] - 0.05
    for other in ("logged", "random"):
        difference = glance[f"score_minus_{other}"]
        assert difference["high"] < 0
        assert difference["value"] == pytest.approx(
            glance["score"]["value"] - glance[other]["value"]
        )
    assert card["slate"]["watch_s_at_3"]["score_minus_random"]["low"] > 0


def test_rows_of_unknown_label_are_in_no_slate(card: dict[str, Any]) -> None:
    """Seven rows are unknown: one group of five has none left, its neighbour three."""
    assert card["slate"]["effective_at_3"]["slates"] == 236 - 2
    assert card["slate"]["effective_at_1"]["slates"] == 236 - 1


def test_a_slate_no_group_can_fill_says_so(card: dict[str, Any]) -> None:
    full = card["slate"]["glance_at_5"]
    assert full["slates"] == 0
    assert "no group has more than 5 rows" in full["reasons"]["score"]


def test_the_calibration_table_covers_every_row(card: dict[str, Any]) -> None:
    table = card["calibration"]["glance"]
    assert sum(line["rows"] for line in table) == 1200
    assert all(line["from"] <= line["predicted"] <= line["to"] for line in table)
    assert all(line["observed"]["low"] < line["observed"]["high"] for line in table)
    assert table[0]["observed"]["value"] < table[-1]["observed"]["value"]


def test_slices_are_measured_and_small_ones_only_counted(card: dict[str, Any]) -> None:
    new, known = card["slices"]["viewer"]["new"], card["slices"]["viewer"]["known"]
    assert (new["rows"], known["rows"]) == (150, 1050)
    assert new["glance"]["auc"] is None
    assert "fewer than 200 rows" in new["glance"]["reasons"]["auc"]
    assert known["glance"]["auc"]["low"] < known["glance"]["auc"]["value"]
    assert set(card["slices"]["surface"]) == {"0", "1"}


def test_json_holds_the_card_whole(card: dict[str, Any]) -> None:
    assert json.loads(json.dumps(card, allow_nan=False)) == card


def test_the_same_seed_gives_the_same_card(card: dict[str, Any], scored: Scored) -> None:
    assert scorecard(scored, settings=QUICK) == card
    other = scorecard(scored, settings=dataclasses.replace(QUICK, seed=1))
    before, after = card["objectives"]["glance"]["auc"], other["objectives"]["glance"]["auc"]
    assert before["value"] == after["value"]
    assert before["low"] != after["low"]


def test_a_good_scorer_shows_and_a_shuffled_one_is_chance(scored_maker: ScoredMaker) -> None:
    scored = scored_maker(num_viewers=800)
    shuffled = np.random.default_rng(0).permutation(8000)
    chance = {name: values[shuffled] for name, values in scored.probabilities.items()}
    none = dataclasses.replace(scored, probabilities=chance, slices={})
    good = scorecard(dataclasses.replace(scored, slices={}), settings=QUICK)["objectives"]
    poor = scorecard(none, settings=QUICK)["objectives"]
    assert good["glance"]["auc"]["low"] > 0.6
    assert good["glance"]["gauc"]["low"] > 0.6
    for metric in ("auc", "gauc"):
        assert poor["glance"][metric]["low"] < 0.5 < poor["glance"][metric]["high"]


def test_without_expected_watch_time_there_is_no_watch_figure(scored: Scored) -> None:
    silent = dataclasses.replace(scored, expected_watch_s=np.full(1200, np.nan))
    card = scorecard(silent, settings=QUICK)
    assert card["objectives"]["watch"]["mae_s"] is None
    assert card["objectives"]["watch"]["reasons"]["xauc"] == "not predicted"
    assert card["slate"]["glance_at_1"]["score"] is not None


def test_without_groups_there_are_no_rank_figures(scored: Scored) -> None:
    alone = dataclasses.replace(scored, group=np.full(1200, -1))
    glance = scorecard(alone, settings=QUICK)["objectives"]["glance"]
    assert glance["gauc"] is glance["ndcg"] is None
    for metric in ("gauc", "ndcg"):
        assert glance["reasons"][metric] == "no group of rows holds both classes"
    assert glance["auc"] is not None


def test_the_score_weights_order_the_slates(scored: Scored) -> None:
    """Here the expected watch time is noise: the more it says, the less the score knows."""
    noise = np.random.default_rng(0).exponential(9, 1200)
    noisy = dataclasses.replace(scored, expected_watch_s=noise)
    deaf = scorecard(noisy, settings=QUICK, weights=ScoreWeights(watch_power=0.0))["slate"]
    fooled = scorecard(noisy, settings=QUICK, weights=ScoreWeights(watch_power=50.0))["slate"]
    chance = deaf["glance_at_1"]["random"]["value"]
    assert deaf["glance_at_1"]["score"]["value"] < chance - 0.1
    assert fooled["glance_at_1"]["score"]["value"] == pytest.approx(chance, abs=0.07)


def test_watched_and_expected_seconds_are_clipped_alike(scored: Scored) -> None:
    """A video left running for a day does not rule the mean."""
    running = dataclasses.replace(
        scored,
        watch_s=np.where(np.arange(1200) == 1, 86_400.0, scored.watch_s),
        expected_watch_s=np.where(np.arange(1200) == 2, 86_400.0, scored.expected_watch_s),
    )
    found = scorecard(running, settings=QUICK)["objectives"]["watch"]["mae_s"]["value"]
    known = np.isfinite(running.watch_s)
    watched = np.minimum(running.watch_s[known], 300)
    expected = np.minimum(running.expected_watch_s[known], 300)
    assert found == pytest.approx(np.abs(watched - expected).mean())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"group": np.zeros(3, np.int64)}, r"group is \(3,\), must be \(1200,\)"),
        ({"group": np.zeros(1200, np.int64)}, "rows of two viewers"),
        ({"visible": np.zeros(3, np.int64)}, r"visible is \(3,\), must be \(1200,\)"),
        ({"visible": np.arange(1200)}, "scored with different states.*request in progressive"),
        ({"labels": {"glance": np.full(1200, 2, np.int8)}}, "is 2, must be -1, 0 or 1"),
        ({"probabilities": {"glance": np.full(1200, np.nan)}}, r"is nan, must be in \[0, 1\]"),
        ({"watch_s": np.full(1200, -1.0)}, "watch_s.* is -1.0, must be >= 0"),
        ({"expected_watch_s": np.where(np.arange(1200) > 3, np.nan, 1)}, "or NaN in all"),
    ],
)
def test_rows_that_mean_nothing_are_refused(
    scored: Scored, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(DatasetError, match=said):
        dataclasses.replace(scored, **change)


def test_no_row_is_refused() -> None:
    none = np.zeros(0)
    with pytest.raises(DatasetError, match="No row was scored"):
        Scored(
            viewer=none.astype(np.int64),
            group=none.astype(np.int64),
            visible=none.astype(np.int64),
            labels={},
            probabilities={},
            watch_s=none,
            expected_watch_s=none,
            duration_s=none,
            slices={},
        )


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(SettingError, match="bootstrap_samples = 5, must be >= 20"):
        EvaluationSettings(bootstrap_samples=5)
    with pytest.raises(SettingError, match="slate_sizes = 0"):
        EvaluationSettings(slate_sizes=(1, 0))
