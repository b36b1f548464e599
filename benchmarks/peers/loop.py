"""The bare loop that a peer's network is trained in, in its own environment; prints JSON.

- Its own model code, Adam with the learning rate and weight decay of its own trainer, batches of
  2048, binary cross-entropy; data lie in memory as tensors before the clock starts.
"""

import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

BATCH = 2048


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
    """Train for a pass over the rows, after one batch that does not count."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=weight_decay)
    model.train()

    def step(begin: int) -> int:
        here = slice(begin, begin + BATCH)
        predicted = model(inputs(here)).reshape(-1, tasks)
        expected = labels[here, :tasks].float()
        loss = torch.nn.functional.binary_cross_entropy(predicted, expected)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return len(expected)

    step(0)
    wall, cpu, number = time.perf_counter(), time.process_time(), 0
    for begin in range(0, len(labels), BATCH):
        number += step(begin)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(
        json.dumps(
            {
                "net": name,
                "objectives": tasks,
                "impressions": number,
                "impressions_per_cpu_s": number / cpu,
                "impressions_per_s": number / wall,
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )
