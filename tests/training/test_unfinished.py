"""Checkpoints are whole or not there, few, copied at once, and their problems are told."""

import json
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from skipwise.errors import RunError, StorageError
from skipwise.features.dataset import Dataset
from skipwise.storage import checksum
from skipwise.training.tensor_file import write_tensors
from skipwise.training.unfinished import Checkpoints, find_unfinished
from tests.training.trained import BreaksOff, interrupt, short_run


def save(checkpoints: Checkpoints, step: int, *, wait: bool = True) -> None:
    checkpoints.save({"weights": torch.full((2,), float(step))}, {"step": step}, wait=wait)


def names(run: Path) -> list[str]:
    return sorted(file.name for file in (run / "resume").iterdir())


def test_only_the_last_few_are_kept_whoever_wrote_them(tmp_path: Path) -> None:
    first = Checkpoints(tmp_path, keep=2, every_s=60)
    for step in (5, 6, 7):
        save(first, step)
    save(Checkpoints(tmp_path, keep=2, every_s=60), 8)
    assert names(tmp_path) == [
        f"state-00000{number}.{kind}" for number in (3, 4) for kind in ("json", "safetensors")
    ]
    found = find_unfinished(tmp_path)
    assert found.position["step"] == 8
    assert load_file(found.state)["weights"].tolist() == [8.0, 8.0]


def test_what_changes_after_the_copy_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer is held up until the weights have moved on."""
    moved = threading.Event()

    def late(tensors: dict[str, torch.Tensor], file: Path) -> None:
        assert moved.wait(10)
        write_tensors(tensors, file)

    monkeypatch.setattr("skipwise.training.unfinished.write_tensors", late)
    weights = torch.ones(3)
    checkpoints = Checkpoints(tmp_path, keep=1, every_s=0)
    assert checkpoints.due()
    checkpoints.save({"weights": weights}, {"step": 1}, wait=False)
    assert not checkpoints.due(), "one at a time"
    weights.zero_()
    moved.set()
    checkpoints.finish()
    assert load_file(find_unfinished(tmp_path).state)["weights"].tolist() == [1.0, 1.0, 1.0]


def test_a_full_disk_is_told_at_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1, every_s=60)
    save(checkpoints, 1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("skipwise.training.unfinished.write_tensors", full)
    save(checkpoints, 2, wait=False)
    with pytest.raises(StorageError, match="the disk is full"):
        checkpoints.finish()
    assert find_unfinished(tmp_path).position["step"] == 1


def test_what_a_killed_writer_left_is_cleared_away(tmp_path: Path) -> None:
    save(Checkpoints(tmp_path, keep=1, every_s=60), 1)
    (tmp_path / "resume" / ".state-000002.safetensors.77.part").write_bytes(b"half")
    (tmp_path / "resume" / ".state-000003.part").mkdir()
    (tmp_path / "resume" / ".state-000003.part" / "shard.safetensors").write_bytes(b"half")
    Checkpoints(tmp_path, keep=1, every_s=60)
    assert names(tmp_path) == ["state-000001.json", "state-000001.safetensors"]


def test_dear_ones_are_written_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that needs 0.06 s of processor is not due again within 2 s."""
    at = [0.0]
    monkeypatch.setattr("skipwise.training.unfinished.time.monotonic", lambda: at[0])

    def dear(tensors: dict[str, torch.Tensor], file: Path) -> None:
        until = time.thread_time() + 0.06
        while time.thread_time() < until:
            pass
        write_tensors(tensors, file)

    monkeypatch.setattr("skipwise.training.unfinished.write_tensors", dear)
    checkpoints = Checkpoints(tmp_path, keep=1, every_s=0.5)
    save(checkpoints, 1)
    assert checkpoints.last_cost_s >= 0.06
    at[0] = 1.9
    assert not checkpoints.due(), "0.06 s of 1.9 s is more than 3 %"
    at[0] = 10.0 + checkpoints.last_cost_s / 0.03
    assert checkpoints.due()
    often = Checkpoints(tmp_path, keep=1, every_s=0)
    save(often, 2)
    assert often.due(), "0 is as often as can be"


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("what", ["type", "size", "absence"])
def test_a_checkpoint_with_other_tensors_is_refused_though_its_checksum_fits(
    small_dataset: Dataset, tmp_path: Path, what: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        short_run(small_dataset, tmp_path, progress=BreaksOff(4, interrupt))
    state = find_unfinished(tmp_path).state
    tensors = load_file(state)
    weights = tensors.pop("weights.0")
    if what != "absence":
        tensors["weights.0"] = weights.double() if what == "type" else weights[1:].clone()
    write_tensors(tensors, state)
    description = json.loads(state.with_suffix(".json").read_text())
    description["checksums"][state.name] = checksum(state)
    state.with_suffix(".json").write_text(json.dumps(description))
    found = {
        "type": rf"type F64, size \[{len(weights)}\]",
        "size": rf"type F32, size \[{len(weights) - 1}\]",
        "absence": "no such tensor",
    }[what]
    with pytest.raises(RunError, match=rf"weights.0 has {found}, must have type F32, size"):
        short_run(small_dataset, tmp_path, resume=True)


def test_none_is_due_before_its_time(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1, every_s=3600)
    assert not checkpoints.due()
