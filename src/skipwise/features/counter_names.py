"""What is counted, under which names, in which order, and how fast it is forgotten.

    objectives counted  ->  counter_names  ->  K names, the columns of every counter matrix

Is read by `counters`, `live` and everything that reads a counter by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from skipwise.errors import SettingError
from skipwise.settings import check_choice, check_setting

KEYS: Mapping[str, tuple[str, ...]] = {
    "video": ("video",),
    "author": ("author",),
    "topic": ("topic",),
    "viewer": ("viewer",),
    "viewer_author": ("viewer", "author"),
    "viewer_topic": ("viewer", "topic"),
    "viewer_surface": ("viewer", "surface"),
    "viewer_video": ("viewer", "video"),
}
"""What is counted: the columns of each key, in the order of the counters."""


COUNTABLE = ("glance", "effective", "long", "like", "click")
"""Objectives that may be counted, in the order of the counters."""


MAY_BE_UNKNOWN = ("author", "topic", "surface")
"""Columns in which code 0 means unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CounterConfig:
    """What is counted, and how fast it is forgotten."""

    half_life_days: float | None = 7.0
    """After so many days an outcome weighs half; none: never forgotten."""
    counted: tuple[str, ...] = COUNTABLE
    """Objectives counted; one that the log cannot answer is left out by `prepare`."""

    def __post_init__(self) -> None:
        if self.half_life_days is not None:
            check_setting("half_life_days", self.half_life_days, above=0)
        for place, objective in enumerate(self.counted):
            check_choice(f"counted[{place}]", objective, COUNTABLE)
        if len(set(self.counted)) < len(self.counted):
            raise SettingError(
                f"counted = {self.counted} names an objective twice, must name each once. "
                "Take one out."
            )


def counter_names(counted: tuple[str, ...]) -> tuple[str, ...]:
    """Name the counters in column order: per key, views, then known and positive per objective.

    >>> counter_names(("glance",))[:6]
    ('video.views', 'video.glance_known', 'video.glance', 'author.views', 'author.glance_known', \
'author.glance')
    """
    return tuple(f"{key}.{sum_name}" for key in KEYS for sum_name in sum_names(counted))


def sum_names(counted: tuple[str, ...]) -> tuple[str, ...]:
    """Name the sums held per key, always in the order of `COUNTABLE`.

    >>> sum_names(("like",))
    ('views', 'like_known', 'like')
    """
    chosen = [objective for objective in COUNTABLE if objective in counted]
    return ("views", *(name for each in chosen for name in (f"{each}_known", each)))
