"""What would another order of videos have brought, by a log that was drawn at random?

    Logged: outcome, propensity, target's probability, predictions (N,)  ->  estimate  ->  Estimates

- Only exposures that a lottery drew, with a known propensity, can answer: what was never shown by
  chance says nothing about itself.
- A row's propensity is its own: the probability with which the lottery drew this video **given
  that a lottery decided** the place. It may differ from row to row.
- Intervals are over viewers. The direct method's knows nothing of its model's bias, and says so by
  being narrow: read it beside the others.
- Where the target would hardly ever have done what the log did, or mostly what the log could not
  do, there is no answer: refused.

Reads `errors`; is read by `replay` of the loop, `tune` and the command line. No I/O.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from skipwise.errors import DatasetError
from skipwise.evaluation.bootstrap import Floats, Integers

ESTIMATORS = ("ips", "snips", "direct", "doubly_robust")
"""Inverse propensity, self-normalised, direct method, doubly robust."""
Pool = Literal["shown", "catalogue"]
"""Of one lottery over all: the videos that the log shows at random, or all of the video table."""
LEAST_OVERLAP = 0.8
"""Of what a target would show, the share that the log's lottery must have been able to draw."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Logged:
    """Impressions drawn at random, and what a target policy would have done there."""

    viewer: Integers
    """(N,) any number that names the viewer."""
    outcome: Floats
    """(N,) what is estimated: a glance as 0 or 1, seconds watched, ..."""
    propensity: Floats
    """(N,) probability with which the lottery drew what it drew, given that it decided, (0, 1]."""
    target: Floats
    """(N,) probability with which the target would have shown it there, in [0, 1]."""
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
    """The share of what the target would show that the lottery could have drawn: 1 but for chance
    where it could have drawn everything and propensities are right."""


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
    """Estimate the target's mean outcome at the places that lotteries decided.

        w = target / propensity
        IPS    mean(w y)                            Horvitz and Thompson 1952
        SNIPS  sum(w y) / sum(w)                    Swaminathan and Joachims 2015
        DM     mean(q_pi)
        DR     mean(q_pi + w (y - q))               Dudik, Langford and Li 2011

    with the interval value +- z SE, SE^2 = sum_v (sum_{i in v} phi_i)^2 / N^2 over viewers v, phi
    the estimator's influence: w y - V, w (y - V) / mean(w), q_pi - V, q_pi + w (y - q) - V.

    Why it is right with a propensity per row: at a place with past x a lottery draws video a with
    e(a | x), not looking at the outcome, of mean mu(x, a). Then, as in Horvitz and Thompson,

        E[pi(a | x) / e(a | x) y] = E_x sum_{a: e > 0} e pi / e mu = E_x sum_{a: e > 0} pi mu

    which is the target's mean V where e > 0 wherever pi > 0. E[w] = E_x sum_{a: e > 0} pi is the
    share of the target's choices that the lottery could have drawn. A propensity that counts in
    how often lotteries are held, share x e, makes E[w] = 1 / share instead: refused.

    Args:
        logged: The rows.
        confidence: Of the intervals, in (0, 1).
        least_effective_rows: Below so many, overlap is too thin.

    Raises:
        DatasetError: A propensity is missing or impossible, overlap is too thin, or the mean weight
            is clearly (by its interval) outside [0.8, 1.25].
    """
    _check(logged)
    w, y = logged.target / logged.propensity, logged.outcome
    effective = float(w.sum() ** 2 / (w**2).sum()) if w.any() else 0.0
    if effective < least_effective_rows:
        raise DatasetError(
            f"the target would have shown what the log shows so rarely that {len(w):,} rows weigh "
            f"as much as {effective:.0f}; at least {least_effective_rows:g} are needed for an "
            "answer. Give a longer random log, fewer --candidates, or a target nearer to chance."
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

    _check_overlap(mean(w))
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


def first_place(score: Floats, drawn: int | None = None) -> Floats:
    """Return the probability with which each candidate is shown first, ties shared.

    Of M candidates c are drawn, any c alike, and the best of those is shown. With L candidates
    below a score and T of that score, each of these comes first with

        [C(L + T, c) - C(L, c)] / (T C(M, c))

    as the best drawn has that score when all drawn are at most it, and not all are below.

    Args:
        score: (N, C) of the candidates of each row; -inf where there is none.
        drawn: c; all are where a row has fewer. None = all, so that the best is shown.

    Returns:
        (N, C), rows add up to 1; to 0 where a row has no candidate.

    >>> first_place(np.array([[3.0, 2.0, 1.0]]), drawn=2).round(3).tolist()
    [[0.667, 0.333, 0.0]]
    """
    held = np.isfinite(score)
    number = held.sum(axis=1, keepdims=True)
    of = number if drawn is None else np.minimum(number, drawn)
    below, up_to = _ranked_around(score)
    nobody = score.shape[1] - number
    below, up_to = np.maximum(below - nobody, 0), np.maximum(up_to - nobody, 0)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, score.shape[1] + 1)))])

    def all_among(some: Integers) -> Floats:
        """C(some, c) / C(M, c)."""
        enough = some >= of
        left = log_factorial[some] - log_factorial[np.where(enough, some - of, 0)]
        share = np.exp(left - log_factorial[number] + log_factorial[number - of])
        return np.where(enough, share, 0.0)

    chance: Floats = (all_among(up_to) - all_among(below)) / np.maximum(up_to - below, 1)
    return np.where(held, chance, 0.0)


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


def _ranked_around(score: Floats) -> tuple[Integers, Integers]:
    """Count how many of its row are below each score, and how many at most it; (N, C) each."""
    order, place = np.argsort(score, axis=1), np.arange(score.shape[1])
    ranked = np.take_along_axis(score, order, axis=1)
    new = np.ones(score.shape, dtype=bool)
    new[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    last = np.ones(score.shape, dtype=bool)
    last[:, :-1] = new[:, 1:]
    first_of = np.maximum.accumulate(np.where(new, place, 0), axis=1)
    ends = np.where(last, place + 1, score.shape[1])[:, ::-1]
    end_of = np.minimum.accumulate(ends, axis=1)[:, ::-1]
    below, up_to = np.empty_like(order), np.empty_like(order)
    np.put_along_axis(below, order, first_of, axis=1)
    np.put_along_axis(up_to, order, end_of, axis=1)
    return below, up_to


def _ranks(values: Floats) -> Floats:
    """Rank from 0, ties averaged."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    below = np.cumsum(count) - count
    ranks: Floats = (below + (count - 1) / 2)[place]
    return ranks


def _check_overlap(mean_weight: Estimate) -> None:
    if mean_weight.high < LEAST_OVERLAP:
        raise DatasetError(
            f"of what the target would show, the lottery could have drawn {mean_weight.value:.0%}; "
            f"it must be {LEAST_OVERLAP:.0%} at least, as nothing is known of the rest. Judge days "
            "right after those that the run knows, and a lottery over the same candidates."
        )
    if mean_weight.low > 1 / LEAST_OVERLAP:
        raise DatasetError(
            f"weights are {mean_weight.value:.3g} on average, must be about 1: propensities are "
            "smaller than what was drawn allows. Give the probability with which a lottery drew "
            "the video, 1 / candidates it drew from, not multiplied by how often one is held."
        )


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
