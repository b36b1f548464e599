"""What is measured of a cell's scored rows; what tables of `quality.py` are made of.

    Scored, what else was asked of the model  ->  figures_of  ->  Values

- AUC, GAUC, log-loss and the first places of slates come with drawn viewers, for intervals; watch
  time by bucket, the ladder's figures and calibrations are of everybody alone.

Is read by `quality_runs`, which keeps figures under the code of this file.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from skipwise.evaluation.bootstrap import Statistic, replicate
from skipwise.evaluation.figures import objective_figures
from skipwise.evaluation.grouped import gauc, grouped_statistic, ndcg
from skipwise.evaluation.scored import Scored
from skipwise.evaluation.slate import slate_statistic
from skipwise.evaluation.watch import group_xauc, mae_s, xauc
from skipwise.model.batch import Batch
from skipwise.model.objectives import Predictions
from skipwise.model.predict import Ask
from skipwise.model.score import ScoreWeights, fused_score

Floats = NDArray[np.float64]
Values = dict[str, Floats]
"""Figure -> (1 + draws,) of everybody and of drawn viewers; (1,) where none are drawn; (10,) by
tenth."""
OBJECTIVES = ("glance", "long", "effective", "click", "like")
METRICS = ("auc", "gauc", "log_loss")
SLATE = 3
SCORES = {
    "skips in the score": ScoreWeights(),
    "no skips in the score": ScoreWeights(glance_power=0.0, negative_power=0.0),
}
SCORE_CHANGE = "skips minus no skips in the score"
CURVE_AT_S = (3.0, 7.0, 18.0)
BUCKET_MIN_ROWS = 200
"""A smaller duration bucket has no figures of its own."""
MEDIAN = "median_s"
WATCH_AT_MOST_S = 300.0
"""Seconds at which watched and expected time are clipped, as on the evaluation card."""


def figures_of(scored: Scored, also: Mapping[str, Floats], *, draws: int) -> Values:
    """Measure scored rows.

    Args:
        scored: N rows.
        also: What `asks` asked, (N,) each; empty where there is no curve.
        draws: Of viewers.
    """
    found: Values = replicate(
        dict(_statistics(scored)), scored.viewer_ix()[1], samples=draws, seed=0
    )
    for figures in (watch_by_bucket(scored), by_viewer(scored)):
        found |= {name: np.array([value]) for name, value in figures.items()}
    return found | _calibration_of_glances(scored) | _curve_figures(scored, also)


def asks() -> dict[str, Ask]:
    """Say what else a model with a watch curve is asked: S at some seconds, at the end, median."""
    return {f"S({at:g})": _survival(at) for at in CURVE_AT_S} | {
        "S(end)": _survival_to_the_end,
        MEDIAN: median_s,
    }


def _statistics(scored: Scored) -> Iterable[tuple[str, Statistic]]:
    viewer_ix, num_viewers = scored.viewer_ix()
    for objective in OBJECTIVES:
        if objective in scored.objectives:
            figures = objective_figures(scored, objective, ndcg_at=5, calibration_bins=15)
            for metric in METRICS:
                if metric in figures.statistics:
                    yield f"{objective}/{metric}", figures.statistics[metric]
    expected = scored.expected_watch_s if scored.predicts_watch else None
    for score, weights in SCORES.items():
        order = fused_score(scored.probabilities, expected, weights)
        for name in ("glance", "effective", "negative", "watch_s"):
            outcome = np.minimum(scored.watch_s, WATCH_AT_MOST_S)
            if name != "watch_s":
                if name not in scored.labels:
                    continue
                label = scored.labels[name].astype(np.float64)
                outcome = np.where(label < 0, np.nan, label)
            statistic, slates = slate_statistic(
                outcome, order, scored.group, viewer_ix, num_viewers, at=SLATE
            )
            if slates:
                yield f"{score}/{name}_at_{SLATE}", statistic


def watch_by_bucket(scored: Scored) -> dict[str, float]:
    """Measure the expected watch time in all and by duration bucket.

    Returns:
        `watch/PART/METRIC`: mae_s, xauc, xgauc, and rows; a part is `all` or `bucket NUMBER`. XGAUC
        is of the part's rows of each group, and absent where no group has two watch times. Nothing
        where watch time is not predicted.
    """
    if not scored.predicts_watch:
        return {}
    found = {}
    bucket = scored.slices["duration_bucket"].astype(np.int64)
    known = np.isfinite(scored.watch_s)
    parts = {"all": known} | {
        f"bucket {number}": known & (bucket == number) for number in np.unique(bucket)
    }
    for name, rows in parts.items():
        if rows.sum() >= BUCKET_MIN_ROWS:
            watch = np.minimum(scored.watch_s[rows], WATCH_AT_MOST_S)
            expected = np.minimum(scored.expected_watch_s[rows], WATCH_AT_MOST_S)
            found[f"watch/{name}/mae_s"] = mae_s(watch, expected)
            found[f"watch/{name}/xauc"] = xauc(watch, expected)
            found[f"watch/{name}/rows"] = float(rows.sum())
            xgauc = _xgauc(watch, expected, scored.group[rows])
            if np.isfinite(xgauc):
                found[f"watch/{name}/xgauc"] = xgauc
    return found


def _xgauc(watch_s: Floats, expected_s: Floats, group: NDArray[np.int64]) -> float:
    """XAUC inside groups, averaged by impressions; NaN where no group has two watch times."""
    everybody = np.zeros(len(watch_s), dtype=np.int64)
    figures = group_xauc(watch_s, expected_s, group)
    return float(grouped_statistic(figures, everybody, 1)(np.ones((1, 1)))[0])


def by_viewer(scored: Scored) -> dict[str, float]:
    """Measure long views with a viewer's rows as one group: the published ladder's figures.

    Returns:
        `viewer/gauc`, `viewer/ndcg` (of five places) and `viewer/primary`, their mean. They mean
        something in window mode, where a viewer's rows are scored with one state.
    """
    if "long" not in scored.objectives:
        return {}
    known = scored.labels["long"] >= 0
    labels, chance = scored.labels["long"][known], scored.probabilities["long"][known]
    viewer = scored.viewer[known]
    by_gauc, by_ndcg = gauc(labels, chance, viewer), ndcg(labels, chance, viewer, at=5)
    return {
        "viewer/gauc": by_gauc,
        "viewer/ndcg": by_ndcg,
        "viewer/primary": (by_gauc + by_ndcg) / 2,
    }


def by_tenth(chance: Floats, came: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Set what was predicted beside what came, in ten bins of equal size.

    Args:
        chance: (N,) probabilities, N >= 10.
        came: (N,) whether it did.

    Returns:
        (10,) mean probability and (10,) share that came, from the least probable tenth to the most.
    """
    bins = np.array_split(np.argsort(chance, kind="stable"), 10)
    return (
        np.array([chance[rows].mean() for rows in bins]),
        np.array([came[rows].mean() for rows in bins]),
    )


