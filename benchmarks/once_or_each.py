"""Is a model that encodes a viewer once as good as one that encodes every impression's own past?

    SEEDS=0,1,2 WORDS="alike=impressions" .venv/bin/python -m benchmarks.once_or_each

Real rows (KuaiRand-Pure, protocol D). The same network, rows, passes and impressions per batch; in
the one each stretch of a viewer is encoded once, in the other each impression is a stretch of its
own. AUC and log-loss of the second less the first, 95 % over viewers, of the mean over seeds.
WORDS are further settings of both; without them every batch counts alike, and batches of the one
have most impressions where viewers have many, those of the other where histories are short.
"""

import functools
import json
import os
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from benchmarks import quality, quality_report
from benchmarks.quality_measures import OBJECTIVES, Values
from benchmarks.quality_runs import Bench, Cell

from skipwise.evaluation.bootstrap import interval
from skipwise.features.stretches import plan_stretches
from skipwise.features.view import View
from skipwise.settings import apply_settings, parse_overrides
from skipwise.training.settings import preset
from skipwise.training.window import training_window

WORDS = tuple(os.environ.get("WORDS", "").split())
BUDGET = ("passes_at_most=2", "refit=false", "loss.retrieval=0", *WORDS)
OUT = quality_report.OUT / "once_or_each.json"


def main() -> None:
    """Train both with every seed, print and keep the differences."""
    torch.set_num_threads(1)
    seeds = [int(seed) for seed in os.environ.get("SEEDS", "0,1,2").split(",")]
    bench = quality.real_bench("small", BUDGET, p1=False)
    tokens = tokens_alike(bench)
    cells = {
        "once": Cell("once", (f"tokens_per_batch={tokens['once']}",)),
        "each": Cell("each", (f"tokens_per_batch={tokens['each']}",)),
    }
    found: dict[str, list[Values]] = {}
    for name, cell in cells.items():
        planned = plan_stretches
        if name == "each":
            planned = functools.partial(plan_stretches, candidates_at_most=1)
        for seed in seeds:
            started = time.process_time()
            with patch("skipwise.training.fit.plan_stretches", planned):
                found.setdefault(name, []).append(bench.figures(cell, seed))
            print(f"{name}, seed {seed}: {time.process_time() - started:.0f} s CPU", flush=True)
    rows = {}
    for objective in OBJECTIVES:
        for metric in ("auc", "gauc", "log_loss"):
            key = f"{objective}/{metric}"
            once, each = (np.mean([v[key] for v in found[n]], axis=0) for n in ("once", "each"))
            rows[key] = {
                "once": once[0],
                "each": each[0],
                "each_less_once": interval(each - once)._asdict(),
            }
            apart = rows[key]["each_less_once"]
            print(
                f"{key:>20}  once {once[0]:.4f}  each {each[0]:.4f}  "
                f"{apart['value']:+.4f} ({apart['low']:+.4f} to {apart['high']:+.4f})"
            )
    OUT.write_text(json.dumps({"seeds": seeds, "tokens": tokens, "rows": rows}, indent=1))


def tokens_alike(bench: Bench) -> dict[str, int]:
    """Return tokens per batch with which both have about as many impressions in one."""
    window = training_window(bench.dataset, bench.last_training_day, 1)
    settings = apply_settings(preset("small"), parse_overrides(list(BUDGET)))
    cost = {}
    for name, at_most in (("once", 256), ("each", 1)):
        plan = plan_stretches(
            bench.dataset,
            window.training(with_validation=False),
            View(),
            reach=settings.model.encoder.reach,
            candidates_at_most=at_most,
        )
        cost[name] = float(plan.num_tokens.sum() / len(plan.candidate_rows))
        print(
            f"{name}: {len(plan.candidate_rows):,} impressions in {len(plan):,} stretches, "
            f"{cost[name]:.1f} events encoded for each"
        )
    once = settings.tokens_per_batch
    return {"once": once, "each": int(once * cost["each"] / cost["once"])}


if __name__ == "__main__":
    Path(quality.KEPT).mkdir(parents=True, exist_ok=True)
    main()
