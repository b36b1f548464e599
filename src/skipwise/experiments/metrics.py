"""What can be measured of a viewer in an experiment, and which way is better.

    sums per viewer (PARTS)  ->  METRICS[name]: mean of a sum, or ratio of two sums

- A metric without a denominator is a mean per exposed viewer, those who never came back included.
- A ratio is one of sums over viewers, never a mean of ratios, so heavy viewers weigh more; its
  error is that of viewers, who are what was assigned.

Knows nobody; is read by the rest of this folder.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

PARTS = (
    "views",
    "watch_s",
    "glances",
    "glances_known",
    "effective",
    "effective_known",
    "long",
    "long_known",
    "finished",
    "finished_known",
    "likes",
    "positives",
    "negatives",
    "sessions",
    "active_days",
    "returns",
    "returnable",
)
"""What is summed per viewer and day."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One number of an experiment."""

    words: str
    """What it is, for people."""
    numerator: str
    """One of PARTS."""
    denominator: str | None = None
    """One of PARTS; None = per viewer."""
    better: Literal["up", "down"] = "up"
    per: float = 1.0
    """What it is multiplied by when shown, as 1,000 for "per thousand"."""


METRICS: Mapping[str, Metric] = {
    "watch_per_viewer": Metric(words="watch time per viewer, s", numerator="watch_s"),
    "views_per_viewer": Metric(words="views per viewer", numerator="views"),
    "watch_per_view": Metric(
        words="watch time per view, s", numerator="watch_s", denominator="views"
    ),
    "glance_rate": Metric(
        words="skip rate (glances per view)",
        numerator="glances",
        denominator="glances_known",
        better="down",
    ),
    "effective_rate": Metric(
        words="effective views per view", numerator="effective", denominator="effective_known"
    ),
    "long_rate": Metric(words="long views per view", numerator="long", denominator="long_known"),
    "finished_rate": Metric(
        words="finished views per view", numerator="finished", denominator="finished_known"
    ),
    "like_rate": Metric(
        words="likes per thousand views", numerator="likes", denominator="views", per=1000.0
    ),
    "positives_rate": Metric(
        words="likes, follows, comments and shares per thousand views",
        numerator="positives",
        denominator="views",
        per=1000.0,
    ),
    "negatives_rate": Metric(
        words="explicit negatives per thousand views",
        numerator="negatives",
        denominator="views",
        better="down",
        per=1000.0,
    ),
    "sessions_per_viewer": Metric(words="sessions per viewer", numerator="sessions"),
    "active_days_per_viewer": Metric(words="active days per viewer", numerator="active_days"),
    "return_rate": Metric(words="next-day return", numerator="returns", denominator="returnable"),
}
"""Every metric a definition may name."""
