"""Which score weights are best for a stated trade?

    Slates of a measured run, Trade  ->  search  ->  Found: a Pareto front, a choice, how sure

- Half of the viewers are searched, the other half judges: a choice is only as good as it is on
  viewers it was not made for, beside today's weights, by paired bootstrap.
- What is judged are the first places of slates that were shown, ordered anew: it says how to order,
  not what a feed would then show tomorrow. An experiment says that.

Reads `slate` and `bootstrap`; optuna comes with the extra `experiments`. Is read by the command
line and the page.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import optuna
from numpy.typing import NDArray

from skipwise.errors import DatasetError
from skipwise.evaluation.bootstrap import Floats, Integers, Interval, Statistic, bootstrap
from skipwise.evaluation.scored import Scored
from skipwise.evaluation.slate import slate_statistic
from skipwise.model.score import ScoreWeights, fused_score
from skipwise.progress import SILENT, Progress
from skipwise.settings import apply_settings, check_choice, check_setting, settings_to_dict

OUTCOMES: Mapping[str, bool] = {
    "glance": False,
    "watch_s": True,
    "effective": True,
    "negative": False,
}
"""What a trade may name, and whether more of it is better."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trade:
    """What is to become better, and what may not become worse."""

    improve: str = "glance"
    """One of OUTCOMES; fewer or more of it, whichever is better."""
    keep: str = "watch_s"
    """One of OUTCOMES."""
    give: float = 0.0
    """How much of `keep` may be lost, as a share of today's."""
    at: int = 5
    """First places of a slate that count."""
    trials: int = 300
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("improve", self.improve, OUTCOMES)
        check_choice("keep", self.keep, [name for name in OUTCOMES if name != self.improve])
        check_setting("give", self.give, at_least=0, below=1)
        check_setting("at", self.at, at_least=1, at_most=100)
        check_setting("trials", self.trials, at_least=10, at_most=100_000)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """One set of weights, on the searched half."""

    improve: float
    keep: float
    weights: ScoreWeights
    on_front: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What a search came to."""

    today: Tried
    tried: Sequence[Tried]
    choice: Tried
    """The best for the trade among what was tried; today's where nothing beats it."""
    judged: Mapping[str, Mapping[str, Interval]]
    """On the other half: outcome -> `today`, `choice`, `difference` (choice less today)."""
    slates: Mapping[str, int]
    """How many slates each half has."""
    simulated: bool = False
    """Whether the viewers are: then it says nothing about people."""


class Ordered(Protocol):
    """Slates of some viewers, which any weights can order: on a log, or in a simulator."""

    def number(self, name: str) -> int:
        """Count the slates that an outcome is measured on."""

    def value(self, weights: ScoreWeights, name: str) -> float:
        """Return the mean outcome when ordered so."""

    def judge(
        self, today: ScoreWeights, choice: ScoreWeights, name: str, progress: Progress
    ) -> dict[str, Interval]:
        """Measure both, and their `difference` on the same drawn viewers."""


class Slates:
    """The rows of some viewers, ready to be ordered by any weights."""

    def __init__(self, scored: Scored, trade: Trade, rows: NDArray[np.bool_]) -> None:
        self._probabilities = {name: p[rows] for name, p in scored.probabilities.items()}
        self._watch_s = scored.expected_watch_s[rows] if scored.predicts_watch else None
        self._group: Integers = scored.group[rows]
        _, self._viewer = np.unique(scored.viewer[rows], return_inverse=True)
        self.num_viewers = int(self._viewer.max(initial=-1)) + 1
        self._at = trade.at
        self._outcomes = {name: _outcome(scored, name)[rows] for name in OUTCOMES}
        self._everyone = np.ones((1, max(self.num_viewers, 1)))

    def number(self, name: str) -> int:
        """Count the slates that an outcome is measured on."""
        return int(self._statistic(ScoreWeights(), name)[1])

    def value(self, weights: ScoreWeights, name: str) -> float:
        """Return the mean outcome in the first places when ordered so."""
        return float(self._statistic(weights, name)[0](self._everyone)[0])

    def _statistic(self, weights: ScoreWeights, name: str) -> Any:
        order = self.order(weights)
        return slate_statistic(
            self._outcomes[name], order, self._group, self._viewer, self.num_viewers, at=self._at
        )

    def order(self, weights: ScoreWeights) -> Floats:
        """Return the score of each row."""
        return fused_score(self._probabilities, self._watch_s, weights)

    def judge(
        self, today: ScoreWeights, choice: ScoreWeights, name: str, progress: Progress
    ) -> dict[str, Interval]:
        """Measure both, and their difference on the same drawn viewers."""
        pair = self._statistic(today, name)[0], self._statistic(choice, name)[0]
        return judge_pair(*pair, self.num_viewers, progress)


