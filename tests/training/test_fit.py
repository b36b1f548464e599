"""A training run: the same from the same seed, blind to later days, and never lost half-way."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skipwise.errors import DatasetError, RunError, SettingError
from skipwise.features.dataset import Dataset
from skipwise.training.checkpoint import TrainedRun, load_run
from skipwise.training.held_out import log_losses
from skipwise.training.machine import chosen_device
from skipwise.training.views import draw_views
from tests.training.trained import (
    BreaksOff,
    interrupt,
    lines_of,
    newest_position,
    predictions,
    same_weights,
    short_run,
)
from tests.worlds import (
    days_of,
    timed_rows,
    with_counters,
    with_events,
    with_other_outcomes,
    with_other_videos,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_same_seed_gives_the_same_weights_bit_by_bit(
    small_dataset: Dataset, whole_run: TrainedRun, tmp_path: Path
) -> None:
    torch.manual_seed(12345)  # whatever came before
    assert same_weights(short_run(small_dataset, tmp_path / "RUN"), whole_run)


def test_another_seed_gives_other_weights(
    small_dataset: Dataset, whole_run: TrainedRun, tmp_path: Path
) -> None:
    assert not same_weights(short_run(small_dataset, tmp_path / "RUN", "seed=1"), whole_run)


def test_hiding_events_in_training_is_felt(
    small_dataset: Dataset, whole_run: TrainedRun, tmp_path: Path
) -> None:
    assert whole_run.settings.history_dropout > 0
    open_run = short_run(small_dataset, tmp_path / "RUN", "history_dropout=0")
    assert not same_weights(open_run, whole_run)


def test_a_run_says_what_it_did(small_dataset: Dataset, whole_run: TrainedRun) -> None:
    """It learns, stops by the last day, and trains anew for as many passes as were best."""
    lines = lines_of(whole_run)
    search = [line for line in lines if line["phase"] == "search"]
    refit = [line for line in lines if line["phase"] == "refit"]
    assert [line["passes"] for line in search] == [1, 2, 3]
    losses = [line["validation_loss"] for line in search]
    assert losses[-1] < losses[0]
    best = int(np.argmin(losses)) + 1
    assert len(refit) == best == whole_run.description["best_pass"]
    assert whole_run.description["validation_loss"] == min(losses)
    assert all(np.isfinite(list(line["training"].values())).all() for line in lines)
    assert set(search[0]["validation"]) <= set(whole_run.description["objectives"])
    assert "click" in whole_run.description["masked_objectives"]
    assert whole_run.description["window"]["last_day"] == small_dataset.description["last_day"]
    assert not (whole_run.path / "resume").exists()


def test_every_finished_pass_is_reported(small_dataset: Dataset, tmp_path: Path) -> None:
    told: list[Mapping[str, Any]] = []
    run = short_run(small_dataset, tmp_path / "RUN", "refit=false", report=told.append)
    assert [dict(line) for line in told] == lines_of(run)


def test_scoring_the_held_out_days_is_told_too(small_dataset: Dataset, tmp_path: Path) -> None:
    progress = BreaksOff(-1, interrupt)
    short_run(small_dataset, tmp_path / "RUN", "passes_at_most=1", progress=progress)
    assert progress.told == ["search pass 1", "scoring", "refit pass 1"]


def test_without_refit_the_best_weights_are_kept(small_dataset: Dataset, tmp_path: Path) -> None:
    """A run that overshoots after its first pass keeps that pass: the same as one pass alone."""
    words = (
        "refit=false", "optimizer.learning_rate=0.5", "optimizer.average=0",
        "model.inputs.ids=true", "model.objectives.relation=curve", "loss.retrieval=0",
    )  # fmt: skip
    long = short_run(small_dataset, tmp_path / "long", *words)
    best = long.description["best_pass"]
    assert best < 3, "the learning rate is to be so high that later passes are worse"
    short = short_run(small_dataset, tmp_path / "short", *words, f"passes_at_most={best}")
    assert same_weights(long, short)


def test_patience_ends_the_search(small_dataset: Dataset, tmp_path: Path) -> None:
    words = (
        "refit=false", "optimizer.learning_rate=0.5", "optimizer.average=0",
        "model.inputs.ids=true", "model.objectives.relation=curve", "loss.retrieval=0",
    )  # fmt: skip
    run = short_run(small_dataset, tmp_path / "RUN", *words, "patience=1", "passes_at_most=9")
    assert len(lines_of(run)) == run.description["best_pass"] + 1 < 9


def test_an_exploding_loss_stops_with_the_step_and_the_rows(
    small_dataset: Dataset, tmp_path: Path
) -> None:
    broken = with_counters(small_dataset, lambda counts: np.where(counts > 3, np.nan, counts))
    says = r"the loss of step \d+ is not a finite number \(terms: .*glance.*event rows \d+ to \d+\)"
    with pytest.raises(RunError, match=says):
        short_run(broken, tmp_path / "RUN")
    assert not (tmp_path / "RUN" / "run.json").exists()
    with pytest.raises(RunError, match="is not a trained run"):
        load_run(tmp_path / "RUN")


def test_a_loss_that_breaks_later_leaves_the_last_good_pass(
    small_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second pass meets a NaN: what the first has learnt can be taken up again."""

    def spoil(line: Mapping[str, Any]) -> None:
        assert line["passes"] == 1
        monkeypatch.setattr(
            "skipwise.training.learner.objective_losses",
            lambda *_, **__: {"glance": torch.tensor(torch.nan, requires_grad=True)},
        )

    with pytest.raises(RunError, match=r"not a finite number \(terms: glance; .*learning_rate"):
        short_run(small_dataset, tmp_path / "RUN", report=spoil)
    monkeypatch.undo()
    position = newest_position(tmp_path / "RUN")
    assert position["passes"] == 1
    assert position["batch"] == 0
    assert short_run(small_dataset, tmp_path / "RUN", resume=True).description["best_pass"] >= 1


