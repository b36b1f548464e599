"""DFAR-like: a head per pair of feedbacks, then one interest from watches and one from skips.

    head (a, b): an event of feedback a attends to the events of feedback b up to it alone
    u+ = attention of the candidate over the watched events, u- = over the skipped ones

After "Dual-interest Factorization-heads Attention" (arXiv 2305.09142), whose factorised heads it
keeps, with two corrections: attention is **causal** (an event never reads a later one), and the
interest in what was skipped keeps its **sign**: it is a reading of its own which every objective
may weigh either way, not one that is added to the liking. An event that is no skip counts as
watched. The contrast between the two interests is `loss.decorrelation`.

Is read by `choice`. No I/O.
"""

import math

import torch
from torch import Tensor, nn

from skipwise.labels.feedback import Group
from skipwise.model.encoder_settings import EncoderSettings, check_heads
from skipwise.model.encoders.last import past_of_candidates
from skipwise.model.products import Linear
from skipwise.model.reader import Reader
from skipwise.model.reading import Reading

NUM_KINDS = 2
"""Watched and skipped."""


class FactorisedHeads(nn.Module):
    """Causal attention whose heads each know one pair of feedbacks."""

    def __init__(self, width: int, settings: EncoderSettings) -> None:
        super().__init__()
        self.window = settings.history_length
        self.blocks = nn.ModuleList(_Block(width, settings) for _ in range(settings.blocks))
        self.norm = nn.LayerNorm(width)

    def forward(
        self, events_BTD: Tensor, groups_BT: Tensor, time_s_BT: Tensor, valid_BT: Tensor
    ) -> Tensor:
        """Encode every event from those up to it, (B, T, D) -> (B, T, D)."""
        del time_s_BT
        place_T = torch.arange(events_BTD.shape[1], device=events_BTD.device)
        back_TT = place_T[:, None] - place_T[None, :]
        seen_BTT = ((back_TT >= 0) & (back_TT < self.window)) & valid_BT[:, None, :]
        skipped_BT = groups_BT == Group.NEG
        for block in self.blocks:
            events_BTD = block(events_BTD, seen_BTT, skipped_BT)
        encoded: Tensor = self.norm(events_BTD)
        return encoded


class InterestReader(Reader):
    """Reads what was watched and what was skipped apart, each by the candidate's attention."""

    def __init__(self, width: int, settings: EncoderSettings) -> None:
        super().__init__()
        check_heads(width, settings)
        self.query, self.key_value = Linear(width, width), Linear(width, 2 * width)
        self.no_past = nn.Parameter(torch.randn(NUM_KINDS, width) / math.sqrt(width))
        self.skipped_share = Linear(width, 1)
        self.norm = nn.LayerNorm(width)

    def attend(
        self, queries_QMD: Tensor, history_BTD: Tensor, reading: Reading
    ) -> tuple[Tensor, Tensor]:
        """Return u+ and u-, (2, M, D), and where they look, (2, M, 1, 1 + T)."""
        event_MTD, visible_MT = past_of_candidates(
            queries_QMD, self.key_value(history_BTD), reading
        )
        key_MTD, value_MTD = event_MTD.chunk(2, dim=-1)
        skipped_MT = reading.of_candidates(reading.groups_BTG[..., Group.NEG].bool())
        readings, attentions = [], []
        for kind, among_MT in enumerate((visible_MT & ~skipped_MT, visible_MT & skipped_MT)):
            query_MD = self.query(queries_QMD[min(kind, len(queries_QMD) - 1)])
            logits_MT = torch.einsum("md,mtd->mt", query_MD, key_MTD)
            logits_MT = (logits_MT / math.sqrt(query_MD.shape[-1])).masked_fill(
                ~among_MT, -torch.inf
            )
            nothing_M1 = (query_MD @ self.no_past[kind]).unsqueeze(1) / math.sqrt(
                query_MD.shape[-1]
            )
            attention_MT = torch.cat([nothing_M1, logits_MT], 1).softmax(-1)
            read_MD = torch.einsum("mt,mtd->md", attention_MT[:, 1:], value_MTD)
            readings.append(self.norm(read_MD + attention_MT[:, :1] * self.no_past[kind]))
            attentions.append(attention_MT)
        return torch.stack(readings), torch.stack(attentions).unsqueeze(2)


class _Block(nn.Module):
    """One head for each (feedback of the reader, feedback of what is read)."""

    def __init__(self, width: int, settings: EncoderSettings) -> None:
        super().__init__()
        self.norm_attention, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = Linear(width, 3 * width)
        self.output = Linear(NUM_KINDS * NUM_KINDS * width, width)
        self.feed = nn.Sequential(Linear(width, width), nn.ReLU(), Linear(width, width))
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, events_BTD: Tensor, seen_BTT: Tensor, skipped_BT: Tensor) -> Tensor:
        query_BTD, key_BTD, value_BTD = self.query_key_value(self.norm_attention(events_BTD)).chunk(
            3, dim=-1
        )
        logits_BTT = query_BTD @ key_BTD.transpose(1, 2) / math.sqrt(query_BTD.shape[-1])
        heads = []
        for reader_BT in (~skipped_BT, skipped_BT):
            for read_BT in (~skipped_BT, skipped_BT):
                pair_BTT = seen_BTT & reader_BT[:, :, None] & read_BT[:, None, :]
                heads.append(_attention(logits_BTT, pair_BTT) @ value_BTD)
        events_BTD = events_BTD + self.dropout(self.output(torch.cat(heads, -1)))
        fed: Tensor = events_BTD + self.dropout(self.feed(self.norm_feed(events_BTD)))
        return fed


def _attention(logits_BTT: Tensor, pair_BTT: Tensor) -> Tensor:
    """Return weights over the marked pairs, (B, T, T); all 0 in a row without one."""
    some_BT1 = pair_BTT.any(-1, keepdim=True)
    return logits_BTT.masked_fill(~pair_BTT & some_BT1, -torch.inf).softmax(-1) * pair_BTT
