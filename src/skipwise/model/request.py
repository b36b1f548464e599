"""One viewer, one request, many candidates: what serving lays out and the network reads.

    History of what came after Encoded, or of everything  ->  Encoded
    Encoded, Request, Candidates  ->  logits (C, O), expected watch seconds (C,)

- A video enters as its vector (`video_vectors`), made once when it is posted, beside the codes that
  tell what it shares with the past.
- T events oldest first, P events encoded before them, L encoder blocks, C candidates, D width, O
  objectives, K topics of a video.

Is read by serving, which gives its columns to `forms` as flat tensors. No I/O.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONTEXT = ("surface", "hour", "gap", "place", "run")
"""Columns of a context, in a model's indices (`features.stretches.Context`)."""

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """A viewer's last events that have arrived, oldest first: up to `EncoderSettings.reach`."""

    vectors: Array
    """(T, D + r) float32, from `video_vectors.embed_all`."""
    video: Array
    """(T,) int64, any code that is equal if, and only if, the video is the same."""
    author: Array
    """(T,) int64, likewise; 0 unknown."""
    topics: Array
    """(T, K) int64 vocabulary indices; 0 none, 1 unseen."""
    feedback: Array
    """(T,) int64 `labels.feedback.Feedback`."""
    watch_share: Array
    """(T,) int64 bucket of watch time over duration."""
    context: Array
    """(T, 5) int64, columns as `CONTEXT`."""
    time_s: Array
    """(T,) float64 when shown, seconds since 1970; NaN unknown."""

    def __len__(self) -> int:
        return len(self.video)


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """An encoded past: what a request reads of it, and what the events after it need."""

    states: Array
    """(T, D) float32; candidates read the last W."""
    given: Array
    """(T, L, D) float32, what each block of the encoder was given; L = 0 where none can follow."""
    video: Array
    author: Array
    topics: Array
    feedback: Array
    time_s: Array
    co_watched: Array
    """(T, r) float32, the retrieval head's fixed vectors."""

    def __len__(self) -> int:
        return len(self.video)

    def cut(self, kept: slice) -> "Encoded":
        """Return some of the events."""
        return Encoded(**{name: column[kept] for name, column in self._columns().items()})

    def and_then(self, after: "Encoded", at_most: int) -> "Encoded":
        """Return these events and those after them, the newest `at_most` of all."""
        dropped, later = max(0, len(self) + len(after) - at_most), after._columns()
        return Encoded(
            **{
                name: np.concatenate([column, later[name]])[dropped:].copy()
                for name, column in self._columns().items()
            }
        )

    @property
    def num_bytes(self) -> int:
        """How much memory the numbers take."""
        return sum(column.nbytes for column in self._columns().values())

    def _columns(self) -> dict[str, Array]:
        return {each.name: getattr(self, each.name) for each in fields(self)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """Who asks, where and when."""

    context: Array
    """(5,) int64, columns as `CONTEXT`."""
    time_s: float
    """Seconds since 1970."""
    viewer_categories: Array
    """(categorical extras,) int64"""
    viewer_numbers: Array
    """(numeric extras,) float32"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidates:
    """Videos to rank for one request."""

    vectors: Array
    """(C, D + r) float32, from `video_vectors.embed_all`."""
    video: Array
    """(C,) int64, codes as in `History`."""
    author: Array
    topics: Array
    """(C, K) int64"""
    counters: Array
    """(C, counters) float32, raw counts as of the request."""
    duration_s: Array
    """(C,) float32, NaN unknown."""
    effective_above_s: Array
    """(C,) float32 thresholds of the state the request is answered with; NaN unknown."""
    finished_above_s: Array

    def __len__(self) -> int:
        return len(self.video)
