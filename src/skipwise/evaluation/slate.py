"""What would viewers have met in the first places of a slate?

    outcome, order (N,), group (N,)  ->  slate_statistic  ->  weights (B, V) -> (B,) mean outcome

- A group stands for one slate, each counting once; the candidates are the rows that were shown, so
  this says how rows are ordered, not which others should have been found.
- Only rows whose outcome is known are candidates, and only groups with more of them than places.
- The logged order of a viewer-day is the order in time; a random order is measured exactly, as the
  mean over all orders.

Reads `bootstrap` and `ranking`; is read by `scorecard`.
"""

import numpy as np

from skipwise.evaluation.bootstrap import Floats, Integers, Statistic, ratio, sum_by
from skipwise.evaluation.ranking import rank_in_groups


def slate_orders(score: Floats) -> dict[str, Floats]:
    """Name the orders that are set beside each other.

    Args:
        score: (N,) the fused score of each row; rows stand in the order of the log.

    Returns:
        Name -> (N,) numbers to order by, best first: `score`, `logged`, `random` (all tied).
    """
    return {
        "score": score,
        "logged": -np.arange(len(score), dtype=np.float64),
        "random": np.zeros(len(score)),
    }


def slate_statistic(
    outcome: Floats,
    order: Floats,
    group: Integers,
    viewer_ix: Integers,
    num_viewers: int,
    *,
    at: int,
) -> tuple[Statistic, int]:
    """Prepare the mean outcome in the k best places, averaged over slates.

    `sum_g w_g (1/k) sum over the k best of outcome / sum_g w_g`: GVV@k, EVV@k and NEG@k for labels,
    watch@k for seconds. Tied rows share their places.

    Args:
        outcome: (N,) what came of each row; NaN = unknown.
        order: (N,) finite; larger is shown first.
        group: (N,) the rows of one slate, of one viewer; -1 = none.
        viewer_ix: (N,) the row's viewer, in [0, num_viewers).
        num_viewers: V.
        at: k, how many places.

    Returns:
        The statistic, and how many slates it averages; NaN when that is 0.
    """
    known = np.flatnonzero(np.isfinite(outcome))
    ranking = rank_in_groups(order[known], group[known])
    places = np.arange(ranking.num_rows.max(initial=0))
    share = np.where(places < at, 1.0 / at, 0.0)
    shown = ranking.sum_per_group(ranking.share_places(share) * outcome[known][ranking.row])
    is_slate = ranking.num_rows > at
    viewer_of_slate = viewer_ix[known][ranking.row[ranking.first]][is_slate]
    statistic = ratio(
        sum_by(viewer_of_slate, num_viewers, shown[is_slate]),
        sum_by(viewer_of_slate, num_viewers, np.ones(len(viewer_of_slate))),
    )
    return statistic, int(is_slate.sum())
