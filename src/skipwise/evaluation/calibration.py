"""Do as many positives come as the probabilities say?

    probabilities (N,)          ->  equal_mass_bins    ->  (N,) bin of each row
    labels, probabilities (N,)  ->  ece                ->  one number
                                ->  calibration_table  ->  predicted and observed rate by bin

- Bins hold equally many rows, for probabilities crowd where events are rare; rows of equal
  probability share a bin.
- Over drawn viewers the bins stay where they are for everybody.

Reads `bootstrap` and `metrics`; is read by `scorecard`.
"""

from typing import NamedTuple

import numpy as np

from skipwise.evaluation.bootstrap import (
    Floats,
    Integers,
    Statistic,
    Weights,
    divide,
    mean_over_rows,
    sum_by,
)
from skipwise.evaluation.metrics import Labels, check_probabilities


class CalibrationBin(NamedTuple):
    """Rows of like probability."""

    num_rows: int
    lowest: float
    """The least probability in the bin."""
    highest: float
    """The greatest."""
    predicted: float
    """The mean probability."""
    observed: Statistic
    """The share of positives, for weights of viewers."""


def equal_mass_bins(
    probabilities: Floats, num_bins: int, weights: Floats | None = None
) -> Integers:
    """Put rows into bins of equal mass, by probability.

    Args:
        probabilities: (N,) finite.
        num_bins: How many bins; fewer are used where ties fill several.
        weights: (N,) >= 0, not all 0; 1 each when absent.

    Returns:
        (N,) bin in [0, num_bins); a higher bin has higher probabilities.

    >>> equal_mass_bins(np.array([0.1, 0.9, 0.1, 0.4]), 2).tolist()
    [0, 1, 0, 1]
    """
    mass = np.ones(len(probabilities)) if weights is None else weights.astype(np.float64)
    levels, level_ix = np.unique(probabilities, return_inverse=True)
    level_mass = sum_by(level_ix, len(levels), mass)
    middle = (np.cumsum(level_mass) - level_mass / 2) / mass.sum()
    bins: Integers = np.minimum(middle * num_bins, num_bins - 1).astype(np.int64)
    return bins[level_ix]


def ece(
    labels: Labels, probabilities: Floats, weights: Floats | None = None, *, num_bins: int = 15
) -> float:
    """Measure the expected calibration error over bins of equal mass.

    `sum_b (W_b / W) |mean p - mean y in b|` (Naeini et al., AAAI 2015; equal mass as Nguyen and
    O'Connor, EMNLP 2015). It is > 0 even for the truth, by the chance of the labels in each bin.

    Args:
        labels: (N,) 0 or 1.
        probabilities: (N,) in [0, 1].
        weights: (N,) >= 0, not all 0; 1 each when absent.
        num_bins: How many bins.

    Returns:
        In [0, 1].

    Raises:
        DatasetError: As `log_loss`.
    """
    check_probabilities(labels, probabilities)
    mass = np.ones(len(labels)) if weights is None else weights.astype(np.float64)
    bins = equal_mass_bins(probabilities, num_bins, mass)
    gap = sum_by(bins, num_bins, mass * (probabilities - labels))
    return float(np.abs(gap).sum() / mass.sum())


def ece_statistic(
    labels: Labels,
    probabilities: Floats,
    viewer_ix: Integers,
    num_viewers: int,
    *,
    num_bins: int = 15,
) -> Statistic:
    """Prepare `ece` for many weights of viewers, in the bins of everybody.

    Args:
        labels: (N,) 0 or 1.
        probabilities: (N,) in [0, 1].
        viewer_ix: (N,) the row's viewer, in [0, num_viewers).
        num_viewers: V.
        num_bins: How many bins.

    Raises:
        DatasetError: As `log_loss`.
    """
    check_probabilities(labels, probabilities)
    cell = viewer_ix * num_bins + equal_mass_bins(probabilities, num_bins)
    gap = sum_by(cell, num_viewers * num_bins, probabilities - labels)
    gap = gap.reshape(num_viewers, num_bins)
    num_rows = sum_by(viewer_ix, num_viewers, np.ones(len(labels)))

    def measure(weights: Weights) -> Floats:
        return divide(np.abs(weights @ gap).sum(axis=1), weights @ num_rows)

    return measure


def calibration_table(
    labels: Labels,
    probabilities: Floats,
    viewer_ix: Integers,
    num_viewers: int,
    *,
    num_bins: int = 15,
) -> list[CalibrationBin]:
    """Set the observed beside the predicted rate, bin by bin, lowest first.

    Args:
        labels: (N,) 0 or 1.
        probabilities: (N,) in [0, 1].
        viewer_ix: (N,) the row's viewer, in [0, num_viewers).
        num_viewers: V.
        num_bins: How many bins; those without a row are left out.

    Raises:
        DatasetError: As `log_loss`.
    """
    check_probabilities(labels, probabilities)
    bins = equal_mass_bins(probabilities, num_bins)
    table = []
    for number in np.unique(bins):
        rows = bins == number
        inside = probabilities[rows]
        table.append(
            CalibrationBin(
                num_rows=len(inside),
                lowest=float(inside.min()),
                highest=float(inside.max()),
                predicted=float(inside.mean()),
                observed=mean_over_rows(
                    labels[rows].astype(np.float64), viewer_ix[rows], num_viewers
                ),
            )
        )
    return table
