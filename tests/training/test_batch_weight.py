"""What a batch counts in training: as much as any other, or as many as it has impressions."""

import numpy as np
import pytest
import torch

from skipwise.features.dataset import Dataset
from skipwise.features.stretches import plan_stretches
from skipwise.features.view import View
from skipwise.training.outset import set_out
from skipwise.training.processes import ALONE, Processes
from tests.models import tiny_settings
from tests.worlds import timed_rows

pytestmark = pytest.mark.usefixtures("one_thread")

STILL = (
    "optimizer.learning_rate=1e-12",
    "optimizer.id_learning_rate=1e-12",
    "optimizer.gradient_norm_at_most=1e9",
)
"""A step leaves the weights where they are."""
NO_CHANCE = (
    "history_dropout=0",
    "model.inputs.id_dropout=0",
    "model.encoder.dropout=0",
    "model.objectives.dropout=0",
)
LIKES = ("loss.retrieval=0", "loss.watch=0")
"""Taught likes alone, whose outcome every event of the log knows: a batch's loss is then a mean
over all of its impressions."""


class Part(Processes):
    """One of several processes that averages nothing: who tests does it."""

    def average_(self, values: torch.Tensor) -> None:
        """Leave it."""


def mean_gradient(
    dataset: Dataset, *words: str, processes: Processes = ALONE
) -> tuple[torch.Tensor, list[int]]:
    """Return the mean over batches of the gradient, and how many impressions each had."""
    settings = tiny_settings(*STILL, *NO_CHANCE, *LIKES, *words)
    rows = timed_rows(dataset)
    learner = set_out(dataset, rows, np.arange(dataset.num_events), ("like",), settings).learner
    plan = plan_stretches(
        dataset, rows, View(), reach=settings.model.encoder.reach, candidates_at_most=9
    )
    learner.processes = processes
    found: list[torch.Tensor] = []
    clip = learner.weights.clip_gradients

    def noted(norm_at_most: float, others_square: float = 0.0) -> float:
        found.append(torch.cat([each.clone() for each in learner.weights.gradients()]))
        return clip(norm_at_most, others_square)

    learner.weights.clip_gradients = noted  # type: ignore[method-assign]
    numbers = [
        learner.step(learner.read(plan, chosen), 0)[1]
        for chosen in learner.batches(plan, np.random.default_rng(0))
    ]
    return torch.stack(found).mean(0), numbers


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return how far apart two gradients are, as a share of the second's length."""
    return float((one - other).norm() / other.norm())


def test_impressions_count_alike_whatever_their_batch(small_dataset: Dataset) -> None:
    """Many batches then ask for what one of everything asks for; batches alike do not."""
    whole, (number,) = mean_gradient(small_dataset, "tokens_per_batch=1000000")
    assert number == int(timed_rows(small_dataset).sum())
    impressions, numbers = mean_gradient(
        small_dataset, "tokens_per_batch=300", "batch_weight=impressions"
    )
    assert max(numbers) > 2 * min(numbers), "the test is to have large and small batches"
    batches, _ = mean_gradient(small_dataset, "tokens_per_batch=300")
    apart, own = (distance(each, whole) for each in (batches, impressions))
    assert own < 1e-4, "of other sums of the same numbers"
    assert apart > 0.01


def test_of_several_processes_each_counts_what_it_has(small_dataset: Dataset) -> None:
    """Their gradients are averaged; one has more stretches of a batch than the other."""
    words = ("tokens_per_batch=600", "batch_weight=impressions")
    alone, numbers = mean_gradient(small_dataset, *words)
    parts = [
        mean_gradient(small_dataset, *words, processes=Part(rank=rank, number=2)) for rank in (0, 1)
    ]
    each = [sum(pair) for pair in zip(*(number for _, number in parts), strict=True)]
    assert each == numbers, "the test is to have at least two stretches in a batch"
    assert distance((parts[0][0] + parts[1][0]) / 2, alone) < 1e-4
