"""A training run that is broken off, by hand, by a signal or by kill -9, goes on bit by bit."""

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

from skipwise.errors import RunError
from skipwise.features.dataset import Dataset
from skipwise.training.checkpoint import TrainedRun, load_run
from skipwise.training.position import check_same
from skipwise.training.unfinished import described
from tests.training.trained import (
    BreaksOff,
    interrupt,
    lines_of,
    newest_position,
    same_weights,
    short_run,
)

pytestmark = pytest.mark.usefixtures("one_thread")


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
    says = r"begun otherwise: optimizer\.weight_decay was 0\.05, is 0\.1\. Give the same"
    with pytest.raises(RunError, match=says):
        short_run(small_dataset, broken_off, "optimizer.weight_decay=0.1", resume=True)


def test_of_what_differs_eight_are_named_and_the_others_counted() -> None:
    before = {"fingerprint": "a" * 64, "--until": "2024-03-04", "settings": {"seed": 0, "old": 1}}
    other = {"seed": 1, "loss": {f"term{number}": number for number in range(7)}}
    with pytest.raises(RunError) as refused:
        check_same(before, {**before, "--until": "2024-03-05", "settings": other}, Path("RUN"))
    said = str(refused.value)
    assert "otherwise: --until was 2024-03-04, is 2024-03-05; seed was 0, is 1; " in said
    assert "loss.term5 was no setting, is 5; and 2 more. Give" in said
    assert "term6" not in said
    with pytest.raises(RunError, match=r"otherwise: old was 1, is no setting\. Give"):
        check_same(before, {**before, "settings": {"seed": 0}}, Path("RUN"))
    check_same(before, before, Path("RUN"))


def test_a_run_begun_by_another_version_is_not_resumed(
    small_dataset: Dataset, broken_off: Path
) -> None:
    """Which is told before its settings, which may be others too."""
    for file in described(broken_off / "resume"):
        position = json.loads(file.read_text())
        del position["format_version"]
        position["identity"]["settings"] = {}
        file.write_text(json.dumps(position))
    with pytest.raises(RunError, match=r"version None, must be 3\. .*say --replace in place of"):
        short_run(small_dataset, broken_off, resume=True)


def test_a_run_is_not_resumed_on_another_window_or_dataset(
    small_dataset: Dataset, edited_dataset: Dataset, broken_off: Path
) -> None:
    with pytest.raises(RunError, match=r"otherwise: --until was 20\d\d-\d\d-\d\d, is 20"):
        short_run(small_dataset, broken_off, resume=True, last_day=small_dataset.days[1] - 1)
    with pytest.raises(RunError, match=r"dataset \(its fingerprint\) was .*Give the same"):
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
    with pytest.raises(
        RunError, match=r"(fit its checksum|damaged).*Say --replace in place of --resume"
    ):
        short_run(small_dataset, broken_off, resume=True)


def test_the_checkpoint_before_a_damaged_one_is_taken_up_and_named(
    small_dataset: Dataset,
    whole_run: TrainedRun,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(KeyboardInterrupt):
        short_run(small_dataset, tmp_path / "RUN", progress=BreaksOff(9, interrupt))
    older, newest = described(tmp_path / "RUN" / "resume")
    damaged(newest, "cut")
    assert json.loads(older.read_text())["step"] < newest_position(tmp_path / "RUN")["step"]
    assert same_weights(short_run(small_dataset, tmp_path / "RUN", resume=True), whole_run)
    told = [message for message in caplog.messages if "state-" in message]
    assert [newest.stem in told[0], "fit its checksum" in told[0]] == [True, True]
    assert f"{older.stem}.safetensors, which is older and whole" in told[1]


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