@pytest.mark.slow
def test_nothing_after_the_last_day_is_learnt(
    small_dataset: Dataset, edited_dataset: Dataset, tmp_path: Path
) -> None:
    """Two logs that differ after a day, each prepared from scratch: the same model, bit by bit."""
    until = small_dataset.days[1] - 2
    runs = [
        short_run(dataset, tmp_path / name, last_day=until)
        for name, dataset in (("one", small_dataset), ("other", edited_dataset))
    ]
    assert small_dataset.fingerprint != edited_dataset.fingerprint
    assert same_weights(*runs)
    assert runs[0].vocabulary == runs[1].vocabulary
    early = (days_of(small_dataset) <= until)[timed_rows(small_dataset)]
    first, second = (
        predictions(run, dataset)
        for run, dataset in zip(runs, (small_dataset, edited_dataset), strict=True)
    )
    np.testing.assert_array_equal(first.logits["glance"][early], second.logits["glance"][early])
    day_after = small_dataset.days[1]
    seen = (days_of(small_dataset) == day_after)[timed_rows(small_dataset)]
    assert (first.logits["glance"][seen] != second.logits["glance"][seen]).any()


def test_ids_after_the_last_day_are_not_learnt_and_earlier_ones_are(
    small_dataset: Dataset, tmp_path: Path
) -> None:
    until = small_dataset.days[1] - 2
    runs = []
    for name, edited_from in (("as it was", 10**6), ("later", until + 1), ("earlier", until)):
        late = days_of(small_dataset) >= edited_from
        edited = with_other_videos(with_other_outcomes(small_dataset, late), late)
        runs.append(short_run(edited, tmp_path / name, last_day=until))
    assert same_weights(runs[0], runs[1])
    assert not same_weights(runs[0], runs[2]), "and an edit inside the window is seen"


def test_an_objective_that_cannot_be_learnt_is_left_out_and_said(
    small_dataset: Dataset, tmp_path: Path
) -> None:
    no_likes = with_events(small_dataset, label_like=lambda labels: labels * 0)
    run = short_run(no_likes, tmp_path / "RUN", "passes_at_most=1")
    assert "like" not in run.description["objectives"]
    assert run.description["masked_objectives"]["like"].startswith("no positive outcome")
    assert "like" not in predictions(run, no_likes).logits


def test_a_window_outside_the_data_writes_nothing(small_dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="outside the data"):
        short_run(small_dataset, tmp_path / "RUN", last_day=small_dataset.days[1] + 1)
    assert not (tmp_path / "RUN").exists()


def test_a_device_that_is_not_here_is_refused() -> None:
    assert chosen_device("cpu") == torch.device("cpu")
    with pytest.raises(SettingError, match="device = 'tpu', must be one of auto, cpu, cuda"):
        chosen_device("tpu")
    if not torch.cuda.is_available():
        assert chosen_device("auto") == torch.device("cpu")
        with pytest.raises(SettingError, match=r"no GPU was found; .*Use device=cpu"):
            chosen_device("cuda")


def test_views_are_drawn_in_the_shares_that_were_asked_for() -> None:
    """Of 10,000: 60 % nightly, half of the rest live, half late by 1 s to a day."""
    views = draw_views(10_000, 0.6, np.random.default_rng(0))
    daily, delay_ms = ~views.live, views.extra_delay_ms
    live = ~daily & (delay_ms == 0)
    late = delay_ms > 0
    assert daily.mean() == pytest.approx(0.6, abs=0.02)
    assert live.mean() == pytest.approx(0.2, abs=0.02)
    assert not (daily & late).any()
    assert delay_ms[late].min() >= 1_000
    assert delay_ms[late].max() <= 86_400_000
    middle = np.sqrt(1_000 * 86_400_000)
    assert (delay_ms[late] < middle).mean() == pytest.approx(0.5, abs=0.03)
    assert not draw_views(100, 1.0, np.random.default_rng(0)).live.any()


def test_the_log_loss_of_extreme_logits_is_finite() -> None:
    """log(1 + e^-800) = 0 where right, 800 where wrong."""
    labels = np.array([1, 0, 1], dtype=np.int8)
    assert log_losses(np.array([800.0, -800.0, -800.0]), labels).mean() == pytest.approx(800 / 3)
