"""bf16 is taken where it clearly gains, leaves no trace where it was tried, and trains as well."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skipwise.errors import SettingError
from skipwise.features.dataset import Dataset
from skipwise.model.batch import Batch
from skipwise.model.products import product_kind
from skipwise.training.learner import Learner
from skipwise.training.machine import COMPILED, COMPILED_AT_MOST, products_on
from skipwise.training.outset import set_out
from skipwise.training.precision import BATCHES, GAIN_AT_LEAST, choose_precision
from skipwise.training.settings import TrainSettings
from tests.models import tiny_settings
from tests.training.trained import same_weights, short_run
from tests.worlds import timed_rows

pytestmark = pytest.mark.usefixtures("one_thread")
WIDE = "model.width=32"


class Clocked:
    """Processor time that passes by what is tried: `ms[precision]` a batch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fp32: float, bf16: float) -> None:
        self.ms, self.now_s, self.tried = {"fp32": fp32, "bf16": bf16}, 0.0, 0
        monkeypatch.setattr("skipwise.training.precision.time.process_time", lambda: self.now_s)
        real = Learner.try_batch

        def try_batch(learner: Learner, batch: object, precision: str) -> None:
            self.now_s += self.ms[precision] / 1000
            self.tried += 1
            real(learner, batch, precision)  # type: ignore[arg-type]

        monkeypatch.setattr(Learner, "try_batch", try_batch)


@pytest.mark.parametrize(("bf16", "chosen"), [(70.0, "bf16"), (90.0, "fp32"), (130.0, "fp32")])
def test_it_is_taken_where_it_clearly_gains_and_the_trial_leaves_no_trace(
    small_dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bf16: float,
    chosen: str,
) -> None:
    clock = Clocked(monkeypatch, fp32=100.0, bf16=bf16)
    told: list[Mapping[str, Any]] = []
    found = short_run(
        small_dataset,
        tmp_path / "auto",
        WIDE,
        "precision=auto",
        "passes_at_most=1",
        report=told.append,
    )
    assert clock.tried > 0
    assert found.description["precision"] == chosen
    gain = f"in bf16 a batch goes {100 / bf16:.2f} times as fast here"
    assert told[0] == {"told": f"training in {chosen}: {gain}, taken from {GAIN_AT_LEAST} on"}
    said = short_run(
        small_dataset, tmp_path / "said", WIDE, f"precision={chosen}", "passes_at_most=1"
    )
    assert same_weights(found, said)


def test_what_the_first_of_a_shape_takes_is_not_timed(
    small_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bf16 compiles a product for each shape, and shapes are few."""
    clock = Clocked(monkeypatch, fp32=100.0, bf16=900.0)
    seen: set[int] = set()
    real = Learner.try_batch

    def try_batch(learner: Learner, batch: Batch, precision: str) -> None:
        if precision == "bf16":
            key = hash(tuple(batch.row.tolist()))
            clock.ms["bf16"] = 70.0 if key in seen else 900.0
            seen.add(key)
        real(learner, batch, precision)

    monkeypatch.setattr(Learner, "try_batch", try_batch)
    few = ("passes_at_most=1", "tokens_per_batch=150")
    found = short_run(small_dataset, tmp_path / "RUN", WIDE, "precision=auto", *few)
    assert len(seen) == BATCHES
    assert found.description["precision"] == "bf16"


def test_products_are_narrow_by_themselves_and_few_are_kept_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values, here = torch.zeros(1), torch.device("cpu")
    monkeypatch.delenv(COMPILED, raising=False)
    with products_on(here, "fp32"):
        assert product_kind(values) is torch.float32
        assert COMPILED not in os.environ
    with products_on(here, "bf16"):
        assert product_kind(values) is torch.bfloat16
        assert not torch.is_autocast_enabled("cpu")
        assert int(os.environ[COMPILED]) == COMPILED_AT_MOST
    monkeypatch.setenv(COMPILED, "500")
    with products_on(here, "bf16"):
        assert os.environ[COMPILED] == "500"
    assert product_kind(values) is torch.float32


def test_a_narrow_network_is_not_tried(
    small_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clocked(monkeypatch, fp32=100.0, bf16=10.0)
    found = short_run(small_dataset, tmp_path / "RUN", "precision=auto", "passes_at_most=1")
    assert clock.tried == 0
    assert found.description["precision"] == "fp32"


def test_bf16_is_another_arithmetic_and_trains_as_well(
    small_dataset: Dataset, tmp_path: Path
) -> None:
    runs = [
        short_run(small_dataset, tmp_path / name, f"precision={name}") for name in ("fp32", "bf16")
    ]
    assert not same_weights(*runs)
    one, other = (run.description["validation_loss"] for run in runs)
    assert one == pytest.approx(other, rel=0.01)
    assert all(value.dtype != torch.bfloat16 for value in runs[1].model.state_dict().values())


def test_no_batch_is_no_trial_and_an_unknown_precision_is_refused(small_dataset: Dataset) -> None:
    rows, known = timed_rows(small_dataset), np.arange(small_dataset.num_events)
    for setting, chosen in (("bf16", "bf16"), ("auto", "fp32")):
        settings = tiny_settings(WIDE, f"precision={setting}", "loss.retrieval=0")
        learner = set_out(small_dataset, rows, known, ("like",), settings).learner
        assert choose_precision(learner, []).name == chosen
    with pytest.raises(SettingError, match="precision = 'fp8', must be one of auto, fp32, bf16"):
        TrainSettings(precision="fp8")
