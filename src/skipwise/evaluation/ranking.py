"""Who stands where inside each group, and what is a place worth?

    scores, group (N,)     ->  rank_in_groups        ->  Ranking of the M rows that have a group
    worth of places (P,)   ->  Ranking.share_places  ->  (M,) worth of each row

- Tied rows share their places evenly: a row's worth is the mean over the orders the ties allow, so
  a constant score is worth what a random order is worth, exactly.
- The order of the rows never matters.

Reads `bootstrap` for types; is read by `grouped` and `slate`.
"""

from dataclasses import dataclass

import numpy as np

from skipwise.errors import DatasetError
from skipwise.evaluation.bootstrap import Floats, Integers, sum_by


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranking:
    """Grouped rows, from the best to the worst of each group."""

    row: Integers
    """(M,) row numbers, by group, best first."""
    group: Integers
    """(G,) the groups, ascending."""
    group_ix: Integers
    """(M,) the row's group, in [0, G)."""
    num_rows: Integers
    """(G,) rows of each group, >= 1."""
    first: Integers
    """(G,) where each group starts, in [0, M)."""
    tie_start: Integers
    """(T,) where each run of tied rows starts, in [0, M)."""

    @property
    def place(self) -> Integers:
        """(M,) each row's place in its group, 0 = best, ties in no particular order."""
        return np.arange(len(self.row)) - self.first[self.group_ix]

    @property
    def num_tied(self) -> int:
        """How many rows share their score with another row of their group."""
        length = np.diff(np.append(self.tie_start, len(self.row)))
        return int(length[length > 1].sum())

    def share_places(self, worth: Floats) -> Floats:
        """Give each row the mean worth of the places its run of ties takes.

        Args:
            worth: (P,) worth of place 0, 1, ...; P is at least the largest group's size.

        Returns:
            (M,) worth of each row.
        """
        if not len(self.row):
            return np.zeros(0)
        length = np.diff(np.append(self.tie_start, len(self.row)))
        return np.repeat(np.add.reduceat(worth[self.place], self.tie_start) / length, length)

    def sum_per_group(self, values: Floats) -> Floats:
        """Sum values of rows, (M,), in each group, (G,)."""
        return sum_by(self.group_ix, len(self.group), values)


def rank_in_groups(scores: Floats, group: Integers) -> Ranking:
    """Order the rows of each group by score, best first.

    Args:
        scores: (N,) finite.
        group: (N,) the rows ranked together; -1 = no group.

    Raises:
        DatasetError: The shapes differ.
    """
    if scores.shape != group.shape:
        raise DatasetError(
            f"There are {scores.shape} scores and {group.shape} groups; both must be (N,). "
            "Give each row its group, -1 where it has none."
        )
    row = np.flatnonzero(group >= 0)
    row = row[np.lexsort((-scores[row], group[row]))]
    new_group = _starts(group[row])
    new_run = new_group | _starts(scores[row])
    first = np.flatnonzero(new_group)
    return Ranking(
        row=row,
        group=group[row][first],
        group_ix=np.cumsum(new_group) - 1,
        num_rows=np.diff(np.append(first, len(row))),
        first=first,
        tie_start=np.flatnonzero(new_run),
    )


def _starts(values: Floats | Integers) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """(M,) whether each value differs from the one before it; the first does."""
    starts = np.ones(len(values), dtype=np.bool_)
    starts[1:] = values[1:] != values[:-1]
    return starts
