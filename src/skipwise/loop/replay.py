"""How would score weights have ordered what a log showed at random?

    RUN, EventLog, a day  ->  replay  ->  Replayed: predictions of C candidates per random exposure
    Replayed, ScoreWeights  ->  judge_weights  ->  {outcome: Estimates}

- State is what was known before the day, prepared from the log anew, and the real serving pipeline
  scores: nothing of the judged days is known to it.
- Beside what was shown stand C - 1 other videos, drawn uniformly as it was. Among them what was
  shown is any one alike, with probability 1 / C: so any order of C random videos can be judged.

Reads `arms`' engines and `evaluation.offpolicy`; is read by the command line.
"""

import dataclasses
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
from ibis.backends.duckdb import Backend

from skipwise.errors import DatasetError
from skipwise.evaluation.bootstrap import Floats, Integers
from skipwise.evaluation.offpolicy import Estimates, Logged, estimate, first_place
from skipwise.events.read import EventLog
from skipwise.features.dataset import iso_day
from skipwise.features.prepare import PrepareSettings, prepare
from skipwise.labels.watch import LabelConfig, glance
from skipwise.model.score import ScoreWeights, fused_score
from skipwise.progress import SILENT, Progress
from skipwise.serving.engine import Engine
from skipwise.serving.opening import open_engine, prepare_state
from skipwise.serving.serve_settings import ServeSettings
from skipwise.serving.state.store import open_store
from skipwise.serving.wire import RankRequest
from skipwise.settings import apply_settings
from skipwise.training.checkpoint import load_run

WATCH_AT_MOST_S = 300.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Replayed:
    """N exposures drawn at random, C candidates each; what was shown is candidate 0."""

    viewer: Integers
    outcomes: Mapping[str, Floats]
    """`glance` (0 or 1, as the run's labels say) and `watch_s` (at most 300), (N,) each."""
    chances: Mapping[str, Floats]
    """Objective -> (N, C) predicted."""
    watch_s: Floats
    """(N, C) expected."""


