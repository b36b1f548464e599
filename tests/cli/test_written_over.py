"""What an earlier command wrote is neither lost nor mixed with another's without a word."""

import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from skipwise.training.checkpoint import load_run, sealed
from tests.cli.typed import HEEDING_CONTROL_C, TRAINING, skipwise, told


def test_what_an_earlier_command_wrote_is_named_and_replaced_only_when_told_to(
    job: Path, tmp_path: Path
) -> None:
    world, dataset, small = tmp_path / "world", tmp_path / "dataset", ("viewers=5", "days=2")
    shutil.copytree(job / "world", world)
    shutil.copytree(job / "dataset", dataset)
    events = f"{json.loads((dataset / 'dataset.json').read_text())['num_events']:,} events"
    noon = datetime.datetime(2026, 5, 3, 12, 0).timestamp()
    for folder, words in (
        (world, ("simulate", world, *small)),
        (dataset, ("prepare", world, "--out", dataset)),
    ):
        (marker,) = folder.glob(f"{folder.name}.json")
        os.utime(marker, (noon, noon))
        before = marker.read_bytes()
        refused = told(*words)
        assert refused.returncode == 2
        said = " ".join(refused.stderr.split())
        assert f"already (of 2026-05-03 12:00, {events}), which this would replace" in said
        assert (marker.read_bytes(), marker.stat().st_mtime) == (before, noon)
        done = told(*words, "--replace")
        assert done.returncode == 0, done.stderr
        assert marker.read_bytes() != before
    (dataset / "dataset.json").write_text("{")
    assert "damaged), which" in " ".join(told("prepare", world, "--out", dataset).stderr.split())
    assert told("prepare", world, "--out", dataset, "--replace").returncode == 0


def test_a_run_is_not_written_among_what_is_no_run(job: Path, tmp_path: Path) -> None:
    dataset = tmp_path / "dataset"
    shutil.copytree(job / "dataset", dataset)
    before = sorted(each.name for each in dataset.iterdir())
    for words in ((), ("--replace",)):
        refused = told("train", dataset, "--out", dataset, *words)
        assert refused.returncode == 2
        assert "exists and is not a finished run; the output must be" in refused.stderr
    assert sorted(each.name for each in dataset.iterdir()) == before


def test_a_log_of_the_loop_is_not_replaced_without_a_word(job: Path, tmp_path: Path) -> None:
    """Which is told before anything of the experiment is read."""
    log = tmp_path / "log"
    shutil.copytree(job / "world", log)
    (log / "loop.json").write_text("{}")
    words = ("loop", tmp_path / "no.toml", job / "world", "--data", job / "dataset", "--out", log)
    assert "a log of the loop already (of 20" in told(*words).stderr
    assert "no.toml" in told(*words, "--replace").stderr


def test_a_dataset_prepared_anew_is_not_measured_without_a_word(job: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(job / "run", run)
    description = json.loads((run / "run.json").read_text())
    description["dataset"]["fingerprint"] = "0" * 64
    (run / "run.json").write_text(json.dumps(sealed(description)))
    last = (job / "last_day").read_text()
    done = told("evaluate", run, "--from", last, "--to", last)
    assert done.returncode == 2
    assert "prepared anew" in done.stderr


def test_unfinished_training_is_not_discarded_without_a_word(job: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "resume").mkdir(parents=True)
    done = told("train", job / "dataset", "--out", tmp_path / "run", *TRAINING)
    assert done.returncode == 2
    assert "--resume, or say --replace" in done.stderr


def test_an_unfinished_training_beside_the_run_it_was_to_replace_is_told(
    job: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(job / "run", run)
    (run / "resume").mkdir()
    for words in ((), ("--resume",)):
        done = told("train", job / "dataset", "--out", run, *TRAINING, *words)
        assert done.returncode == 2
        said = " ".join(done.stderr.split())
        assert "a finished run and an unfinished training beside it" in said
        assert "--replace --resume, train anew with --replace" in said


def broken_off(*words: str | Path, run: Path) -> subprocess.CompletedProcess[str]:
    """Train in a process of its own, and press Ctrl-C as soon as there is something to resume."""
    begun = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-c", HEEDING_CONTROL_C, *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(run.glob("resume/state-*.json")):
        assert begun.poll() is None, "the test is to stop it before it is done"
        time.sleep(0.01)
    begun.send_signal(signal.SIGINT)
    _, said = begun.communicate(timeout=120)
    return subprocess.CompletedProcess(words, begun.returncode, "", said)


def test_control_c_ends_training_so_that_it_can_be_resumed(job: Path, tmp_path: Path) -> None:
    """In a process of its own: exit 130, the way on is said, and it leads to the end."""
    run = tmp_path / "run"
    words = ("train", job / "dataset", "--out", run, *TRAINING, "tokens_per_batch=64")
    stopped = broken_off(*words, run=run)
    assert stopped.returncode == 130, stopped.stderr
    assert "goes on with the same command and --resume" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert not (run / "run.json").exists()
    others = ("seed=7", "optimizer.weight_decay=0.1", "model.width=24", "refit=false")
    refused = told(*words, *others, "--resume")
    assert refused.returncode == 2
    said = " ".join(refused.stderr.split())
    for differs in (
        "seed was 0, is 7",
        "optimizer.weight_decay was 0.05, is 0.1",
        "model.width was 16, is 24",
        "refit was True, is False",
    ):
        assert differs in said
    assert said.count(" was ") == 1 + len(others)  # "was begun otherwise"
    assert "Give the same as before" in said
    assert "say --replace in place of --resume" in said
    resumed = skipwise(*words, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert load_run(run).description["best_pass"] == 1


def test_figures_of_a_model_that_was_replaced_go_with_it(job: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(job / "run", run)
    last = (job / "last_day").read_text()
    measured = skipwise("evaluate", run, "--from", last, "--to", last)
    assert measured.returncode == 0, measured.stderr
    card = (run / "evaluation.json").read_text()
    (run / "report.html").write_text("of the old one")
    done = skipwise(
        "train", job / "dataset", "--out", run, *TRAINING, "seed=5", "passes_at_most=1", "--replace"
    )
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stderr.split())
    assert f"removed {run}/evaluation.json and {run}/report.html: of the model" in said
    assert not (run / "evaluation.json").exists()
    assert not (run / "report.html").exists()
    (run / "evaluation.json").write_text(card)
    refused = told("report", run)
    assert refused.returncode == 2
    assert "holds figures of another model" in " ".join(refused.stderr.split())
    assert not (run / "report.html").exists()
