"""The bare loop that a peer's network is trained in, in its own environment; prints JSON.

- Its own model code, Adam with the learning rate and weight decay of its own trainer, batches of
  256 or 2048, whichever a trial finds faster, binary cross-entropy; data lie in memory as tensors
  before the clock starts.
"""

import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

BATCHES = (2048, 256)
TRIAL = 2048
"""Rows of a trial."""


def rows_of(folder: Path) -> dict[str, torch.Tensor]:
    """Read what `train.py` wrote."""
    return {file.stem: torch.from_numpy(np.load(file)) for file in sorted(folder.glob("*.npy"))}


def measure(
    name: str,
    model: torch.nn.Module,
    inputs: Callable[[slice], Any],
    labels: torch.Tensor,
    weight_decay: float,
    tasks: int,
) -> None:
    """Train for a pass over the rows, after trials that do not count."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=weight_decay)
    model.train()

    def step(begin: int, batch: int) -> int:
        here = slice(begin, begin + batch)
        predicted = model(inputs(here)).reshape(-1, tasks)
        expected = labels[here, :tasks].float()
        loss = torch.nn.functional.binary_cross_entropy(predicted, expected)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return len(expected)

    def tried(batch: int) -> float:
        cpu = time.process_time()
        for begin in range(0, TRIAL, batch):
            step(begin, batch)
        return time.process_time() - cpu

    step(0, TRIAL)
    batch = min(BATCHES, key=tried)
    wall, cpu, number = time.perf_counter(), time.process_time(), 0
    for begin in range(0, len(labels), batch):
        number += step(begin, batch)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(
        json.dumps(
            {
                "net": name,
                "objectives": tasks,
                "batch": batch,
                "impressions": number,
                "impressions_per_cpu_s": number / cpu,
                "impressions_per_s": number / wall,
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )
