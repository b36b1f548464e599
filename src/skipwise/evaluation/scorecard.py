"""How good is a scorer, with every figure's interval, in one table that JSON can hold?

    Scored, EvaluationSettings, ScoreWeights  ->  scorecard  ->  dict, as `evaluation.json` holds it

- All figures of one card are measured on the same drawn viewers.
- A figure is `{"value", "low", "high"}`; what cannot be said is null, with its reason beside it.
- Nothing here knows a model: a baseline gets the same card.

Reads `figures`, `calibration`, `slate` and the score; is read by `evaluate` and `tables`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skipwise.evaluation.bootstrap import Floats, Interval, Statistic, bootstrap
from skipwise.evaluation.calibration import calibration_table
from skipwise.evaluation.figures import (
    Figures,
    known_rows,
    objective_figures,
    watch_figures,
)
from skipwise.evaluation.metrics import auc_statistic, log_loss_statistic
from skipwise.evaluation.scored import Scored
from skipwise.evaluation.slate import slate_orders, slate_statistic
from skipwise.model.score import ScoreWeights, fused_score
from skipwise.progress import SILENT, Progress
from skipwise.settings import check_setting

__all__ = ["EvaluationSettings", "Scored", "figure_json", "scorecard"]

Path = tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationSettings:
    """How a scorer is measured."""

    bootstrap_samples: int = 1000
    """Draws of viewers behind each interval."""
    slice_bootstrap_samples: int = 200
    """Draws behind each interval of a slice, of which there are many."""
    confidence: float = 0.95
    """Share of each interval."""
    seed: int = 0
    """Of the draws."""
    ndcg_at: int = 5
    """Places that count in nDCG."""
    slate_sizes: tuple[int, ...] = (1, 3, 5)
    """k of GVV@k, watch@k, EVV@k and NEG@k."""
    calibration_bins: int = 15
    """Bins of equal mass, for the ECE and the calibration table."""
    watch_at_most_s: float = 300.0
    """Seconds at which watched and expected time are clipped."""
    slice_min_rows: int = 200
    """A smaller slice is counted, not measured."""
    baselines: tuple[str, ...] | None = None
    """Which baselines are measured beside it; None = all that can be run here."""

    retrieval_at: tuple[int, ...] = (50, 200)
    """k of recall@k."""
    retrieval_views_at_most: int = 20_000
    """Effective views that are looked for; of more, every so-manieth."""

    def __post_init__(self) -> None:
        for number in self.retrieval_at:
            check_setting("retrieval_at", number, at_least=1)
        check_setting("retrieval_views_at_most", self.retrieval_views_at_most, at_least=1)
        check_setting("bootstrap_samples", self.bootstrap_samples, at_least=20)
        check_setting("slice_bootstrap_samples", self.slice_bootstrap_samples, at_least=20)
        check_setting("confidence", self.confidence, above=0, below=1)
        check_setting("seed", self.seed, at_least=0)
        check_setting("ndcg_at", self.ndcg_at, at_least=1)
        for size in self.slate_sizes:
            check_setting("slate_sizes", size, at_least=1)
        check_setting("calibration_bins", self.calibration_bins, at_least=2, at_most=1000)
        check_setting("watch_at_most_s", self.watch_at_most_s, above=0)
        check_setting("slice_min_rows", self.slice_min_rows, at_least=1)


@dataclass(slots=True)
class _Draft:
    """A card in the making: facts are written at once, statistics are measured together."""

    card: dict[str, Any] = field(default_factory=dict)
    statistics: dict[Path, Statistic] = field(default_factory=dict)

    def put(self, path: Path, value: Any) -> None:
        """Write a value at a path of the card, making the levels it needs."""
        level = self.card
        for name in path[:-1]:
            level = level.setdefault(name, {})
        level[path[-1]] = value

    def measure(self, path: Path, statistic: Statistic) -> None:
        """Keep a place on the card for a figure that is measured later."""
        self.put(path, None)
        self.statistics[path] = statistic

    def add(self, path: Path, figures: Figures) -> None:
        """Write an objective's facts, keep places for its metrics, say why others are missing."""
        for name, statistic in figures.statistics.items():
            self.measure((*path, name), statistic)
        for name in figures.reasons:
            self.put((*path, name), None)
        for name, fact in figures.facts.items():
            self.put((*path, name), fact)
        if figures.reasons:
            self.put((*path, "reasons"), figures.reasons)


