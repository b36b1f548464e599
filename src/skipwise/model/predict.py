"""Score the planned rows of a dataset.

    Recommender, Catalogue, Dataset, Plan  ->  predict_rows  ->  RowPredictions, (N,) in row order

- No gradients, no dropout; the same numbers whatever the batch size, up to rounding.

Reads `recommender` and `features`; is read by training (validation) and evaluation.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skipwise.features.dataset import Dataset
from skipwise.features.stretches import Plan, batches_by_size, read_stretches
from skipwise.features.vocabulary import Catalogue
from skipwise.model.batch import Batch, to_batch
from skipwise.model.objectives import Predictions
from skipwise.model.recommender import Recommender
from skipwise.progress import SILENT, Progress

Ask = Callable[[Predictions, Batch], Tensor]
"""Predictions of M candidates, and the batch they are of -> (M,) numbers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RowPredictions:
    """Predictions of N rows, sorted by row."""

    row: NDArray[np.int64]
    """(N,) event rows."""
    logits: Mapping[str, NDArray[np.float64]]
    """(N,) per objective."""
    expected_watch_s: NDArray[np.float64]
    """(N,) seconds."""
    also: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """(N,) of whatever else was asked."""

    def probabilities(self) -> dict[str, NDArray[np.float64]]:
        """Return (N,) probabilities per objective, in (0, 1)."""
        return {name: 1 / (1 + np.exp(-logit)) for name, logit in self.logits.items()}


@torch.no_grad()
def predict_rows(
    model: Recommender,
    catalogue: Catalogue,
    dataset: Dataset,
    plan: Plan,
    *,
    tokens_per_batch: int = 32_768,
    also: Mapping[str, Ask] | None = None,
    part: tuple[int, int] = (0, 1),
    progress: Progress = SILENT,
) -> RowPredictions:
    """Score every candidate of a plan.

    Args:
        model: Is put in evaluation mode for the time being.
        catalogue: The dataset in the model's indices.
        dataset: Where the rows lie.
        plan: Which rows, and what each may see.
        tokens_per_batch: Bound on a batch, padding counted; memory grows with it.
        also: What else to ask of the predictions, such as the watch curve at some second.
        part: `(rank, of)`: score the stretches that fall to one of several processes.
        progress: Who is told.

    Returns:
        Predictions in event-row order.
    """
    rank, of = part
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    rows, logits, watch = [], [], []
    asked: dict[str, list[Tensor]] = {name: [] for name in also or {}}
    order = np.arange(len(plan))
    with progress.task("scoring", total=len(plan.candidate_rows), unit="impressions") as task:
        for chosen in batches_by_size(plan, order, tokens_per_batch):
            mine = chosen[rank::of]
            whose = mine if len(mine) else chosen[:1]  # who shares tables looks up as often
            batch = to_batch(read_stretches(dataset, plan, whose), catalogue, device)
            predictions = model(batch).predictions
            if not len(mine):
                continue
            rows.append(batch.row)
            logits.append(
                torch.stack([predictions.logits[name] for name in model.objectives]).double().cpu()
            )
            watch.append(predictions.expected_watch_s.double().cpu())
            for name, ask in (also or {}).items():
                asked[name].append(ask(predictions, batch).double().cpu())
            task.advance(len(batch.row))
    model.train(was_training)
    row = np.concatenate(rows) if rows else np.empty(0, dtype=np.int64)
    by_row = np.argsort(row, kind="stable")
    stacked = torch.cat(logits, 1).numpy() if logits else np.empty((len(model.objectives), 0))
    return RowPredictions(
        row=row[by_row],
        logits={name: stacked[place][by_row] for place, name in enumerate(model.objectives)},
        expected_watch_s=_joined(watch)[by_row],
        also={name: _joined(values)[by_row] for name, values in asked.items()},
    )


def _joined(values: list[Tensor]) -> NDArray[np.float64]:
    return torch.cat(values).numpy() if values else np.empty(0)


@torch.no_grad()
def viewer_vectors(
    model: Recommender,
    catalogue: Catalogue,
    dataset: Dataset,
    plan: Plan,
    *,
    tokens_per_batch: int = 32_768,
    progress: Progress = SILENT,
) -> NDArray[np.float32]:
    """Make the retrieval vector of the viewer of every candidate of a plan.

    Args:
        model: In evaluation mode.
        catalogue: The dataset in the model's indices.
        dataset: Where the rows lie.
        plan: Which rows, and what each may see.
        tokens_per_batch: Bound on a batch, padding counted.
        progress: Who is told.

    Returns:
        (N, R) in the order of `plan.candidate_rows`.
    """
    device = next(model.parameters()).device
    settings = model.settings.retrieval
    width = settings.width + settings.co_watched
    vectors = np.zeros((len(plan.candidate_rows), width), np.float32)
    with progress.task("viewers", total=len(plan.candidate_rows), unit="requests") as task:
        for chosen in batches_by_size(plan, np.arange(len(plan)), tokens_per_batch):
            batch = to_batch(read_stretches(dataset, plan, chosen), catalogue, device)
            made = model.viewer_vectors(batch, model.past(batch)).cpu().numpy()
            ends = np.cumsum(plan.num_candidates[chosen])
            for place, end in zip(chosen, ends, strict=True):
                first, last = plan.candidate_offsets[place], plan.candidate_offsets[place + 1]
                vectors[first:last] = made[end - (last - first) : end]
            task.advance(len(batch.row))
    return vectors
