"""What does an impression cost as things grow? `make bench-growth` (SHORT=1: a few minutes).

CPU milliseconds per impression of training steps on one thread, reading and planning included, on
made-up rows: as the table of videos grows, as viewers do, and as a stretch grows past the window.
Below them what `skipwise train` holds of memory (`growth_memory`), which ends with an error where
that is more than the formula of docs/engine.md allows. PARTS=cost or PARTS=memory measures one and
takes the other from the last run's JSON. The picture is docs/growth.svg; SHORT=1 leaves that as it
is and draws in benchmarks/out.
"""

import json
import os
import platform
import resource
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from benchmarks.growth_memory import Measured, measured_memory
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
LABELS_OF_COST = {
    "stretch": "events of each viewer, in one stretch",
    "viewers": "viewers",
    "table": "rows of the table of videos",
}
LABELS_OF_MEMORY = {
    "memory, events": "events of the log",
    "memory, videos": "videos, each with a vector",
    "memory, history": "history length W",
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
    parts = os.environ.get("PARTS", "cost,memory").split(",")
    grown = {} if "cost" in parts else measured_before(LABELS_OF_COST)
    memory = {} if "memory" in parts else measured_before(LABELS_OF_MEMORY)
    grown = grown or measured_cost(short=short)
    memory = memory or measured_memory(short=short)
    write(grown, memory, OUT / "growth.svg" if short else PLOT)


def measured_before(labels: Mapping[str, str]) -> Measured:
    """Return the last run's rows of what these labels name."""
    file = OUT / "growth.json"
    if not file.is_file():
        raise SystemExit(
            f"{file} is not there; it must hold what PARTS leaves out, to be drawn beside it. Run "
            "`make bench-growth` whole once, or `python -m benchmarks.growth_memory`, which draws "
            "nothing."
        )
    rows = json.loads(file.read_text())["rows"]
    return {what: [row for row in rows if row["grows"] == what] for what in labels}


def measured_cost(*, short: bool) -> Measured:
    """Measure what an impression costs as a stretch, viewers and a table grow."""
    grown: Measured = {"stretch": [], "viewers": [], "table": []}
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
    return grown


def told(what: str, found: dict[str, Any]) -> dict[str, Any]:
    """Print one measurement."""
    print(
        f"{what:8} {found['viewers']:>9,} viewers of {found['events_each']:>5,} events, "
        f"{found['table_rows']:>10,} rows{' sparse' if found['sparse'] else '       '}: "
        f"{found['ms_per_impression']:.4f} ms CPU per impression, "
        f"at most {found['peak_mib']:,.0f} MiB so far",
        flush=True,
    )
    return found


def write(grown: Measured, memory: Measured, picture: Path) -> None:
    """Draw one plot each, costs above and memory below, and write the numbers.

    Raises:
        SystemExit: Training held more than the formula allows.
    """
    OUT.mkdir(parents=True, exist_ok=True)
    figure, (above, below) = plt.subplots(2, 3, figsize=(12, 7))
    ratios: dict[str, float] = {}
    for plot, (what, rows) in zip(above, grown.items(), strict=True):
        ratios |= draw_costs(plot, what, rows)
    for plot, (what, rows) in zip(below, memory.items(), strict=True):
        draw_memory(plot, what, rows)
    figure.suptitle(
        f"Training on one thread, preset small, W = {WINDOW} where it does not grow", fontsize=10
    )
    figure.tight_layout()
    figure.savefig(picture, metadata={"Date": None, "Creator": None})
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
        "rows": [{"grows": what, **row} for what, rows in (grown | memory).items() for row in rows],
        "ratios": ratios,
    }
    (OUT / "growth.json").write_text(json.dumps(facts, indent=1))
    for what, rows in memory.items():
        for row in rows:
            if row["held_mib"] > row["allowed_mib"]:
                raise SystemExit(
                    f"{what} {row['size']:,}: training held {row['held_mib']:,.0f} MiB, more than "
                    f"the {row['allowed_mib']:,.0f} that docs/engine.md allows. Mend either."
                )


def draw_costs(plot: Any, what: str, rows: list[dict[str, Any]]) -> dict[str, float]:
    """Draw what an impression cost, and return dearest over cheapest of each line."""
    axis = {"stretch": "events_each", "viewers": "viewers", "table": "table_rows"}[what]
    ratios = {}
    for sparse in sorted({row["sparse"] for row in rows}):
        line = [row for row in rows if row["sparse"] == sparse]
        costs = [row["ms_per_impression"] for row in line]
        label = "touched rows" if sparse else "all rows"
        plot.plot([row[axis] for row in line], costs, marker="o", label=label)
        name = f"{what}{' (touched rows)' if sparse else ''}: dearest over cheapest"
        ratios[name] = max(costs) / min(costs)
    plot.set_ylim(0, 1.15 * max(row["ms_per_impression"] for row in rows))
    label_axes(plot, what, [row[axis] for row in rows], "milliseconds of processor per impression")
    if what == "table":
        plot.legend()
    return ratios


def draw_memory(plot: Any, what: str, rows: list[dict[str, Any]]) -> None:
    """Draw what was held beside what is allowed."""
    sizes = [row["size"] for row in rows]
    for key, label, line in (
        ("allowed_mib", "allowed by the formula", "--"),
        ("held_mib", "held at most", "-"),
    ):
        plot.plot(sizes, [row[key] / 1024 for row in rows], line, marker="o", label=label)
    plot.set_ylim(0, 1.15 * max(row["allowed_mib"] for row in rows) / 1024)
    label_axes(plot, what, sizes, "GiB of memory of its own")
    plot.legend(loc="best", fontsize=8)


def label_axes(plot: Any, what: str, sizes: list[int], unit: str) -> None:
    """Put a tick at what was measured, in logarithms, and say what the axes are."""
    plot.set_xscale("log")
    at = sorted(set(sizes))
    plot.set_xticks(at, [brief(each) for each in at], fontsize=8)
    plot.xaxis.set_minor_locator(NullLocator())
    plot.set_xlabel((LABELS_OF_COST | LABELS_OF_MEMORY)[what])
    plot.set_ylabel(unit)


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
