"""How would score weights have ordered what a log showed at random?

    RUN, EventLog, a day  ->  replay  ->  Replayed: predictions of M candidates per random exposure
    Replayed, ScoreWeights  ->  judge_weights  ->  {outcome: Estimates}

- State is what was known before the day, prepared from the log anew, and the real serving pipeline
  scores: nothing of the judged days is known to it.
- Judged is showing the best, by the weights, of C videos drawn at random from the candidates:
  C of all makes it the feed's own first place, fewer keep it nearer to what the log knows.
- One lottery over all: beside what was shown stand C - 1 other videos, drawn uniformly as it was.
  Among them what was shown is any one alike, with propensity 1 / C.
- A lottery at each request: candidates are those that the feed retrieves for the viewer, less
  what was shown to them since; they know nothing of what was drawn. The best of any C of them is
  counted out, and each row's own propensity divides.

Reads `arms`' engines, `lotteries` and `evaluation.offpolicy`; is read by the command line.
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
from numpy.typing import NDArray

from skipwise.errors import DatasetError
from skipwise.evaluation.bootstrap import Floats, Integers
from skipwise.evaluation.offpolicy import Estimates, Logged, Pool, estimate, first_place
from skipwise.events.read import EventLog
from skipwise.features.dataset import iso_day
from skipwise.features.prepare import PrepareSettings, prepare
from skipwise.labels.watch import LabelConfig, glance
from skipwise.loop.lotteries import lotteries_of
from skipwise.model.score import ScoreWeights, fused_score
from skipwise.progress import SILENT, Progress
from skipwise.serving.engine import Engine
from skipwise.serving.opening import open_engine, prepare_state
from skipwise.serving.pipeline import SlateSettings
from skipwise.serving.serve_settings import ServeSettings
from skipwise.serving.state.store import open_store
from skipwise.serving.wire import FeedRequest, RankRequest, Slate
from skipwise.settings import apply_settings
from skipwise.training.checkpoint import load_run

WATCH_AT_MOST_S = 300.0
Mask = NDArray[np.bool_]
Predictions = dict[str, dict[str, float] | None]
"""Video -> chance per objective and `watch_s`; None: no candidate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Replayed:
    """N exposures drawn at random, M candidates each at most; what was shown is candidate 0."""

    row: Integers
    """(N,) places among all exposures drawn at random; those without candidates are left out."""
    num_drawn: int
    """All of them."""
    viewer: Integers
    outcomes: Mapping[str, Floats]
    """`glance` (0 or 1, as the run's labels say) and `watch_s` (at most 300), (N,) each."""
    video_id: NDArray[np.object_]
    """(N, M) ids; None beyond a row's candidates."""
    candidate: Mask
    """(N, M) whether the target may show it: in column 0 not always, beyond a row's last never."""
    propensity: Floats
    """(N,) with which what was shown was drawn from the target's candidates, in (0, 1]."""
    best_of: int
    """C: how many of a row's candidates are drawn, of which the target shows the best."""
    chances: Mapping[str, Floats]
    """Objective -> (N, M) predicted; 0 where not a candidate."""
    watch_s: Floats
    """(N, M) expected; 0 where not a candidate."""


