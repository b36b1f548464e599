"""Does learning from skips make a better ranker? `make bench-quality` (SHORT=1: minutes).

Real rows (KuaiRand-Pure, protocol D: learns from 25 April - 1 May, measured on 2-3 May) and a
simulated world whose taste shows through skips alone. Every line of a table is a cell x seed,
trained and scored once and kept in benchmarks/out/quality by fingerprint: after Ctrl-C the same
command goes on.

    DATA=folder    KuaiRand-Pure as published, or a prepared dataset (../shared/data/kuairand-pure)
    TABLES=a,b     only these tables                SEEDS=0,1,2
                   planted:NAME is a table's cells on the simulated world, the encoder alone
    SHORT=1        preset tiny, 1 pass, one seed, fewer draws
    BUDGET=words   settings that every cell has, as in "passes_at_most=2 refit=false"

A difference is the cell minus the first of its table, its interval by bootstrap over viewers of the
mean over seeds. Nothing here chooses a default: tune on days before 2 May.
"""

import os
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import ibis
import torch
from benchmarks.quality_processes import Processes
from benchmarks.quality_report import OUT, Report
from benchmarks.quality_runs import Bench, Cell

from skipwise.events.read import read_log
from skipwise.features.dataset import Dataset, day_number
from skipwise.features.prepare import prepare
from skipwise.model.encoder_settings import KINDS
from skipwise.model.experts import MIXERS
from skipwise.model.watch_heads import WATCH_HEADS
from skipwise.simulation.log import simulate
from skipwise.simulation.world import planted_world

KEPT = OUT / "quality"
KUAIRAND = Path(__file__).parents[2] / "shared" / "data" / "kuairand-pure"
SHORT_BUDGET = ("passes_at_most=1", "refit=false")
DRAWS, SHORT_DRAWS = 500, 200
"""Of viewers, for intervals."""
NO_SKIP_INPUT = ("model.encoder.past=positives", "model.inputs.use_skips=false")
NO_SKIP_OBJECTIVE = ("loss.glance=0", "loss.negative=0")
INDEPENDENT = ("model.objectives.relation=independent",)
NO_CURVE = (*INDEPENDENT, "model.objectives.watch=log")
OURS = Cell("ours")

TABLES: Mapping[str, tuple[Cell, ...]] = {
    "skips": (
        Cell("input and objective", NO_CURVE),
        Cell("input alone", (*NO_CURVE, *NO_SKIP_OBJECTIVE)),
        Cell("objective alone", (*NO_CURVE, *NO_SKIP_INPUT)),
        Cell("neither", (*NO_CURVE, *NO_SKIP_INPUT, *NO_SKIP_OBJECTIVE)),
    ),
    "encoders": (
        OURS,
        *(Cell(kind, (f"model.encoder.kind={kind}",)) for kind in KINDS if kind != "feedback"),
        *(Cell(name, baseline=name) for name in ("popularity", "video_rate", "fm", "lightgbm")),
    ),
    "modes": (
        OURS,
        Cell("window", mode="window"),
        *(
            Cell(f"progressive, {delay} s late", mode="progressive", delay_s=delay)
            for delay in (0, 60, 3600, 86_400)
        ),
    ),
    "relations": (
        OURS,
        Cell("messages", ("model.objectives.relation=messages",)),
        Cell("curve", ("model.objectives.relation=curve",)),
        Cell("independent", INDEPENDENT),
    ),
    "parts": (
        OURS,
        Cell("no context", ("model.inputs.use_context=false",)),
        Cell("one query", ("model.encoder.two_queries=false",)),
        Cell("no feedback states", ("model.inputs.use_feedback=false",)),
        Cell("no counters", ("model.inputs.use_counters=false",)),
        Cell("no pair biases", ("model.encoder.pair_biases=false",)),
    ),
    "history": tuple(
        Cell(f"history {length}", (f"model.encoder.history_length={length}",))
        for length in (100, 10, 25, 50, 200)
    ),
    "predictors": tuple(
        Cell(name, (*INDEPENDENT, f"model.objectives.predictor={name}")) for name in MIXERS
    ),
    "watch": (
        OURS,
        *(
            Cell(name, ("model.objectives.relation=messages", f"model.objectives.watch={name}"))
            for name in WATCH_HEADS
        ),
    ),
}
"""Table -> its cells, the reference first."""

ENCODER_ALONE = (
    "model.inputs.use_counters=false",
    "model.encoder.history_length=100",
    "tokens_per_batch=1024",
    "passes_at_most=6",
    "refit=false",
    "daily_share=0.5",
    "optimizer.learning_rate=0.01",
    "optimizer.id_learning_rate=0.01",
    "optimizer.id_weight_decay=0.05",
)
PLANTED = tuple(
    Cell(
        f"{kind}, {past}",
        (*ENCODER_ALONE, f"model.encoder.kind={kind}", f"model.encoder.past={past}"),
        mode="progressive",
    )
    for kind in KINDS
    if kind != "none"
    for past in ("all", "positives")
)

