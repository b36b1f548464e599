"""How a trained model lies on disk: safetensors and JSON, never pickle.

    model, vocabulary, settings  ->  save_run  ->  RUN folder  ->  load_run  ->  TrainedRun

- Every file is written aside and renamed; `run.json`, last, holds the checksums of the others, so a
  crash in between leaves the old run or none.
- A file that does not fit its checksum is not read; `run.json` holds its own, over all else in it.

Reads `model`; is read by `fit`, `unfinished`, evaluation, report and serving.
"""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

import skipwise
from skipwise.errors import RunError
from skipwise.features.dataset import Dataset
from skipwise.features.vocabulary import Catalogue, Vocabulary, bind
from skipwise.labels.watch import LabelConfig
from skipwise.model.inputs import InputSizes
from skipwise.model.recommender import LabelCuts, Recommender
from skipwise.settings import apply_settings, settings_to_dict
from skipwise.storage import checksum, json_checksum, replace_file, write_json
from skipwise.training.settings import TrainSettings
from skipwise.training.tensor_file import write_tensors

FORMAT_VERSION = 3
"""Rises when the network, or what lies in the folder, changes: older runs are then refused."""
RUN_FILE, MODEL_FILE, VOCABULARY_FILE = "run.json", "model.safetensors", "vocabulary.json"
PROGRESS_FILE = "progress.jsonl"
_DESCRIBED = ("settings", "dataset", "objectives", "window", "checksums", "checksum")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedRun:
    """A trained model, ready to score any dataset prepared from the same source."""

    path: Path
    description: Mapping[str, Any]
    """`run.json`, whole."""
    model: Recommender
    vocabulary: Vocabulary
    settings: TrainSettings

    def catalogue(self, dataset: Dataset) -> Catalogue:
        """Bind a dataset's codes to the model's indices.

        Raises:
            RunError: The dataset does not fit the model.
        """
        check_fits(self.description, dataset)
        return bind(self.vocabulary, dataset)


def build_model(
    dataset_facts: Mapping[str, Any],
    vocabulary: Vocabulary,
    objectives: tuple[str, ...],
    settings: TrainSettings,
) -> Recommender:
    """Make an untrained network of the right sizes.

    Args:
        dataset_facts: `counter_names` and `settings` of the dataset's description.
        vocabulary: What it knows.
        objectives: What it predicts.
        settings: Its shape.
    """
    labels = apply_settings(LabelConfig(), dataset_facts["settings"]["labels"])
    sizes = InputSizes(
        **vocabulary.sizes,
        duration_buckets=labels.num_duration_buckets,
        video_categories=tuple(len(words) + 2 for words in vocabulary.video_categories.values()),
        video_numbers=len(vocabulary.video_numbers),
        viewer_categories=tuple(len(words) + 2 for words in vocabulary.viewer_categories.values()),
        viewer_numbers=len(vocabulary.viewer_numbers),
        counters=tuple(dataset_facts["counter_names"]),
    )
    cuts = LabelCuts(
        glance_below_s=labels.glance_below_s,
        glance_needs_duration=labels.glance_needs_duration,
        long_from_s=labels.long_from_s,
        watch_at_most_s=labels.watch_at_most_s,
        duration_edges_s=labels.duration_edges_s,
    )
    return Recommender(sizes, objectives, cuts, settings.model)


def dataset_facts(dataset: Dataset) -> dict[str, Any]:
    """Return what a model must remember of the dataset it was trained on."""
    keys = ("counter_names", "settings", "source", "time_zone", "fingerprint")
    return {key: dataset.description[key] for key in keys} | {"path": str(dataset.path.resolve())}


