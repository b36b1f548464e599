"""How good is a trained run on days it has not seen?

    TrainedRun, Dataset, days, mode  ->  evaluate   ->  the evaluation card (plain values, JSON)
                                     ->  score_run  ->  Measured: the scored rows it is made of

- The mode decides which outcomes any state may hold when a row is scored (docs/model.md); baselines
  read the same counters as the model does.
- Rows are ranked only against rows scored with the same state: viewer-days in window and daily
  mode, requests in progressive mode.

Reads the layers below; is read by the command line.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ibis.backends.duckdb import Backend as Connection
from numpy.typing import NDArray

from skipwise.errors import DatasetError
from skipwise.evaluation.comparison import compare
from skipwise.evaluation.figures import OBJECTIVE_METRICS
from skipwise.evaluation.retrieval import evaluate_retrieval
from skipwise.evaluation.scorecard import EvaluationSettings, Scored, scorecard
from skipwise.evaluation.yardsticks import Yardstick, available_baselines, score_baselines
from skipwise.features.dataset import Dataset, day_number, iso_day
from skipwise.features.stretches import Plan, plan_stretches
from skipwise.features.view import View
from skipwise.features.visibility import Mode
from skipwise.features.vocabulary import UNSEEN
from skipwise.features.window_state import freeze_state
from skipwise.model.objectives import OBJECTIVES
from skipwise.model.predict import Ask, RowPredictions, predict_rows
from skipwise.model.score import ScoreWeights
from skipwise.progress import SILENT, Progress
from skipwise.training.checkpoint import TrainedRun


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationWindow:
    """Which rows are scored and what may be known of them."""

    from_day: int
    to_day: int
    mode: Mode
    last_training_day: int
    delay_s: float = 0.0
    """Progressive mode: how much later than they are known outcomes arrive."""

    @property
    def view(self) -> View:
        """What the rows may see."""
        return View(
            mode=self.mode,
            extra_delay_ms=int(1000 * self.delay_s),
            window_last_day=self.last_training_day if self.mode == "window" else None,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Rows of some days, scored by a run with the state its mode allows."""

    scored: Scored
    predicted: RowPredictions
    """Beside the probabilities, what else was asked of the model."""
    yardstick: Yardstick
    """The same rows and state, for baselines."""
    view: View
    """What each row could see."""


