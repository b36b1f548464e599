"""The cells of all tables, trained and measured side by side: a process per core, a thread each.

    make(table) -> Bench, tables, seeds  ->  Processes.train    ->  every run is kept by its Bench
                                             Processes.measure  ->  every figure of one table is

First all runs, each once, then the figures: no two processes write the same file.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed

import torch
from benchmarks.quality_runs import Bench, Cell

from skipwise.cli.console import ConsoleProgress

Job = tuple[str, Cell, int]
"""A table, a cell and a seed."""


class Processes:
    """As many as it may use cores; each opens a table's bench when it first needs it."""

    def __init__(self, make: Callable[[str], Bench]) -> None:
        """Start none yet.

        Args:
            make: Makes the bench of a table, here and in each process, where it is called for every
                job: it must be picklable, and remember what it has made.
        """
        self._make = make
        spawn = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(
            len(os.sched_getaffinity(0)), spawn, torch.set_num_threads, (1,)
        )

    def train(self, tables: Mapping[str, Iterable[Cell]], seeds: Iterable[int]) -> None:
        """Train what is not there yet, for all tables."""
        jobs = [
            (table, cell, seed)
            for table, cells in tables.items()
            for seed in seeds
            for cell in cells
        ]
        runs = {
            self._make(table).run_path(cell, seed): (table, cell, seed)
            for table, cell, seed in jobs
        }
        lacking = [job for path, job in runs.items() if not (path / "run.json").is_file()]
        self._do("training", _train, lacking)

    def measure(self, table: str, cells: Iterable[Cell], seeds: Iterable[int]) -> None:
        """Measure what is not there yet, for one table."""
        bench = self._make(table)
        figures = {
            bench.figures_file(cell, seed): (table, cell, seed) for seed in seeds for cell in cells
        }
        lacking = [job for file, job in figures.items() if not file.is_file()]
        self._do(f"measuring {table}", _measure, lacking)

    def _do(
        self, what: str, step: Callable[[Callable[[str], Bench], Job], str], jobs: list[Job]
    ) -> None:
        if not jobs:
            return
        with ConsoleProgress().task(what, total=len(jobs), unit="cells") as task:
            for done in as_completed([self._pool.submit(step, self._make, job) for job in jobs]):
                task.advance(note=done.result())

    def close(self) -> None:
        """Wait for what runs, start nothing more."""
        self._pool.shutdown(cancel_futures=True)


def _train(make: Callable[[str], Bench], job: Job) -> str:
    table, cell, seed = job
    make(table).run(cell, seed)
    return cell.name


def _measure(make: Callable[[str], Bench], job: Job) -> str:
    table, cell, seed = job
    make(table).figures(cell, seed)
    return cell.name
