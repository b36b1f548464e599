"""Is one scorer better than another, on the same rows?

    two Scored of the same rows   ->  paired_difference  ->  {"value", "low", "high"}
    a Scored and its baselines    ->  compare            ->  a table for each baseline

- Both are measured on the same drawn viewers and their figures subtracted draw by draw: what makes
  a draw easy or hard for both falls out.
- "Better" is said only when the whole interval of the difference lies on one side of zero.

Reads `figures`, `bootstrap` and `scorecard`; is read by `evaluate`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from skipwise.errors import DatasetError
from skipwise.evaluation.bootstrap import Floats, Interval, interval, replicate
from skipwise.evaluation.figures import (
    LARGER_IS_BETTER,
    OBJECTIVE_METRICS,
    Figures,
    objective_figures,
)
from skipwise.evaluation.scorecard import EvaluationSettings, figure_json
from skipwise.evaluation.scored import Scored
from skipwise.progress import SILENT, Progress
from skipwise.settings import check_choice

_OURS = "scored"


def paired_difference(
    scored_a: Scored,
    scored_b: Scored,
    objective: str,
    metric: str,
    *,
    settings: EvaluationSettings | None = None,
) -> dict[str, float | None] | None:
    """Measure metric(a) - metric(b) with its interval over the same drawn viewers.

    Args:
        scored_a: One scorer's predictions.
        scored_b: Another's, of the same rows.
        objective: What is predicted.
        metric: One of `auc, gauc, ndcg, log_loss, ece, calibration_ratio`.
        settings: How to measure.

    Returns:
        `{"value", "low", "high"}`, or None where it cannot be said.

    Raises:
        SettingError: No such metric, or an objective that not both have.
        DatasetError: The rows are not the same.
    """
    settings = settings or EvaluationSettings()
    check_choice("metric", metric, OBJECTIVE_METRICS)
    check_same_rows(scored_a, scored_b)
    shared = [name for name in scored_a.objectives if name in scored_b.objectives]
    check_choice("objective", objective, shared)
    statistics = {}
    for name, scored in (("a", scored_a), ("b", scored_b)):
        figures = _figures(scored, objective, settings)
        if metric not in figures.statistics:
            return None
        statistics[name] = figures.statistics[metric]
    _, num_viewers = scored_a.viewer_ix()
    values = replicate(
        statistics, num_viewers, samples=settings.bootstrap_samples, seed=settings.seed
    )
    return figure_json(interval(values["a"] - values["b"], settings.confidence))


def compare(
    scored: Scored,
    baselines: Mapping[str, Scored],
    *,
    settings: EvaluationSettings | None = None,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Measure baselines, and how far a scorer is ahead of each.

    Args:
        scored: The scorer in question.
        baselines: Name -> another's predictions of the same rows; any of the objectives.
        settings: How to measure.
        progress: Told while intervals are drawn.

    Returns:
        `{BASELINE: {"objectives": {NAME: {METRIC: figure, "rows", "positives", "difference":
        {METRIC: figure}, "better": {METRIC: true | false}}}}}`. A difference is the scorer minus
        the baseline; `better` is true only when its interval is clear of zero on the good side.

    Raises:
        DatasetError: The rows are not the same.
    """
    settings = settings or EvaluationSettings()
    arms = {_OURS: scored, **{f"baseline {name}": other for name, other in baselines.items()}}
    for other in baselines.values():
        check_same_rows(scored, other)
    figures = {
        (arm, objective): _figures(rows, objective, settings)
        for arm, rows in arms.items()
        for objective in rows.objectives
    }
    values = replicate(
        {
            (*key, metric): statistic
            for key, found in figures.items()
            for metric, statistic in found.statistics.items()
        },
        scored.viewer_ix()[1],
        samples=settings.bootstrap_samples,
        seed=settings.seed,
        progress=progress,
    )
    return {
        name: {
            "objectives": {
                objective: _baseline_card(
                    figures[f"baseline {name}", objective],
                    _of(values, f"baseline {name}", objective),
                    _of(values, _OURS, objective),
                    settings.confidence,
                )
                for objective in other.objectives
            }
        }
        for name, other in baselines.items()
    }


def is_better(metric: str, difference: Interval) -> bool:
    """Say whether a difference is clear of zero on the good side of its metric.

    >>> is_better("log_loss", Interval(-0.02, -0.03, -0.01))
    True
    """
    if LARGER_IS_BETTER[metric]:
        return difference.low > 0
    return difference.high < 0


def check_same_rows(scored_a: Scored, scored_b: Scored) -> None:
    """Refuse to compare scorers of different rows.

    Raises:
        DatasetError: Viewers, groups or a shared objective's labels differ.
    """
    same = np.array_equal(scored_a.viewer, scored_b.viewer)
    same &= np.array_equal(scored_a.group, scored_b.group)
    for name in set(scored_a.labels) & set(scored_b.labels):
        same &= np.array_equal(scored_a.labels[name], scored_b.labels[name])
    if not same:
        raise DatasetError(
            f"The two scorers have different rows ({scored_a.num_rows} and {scored_b.num_rows}); "
            "a paired difference needs the same rows in the same order. Score one selection."
        )


def _figures(scored: Scored, objective: str, settings: EvaluationSettings) -> Figures:
    return objective_figures(
        scored, objective, ndcg_at=settings.ndcg_at, calibration_bins=settings.calibration_bins
    )


def _of(
    values: Mapping[tuple[str, str, str], Floats], arm: str, objective: str
) -> dict[str, Floats]:
    """Pick what was measured for one objective of one arm, by metric."""
    return {key[2]: found for key, found in values.items() if key[:2] == (arm, objective)}


def _baseline_card(
    figures: Figures, theirs: Mapping[str, Floats], ours: Mapping[str, Floats], confidence: float
) -> dict[str, Any]:
    """Write a baseline's figures for one objective, and ours minus theirs."""
    card: dict[str, Any] = dict.fromkeys(figures.reasons)
    card |= {metric: figure_json(interval(found, confidence)) for metric, found in theirs.items()}
    differences = {
        metric: interval(ours[metric] - theirs[metric], confidence)
        for metric in theirs
        if metric in ours and metric in LARGER_IS_BETTER
    }
    card |= figures.facts
    card["difference"] = {metric: figure_json(found) for metric, found in differences.items()}
    card["better"] = {metric: is_better(metric, found) for metric, found in differences.items()}
    if figures.reasons:
        card["reasons"] = figures.reasons
    return card
