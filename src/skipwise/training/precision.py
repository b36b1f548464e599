"""In which precision a network is trained here: measured before the first step.

    learner, batches  ->  choose_precision  ->  Precision: bf16 or fp32, and the times that say so

- bf16 makes products three to four times as fast where the processor has it (AMX), and slower
  where it has not. So it is timed, and taken where it clearly gains.
- Weights, gradients, moments, losses and everything that scores stay in float32.
- The trial leaves no trace: weights and the state of chance are as before.

Reads `learner`; is read by `fit`.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from skipwise.model.batch import Batch
from skipwise.training.learner import Learner

GAIN_AT_LEAST = 1.1
"""How many times faster bf16 must be to be taken: below, noise could decide."""
ROUNDS = 3
TRIED_FROM_WIDTH = 32
"""A narrower network gains little (1.18 times as fast at width 16) and is not tried, so that the
same seed gives the same weights whatever else runs on the machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Precision:
    """What was chosen, and why."""

    name: str
    """fp32 or bf16."""
    fp32_ms: float | None = None
    """Processor time of a batch there and back, milliseconds; None where nothing was timed."""
    bf16_ms: float | None = None

    def __str__(self) -> str:
        if self.fp32_ms is None or self.bf16_ms is None:
            return f"training in {self.name}"
        return (
            f"training in {self.name}: a batch takes {self.fp32_ms:.0f} ms in fp32, "
            f"{self.bf16_ms:.0f} ms in bf16"
        )


def choose_precision(learner: Learner, batches: Sequence[Batch], setting: str) -> Precision:
    """Choose by the setting, or by trial.

    Args:
        learner: About to take its first step.
        batches: Some of its own, to be tried.
        setting: fp32, bf16, or auto: bf16 where it is `GAIN_AT_LEAST` times faster. A narrow
            network tries nothing, nor does a GPU, whose time is not the processor's, nor do
            several processes, whose shared tables learn in the backward pass: auto is fp32.
    """
    if setting != "auto":
        return Precision(name=setting)
    narrow = learner.model.settings.width < TRIED_FROM_WIDTH
    untimed = learner.device.type != "cpu" or learner.processes.number > 1
    if narrow or untimed or not batches:
        return Precision(name="fp32")
    chance = torch.get_rng_state()
    times: dict[str, list[float]] = {"fp32": [], "bf16": []}
    for _ in range(ROUNDS):
        for name, measured in times.items():
            begun = time.process_time()
            for batch in batches:
                learner.try_batch(batch, precision=name)
            measured.append(1000 * (time.process_time() - begun) / len(batches))
    torch.set_rng_state(chance)
    fp32_ms, bf16_ms = min(times["fp32"]), min(times["bf16"])
    name = "bf16" if fp32_ms >= GAIN_AT_LEAST * bf16_ms else "fp32"
    return Precision(name=name, fp32_ms=fp32_ms, bf16_ms=bf16_ms)
