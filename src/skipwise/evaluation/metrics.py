"""How good are probabilities, over all rows?

    labels, probabilities (N,)             ->  auc, log_loss, ...  ->  one number
    labels, probabilities, viewer_ix (N,)  ->  auc_statistic, ...  ->  weights (B, V) -> (B,)

- Rows whose label is unknown are left out before; here every label is 0 or 1.
- Rows of equal probability are ties: each of the two orders counts half, whatever the row order.
- A weight of 2 is the same as the row written twice.
- What cannot be said (one class only) is NaN, never a number.

Reads `bootstrap`; is read by `scorecard`. Metrics within groups are in `grouped`, of watch time in
`watch`, of probabilities as probabilities in `calibration`.
"""

import numpy as np
from numpy.typing import NDArray

from skipwise.errors import DatasetError
from skipwise.evaluation.bootstrap import (
    Floats,
    Integers,
    Statistic,
    Weights,
    divide,
    mean_over_rows,
    ratio,
    sum_by,
)

Labels = NDArray[np.int8]
CLIPPED_AT = 1e-7
"""How near 0 and 1 log-loss takes probabilities: a sure mistake costs 16.1, not infinity."""


def auc(labels: Labels, scores: Floats, weights: Floats | None = None) -> float:
    """Measure P(a positive scores above a negative) + P(they tie) / 2, the area under the ROC.

    The Mann-Whitney form (Hanley and McNeil, 1982), ties by mid-rank:
    `sum_i sum_j w_i w_j ([s_i > s_j] + [s_i = s_j] / 2) / (W_pos W_neg)`, i positive, j negative.

    Args:
        labels: (N,) 0 or 1.
        scores: (N,) finite; only their order counts.
        weights: (N,) >= 0; 1 each when absent.

    Returns:
        In [0, 1]; NaN unless both classes are there.

    Raises:
        DatasetError: No row, another shape, a label that is not 0 or 1, a score that is not finite.

    >>> auc(np.array([0, 1, 1], dtype=np.int8), np.array([0.2, 0.2, 0.9]))
    0.75
    """
    return _over_rows(auc_statistic(labels, scores, np.arange(len(labels))), labels, weights)


def log_loss(labels: Labels, probabilities: Floats, weights: Floats | None = None) -> float:
    """Measure the mean of `-log p(what happened)`, in nats; probabilities clipped at 1e-7.

    Args:
        labels: (N,) 0 or 1.
        probabilities: (N,) in [0, 1].
        weights: (N,) >= 0; 1 each when absent.

    Returns:
        In [0, 16.2]; NaN where the weights are all 0.

    Raises:
        DatasetError: As `auc`; or a probability outside [0, 1].
    """
    statistic = log_loss_statistic(labels, probabilities, np.arange(len(labels)), len(labels))
    return _over_rows(statistic, labels, weights)


def calibration_ratio(
    labels: Labels, probabilities: Floats, weights: Floats | None = None
) -> float:
    """Measure `sum p / sum y`: 1 when as many positives were foretold as came; 2 is twice too many.

    Args:
        labels: (N,) 0 or 1.
        probabilities: (N,) in [0, 1].
        weights: (N,) >= 0; 1 each when absent.

    Returns:
        >= 0; NaN without a positive.

    Raises:
        DatasetError: As `log_loss`.
    """
    statistic = calibration_ratio_statistic(
        labels, probabilities, np.arange(len(labels)), len(labels)
    )
    return _over_rows(statistic, labels, weights)


def auc_statistic(labels: Labels, scores: Floats, viewer_ix: Integers) -> Statistic:
    """Prepare `auc` for many weights of viewers: sorts once.

    For each positive, the weight of the negatives below it is read off one running sum.

    Args:
        labels: (N,) 0 or 1.
        scores: (N,) finite.
        viewer_ix: (N,) the row's viewer: its column in the weights.

    Raises:
        DatasetError: As `auc`.
    """
    check_rows(labels, scores)
    positive = np.flatnonzero(labels == 1)
    negative = np.flatnonzero(labels == 0)
    negative = negative[np.argsort(scores[negative], kind="stable")]
    below = np.searchsorted(scores[negative], scores[positive], side="left")
    not_above = np.searchsorted(scores[negative], scores[positive], side="right")
    viewer_of_positive, viewer_of_negative = viewer_ix[positive], viewer_ix[negative]
    tied = bool((below != not_above).any())

    def measure(weights: Weights) -> Floats:
        positive_weight = weights.take(viewer_of_positive, axis=1)
        running = running_sum(weights.take(viewer_of_negative, axis=1))
        beaten = running.take(below, axis=1)
        if tied:
            beaten = (beaten + running.take(not_above, axis=1)) / 2
        return divide(
            np.einsum("bn,bn->b", positive_weight, beaten),
            positive_weight.sum(axis=1) * running[:, -1],
        )

    return measure