def _calibration_of_glances(scored: Scored) -> Values:
    """Calibration of p_GVV by tenth."""
    if "glance" not in scored.objectives:
        return {}
    known = scored.labels["glance"] >= 0
    predicted, observed = by_tenth(
        scored.probabilities["glance"][known], scored.labels["glance"][known] == 1
    )
    return {"calibration/glance/predicted": predicted, "calibration/glance/observed": observed}


def _curve_figures(scored: Scored, also: Mapping[str, Floats]) -> Values:
    """Calibration of S(t) at each second and the end, by tenth; the median's MAE."""
    found: Values = {}
    known = np.isfinite(scored.watch_s) & np.isfinite(scored.duration_s)
    for name, chance in also.items():
        if name == MEDIAN:
            rows = np.isfinite(scored.watch_s)
            watch = np.minimum(scored.watch_s[rows], WATCH_AT_MOST_S)
            found["watch/median/mae_s"] = np.array([mae_s(watch, chance[rows])])
            continue
        at = scored.duration_s if name == "S(end)" else np.full(len(chance), float(name[2:-1]))
        stayed = scored.watch_s >= np.minimum(at, scored.duration_s)
        predicted, observed = by_tenth(chance[known], stayed[known])
        found[f"curve/{name}/predicted"], found[f"curve/{name}/observed"] = predicted, observed
    return found


def _survival(at_s: float) -> Ask:
    """S(min(at_s, d)): staying so long, or to the end."""

    def ask(predictions: Predictions, batch: Batch) -> torch.Tensor:
        assert predictions.curve is not None
        at = torch.nan_to_num(batch.targets["duration_s"], nan=torch.inf).clamp(max=at_s)
        return predictions.curve.survival(at)

    return ask


def _survival_to_the_end(predictions: Predictions, batch: Batch) -> torch.Tensor:
    assert predictions.curve is not None
    return predictions.curve.survival(
        torch.nan_to_num(batch.targets["duration_s"], nan=WATCH_AT_MOST_S)
    )


def median_s(predictions: Predictions, batch: Batch) -> torch.Tensor:
    """Find the second at which half have left, (M,) in [0, 300], by halving that range."""
    assert predictions.curve is not None
    low = torch.zeros(len(batch.row))
    high = torch.full_like(low, WATCH_AT_MOST_S)
    for _ in range(20):
        middle = (low + high) / 2
        stayed = predictions.curve.survival(middle) > 0.5
        low, high = torch.where(stayed, middle, low), torch.where(stayed, high, middle)
    return (low + high) / 2
