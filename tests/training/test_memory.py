"""Training takes the memory that docs/engine.md says, however large the dataset is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from skipwise.errors import SettingError
from skipwise.features.dataset import Dataset
from skipwise.settings import apply_settings, parse_overrides
from skipwise.simulation.world import WorldSettings
from skipwise.training import memory
from skipwise.training.fit import train
from skipwise.training.memory import check_enough, memory_needed
from skipwise.training.precision import may_be_narrow
from skipwise.training.processes import Processes
from skipwise.training.settings import TrainSettings, preset
from tests.long_form import long_form
from tests.worlds import prepared_world

WORDS = (
    *("passes_at_most=1", "refit=false", "tokens_per_batch=500", "precision=fp32"),
    *("model.width=8", "model.encoder.history_length=20", "model.retrieval.sampled=64"),
)
WORLD = WorldSettings(viewers=10_000, videos=1500, authors=300, topics=10, seed=1)
"""About 640,000 events."""

GIVEN_BACK = {"MALLOC_MMAP_THRESHOLD_": "32768", "MALLOC_TRIM_THRESHOLD_": "32768"}
"""What is freed goes back at once, so that what training asks for is counted, not what is kept for
its next step."""

MEASURED = """
import json, sys, threading, time
from pathlib import Path
import numpy as np
from skipwise.features.dataset import Dataset
from skipwise.settings import apply_settings, parse_overrides
from skipwise.training.fit import train
from skipwise.training.settings import preset

small, large, out, *words = sys.argv[1:]
settings = apply_settings(preset("tiny"), parse_overrides(words))

def held():  # bytes that only this process holds: not the mapped pages of files
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

most, over = 0, threading.Event()
def watch():
    global most
    while not over.wait(0.003):
        most = max(most, held())
watcher = threading.Thread(target=watch)
train(Dataset.open(Path(small)), Path(out) / "small", settings)  # so that all code is loaded
before, dataset = held(), Dataset.open(Path(large))
watcher.start()
train(dataset, Path(out) / "large", settings)
training = most - before
copies = np.array(dataset.counters_day.all()), np.array(dataset.counters_event.all())
time.sleep(0.1)
over.set()
watcher.join()
print(json.dumps({"training": training, "with copies": most - before}))
"""


def settings_of(*words: str) -> TrainSettings:
    return apply_settings(preset("tiny"), parse_overrides(["device=cpu", *words]))


@long_form
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="tells memory on Linux alone")
def test_a_dataset_five_times_the_allowed_memory_is_trained_on_within_it(
    small_dataset: Dataset, tmp_path: Path
) -> None:
    """Allowed is what the formula says beside what any training takes: libraries and weights.

    The meter is tried too: copies of the counters, which a trainer might hold, break the bound.
    """
    large = prepared_world(tmp_path, WORLD)
    needed = memory_needed(large, settings_of(*WORDS))
    allowed = sum(bytes_ for part, bytes_ in needed.items() if part not in {"own", "weights"})
    size = sum(each["bytes"] for each in large.description["files"].values())
    assert size > 5 * allowed
    paths = (str(each) for each in (small_dataset.path, large.path, tmp_path))
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", MEASURED, *paths, *WORDS],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | GIVEN_BACK,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["training"] < allowed < found["with copies"], f"{found}, {allowed} of {size}"


@pytest.mark.parametrize(
    ("word", "advice"),
    [
        ("tokens_per_batch=10000000", "Lower tokens_per_batch"),
        ("model.width=4096", "Lower model.width, or leave vectors of videos out"),
    ],
)
def test_more_memory_than_there_is_is_refused_before_it_is_taken(
    small_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, advice: str
) -> None:
    monkeypatch.setattr(memory, "machine_memory_gib", lambda: 4.0)
    with pytest.raises(SettingError, match=rf"takes up to .* GiB of memory .* 4.0 GiB.*{advice}"):
        train(small_dataset, tmp_path / "RUN", settings_of(word))
    assert not (tmp_path / "RUN").exists()


def test_several_processes_on_a_machine_take_as_much_each(
    small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(*WORDS)
    needed = sum(memory_needed(small_dataset, settings, together=True).values())
    monkeypatch.setattr(memory, "machine_memory_gib", lambda: 3.5 * needed / 2**30)
    check_enough(small_dataset, settings, Processes(number=4, local_number=3))
    says = r"in each of 4 processes, but this machine has .*, or start fewer .*--nproc-per-node"
    with pytest.raises(SettingError, match=says):
        check_enough(small_dataset, settings, Processes(number=4, local_number=4))


def test_bf16_counts_where_it_may_be_taken(small_dataset: Dataset) -> None:
    """By word, or by trial, which narrow networks are spared, and several processes."""

    def narrow(precision: str, width: int, *, together: bool) -> bool:
        settings = settings_of(f"precision={precision}", f"model.width={width}")
        return memory_needed(small_dataset, settings, together=together)["bf16"] > 0

    for together in (False, True):
        assert not narrow("fp32", 64, together=together)
        assert not narrow("auto", 16, together=together)
        assert narrow("auto", 32, together=together) is not together
        assert narrow("bf16", 16, together=together)
    wide, gpu = settings_of("precision=bf16", "model.width=64"), torch.device("cuda")
    assert not may_be_narrow(wide, gpu, together=False)


def test_a_table_counts_by_whether_it_is_large(small_dataset: Dataset) -> None:
    """Small: eleven float32 of each weight. Large: four of each, and two of each row."""
    rows = small_dataset.videos.num_rows + len(small_dataset.author_ids)
    without, small, apart, large = (
        memory_needed(small_dataset, settings_of(*words))["weights"]
        for words in (
            ("model.inputs.ids=false",),
            ("model.inputs.ids=true",),
            ("model.inputs.ids=true", f"optimizer.sparse_from_rows={rows}"),
            ("model.inputs.ids=true", "optimizer.sparse_from_rows=1"),
        )
    )
    assert small - without == rows * 11 * 4 * 16
    assert apart == small, "videos and authors are as many rows together, in two tables"
    assert large - without == rows * (4 * 4 * 16 + 2 * 4)


def test_several_that_write_a_checkpoint_hold_its_bytes_too(small_dataset: Dataset) -> None:
    """Of each number that AdamW moves five more: itself, two moments, mean, the best."""
    settings = settings_of("model.inputs.ids=true")
    alone, together = (
        memory_needed(small_dataset, settings, together=each)["weights"] for each in (False, True)
    )
    assert together * 11 == alone * 16
