"""What would simulated viewers do with the first places of a slate, by any score weights?

    WORLD, DATASET, RUN  ->  offer  ->  Offered: requests of the day after, candidates, predictions
    Offered, ScoreWeights  ->  SimulatedSlates.value | judge  ->  skips per view, seconds per slate

- Retrieval, filters and predictions are the real pipeline's, asked once as of the world's end; then
  only the order changes, so a set of weights costs a moment and thousands can be tried.
- Viewers go down the slate: what tires or annoys them there, and whether they leave, is the
  world's. Chance is the same for every set of weights (common random numbers), and what is counted
  are chances, not draws, so that two sets differ by their order and not by luck.
- Only the first slate of a visit is lived; nothing is learnt from it, nobody comes back. Living
  through days with the choice is `simulated_trade`.
- Simulated: it says what these viewers would do, and nothing about people.

Reads `closed`, `serving` and `simulation`; is read by the command line.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skipwise.errors import DatasetError
from skipwise.evaluation.bootstrap import Integers, Interval, Statistic, ratio, sum_by
from skipwise.evaluation.tuning import Found, Trade, judge_pair, search_halves
from skipwise.loop.closed import check_same_world, crowd_of, loop_settings, read_world
from skipwise.model.score import ScoreWeights, fused_score
from skipwise.progress import SILENT, Progress
from skipwise.serving.opening import open_engine, prepare_state
from skipwise.serving.pipeline import SlateSettings, varied
from skipwise.serving.state.store import open_store
from skipwise.serving.wire import FeedRequest, Slate
from skipwise.simulation.living import LivingViewers

Floats = NDArray[np.float64]
COUNTED = ("glance", "watch_s")
"""What a search in the simulator may trade; the others are too rare, or not the world's own."""
VISITS = 3
"""Times that the day after the world's last is drawn; of each a viewer's first visit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Offered:
    """Requests, N, and what the pipeline has for each, C candidates at most."""

    visit: Integers
    """(N,) in which a viewer is there at most once."""
    viewer: Integers
    """(N,) of the world."""
    surface: Integers
    """(N,)"""
    started_ms: Integers
    """(N,) UTC epoch."""
    video: Integers
    """(N, C) of the world; -1 where there are fewer."""
    trust: Floats
    """(N, C) what negatives of others leave of a score, in [0, 1]."""
    probabilities: Mapping[str, Floats]
    """Objective -> (N, C), 0 where there is no video."""
    expected_watch_s: Floats
    """(N, C) seconds, 0 where there is no video."""

    def of(self, rows: NDArray[np.bool_]) -> "Offered":
        """Return some requests, (N,) bool."""
        return Offered(
            visit=self.visit[rows],
            viewer=self.viewer[rows],
            surface=self.surface[rows],
            started_ms=self.started_ms[rows],
            video=self.video[rows],
            trust=self.trust[rows],
            probabilities={name: p[rows] for name, p in self.probabilities.items()},
            expected_watch_s=self.expected_watch_s[rows],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Lived:
    """What came of each slate, (N,)."""

    views: Floats
    glances: Floats
    """Sum of their chances."""
    watch_s: Floats
    """Sum of what is expected."""


def offer(
    world: Path,
    dataset: Path,
    run: Path,
    *,
    visits: int = VISITS,
    seed: int = 0,
    progress: Progress = SILENT,
) -> tuple[Offered, LivingViewers]:
    """Ask the real pipeline once for every visit, as of the end of a world.

    Args:
        world: Folder of `skipwise simulate ... living=true`.
        dataset: DATASET prepared from it.
        run: Whose model retrieves and predicts.
        visits: Times that the day after the world's last is drawn.
        seed: Of who comes, when, on which surface.
        progress: Who is told.

    Returns:
        The requests, and the crowd that makes them.

    Raises:
        ExperimentError: The world's viewers do not live, or the dataset is not of that world.
        RunError: The run does not fit the dataset.
    """
    known = read_world(world)
    check_same_world(world, dataset)
    rng = np.random.default_rng([known.seed, 29, seed])
    crowd = crowd_of(known, rng)
    came = [crowd.come(known.days) for _ in range(visits)]
    first = [sessions.number == 0 for sessions in came]
    viewer = np.concatenate([each.viewer[own] for each, own in zip(came, first, strict=True)])
    started_ms = np.concatenate(
        [each.starts_ms[own] for each, own in zip(came, first, strict=True)]
    )
    shares, names = known.habits.surface_shares, known.habits.surfaces
    surface = rng.choice(len(shares), size=viewer.size, p=shares)
    settings, slates = loop_settings(seed), []
    with tempfile.TemporaryDirectory(prefix="skipwise-offer-") as folder:
        store = open_store(f"sqlite:{Path(folder) / 'state.db'}")
        prepare_state(run, dataset, store, settings.state)
        now_ms = int(started_ms.min())
        engine = open_engine(run, dataset, store, settings, lambda: now_ms)
        with progress.task("ask the pipeline", total=viewer.size, unit="requests") as task:
            for row, who in enumerate(viewer.tolist()):
                request = FeedRequest(
                    viewer_id=f"u{who}",
                    k=settings.slate.candidates,
                    surface=names[surface[row]],
                    requested_at_ms=int(started_ms[row]),
                    explain=True,
                )
                slates.append(engine.feed(request, f"q{row}"))
                task.advance()
        store.close()
    visit = np.repeat(np.arange(visits), [int(own.sum()) for own in first])
    return _offered(slates, (visit, viewer, surface, started_ms)), crowd


def _offered(slates: Sequence[Slate], asked: tuple[Integers, ...]) -> Offered:
    """Lay slates out as arrays; an item's score over that of the default weights is its trust."""
    number, most = len(slates), max(len(slate.items) for slate in slates)
    predicted = next(item.predictions or {} for slate in slates for item in slate.items)
    tables = {name: np.zeros((number, most)) for name in predicted}
    video, score = np.full((number, most), -1, dtype=np.int64), np.zeros((number, most))
    for row, slate in enumerate(slates):
        video[row, : len(slate.items)] = [int(item.video_id[1:]) for item in slate.items]
        score[row, : len(slate.items)] = [item.score for item in slate.items]
        for name, table in tables.items():
            values = [(item.predictions or {})[name] for item in slate.items]
            table[row, : len(values)] = values
    watch_s = tables.pop("watch_s")
    flat = {name: p.ravel() for name, p in tables.items()}
    plain = fused_score(flat, watch_s.ravel(), ScoreWeights()).reshape(video.shape)
    trust = np.divide(score, plain, out=np.ones_like(score), where=plain > 0)
    visit, viewer, surface, started_ms = asked
    return Offered(
        visit=visit,
        viewer=viewer,
        surface=surface,
        started_ms=started_ms,
        video=video,
        trust=trust,
        probabilities=tables,
        expected_watch_s=watch_s,
    )


