"""What is typical of everyone: numbers that a real log can be asked for.

    defaults, or `fit` of a log  ->  Habits  ->  population, exposure, odds, watching, living

- The defaults were set by eye to KuaiRand-Pure's shares; `skipwise simulate --fit` finds others.

Reads `settings`; is read by `world`.
"""

from dataclasses import dataclass

from skipwise.errors import SettingError
from skipwise.settings import check_setting


@dataclass(frozen=True, kw_only=True, slots=True)
class Habits:
    """How people use the app, whatever their tastes."""

    surfaces: tuple[str, ...] = ("feed", "discover", "following")
    """Where videos are shown."""
    surface_shares: tuple[float, ...] = (0.75, 0.15, 0.10)
    """Share of requests on each."""
    surface_logits: tuple[float, ...] = (-0.35, 1.9, -1.0)
    """Part of each in the logit of a glance."""
    surface_zeros: tuple[float, ...] = (0.0, 0.0, 0.0)
    """Share of glances on each that last 0 s, as where a video is passed by and never plays."""
    session_views: float = 10.0
    """Mean number of views in a session, before the day's views run out."""
    patience_spread: float = 0.6
    """How unlike viewers are in staying: standard deviation, in logits."""
    quality_spread: float = 0.5
    """How unlike videos are in being left: standard deviation, in logits."""
    duration_median_s: float = 70.0
    duration_spread: float = 0.8
    """Standard deviation of the log of a video's length."""
    duration_logit: float = 0.0
    """Part in the logit of a glance per unit of log(length / median)."""
    glance_shape: float = 1.0
    """A glance lasts 3 s times u ** shape, u uniform: above 1, most leave sooner."""
    stay_scale_s: float = 30.0
    """Typical scale of the time a viewer stays beyond a glance."""
    stay_by_duration: float = 0.0
    """That scale grows as (length / median) ** this."""
    rewatch_share: float = 0.08
    """Share of finished watches that go on, for a uniform part of the video."""
    boredom: float = 0.35
    """Living viewers: how much each glance in a row makes leaving the app likelier, in logits."""
    return_slope: float = 3.0
    """Living viewers: how much staying rather than skipping makes coming back likelier: logits per
    unit of the share of views that were no glance."""

    def __post_init__(self) -> None:
        number = len(self.surfaces)
        others = (self.surface_shares, self.surface_logits, self.surface_zeros)
        if not number or any(len(each) != number for each in others):
            raise SettingError(
                f"habits hold {number} surfaces, {len(self.surface_shares)} shares, "
                f"{len(self.surface_logits)} logits and {len(self.surface_zeros)} zeros; there "
                "must be as many of each. Mend the lists."
            )
        if not all(0 <= share <= 1 for share in self.surface_zeros):
            raise SettingError(
                f"habits.surface_zeros = {self.surface_zeros}, must be shares in 0 to 1. Change "
                "them."
            )
        if min(self.surface_shares) < 0 or abs(sum(self.surface_shares) - 1) > 1e-6:
            raise SettingError(
                f"habits.surface_shares add up to {sum(self.surface_shares):g}, must be >= 0 and "
                "add up to 1. Change them."
            )
        check_setting("habits.session_views", self.session_views, at_least=1, at_most=1000)
        check_setting("habits.patience_spread", self.patience_spread, at_least=0, at_most=5)
        check_setting("habits.quality_spread", self.quality_spread, at_least=0, at_most=5)
        check_setting("habits.duration_median_s", self.duration_median_s, above=5, below=300)
        check_setting("habits.duration_spread", self.duration_spread, at_least=0, at_most=3)
        check_setting("habits.duration_logit", self.duration_logit, at_least=-3, at_most=3)
        check_setting("habits.glance_shape", self.glance_shape, above=0, at_most=10)
        check_setting("habits.stay_scale_s", self.stay_scale_s, above=0, at_most=3600)
        check_setting("habits.stay_by_duration", self.stay_by_duration, at_least=-2, at_most=2)
        check_setting("habits.rewatch_share", self.rewatch_share, at_least=0, at_most=1)
        check_setting("habits.boredom", self.boredom, at_least=0, at_most=3)
        check_setting("habits.return_slope", self.return_slope, at_least=0, at_most=20)
