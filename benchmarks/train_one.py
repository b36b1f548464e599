"""One measured training of our network in a process of its own; `train.py` runs it and reads JSON.

    python -m benchmarks.train_one once|each HISTORY BATCHES [PRESET [key=value ...]]

- `once`: stretches as training cuts them, of at most 256 impressions, encoded once.
- `each`: the same network and rows, the last HISTORY events encoded anew for each impression.
- Without the retrieval head, which no peer has; in fp32 or bf16 and batches of one of two sizes,
  whichever trials find fastest for the form; trials and the first steps do not count. With
  precision=P or tokens_per_batch=N no other is tried.
"""

import dataclasses
import itertools
import json
import math
import resource
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from benchmarks.made import made_dataset, made_learner
from torch.utils.flop_counter import FlopCounterMode

from skipwise.features.stretches import Plan, plan_stretches
from skipwise.features.view import View
from skipwise.settings import apply_settings, parse_overrides
from skipwise.training.learner import Learner
from skipwise.training.settings import preset

VIEWERS, SCORED_EACH, VIDEOS = 96, 512, 10_000
TOKENS = {"once": (6_000, 12_000), "each": (24_000, 48_000)}
"""Events per batch, of each form: whichever a trial finds faster."""
WARM_UP = 3
"""Batches that are learnt before any counts."""


def main() -> None:
    """Measure and print."""
    kind, history, num_batches = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    before = 2 * history
    dataset = made_dataset(VIEWERS, before + SCORED_EACH, VIDEOS)
    words: dict[str, Any] = {
        "model": {"encoder": {"history_length": history}, "inputs": {"ids": True}},
    }
    own = parse_overrides(sys.argv[5:])
    begun_from = preset(sys.argv[4] if len(sys.argv) > 4 else "small")
    settings = apply_settings(apply_settings(begun_from, words), own)
    learner = made_learner(dataset, VIEWERS, VIDEOS, settings)
    scored = np.tile(np.arange(before + SCORED_EACH) >= before, VIEWERS)
    view, reach = View(mode="progressive"), settings.model.encoder.reach
    if kind == "once":
        plan = plan_stretches(dataset, scored, view, reach=reach)
    else:
        plan = plan_stretches(dataset, scored, view, reach=history, candidates_at_most=1)
    sizes = [settings.tokens_per_batch] if "tokens_per_batch" in own else TOKENS[kind]
    choose_batches(learner, plan, sizes)
    batches = learner.batches(plan, np.random.default_rng(0))[:num_batches]
    assert len(batches) == num_batches, "more batches were asked for than there are"
    first = learner.read(plan, batches[0])
    with FlopCounterMode(display=False) as flops:
        learner.step(first, 0)
    for chosen in batches[:WARM_UP]:
        learner.step(learner.read(plan, chosen), 1)
    spent = timed_parts(learner)
    seconds = {"read": 0.0}
    wall, cpu, number = time.perf_counter(), time.process_time(), 0
    for chosen in batches:
        start = time.process_time()
        batch = learner.read(plan, chosen)
        seconds["read"] += time.process_time() - start
        number += learner.step(batch, 100)[1]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    seconds |= spent
    seconds["backward and the rest"] = cpu - sum(seconds.values())
    tokens = plan.num_tokens[np.concatenate(batches)]
    padded = sum(len(chosen) * int(plan.num_tokens[chosen].max()) for chosen in batches)
    print(
        json.dumps(
            {
                "net": f"ours, {'encoded once' if kind == 'once' else 'encoded per impression'}",
                "history": history,
                "precision": learner.precision,
                "tokens": learner.settings.tokens_per_batch,
                "objectives": len(learner.model.objectives),
                "impressions": number,
                "impressions_per_cpu_s": number / cpu,
                "impressions_per_s": number / wall,
                "mflop_per_impression": flops.get_total_flops() / len(first.row) / 1e6,
                "gflop_per_cpu_s": flops.get_total_flops() / len(first.row) * number / cpu / 1e9,
                "gemm_gflop_per_cpu_s": gemm_peak(torch.float32),
                "gemm_bf16_gflop_per_cpu_s": gemm_peak(torch.bfloat16),
                "padding_share": 1 - float(tokens.sum()) / padded,
                "ms_per_1000_impressions": {
                    name: 1e6 * value / number for name, value in seconds.items()
                },
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


def choose_batches(learner: Learner, plan: Plan, sizes: Sequence[int]) -> None:
    """Set the size of batches and the precision that take least time an impression."""
    best_s, settings = math.inf, learner.settings
    precisions = ("fp32", "bf16") if settings.precision == "auto" else (settings.precision,)
    for tokens, precision in itertools.product(sizes, precisions):
        tried = dataclasses.replace(settings, tokens_per_batch=tokens)
        learner.settings = tried
        chosen = learner.batches(plan, np.random.default_rng(0))[:WARM_UP]
        batches = [learner.read(plan, each) for each in chosen]
        rounds_s = []
        for _ in range(2):  # in the first, memory is asked for
            started = time.process_time()
            for batch in batches:
                learner.try_batch(batch, precision)
            rounds_s.append(time.process_time() - started)
        spent_s = min(rounds_s) / sum(len(batch.row) for batch in batches)
        if spent_s < best_s:
            best_s, best = spent_s, (tried, precision)
    learner.settings, learner.precision = best


def timed_parts(learner: Learner) -> dict[str, float]:
    """Count the CPU seconds of each part of a step from now on."""
    spent: dict[str, float] = {}

    def timed(owner: Any, name: str, what: str) -> None:
        run: Callable[..., Any] = getattr(owner, name)
        spent[what] = 0.0

        def measured(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            result = run(*args, **kwargs)
            spent[what] += time.process_time() - start
            return result

        setattr(owner, name, measured)

    model = learner.model
    timed(model.inputs, "forward", "inputs")
    timed(model, "encode", "encoder")
    timed(model.reader, "forward", "reader")
    timed(model.predictor, "forward", "predictor")
    timed(learner, "_losses_of", "losses")
    timed(learner.weights, "clip_gradients", "clipping")
    timed(learner.optimizer, "step", "optimizer")
    timed(learner, "_average", "running mean")
    return spent


def gemm_peak(kind: torch.dtype) -> float:
    """Return the best GFLOP per CPU second of a square product, tried for a second."""
    size = 1024
    left = torch.randn(size, size).to(kind)
    best, until = 0.0, time.process_time() + 1
    while time.process_time() < until:
        start = time.process_time()
        left @ left
        best = max(best, 2 * size**3 / (time.process_time() - start) / 1e9)
    return best


if __name__ == "__main__":
    main()
