"""Is a model on trial worse than the one it is tried beside?

    a promise that was met              ->  Tally.add  ->  sums by arm and group of viewers
    sums of all processes, TrialSettings  ->  judge      ->  Judgement: worse, kept or open

- Both answer at the same time, each its own viewers, drawn by chance: so the hour of the day, or a
  new crowd, is no difference between them.
- The error is that of viewers, in GROUPS groups drawn by chance, for views of one viewer agree.
- Looked at again and again: the intervals are those of a confidence sequence, which holds at every
  look at once.
- "Kept" says that it was not shown to be worse by more than is tolerated, and no more.

Reads `experiments.sequence`; is read by `takeover` and `engine`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skipwise.experiments.sequence import half_widths
from skipwise.serving.names import name_of
from skipwise.settings import check_setting

GROUPS = 32
WATCHED = ("glance", "effective", "long")
"""Objectives whose calibration is watched: those that nearly every view tells of."""
_TESTS = 1 + len(WATCHED)
_NUMBER, _PROMISED, _CAME = range(3)
Sums = NDArray[np.float64]
"""(2, GROUPS, objectives, 3): the current model's arm, then the canary's; views, chances, hits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialSettings:
    """How a published model is tried; `skipwise serve ... follow.share=0.5`."""

    poll_s: float = 2.0
    """How often the folder and the trial are looked at."""
    share: float = 0.5
    """Of viewers, whom a model on trial answers."""
    views_at_least: int = 500
    """Of each arm, below which nothing is said."""
    views_planned: int = 5000
    """Of each arm: where the intervals are narrowest, and a model not shown to be worse is kept."""
    minutes_at_most: float = 60.0
    """After so long a model not shown to be worse is kept, however few have seen it."""
    alpha: float = 0.05
    """Chance that a model no worse than the other is rolled back, at any look, by any test."""
    skips_worse_by: float = 0.01
    """Skips per view that are tolerated."""
    calibration_worse_by: float = 0.02
    """Of |mean chance - share that came|, what is tolerated."""

    def __post_init__(self) -> None:
        check_setting("follow.poll_s", self.poll_s, above=0, at_most=3600)
        check_setting("follow.share", self.share, above=0, below=1)
        check_setting("follow.views_at_least", self.views_at_least, at_least=50)
        check_setting("follow.views_planned", self.views_planned, at_least=self.views_at_least)
        check_setting("follow.minutes_at_most", self.minutes_at_most, above=0)
        check_setting("follow.alpha", self.alpha, above=0, below=0.5)
        check_setting("follow.skips_worse_by", self.skips_worse_by, at_least=0, at_most=1)
        check_setting(
            "follow.calibration_worse_by", self.calibration_worse_by, at_least=0, at_most=1
        )


class Judgement(NamedTuple):
    """What a trial says at one look."""

    decision: Literal["worse", "kept", "open"]
    words: str
    views: tuple[int, int]
    """Of the current model, of the one on trial."""
    skip_rate: tuple[float, float]
    """NaN where no view is known."""
    bias: Mapping[str, tuple[float, float]]
    """Objective -> mean chance less share that came, of either."""


class Tally:
    """The sums of one trial as one process has seen them, and as others have told."""

    def __init__(self) -> None:
        self.trial, self.arms = "", ("", "")
        self.own = no_sums()
        self.told: dict[str, Sums] = {}
        """By process, the newest; also this one's."""
        self.unsaid = 0
        """Views counted since they were last told to the others."""

    def begin(self, trial: str, arms: tuple[str, str]) -> None:
        """Count for a trial: its name, the checksums of the current model and of the other."""
        if trial != self.trial:
            self.trial, self.arms = trial, arms
            self.own, self.told, self.unsaid = no_sums(), {}, 0

    def add(
        self, model: str, viewer_id: str, chances: Mapping[str, float], came: Mapping[str, bool]
    ) -> None:
        """Count a view that was served by a model (its checksum), if it is one of the arms."""
        if not self.trial or model not in self.arms:
            return
        of_viewer = self.own[self.arms.index(model), name_of(f"group\0{viewer_id}") % GROUPS]
        for place, name in enumerate(WATCHED):
            if name in chances and name in came:
                of_viewer[place] += (1.0, chances[name], float(came[name]))
        self.unsaid += 1

    def hear(self, process: str, trial: str, sums: Sequence[float]) -> None:
        """Take in what a process has counted of a trial from its beginning."""
        if trial == self.trial:
            self.told[process] = np.reshape(np.array(sums), self.own.shape)

    def all(self, process: str) -> Sums:
        """Return the sums of every process, this one's as they are now."""
        others = [sums for name, sums in self.told.items() if name != process]
        total: Sums = np.sum([self.own, *others], axis=0)
        return total


