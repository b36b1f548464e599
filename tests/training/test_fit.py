"""A training run: the same from the same seed, blind to later days, and never lost half-way."""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skipwise.errors import DatasetError, RunError, SettingError
from skipwise.features.dataset import Dataset
from skipwise.training.checkpoint import TrainedRun, load_run
from skipwise.training.fit import log_losses
from skipwise.training.machine import chosen_device
from skipwise.training.unfinished import described
from skipwise.training.views import draw_views
from tests.training.trained import BreaksOff, interrupt, predictions, same_weights, short_run
from tests.worlds import (
    days_of,
    timed_rows,
    with_counters,
    with_events,
    with_other_outcomes,
    with_other_videos,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def whole_run(small_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """A run that nothing disturbed: two searching passes at least, then as many as were best."""
    before = torch.get_num_threads()
    run = short_run(small_dataset, tmp_path_factory.mktemp("whole") / "RUN")
    torch.set_num_threads(before)
    return run


def lines_of(run: TrainedRun) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.path / "progress.jsonl").read_text().splitlines()]


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


@pytest.mark.parametrize("reports", [1, 2, 3, 4])
def test_a_run_broken_off_between_passes_goes_on_as_if_it_had_not(
    small_dataset: Dataset, whole_run: TrainedRun, tmp_path: Path, reports: int
) -> None:
    """In the search, at its end, and in the refit."""
    told: list[Mapping[str, Any]] = []

    def report(line: Mapping[str, Any]) -> None:
        told.append(line)
        if len(told) == reports:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        short_run(small_dataset, tmp_path / "RUN", report=report)
    assert not (tmp_path / "RUN" / "run.json").exists()
    assert same_weights(short_run(small_dataset, tmp_path / "RUN", resume=True), whole_run)
    resumed = load_run(tmp_path / "RUN")
    assert [line["validation"] for line in lines_of(resumed)] == [
        line["validation"] for line in lines_of(whole_run)
    ]
    assert not (tmp_path / "RUN" / "resume").exists()


def test_a_search_that_was_over_is_not_taken_up_again(
    small_dataset: Dataset, tmp_path: Path
) -> None:
    """Broken off while it told of the pass that ended it: no further pass is made."""
    words = ("refit=false", "optimizer.learning_rate=0.5", "optimizer.average=0", "patience=1")
    whole = short_run(small_dataset, tmp_path / "whole", *words, "passes_at_most=9")
    last = len(lines_of(whole))

    def report(line: Mapping[str, Any]) -> None:
        if line["passes"] == last:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        short_run(small_dataset, tmp_path / "RUN", *words, "passes_at_most=9", report=report)
    resumed = short_run(small_dataset, tmp_path / "RUN", *words, "passes_at_most=9", resume=True)
    assert len(lines_of(resumed)) == last
    assert same_weights(resumed, whole)


def newest_position(run: Path) -> Any:
    return json.loads(described(run / "resume")[-1].read_text())


def press_control_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("at_step", [1, 3, 11])
@pytest.mark.parametrize("action", [interrupt, press_control_c], ids=["raised", "signal"])
def test_a_run_broken_off_inside_a_pass_goes_on_as_if_it_had_not(
    small_dataset: Dataset, whole_run: TrainedRun, tmp_path: Path, at_step: int, action: Any
) -> None:
    progress = BreaksOff(at_step, action)
    with pytest.raises(KeyboardInterrupt):
        short_run(small_dataset, tmp_path / "RUN", progress=progress)
    assert progress.steps == at_step
    position = newest_position(tmp_path / "RUN")
    assert position["batch"] > 0, "the test is to break off inside a pass"
    assert same_weights(short_run(small_dataset, tmp_path / "RUN", resume=True), whole_run)


