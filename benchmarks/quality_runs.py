"""How a cell of `quality.py` becomes figures: trained once, scored once, kept by fingerprint.

    Cell, seed  ->  Bench.figures  ->  {figure: (1 + draws,) values: everybody, then drawn viewers}

- A run is kept under what it depends on: dataset fingerprint, settings, last day, code. So an
  interrupted bench goes on where it was, and changed code measures anew.
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
import torch
from numpy.typing import NDArray

from skipwise.evaluation.bootstrap import Statistic, replicate
from skipwise.evaluation.evaluate import Measured, score_run
from skipwise.evaluation.figures import objective_figures
from skipwise.evaluation.grouped import gauc, ndcg
from skipwise.evaluation.scored import Scored
from skipwise.evaluation.slate import slate_statistic
from skipwise.evaluation.watch import mae_s, xauc
from skipwise.evaluation.yardsticks import score_baselines
from skipwise.features.dataset import Dataset
from skipwise.features.visibility import Mode
from skipwise.model.batch import Batch
from skipwise.model.objectives import Predictions
from skipwise.model.predict import Ask
from skipwise.model.score import ScoreWeights, fused_score
from skipwise.settings import apply_settings, parse_overrides, settings_to_dict
from skipwise.training.checkpoint import TrainedRun, load_run
from skipwise.training.fit import train
from skipwise.training.settings import TrainSettings, preset
from skipwise.training.unfinished import FOLDER, described

Values = dict[str, NDArray[np.float64]]
OBJECTIVES = ("glance", "long", "effective", "click", "like")
METRICS = ("auc", "gauc", "log_loss")
WATCH_METRICS = ("mae_s", "xauc", "xgauc")
SLATE = 3
SCORES = {
    "skips in the score": ScoreWeights(),
    "no skips in the score": ScoreWeights(glance_power=0.0, negative_power=0.0),
}
SCORE_CHANGE = "skips minus no skips in the score"
CURVE_AT_S = (3.0, 7.0, 18.0)
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
    """A yardstick by name, measured on the reference run's rows instead of a run of its own."""


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
        settings = settings_to_dict(self.settings(cell, seed))
        facts = [settings, cell.mode, cell.delay_s, cell.baseline, self.days, self.draws]
        return self.out / "figures" / f"{self._key(facts)}.npz"

    def figures(self, cell: Cell, seed: int) -> Values:
        """Measure a cell, unless it is there."""
        file = self.figures_file(cell, seed)
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            measured = self.measured(cell, seed)
            aside = file.with_suffix(".part.npz")
            np.savez(aside, allow_pickle=False, **self._figures(measured, cell))
            aside.rename(file)
        with np.load(file, allow_pickle=False) as kept:
            return {name: kept[name] for name in kept.files}

    def measured(self, cell: Cell, seed: int) -> Measured:
        """Score a cell's rows."""
        run = self.run(cell, seed)
        connection = ibis.duckdb.connect(threads=1, memory_limit="3GiB")
        connection.raw_sql("set enable_progress_bar = false")  # it is on in such processes
        also: dict[str, Ask] = {}
        if run.settings.model.objectives.watch == "curve":
            also = {f"S({at:g})": _survival(at) for at in CURVE_AT_S} | {
                "S(end)": _survival_to_the_end,
                "median_s": _median_s,
            }
        try:
            return score_run(
                run,
                self.dataset,
                connection,
                days=self.days,
                mode=cell.mode,
                delay_s=cell.delay_s,
                also=also,
            )
        finally:
            connection.disconnect()

    def _figures(self, measured: Measured, cell: Cell) -> Values:
        scored = measured.scored
        if cell.baseline:
            scored = score_baselines(measured.yardstick, (cell.baseline,), scored)[cell.baseline]
        statistics = dict(_statistics(scored))
        found: Values = replicate(statistics, scored.viewer_ix()[1], samples=self.draws, seed=0)
        found |= {name: np.array([value]) for name, value in _watch_by_bucket(scored).items()}
        found |= {name: np.array([value]) for name, value in _by_viewer(scored).items()}
        if not cell.baseline:
            found |= _curve_figures(measured)
        return found

    def _key(self, facts: Any) -> str:
        whole = [self.dataset.fingerprint, self.last_training_day, self.code, facts]
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:20]