def no_sums() -> Sums:
    """Return sums of nothing."""
    return np.zeros((2, GROUPS, len(WATCHED), 3))


def judge(sums: Sums, settings: TrialSettings, minutes: float) -> Judgement:
    """Compare the arms.

        worse:  d - w(d) > tolerated,   d = difference of skip rates, or of |bias|
        w = half_widths(SE, views, views_planned, alpha / tests)

    Views are those of the smaller arm: they are the trial's clock. For |bias|, SE is that of the
    difference of both; that one half width is enough whatever the signs follows from
    |b| - |c| <= sb - tc for the true sign t of c and one of two signs s.

    Args:
        sums: See `Sums`.
        settings: What is tolerated, and how sure one must be.
        minutes: Since the trial began.
    """
    views = sums[:, :, 0, _NUMBER].sum(axis=1)
    fewest = float(views.min())
    rate = [_ratio(arm[:, 0, _CAME], arm[:, 0, _NUMBER]) for arm in sums]
    biases = {
        name: [
            _ratio(arm[:, place, _PROMISED] - arm[:, place, _CAME], arm[:, place, _NUMBER])
            for arm in sums
        ]
        for place, name in enumerate(WATCHED)
    }
    open_yet = Judgement(
        decision="open",
        words="",
        views=(int(views[0]), int(views[1])),
        skip_rate=(rate[0][0], rate[1][0]),
        bias={name: (pair[0][0], pair[1][0]) for name, pair in biases.items()},
    )
    over = minutes >= settings.minutes_at_most
    known = bool(((sums[:, :, 0, _NUMBER] > 0).mean(axis=1) > 0.5).all())
    if fewest < settings.views_at_least or not known:
        words = f"not shown to be worse in {minutes:.0f} minutes: {fewest:.0f} views of one arm"
        return open_yet._replace(decision="kept" if over else "open", words=words)

    def width(pair: list[tuple[float, float]]) -> float:
        error = math.hypot(pair[0][1], pair[1][1])
        planned = settings.views_planned
        return float(half_widths(error, fewest, planned, settings.alpha / _TESTS))

    more, own = rate[1][0] - rate[0][0], width(rate)
    if more - own > settings.skips_worse_by:
        words = f"skip rate {rate[1][0]:.3f}, beside it {rate[0][0]:.3f}: {more:+.3f} ±{own:.3f}"
        return open_yet._replace(decision="worse", words=words)
    for name, pair in biases.items():
        further, own = abs(pair[1][0]) - abs(pair[0][0]), width(pair)
        if further - own > settings.calibration_worse_by:
            words = (
                f"chances of {name} are off by {pair[1][0]:+.3f}, beside it by {pair[0][0]:+.3f}: "
                f"{further:+.3f} ±{own:.3f} further off"
            )
            return open_yet._replace(decision="worse", words=words)
    words = f"not shown to be worse in {fewest:.0f} views of each: skip rate {more:+.3f}"
    enough = fewest >= settings.views_planned or over
    return open_yet._replace(decision="kept" if enough else "open", words=words)


def _ratio(part: Sums, number: Sums) -> tuple[float, float]:
    """Return a ratio of sums over groups (GROUPS,), and its standard error.

    Random groups (Wolter, "Introduction to Variance Estimation", ch. 2) of a linearised ratio:
    SE^2 = G / (G - 3) sum_g (part_g - r number_g)^2 / (sum number)^2; G - 3 in place of G - 1 makes
    it the variance of Student's t, so that the normal may be used.
    """
    total = float(number.sum())
    if not total:
        return math.nan, math.nan
    ratio = float(part.sum()) / total
    off = part - ratio * number
    return ratio, math.sqrt(GROUPS / (GROUPS - 3) * float((off**2).sum())) / total
