"""How well could the best possible model do?

    p_glance (N,)  ->  best_possible_auc  ->  one number

Knows nobody; is read by tests and benchmarks.
"""

import numpy as np
from numpy.typing import NDArray

from skipwise.errors import EventError


def best_possible_auc(p_glance: NDArray[np.float64]) -> float:
    """Return the AUC expected of a model that knows every probability of a glance.

        sum_ij p_i (1 - p_j) ([p_i > p_j] + [p_i = p_j] / 2)  /  (sum_i p_i  sum_j (1 - p_j))

    the Mann-Whitney count with outcomes replaced by their expectations (own derivation; the pair of
    a row with itself counts as a tie). No model can expect to do better on these impressions.

    Args:
        p_glance: (N,) probabilities, as in `truth.parquet`.

    Returns:
        A number in [0.5, 1].

    Raises:
        EventError: There are no rows, or glances are certain or impossible in all of them.

    >>> best_possible_auc(np.array([0.0, 1.0]))
    1.0
    >>> best_possible_auc(np.array([0.3, 0.3]))
    0.5
    """
    level, row = np.unique(p_glance, return_inverse=True)
    count = np.bincount(row, minlength=level.size)
    glances, stays = count * level, count * (1.0 - level)
    pairs = glances.sum() * stays.sum()
    if not pairs > 0:
        raise EventError(
            f"p_glance holds {p_glance.size} rows without both a possible glance and a possible "
            "stay; the AUC needs both. Simulate more views or a lower taste_strength."
        )
    below = np.cumsum(stays) - stays
    return float((glances * (below + stays / 2)).sum() / pairs)
