"""How often did it happen before, for what no counter counts?

    Dataset, rows (N,), View  ->  Moments   ->  when outcomes were known, when each row asks
    labels, keys, Moments     ->  count_past  ->  positives (N,), outcomes (N,)

- Follows, comments, shares, finished views and negatives have no counters of their own; their
  rates are counted here from the labels, all of the past alike, none forgotten.
- The view says what is known: nightly, frozen at the end of training, or at the moment of asking.

Reads the dataset and `stretches`; is read by `yardsticks`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipwise.evaluation.bootstrap import Floats, Integers
from skipwise.evaluation.metrics import Labels
from skipwise.features.dataset import Dataset
from skipwise.features.view import View


@dataclass(frozen=True, kw_only=True, slots=True)
class Moments:
    """What is known before what: days or milliseconds, of one clock."""

    known: Integers
    """(M,) when the outcome of each event became known."""
    asked: Integers
    """(N,) a row may count what was known strictly before this."""

    @classmethod
    def of(cls, dataset: Dataset, rows: NDArray[np.int64], view: View) -> "Moments":
        """Read the moments of all M events, and of the rows that ask.

        Args:
            dataset: Where they lie.
            rows: (N,) timed event rows.
            view: Which outcomes the state may hold.
        """
        events = dataset.events
        if view.mode == "progressive":
            requested_at_ms = events["requested_at_ms"].all()
            delay_ms = np.where(requested_at_ms >= 0, view.extra_delay_ms, 0)
            known = events["known_at_ms"].all() + delay_ms
            return cls(known=known, asked=requested_at_ms[rows] + 1)
        known = events["known_day"].all().astype(np.int64)
        if view.window_last_day is not None:
            return cls(known=known, asked=np.full(len(rows), view.window_last_day + 1))
        return cls(known=known, asked=events["day"].take(rows).astype(np.int64))


def count_past(
    labels: Labels, keys: Integers, asked_keys: Integers, moments: Moments
) -> tuple[Floats, Floats]:
    """Count a key's known outcomes before each row asks, and the positives among them.

    Args:
        labels: (M,) -1 unknown, 0, 1, of all events.
        keys: (M,) whose outcome it is: a video, or a viewer on a surface.
        asked_keys: (N,) whose past each row asks for.
        moments: Of the M events and the N rows.

    Returns:
        Positives and outcomes, (N,) each.

    >>> moments = Moments(known=np.array([1, 2, 3]), asked=np.array([3]))
    >>> count_past(np.array([1, 0, 1], np.int8), np.array([7, 7, 7]), np.array([7]), moments)
    (array([1.]), array([2.]))
    """
    known = np.flatnonzero(labels >= 0)
    key = np.concatenate([asked_keys, keys[known]])
    moment = np.concatenate([moments.asked, moments.known[known]])
    is_outcome = np.arange(len(key)) >= len(asked_keys)
    order = np.lexsort((is_outcome, moment, key))  # at one moment, who asks stands first
    begins = np.concatenate([[True], np.diff(key[order]) != 0])[: len(order)]
    counted = np.concatenate([np.zeros(len(asked_keys)), labels[known]])
    return (
        _before(counted, order, begins)[: len(asked_keys)],
        _before(is_outcome.astype(np.float64), order, begins)[: len(asked_keys)],
    )


def _before(values: Floats, order: Integers, begins: NDArray[np.bool_]) -> Floats:
    """Sum what stands before each place in order, within its own group."""
    ordered = values[order]
    before = np.cumsum(ordered) - ordered
    at_begin = before[np.flatnonzero(begins)]
    found = np.empty_like(before)
    found[order] = before - at_begin[np.cumsum(begins) - 1]
    return found