def replay(
    run: Path,
    log: EventLog,
    connection: Backend,
    from_day: int,
    *,
    candidates: int = 10,
    uniform: bool = False,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Replayed:
    """Score what was shown at random from a day on, and others that might have been.

    Args:
        run: The RUN; learnt from days before `from_day` alone.
        log: The whole log.
        connection: Its engine.
        from_day: First day that is judged.
        candidates: C, at least 2.
        uniform: Every row was as likely, where the log does not say its propensities.
        seed: Of the candidates.
        progress: Who is told.

    Raises:
        DatasetError: No random exposure, no or unequal propensities, or the run has seen the days.
    """
    description = load_run(run).description
    if description["window"]["last_day"] >= iso_day(from_day):
        raise DatasetError(
            f"the run has learnt from days up to {description['window']['last_day']}, must have "
            f"learnt from days before {iso_day(from_day)} alone. Choose a later --from, or train "
            "with an earlier --until."
        )
    rows = _random_rows(log.events.filter(log.events.day >= from_day))
    _check_uniform(rows, uniform=uniform)
    videos = sorted(set(rows["video_id"].to_pylist()))
    if len(videos) < candidates:
        raise DatasetError(
            f"{len(videos)} videos were shown at random, fewer than {candidates} candidates; there "
            "must be as many. Lower --candidates."
        )
    with tempfile.TemporaryDirectory(prefix="skipwise-replay-") as folder:
        settings = apply_settings(PrepareSettings(), description["dataset"]["settings"])
        before = dataclasses.replace(log, events=log.events.filter(log.events.day < from_day))
        prepare(before, connection, Path(folder) / "dataset", settings, progress)
        store = open_store(f"sqlite:{Path(folder) / 'state.db'}")
        serving = ServeSettings()
        prepare_state(run, Path(folder) / "dataset", store, serving.state)
        asked_at = int(np.asarray(rows["shown_at_ms"]).min())
        engine = open_engine(run, Path(folder) / "dataset", store, serving, lambda: asked_at)
        predicted = _score(engine, rows, videos, candidates, seed, progress)
        store.close()
    _, viewer = np.unique(rows["viewer_id"].to_pylist(), return_inverse=True)
    return Replayed(
        viewer=viewer,
        outcomes=_outcomes(rows, settings.labels),
        chances={name: table for name, table in predicted.items() if name != "watch_s"},
        watch_s=predicted["watch_s"],
    )


def judge_weights(
    replayed: Replayed, weights: ScoreWeights, *, least_effective_rows: float = 100.0
) -> dict[str, Estimates]:
    """Estimate what showing the best of C random videos by these weights brings, per outcome.

    Raises:
        DatasetError: Overlap is too thin.
        SettingError: Nothing that is predicted has a say.
    """
    number, candidates = replayed.watch_s.shape
    flat = {name: chance.ravel() for name, chance in replayed.chances.items()}
    score = fused_score(flat, replayed.watch_s.ravel(), weights).reshape(number, candidates)
    target = first_place(score)
    predicted = {"watch_s": replayed.watch_s, **replayed.chances}
    return {
        name: estimate(
            Logged(
                viewer=replayed.viewer,
                outcome=outcome,
                propensity=np.full(number, 1.0 / candidates),
                target=target[:, 0],
                predicted=predicted[name][:, 0],
                predicted_target=(target * predicted[name]).sum(axis=1),
            ),
            least_effective_rows=least_effective_rows,
        )
        for name, outcome in replayed.outcomes.items()
        if name in predicted
    }


def _random_rows(events: ir.Table) -> pa.Table:
    random = events.filter(
        (events.policy == "random")
        & events.shown_at_ms.notnull()
        & events.watch_ms.notnull()
        & events.duration_ms.notnull()
    ).order_by("source_order")
    columns = ("viewer_id", "video_id", "shown_at_ms", "watch_ms", "duration_ms", "surface")
    return random.select(*columns, "propensity").to_pyarrow()


def _check_uniform(rows: pa.Table, *, uniform: bool) -> None:
    if not rows.num_rows:
        raise DatasetError(
            "No row of the log was drawn at random on these days; such rows are needed to say what "
            "another order would have brought. Give a log with policy = random, as KuaiRand's "
            "log_random."
        )
    given = np.asarray(rows["propensity"].to_numpy(zero_copy_only=False), dtype=np.float64)
    if np.isnan(given).any() and not uniform:
        raise DatasetError(
            f"{int(np.isnan(given).sum()):,} of {rows.num_rows:,} rows drawn at random have no "
            "propensity; each needs the probability with which it was drawn. Write the column, or, "
            "where all were as likely, say so with --uniform."
        )
    known = given[~np.isnan(given)]
    if known.size and known.max() > 1.01 * known.min():
        raise DatasetError(
            f"propensities lie between {known.min():.3g} and {known.max():.3g}; here they must be "
            "equal, as candidates are drawn uniformly too. Keep the rows of one uniform lottery."
        )


def _score(
    engine: Engine,
    rows: pa.Table,
    videos: list[str],
    candidates: int,
    seed: int,
    progress: Progress,
) -> dict[str, Floats]:
    rng = np.random.default_rng(seed)
    held = rows.to_pylist()
    predicted: list[list[dict[str, float]]] = []
    with progress.task("score random exposures", total=len(held), unit="rows") as task:
        for number, row in enumerate(held):
            others = [videos[place] for place in rng.choice(len(videos), candidates, replace=False)]
            others = [video for video in others if video != row["video_id"]][: candidates - 1]
            request = RankRequest(
                viewer_id=row["viewer_id"],
                candidates=(row["video_id"], *others),
                surface=row["surface"],
                requested_at_ms=row["shown_at_ms"],
                explain=True,
            )
            slate = engine.rank(request, f"q{number}")
            by_video = {item.video_id: item.predictions or {} for item in slate.items}
            predicted.append([by_video[video] for video in request.candidates])
            task.advance()
    names = sorted(predicted[0][0])
    return {name: np.array([[of[name] for of in row] for row in predicted]) for name in names}


def _outcomes(rows: pa.Table, labels: LabelConfig) -> dict[str, Floats]:
    watch_s = np.asarray(rows["watch_ms"]) / 1000.0
    duration_s = np.asarray(rows["duration_ms"]) / 1000.0
    left = glance(watch_s, duration_s, labels)
    return {
        "glance": left.astype(np.float64),
        "watch_s": np.minimum(watch_s, WATCH_AT_MOST_S),
    }
