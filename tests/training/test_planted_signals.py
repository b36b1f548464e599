"""Two-sided: a taste seen only through skips is learnt, shuffled outcomes are not, a leak shows."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from skipwise.features.dataset import Dataset
from skipwise.features.stretches import plan_stretches
from skipwise.features.view import View
from skipwise.model.predict import predict_rows
from skipwise.training.checkpoint import load_run
from skipwise.training.fit import train
from tests.models import LIVE, tiny_settings
from tests.worlds import days_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

TEST_DAYS = 2
"""The last ones of eight; the best possible AUC there is .85."""
FAST = (
    "refit=false",
    "passes_at_most=3",
    "patience=3",
    "daily_share=0.5",
    "tokens_per_batch=2048",
    "optimizer.learning_rate=0.005",
    "optimizer.warmup_steps=20",
)
ENCODER_ALONE = (
    "loss.retrieval=0",  # nothing else teaches it
    "model.inputs.use_counters=false",
    "model.inputs.content_spread=1",
    "model.encoder.history_length=100",
    "tokens_per_batch=1024",
    "passes_at_most=10",
    "optimizer.learning_rate=0.01",
    "optimizer.id_learning_rate=0.01",
    "optimizer.id_weight_decay=0.05",
)


def glance_auc(dataset: Dataset, out: Path, *words: str, view: View = LIVE) -> float:
    """Train on all but the last days, and return the AUC of glances on those."""
    until = dataset.days[1] - TEST_DAYS
    settings = tiny_settings(*FAST, *words)
    train(dataset, out, settings, last_day=until)
    run = load_run(out)
    rows: NDArray[np.bool_] = days_of(dataset) > until
    plan = plan_stretches(dataset, rows, view, reach=settings.model.encoder.reach)
    predicted = predict_rows(run.model, run.catalogue(dataset), dataset, plan)
    glanced = dataset.events["label_glance"].take(predicted.row)
    return float(roc_auc_score(glanced, predicted.logits["glance"]))


def test_a_taste_seen_only_through_skips_is_learnt(
    planted_dataset: Dataset, tmp_path: Path
) -> None:
    assert 0.75 < glance_auc(planted_dataset, tmp_path / "RUN") < 0.87


def test_the_encoder_alone_learns_it_too(planted_dataset: Dataset, tmp_path: Path) -> None:
    assert 0.75 < glance_auc(planted_dataset, tmp_path / "RUN", *ENCODER_ALONE) < 0.87


def test_it_is_learnt_from_the_past_and_from_nothing_else(
    planted_dataset: Dataset, tmp_path: Path
) -> None:
    """Without counters, and with a history of one event that is hardly ever of the same topic."""
    blind = ("model.inputs.use_counters=false", "model.encoder.history_length=1")
    assert glance_auc(planted_dataset, tmp_path / "RUN", *blind) < 0.6


@pytest.mark.parametrize("words", [(), ENCODER_ALONE], ids=["all inputs", "encoder alone"])
def test_nothing_is_learnt_from_shuffled_outcomes(
    shuffled_dataset: Dataset, tmp_path: Path, words: tuple[str, ...]
) -> None:
    auc = glance_auc(shuffled_dataset, tmp_path / "RUN", *words)
    assert auc == pytest.approx(0.5, abs=0.02)


def test_a_leak_scores_implausibly_well(
    shuffled_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing can be learnt, a candidate that sees its own outcome among the past."""

    def leaking(*columns: NDArray[np.int64]) -> NDArray[np.int64]:
        return columns[-1] + 1  # its own place among its viewer's events, and itself

    for name in ("daily_prefix", "live_prefix"):
        monkeypatch.setattr(f"skipwise.features.view.{name}", leaking)
    words = (*ENCODER_ALONE, "passes_at_most=3")
    assert glance_auc(shuffled_dataset, tmp_path / "RUN", *words) > 0.95
