"""One batch of stretches and candidates as tensors, in a model's own indices.

    Stretches + Catalogue  ->  to_batch     ->  Batch
    catalogue rows (U,)    ->  video_batch  ->  VideoBatch

- B stretches, T events, M candidates, U different videos in the batch.

Reads `features` for the arrays; is read by `inputs`, training and serving. No I/O.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skipwise.features.stretches import (
    Context,
    Stretches,
)
from skipwise.features.vocabulary import Catalogue


@dataclass(frozen=True, kw_only=True, slots=True)
class ContextBatch:
    """Context buckets as tensors, (B, T) or (M,)."""

    surface: Tensor
    hour: Tensor
    gap: Tensor
    place: Tensor
    run: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoBatch:
    """Content of the U different videos of a batch."""

    code: Tensor
    """(U,) catalogue codes."""
    video: Tensor
    """(U,) vocabulary indices."""
    author: Tensor
    author_code: Tensor
    """(U,) catalogue codes, which tell unseen authors apart; 0 unknown."""
    topics: Tensor
    """(U, topics)"""
    duration_bucket: Tensor
    categories: Tensor
    numbers: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """One batch of stretches and candidates; see the module header for the letters.

    Raises:
        ValueError: B, T or M is 0.
    """

    videos: VideoBatch
    token_video: Tensor
    """(B, T) places in `videos`."""
    token_valid: Tensor
    """(B, T) bool."""
    feedback: Tensor
    """(B, T)"""
    watch_share: Tensor
    """(B, T)"""
    token_context: ContextBatch
    token_time_s: Tensor
    """(B, T) float64, NaN unknown."""
    stretch: Tensor
    """(M,) which stretch."""
    candidate_video: Tensor
    """(M,) places in `videos`."""
    candidate_context: ContextBatch
    candidate_time_s: Tensor
    """(M,) float64."""
    prefix: Tensor
    """(M,) visible events."""
    viewer_categories: Tensor
    """(B, categorical extras)"""
    viewer_numbers: Tensor
    """(B, numeric extras)"""
    counters: Tensor
    """(M, K) float32, raw counts."""
    targets: Mapping[str, Tensor]
    """(M,) each."""
    day: Tensor
    """(M,)"""
    row: NDArray[np.int64]
    """(M,) event rows."""

    def __post_init__(self) -> None:
        (num_stretches, num_events), num_candidates = self.token_video.shape, len(self.prefix)
        if not min(num_stretches, num_events, num_candidates):
            raise ValueError(
                f"The batch has {num_candidates} candidates and {num_stretches} stretches of "
                f"{num_events} events; it must have at least one of each. Leave out a batch "
                "without candidates, and give stretches without events one of padding, as "
                "`read_stretches` does."
            )


def to_batch(
    stretches: Stretches, catalogue: Catalogue, device: torch.device | str = "cpu"
) -> Batch:
    """Turn a batch of arrays into tensors, in a model's indices.

    Args:
        stretches: From `read_stretches`.
        catalogue: From `bind`, for the same dataset.
        device: Where the tensors go.

    Returns:
        The batch.
    """
    token_valid = stretches.video >= 0
    shown = np.concatenate([stretches.video[token_valid], stretches.candidate_video])
    different, place = np.unique(shown, return_inverse=True)
    token_video = np.zeros(stretches.video.shape, dtype=np.int64)
    token_video[token_valid] = place[: token_valid.sum()]

    def tensor(values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(device)

    return Batch(
        videos=video_batch(catalogue, different, device),
        token_video=tensor(token_video),
        token_valid=tensor(token_valid),
        feedback=tensor(stretches.feedback),
        watch_share=tensor(stretches.watch_share),
        token_context=_context_batch(stretches.context, catalogue, tensor),
        token_time_s=tensor(stretches.time_s),
        stretch=tensor(stretches.stretch),
        candidate_video=tensor(place[token_valid.sum() :].astype(np.int64)),
        candidate_context=_context_batch(stretches.candidate_context, catalogue, tensor),
        candidate_time_s=tensor(stretches.candidate_time_s),
        prefix=tensor(stretches.prefix),
        viewer_categories=tensor(catalogue.viewer_categories[stretches.viewer]),
        viewer_numbers=tensor(catalogue.viewer_numbers[stretches.viewer]),
        counters=tensor(stretches.counters),
        targets={name: tensor(values) for name, values in stretches.targets.items()},
        day=tensor(stretches.day),
        row=stretches.row,
    )


def video_batch(
    catalogue: Catalogue, rows: NDArray[np.int64], device: torch.device | str = "cpu"
) -> VideoBatch:
    """Turn (U,) catalogue rows into tensors."""

    def tensor(values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values[rows]).to(device)

    return VideoBatch(
        code=torch.from_numpy(rows).to(device),
        video=tensor(catalogue.video),
        author=tensor(catalogue.author),
        author_code=tensor(catalogue.author_code),
        topics=tensor(catalogue.topics),
        duration_bucket=tensor(catalogue.duration_bucket),
        categories=tensor(catalogue.video_categories),
        numbers=tensor(catalogue.video_numbers),
    )


def _context_batch(
    context: Context, catalogue: Catalogue, tensor: Callable[[NDArray[Any]], Tensor]
) -> ContextBatch:
    return ContextBatch(
        surface=tensor(catalogue.surface[context.surface]),
        hour=tensor(context.hour),
        gap=tensor(context.gap),
        place=tensor(context.place),
        run=tensor(context.run),
    )
