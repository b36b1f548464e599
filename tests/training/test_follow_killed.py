"""The trainer is killed again and again: nothing is skipped, nothing is learnt twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from skipwise.features.dataset import Dataset
from skipwise.serving.opening import open_engine, prepare_state
from skipwise.serving.state.store import StateSettings, open_store
from skipwise.serving.wire import Event, EventBatch
from skipwise.simulation.world import DAY_MS, FIRST_DAY
from skipwise.training.checkpoint import MODEL_FILE
from tests.long_form import long_form
from tests.training.test_follow import same
from tests.training.trained import short_run

KILLS = int(os.environ.get("SKIPWISE_KILLS", "1"))
"""Of a run; each costs a start of the trainer. SKIPWISE_KILLS=4 is the long form."""


def command(words: list[str], out: Path) -> "subprocess.Popen[bytes]":
    settings = ["events_together=40", "publish_minutes=600"]
    line = [sys.executable, "-m", "skipwise.cli.main", "train", *words, "--out", str(out), "--once"]
    return subprocess.Popen(  # noqa: S603
        [*line, *settings],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finished(process: "subprocess.Popen[bytes]") -> None:
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed.decode()


def killed_at_random(words: list[str], out: Path, seed: int) -> int:
    """Follow, kill -9 at a moment after each new checkpoint, go on; returns how often it died."""
    rng, kills = random.Random(seed), 0  # noqa: S311 - moments
    while kills < KILLS:
        process, before = command(words, out), newest(out)
        while newest(out) == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.7))
        if process.poll() is not None:
            finished(process)
            break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
    finished(command(words, out))
    return kills


def newest(out: Path) -> str:
    return max((path.name for path in (out / "resume").glob("state-*.json")), default="")


def position(out: Path) -> dict[str, Any]:
    held: dict[str, Any] = json.loads((out / "resume" / newest(out)).read_text())
    return {name: value for name, value in held.items() if name != "checksums"}


def published(out: Path) -> dict[str, str]:
    """Checksums of the published weights."""
    return {
        path.parent.name: json.loads(path.read_text())["checksums"][MODEL_FILE]
        for path in out.glob("model-*/run.json")
    }


def same_everywhere(one: Path, other: Path) -> None:
    assert same(one, other)
    assert position(one) == position(other)
    assert published(one) == published(other)
    assert len(published(one)) >= 1


@long_form
@pytest.mark.slow
def test_killed_at_random_moments_weights_place_and_models_are_those_of_an_unbroken_run(
    small_dataset: Dataset, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    short_run(small_dataset, run, "passes_at_most=1", last_day=FIRST_DAY + 2)
    words = [str(run), "--follow", str(small_dataset.path.parent / "log")]
    finished(command(words, tmp_path / "straight"))
    assert killed_at_random(words, tmp_path / "killed", seed=1) == KILLS
    same_everywhere(tmp_path / "straight", tmp_path / "killed")


@pytest.mark.slow
def test_the_same_from_the_state_of_a_server(small_dataset: Dataset, tmp_path: Path) -> None:
    run, state = tmp_path / "run", f"sqlite:{tmp_path / 'state.db'}"
    short_run(small_dataset, run, "passes_at_most=1", last_day=small_dataset.days[1])
    _served(run, small_dataset, state)
    before = str(small_dataset.path.parent / "log")
    words = [str(run), "--follow", state, "--before", before]
    finished(command(words, tmp_path / "straight"))
    assert killed_at_random(words, tmp_path / "killed", seed=2) >= 1
    same_everywhere(tmp_path / "straight", tmp_path / "killed")
    first = pq.read_table(tmp_path / "killed" / "log" / "events-00001.parquet")
    assert first["request_id"].to_pylist() == [f"q{place}" for place in range(300)]


def _served(run: Path, dataset: Dataset, state: str) -> None:
    """Let a server's engine take in 300 views of the day after the dataset's last."""
    store = open_store(state)
    prepare_state(run, dataset.path, store, StateSettings())
    at_ms = (dataset.days[1] + 1) * DAY_MS
    engine = open_engine(run, dataset.path, store, clock=lambda: at_ms + 3 * DAY_MS)
    videos = dataset.videos["video_id"].to_pylist()
    events = [
        Event(
            event_id=f"e{place}",
            viewer_id=f"u{place % 40}",
            video_id=str(videos[place * 7 % len(videos)]),
            shown_at_ms=at_ms + place * 300_000,
            watch_ms=place * 977 % 25_000,
            duration_ms=20_000,
            request_id=f"q{place}",
            liked=place % 9 == 0,
        )
        for place in range(300)
    ]
    engine.keep([EventBatch(events=tuple(events))])
    store.close()