def search_simulated(
    offered: Offered,
    crowd: LivingViewers,
    today: ScoreWeights,
    trade: Trade,
    progress: Progress = SILENT,
) -> Found:
    """Search weights on half of the simulated viewers, and judge the choice on the others.

    Raises:
        DatasetError: The trade names what is not counted here, or too few viewers came.
    """
    for setting, name in (("improve", trade.improve), ("keep", trade.keep)):
        if name not in COUNTED:
            raise DatasetError(
                f"{setting} = {name}, which is not counted in the simulator; it must be one of "
                f"{', '.join(COUNTED)}. Name one of them, or search on a log."
            )
    viewers = np.unique(offered.viewer)
    drawn = np.random.default_rng(trade.seed).permutation(viewers.size) < viewers.size / 2
    in_search = np.isin(offered.viewer, viewers[drawn])
    halves = (
        SimulatedSlates(offered.of(in_search), crowd, trade),
        SimulatedSlates(offered.of(~in_search), crowd, trade),
    )
    return search_halves(
        halves, COUNTED, tuple(offered.probabilities), today, trade, progress, simulated=True
    )


class SimulatedSlates:
    """The requests of some viewers, lived through in any order of their candidates."""

    def __init__(
        self,
        offered: Offered,
        crowd: LivingViewers,
        trade: Trade,
        slate: SlateSettings | None = None,
    ) -> None:
        self.offered, self.crowd, self.trade = offered, crowd, trade
        self.slate = slate or SlateSettings()
        viewers, self._viewer = np.unique(offered.viewer, return_inverse=True)
        self.num_viewers = len(viewers)
        self._everyone = np.ones((1, max(self.num_viewers, 1)))
        self._topics = [
            tuple(topic for topic in of if topic >= 0) for of in crowd.videos.topics.tolist()
        ]
        self._last: tuple[ScoreWeights, Lived] | None = None

    def number(self, name: str) -> int:  # noqa: ARG002 - every slate tells of all
        """Count the slates."""
        return len(self._viewer)

    def value(self, weights: ScoreWeights, name: str) -> float:
        """Return skips per view, or seconds per slate, when ordered so."""
        return float(self._statistic(weights, name)(self._everyone)[0])

    def judge(
        self, today: ScoreWeights, choice: ScoreWeights, name: str, progress: Progress
    ) -> dict[str, Interval]:
        """Measure both, and their difference on the same drawn viewers."""
        pair = self._statistic(today, name), self._statistic(choice, name)
        return judge_pair(*pair, self.num_viewers, progress)

    def shown(self, weights: ScoreWeights) -> Integers:
        """Return the first places, (N, at) videos, put together as `diversify` does; -1: none."""
        offered, videos = self.offered, self.crowd.videos
        flat = {name: p.ravel() for name, p in offered.probabilities.items()}
        score = fused_score(flat, offered.expected_watch_s.ravel(), weights)
        score = score.reshape(offered.video.shape) * offered.trust
        score = np.where(offered.video >= 0, score, -1.0)
        author, topics = videos.author[offered.video] + 1, self._topics
        shown = np.full((len(score), self.trade.at), -1, dtype=np.int64)
        for row, candidates in enumerate(offered.video):
            of = candidates[candidates >= 0].tolist()
            places = varied(
                score[row, : len(of)],
                author[row].tolist(),
                [topics[each] for each in of].__getitem__,
                self.trade.at,
                self.slate,
            )[: self.trade.at]
            shown[row, : len(places)] = candidates[places]
        return shown

    def lived(self, weights: ScoreWeights) -> Lived:
        """Let every viewer go down his slate until he leaves, or it ends."""
        if self._last is not None and self._last[0] == weights:
            return self._last[1]
        offered, video = self.offered, self.shown(weights)
        views, glances, watch_s = np.zeros((3, len(video)))
        for visit in np.unique(offered.visit).tolist():
            rows = np.flatnonzero(offered.visit == visit)
            viewer, here = offered.viewer[rows], np.ones(rows.size, dtype=bool)
            self.crowd.rng = np.random.default_rng([self.trade.seed, 23, visit])
            self.crowd.begin(viewer)
            for place in range(self.trade.at):
                shown = video[rows, place]
                here &= shown >= 0
                watched, hidden = self.crowd.watch(  # also by who has left: each draw has its place
                    viewer,
                    np.maximum(shown, 0),
                    offered.surface[rows],
                    offered.started_ms[rows],
                )
                views[rows] += here
                glances[rows] += here * hidden.p_glance
                watch_s[rows] += here * hidden.expected_watch_s
                here &= ~watched.leaves
        found = Lived(views=views, glances=glances, watch_s=watch_s)
        self._last = (weights, found)
        return found

    def _statistic(self, weights: ScoreWeights, name: str) -> Statistic:
        lived, slates = self.lived(weights), np.ones(len(self._viewer))
        part, whole = (lived.glances, lived.views) if name == "glance" else (lived.watch_s, slates)
        return ratio(
            sum_by(self._viewer, self.num_viewers, part),
            sum_by(self._viewer, self.num_viewers, whole),
        )
