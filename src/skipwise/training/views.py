"""How each stretch of a training pass sees the past.

    how many, share, chance  ->  draw_views  ->  Views, one per stretch

- One model serves a nightly feed and a live one, because it has learnt from both.

Is read by `fit`.
"""

import math

import numpy as np

from skipwise.features.known import DAY_MS
from skipwise.features.view import Views


def draw_views(number: int, daily_share: float, generator: np.random.Generator) -> Views:
    """Draw how each stretch sees the past (docs/model.md): nightly, live, or live with a delay.

    Args:
        number: How many stretches.
        daily_share: Share that sees what a nightly feed would; of the others, half see a live one
            and half one whose outcomes arrive late, by 1 s to a day, even in the logarithm.
        generator: Where chance comes from.

    Returns:
        (number,) views.
    """
    kind = generator.random(number)
    delay = np.exp(generator.uniform(math.log(1_000), math.log(DAY_MS), number)).astype(np.int64)
    live_from = daily_share + (1 - daily_share) / 2
    live = kind >= daily_share
    return Views(live=live, extra_delay_ms=np.where(kind >= live_from, delay, 0))