def _statistics(scored: Scored) -> Iterable[tuple[str, Statistic]]:
    viewer_ix, num_viewers = scored.viewer_ix()
    for objective in OBJECTIVES:
        if objective in scored.objectives:
            figures = objective_figures(scored, objective, ndcg_at=5, calibration_bins=15)
            for metric in METRICS:
                if metric in figures.statistics:
                    yield f"{objective}/{metric}", figures.statistics[metric]
    expected = scored.expected_watch_s if scored.predicts_watch else None
    for score, weights in SCORES.items():
        order = fused_score(scored.probabilities, expected, weights)
        for name in ("glance", "effective", "negative", "watch_s"):
            outcome = np.minimum(scored.watch_s, 300.0)
            if name != "watch_s":
                if name not in scored.labels:
                    continue
                label = scored.labels[name].astype(np.float64)
                outcome = np.where(label < 0, np.nan, label)
            statistic, slates = slate_statistic(
                outcome, order, scored.group, viewer_ix, num_viewers, at=SLATE
            )
            if slates:
                yield f"{score}/{name}_at_{SLATE}", statistic


def _watch_by_bucket(scored: Scored) -> dict[str, float]:
    """MAE, XAUC and XGAUC in all and by duration bucket."""
    if not scored.predicts_watch:
        return {}
    found = {}
    bucket = scored.slices["duration_bucket"].astype(np.int64)
    known = np.isfinite(scored.watch_s)
    parts = {"all": known} | {
        f"bucket {number}": known & (bucket == number) for number in np.unique(bucket)
    }
    for name, rows in parts.items():
        if rows.sum() >= 200:
            watch, expected = np.minimum(scored.watch_s[rows], 300), scored.expected_watch_s[rows]
            found[f"watch/{name}/mae_s"] = mae_s(watch, expected)
            found[f"watch/{name}/xauc"] = xauc(watch, expected)
            found[f"watch/{name}/rows"] = float(rows.sum())
    return found


def _by_viewer(scored: Scored) -> dict[str, float]:
    """GAUC and nDCG@5 of long views with a viewer's rows as one group: the ladder's primary."""
    if "long" not in scored.objectives:
        return {}
    known = scored.labels["long"] >= 0
    labels, chance = scored.labels["long"][known], scored.probabilities["long"][known]
    viewer = scored.viewer[known]
    by_gauc, by_ndcg = gauc(labels, chance, viewer), ndcg(labels, chance, viewer, at=5)
    return {
        "viewer/gauc": by_gauc,
        "viewer/ndcg": by_ndcg,
        "viewer/primary": (by_gauc + by_ndcg) / 2,
    }


def _curve_figures(measured: Measured) -> Values:
    """Calibration of S(t) at each second and the end, in ten bins; the median's MAE."""
    also, scored = measured.predicted.also, measured.scored
    if not also:
        return {}
    found: Values = {}
    known = np.isfinite(scored.watch_s) & np.isfinite(scored.duration_s)
    for name, chance in also.items():
        if name == "median_s":
            continue
        at = scored.duration_s if name == "S(end)" else np.full(len(chance), float(name[2:-1]))
        stayed = (scored.watch_s >= np.minimum(at, scored.duration_s))[known]
        order = np.array_split(np.argsort(chance[known], kind="stable"), 10)
        predicted = np.array([chance[known][rows].mean() for rows in order])
        observed = np.array([stayed[rows].mean() for rows in order])
        found[f"curve/{name}/predicted"], found[f"curve/{name}/observed"] = predicted, observed
    rows = np.isfinite(scored.watch_s)
    watch = np.minimum(scored.watch_s[rows], 300)
    found["watch/median/mae_s"] = np.array([mae_s(watch, also["median_s"][rows])])
    return found


def _survival(at_s: float) -> Ask:
    """S(min(at_s, d)): staying so long, or to the end."""

    def ask(predictions: Predictions, batch: Batch) -> torch.Tensor:
        assert predictions.curve is not None
        at = torch.nan_to_num(batch.targets["duration_s"], nan=torch.inf).clamp(max=at_s)
        return predictions.curve.survival(at)

    return ask


def _survival_to_the_end(predictions: Predictions, batch: Batch) -> torch.Tensor:
    assert predictions.curve is not None
    return predictions.curve.survival(torch.nan_to_num(batch.targets["duration_s"], nan=300.0))


def _median_s(predictions: Predictions, batch: Batch) -> torch.Tensor:
    """The second at which half have left, by halving [0, 300]."""
    assert predictions.curve is not None
    low = torch.zeros(len(batch.row))
    high = torch.full_like(low, 300.0)
    for _ in range(20):
        middle = (low + high) / 2
        stayed = predictions.curve.survival(middle) > 0.5
        low, high = torch.where(stayed, middle, low), torch.where(stayed, high, middle)
    return (low + high) / 2
