"""What is there to report on?

    RUN folder, DATASET folder  ->  gather  ->  Findings

- The run must be whole. An evaluation or a dataset may be absent: then the reason is kept, and what
  needs it says so.

Reads `training`, `features` and the `evaluation.json` of `evaluation`; is read by the sections.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skipwise.errors import DatasetError, RunError, SkipwiseError
from skipwise.evaluation.tables import EVALUATION_FILE
from skipwise.features.dataset import Dataset
from skipwise.training.checkpoint import PROGRESS_FILE, TrainedRun, check_fits, load_run


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """Everything a page is made of."""

    run: TrainedRun
    passes: tuple[Mapping[str, Any], ...]
    """Lines of `progress.jsonl`, oldest first; none where the file is gone."""
    card: Mapping[str, Any] | None
    """`evaluation.json`, whole; None where there is none."""
    dataset: Dataset | None
    why_no_dataset: str
    """Empty where there is one."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the run remembers of the dataset it was trained on."""
        facts: Mapping[str, Any] = self.run.description["dataset"]
        return facts


def gather(run_path: Path, dataset_path: Path | None = None) -> Findings:
    """Read a run and what belongs to it.

    Args:
        run_path: The RUN folder.
        dataset_path: The DATASET; None = where it was when the run was trained.

    Raises:
        RunError: The run or its evaluation is missing or damaged, or `dataset_path` does not fit.
        DatasetError: `dataset_path` was given and cannot be read.
    """
    run = load_run(run_path)
    dataset, why = None, ""
    try:
        dataset = _fitting(run, dataset_path or Path(run.description["dataset"]["path"]))
    except SkipwiseError as problem:
        if dataset_path is not None:
            raise
        why = str(problem)
    return Findings(
        run=run,
        passes=_passes(run_path / PROGRESS_FILE),
        card=_card(run_path / EVALUATION_FILE, run.description["checksums"]),
        dataset=dataset,
        why_no_dataset=why,
    )


def _fitting(run: TrainedRun, path: Path) -> Dataset:
    if not path.is_dir():
        raise DatasetError(
            f"the dataset is no longer at {path}; it must be a prepared dataset. "
            "Prepare it again there, or say where it is."
        )
    dataset = Dataset.open(path)
    check_fits(run.description, dataset)
    return dataset


def _passes(file: Path) -> tuple[Mapping[str, Any], ...]:
    if not file.is_file():
        return ()
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
        return tuple(json.loads(line) for line in lines if line.strip())
    except (json.JSONDecodeError, UnicodeDecodeError) as problem:
        raise RunError(
            f"{file} is damaged: {problem}; it must hold one JSON object a line. "
            "Delete it to leave the learning curves out, or train again."
        ) from None


def _card(file: Path, checksums: Mapping[str, str]) -> Mapping[str, Any] | None:
    if not file.is_file():
        return None
    remedy = "Run `skipwise evaluate` again, or delete it to leave the figures out."
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as problem:
        raise RunError(f"{file} is damaged: {problem}; it must be JSON. {remedy}") from None
    wanted = ("objectives", "slate", "calibration", "slices", "baselines", "mode", "days", "rows")
    lacking = [name for name in wanted if not isinstance(card, dict) or name not in card]
    if lacking:
        raise RunError(
            f"{file} lacks {', '.join(lacking)}; it must be what `evaluate` wrote. {remedy}"
        )
    if card.get("run", {}).get("checksums") != checksums:
        raise RunError(
            f"{file} holds figures of another model; it must hold those of the one that is there, "
            f"which was trained since. {remedy}"
        )
    return dict(card)
