"""What does an impression cost as things grow? `make bench-growth` (SHORT=1: a few minutes).

CPU milliseconds per impression of training steps on one thread, reading and planning included, on
made-up rows: as the table of videos grows, as viewers do, and as a stretch grows past the window.
"""

import json
import os
import platform
import resource
import time
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from benchmarks.made import made_dataset, made_learner

import skipwise
from skipwise.features.stretches import plan_stretches
from skipwise.features.view import View
from skipwise.settings import apply_settings
from skipwise.training.settings import preset

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import NullLocator

OUT = Path(__file__).parent / "out"
PLOT = Path(__file__).parents[1] / "docs" / "growth.svg"
WINDOW = 100
ROUNDS = 3
LABELS = {
    "stretch": "events of each viewer, in one stretch",
    "viewers": "viewers",
    "table": "rows of the table of videos",
}


def cost(
    *, viewers: int, events_each: int, scored_each: int, videos: int, tokens: int, sparse: bool
) -> dict[str, Any]:
    """Train for a few steps, and return what an impression cost at best."""
    dataset = made_dataset(viewers, events_each, videos)
    words: dict[str, Any] = {
        "tokens_per_batch": tokens,
        "model": {"encoder": {"history_length": WINDOW}, "inputs": {"ids": True}},
        "optimizer": {"sparse_from_rows": 1 if sparse else 10**9},
    }
    settings = apply_settings(preset("small"), words)
    learner = made_learner(dataset, viewers, videos, settings)
    scored = np.tile(np.arange(events_each) >= events_each - scored_each, viewers)
    start = time.process_time()
    plan = plan_stretches(
        dataset,
        scored,
        View(mode="progressive"),
        reach=settings.model.encoder.reach,
        candidates_at_most=scored_each,
    )
    planned_s = (time.process_time() - start) / len(plan.candidate_rows)
    batches = learner.batches(plan, np.random.default_rng(0))
    learner.step(learner.read(plan, batches[0]), 0)
    best = np.inf
    for _ in range(ROUNDS):
        start, number = time.process_time(), 0
        for chosen in batches[1:5]:
            number += learner.step(learner.read(plan, chosen), 100)[1]
        best = min(best, (time.process_time() - start) / number)
    return {
        "viewers": viewers,
        "events_each": events_each,
        "table_rows": videos,
        "sparse": sparse,
        "ms_per_impression": 1000 * (best + planned_s),
        "of_which_planning": 1000 * planned_s,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Measure, draw and write."""
    torch.set_num_threads(1)
    short = bool(os.environ.get("SHORT"))
    grown: dict[str, list[dict[str, Any]]] = {"stretch": [], "viewers": [], "table": []}
    for length in (256, 512, 1024, 2048) if short else (256, 512, 1024, 2048, 4096, 8192):
        grown["stretch"].append(
            told(
                "stretch",
                cost(
                    viewers=max(6, 40_000 // length),
                    events_each=length + 2 * WINDOW,
                    scored_each=length,
                    videos=10_000,
                    tokens=max(6_000, 2 * length + 500),
                    sparse=False,
                ),
            )
        )
    for viewers in (1_000, 10_000, 100_000) if short else (1_000, 10_000, 100_000, 1_000_000):
        found = cost(
            viewers=viewers, events_each=8, scored_each=6, videos=10_000, tokens=6_000, sparse=False
        )
        grown["viewers"].append(told("viewers", found))
    for rows in (100_000, 1_000_000) if short else (100_000, 1_000_000, 10_000_000):
        for sparse in (True, False) if rows <= 1_000_000 else (True,):
            found = cost(
                viewers=24,
                events_each=512 + 2 * WINDOW,
                scored_each=512,
                videos=rows,
                tokens=6_000,
                sparse=sparse,
            )
            grown["table"].append(told("table", found))
    write(grown)


def told(what: str, found: dict[str, Any]) -> dict[str, Any]:
    """Print one measurement."""
    print(
        f"{what:8} {found['viewers']:>9,} viewers of {found['events_each']:>5,} events, "
        f"{found['table_rows']:>10,} rows{' sparse' if found['sparse'] else '       '}: "
        f"{found['ms_per_impression']:.4f} ms CPU per impression, "
        f"at most {found['peak_mib']:,.0f} MiB so far"
    )
    return found


def write(grown: dict[str, list[dict[str, Any]]]) -> None:
    """Draw one plot each, and write the numbers."""
    OUT.mkdir(parents=True, exist_ok=True)
    axis = {"stretch": "events_each", "viewers": "viewers", "table": "table_rows"}
    figure, plots = plt.subplots(1, len(grown), figsize=(12, 3.5), sharey=False)
    ratios = {}
    for plot, (what, rows) in zip(plots, grown.items(), strict=True):
        for sparse in sorted({row["sparse"] for row in rows}):
            line = [row for row in rows if row["sparse"] == sparse]
            costs = [row["ms_per_impression"] for row in line]
            label = "touched rows" if sparse else "all rows"
            plot.plot([row[axis[what]] for row in line], costs, marker="o", label=label)
            name = f"{what}{' (touched rows)' if sparse else ''}: dearest over cheapest"
            ratios[name] = max(costs) / min(costs)
        plot.set_xscale("log")
        at = sorted({row[axis[what]] for row in rows})
        plot.set_xticks(at, [brief(each) for each in at], fontsize=8)
        plot.xaxis.set_minor_locator(NullLocator())
        plot.set_ylim(0, 1.15 * max(row["ms_per_impression"] for row in rows))
        plot.set_xlabel(LABELS[what])
        plot.set_ylabel("milliseconds of processor per impression")
        if what == "table":
            plot.legend()
    figure.suptitle(f"Training steps on one thread, preset small, window of {WINDOW}", fontsize=10)
    figure.tight_layout()
    figure.savefig(PLOT, metadata={"Date": None, "Creator": None})
    for name, value in ratios.items():
        print(f"{value:5.2f} {name}")
    facts = {
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "threads": 1,
            "load": os.getloadavg()[0],
        },
        "versions": {"skipwise": skipwise.__version__, "torch": torch.__version__},
        "seeds": [0],
        "rows": [{"grows": what, **row} for what, rows in grown.items() for row in rows],
        "ratios": ratios,
    }
    (OUT / "growth.json").write_text(json.dumps(facts, indent=1))


def brief(number: int) -> str:
    """Write a number for an axis.

    >>> brief(8_392), brief(100_000), brief(10_000_000)
    ('8,392', '100k', '10M')
    """
    if number >= 1_000_000:
        return f"{number // 1_000_000}M"
    return f"{number // 1_000}k" if number >= 10_000 else f"{number:,}"


if __name__ == "__main__":
    main()
