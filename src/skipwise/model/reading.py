"""What a candidate and the events it may read know of each other: which, how far, what they share.

    prefixes, window             ->  visible_window  ->  which events, how many steps back
    times now, times then        ->  lag_s, bends    ->  numbers that say how far back
    all of it, laid out in rows  ->  Reading

- B stretches, C candidates of one, T events, M candidates in all, H heads, F features.

Is read by `encoder` and `reader`. No I/O.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

NUM_GROUPS = 3


LAG_KNOTS = (0.0, 6.0, 12.0, 16.5)
"""Where the slope over log2 seconds may change: a second, a minute, an hour, a day."""


STEP_KNOTS = (0.0, 2.0, 5.0)
"""Where the slope over log2 events may change."""


NUM_DISTANCES = 1 + len(LAG_KNOTS) + len(STEP_KNOTS)
"""Numbers that say how far back an event lies: is the time unknown, lag, steps."""


HIDDEN = -30_000.0
"""Logit of an event that may not be read: exp of it is 0 exactly, and sums of it stay finite."""


NUM_MATCHES = 3
"""Same video, same author, a shared topic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Which events each candidate may read, and how they relate to it; C slots per stretch."""

    stretch: Tensor
    """(M,) which stretch a candidate belongs to."""
    slot: Tensor
    """(M,) its place there."""
    num_slots: int
    num_stretches: int
    visible_BCT: Tensor
    """bool"""
    back_BCT: Tensor
    """How many events back from the newest visible one; below 0 where not visible."""
    matches: tuple[Tensor, ...]
    """NUM_MATCHES of (B, C, T) bool: what candidate and event share."""
    groups_BTG: Tensor
    """Feedback group of each event, one number 1 of three."""
    time_s_BT: Tensor
    """float64 seconds, NaN unknown."""
    requested_s_BC: Tensor
    """float64 seconds, NaN unknown."""
    readable_BT: Tensor | None = None
    """Which of the T events of each row may be read by any candidate; `visible_BCT` says so too.
    None: nothing is trained, and `back_BCT` need not fall by one from event to event."""
    places_BT: Tensor | None = None
    """Where the T events of each row stand among all events of the batch, laid end to end; None =
    where they are. A long stretch is read in several rows, each with a part of its events."""

    def laid_out(self, values_BTD: Tensor) -> Tensor:
        """Lay values of the stretches' events out in rows."""
        if self.places_BT is None:
            return values_BTD
        chosen = values_BTD.flatten(0, 1).index_select(0, self.places_BT.flatten())
        return chosen.view(*self.places_BT.shape, -1)

    def pad(self, values: Tensor) -> Tensor:
        """Lay flat candidates out in slots, (Q, M, ...) -> (Q, B, C, ...), zeros where none is."""
        shape = (len(values), self.num_stretches, self.num_slots, *values.shape[2:])
        padded = values.new_zeros(shape)
        padded[:, self.stretch, self.slot] = values
        return padded

    def of_candidates(self, values_BT: Tensor) -> Tensor:
        """Give each candidate what its stretch has, (B, ...) -> (M, ...)."""
        return values_BT[self.stretch]

    def visible_to_candidates(self) -> Tensor:
        """Return which events each candidate may read, (M, T) bool."""
        return self.visible_BCT[self.stretch, self.slot]

    def flat(self, padded: Tensor) -> Tensor:
        """Take the candidates out of their slots, (Q, B, C, ...) -> (Q, M, ...)."""
        return padded[:, self.stretch, self.slot]


def visible_window(prefix_BC: Tensor, length: int, window: int) -> tuple[Tensor, Tensor]:
    """Say which events a candidate may read: the last `window` of its prefix.

    Args:
        prefix_BC: Visible events of each candidate's stretch.
        length: T, events in the padded stretch.
        window: W.

    Returns:
        (B, C, T) bool, and (B, C, T) how many events back from the newest visible one.
    """
    back_BCT = prefix_BC.unsqueeze(-1) - 1 - torch.arange(length, device=prefix_BC.device)
    return (back_BCT >= 0) & (back_BCT < window), back_BCT


def lag_s(now_s_BQ: Tensor, then_s_BK: Tensor) -> Tensor:
    """Return the seconds between each two times, (B, Q, K) float32.

    Args:
        now_s_BQ: float64 seconds, NaN unknown.
        then_s_BK: Likewise.

    Returns:
        0 where either time is unknown, or `then` is later.
    """
    now_s_BQ = torch.nan_to_num(now_s_BQ, nan=-torch.inf)
    then_s_BK = torch.nan_to_num(then_s_BK, nan=torch.inf)
    return (now_s_BQ.unsqueeze(2) - then_s_BK.unsqueeze(1)).float().clamp_(min=0)


def bends(amounts: Tensor, knots: tuple[float, ...]) -> Tensor:
    """Turn amounts into numbers that a linear map makes a bent line of, over their logarithm.

        relu(log2(1 + amount) - knot) / 10 per knot

    Args:
        amounts: (...) at least 0.
        knots: Where the slope may change, in log2.

    Returns:
        (knots, ...).

    >>> bends(torch.tensor([3.0]), (0.0, 1.5)).mul(10).flatten()
    tensor([2.0000, 0.5000])
    """
    logs = torch.log1p(amounts)
    below = torch.tensor(knots, dtype=logs.dtype, device=logs.device).div(-10)
    of_knots = below.view(-1, *[1] * logs.dim())
    return torch.add(of_knots, logs, alpha=1 / (10 * math.log(2))).clamp_(min=0)


def weighted(weights_HF: Tensor, features_BFQK: Tensor) -> Tensor:
    """Return (B, H, Q K) weighted sums of features."""
    return torch.bmm(weights_HF.expand(len(features_BFQK), -1, -1), features_BFQK.flatten(2))
