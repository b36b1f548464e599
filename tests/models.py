"""Untrained models of any shape, and their predictions."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skipwise.features.dataset import Dataset
from skipwise.features.stretches import Plan, plan_stretches, read_stretches
from skipwise.features.view import View
from skipwise.features.vocabulary import Catalogue, bind, learn_vocabulary
from skipwise.labels.grid import NUM_BINS
from skipwise.model.batch import Batch, to_batch
from skipwise.model.objectives import OBJECTIVES
from skipwise.model.predict import RowPredictions, predict_rows
from skipwise.model.recommender import Recommender
from skipwise.settings import apply_settings, parse_overrides
from skipwise.training.checkpoint import build_model, dataset_facts
from skipwise.training.settings import TrainSettings, preset
from tests.worlds import timed_rows

LIVE = View(mode="progressive")
LATE = View(mode="progressive", extra_delay_ms=6 * 3_600_000)
VIEWS = [View(), LIVE, LATE]
VIEW_NAMES = ["daily", "live", "late"]
SHORT = "model.encoder.history_length=7"
"""So short a history that small data reach beyond it."""


def tiny_settings(*words: str) -> TrainSettings:
    """Return settings of a tiny model that trains on one thread of the CPU."""
    return apply_settings(preset("tiny"), parse_overrides(["threads=1", "device=cpu", *words]))


@dataclass(frozen=True)
class Untrained:
    """A model whose every weight is drawn at random, so that nothing it reads is without effect."""

    model: Recommender
    catalogue: Catalogue
    dataset: Dataset

    @property
    def reach(self) -> int:
        return self.model.settings.encoder.reach

    def predict(
        self, plan: Plan, dataset: Dataset | None = None, *, tokens_per_batch: int = 10**6
    ) -> RowPredictions:
        """Score a plan on the model's own dataset or on an edited one."""
        return predict_rows(
            self.model,
            self.catalogue,
            dataset or self.dataset,
            plan,
            tokens_per_batch=tokens_per_batch,
        )

    def plan(
        self,
        view: View,
        selected: NDArray[np.bool_] | None = None,
        *,
        candidates_at_most: int = 256,
    ) -> Plan:
        """Cut rows, all timed ones unless told, into stretches as long as the model needs."""
        return plan_stretches(
            self.dataset,
            timed_rows(self.dataset) if selected is None else selected,
            view,
            reach=self.reach,
            candidates_at_most=candidates_at_most,
        )

    def batch(self, view: View, selected: NDArray[np.bool_] | None = None) -> Batch:
        """Read all rows of a plan as one batch."""
        plan = self.plan(view, selected)
        stretches = read_stretches(self.dataset, plan, np.arange(len(plan)))
        return to_batch(stretches, self.catalogue)


def untrained(dataset: Dataset, *words: str, seed: int = 0) -> Untrained:
    """Build a tiny model that knows a whole dataset, with random weights everywhere."""
    settings = tiny_settings(*words)
    vocabulary = learn_vocabulary(dataset, np.arange(dataset.num_events))
    objectives = tuple(name for name in OBJECTIVES if name in dataset.objectives)
    model = build_model(dataset_facts(dataset), vocabulary, objectives, settings)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in model.parameters():
            weights.copy_(torch.randn(weights.shape, generator=generator) * 0.3)
        for head in (*model.predictor.heads.parameters(), *model.predictor.wide.parameters()):
            head.mul_(0.2)  # or most probabilities would be 0 and 1, which hide all else
        model.predictor.start_from(dict.fromkeys(objectives, 0.3), [0.05] * (NUM_BINS - 1))
    counters = torch.from_numpy(dataset.counters_day.all().copy())
    model.inputs.counters.fit(lambda: [counters])
    model.eval()
    return Untrained(model, bind(vocabulary, dataset), dataset)


def stacked(predicted: RowPredictions) -> NDArray[np.float64]:
    """Put all predictions side by side, (N, objectives + 1): logits and log expected seconds."""
    return np.stack(
        [*predicted.logits.values(), np.log1p(predicted.expected_watch_s)],
        axis=1,
    )


@torch.no_grad()
def logits_of(model: Untrained, batch: Batch) -> Tensor:
    """Return the logits of a batch as they are scored, (M, objectives)."""
    predictions = model.model(batch).predictions
    return torch.stack(list(predictions.logits.values()), 1)