def save_run(
    path: Path,
    *,
    weights: Mapping[str, Tensor],
    vocabulary: Vocabulary,
    settings: TrainSettings,
    facts: Mapping[str, Any],
    more: Mapping[str, Any],
) -> None:
    """Write a finished model.

    Args:
        path: The RUN folder.
        weights: Of the model, best ones.
        vocabulary: What it knows.
        settings: The full settings.
        facts: From `dataset_facts`.
        more: Window, objectives and results to keep in `run.json`.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    with replace_file(path / MODEL_FILE) as aside:
        write_tensors(weights, aside)
    write_json(path / VOCABULARY_FILE, vocabulary.to_json())
    description = {
        "format_version": FORMAT_VERSION,
        "versions": {
            "skipwise": skipwise.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "settings": settings_to_dict(settings),
        "dataset": dict(facts),
        "vocabulary_sizes": vocabulary.sizes,
        "num_parameters": sum(tensor.numel() for tensor in weights.values()),
        "checksums": {name: checksum(path / name) for name in (MODEL_FILE, VOCABULARY_FILE)},
        **more,
    }
    write_json(path / RUN_FILE, sealed(description))


def sealed(description: Mapping[str, Any]) -> dict[str, Any]:
    """Put under `checksum` what everything else in `run.json` hashes to."""
    rest = {key: value for key, value in description.items() if key != "checksum"}
    return {**rest, "checksum": json_checksum(rest)}


def load_run(path: Path) -> TrainedRun:
    """Read a trained run back.

    Raises:
        RunError: It is missing, unfinished, cut short, changed, or of another version.
    """
    description = read_description(path)
    _check_checksums(path, description)
    vocabulary = _read_vocabulary(path / VOCABULARY_FILE)
    settings = apply_settings(TrainSettings(), description["settings"])
    model = build_model(
        description["dataset"], vocabulary, tuple(description["objectives"]), settings
    )
    try:
        model.load_state_dict(load_file(path / MODEL_FILE))
    except (RuntimeError, SafetensorError) as problem:
        what = str(problem).strip().splitlines()[:2][-1].strip().rstrip(". ")
        raise RunError(
            f"{path / MODEL_FILE} does not fit the settings in {RUN_FILE}: {what}. "
            "One of them was changed; train again."
        ) from None
    model.eval()
    return TrainedRun(
        path=path, description=description, model=model, vocabulary=vocabulary, settings=settings
    )


def read_description(path: Path) -> dict[str, Any]:
    """Read `run.json`.

    Raises:
        RunError: It is missing, damaged, changed, or of another version.
    """
    file = path / RUN_FILE
    if not file.is_file():
        unfinished = (
            " Training was not finished: `skipwise train ... --resume`."
            if (path / "resume").is_dir()
            else ""
        )
        raise RunError(
            f"{path} is not a trained run (it has no {RUN_FILE}).{unfinished} "
            "Make one with `skipwise train DATASET --out RUN`."
        )
    try:
        description: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as problem:
        raise RunError(f"{file} is damaged: {problem}. Train again.") from None
    version = description.get("format_version") if isinstance(description, dict) else None
    if version != FORMAT_VERSION:
        raise RunError(
            f"{path} has format version {version}, must be {FORMAT_VERSION}. It was trained by "
            "another version of Skipwise: train again."
        )
    lacking = [key for key in _DESCRIBED if key not in description]
    if lacking:
        raise RunError(f"{file} is damaged: it must have {', '.join(lacking)}. Train again.")
    if sealed(description)["checksum"] != description["checksum"]:
        raise RunError(
            f"{file} does not fit the checksum it holds: it was changed after it was written. "
            "Copy the run again from where it was trained, or train again."
        )
    return description


def check_fits(description: Mapping[str, Any], dataset: Dataset) -> None:
    """Refuse a dataset whose features are not those the model was trained on.

    Raises:
        RunError: Source, labels or counters differ.
    """
    trained = description["dataset"]
    for key, what in (("counter_names", "counters"), ("source", "source")):
        theirs = dataset.description[key]
        if list(trained[key]) != list(theirs):
            raise RunError(
                f"the run was trained on a dataset with other {what} ({trained[key]}) than "
                f"{dataset.path} has ({theirs}). Give the dataset it was trained on, or one "
                "prepared the same way."
            )
    for part in ("labels", "counters"):
        mine, theirs = trained["settings"][part], dataset.description["settings"][part]
        changed = [name for name in mine if mine[name] != theirs.get(name)]
        if changed:
            raise RunError(
                f"the run was trained with {part}.{changed[0]} = {mine[changed[0]]}, "
                f"{dataset.path} was prepared with {theirs.get(changed[0])}. Prepare it with the "
                "same settings, or train again."
            )


def _read_vocabulary(file: Path) -> Vocabulary:
    try:
        return Vocabulary.from_json(json.loads(file.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError) as problem:
        raise RunError(f"{file} is damaged: {problem}. Train again.") from None


def _check_checksums(path: Path, description: Mapping[str, Any]) -> None:
    for name in (MODEL_FILE, VOCABULARY_FILE):
        expected = description["checksums"].get(name)
        file = path / name
        if not file.is_file():
            raise RunError(
                f"{file} is missing; {RUN_FILE} names it. Copy the whole folder, or train again."
            )
        if checksum(file) != expected:
            raise RunError(
                f"{file} does not fit its checksum in {RUN_FILE}: it was cut short or changed. "
                "Copy the run again from where it was trained, or train again."
            )
