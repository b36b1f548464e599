"""How candidates are laid out to read: in rows of slots, beside the events that they may read.

    stretch, prefix (M,)  ->  reading_rows  ->  Rows: a row and a slot for each candidate

- A short stretch is one row, beside all its events. A long one is several: candidates whose prefix
  ends in the same block of events, counted from the shortest prefix, share a row of W + BLOCK
  events, so that what is read grows with the window, not with the stretch.
- M candidates, B stretches, T events; R rows, S slots, K events beside a row.

Is read by `recommender`. No I/O.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 32
"""Candidates whose prefixes end within so many events of each other share a row."""
SLOTS_AT_MOST = 64
"""Candidates of a row of a long stretch."""

SLOTS_BY = 8
"""Such rows have a multiple of so many slots: products of few shapes (`products`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """Where each candidate stands, and which events each row has beside it."""

    row: Tensor
    """(M,)"""
    slot: Tensor
    """(M,)"""
    shape: tuple[int, int]
    """(R, S)"""
    first: Tensor
    """(R,) place, in its stretch, of the first event beside the row; below 0 before all of them."""
    place_K: Tensor
    """(K,) 0, 1, ..."""
    events_RK: Tensor | None
    """Which event of all B T; None where rows are stretches. Places outside are the first event."""
    outside_RK: Tensor | None
    """Where there is no event."""

    def of_events(self, values_BT: Tensor) -> Tensor:
        """Return what each row has beside it, (B, T) -> (R, K); 0 or False where there is none."""
        if self.events_RK is None or self.outside_RK is None:
            return values_BT
        return values_BT.flatten()[self.events_RK].masked_fill(self.outside_RK, 0)


def reading_rows(
    stretch: Tensor, prefix: Tensor, events: torch.Size, window: int, in_rows: bool
) -> Rows:
    """Lay M candidates out.

    Args:
        stretch: (M,) non-decreasing stretch numbers.
        prefix: (M,) how many events of its stretch each may read.
        events: (B, T)
        window: W, how many of them it does read.
        in_rows: Whether a long stretch may take several rows.
    """
    num_stretches, length = events
    if not in_rows or length < window + 2 * BLOCK:
        slot, num_slots = slots_of(stretch, num_stretches)
        place = torch.arange(length, device=stretch.device)
        return Rows(
            row=stretch,
            slot=slot,
            shape=(num_stretches, num_slots),
            first=place.new_zeros(num_stretches),
            place_K=place,
            events_RK=None,
            outside_RK=None,
        )
    lowest_B = prefix.new_full((num_stretches,), length)
    lowest_B = lowest_B.scatter_reduce(0, stretch, prefix, "amin")
    key = stretch * (length // BLOCK + 1) + (prefix - lowest_B[stretch]) // BLOCK
    order = torch.argsort(key, stable=True)
    groups, group, _ = torch.unique_consecutive(key[order], return_inverse=True, return_counts=True)
    place_in_group, _ = slots_of(group, len(groups))
    part = group * (len(stretch) + 1) + place_in_group // SLOTS_AT_MOST
    parts, row, numbers = torch.unique_consecutive(part, return_inverse=True, return_counts=True)
    key_R = groups[parts // (len(stretch) + 1)]
    stretch_R = key_R // (length // BLOCK + 1)
    first = lowest_B[stretch_R] + key_R % (length // BLOCK + 1) * BLOCK - window
    place_K = torch.arange(window + BLOCK, device=stretch.device)
    within_RK = first[:, None] + place_K
    outside_RK = (within_RK < 0) | (within_RK >= length)
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    return Rows(
        row=row[back],
        slot=(place_in_group % SLOTS_AT_MOST)[back],
        shape=(len(parts), -(-int(numbers.max()) // SLOTS_BY) * SLOTS_BY),
        first=first,
        place_K=place_K,
        events_RK=stretch_R[:, None] * length + within_RK.masked_fill(outside_RK, 0),
        outside_RK=outside_RK,
    )


def slots_of(stretch: Tensor, num_stretches: int) -> tuple[Tensor, int]:
    """Number the candidates of each stretch.

    Args:
        stretch: (M,) non-decreasing stretch numbers.
        num_stretches: B.

    Returns:
        (M,) places within the stretch, and the largest number of candidates of one stretch.
    """
    number_B = torch.bincount(stretch, minlength=num_stretches)
    first_B = number_B.cumsum(0) - number_B
    places = torch.arange(len(stretch), device=stretch.device) - first_B[stretch]
    return places, int(number_B.max())
