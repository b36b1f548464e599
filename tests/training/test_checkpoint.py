"""A trained run comes back as it was, or is refused with the reason."""

import dataclasses
import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from skipwise.errors import RunError, SettingError, StorageError
from skipwise.features.dataset import Dataset
from skipwise.storage import checksum
from skipwise.training.checkpoint import (
    MODEL_FILE,
    RUN_FILE,
    VOCABULARY_FILE,
    TrainedRun,
    check_fits,
    load_run,
    save_run,
    sealed,
)
from tests.training.trained import predictions, same_weights, short_run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def run(small_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    before = torch.get_num_threads()
    trained = short_run(
        small_dataset, tmp_path_factory.mktemp("run") / "RUN", "passes_at_most=1", "refit=false"
    )
    torch.set_num_threads(before)
    return trained


@pytest.fixture
def copy(run: TrainedRun, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(run.path, tmp_path / "RUN"))


def described(path: Path, *, seal: bool = True, **changes: Any) -> None:
    """Change values of run.json; None takes one away. Its checksum follows unless `seal` is off."""
    description = json.loads((path / RUN_FILE).read_text()) | changes
    description = {key: value for key, value in description.items() if value is not None}
    (path / RUN_FILE).write_text(json.dumps(sealed(description) if seal else description))


def resealed(path: Path) -> None:
    """Bring the checksums in line with the files, as someone who tampers on purpose would."""
    described(
        path, checksums={name: checksum(path / name) for name in (MODEL_FILE, VOCABULARY_FILE)}
    )


def test_what_was_saved_predicts_the_same(
    small_dataset: Dataset, run: TrainedRun, copy: Path
) -> None:
    first, again = predictions(run, small_dataset), predictions(load_run(copy), small_dataset)
    np.testing.assert_array_equal(first.row, again.row)
    np.testing.assert_array_equal(first.expected_watch_s, again.expected_watch_s)
    for name, logits in first.logits.items():
        np.testing.assert_array_equal(logits, again.logits[name])
    assert not load_run(copy).model.training


def test_a_run_is_plain_files_that_say_where_they_come_from(
    small_dataset: Dataset, run: TrainedRun
) -> None:
    names = {file.name for file in run.path.iterdir()}
    assert names == {RUN_FILE, MODEL_FILE, VOCABULARY_FILE, "progress.jsonl"}
    description = json.loads((run.path / RUN_FILE).read_text())
    assert description["format_version"] == 3
    assert description["dataset"]["fingerprint"] == small_dataset.fingerprint
    assert description["settings"]["model"]["width"] == run.settings.model.width == 8
    assert set(description["versions"]) == {"skipwise", "torch", "numpy", "python"}
    assert description["num_parameters"] == sum(
        weights.numel() for weights in load_file(run.path / MODEL_FILE).values()
    )


def test_a_vocabulary_of_another_dataset_of_the_same_source_fits(
    edited_dataset: Dataset, run: TrainedRun
) -> None:
    assert edited_dataset.fingerprint != run.description["dataset"]["fingerprint"]
    assert len(predictions(run, edited_dataset).row) > 1000


@pytest.mark.parametrize("name", [MODEL_FILE, VOCABULARY_FILE])
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda _: b"",
        lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
    ],
    ids=["a byte short", "half", "empty", "one bit"],
)
def test_a_file_cut_short_or_changed_is_refused(
    copy: Path, name: str, damage: Callable[[bytes], bytes]
) -> None:
    (copy / name).write_bytes(damage((copy / name).read_bytes()))
    with pytest.raises(RunError, match=rf"{name} does not fit its checksum .*train again"):
        load_run(copy)


@pytest.mark.parametrize("name", [MODEL_FILE, VOCABULARY_FILE])
def test_a_missing_file_is_refused(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(RunError, match=rf"{name} is missing; run\.json names it\. Copy the whole"):
        load_run(copy)


@pytest.mark.parametrize(
    "text", ["", "{", "{}", "[1]", "3", '{"format_version": 7}', '{"format_version": 3}']
)
def test_a_description_that_is_none_is_refused(copy: Path, text: str) -> None:
    (copy / RUN_FILE).write_text(text)
    with pytest.raises(RunError, match=r"(is damaged|has format version).*[Tt]rain again"):
        load_run(copy)


def test_a_description_that_is_not_text_is_refused(copy: Path) -> None:
    (copy / RUN_FILE).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RunError, match="is damaged"):
        load_run(copy)


@pytest.mark.parametrize(
    "key", ["settings", "dataset", "objectives", "window", "checksums", "checksum"]
)
def test_a_description_that_lacks_a_part_is_refused(copy: Path, key: str) -> None:
    described(copy, seal=key != "checksum", **{key: None})
    with pytest.raises(RunError, match=rf"damaged: it must have {key}\. Train again"):
        load_run(copy)


@pytest.mark.parametrize("version", [1, 7])
def test_another_format_version_is_refused(copy: Path, version: int) -> None:
    described(copy, format_version=version)
    with pytest.raises(RunError, match=rf"format version {version}, must be 3\. .*train again"):
        load_run(copy)


def test_a_run_of_the_first_format_is_told_so_whatever_else_differs(copy: Path) -> None:
    """It had no checksum of its own, and settings that are no more."""
    described(copy, seal=False, format_version=1, checksum=None, settings={"gone": 1}, window=None)
    with pytest.raises(RunError, match="trained by another version of Skipwise: train again"):
        load_run(copy)


def test_a_setting_changed_by_hand_is_refused(run: TrainedRun, copy: Path) -> None:
    """Weights of another history length have the same shapes: only the checksum can tell."""
    settings = json.loads(json.dumps(run.description["settings"]))
    settings["model"]["encoder"]["history_length"] += 1
    described(copy, seal=False, settings=settings)
    with pytest.raises(RunError, match=r"run\.json does not fit the checksum it holds: .*again"):
        load_run(copy)
    described(copy, settings=settings)
    load_run(copy)


