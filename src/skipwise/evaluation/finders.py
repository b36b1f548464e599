"""Who can find the videos a viewer would watch, without looking at each closely?

    model            ->  model_finder          the retrieval head's vectors
    popularity       ->  popularity_finder     effective views of the last days
    co-occurrence    ->  co_occurrence_finder  what was watched by those who watched the same

- A finder gives every video of the catalogue a number for every wanted view; the best k are found.

Co-occurrence: score(u, j) = sum over videos i the viewer watched of n_ij / n_i, n_ij viewers who
watched both: an item-based neighbourhood with conditional probability (Deshpande and Karypis, TOIS
2004, doi 10.1145/963770.963776). Reads `features`, `model`; is read by `retrieval`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skipwise.features.co_watching import LAST_WATCHED, is_watched, watched_lately
from skipwise.features.dataset import Column, Dataset
from skipwise.model.recommender import Recommender

Integers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """Effective views to be found; N of them."""

    row: Integers
    """(N,) event rows."""
    viewer: Integers
    video: Integers
    """(N,) catalogue codes."""
    day: Integers
    first_row: Integers
    """(N,) the viewer's first event row."""
    visible: Integers
    """(N,) how many of the viewer's events may be read."""

    def __len__(self) -> int:
        return len(self.row)

    def take(self, places: Integers) -> "Wanted":
        """Return some of them."""
        return Wanted(
            row=self.row[places],
            viewer=self.viewer[places],
            video=self.video[places],
            day=self.day[places],
            first_row=self.first_row[places],
            visible=self.visible[places],
        )

    def past_rows(self, place: int) -> Integers:
        """Return the event rows that may be read for one of them."""
        first = int(self.first_row[place])
        return np.arange(first, first + int(self.visible[place]))

    def seen(self, video: Column, place: int) -> Integers:
        """Return the codes of what the viewer was shown before."""
        return np.asarray(video.take(self.past_rows(place)), dtype=np.int64)


Finder = Callable[[Wanted, Integers], NDArray[Any]]
"""(wanted views, places (n,)) -> (n, V) scores that may be written to."""


def model_finder(
    model: Recommender,
    viewer_vectors: NDArray[np.float32],
    video_vectors: NDArray[np.float32],
    popularity: NDArray[np.float32],
    first_day: int,
) -> Finder:
    """Find by the retrieval head.

    Args:
        model: For the weights of popularity.
        viewer_vectors: (N, R) one per wanted view.
        video_vectors: (V, R)
        popularity: (days, V, 2) from `popularity_by_day`.
        first_day: Of `popularity`.
    """
    with torch.no_grad():
        popular = model.retrieval.popular(torch.from_numpy(popularity)).numpy()

    def find(wanted: Wanted, places: Integers) -> NDArray[Any]:
        near = viewer_vectors[places] @ video_vectors.T
        return np.asarray(near + popular[wanted.day[places] - first_day])

    return find


def popularity_finder(popularity: NDArray[np.float32], first_day: int) -> Finder:
    """Find what was watched effectively most often of late, half-life one day."""

    def find(wanted: Wanted, places: Integers) -> NDArray[Any]:
        return popularity[wanted.day[places] - first_day, :, 0].copy()

    return find


def co_occurrence_finder(dataset: Dataset, known_rows: Integers) -> Finder:
    """Find what was watched by those who watched the same.

    Args:
        dataset: Where the rows lie.
        known_rows: (N,) event rows that may be counted: the training window's, ascending.
    """
    num_videos = dataset.videos.num_rows
    neighbours = _count_pairs(*watched_lately(dataset, known_rows), num_videos)

    def find(wanted: Wanted, places: Integers) -> NDArray[Any]:
        scores = np.zeros((len(places), num_videos))
        for each, place in zip(scores, places, strict=True):
            past = wanted.past_rows(int(place))
            past = past[is_watched(dataset, past)][-LAST_WATCHED:]
            neighbours.add(each, dataset.events["video"].take(past).astype(np.int64))
        return scores

    return find


@dataclass(frozen=True, kw_only=True, slots=True)
class _Neighbours:
    """Which videos were watched with which, row by row of a sparse matrix."""

    start: Integers
    """(V + 1,)"""
    other: Integers
    share: NDArray[np.float64]
    """n_ij / n_i."""

    def add(self, scores: NDArray[np.float64], videos: Integers) -> None:
        """Add the shares of some rows."""
        for video in videos:
            span = slice(self.start[video], self.start[video + 1])
            scores[self.other[span]] += self.share[span]


def _count_pairs(viewer: Integers, video: Integers, num_videos: int) -> _Neighbours:
    _, first, number = np.unique(viewer, return_index=True, return_counts=True)
    lists = np.repeat(number, number)
    one = np.repeat(video, lists)
    within = np.arange(len(one)) - np.repeat(np.cumsum(lists) - lists, lists)
    other = video[np.repeat(np.repeat(first, number), lists) + within]
    keys, together = np.unique(one * num_videos + other, return_counts=True)
    one, other = keys // num_videos, keys % num_videos
    viewers = np.bincount(video, minlength=num_videos)
    apart = one != other
    one, other, together = one[apart], other[apart], together[apart]
    return _Neighbours(
        start=np.searchsorted(one, np.arange(num_videos + 1)),
        other=other,
        share=together / viewers[one],
    )