def log_loss_statistic(
    labels: Labels, probabilities: Floats, viewer_ix: Integers, num_viewers: int
) -> Statistic:
    """Prepare `log_loss` for many weights of viewers: sums per viewer once.

    Args:
        labels: (N,) 0 or 1.
        probabilities: (N,) in [0, 1].
        viewer_ix: (N,) the row's viewer, in [0, num_viewers).
        num_viewers: V.

    Raises:
        DatasetError: As `log_loss`.
    """
    check_probabilities(labels, probabilities)
    clipped = np.clip(probabilities, CLIPPED_AT, 1 - CLIPPED_AT)
    loss = -np.log(np.where(labels == 1, clipped, 1 - clipped))
    return mean_over_rows(loss, viewer_ix, num_viewers)


def calibration_ratio_statistic(
    labels: Labels, probabilities: Floats, viewer_ix: Integers, num_viewers: int
) -> Statistic:
    """Prepare `calibration_ratio` for many weights of viewers: sums per viewer once.

    Args:
        labels: (N,) 0 or 1.
        probabilities: (N,) in [0, 1].
        viewer_ix: (N,) the row's viewer, in [0, num_viewers).
        num_viewers: V.

    Raises:
        DatasetError: As `log_loss`.
    """
    check_probabilities(labels, probabilities)
    return ratio(
        sum_by(viewer_ix, num_viewers, probabilities), sum_by(viewer_ix, num_viewers, labels)
    )


def running_sum(values: Floats) -> Floats:
    """Sum from the left along each row, with a 0 before: (B, N) -> (B, N + 1)."""
    sums = np.zeros((values.shape[0], values.shape[1] + 1))
    np.cumsum(values, axis=1, out=sums[:, 1:])
    return sums


def check_rows(labels: Labels, scores: Floats) -> None:
    """Refuse rows no metric can read.

    Raises:
        DatasetError: No row, another shape, a label that is not 0 or 1, a score that is not finite.
    """
    if labels.shape != scores.shape or labels.ndim != 1:
        raise DatasetError(
            f"There are {labels.shape} labels and {scores.shape} scores; both must be (N,). "
            "Score the very rows that are measured."
        )
    if not len(labels):
        raise DatasetError(
            "There is no row to measure; a metric needs at least one. "
            "Choose days that have rows with a known label."
        )
    strange = (labels != 0) & (labels != 1)
    if strange.any():
        row = int(np.argmax(strange))
        raise DatasetError(
            f"labels[{row}] is {labels[row]}, must be 0 or 1. Leave rows of unknown label out."
        )
    if not np.isfinite(scores).all():
        row = int(np.argmin(np.isfinite(scores)))
        raise DatasetError(
            f"scores[{row}] is {scores[row]}, must be finite. The model that gave it is damaged: "
            "look at its training losses."
        )


def check_probabilities(labels: Labels, probabilities: Floats) -> None:
    """Refuse rows as `check_rows` does, and probabilities that are none.

    Raises:
        DatasetError: As `check_rows`; or a probability outside [0, 1].
    """
    check_rows(labels, probabilities)
    outside = (probabilities < 0) | (probabilities > 1)
    if outside.any():
        row = int(np.argmax(outside))
        raise DatasetError(
            f"probabilities[{row}] is {probabilities[row]:g}, must be in [0, 1]. "
            "Give probabilities, not scores: put the logits through a sigmoid."
        )


def _over_rows(statistic: Statistic, labels: Labels, weights: Floats | None) -> float:
    """Measure with each row as a viewer of its own."""
    row_weights = np.ones(len(labels)) if weights is None else weights.astype(np.float64)
    return float(statistic(row_weights[None, :])[0])
