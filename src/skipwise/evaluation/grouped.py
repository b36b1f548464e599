"""How good is the order within a group, where a group is what one slate could have been made of?

    labels, scores, group (N,)  ->  group_auc, group_ndcg  ->  GroupFigures, (G,) per group
    GroupFigures                ->  grouped_statistic      ->  weights (B, V) -> (B,)

- All rows of a group were scored with one and the same state: `check_one_state` refuses others.
  Scores that follow what just happened inside the group are biased against themselves: among rows
  with a fixed mix of outcomes, one that has come makes the next less likely.
- Groups with both classes count, each with as much weight as it has rows. Group -1 means no group.
- A viewer's weight multiplies whole groups, so a group's own figure is measured once.

Reads `bootstrap`, `metrics` and `ranking`; is read by `watch` and `scorecard`.
"""

from typing import NamedTuple

import numpy as np

from skipwise.errors import DatasetError
from skipwise.evaluation.bootstrap import Floats, Integers, Statistic, divide, ratio, sum_by
from skipwise.evaluation.metrics import Labels, check_rows
from skipwise.evaluation.ranking import Ranking, rank_in_groups


class GroupFigures(NamedTuple):
    """One figure for each group that has rows."""

    group: Integers
    """(G,) which group, ascending."""
    values: Floats
    """(G,) its figure; NaN where the group has one class only."""
    num_rows: Integers
    """(G,) how many rows it has, >= 1."""
    first_row: Integers
    """(G,) the number of one of its rows, to look up whose it is."""


def check_one_state(group: Integers, state_id: Integers) -> None:
    """Refuse groups whose rows were scored with different states.

    Args:
        group: (N,) the rows ranked together; -1 = no group.
        state_id: (N,) which state (histories and counters as of when) each row was scored with.

    Raises:
        DatasetError: The shapes differ, or a group holds rows of two states.
    """
    if group.shape != state_id.shape:
        raise DatasetError(
            f"There are {group.shape} groups and {state_id.shape} states; both must be (N,). "
            "Name the state of the very rows that are grouped."
        )
    order = np.lexsort((state_id, group))
    changes = (np.diff(group[order]) == 0) & (np.diff(state_id[order]) != 0)
    mixed = np.flatnonzero(changes & (group[order][1:] >= 0))
    if len(mixed):
        row = int(order[mixed[0]])
        raise DatasetError(
            f"Group {group[row]} holds rows scored with different states "
            f"({state_id[row]} and {state_id[order[mixed[0] + 1]]}); a rank metric needs one state "
            "per group. Group by viewer-day in daily and window mode, by request in progressive."
        )


def gauc(labels: Labels, scores: Floats, group: Integers, weights: Floats | None = None) -> float:
    """Measure the AUC inside groups, averaged by impressions (Zhou et al., DIN, KDD 2018).

    `sum_g w_g n_g AUC_g / sum_g w_g n_g` over the groups with both classes, n_g rows each.

    Args:
        labels: (N,) 0 or 1.
        scores: (N,) finite.
        group: (N,) the rows ranked together; -1 = no group.
        weights: (N,) >= 0, how often each row's group counts; the same for all rows of a group.

    Returns:
        In [0, 1]; NaN where no group has both classes.

    Raises:
        DatasetError: As `auc`; or the groups have another shape.
    """
    return _average(group_auc(labels, scores, group), weights)


def ndcg(
    labels: Labels, scores: Floats, group: Integers, weights: Floats | None = None, *, at: int = 5
) -> float:
    """Measure nDCG@k inside groups, averaged by impressions (Järvelin and Kekäläinen, 2002).

    `DCG = sum over the k best places of label / log2(place + 1)`, over the best possible; places
    of tied rows are shared evenly (McSherry and Najork, 2008). Groups with both classes count.

    Args:
        labels: (N,) 0 or 1.
        scores: (N,) finite.
        group: (N,) the rows ranked together; -1 = no group.
        weights: (N,) >= 0, as in `gauc`.
        at: k, how many places count.

    Returns:
        In [0, 1]; NaN where no group has both classes.

    Raises:
        DatasetError: As `gauc`.
    """
    return _average(group_ndcg(labels, scores, group, at=at), weights)


def group_auc(labels: Labels, scores: Floats, group: Integers) -> GroupFigures:
    """Measure the AUC of each group from the mid-ranks of its positives.

    Args:
        labels: (N,) 0 or 1.
        scores: (N,) finite.
        group: (N,) the rows ranked together; -1 = no group.

    Raises:
        DatasetError: As `gauc`.
    """
    ranking, label = _rank(labels, scores, group)
    size = ranking.num_rows.astype(np.float64)
    place = ranking.share_places(np.arange(size.max(initial=0)))
    rank_from_below = size[ranking.group_ix] - place
    positives = ranking.sum_per_group(label)
    beaten = ranking.sum_per_group(rank_from_below * label) - positives * (positives + 1) / 2
    return _figures(ranking, beaten, positives * (size - positives))


def group_ndcg(labels: Labels, scores: Floats, group: Integers, *, at: int = 5) -> GroupFigures:
    """Measure nDCG@k of each group.

    Args:
        labels: (N,) 0 or 1.
        scores: (N,) finite.
        group: (N,) the rows ranked together; -1 = no group.
        at: k, how many places count.

    Raises:
        DatasetError: As `gauc`.
    """
    ranking, label = _rank(labels, scores, group)
    places = np.arange(ranking.num_rows.max(initial=0))
    discount = np.where(places < at, 1.0 / np.log2(places + 2.0), 0.0)
    positives = ranking.sum_per_group(label)
    best = np.append(0.0, np.cumsum(discount))[positives.astype(np.int64)]
    gained = ranking.sum_per_group(ranking.share_places(discount) * label)
    has_negative = positives < ranking.num_rows
    return _figures(ranking, gained, np.where(has_negative, best, 0.0))


def grouped_statistic(figures: GroupFigures, viewer_ix: Integers, num_viewers: int) -> Statistic:
    """Average figures of groups by impressions, for many weights of viewers.

    Args:
        figures: Of G groups; NaN values are left out.
        viewer_ix: (N,) the viewer of each row that the figures were made of; one per group.
        num_viewers: V.
    """
    counted = np.isfinite(figures.values)
    viewer_of_group = viewer_ix[figures.first_row[counted]]
    size = figures.num_rows[counted].astype(np.float64)
    return ratio(
        sum_by(viewer_of_group, num_viewers, size * figures.values[counted]),
        sum_by(viewer_of_group, num_viewers, size),
    )


def _rank(labels: Labels, scores: Floats, group: Integers) -> tuple[Ranking, Floats]:
    """Rank rows in their groups; labels follow as (M,) numbers."""
    check_rows(labels, scores)
    ranking = rank_in_groups(scores, group)
    return ranking, labels[ranking.row].astype(np.float64)


def _figures(ranking: Ranking, part: Floats, whole: Floats) -> GroupFigures:
    """Divide per group; NaN where there is nothing to divide by."""
    return GroupFigures(
        ranking.group, divide(part, whole), ranking.num_rows, ranking.row[ranking.first]
    )


def _average(figures: GroupFigures, weights: Floats | None) -> float:
    """Average figures by the summed weights of each group's rows."""
    counted = np.isfinite(figures.values)
    if not counted.any():
        return float("nan")
    size = figures.num_rows.astype(np.float64)
    if weights is not None:
        size *= weights[figures.first_row]
    return float(np.average(figures.values[counted], weights=size[counted]))
