"""What a phase of training starts from: vocabulary, normalisers, base rates and fresh weights.

    Dataset, training rows, known rows, settings  ->  set_out  ->  Outset: learner, vocabulary, ...

- All of it comes from the phase's own rows: the held-out days are in no statistic.

Reads `model`, `features`; is read by `fit`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from skipwise.features.dataset import Dataset
from skipwise.features.vocabulary import Catalogue, Vocabulary, bind, learn_vocabulary
from skipwise.labels.grid import NUM_BINS, grid_bin
from skipwise.model.recommender import Recommender
from skipwise.training.checkpoint import build_model, dataset_facts
from skipwise.training.co_watching import co_watched_vectors
from skipwise.training.finding import FindingTeacher
from skipwise.training.learner import Learner
from skipwise.training.machine import chosen_device
from skipwise.training.processes import ALONE, Processes
from skipwise.training.settings import TrainSettings

_ROWS_AT_ONCE = 1_024
"""Rows whose counters are held together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outset:
    """Ready for the first step."""

    learner: Learner
    vocabulary: Vocabulary
    label_shares: dict[str, float]
    """Objective -> share of positives among the training rows."""


def set_out(
    dataset: Dataset,
    training: NDArray[np.bool_],
    known: NDArray[np.int64],
    objectives: tuple[str, ...],
    settings: TrainSettings,
    processes: Processes = ALONE,
) -> Outset:
    """Make a phase's fresh learner.

    Args:
        dataset: Prepared events.
        training: (events,) which are learnt from.
        known: (K,) event rows whose outcomes may be known, untimed ones among them.
        objectives: What is learnt.
        settings: Everything that can be chosen.
        processes: Who trains together.

    Raises:
        SettingError: No such device, or TorchRec is needed and not installed.
    """
    vocabulary = learn_vocabulary(dataset, known, min_views=settings.min_views)
    torch.manual_seed(settings.seed)
    model = build_model(dataset_facts(dataset), vocabulary, objectives, settings)
    rows = np.flatnonzero(training)
    counter_rows = dataset.events["counter_row"].take(rows)
    sample = counter_rows[:: max(1, len(counter_rows) // 500_000)]
    model.inputs.counters.fit(lambda: _counters(dataset, sample))
    label_shares = {name: _share_of_positives(dataset, rows, name) for name in objectives}
    model.predictor.start_from(label_shares, _shares_leaving(dataset, rows))
    if model.predictor.watch is not None:
        model.predictor.watch.fit(*_known_watches(dataset, rows, model.cuts.watch_at_most_s))
    device = chosen_device(settings.device, processes.local_rank)
    model.to(device)
    catalogue = bind(vocabulary, dataset)
    finding = None
    if settings.loss.retrieval > 0:
        _tell_of_co_watching(model, dataset, catalogue, known, settings)
        finding = FindingTeacher(
            dataset,
            catalogue,
            known,
            last_day=int(dataset.events["day"].take(known).max()),
            sampled=settings.model.retrieval.sampled,
            glances=settings.loss.retrieval_glances,
        )
    learner = Learner(model, catalogue, dataset, settings, finding, processes)
    return Outset(learner=learner, vocabulary=vocabulary, label_shares=label_shares)


def _counters(dataset: Dataset, rows: NDArray[np.int64]) -> Iterator[torch.Tensor]:
    """Read the nightly counters of rows, some at a time."""
    for first in range(0, len(rows), _ROWS_AT_ONCE):
        taken = dataset.counters_day.take(rows[first : first + _ROWS_AT_ONCE])
        yield torch.from_numpy(taken)


def _share_of_positives(dataset: Dataset, rows: NDArray[np.int64], objective: str) -> float:
    label = dataset.events[f"label_{objective}"].take(rows)
    return float((label == 1).sum() / max((label >= 0).sum(), 1))


def _shares_leaving(dataset: Dataset, rows: NDArray[np.int64]) -> list[float]:
    """Return, per bin of the watch grid, the share of who is still there that leaves in it."""
    watch_s = dataset.events["watch_s"].take(rows).astype(np.float64)
    counts = np.bincount(grid_bin(watch_s[~np.isnan(watch_s)]), minlength=NUM_BINS)
    at_risk = counts[::-1].cumsum()[::-1]
    return list((counts[:-1] + 0.5) / (at_risk[:-1] + 1.0))


def _known_watches(
    dataset: Dataset, rows: NDArray[np.int64], at_most_s: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rows' known watch times, seconds, and their duration buckets."""
    watch_s = dataset.events["watch_s"].take(rows).astype(np.float64)
    bucket = dataset.events["duration_bucket"].take(rows).astype(np.int64)
    known = ~np.isnan(watch_s)
    return (
        torch.from_numpy(np.minimum(watch_s[known], at_most_s)),
        torch.from_numpy(bucket[known]),
    )


def _tell_of_co_watching(
    model: Recommender,
    dataset: Dataset,
    catalogue: Catalogue,
    known: NDArray[np.int64],
    settings: TrainSettings,
) -> None:
    """Give the retrieval head the vectors of what is watched together."""
    width = settings.model.retrieval.co_watched
    if width == 0:
        return
    device = next(model.parameters()).device
    vectors = co_watched_vectors(dataset, known, width, seed=settings.seed)
    model.retrieval.fill(
        torch.from_numpy(catalogue.video).to(device), torch.from_numpy(vectors).to(device)
    )
