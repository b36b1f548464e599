"""What kind of world is simulated, and how large.

    key=value  ->  WorldSettings  ->  everything else in this folder

- Two worlds with the same settings are the same, byte by byte.
- In a `skip_only` world a taste shows through skips and through nothing else: no other column, and
  no count of watched views, tells it (`planted_world` is a small one for tests).
- In a `shuffle_outcomes` world nothing can be learnt: outcomes were dealt out anew to all
  impressions.

Knows `habits`; is read by every file of this folder.
"""

from dataclasses import dataclass, field
from datetime import date

from skipwise.errors import SettingError
from skipwise.settings import check_setting
from skipwise.simulation.habits import Habits

TIME_ZONE = "Asia/Shanghai"
"""Where simulated viewers live; it knows no daylight saving time."""

UTC_OFFSET_MS = 8 * 3_600_000
"""How far the clocks of TIME_ZONE run ahead of UTC."""

DAY_MS = 86_400_000
"""Length of a day."""

FIRST_DAY = (date(2024, 3, 4) - date(1970, 1, 1)).days
"""Calendar day on which every world begins, a Monday, in days since 1970-01-01."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldSettings:
    """How many viewers and videos there are, and how much tastes matter."""

    viewers: int = 2000
    """Number of viewers; all of them may be shown videos."""

    videos: int = 1500
    """Number of videos; at least as many as topics."""

    authors: int = 300
    """Number of authors; some make many videos, some none."""

    topics: int = 20
    """Number of topics a viewer may love or dislike."""

    days: int = 8
    """Length of the log, in calendar days."""

    seed: int = 0
    """Start of the one random generator."""

    views_per_viewer_day: float = 8.0
    """Mean number of impressions of a viewer on a day."""

    activity_spread: float = 0.7
    """How unequal viewers are in that: standard deviation of the log of their mean."""

    taste_strength: float = 1.0
    """How much tastes matter for what is watched; 0 = not at all."""

    glance_share: float = 0.41
    """Wanted share of glances among impressions; a `skip_only` world has its own."""

    random_share: float = 0.02
    """Share of impressions whose video is drawn uniformly from all videos, with propensity."""

    skip_only: bool = False
    """Let tastes show through skips alone: see `population` and `exposure` for how."""

    living: bool = False
    """Let outcomes decide what comes next: a bored viewer leaves sooner and comes back less (see
    `living`); otherwise all sessions are drawn beforehand."""

    habits: Habits = field(default_factory=Habits)
    """What is typical of everyone."""

    shuffle_outcomes: bool = False
    """Deal the outcomes out anew to all impressions, so that nothing predicts a glance. (Whether a
    watch was long or finished still depends on the duration it fell upon.)"""

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated.

        Raises:
            SettingError: A setting is out of range, there are fewer videos than topics, or random
                exposures in a `skip_only` world, where they would let watched views tell tastes.
        """
        check_setting("viewers", self.viewers, at_least=1, at_most=10_000_000)
        check_setting("videos", self.videos, at_least=1, at_most=10_000_000)
        check_setting("authors", self.authors, at_least=1, at_most=10_000_000)
        check_setting("topics", self.topics, at_least=2, at_most=1000)
        check_setting("days", self.days, at_least=1, at_most=366)
        check_setting("seed", self.seed, at_least=0)
        check_setting("views_per_viewer_day", self.views_per_viewer_day, above=0, at_most=300)
        check_setting("activity_spread", self.activity_spread, at_least=0, at_most=2)
        check_setting("taste_strength", self.taste_strength, at_least=0, at_most=5)
        check_setting("glance_share", self.glance_share, at_least=0.05, at_most=0.95)
        check_setting("random_share", self.random_share, at_least=0, at_most=1)
        if self.videos < self.topics:
            raise SettingError(
                f"videos = {self.videos}, must be >= topics = {self.topics}, as every topic needs "
                "a video. Raise videos or lower topics."
            )
        if self.living and (self.skip_only or self.shuffle_outcomes):
            raise SettingError(
                "living = true goes with neither skip_only nor shuffle_outcomes, where nothing may "
                "depend on outcomes. Set one of them to false."
            )
        if self.skip_only and self.random_share > 0:
            raise SettingError(
                f"random_share = {self.random_share:g}, must be 0 in a skip_only world, as random "
                "exposures let watched views tell tastes. Set random_share=0."
            )


def planted_world(*, seed: int = 0, shuffle_outcomes: bool = False) -> WorldSettings:
    """Return a small world in which only past skips tell what a viewer will skip.

    400 viewers, 8 topics, 8 days, about 80 views of each viewer: a model can learn it in seconds,
    and `truth.best_possible_auc` says how well it could.
    """
    return WorldSettings(
        viewers=400,
        videos=400,
        authors=100,
        topics=8,
        views_per_viewer_day=10.0,
        activity_spread=0.2,
        random_share=0.0,
        skip_only=True,
        shuffle_outcomes=shuffle_outcomes,
        seed=seed,
    )
