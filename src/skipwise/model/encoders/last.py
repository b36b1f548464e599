"""The plainest ways to read a past: its last state, or nothing at all.

    history_BTD, reading  ->  LastEventReader  ->  the state of the newest visible event
                              NoPastReader     ->  one learned vector for everybody

- With nothing visible the last state is a learned "no past".

Is read by `choice`. No I/O.
"""

import math

import torch
from torch import Tensor, nn

from skipwise.model.encoder_settings import EncoderSettings
from skipwise.model.reader import Reader
from skipwise.model.reading import Reading


class Unencoded(nn.Module):
    """Leaves events as they are embedded."""

    def __init__(self, width: int, settings: EncoderSettings) -> None:
        super().__init__()
        del width, settings

    def forward(
        self, events_BTD: Tensor, groups_BT: Tensor, time_s_BT: Tensor, valid_BT: Tensor
    ) -> Tensor:
        """Return the events."""
        del groups_BT, time_s_BT, valid_BT
        return events_BTD


class LastEventReader(Reader):
    """Reads the state of the newest visible event, whoever the candidate is."""

    def __init__(self, width: int, settings: EncoderSettings) -> None:
        super().__init__()
        del settings
        self.no_past = nn.Parameter(torch.randn(width) / math.sqrt(width))
        self.norm = nn.LayerNorm(width)

    def attend(
        self, queries_QMD: Tensor, history_BTD: Tensor, reading: Reading
    ) -> tuple[Tensor, Tensor]:
        """Return the last state, (1, M, D), and where it stands, (1, M, 1, 1 + T)."""
        event_MTD, visible_MT = past_of_candidates(queries_QMD, history_BTD, reading)
        newer_MT = visible_MT.flip(-1).long().cumsum(-1).flip(-1)
        place_MT = (visible_MT & (newer_MT == 1)).to(event_MTD)
        nothing_M1 = 1 - place_MT.sum(1, keepdim=True)
        last_MD = torch.einsum("mt,mtd->md", place_MT, event_MTD)
        read_MD = self.norm(last_MD + nothing_M1 * self.no_past)
        return read_MD[None], torch.cat([nothing_M1, place_MT], 1)[None, :, None]


class NoPastReader(Reader):
    """Reads nothing: what candidates, context and counters say without a history."""

    def __init__(self, width: int, settings: EncoderSettings) -> None:
        super().__init__()
        del settings
        self.no_past = nn.Parameter(torch.randn(width) / math.sqrt(width))

    def attend(
        self, queries_QMD: Tensor, history_BTD: Tensor, reading: Reading
    ) -> tuple[Tensor, Tensor]:
        """Return (1, M, D) of the same vector, and all attention on "no past"."""
        del reading
        number, length = queries_QMD.shape[1], history_BTD.shape[1]
        attention = history_BTD.new_zeros(1, number, 1, 1 + length)
        attention[..., 0] = 1
        return self.no_past.expand(1, number, -1), attention


def past_of_candidates(
    queries_QMD: Tensor, history_BTD: Tensor, reading: Reading
) -> tuple[Tensor, Tensor]:
    """Lay each candidate's past out beside it.

    Returns:
        (M, T, D) the events of its stretch, and (M, T) which of them it may read.
    """
    number = queries_QMD.shape[1]
    event_MTD = reading.of_candidates(history_BTD).expand(number, -1, -1)
    return event_MTD, reading.visible_to_candidates().expand(number, -1)
