"""Are the videos that viewers watched effectively among the few that retrieval finds?

    TrainedRun, Dataset, rows, view  ->  evaluate_retrieval  ->  recall@k, part of the card
        a plan of effective views    ->  wanted_views        ->  Views
        Views, finders               ->  retrieval_card      ->  recall@k of each, ours ahead by

- Every video of the catalogue is a candidate, less those the viewer was shown before the request: a
  feed does not show them again. Views of such videos are counted, not measured.
- A finder may know what the mode lets it know: the viewer's visible past, and popularity as of the
  start of the day.
- Tied videos share their places evenly.

Reads `bootstrap`, `finders`; is read by `evaluate`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipwise.evaluation.bootstrap import (
    Floats,
    Integers,
    Statistic,
    bootstrap,
    mean_over_rows,
)
from skipwise.evaluation.finders import (
    Finder,
    Wanted,
    co_occurrence_finder,
    model_finder,
    popularity_finder,
)
from skipwise.evaluation.scorecard import EvaluationSettings, figure_json
from skipwise.features.dataset import Dataset
from skipwise.features.popularity import popularity_by_day
from skipwise.features.stretches import Plan, plan_stretches
from skipwise.features.view import View
from skipwise.model.predict import viewer_vectors
from skipwise.model.video_vectors import embed_all, retrieval_vectors
from skipwise.progress import SILENT, Progress
from skipwise.training.checkpoint import TrainedRun

OURS = "ours"
_SCORES_AT_ONCE = 8_000_000


def evaluate_retrieval(
    run: TrainedRun,
    dataset: Dataset,
    rows: Integers,
    view: View,
    *,
    last_training_day: int,
    settings: EvaluationSettings,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Measure a run's retrieval head beside popularity and co-occurrence.

    Args:
        run: From `load_run`.
        dataset: Where the rows lie.
        rows: (N,) event rows measured, after the training window.
        view: What each may see.
        last_training_day: Last day whose views co-occurrence counts; in window mode popularity too.
        settings: Sizes and intervals.
        progress: Who is told.

    Returns:
        From `retrieval_card`; without finders and with a reason where nothing can be measured.
    """
    if run.settings.loss.retrieval == 0:
        return {"reason": "the retrieval head was not taught (loss.retrieval = 0)"}
    if "effective" not in dataset.objectives:
        return {"reason": "the log does not say which views were effective"}
    effective = rows[dataset.events["label_effective"].take(rows) == 1]
    step = max(1, -(-len(effective) // settings.retrieval_views_at_most))
    selected = np.zeros(dataset.num_events, dtype=np.bool_)
    selected[effective[::step]] = True
    plan = plan_stretches(dataset, selected, view, reach=run.settings.model.encoder.reach)
    views = wanted_views(dataset, plan)
    day = dataset.events["day"].all()
    finders: dict[str, Finder] = {}
    if len(views.wanted):
        first, last = int(day[rows].min()), int(day[rows].max())
        known_until = last_training_day if view.mode == "window" else None
        popularity = popularity_by_day(dataset, first, last, known_until=known_until)
        catalogue = run.catalogue(dataset)
        of_plan = viewer_vectors(run.model, catalogue, dataset, plan, progress=progress)
        video_vectors = retrieval_vectors(run.model, embed_all(run.model, catalogue))
        finders = {
            OURS: model_finder(run.model, of_plan[views.place], video_vectors, popularity, first),
            "popularity": popularity_finder(popularity, first),
            "co_occurrence": co_occurrence_finder(
                dataset, np.flatnonzero(day <= last_training_day)
            ),
        }
    return retrieval_card(
        dataset, views, finders, at=settings.retrieval_at, settings=settings, progress=progress
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Views:
    """Held-out effective views: those to be found, and how many were seen before."""

    wanted: Wanted
    place: Integers
    """(N,) where each stands among the plan's candidates."""
    seen_before: int


def wanted_views(dataset: Dataset, plan: Plan) -> Views:
    """Pick the views of a plan whose video the viewer had not been shown before.

    Args:
        dataset: Where the rows lie.
        plan: One entry per effective view, with the past its mode lets it see.
    """
    stretch = np.repeat(np.arange(len(plan)), plan.num_candidates)
    events, row = dataset.events, plan.candidate_rows
    wanted = Wanted(
        row=row,
        viewer=plan.viewer[stretch],
        video=events["video"].take(row).astype(np.int64),
        day=events["day"].take(row).astype(np.int64),
        first_row=plan.first_row[stretch],
        visible=plan.candidate_prefix + plan.start[stretch],
    )
    new = np.array(
        [
            video not in wanted.seen(events["video"], place)
            for place, video in enumerate(wanted.video)
        ],
        dtype=np.bool_,
    )
    place = np.flatnonzero(new)
    return Views(wanted=wanted.take(place), place=place, seen_before=int((~new).sum()))


def retrieval_card(
    dataset: Dataset,
    views: Views,
    finders: Mapping[str, Finder],
    *,
    at: Sequence[int],
    settings: EvaluationSettings,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Measure recall@k: the share of wanted views whose video is among the k best of a finder.

    Args:
        dataset: For what viewers were shown.
        views: From `wanted_views`.
        finders: By name; `ours` is set against the others.
        at: Numbers of videos found.
        settings: Draws and confidence of the intervals, over viewers.
        progress: Who is told.

    Returns:
        `{"videos", "views", "viewers", "seen_before", "at": {k: {finder: figure, "ahead": {finder:
        figure of the difference}}}}`; plain values.
    """
    wanted = views.wanted
    card: dict[str, Any] = {
        "videos": dataset.videos.num_rows,
        "views": len(wanted),
        "viewers": len(np.unique(wanted.viewer)),
        "seen_before": views.seen_before,
        "at": {},
    }
    if not len(wanted):
        return card | {"reason": "no effective view of a video not shown before"}
    hits = {
        name: _hits(dataset, wanted, finder, at, name, progress) for name, finder in finders.items()
    }
    viewer_ix, viewers = _viewer_ix(wanted.viewer)
    statistics: dict[tuple[str, str, int], Statistic] = {}
    for place, number in enumerate(at):
        for name in finders:
            mine = hits[name][:, place]
            statistics[name, "", number] = mean_over_rows(mine, viewer_ix, viewers)
            if name != OURS and OURS in finders:
                ahead = hits[OURS][:, place] - mine
                statistics[OURS, name, number] = mean_over_rows(ahead, viewer_ix, viewers)
    figures = bootstrap(
        statistics,
        viewers,
        samples=settings.bootstrap_samples,
        seed=settings.seed,
        confidence=settings.confidence,
        progress=progress,
    )
    for (name, other, number), figure in figures.items():
        level = card["at"].setdefault(str(number), {"ahead": {}})
        (level["ahead"] if other else level)[other or name] = figure_json(figure)
    return card


def _hits(
    dataset: Dataset,
    wanted: Wanted,
    finder: Finder,
    at: Sequence[int],
    name: str,
    progress: Progress,
) -> Floats:
    """Return (N, len(at)): the chance that each wanted view is among the k best."""
    hits = np.zeros((len(wanted), len(at)))
    step = max(1, _SCORES_AT_ONCE // dataset.videos.num_rows)
    with progress.task(f"retrieval: {name}", total=len(wanted), unit="views") as task:
        for first in range(0, len(wanted), step):
            places = np.arange(first, min(first + step, len(wanted)))
            scores = finder(wanted, places)
            for place, each in zip(places, scores, strict=True):
                each[wanted.seen(dataset.events["video"], place)] = -np.inf
                hits[place] = _chance(each, int(wanted.video[place]), at)
            task.advance(len(places))
    return hits


def _chance(scores: NDArray[Any], video: int, at: Sequence[int]) -> Floats:
    """Say how likely a video is among the k best when ties are broken at random."""
    above = int((scores > scores[video]).sum())
    tied = int((scores == scores[video]).sum())
    return np.clip((np.array(at, dtype=np.float64) - above) / tied, 0.0, 1.0)


def _viewer_ix(viewer: Integers) -> tuple[Integers, int]:
    different, place = np.unique(viewer, return_inverse=True)
    return place.astype(np.int64), len(different)
