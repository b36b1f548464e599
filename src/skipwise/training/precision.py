"""In which precision a network is trained here: measured before the first step.

    learner, batches  ->  choose_precision  ->  Precision: bf16 or fp32, and the times that say so

- bf16 makes products some four times as fast where the processor has it (AMX), and slower
  where it has not; what is rounded is copied, which products of few rows do not pay for. So it is
  timed, and taken where it clearly gains.
- Products are compiled for each of their few shapes (`products`) when they first occur. That is not
  timed; where stretches are of all lengths it takes 3 % of a pass (docs/engine.md).
- Weights, gradients, moments, losses and everything that scores stay in float32.
- The trial leaves no trace: weights and the state of chance are as before.

Reads `learner`; is read by `fit`.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from skipwise.model.batch import Batch
from skipwise.training.learner import Learner
from skipwise.training.settings import TrainSettings

GAIN_AT_LEAST = 1.2
"""How many times faster bf16 must be to be taken: the trial is of hot batches, and what is less, or
nothing, in a whole training is not worth the memory; and noise is not to decide."""
BATCHES = 8
"""Of its own that are tried."""
TRIED_FROM_WIDTH = 32
"""A narrower network gains little (1.18 times as fast at width 16) and is not tried, so that the
same seed gives the same weights whatever else runs on the machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Precision:
    """What was chosen, and why."""

    name: str
    """fp32 or bf16."""
    gain: float | None = None
    """How many times as fast as in fp32 the middle batch is there and back in bf16, by processor
    time; None: nothing was timed."""

    def __str__(self) -> str:
        if self.gain is None:
            return f"training in {self.name}"
        return (
            f"training in {self.name}: in bf16 a batch goes {self.gain:.2f} times as fast here, "
            f"taken from {GAIN_AT_LEAST} on"
        )


def may_be_narrow(settings: TrainSettings, device: torch.device, *, together: bool) -> bool:
    """Say whether a training by such settings may take a processor's products in bf16.

    By trial a wide network does; not several processes, whose shared tables learn in the backward
    pass. A GPU's products are its own.

    Args:
        settings: Theirs; `precision` is fp32, bf16 or auto.
        device: Where it trains.
        together: Whether several processes train it.
    """
    if device.type != "cpu" or settings.precision == "fp32":
        return False
    tried = settings.model.width >= TRIED_FROM_WIDTH and not together
    return settings.precision == "bf16" or tried


def choose_precision(learner: Learner, batches: Sequence[Batch]) -> Precision:
    """Choose by the setting `precision`, or by trial: auto is bf16 where that clearly gains.

    Args:
        learner: About to take its first step.
        batches: Some of its own, to be tried: `BATCHES`, or as many as there are.
    """
    settings, together = learner.settings, learner.processes.number > 1
    if settings.precision != "auto":
        return Precision(name=settings.precision)
    if not batches or not may_be_narrow(settings, learner.device, together=together):
        return Precision(name="fp32")
    chance = torch.get_rng_state()
    for batch in batches:  # memory is asked for, and products are compiled
        for name in ("fp32", "bf16"):
            learner.try_batch(batch, precision=name)
    gains = []
    for place, batch in enumerate(batches):
        order = ("fp32", "bf16") if place % 2 else ("bf16", "fp32")
        spent_s = {name: _time_of(learner, batch, name) for name in order}
        gains.append(spent_s["fp32"] / spent_s["bf16"])
    torch.set_rng_state(chance)
    gain = statistics.median(gains)
    return Precision(name="bf16" if gain >= GAIN_AT_LEAST else "fp32", gain=gain)


def _time_of(learner: Learner, batch: Batch, precision: str) -> float:
    """Return the processor seconds of a batch there and back."""
    begun = time.process_time()
    learner.try_batch(batch, precision=precision)
    return time.process_time() - begun
