"""A small trained and measured run, and how to read the page made of it."""

import json
import shutil
from pathlib import Path
from typing import Any

import ibis
import pytest

from skipwise.evaluation.evaluate import evaluate
from skipwise.evaluation.scorecard import EvaluationSettings
from skipwise.features.dataset import Dataset
from skipwise.settings import apply_settings
from skipwise.storage import write_json
from skipwise.training.checkpoint import load_run
from skipwise.training.fit import train
from skipwise.training.settings import TrainSettings, preset


def quick_settings(**changes: Any) -> TrainSettings:
    """Settings that train in a moment."""
    quick = {
        "passes_at_most": 2,
        "threads": 1,
        "device": "cpu",
        "tokens_per_batch": 1024,
        "loss": {"retrieval": 0.1},
    }
    return apply_settings(preset("tiny"), quick | changes)


@pytest.fixture(scope="session")
def measured_run(small_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RUN with its evaluation of the last day; never written to: copy it."""
    run = tmp_path_factory.mktemp("report") / "measured"
    last = small_dataset.days[1]
    train(small_dataset, run, quick_settings(), last_day=last - 1)
    connection = ibis.duckdb.connect(threads=1)
    settings = EvaluationSettings(
        bootstrap_samples=40, slice_bootstrap_samples=20, slice_min_rows=40,
        baselines=("video_rate", "random"),
    )  # fmt: skip
    card = evaluate(load_run(run), small_dataset, connection, days=(last, last), settings=settings)
    connection.disconnect()
    write_json(run / "evaluation.json", card)
    return run


@pytest.fixture
def run(measured_run: Path, tmp_path: Path) -> Path:
    """A copy of the measured RUN, to be changed at will."""
    return Path(shutil.copytree(measured_run, tmp_path / measured_run.name))


@pytest.fixture
def card(run: Path) -> dict[str, Any]:
    """The evaluation of `run`."""
    found: dict[str, Any] = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    return found