def test_control_c_waits_for_the_step_to_end(
    small_dataset: Dataset,
    whole_run: TrainedRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pressed while weights change, it is heeded after: no step is lost or taken twice."""
    step = torch.optim.AdamW.step
    taken: list[int] = []

    def pressed(self: torch.optim.AdamW) -> None:
        taken.append(1)
        if len(taken) == 2:
            press_control_c()
        step(self)

    monkeypatch.setattr(torch.optim.AdamW, "step", pressed)
    with pytest.raises(KeyboardInterrupt):
        short_run(small_dataset, tmp_path / "RUN")
    monkeypatch.undo()
    assert len(taken) == 2
    assert same_weights(short_run(small_dataset, tmp_path / "RUN", resume=True), whole_run)


def test_control_c_works_as_before_once_training_is_over(
    small_dataset: Dataset, tmp_path: Path
) -> None:
    before = signal.getsignal(signal.SIGINT)
    short_run(small_dataset, tmp_path / "RUN", "refit=false", "passes_at_most=1")
    assert signal.getsignal(signal.SIGINT) is before


@pytest.fixture
def broken_off(small_dataset: Dataset, tmp_path: Path) -> Path:
    with pytest.raises(KeyboardInterrupt):
        short_run(small_dataset, tmp_path / "RUN", progress=BreaksOff(2, interrupt))
    return tmp_path / "RUN"


def test_nothing_to_resume_is_refused(small_dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds no unfinished training .*Leave --resume out"):
        short_run(small_dataset, tmp_path / "RUN", resume=True)


def test_a_run_is_not_resumed_with_other_settings(small_dataset: Dataset, broken_off: Path) -> None:
    says = r"begun with settings optimizer\.weight_decay = 0\.05, is now given 0\.1\. Give the same"
    with pytest.raises(RunError, match=says):
        short_run(small_dataset, broken_off, "optimizer.weight_decay=0.1", resume=True)


def test_a_run_begun_by_another_version_is_not_resumed(
    small_dataset: Dataset, broken_off: Path
) -> None:
    """Which is told before its settings, which may be others too."""
    for file in described(broken_off / "resume"):
        position = json.loads(file.read_text())
        del position["format_version"]
        position["identity"]["settings"] = {}
        file.write_text(json.dumps(position))
    with pytest.raises(RunError, match=r"version None, must be 3\. .*leave --resume out"):
        short_run(small_dataset, broken_off, resume=True)


def test_a_run_is_not_resumed_on_another_window_or_dataset(
    small_dataset: Dataset, edited_dataset: Dataset, broken_off: Path
) -> None:
    with pytest.raises(RunError, match=r"begun with --until 20\d\d-\d\d-\d\d, is now given 20"):
        short_run(small_dataset, broken_off, resume=True, last_day=small_dataset.days[1] - 1)
    with pytest.raises(RunError, match=r"begun with fingerprint .*Give the same as before"):
        short_run(edited_dataset, broken_off, resume=True)


def damaged(file: Path, damage: str) -> None:
    """Damage a checkpoint, given its json."""
    state = file.with_suffix(".safetensors")
    content = state.read_bytes()
    if damage == "cut":
        state.write_bytes(content[:-100])
    elif damage == "changed":
        state.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "missing":
        state.unlink()
    else:
        file.write_text("{")


@pytest.mark.parametrize("damage", ["cut", "changed", "missing", "position"])
def test_a_damaged_unfinished_run_is_refused(
    small_dataset: Dataset, broken_off: Path, damage: str
) -> None:
    for file in described(broken_off / "resume"):
        damaged(file, damage)
    with pytest.raises(RunError, match=r"(fit its checksum|damaged).*Leave --resume out to train"):
        short_run(small_dataset, broken_off, resume=True)


def test_the_checkpoint_before_a_damaged_one_is_taken_up(
    small_dataset: Dataset, whole_run: TrainedRun, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        short_run(small_dataset, tmp_path / "RUN", progress=BreaksOff(9, interrupt))
    older, newest = described(tmp_path / "RUN" / "resume")
    damaged(newest, "cut")
    assert json.loads(older.read_text())["step"] < newest_position(tmp_path / "RUN")["step"]
    assert same_weights(short_run(small_dataset, tmp_path / "RUN", resume=True), whole_run)


def test_killed_at_any_moment_it_goes_on_as_if_it_had_not_been(
    small_dataset: Dataset, whole_run: TrainedRun, tmp_path: Path
) -> None:
    """A real process, killed at random again and again until one lives to the end.

    It is killed some moments after it has written a few checkpoints, however quick the machine.
    """
    random = np.random.default_rng()
    folder, killed_at = tmp_path / "RUN", list[tuple[str, int, int]]()
    words = ("checkpoint_every_s=0",)

    def life() -> None:
        torch.set_num_threads(1)
        resume = bool(described(folder / "resume"))
        short_run(small_dataset, folder, *words, resume=resume)

    while not (folder / "run.json").exists():
        process = multiprocessing.get_context("fork").Process(target=life)
        process.start()
        if len(killed_at) < 5:
            wait_for_checkpoints(folder, process, int(random.integers(1, 6)))
            process.join(random.uniform(0, 0.03))
        else:
            process.join()
        if process.is_alive():
            os.kill(process.pid or 0, signal.SIGKILL)
            process.join()
            if not described(folder / "resume"):  # it had finished and was tidying up
                continue
            position = newest_position(folder)
            killed_at.append((position["phase"], position["passes"], position["step"]))
        else:
            assert process.exitcode == 0
    assert len(set(killed_at)) >= 2, f"the test is to kill it on the way, not at {killed_at}"
    assert same_weights(load_run(folder), whole_run), f"killed at {killed_at}"


def wait_for_checkpoints(run: Path, process: BaseProcess, number: int) -> None:
    """Return when so many new checkpoints were seen, or the process has ended."""
    seen = {file.name for file in described(run / "resume")}
    new = 0
    while new < number and process.is_alive():
        names = {file.name for file in described(run / "resume")}
        new += len(names - seen)
        seen |= names
        time.sleep(0.002)


def test_a_new_run_forgets_the_one_that_was_broken_off(
    small_dataset: Dataset, whole_run: TrainedRun, broken_off: Path
) -> None:
    assert same_weights(short_run(small_dataset, broken_off), whole_run)


def test_an_old_run_stays_until_the_new_one_is_finished(
    small_dataset: Dataset, tmp_path: Path
) -> None:
    old = short_run(small_dataset, tmp_path / "RUN", "refit=false", "passes_at_most=1")
    with pytest.raises(KeyboardInterrupt):
        short_run(small_dataset, tmp_path / "RUN", "seed=1", progress=BreaksOff(2, interrupt))
    assert same_weights(load_run(tmp_path / "RUN"), old)


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
