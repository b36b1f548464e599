"""How each stretch of a training pass sees the past.

    how many, share, chance  ->  draw_views  ->  one View per stretch

- One model serves a nightly feed and a live one, because it has learnt from both.

Is read by `fit`.
"""

import math

import numpy as np

from skipwise.features.known import DAY_MS
from skipwise.features.stretches import View


def draw_views(number: int, daily_share: float, generator: np.random.Generator) -> list[View]:
    """Draw how each stretch sees the past (docs/model.md): nightly, live, or live with a delay.

    Args:
        number: How many stretches.
        daily_share: Share that sees what a nightly feed would; of the others, half see a live one
            and half one whose outcomes arrive late, by 1 s to a day, even in the logarithm.
        generator: Where chance comes from.

    Returns:
        One view per stretch.
    """
    kind = generator.random(number)
    delay = np.exp(generator.uniform(math.log(1_000), math.log(DAY_MS), number)).astype(np.int64)
    live_from = daily_share + (1 - daily_share) / 2
    return [
        View()
        if share < daily_share
        else View(mode="progressive", extra_delay_ms=0 if share < live_from else int(late))
        for share, late in zip(kind, delay, strict=True)
    ]