def test_what_is_no_run_is_refused_and_an_unfinished_one_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is not a trained run .*Make one with `skipwise train"):
        load_run(tmp_path)
    (tmp_path / "resume").mkdir()
    with pytest.raises(RunError, match=r"not finished: `skipwise train \.\.\. --resume`"):
        load_run(tmp_path)


def test_settings_that_do_not_fit_the_weights_are_refused(run: TrainedRun, copy: Path) -> None:
    settings = json.loads(json.dumps(run.description["settings"]))
    settings["model"]["width"] = 16
    described(copy, settings=settings)
    with pytest.raises(RunError, match=rf"{MODEL_FILE} does not fit the settings .*train again"):
        load_run(copy)
    settings["model"]["widht"] = 16
    described(copy, settings=settings)
    with pytest.raises(SettingError, match=r"model\.widht is not a setting; .*'width'"):
        load_run(copy)


@pytest.mark.parametrize(
    "tamper",
    [
        lambda weights: dict(list(weights.items())[1:]),
        lambda weights: weights | {"more": torch.zeros(3)},
        lambda weights: weights | {"inputs.video.weight": torch.zeros(2, 2)},
    ],
    ids=["one less", "one more", "another shape"],
)
def test_weights_of_another_model_are_refused_though_the_checksum_fits(
    copy: Path, tamper: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
) -> None:
    save_file(tamper(load_file(copy / MODEL_FILE)), copy / MODEL_FILE)
    resealed(copy)
    with pytest.raises(RunError, match=r"does not fit the settings in run\.json: .*train again"):
        load_run(copy)


def test_weights_that_are_none_are_refused_though_the_checksum_fits(copy: Path) -> None:
    (copy / MODEL_FILE).write_bytes(b"not a safetensors file")
    resealed(copy)
    with pytest.raises(RunError, match=r"does not fit the settings in run\.json: .*train again"):
        load_run(copy)


@pytest.mark.parametrize("text", ["{}", "{", "[]"])
def test_a_vocabulary_that_is_none_is_refused_though_the_checksum_fits(
    copy: Path, text: str
) -> None:
    (copy / VOCABULARY_FILE).write_text(text)
    resealed(copy)
    with pytest.raises(RunError, match=r"(is damaged: .*Train again|train it again)"):
        load_run(copy)


def other_dataset(dataset: Dataset, **changes: Any) -> Dataset:
    """Change values of a dataset's description; `settings` by part."""
    description = json.loads(json.dumps(dataset.description))
    for part, values in changes.pop("settings", {}).items():
        description["settings"][part] |= values
    return dataclasses.replace(dataset, description=description | changes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"source": "kuairand"}, r"other source \(simulated\) than .*\(kuairand\)"),
        ({"counter_names": ["video.views"]}, r"other counters \(.*\['video\.views'\]"),
        (
            {"settings": {"labels": {"glance_below_s": 5.0}}},
            r"labels\.glance_below_s = 3\.0, .* prepared with 5\.0",
        ),
        (
            {"settings": {"counters": {"half_life_days": 3.0}}},
            r"counters\.half_life_days = 7\.0, .* prepared with 3\.0",
        ),
    ],
)
def test_a_dataset_prepared_otherwise_is_refused(
    small_dataset: Dataset, run: TrainedRun, changes: dict[str, Any], says: str
) -> None:
    check_fits(run.description, small_dataset)
    with pytest.raises(RunError, match=rf"(?s){says}.*(Prepare it|Give the dataset)"):
        run.catalogue(other_dataset(small_dataset, **changes))


def no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def save_again(run: TrainedRun, path: Path) -> None:
    save_run(
        path,
        weights={name: weights * 0 for name, weights in run.model.state_dict().items()},
        vocabulary=run.vocabulary,
        settings=run.settings,
        facts=run.description["dataset"],
        more={"objectives": run.description["objectives"], "window": {}},
    )


@pytest.mark.parametrize("where", ["fsync", "write"])
def test_a_full_disk_leaves_the_old_run_or_none(
    run: TrainedRun, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    if where == "fsync":
        monkeypatch.setattr(os, "fsync", no_space)
    else:
        monkeypatch.setattr("skipwise.training.checkpoint.write_tensors", no_space)
    before = sorted(file.name for file in copy.iterdir())
    for path in (copy, tmp_path / "new"):
        with pytest.raises(StorageError, match=r"the disk is full\. Nothing half-written .*Free"):
            save_again(run, path)
    monkeypatch.undo()
    assert sorted(file.name for file in copy.iterdir()) == before
    assert same_weights(load_run(copy), run)
    assert list((tmp_path / "new").iterdir()) == []


def test_a_disk_that_fills_up_while_training_leaves_what_can_be_resumed(
    small_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first pass is kept, the second finds no room, then there is some again."""
    whole = short_run(small_dataset, tmp_path / "whole")
    told: list[object] = []

    def report(line: object) -> None:
        told.append(line)
        monkeypatch.setattr("skipwise.training.unfinished.write_tensors", no_space)

    with pytest.raises(StorageError, match="the disk is full"):
        short_run(small_dataset, tmp_path / "RUN", report=report)
    assert len(told) == 1
    monkeypatch.undo()
    files = {file.name for file in (tmp_path / "RUN").rglob("*")}
    assert not any(name.endswith(".part") for name in files)
    assert not (tmp_path / "RUN" / RUN_FILE).exists()
    assert same_weights(short_run(small_dataset, tmp_path / "RUN", resume=True), whole)
