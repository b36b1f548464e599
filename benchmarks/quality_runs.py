"""How a cell of `quality.py` becomes figures: trained once, scored once, kept by fingerprint.

    Cell, seed  ->  Bench.figures  ->  {figure: (1 + draws,) values: everybody, then drawn viewers}

- A run is kept under what it depends on: dataset fingerprint, settings, last day, code; figures
  under the code that measures besides. So an interrupted bench goes on where it was, and changed
  code measures anew.
- All cells of one bench are measured on the same drawn viewers: differences are paired.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ibis
import numpy as np
from benchmarks import quality_measures
from benchmarks.quality_measures import Values, asks, figures_of

from skipwise.evaluation.evaluate import Measured, score_run
from skipwise.evaluation.yardsticks import score_baselines
from skipwise.features.dataset import Dataset
from skipwise.features.visibility import Mode
from skipwise.settings import apply_settings, parse_overrides, settings_to_dict
from skipwise.training.checkpoint import TrainedRun, load_run
from skipwise.training.fit import train
from skipwise.training.settings import TrainSettings, preset
from skipwise.training.unfinished import FOLDER, described

SOURCE = Path(__file__).parents[1] / "src" / "skipwise"
CODE = ("labels", "features", "model", "training", "evaluation")


def code_fingerprint(folders: Iterable[str] = CODE) -> str:
    """Hash the code that figures depend on: folders of `src/skipwise`; "." is all of it."""
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted((SOURCE / folder).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Cell:
    """One line of a table: what is set, and how it is measured."""

    name: str
    words: tuple[str, ...] = ()
    mode: Mode = "daily"
    delay_s: float = 0.0
    baseline: str | None = None
    """A yardstick by name, measured on the reference run's rows instead of a run of its own. It
    knows no seed: measured with one, it is measured with all."""


@dataclass
class Bench:
    """A dataset, a split, a budget and a folder where everything is kept."""

    dataset: Dataset
    last_training_day: int
    days: tuple[int, int]
    size: str
    budget: tuple[str, ...]
    """Settings that every cell has."""
    out: Path
    draws: int = 500
    code: str = field(default_factory=code_fingerprint)

    def settings(self, cell: Cell, seed: int) -> TrainSettings:
        """Return a cell's whole settings."""
        words = [*self.budget, *cell.words, f"seed={seed}"]
        return apply_settings(preset(self.size), parse_overrides(words))

    def run_path(self, cell: Cell, seed: int) -> Path:
        """Say where the run that a cell is measured on is kept."""
        trained = Cell("") if cell.baseline else cell
        return self.out / "runs" / self._key(settings_to_dict(self.settings(trained, seed)))

    def run(self, cell: Cell, seed: int) -> TrainedRun:
        """Train the run that a cell is measured on, unless it is there."""
        path = self.run_path(cell, seed)
        settings = self.settings(Cell("") if cell.baseline else cell, seed)
        if not (path / "run.json").is_file():
            resume = bool(described(path / FOLDER))
            train(self.dataset, path, settings, last_day=self.last_training_day, resume=resume)
        return load_run(path)

    def figures_file(self, cell: Cell, seed: int) -> Path:
        """Say where a cell's figures are kept."""
        settings = settings_to_dict(self.settings(cell, 0 if cell.baseline else seed))
        facts = [settings, cell.mode, cell.delay_s, cell.baseline, self.days, self.draws]
        measures = hashlib.sha256(Path(quality_measures.__file__).read_bytes()).hexdigest()
        return self.out / "figures" / f"{self._key([*facts, measures])}.npz"

    def figures(self, cell: Cell, seed: int) -> Values:
        """Measure a cell, unless it is there."""
        file = self.figures_file(cell, seed)
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            measured = self.measured(cell, seed)
            aside = file.with_suffix(".part.npz")
            scored = measured.scored
            if cell.baseline:
                found = score_baselines(measured.yardstick, (cell.baseline,), scored)
                scored = found[cell.baseline]
            also = {} if cell.baseline else measured.predicted.also
            values = figures_of(scored, also, draws=self.draws)
            np.savez(aside, allow_pickle=False, **values)
            aside.rename(file)
        with np.load(file, allow_pickle=False) as kept:
            return {name: kept[name] for name in kept.files}

    def measured(self, cell: Cell, seed: int) -> Measured:
        """Score a cell's rows."""
        run = self.run(cell, seed)
        connection = ibis.duckdb.connect(threads=1, memory_limit="3GiB")
        connection.raw_sql("set enable_progress_bar = false")  # it is on in such processes
        try:
            return score_run(
                run,
                self.dataset,
                connection,
                days=self.days,
                mode=cell.mode,
                delay_s=cell.delay_s,
                also=asks() if run.settings.model.objectives.watch == "curve" else {},
            )
        finally:
            connection.disconnect()

    def _key(self, facts: Any) -> str:
        whole = [self.dataset.fingerprint, self.last_training_day, self.code, facts]
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:20]