def judge_pair(
    today: Statistic, choice: Statistic, num_viewers: int, progress: Progress
) -> dict[str, Interval]:
    """Measure `today`, `choice` and their `difference` (choice less today) on drawn viewers."""
    statistics = {
        "today": today,
        "choice": choice,
        "difference": lambda drawn: choice(drawn) - today(drawn),
    }
    return bootstrap(statistics, num_viewers, progress=progress)


def search(scored: Scored, today: ScoreWeights, trade: Trade, progress: Progress = SILENT) -> Found:
    """Search weights on half of the viewers, and judge the choice on the others.

    Weights are drawn by optuna's multi-objective TPE (Ozaki and others, JAIR 2022), today's first.

    Raises:
        DatasetError: The trade names what these rows do not tell, or there are too few slates of
            more than `trade.at` rows to search or judge on.
    """
    _check_known(scored, trade)
    in_search = _half(scored.viewer, trade.seed)
    halves = (Slates(scored, trade, in_search), Slates(scored, trade, ~in_search))
    outcomes = [name for name in OUTCOMES if name in scored.labels or name == "watch_s"]
    return search_halves(halves, outcomes, tuple(scored.probabilities), today, trade, progress)


def search_halves(
    parts: tuple[Ordered, Ordered],
    outcomes: Sequence[str],
    objectives: Sequence[str],
    today: ScoreWeights,
    trade: Trade,
    progress: Progress = SILENT,
    *,
    simulated: bool = False,
) -> Found:
    """Search weights on one part of the viewers, and judge the choice on another.

    Args:
        parts: Searched, judged; no viewer is in both.
        outcomes: What is told of the choice; the trade's are among them.
        objectives: What is predicted, so that weights of others are not drawn.
        today: Today's weights.
        trade: What is wanted.
        progress: Who is told.
        simulated: Whether the viewers are.

    Raises:
        DatasetError: There are too few slates to search or judge on.
    """
    halves = dict(zip(("searched", "judged"), parts, strict=True))
    slates = {name: half.number(trade.improve) for name, half in halves.items()}
    for outcome in (trade.improve, trade.keep):
        number = {name: half.number(outcome) for name, half in halves.items()}
        if min(number.values()) < 30:
            raise DatasetError(
                f"{number['searched']} slates to search and {number['judged']} to judge have more "
                f"than {trade.at} rows whose {outcome} is known; each half needs 30. Choose more "
                "days, more viewers, or a lower `at`."
            )
    tried = _try(halves["searched"], today, trade, objectives, progress)
    choice = _choose(tried, trade)
    return Found(
        today=tried[0],
        tried=tried,
        choice=choice,
        judged={
            name: halves["judged"].judge(today, choice.weights, name, progress) for name in outcomes
        },
        slates=slates,
        simulated=simulated,
    )


def _check_known(scored: Scored, trade: Trade) -> None:
    known = [name for name in OUTCOMES if name in scored.labels or name == "watch_s"]
    for setting, name in (("improve", trade.improve), ("keep", trade.keep)):
        if name not in known:
            raise DatasetError(
                f"{setting} = {name}, which this run has not learnt and so is not measured here; "
                f"it must be one of {', '.join(known)}. Name one of them."
            )


