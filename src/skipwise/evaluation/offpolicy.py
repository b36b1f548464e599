"""What would another order of videos have brought, by a log that was drawn at random?

    Logged: outcome, propensity, target's probability, predictions (N,)  ->  estimate  ->  Estimates

- Only exposures drawn at random, with a known propensity, can answer: what was never shown by
  chance says nothing about itself.
- Intervals are over viewers. The direct method's knows nothing of its model's bias, and says so by
  being narrow: read it beside the others.
- Where the target would hardly ever have done what the log did, there is no answer: refused.

Reads `errors`; is read by `replay` of the loop, `tune` and the command line. No I/O.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from skipwise.errors import DatasetError
from skipwise.evaluation.bootstrap import Floats, Integers

ESTIMATORS = ("ips", "snips", "direct", "doubly_robust")
"""Inverse propensity, self-normalised, direct method, doubly robust."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Logged:
    """Impressions drawn at random, and what a target policy would have done there."""

    viewer: Integers
    """(N,) any number that names the viewer."""
    outcome: Floats
    """(N,) what is estimated: a glance as 0 or 1, seconds watched, ..."""
    propensity: Floats
    """(N,) probability with which the log's policy showed what it showed, in (0, 1]."""
    target: Floats
    """(N,) probability with which the target would have shown it, in [0, 1]."""
    predicted: Floats
    """(N,) a model's expectation of the outcome of what was shown."""
    predicted_target: Floats
    """(N,) the same, averaged over what the target would have shown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A mean outcome under the target, and where it lies."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimates:
    """The same question, answered four ways."""

    by: Mapping[str, Estimate]
    """Estimator -> estimate."""
    effective_rows: float
    """(sum w)^2 / sum w^2: how many rows the weights leave (Kish)."""
    num_rows: int
    mean_weight: float
    """1 but for chance, where propensities are right."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportCard:
    """How one estimator did where the truth is known."""

    mean_error: float
    """Mean over policies of |estimate - truth|."""
    covered: float
    """Share of policies whose interval holds the truth."""
    rank_correlation: float
    """Spearman's, between estimates and truths over policies."""


def estimate(
    logged: Logged, *, confidence: float = 0.95, least_effective_rows: float = 100.0
) -> Estimates:
    """Estimate the target's mean outcome.

        w = target / propensity
        IPS    mean(w y)                            Horvitz and Thompson 1952
        SNIPS  sum(w y) / sum(w)                    Swaminathan and Joachims 2015
        DM     mean(q_pi)
        DR     mean(q_pi + w (y - q))               Dudik, Langford and Li 2011

    with the interval value +- z SE, SE^2 = sum_v (sum_{i in v} phi_i)^2 / N^2 over viewers v, phi
    the estimator's influence: w y - V, w (y - V) / mean(w), q_pi - V, q_pi + w (y - q) - V.

    Args:
        logged: The rows.
        confidence: Of the intervals, in (0, 1).
        least_effective_rows: Below so many, overlap is too thin.

    Raises:
        DatasetError: A propensity is missing or impossible, or overlap is too thin.
    """
    _check(logged)
    w, y = logged.target / logged.propensity, logged.outcome
    effective = float(w.sum() ** 2 / (w**2).sum()) if w.any() else 0.0
    if effective < least_effective_rows:
        raise DatasetError(
            f"the target would have shown what the log shows so rarely that {len(w):,} rows weigh "
            f"as much as {effective:.0f}; at least {least_effective_rows:g} are needed for an "
            "answer. Give a longer random log, fewer candidates, or a target nearer to chance."
        )
    direct, residual = logged.predicted_target, w * (y - logged.predicted)
    normalised = float((w * y).sum() / w.sum())
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    viewer = np.unique(logged.viewer, return_inverse=True)[1]

    def told(value: float, influence: Floats) -> Estimate:
        error = np.sqrt((np.bincount(viewer, influence) ** 2).sum()) / len(w)
        return Estimate(value=value, low=value - z * error, high=value + z * error)

    def mean(rows: Floats) -> Estimate:
        value = float(rows.mean())
        return told(value, rows - value)

    return Estimates(
        by={
            "ips": mean(w * y),
            "snips": told(normalised, w * (y - normalised) / w.mean()),
            "direct": mean(direct),
            "doubly_robust": mean(direct + residual),
        },
        effective_rows=effective,
        num_rows=len(w),
        mean_weight=float(w.mean()),
    )


def first_place(score: Floats) -> Floats:
    """Return the probability with which each candidate is shown first, ties shared.

    Args:
        score: (N, C) of the candidates of each row.

    Returns:
        (N, C), rows add up to 1.
    """
    best = score == score.max(axis=1, keepdims=True)
    chance: Floats = best / best.sum(axis=1, keepdims=True)
    return chance


def report_card(estimates: Sequence[Estimates], truths: Sequence[float]) -> dict[str, ReportCard]:
    """Grade each estimator over policies whose true value is known.

    Args:
        estimates: One per policy, at least two policies.
        truths: Their true values.
    """
    truth = np.array(truths)
    cards = {}
    for name in ESTIMATORS:
        found = [each.by[name] for each in estimates]
        value = np.array([each.value for each in found])
        inside = [each.low <= t <= each.high for each, t in zip(found, truths, strict=True)]
        cards[name] = ReportCard(
            mean_error=float(np.abs(value - truth).mean()),
            covered=float(np.mean(inside)),
            rank_correlation=float(np.corrcoef(_ranks(value), _ranks(truth))[0, 1]),
        )
    return cards


def _ranks(values: Floats) -> Floats:
    """Rank from 0, ties averaged."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    below = np.cumsum(count) - count
    ranks: Floats = (below + (count - 1) / 2)[place]
    return ranks


def _check(logged: Logged) -> None:
    if not len(logged.outcome):
        raise DatasetError(
            "No row of the log was drawn at random; such rows are needed to say what others would "
            "have brought. Give a log with policy = random, as KuaiRand's log_random."
        )
    impossible = ~((logged.propensity > 0) & (logged.propensity <= 1))
    if impossible.any():
        row = int(np.argmax(impossible))
        raise DatasetError(
            f"propensity[{row}] is {logged.propensity[row]:g}; every row drawn at random needs the "
            "probability with which it was drawn, above 0 and at most 1. Write the column "
            "propensity."
        )
