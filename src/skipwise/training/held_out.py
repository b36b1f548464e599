"""How well are days predicted that were not learnt?

    Learner, rows held out  ->  held_out_losses  ->  log-loss per objective
    logits, labels (N,)     ->  log_losses       ->  (N,)

- Each viewer's rows are scored in the daily view, with the mean of the weights, no dropout.
- Of several processes each scores its part; all are told the same.

Reads `learner`; is read by `fit` and `follow`.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from skipwise.features.stretches import plan_stretches
from skipwise.features.view import View
from skipwise.model.predict import predict_rows
from skipwise.progress import SILENT, Progress
from skipwise.training.learner import Learner

_TOKENS_SCORED = 2
"""Times as many events are scored together as are learnt: without gradients they take less."""


def held_out_losses(
    learner: Learner, rows: NDArray[np.bool_], progress: Progress = SILENT
) -> dict[str, float]:
    """Return the mean log-loss of each objective over the rows whose outcome is known.

    Args:
        learner: Whose weights are judged, on the dataset it learns from.
        rows: (E,) which events.
        progress: Who is told.

    Returns:
        Nats; an objective with no known outcome is left out.
    """
    dataset, settings, processes = learner.dataset, learner.settings, learner.processes
    plan = plan_stretches(dataset, rows, View(), reach=settings.model.encoder.reach)
    with learner.averaged() as model:
        predicted = predict_rows(
            model,
            learner.catalogue,
            dataset,
            plan,
            tokens_per_batch=min(32_768, _TOKENS_SCORED * settings.tokens_per_batch),
            part=(processes.rank, processes.number),
            progress=progress,
        )
    losses = {}
    for name, logits in predicted.logits.items():
        label = dataset.events[f"label_{name}"].take(predicted.row)
        known = label >= 0
        here = float(log_losses(logits[known], label[known]).sum())
        total, number = processes.summed(
            torch.tensor([here, float(known.sum())], dtype=torch.float64)
        )
        if number > 0:
            losses[name] = float(total / number)
    return losses


def log_losses(logits: NDArray[np.float64], labels: NDArray[np.int8]) -> NDArray[np.float64]:
    """Return -[y log p + (1 - y) log(1 - p)] of each row, natural logs.

    >>> log_losses(np.array([0.0, 0.0]), np.array([0, 1], dtype=np.int8)).round(4).tolist()
    [0.6931, 0.6931]
    """
    found: NDArray[np.float64] = np.logaddexp(0, logits) - labels * logits
    return found