def _try(
    slates: Ordered,
    today: ScoreWeights,
    trade: Trade,
    objectives: Sequence[str],
    progress: Progress,
) -> list[Tried]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    way = optuna.study.StudyDirection
    directions = [
        way.MAXIMIZE if OUTCOMES[name] else way.MINIMIZE for name in (trade.improve, trade.keep)
    ]
    study = optuna.create_study(
        directions=directions, sampler=optuna.samplers.TPESampler(seed=trade.seed)
    )
    tried: list[Tried] = []

    def once(weights: ScoreWeights) -> tuple[float, float]:
        values = slates.value(weights, trade.improve), slates.value(weights, trade.keep)
        tried.append(Tried(improve=values[0], keep=values[1], weights=weights))
        return values

    once(today)
    with progress.task("weights", total=trade.trials, unit="trials") as task:

        def trial(asked: optuna.Trial) -> tuple[float, float]:
            task.advance()
            return once(_draw(asked, today, objectives))

        study.optimize(trial, n_trials=trade.trials)
    return _with_front(tried, trade)


def _draw(trial: optuna.Trial, today: ScoreWeights, objectives: Sequence[str]) -> ScoreWeights:
    changes: dict[str, Any] = {
        "watch_power": trial.suggest_float("watch_power", 0.0, 2.0),
        "glance_power": trial.suggest_float("glance_power", 0.0, 20.0),
    }
    if "negative" in objectives:
        changes["negative_power"] = trial.suggest_float("negative_power", 0.0, 200.0)
    for name in today.rewards:
        if name in objectives:
            changes[name] = {
                "scale": trial.suggest_float(f"{name}.scale", 0.1, 50.0, log=True),
                "power": trial.suggest_float(f"{name}.power", 0.0, 3.0),
            }
    return apply_settings(today, changes)


def _with_front(tried: Sequence[Tried], trade: Trade) -> list[Tried]:
    """Mark what nothing else beats in one without losing in the other."""
    signs = [1.0 if OUTCOMES[name] else -1.0 for name in (trade.improve, trade.keep)]
    value = np.array([[signs[0] * each.improve, signs[1] * each.keep] for each in tried])
    marked = []
    for place, each in enumerate(tried):
        better = (value >= value[place]).all(axis=1) & (value > value[place]).any(axis=1)
        marked.append(
            Tried(
                improve=each.improve,
                keep=each.keep,
                weights=each.weights,
                on_front=not better.any(),
            )
        )
    return marked


def _choose(tried: Sequence[Tried], trade: Trade) -> Tried:
    """Return the best in `improve` among those that lose no more of `keep` than is given."""
    today = tried[0]
    least = today.keep * (1 - trade.give if OUTCOMES[trade.keep] else 1 + trade.give)

    def keeps(each: Tried) -> bool:
        return each.keep >= least if OUTCOMES[trade.keep] else each.keep <= least

    sign = -1.0 if OUTCOMES[trade.improve] else 1.0
    return min(
        (each for each in tried if keeps(each) and math.isfinite(each.improve)),
        key=lambda each: sign * each.improve,
        default=today,
    )


def _half(viewer: Integers, seed: int) -> NDArray[np.bool_]:
    """Draw half of the viewers; (N,) whether a row is of one of them."""
    viewers, place = np.unique(viewer, return_inverse=True)
    drawn = np.random.default_rng(seed).permutation(len(viewers)) < len(viewers) / 2
    chosen: NDArray[np.bool_] = drawn[place]
    return chosen


def _outcome(scored: Scored, name: str) -> Floats:
    if name == "watch_s":
        return np.minimum(scored.watch_s, 300.0)
    if name not in scored.labels:
        return np.full(len(scored.viewer), np.nan)
    label = scored.labels[name].astype(np.float64)
    return np.where(label < 0, np.nan, label)


def found_to_json(found: Found, trade: Trade) -> dict[str, Any]:
    """Return plain values: the trade, the front, what lies behind it, the choice, its judgement."""

    def plain(each: Tried) -> dict[str, Any]:
        return {
            trade.improve: each.improve,
            trade.keep: each.keep,
            "weights": settings_to_dict(each.weights),
        }

    return {
        "trade": settings_to_dict(trade),
        "today": plain(found.today),
        "choice": plain(found.choice),
        "front": [plain(each) for each in found.tried if each.on_front],
        "behind": [[each.improve, each.keep] for each in found.tried if not each.on_front],
        "judged": {
            name: {what: interval._asdict() for what, interval in by.items()}
            for name, by in found.judged.items()
        },
        "slates": dict(found.slates),
        "searched_in": "simulator" if found.simulated else "log",
    }
