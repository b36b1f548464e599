"""SASRec: causal self-attention; the last state is the viewer.

    logit_ij = q_i . k_j / sqrt(d_h) - slope_h (i - j),  j <= i,  then a feed-forward block

After Kang and McAuley, ICDM 2018 (arXiv 1808.09781). Places are told by a slope per head (ALiBi,
Press et al., ICLR 2022) and not by a table of places: a stretch may begin anywhere in a viewer's
history, and a state must not depend on where. Is read by `choice`. No I/O.
"""

import math

import torch
from torch import Tensor, nn

from skipwise.model.encoder_settings import EncoderSettings, check_heads
from skipwise.model.products import Linear


class SelfAttention(nn.Module):
    """Causal self-attention blocks over the events that are read."""

    def __init__(self, width: int, settings: EncoderSettings) -> None:
        super().__init__()
        check_heads(width, settings)
        self.window = settings.history_length
        self.blocks = nn.ModuleList(_Block(width, settings) for _ in range(settings.blocks))
        self.norm = nn.LayerNorm(width)

    def forward(
        self, events_BTD: Tensor, groups_BT: Tensor, time_s_BT: Tensor, valid_BT: Tensor
    ) -> Tensor:
        """Encode every event from those up to it, (B, T, D) -> (B, T, D)."""
        del groups_BT, time_s_BT
        place_T = torch.arange(events_BTD.shape[1], device=events_BTD.device)
        back_TT = place_T[:, None] - place_T[None, :]
        seen_BTT = ((back_TT >= 0) & (back_TT < self.window)) & valid_BT[:, None, :]
        hidden_BTT = ~(seen_BTT | (back_TT == 0))  # what is not read reads itself: no row is empty
        for block in self.blocks:
            events_BTD = block(events_BTD, hidden_BTT, back_TT)
        encoded: Tensor = self.norm(events_BTD)
        return encoded


class _Block(nn.Module):
    def __init__(self, width: int, settings: EncoderSettings) -> None:
        super().__init__()
        self.heads, self.per_head = settings.heads, width // settings.heads
        self.norm_attention, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = Linear(width, 3 * width)
        self.output = Linear(width, width)
        self.feed = nn.Sequential(Linear(width, width), nn.ReLU(), Linear(width, width))
        self.dropout = nn.Dropout(settings.dropout)
        self.slopes: Tensor
        self.register_buffer(
            "slopes", 2.0 ** -torch.arange(1, settings.heads + 1), persistent=False
        )

    def forward(self, events_BTD: Tensor, hidden_BTT: Tensor, back_TT: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(-1, (self.heads, self.per_head)).transpose(1, 2)
            for part in self.query_key_value(self.norm_attention(events_BTD)).chunk(3, dim=-1)
        )
        logits_BHTT = query @ key.transpose(-1, -2) / math.sqrt(self.per_head)
        logits_BHTT = logits_BHTT - self.slopes[:, None, None] * back_TT
        weights_BHTT = logits_BHTT.masked_fill(hidden_BTT.unsqueeze(1), -torch.inf).softmax(-1)
        read_BTD = (weights_BHTT @ value).transpose(1, 2).flatten(2)
        events_BTD = events_BTD + self.dropout(self.output(read_BTD))
        fed: Tensor = events_BTD + self.dropout(self.feed(self.norm_feed(events_BTD)))
        return fed
