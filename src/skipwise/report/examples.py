"""Which events are shown as examples?

    Dataset, rows of some days  ->  example_rows  ->  (<= 6,) event rows, by a stated rule

- Nobody picks: the rule looks at no prediction and at no outcome.

Reads `features`; is read by `curves_section`.
"""

import numpy as np
from numpy.typing import NDArray

from skipwise.features.dataset import Dataset

RULE = (
    "The examples are chosen by rule, not by eye: of the viewers with an event on these days and "
    "with a past by then, in the order of the dataset, those a quarter, half and three quarters "
    "of the way through; of each the first and the last event on these days whose watch time, "
    "length and threshold of an effective view are known."
)


def example_rows(dataset: Dataset, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Choose examples.

    Args:
        dataset: Where the rows lie.
        rows: (N,) timed event rows of some days, rising.

    Returns:
        At most six event rows, two or fewer per viewer, viewers in order.
    """
    known = np.ones(len(rows), dtype=bool)
    for name in ("watch_s", "duration_s", "effective_above_s"):
        known &= ~np.isnan(dataset.events[name].take(rows))
    rows = rows[known]
    viewer = dataset.events["viewer"].take(rows)
    first_rows, _ = dataset.viewer_rows()
    past_from = dataset.events["known_day"].take(first_rows[viewer])
    with_past = past_from < dataset.events["day"].take(rows)
    rows, viewer = rows[with_past], viewer[with_past]
    viewers = np.unique(viewer)
    if not len(viewers):
        return rows
    chosen = np.unique(viewers[[len(viewers) * part // 4 for part in (1, 2, 3)]])
    return np.unique([rows[viewer == each][[0, -1]] for each in chosen])
