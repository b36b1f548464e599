"""GRU4Rec: a recurrent state goes through the past; the last one is the viewer.

    h_j = GRU(h_(j-1), x_j) over the events that are read; what is not read leaves h as it was

After Hidasi et al., ICLR 2016 (arXiv 1511.06939). The state remembers from the viewer's first event
on, so `history_length` bounds which state is read, not what went into it. Is read by `choice`. No
I/O.
"""

import torch
from torch import Tensor, nn

from skipwise.model.encoder_settings import EncoderSettings


class RecurrentEncoder(nn.Module):
    """One GRU over the events that are read."""

    def __init__(self, width: int, settings: EncoderSettings) -> None:
        super().__init__()
        self.recurrent = nn.GRU(width, width, num_layers=settings.blocks, batch_first=True)

    def forward(
        self, events_BTD: Tensor, groups_BT: Tensor, time_s_BT: Tensor, valid_BT: Tensor
    ) -> Tensor:
        """Return the state after each event, (B, T, D)."""
        del groups_BT, time_s_BT
        read_first_BT = (~valid_BT).long().argsort(dim=1, stable=True)
        states_BTD, _ = self.recurrent(_take(events_BTD, read_first_BT))
        num_read_BT = valid_BT.long().cumsum(1)
        state_BTD = _take(states_BTD, (num_read_BT - 1).clamp(min=0))
        return state_BTD * (num_read_BT > 0).unsqueeze(-1)


def _take(values_BTD: Tensor, place_BT: Tensor) -> Tensor:
    return torch.take_along_dim(values_BTD, place_BT.unsqueeze(-1), dim=1)
