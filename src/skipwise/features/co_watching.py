"""Who watched what of late: the pairs behind "watched by those who watched the same".

    Dataset, rows  ->  watched_lately  ->  (viewer, video) pairs, each once

- Watched means answered as an effective view or better; the untimed past counts too.
- Bounded: LAST_WATCHED views of each of at most VIEWERS_COUNTED viewers.

Reads `dataset`; is read by training (the retrieval head) and evaluation (a baseline). No torch.
"""

import numpy as np
from numpy.typing import NDArray

from skipwise.features.dataset import Dataset
from skipwise.labels.feedback import GROUP_OF, Group

LAST_WATCHED = 50
"""How many watched videos of a viewer's past are read."""
VIEWERS_COUNTED = 50_000
"""Viewers at most whose pasts are counted."""

Integers = NDArray[np.int64]


def is_watched(dataset: Dataset, rows: Integers) -> NDArray[np.bool_]:
    """(N,) whether the viewer answered as to an effective view or better."""
    positive = np.array(GROUP_OF) == Group.POS
    return np.asarray(positive[dataset.events["feedback"].take(rows)], dtype=np.bool_)


def watched_lately(dataset: Dataset, rows: Integers) -> tuple[Integers, Integers]:
    """Pair viewers with the videos they watched last.

    Args:
        dataset: Where the rows lie.
        rows: (N,) event rows that may be counted, ascending.

    Returns:
        (P,) viewer codes, ascending, and (P,) video codes in the order they were first watched; no
        pair stands there twice.
    """
    rows = rows[is_watched(dataset, rows)]
    viewer = dataset.events["viewer"].take(rows).astype(np.int64)
    video = dataset.events["video"].take(rows).astype(np.int64)
    different, first, number = np.unique(viewer, return_index=True, return_counts=True)
    back = np.repeat(first + number, number) - np.arange(len(viewer))
    step = max(1, -(-len(different) // VIEWERS_COUNTED))
    counted = np.repeat(np.arange(len(different)) % step == 0, number)
    kept = (back <= LAST_WATCHED) & counted
    num_videos = dataset.videos.num_rows
    pairs, place = np.unique(viewer[kept] * num_videos + video[kept], return_index=True)
    pairs = pairs[np.argsort(place)]
    return pairs // num_videos, pairs % num_videos