def evaluate(
    run: TrainedRun,
    dataset: Dataset,
    connection: Connection,
    *,
    days: tuple[int, int],
    mode: Mode = "daily",
    settings: EvaluationSettings | None = None,
    weights: ScoreWeights | None = None,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Measure a run on some days.

    Args:
        run: From `load_run`.
        dataset: The days to score, and the past that may be known.
        connection: The engine, for window mode's frozen state.
        days: First and last day scored, inclusive, days since 1970-01-01.
        mode: Which outcomes the state may hold.
        settings: Intervals, sizes and baselines.
        weights: Of the fused score.
        progress: Who is told.

    Returns:
        What `scorecard` returns, with `baselines` (from `compare`), `retrieval` (from
        `retrieval_card`), `mode`, `days` and versions. Objectives that the run did not learn are
        there with null figures and the reason, so every card has the same keys.

    Raises:
        DatasetError: No row on those days, or days before the end of the training window.
        RunError: The dataset does not fit the run.
    """
    measured = score_run(run, dataset, connection, days=days, mode=mode, progress=progress)
    scored, yardstick = measured.scored, measured.yardstick
    card = scorecard(scored, settings=settings, weights=weights, progress=progress)
    chosen = (settings or EvaluationSettings()).baselines
    names = available_baselines() if chosen is None else chosen
    others = score_baselines(yardstick, names, scored, progress)
    masked = run.description["masked_objectives"]
    retrieval = evaluate_retrieval(
        run,
        yardstick.state,
        yardstick.rows,
        measured.view,
        last_training_day=day_number(run.description["window"]["last_day"]),
        settings=settings or EvaluationSettings(),
        progress=progress,
    )
    return {
        **card,
        "objectives": _all_objectives(card["objectives"], masked, yardstick),
        "baselines": compare(scored, others, settings=settings, progress=progress),
        "retrieval": retrieval,
        "mode": mode,
        "days": {"from": iso_day(days[0]), "to": iso_day(days[1])},
        "run": {
            "path": str(run.path),
            "window": run.description["window"],
            "versions": run.description["versions"],
            "checksums": run.description["checksums"],
        },
        "dataset_fingerprint": dataset.fingerprint,
        "label_rules": dict(dataset.description["settings"]["labels"]),
        "masked_objectives": masked,
    }


def _all_objectives(
    measured: Mapping[str, Any], masked: Mapping[str, str], yardstick: Yardstick
) -> dict[str, Any]:
    """Put what was not learnt beside what was measured, in the usual order."""
    unlearnt = {}
    for name, reason in masked.items():
        label = yardstick.dataset.events[f"label_{name}"].take(yardstick.rows)
        unlearnt[name] = {
            **dict.fromkeys(OBJECTIVE_METRICS),
            "rows": int((label >= 0).sum()),
            "positives": int((label == 1).sum()),
            "reasons": dict.fromkeys(OBJECTIVE_METRICS, f"not learnt: {reason}"),
        }
    found = {**measured, **unlearnt}
    order = [name for name in (*OBJECTIVES, "watch") if name in found]
    return {name: found[name] for name in order}


def score_run(
    run: TrainedRun,
    dataset: Dataset,
    connection: Connection,
    *,
    days: tuple[int, int],
    mode: Mode = "daily",
    delay_s: float = 0.0,
    also: Mapping[str, Ask] | None = None,
    progress: Progress = SILENT,
) -> Measured:
    """Score the rows of some days, each with the state its mode allows.

    Args:
        run: From `load_run`.
        dataset: The days to score, and the past that may be known.
        connection: The engine, for window mode's frozen state.
        days: First and last day scored, inclusive, days since 1970-01-01.
        mode: Which outcomes the state may hold.
        delay_s: Progressive mode: how much later outcomes arrive than they are known.
        also: What else to ask of the predictions.
        progress: Who is told.

    Raises:
        DatasetError: No row on those days, or days before the end of the training window.
        RunError: The dataset does not fit the run.
    """
    window = EvaluationWindow(
        from_day=days[0],
        to_day=days[1],
        mode=mode,
        last_training_day=day_number(run.description["window"]["last_day"]),
        delay_s=delay_s,
    )
    rows = _rows(dataset, window)
    catalogue = run.catalogue(dataset)
    state = _state(dataset, rows, window, connection)
    selected = np.zeros(dataset.num_events, dtype=bool)
    selected[rows] = True
    plan = plan_stretches(state, selected, window.view, reach=run.settings.model.encoder.reach)
    predicted = predict_rows(run.model, catalogue, state, plan, also=also, progress=progress)
    scored = _scored(dataset, predicted, plan, window, catalogue.video)
    yardstick = Yardstick(
        dataset=dataset,
        state=state,
        training_rows=_training_rows(dataset, window),
        rows=rows,
        view=window.view,
        objectives=scored.objectives,
    )
    return Measured(scored=scored, predicted=predicted, yardstick=yardstick, view=window.view)


def _rows(dataset: Dataset, window: EvaluationWindow) -> NDArray[np.int64]:
    first, last = dataset.days
    asked = f"{iso_day(window.from_day)} to {iso_day(window.to_day)}"
    if window.from_day > window.to_day:
        raise DatasetError(f"--from {asked}: the first day is after the last. Swap them.")
    if window.from_day <= window.last_training_day:
        raise DatasetError(
            f"the days {asked} begin inside the training window, which ends on "
            f"{iso_day(window.last_training_day)}; a run is measured on later days only. "
            f"Choose --from {iso_day(window.last_training_day + 1)} or later, or train with an "
            "earlier --until."
        )
    day = dataset.events["day"].all()
    timed = dataset.events["counter_row"].all() >= 0
    rows = np.flatnonzero(timed & (day >= window.from_day) & (day <= window.to_day))
    if window.to_day > last or not len(rows):
        raise DatasetError(
            f"the days {asked} are not all in the data, which runs from {iso_day(first)} to "
            f"{iso_day(last)}. Choose days inside it."
        )
    return rows


def _training_rows(dataset: Dataset, window: EvaluationWindow) -> NDArray[np.int64]:
    day = dataset.events["day"].all()
    timed = dataset.events["counter_row"].all() >= 0
    return np.flatnonzero(timed & (day <= window.last_training_day))


def _state(
    dataset: Dataset, rows: NDArray[np.int64], window: EvaluationWindow, connection: Connection
) -> Dataset:
    if window.mode != "window":
        return dataset
    return freeze_state(dataset, rows, window.last_training_day, connection)


def _scored(
    dataset: Dataset,
    predicted: RowPredictions,
    plan: Plan,
    window: EvaluationWindow,
    video_ix: NDArray[np.int64],
) -> Scored:
    rows = predicted.row
    events = dataset.events
    order = np.argsort(plan.candidate_rows, kind="stable")
    stretch = np.repeat(np.arange(len(plan)), plan.num_candidates)
    visible = (plan.candidate_prefix + plan.start[stretch])[order]
    surfaces = np.array(["unknown", *dataset.description["surfaces"]])
    return Scored(
        viewer=events["viewer"].take(rows).astype(np.int64),
        group=groups(dataset, rows, window.mode),
        visible=visible,
        labels={name: events[f"label_{name}"].take(rows) for name in predicted.logits},
        probabilities=predicted.probabilities(),
        watch_s=events["watch_s"].take(rows).astype(np.float64),
        expected_watch_s=predicted.expected_watch_s,
        duration_s=events["duration_s"].take(rows).astype(np.float64),
        slices={
            "viewer": np.where(visible > 0, "with a past", "new"),
            "video": np.where(video_ix[events["video"].take(rows)] > UNSEEN, "known", "new"),
            "surface": surfaces[events["surface"].take(rows)],
            "duration_bucket": events["duration_bucket"].take(rows).astype(np.int64),
        },
    )


def groups(dataset: Dataset, rows: NDArray[np.int64], mode: Mode) -> NDArray[np.int64]:
    """Number the rows that were scored with one state.

    Args:
        dataset: Where the rows lie.
        rows: (N,) event rows.
        mode: What the state may hold.

    Returns:
        (N,) viewer-days in window and daily mode; requests in progressive mode, -1 where the log
        names none.
    """
    if mode == "progressive":
        return dataset.events["request"].take(rows).astype(np.int64)
    viewer = dataset.events["viewer"].take(rows).astype(np.int64)
    day = dataset.events["day"].take(rows).astype(np.int64)
    _, number = np.unique(viewer * 1_000_000 + day, return_inverse=True)
    return np.asarray(number, dtype=np.int64)
