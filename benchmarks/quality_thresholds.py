"""May the threshold of a glance change without training again? On simulated viewers.

    .venv/bin/python benchmarks/quality_thresholds.py        # SEEDS=0,1,2; some minutes

Two datasets of one log, a glance ending at 3 s and at 6 s; a model of each. The first model is then
asked for glances at 6 s by moving the cut on its curve, and set beside the second on the same rows:
paired differences of AUC and log-loss, over viewers and the mean over seeds.
"""

import os
from dataclasses import replace
from pathlib import Path

import ibis
import numpy as np
import torch
from quality_runs import Bench, Cell

from skipwise.evaluation.bootstrap import interval, replicate
from skipwise.evaluation.evaluate import score_run
from skipwise.evaluation.metrics import auc_statistic, log_loss_statistic
from skipwise.events.read import read_log
from skipwise.features.dataset import Dataset
from skipwise.features.prepare import PrepareSettings, prepare
from skipwise.labels.watch import LabelConfig
from skipwise.simulation.log import simulate
from skipwise.simulation.world import WorldSettings

FROM_S, TO_S = 3.0, 6.0
KEPT = Path(__file__).parent / "out" / "quality" / "thresholds"
WORLD = WorldSettings(viewers=500, videos=400, authors=80, topics=10, days=7, seed=2)
BUDGET = (
    "passes_at_most=3",
    "refit=false",
    "tokens_per_batch=2048",
    "optimizer.learning_rate=0.004",
)


def main() -> None:
    """Print the differences."""
    torch.set_num_threads(1)
    seeds = [int(seed) for seed in os.environ.get("SEEDS", "0,1,2").split(",")]
    at_3, at_6 = (_bench(seconds) for seconds in (FROM_S, TO_S))
    rows, values = 0, []
    for seed in seeds:
        moved = at_3.run(Cell(""), seed)
        moved.model.cuts = replace(moved.model.cuts, glance_below_s=TO_S)
        arms = {
            "moved": _glances(at_3, moved, at_6),
            "retrained": _glances(at_6, at_6.run(Cell(""), seed), at_6),
        }
        statistics = {}
        for name, (label, chance, viewer, number) in arms.items():
            statistics[f"{name} auc"] = auc_statistic(label, chance, viewer)
            statistics[f"{name} log-loss"] = log_loss_statistic(label, chance, viewer, number)
            rows = len(label)
        number = arms["moved"][3]
        values.append(replicate(statistics, number, samples=500, seed=0))
    for metric in ("auc", "log-loss"):
        moved_by, again = (
            np.mean([found[f"{name} {metric}"] for found in values], axis=0)
            for name in ("moved", "retrained")
        )
        apart = interval(moved_by - again)
        print(
            f"{metric}: moved {moved_by[0]:.4f}, retrained {again[0]:.4f}: {apart.value:+.4f} "
            f"({apart.low:+.4f} to {apart.high:+.4f}); {rows} rows, {seeds}"
        )


def _glances(bench, run, labels_of):  # type: ignore[no-untyped-def]
    """Return labels at TO_S, probabilities, viewers and their number, of rows judged at TO_S."""
    connection = ibis.duckdb.connect(threads=1)
    scored = score_run(run, bench.dataset, connection, days=bench.days).scored
    connection.disconnect()
    truth = labels_of.dataset.events["label_glance"].all()
    day = labels_of.dataset.events["day"].all()
    label = truth[(day >= bench.days[0]) & (day <= bench.days[1])]
    known = label >= 0
    viewer, number = scored.viewer_ix()
    return label[known], scored.probabilities["glance"][known], viewer[known], number


def _bench(glance_below_s: float) -> Bench:
    folder = KEPT / f"glance-{glance_below_s:g}"
    if not (KEPT / "log").is_dir():
        simulate(KEPT / "log", WORLD)
    if not folder.is_dir():
        connection = ibis.duckdb.connect(threads=1, memory_limit="3GiB")
        settings = PrepareSettings(labels=LabelConfig(glance_below_s=glance_below_s))
        prepare(read_log(KEPT / "log", connection), connection, folder, settings)
        connection.disconnect()
    dataset = Dataset.open(folder)
    last = dataset.days[1]
    return Bench(
        dataset=dataset,
        last_training_day=last - 2,
        days=(last - 1, last),
        size="tiny",
        budget=BUDGET,
        out=KEPT,
    )


if __name__ == "__main__":
    main()
