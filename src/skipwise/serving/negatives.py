"""How much one viewer's "not this" may count against a video for everybody else.

    a viewer's past, a video  ->  weight_of_negative  ->  what it adds, 0 to 1
    weights, views            ->  standing            ->  factor of a score, 0 to 1

- It counts once per viewer and video, however often it is sent.
- It weighs less the more often this viewer says no: `min(1, r0 / r)`, r their own smoothed rate.
- All that a viewer has said in a half-life is capped; and everything fades.
- For the viewer who said it nothing is weakened: the encoder reads it in their own history.

Reads `past`; is read by `intake` and the pipeline.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipwise.serving.names import name_of
from skipwise.serving.past import SALT, Past
from skipwise.settings import check_setting


@dataclass(frozen=True, kw_only=True, slots=True)
class NegativeSettings:
    """How explicit negatives weigh."""

    usual_rate: float = 0.002
    """r0: negatives per view that are taken at full weight."""
    prior_views: float = 500.0
    """Views' worth of the usual rate that a viewer's own rate starts from."""
    viewer_cap: float = 10.0
    """Most weight one viewer may place, decayed."""
    prior_exposure: float = 50.0
    """Views' worth of nothing said that every video starts from."""
    power: float = 4.0
    """Of the factor `1 - weights / (views + prior)`; 0 = others' negatives have no say."""

    def __post_init__(self) -> None:
        check_setting("negatives.usual_rate", self.usual_rate, above=0, at_most=1)
        check_setting("negatives.prior_views", self.prior_views, above=0)
        check_setting("negatives.viewer_cap", self.viewer_cap, at_least=0)
        check_setting("negatives.prior_exposure", self.prior_exposure, above=0)
        check_setting("negatives.power", self.power, at_least=0, at_most=100)


def target_key(video_id: str) -> int:
    """Name the sum that remembers whether a viewer has said no to a video."""
    return name_of(video_id) ^ SALT["negative"]


def weight_of_negative(
    past: Past, video_id: str, clock_day: int, settings: NegativeSettings
) -> float:
    """Weigh an explicit negative, before it is learnt.

    Args:
        past: The viewer's; its sum of `negative` holds how many there were, decayed.
        video_id: The target.
        clock_day: Local day on which it became known.
        settings: The numbers.

    Returns:
        In [0, 1]; 0 where it was said before or the cap is reached.
    """
    if past.holds(target_key(video_id)):
        return 0.0
    keys = np.array([SALT["viewer"], SALT["negative"]], dtype=np.uint64)
    views, said = past.ask(keys, clock_day)[:, 0].tolist()
    prior = settings.usual_rate * settings.prior_views
    rate = (said + prior) / (views + settings.prior_views)
    room = settings.viewer_cap - said
    return float(min(1.0, settings.usual_rate / rate, max(room, 0.0)))


def standing(
    weights: NDArray[np.float64], views: NDArray[np.float64], settings: NegativeSettings
) -> NDArray[np.float64]:
    """Return what others' negatives leave of a score: `(1 - weights / (views + prior))^power`.

    Args:
        weights: (N,) weights of negatives against each video, decayed.
        views: (N,) its views, decayed likewise.
        settings: The numbers.

    >>> standing(np.array([0.0, 25.0]), np.array([9.0, 0.0]), NegativeSettings(power=1)).tolist()
    [1.0, 0.5]
    """
    share = np.minimum(np.maximum(weights / (views + settings.prior_exposure), 0), 1)
    factor: NDArray[np.float64] = (1.0 - share) ** settings.power
    return factor