def scorecard(
    scored: Scored,
    *,
    settings: EvaluationSettings | None = None,
    weights: ScoreWeights | None = None,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Measure a scorer on rows whose outcomes are known.

    Args:
        scored: N rows with their outcomes and predictions.
        settings: How to measure.
        weights: Of the fused score that the slates are ordered by.
        progress: Told while intervals are drawn.

    Returns:
        `{"objectives": {NAME: {METRIC: {"value", "low", "high"}, "rows", "positives"}, "watch":
        ...}, "slate": {"glance_at_5": {"score", "logged", "random", "score_minus_logged",
        "score_minus_random", "slates"}}, "calibration": {NAME: [{"rows", "from", "to",
        "predicted", "observed"}]}, "slices": {DIVISION: {PART: {"rows", NAME: {"auc",
        "log_loss", ...}}}}, "rows", "viewers", "groups": {"number", "ungrouped_rows", "used",
        "one_class", "empty", "tied_rows"}}`, where a group is empty if none of its rows has a known
        label; null where a figure cannot be said, its reason under `reasons`.

    Raises:
        SettingError: The score weights leave nothing to order by.
    """
    settings = settings or EvaluationSettings()
    _, num_viewers = scored.viewer_ix()
    whole, sliced = _Draft(), _Draft()
    _add_objectives(whole, scored, settings)
    _add_slates(whole, scored, settings, weights or ScoreWeights())
    _add_calibration(whole, scored, settings)
    _add_slices(sliced, scored, settings)
    for draft, samples in (
        (whole, settings.bootstrap_samples),
        (sliced, settings.slice_bootstrap_samples),
    ):
        intervals = bootstrap(
            draft.statistics,
            num_viewers,
            samples=samples,
            seed=settings.seed,
            confidence=settings.confidence,
            progress=progress,
        )
        for path, found in intervals.items():
            draft.put(path, figure_json(found))
    card = whole.card
    card["calibration"] = {
        name: list(bins.values()) for name, bins in card.get("calibration", {}).items()
    }
    card["slices"] = sliced.card
    return card | _counts(scored, num_viewers, card["objectives"])


def figure_json(found: Interval) -> dict[str, float | None] | None:
    """Turn a figure into what JSON can hold: null for a bound, or a figure, that is not known.

    >>> figure_json(Interval(0.5, 0.4, float("nan")))
    {'value': 0.5, 'low': 0.4, 'high': None}
    """
    if not np.isfinite(found.value):
        return None
    return {
        name: float(value) if np.isfinite(value) else None
        for name, value in found._asdict().items()
    }


def _add_objectives(draft: _Draft, scored: Scored, settings: EvaluationSettings) -> None:
    for objective in scored.objectives:
        figures = objective_figures(
            scored,
            objective,
            ndcg_at=settings.ndcg_at,
            calibration_bins=settings.calibration_bins,
        )
        draft.add(("objectives", objective), figures)
    draft.add(("objectives", "watch"), watch_figures(scored, at_most_s=settings.watch_at_most_s))


def _add_slates(
    draft: _Draft, scored: Scored, settings: EvaluationSettings, weights: ScoreWeights
) -> None:
    """Set the fused score's first places beside those of the log and of chance."""
    expected = scored.expected_watch_s if scored.predicts_watch else None
    orders = slate_orders(fused_score(scored.probabilities, expected, weights))
    draft.put(("slate",), {})
    for name, outcome in _slate_outcomes(scored, settings.watch_at_most_s).items():
        for size in settings.slate_sizes:
            _add_slate(draft, ("slate", f"{name}_at_{size}"), scored, outcome, orders, size)


def _add_slate(
    draft: _Draft,
    path: Path,
    scored: Scored,
    outcome: Floats,
    orders: Mapping[str, Floats],
    size: int,
) -> None:
    viewer_ix, num_viewers = scored.viewer_ix()
    found: dict[str, Statistic] = {}
    for name, order in orders.items():
        found[name], slates = slate_statistic(
            outcome, order, scored.group, viewer_ix, num_viewers, at=size
        )
    draft.put((*path, "slates"), slates)
    if not slates:
        reason = f"no group has more than {size} rows whose outcome is known"
        draft.put((*path, "reasons"), dict.fromkeys(orders, reason))
        return
    for name, statistic in found.items():
        draft.measure((*path, name), statistic)
    for other in ("logged", "random"):
        draft.measure((*path, f"score_minus_{other}"), _minus(found["score"], found[other]))


def _slate_outcomes(scored: Scored, at_most_s: float) -> dict[str, Floats]:
    """What is counted in the first places: (N,) each, NaN where unknown."""
    outcomes = {"watch_s": np.minimum(scored.watch_s, at_most_s)}
    for name in ("glance", "effective", "negative"):
        if name in scored.labels:
            label = scored.labels[name].astype(np.float64)
            outcomes[name] = np.where(label < 0, np.nan, label)
    return outcomes


def _add_calibration(draft: _Draft, scored: Scored, settings: EvaluationSettings) -> None:
    for objective in scored.objectives:
        rows = known_rows(scored, objective)
        if rows.missing:
            continue
        table = calibration_table(
            rows.labels,
            rows.probabilities,
            rows.viewer_ix,
            rows.num_viewers,
            num_bins=settings.calibration_bins,
        )
        for number, found in enumerate(table):
            path = ("calibration", objective, str(number))
            draft.put(
                path,
                {
                    "rows": found.num_rows,
                    "from": found.lowest,
                    "to": found.highest,
                    "predicted": found.predicted,
                },
            )
            draft.measure((*path, "observed"), found.observed)


def _add_slices(draft: _Draft, scored: Scored, settings: EvaluationSettings) -> None:
    for division, part_of_row in scored.slices.items():
        for part in np.unique(part_of_row):
            among = part_of_row == part
            path = (division, str(part))
            draft.put((*path, "rows"), int(among.sum()))
            for objective in scored.objectives:
                figures = _slice_figures(scored, objective, among, settings.slice_min_rows)
                draft.add((*path, objective), figures)


def _slice_figures(
    scored: Scored, objective: str, among: np.ndarray[Any, np.dtype[np.bool_]], min_rows: int
) -> Figures:
    rows = known_rows(scored, objective, among)
    facts = {"rows": len(rows.labels), "positives": int(rows.labels.sum())}
    missing = rows.missing
    if len(rows.labels) < min_rows:
        missing = f"fewer than {min_rows} rows whose label is known"
    if missing:
        return Figures(facts=facts, reasons=dict.fromkeys(("auc", "log_loss"), missing))
    statistics = {
        "auc": auc_statistic(rows.labels, rows.probabilities, rows.viewer_ix),
        "log_loss": log_loss_statistic(
            rows.labels, rows.probabilities, rows.viewer_ix, rows.num_viewers
        ),
    }
    return Figures(statistics=statistics, facts=facts)


def _counts(scored: Scored, num_viewers: int, objectives: Mapping[str, Any]) -> dict[str, Any]:
    """Count rows and groups; which groups can be used depends on the objective."""
    number = len(np.unique(scored.group[scored.group >= 0]))
    used, one_class, tied = (
        {name: objectives[name][fact] for name in scored.objectives}
        for fact in ("groups_used", "groups_one_class", "rows_tied")
    )
    return {
        "rows": scored.num_rows,
        "viewers": num_viewers,
        "groups": {
            "number": number,
            "ungrouped_rows": int((scored.group < 0).sum()),
            "used": used,
            "one_class": one_class,
            "empty": {name: number - used[name] - one_class[name] for name in used},
            "tied_rows": tied,
        },
    }


def _minus(first: Statistic, second: Statistic) -> Statistic:
    return lambda weights: first(weights) - second(weights)
