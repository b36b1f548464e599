"""May the threshold of a glance change without training again?

    .venv/bin/python -m benchmarks.quality_thresholds             # simulated viewers; some minutes
    DATA=folder .venv/bin/python -m benchmarks.quality_thresholds # KuaiRand-Pure, protocol D

One log prepared twice, a glance ending at 3 s and at 6 s, SEEDS=0,1,2, and three arms judged by
glances of 6 s on the same rows, with paired differences over viewers of the mean over seeds:

- moved: learnt glances of 3 s; the cut on its curve is moved to 6 s afterwards;
- the same inputs: learnt glances of 6 s, while its past and counters still tell glances of 3 s;
- retrained: learnt glances of 6 s, and its past and counters tell them too.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import ibis
import numpy as np
import torch
from benchmarks.quality_runs import Bench, Cell
from numpy.typing import NDArray

from skipwise.evaluation.bootstrap import interval, replicate
from skipwise.evaluation.evaluate import score_run
from skipwise.evaluation.metrics import auc_statistic, log_loss_statistic
from skipwise.events.read import read_log
from skipwise.features.dataset import Dataset, day_number
from skipwise.features.prepare import prepare, settings_of
from skipwise.simulation.log import simulate
from skipwise.simulation.world import WorldSettings
from skipwise.training.checkpoint import TrainedRun

FROM_S, TO_S = 3.0, 6.0
KEPT = Path(__file__).parent / "out" / "quality" / "thresholds"
WORLD = WorldSettings(viewers=500, videos=400, authors=80, topics=10, days=7, seed=2)
CURVE = ("model.objectives.relation=curve", "refit=false")
TINY = (*CURVE, "passes_at_most=3", "tokens_per_batch=2048", "optimizer.learning_rate=0.004")
SMALL = (*CURVE, "passes_at_most=2")


class Glances(NamedTuple):
    """What one arm said of glances of 6 s."""

    label: NDArray[np.int8]
    """(N,) 0 or 1."""
    chance: NDArray[np.float64]
    """(N,) its probability."""
    viewer: NDArray[np.int64]
    """(N,) viewer of each row, counted from 0."""
    viewers: int


def main() -> None:
    """Print each arm's figures and what the moved cut gives less than the two others."""
    torch.set_num_threads(1)
    seeds = [int(seed) for seed in os.environ.get("SEEDS", "0,1,2").split(",")]
    at_3, at_6 = (_bench(seconds) for seconds in (FROM_S, TO_S))
    same_inputs = replace(at_3, dataset=_judged_by(at_3.dataset, at_6.dataset))
    rows, found = 0, []
    for seed in seeds:
        moved = at_3.run(Cell(""), seed)
        moved.model.cuts = replace(moved.model.cuts, glance_below_s=TO_S)
        arms = {
            "moved": _glances(at_3, moved, at_6.dataset),
            "the same inputs": _glances(same_inputs, same_inputs.run(Cell(""), seed), at_6.dataset),
            "retrained": _glances(at_6, at_6.run(Cell(""), seed), at_6.dataset),
        }
        rows = len(arms["moved"].label)
        found.append(_measured(arms))
    print(f"{rows} rows, seeds {seeds}")
    means = {name: np.mean([values[name] for values in found], axis=0) for name in found[0]}
    for name, mean in means.items():
        arm, _, metric = name.rpartition(" ")
        apart = interval(means[f"moved {metric}"] - mean)
        less = f"moved less this {apart.value:+.4f} ({apart.low:+.4f} to {apart.high:+.4f})"
        print(f"{arm:>16} {metric:>8} {mean[0]:.4f}   {'' if arm == 'moved' else less}".rstrip())


def _measured(arms: Mapping[str, Glances]) -> dict[str, NDArray[np.float64]]:
    """Return each arm's metrics on the same drawn viewers: everybody first, then the draws."""
    statistics = {}
    for name, (label, chance, viewer, viewers) in arms.items():
        statistics[f"{name} AUC"] = auc_statistic(label, chance, viewer)
        statistics[f"{name} log-loss"] = log_loss_statistic(label, chance, viewer, viewers)
    return replicate(statistics, arms["moved"].viewers, samples=500, seed=0)


def _glances(bench: Bench, run: TrainedRun, judge: Dataset) -> Glances:
    """Ask a run for glances on the reported days; the labels are the judge's."""
    connection = ibis.duckdb.connect(threads=1)
    scored = score_run(run, bench.dataset, connection, days=bench.days).scored
    connection.disconnect()
    day = judge.events["day"].all()
    timed = judge.events["counter_row"].all() >= 0
    reported = timed & (day >= bench.days[0]) & (day <= bench.days[1])
    label = judge.events["label_glance"].all()[reported]
    known = label >= 0
    viewer, viewers = scored.viewer_ix()
    chance = scored.probabilities["glance"]
    return Glances(label[known], chance[known], viewer[known], viewers)


def _judged_by(dataset: Dataset, judge: Dataset) -> Dataset:
    """Return a dataset with another's glances to learn, and its own past and counters."""
    description = dict(dataset.description)
    description["settings"] = description["settings"] | {
        "labels": judge.description["settings"]["labels"]
    }
    description["fingerprint"] = f"{dataset.fingerprint}, glances of {judge.fingerprint}"
    events = dict(dataset.events) | {"label_glance": judge.events["label_glance"]}
    return replace(dataset, description=description, events=events)


def _bench(glance_below_s: float) -> Bench:
    log = Path(os.environ["DATA"]) if "DATA" in os.environ else _simulated()
    kept = KEPT / log.name
    folder = kept / f"glance-{glance_below_s:g}"
    if not folder.is_dir():
        connection = ibis.duckdb.connect(threads=1, memory_limit="3GiB")
        events = read_log(log, connection)
        settings = settings_of(events.description)
        labels = replace(settings.labels, glance_below_s=glance_below_s)
        kept.mkdir(parents=True, exist_ok=True)
        prepare(events, connection, folder, replace(settings, labels=labels))
        connection.disconnect()
    dataset = Dataset.open(folder)
    real = "DATA" in os.environ
    last = day_number("2022-05-03") if real else dataset.days[1]
    return Bench(
        dataset=dataset,
        last_training_day=last - 2,
        days=(last - 1, last),
        size="small" if real else "tiny",
        budget=SMALL if real else TINY,
        out=kept,
    )


def _simulated() -> Path:
    log = KEPT / "log"
    if not log.is_dir():
        simulate(log, WORLD)
    return log


if __name__ == "__main__":
    main()
