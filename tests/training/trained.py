"""Short training runs, and how to break one off."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skipwise.features.dataset import Dataset
from skipwise.features.stretches import plan_stretches
from skipwise.features.view import View
from skipwise.model.predict import RowPredictions, predict_rows
from skipwise.progress import SILENT, Progress, Task
from skipwise.training.checkpoint import TrainedRun, load_run
from skipwise.training.fit import train
from skipwise.training.unfinished import described
from tests.models import tiny_settings
from tests.worlds import timed_rows

SHORT = (
    "passes_at_most=3",
    "patience=3",
    "tokens_per_batch=1024",
    "optimizer.learning_rate=0.005",
    "optimizer.warmup_steps=2",
    "model.width=8",
)
"""Three passes of a few batches over the small log: a second."""


def short_run(
    dataset: Dataset,
    out: Path,
    *words: str,
    resume: bool = False,
    last_day: int | None = None,
    progress: Progress = SILENT,
    report: Callable[[Mapping[str, Any]], None] | None = None,
) -> TrainedRun:
    """Train for a second, and load what was written."""
    train(
        dataset,
        out,
        tiny_settings(*SHORT, *words),
        resume=resume,
        last_day=last_day,
        progress=progress,
        report=report,
    )
    return load_run(out)


def same_weights(one: TrainedRun, other: TrainedRun) -> bool:
    """Say whether two models are the same, bit by bit."""
    first, second = one.model.state_dict(), other.model.state_dict()
    return list(first) == list(second) and all(
        _bits_equal(first[name], second[name]) for name in first
    )


def predictions(run: TrainedRun, dataset: Dataset, view: View | None = None) -> RowPredictions:
    """Score every timed row."""
    plan = plan_stretches(
        dataset,
        timed_rows(dataset),
        view or View(),
        reach=run.settings.model.encoder.reach,
    )
    return predict_rows(run.model, run.catalogue(dataset), dataset, plan)


def lines_of(run: TrainedRun) -> list[dict[str, Any]]:
    """Return what was told of each pass."""
    return [json.loads(line) for line in (run.path / "progress.jsonl").read_text().splitlines()]


def newest_position(run: Path) -> Any:
    """Return where the last checkpoint of an unfinished run stands."""
    return json.loads(described(run / "resume")[-1].read_text())


class BreaksOff:
    """Progress that raises Ctrl-C, or does something else, at the n-th step of the run.

    Steps are those of training: scoring the held-out days is none.
    """

    def __init__(self, at_step: int, action: Callable[[], None]) -> None:
        self.steps, self.at_step, self.action = 0, at_step, action
        self.told: list[str] = []

    @contextmanager
    def task(self, what: str, *, total: float | None, unit: str) -> Iterator[Task]:
        """Open a bar that counts steps."""
        assert what
        assert unit
        assert total is None or total > 0
        self.told.append(what)
        if what == "scoring":
            with SILENT.task(what, total=total, unit=unit) as task:
                yield task
        else:
            yield self

    def advance(self, amount: float = 1, *, note: str = "") -> None:
        """Count a step."""
        assert amount > 0
        assert note
        self.steps += 1
        if self.steps == self.at_step:
            self.action()


def interrupt() -> None:
    """Press Ctrl-C."""
    raise KeyboardInterrupt


def _bits_equal(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(
        one.contiguous().view(-1).view(torch.uint8), other.contiguous().view(-1).view(torch.uint8)
    )
