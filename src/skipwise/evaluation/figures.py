"""Which figures does a scored objective have, and why may one be missing?

    Scored, objective  ->  objective_figures  ->  Figures: statistics to measure, facts, reasons
    Scored             ->  watch_figures      ->  the same for the watch time

- A figure that cannot be said has a reason in its place, never a number.
- A metric is one line in `objective_figures`.

Reads every metric of this folder; is read by `scorecard` and `comparison`.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from skipwise.evaluation.bootstrap import Floats, Integers, Statistic, ratio, sum_by
from skipwise.evaluation.calibration import ece_statistic
from skipwise.evaluation.grouped import GroupFigures, group_auc, group_ndcg, grouped_statistic
from skipwise.evaluation.metrics import (
    Labels,
    auc_statistic,
    calibration_ratio_statistic,
    log_loss_statistic,
)
from skipwise.evaluation.ranking import rank_in_groups
from skipwise.evaluation.scored import Scored
from skipwise.evaluation.watch import group_xauc, mae_statistic, xauc_statistic

OBJECTIVE_METRICS = ("auc", "gauc", "ndcg", "log_loss", "ece", "calibration_ratio")
WATCH_METRICS = ("mae_s", "xauc", "xgauc", "calibration_ratio")
LARGER_IS_BETTER = {
    "auc": True,
    "gauc": True,
    "ndcg": True,
    "recall": True,
    "log_loss": False,
    "ece": False,
}
"""Metrics by which one scorer can be called better than another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """What there is to say about one objective."""

    statistics: dict[str, Statistic] = field(default_factory=dict)
    """Metric -> how to measure it."""
    facts: dict[str, int] = field(default_factory=dict)
    """Counts: `rows`, `positives`, `groups_used`, `groups_one_class`, `rows_tied` in a group."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Metric -> why it cannot be measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownRows:
    """The rows on which an objective can be measured; M of N."""

    labels: Labels
    """(M,) 0 or 1."""
    probabilities: Floats
    """(M,) in [0, 1]."""
    group: Integers
    """(M,) -1 = no group."""
    viewer_ix: Integers
    """(M,) in [0, num_viewers)."""
    num_viewers: int
    """Viewers of all N rows."""

    @property
    def missing(self) -> str:
        """Why classes cannot be told apart here; empty when both are there."""
        if not len(self.labels):
            return "no row has a known label"
        positives = int(self.labels.sum())
        if 0 < positives < len(self.labels):
            return ""
        lacking = "negative" if positives else "positive"
        return f"no {lacking} among {len(self.labels)} rows whose label is known"


def known_rows(scored: Scored, objective: str, among: NDArray[np.bool_] | None = None) -> KnownRows:
    """Pick the rows whose label is known.

    Args:
        scored: N rows.
        objective: One of `scored.objectives`.
        among: (N,) which rows may be picked; all when absent.
    """
    known = scored.labels[objective] >= 0
    rows = np.flatnonzero(known if among is None else known & among)
    viewer_ix, num_viewers = scored.viewer_ix()
    return KnownRows(
        labels=scored.labels[objective][rows],
        probabilities=scored.probabilities[objective][rows],
        group=scored.group[rows],
        viewer_ix=viewer_ix[rows],
        num_viewers=num_viewers,
    )


def objective_figures(
    scored: Scored, objective: str, *, ndcg_at: int, calibration_bins: int
) -> Figures:
    """Prepare every metric of an objective.

    Args:
        scored: N rows.
        objective: One of `scored.objectives`.
        ndcg_at: Places that count in nDCG.
        calibration_bins: Bins of the ECE.
    """
    rows = known_rows(scored, objective)
    ranking = rank_in_groups(rows.probabilities, rows.group)
    facts = {
        "rows": len(rows.labels),
        "positives": int(rows.labels.sum()),
        "groups_used": 0,
        "groups_one_class": len(ranking.group),
        "rows_tied": ranking.num_tied,
    }
    if rows.missing:
        return Figures(facts=facts, reasons=dict.fromkeys(OBJECTIVE_METRICS, rows.missing))
    label, chance, viewer_ix, viewers = (
        rows.labels,
        rows.probabilities,
        rows.viewer_ix,
        rows.num_viewers,
    )
    by_auc = group_auc(label, chance, rows.group)
    by_ndcg = group_ndcg(label, chance, rows.group, at=ndcg_at)
    used = int(np.isfinite(by_auc.values).sum())
    statistics = {
        "auc": auc_statistic(label, chance, viewer_ix),
        "gauc": grouped_statistic(by_auc, viewer_ix, viewers),
        "ndcg": grouped_statistic(by_ndcg, viewer_ix, viewers),
        "log_loss": log_loss_statistic(label, chance, viewer_ix, viewers),
        "ece": ece_statistic(label, chance, viewer_ix, viewers, num_bins=calibration_bins),
        "calibration_ratio": calibration_ratio_statistic(label, chance, viewer_ix, viewers),
    }
    reasons = {}
    if not used:
        reasons = dict.fromkeys(("gauc", "ndcg"), "no group of rows holds both classes")
    facts |= {"groups_used": used, "groups_one_class": len(by_auc.values) - used}
    return Figures(statistics=_without(statistics, reasons), facts=facts, reasons=reasons)


def watch_figures(scored: Scored, *, at_most_s: float) -> Figures:
    """Prepare every metric of the watch time, watched and expected both clipped.

    Args:
        scored: N rows.
        at_most_s: Seconds at which both are clipped.
    """
    rows = np.flatnonzero(np.isfinite(scored.watch_s))
    facts = {"rows": len(rows)}
    if not scored.predicts_watch:
        return Figures(facts=facts, reasons=dict.fromkeys(WATCH_METRICS, "not predicted"))
    if not len(rows):
        reason = "no row has a known watch time"
        return Figures(facts=facts, reasons=dict.fromkeys(WATCH_METRICS, reason))
    all_viewers, viewers = scored.viewer_ix()
    viewer_ix = all_viewers[rows]
    watched = np.minimum(scored.watch_s[rows], at_most_s)
    expected = np.minimum(scored.expected_watch_s[rows], at_most_s)
    by_group = group_xauc(watched, expected, scored.group[rows])
    statistics = {
        "mae_s": mae_statistic(watched, expected, viewer_ix, viewers),
        "xauc": xauc_statistic(watched, expected, viewer_ix),
        "xgauc": grouped_statistic(by_group, viewer_ix, viewers),
        "calibration_ratio": ratio(
            sum_by(viewer_ix, viewers, expected), sum_by(viewer_ix, viewers, watched)
        ),
    }
    reasons = _watch_reasons(watched, by_group)
    return Figures(statistics=_without(statistics, reasons), facts=facts, reasons=reasons)


def _watch_reasons(watched: Floats, by_group: GroupFigures) -> dict[str, str]:
    reasons = {}
    if watched.min() == watched.max():
        reasons["xauc"] = "all watch times are equal"
    if not np.isfinite(by_group.values).any():
        reasons["xgauc"] = "no group of rows holds different watch times"
    if watched.max() == 0:
        reasons["calibration_ratio"] = "nothing was watched"
    return reasons


def _without(statistics: dict[str, Statistic], reasons: dict[str, str]) -> dict[str, Statistic]:
    return {name: value for name, value in statistics.items() if name not in reasons}