P1 = tuple(
    replace(cell, mode="window")
    for cell in (
        OURS,
        *(Cell(name, baseline=name) for name in ("random", "popularity", "fm", "lightgbm")),
    )
)


def main() -> None:
    """Measure what is asked for, table by table, and keep what was measured after each."""
    torch.set_num_threads(1)
    short = bool(os.environ.get("SHORT"))
    seeds = [int(seed) for seed in os.environ.get("SEEDS", "0" if short else "0,1,2").split(",")]
    chosen = os.environ.get("TABLES", "planted,p1," + ",".join(TABLES)).split(",")
    size = "tiny" if short else "small"
    budget: tuple[str, ...] = SHORT_BUDGET if short else ()
    if "BUDGET" in os.environ:
        budget = tuple(os.environ["BUDGET"].split())
    report = Report(OUT / "quality.json", seeds)
    make = partial(_bench_of, size=size, budget=budget, draws=SHORT_DRAWS if short else DRAWS)
    tables = {name: cells_of(name) for name in chosen}
    started = time.monotonic()
    for real in (True, False):  # prepared once, before several processes ask for it
        if any(name.startswith("planted") != real for name in chosen):
            make("skips" if real else "planted")
    with closing(Processes(make)) as processes:
        processes.train(tables, seeds)
        print(f"trained in {time.monotonic() - started:.0f} s", flush=True)
        for name, cells in tables.items():
            started, bench = time.monotonic(), make(name)
            print(f"\n== {name}, preset {bench.size} {' '.join(bench.budget)}, seeds {seeds}")
            processes.measure(name, cells, seeds)
            for cell in cells:
                report.add(name, bench, cell, [bench.figures(cell, seed) for seed in seeds])
            print(f"   {time.monotonic() - started:.0f} s", flush=True)


@cache
def _bench_of(name: str, *, size: str, budget: tuple[str, ...], draws: int) -> Bench:
    if name.startswith("planted"):
        return replace(_planted_bench(), draws=draws)
    return replace(real_bench(size, budget, p1=name == "p1"), draws=draws)


def cells_of(name: str) -> tuple[Cell, ...]:
    """Return the cells of a table by its name in TABLES=, the reference first."""
    if name.startswith("planted"):
        return _planted_cells(name)
    return P1 if name == "p1" else TABLES[name]


def _planted_cells(name: str) -> tuple[Cell, ...]:
    """Return the cells of `planted`, or of `planted:TABLE`: the encoder alone, live."""
    table = name.partition(":")[2]
    if not table:
        return PLANTED
    return tuple(
        replace(
            cell,
            words=_with_last_word((*ENCODER_ALONE, *cell.words)),
            mode=cell.mode if table == "modes" else "progressive",
        )
        for cell in TABLES[table]
        if not cell.baseline
    )


def _with_last_word(words: Iterable[str]) -> tuple[str, ...]:
    """Return each setting once, as it was said last."""
    return tuple({word.partition("=")[0]: word for word in words}.values())


def real_bench(size: str, budget: tuple[str, ...], *, p1: bool) -> Bench:
    """Return the bench of the real rows: protocol D, or P1's later days."""
    dataset = _real_dataset(Path(os.environ.get("DATA", KUAIRAND)))
    until, first = ("2022-04-28", "2022-04-29") if p1 else ("2022-05-01", "2022-05-02")
    return Bench(
        dataset=dataset,
        last_training_day=day_number(until),
        days=(day_number(first), day_number("2022-05-03")),
        size=size,
        budget=budget,
        out=KEPT,
    )


def _real_dataset(data: Path) -> Dataset:
    if (data / "dataset.json").is_file():
        return Dataset.open(data)
    prepared = KEPT / "dataset"
    if not prepared.is_dir():
        _prepare(data, prepared)
    return Dataset.open(prepared)


def _planted_bench() -> Bench:
    folder = KEPT / "planted"
    if not (folder / "dataset").is_dir():
        simulate(folder / "log", planted_world(seed=1))
        _prepare(folder / "log", folder / "dataset")
    dataset = Dataset.open(folder / "dataset")
    last = dataset.days[1]
    return Bench(
        dataset=dataset,
        last_training_day=last - 2,
        days=(last - 1, last),
        size="tiny",
        budget=(),
        out=KEPT,
    )


def _prepare(log: Path, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    connection = ibis.duckdb.connect(threads=1, memory_limit="3GiB")
    prepare(read_log(log, connection), connection, out)
    connection.disconnect()


if __name__ == "__main__":
    main()