def replay(
    run: Path,
    log: EventLog,
    connection: Backend,
    from_day: int,
    *,
    candidates: int = 10,
    uniform: Pool | None = None,
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
        uniform: Every video of this pool was as likely at all times, where the log does not say.
        seed: Of the candidates.
        progress: Who is told.

    Raises:
        DatasetError: No random exposure, no propensities, too few candidates, or the run has seen
            the days.
    """
    description = load_run(run).description
    if description["window"]["last_day"] >= iso_day(from_day):
        raise DatasetError(
            f"the run has learnt from days up to {description['window']['last_day']}, must have "
            f"learnt from days before {iso_day(from_day)} alone. Choose a later --from, or train "
            "with an earlier --until."
        )
    judged = log.events.filter(log.events.day >= from_day)
    rows = _random_rows(judged)
    catalogue = log.videos.select("video_id").to_pyarrow()["video_id"].to_pylist()
    lotteries = lotteries_of(rows, catalogue, uniform)
    if lotteries.candidates < candidates:
        raise DatasetError(
            f"lotteries drew from {lotteries.candidates} videos, fewer than {candidates} "
            "candidates; there must be as many. Lower --candidates."
        )
    with tempfile.TemporaryDirectory(prefix="skipwise-replay-") as folder:
        settings = apply_settings(PrepareSettings(), description["dataset"]["settings"])
        before = dataclasses.replace(log, events=log.events.filter(log.events.day < from_day))
        prepare(before, connection, Path(folder) / "dataset", settings, progress)
        store = open_store(f"sqlite:{Path(folder) / 'state.db'}")
        feed = SlateSettings(candidates=lotteries.candidates if lotteries.pool is None else 1)
        serving = ServeSettings(slate=dataclasses.replace(feed, explore_share=0.0))
        prepare_state(run, Path(folder) / "dataset", store, serving.state)
        asked_at = int(np.asarray(rows["shown_at_ms"]).min())
        engine = open_engine(run, Path(folder) / "dataset", store, serving, lambda: asked_at)
        if lotteries.pool is not None:
            offered = _drawn(engine, rows, lotteries.pool, candidates, seed, progress)
            propensity = np.full(rows.num_rows, 1.0 / candidates)
        else:
            offered = _retrieved(engine, rows, judged, lotteries.candidates, progress)
            propensity = lotteries.propensity
        store.close()
    _, viewer = np.unique(rows["viewer_id"].to_pylist(), return_inverse=True)
    return _laid_out(
        offered, viewer, _outcomes(rows, settings.labels), propensity, best_of=candidates
    )


def judge_weights(
    replayed: Replayed, weights: ScoreWeights, *, least_effective_rows: float = 100.0
) -> dict[str, Estimates]:
    """Estimate what showing the best of C candidates by these weights brings, per outcome.

    Raises:
        DatasetError: Overlap is too thin, or propensities are not what the log did.
        SettingError: Nothing that is predicted has a say.
    """
    flat = {name: chance.ravel() for name, chance in replayed.chances.items()}
    score = fused_score(flat, replayed.watch_s.ravel(), weights).reshape(replayed.watch_s.shape)
    target = first_place(np.where(replayed.candidate, score, -np.inf), replayed.best_of)
    predicted = {"watch_s": replayed.watch_s, **replayed.chances}
    return {
        name: estimate(
            Logged(
                viewer=replayed.viewer,
                outcome=outcome,
                propensity=replayed.propensity,
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
    return random.select(*columns, "position", "propensity").to_pyarrow()


def _drawn(
    engine: Engine,
    rows: pa.Table,
    pool: tuple[str, ...],
    candidates: int,
    seed: int,
    progress: Progress,
) -> list[Predictions]:
    """Predict what was shown and others of the pool, `candidates` together, per row."""
    rng = np.random.default_rng(seed)
    offered = []
    with progress.task("score random exposures", total=rows.num_rows, unit="rows") as task:
        for number, row in enumerate(rows.to_pylist()):
            others = [pool[place] for place in rng.choice(len(pool), candidates, replace=False)]
            others = [video for video in others if video != row["video_id"]][: candidates - 1]
            request = RankRequest(
                viewer_id=row["viewer_id"],
                candidates=(row["video_id"], *others),
                surface=row["surface"],
                requested_at_ms=row["shown_at_ms"],
                explain=True,
            )
            found = _predictions(engine.rank(request, f"q{number}"))
            offered.append({video: found[video] for video in request.candidates})
            task.advance()
    return offered


def _retrieved(
    engine: Engine, rows: pa.Table, judged: ir.Table, candidates: int, progress: Progress
) -> list[Predictions]:
    """Predict what a feed has for each row, what was shown first; it is None if it is not there."""
    first_shown = (
        judged.filter(judged.shown_at_ms.notnull())
        .group_by("viewer_id", "video_id")
        .aggregate(at=judged.shown_at_ms.min())
        .to_pyarrow()
    )
    named = zip(
        first_shown["viewer_id"].to_pylist(), first_shown["video_id"].to_pylist(), strict=True
    )
    shown_at = dict(zip(named, first_shown["at"].to_pylist(), strict=True))
    offered = []
    with progress.task("ask for feeds", total=rows.num_rows, unit="rows") as task:
        for number, row in enumerate(rows.to_pylist()):
            viewer, now_ms = row["viewer_id"], row["shown_at_ms"]
            request = FeedRequest(
                viewer_id=viewer,
                k=candidates,
                surface=row["surface"],
                requested_at_ms=now_ms,
                explain=True,
            )
            found = _predictions(engine.feed(request, f"q{number}"))
            unseen = {
                video: chances
                for video, chances in found.items()
                if shown_at.get((viewer, video), now_ms) >= now_ms
            }
            shown = {row["video_id"]: unseen.pop(row["video_id"], None)}
            offered.append(shown | unseen)
            task.advance()
    return offered


def _predictions(slate: Slate) -> Predictions:
    return {item.video_id: item.predictions for item in slate.items}


def _laid_out(
    offered: list[Predictions],
    viewer: Integers,
    outcomes: Mapping[str, Floats],
    propensity: Floats,
    *,
    best_of: int,
) -> Replayed:
    """Lay candidates out as arrays, without rows for which the target has none."""
    some = np.array([any(each.values()) for each in offered])
    if not some.any():
        raise DatasetError(
            "the feed has no candidate for any row drawn at random; it must have some. Give the "
            "log that this run's videos are of."
        )
    offered = [each for each, any_there in zip(offered, some, strict=True) if any_there]
    shape = len(offered), max(len(each) for each in offered)
    names = sorted(next(found for found in offered[0].values() if found))
    tables = {name: np.zeros(shape) for name in names}
    video_id, candidate = np.full(shape, None, dtype=object), np.zeros(shape, dtype=bool)
    for row, each in enumerate(offered):
        video_id[row, : len(each)] = list(each)
        there = np.array([found is not None for found in each.values()])
        candidate[row, : len(each)] = there
        for name, table in tables.items():
            table[row, : len(each)][there] = [found[name] for found in each.values() if found]
    return Replayed(
        row=np.flatnonzero(some),
        num_drawn=len(some),
        viewer=viewer[some],
        outcomes={name: outcome[some] for name, outcome in outcomes.items()},
        video_id=video_id,
        candidate=candidate,
        propensity=propensity[some],
        best_of=best_of,
        chances={name: table for name, table in tables.items() if name != "watch_s"},
        watch_s=tables["watch_s"],
    )


def _outcomes(rows: pa.Table, labels: LabelConfig) -> dict[str, Floats]:
    watch_s = np.asarray(rows["watch_ms"]) / 1000.0
    duration_s = np.asarray(rows["duration_ms"]) / 1000.0
    left = glance(watch_s, duration_s, labels)
    return {
        "glance": left.astype(np.float64),
        "watch_s": np.minimum(watch_s, WATCH_AT_MOST_S),
    }
