"""What a viewer's past says about a candidate: the feedback-aware encoder (docs/model.md).

    events_BTD, feedback groups, times  ->  HistoryEncoder          ->  history_BTD
    new events, what came before        ->  HistoryEncoder.follow   ->  their history_BTD

- Attention knows the feedback pair: that a skip follows a skip is not the same as that a like does.
- An encoded event depends only on events up to it, so an encoded history only ever grows.
- Never on padding: what stands there changes nothing, bit for bit up to rounding.
- B stretches, T events, P events before them, S = P + T, L blocks, D width, H heads, G feedback
  groups (neutral, neg, pos).

Equations are ours, after DFAR (arXiv 2305.09142), TWIN (arXiv 2302.02352) and PEPNet (arXiv
2302.01115); the module is that of arXiv 2308.13249. Is read by `recommender`. No I/O.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from skipwise.model.attention import Places, attention
from skipwise.model.band import Band
from skipwise.model.dropout import Dropout
from skipwise.model.encoder_settings import EncoderSettings, check_heads
from skipwise.model.gradients import written_out
from skipwise.model.products import Linear
from skipwise.model.reading import (
    HIDDEN,
    LAG_KNOTS,
    NUM_DISTANCES,
    NUM_GROUPS,
    STEP_KNOTS,
    bends,
    lag_s,
)


class HistoryEncoder(nn.Module):
    """Causal self-attention over all exposures, aware of feedback pairs, time and distance.

    logit_ij = q_i . (k_j + R_k[g_i, g_j]) / sqrt(d_h) + B[g_i, g_j] + w . far(dt_ij, i - j)
    z_i      = x_i + sum_j softmax(logit)_ij (v_j + R_v[g_i, g_j]),  then a feed-forward block
    """

    def __init__(self, width: int, settings: EncoderSettings) -> None:
        super().__init__()
        check_heads(width, settings)
        self.window = settings.history_length
        self.blocks = nn.ModuleList(
            _Block(width, settings) for _ in range(settings.blocks if settings.encode else 0)
        )
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        events_BTD: Tensor,
        groups_BT: Tensor,
        time_s_BT: Tensor,
        valid_BT: Tensor,
        read_from: int = 0,
    ) -> Tensor:
        """Encode every event of every stretch that is read.

        Args:
            events_BTD: Embedded events, oldest first.
            groups_BT: Feedback group of each, 0 to 2.
            time_s_BT: float64 seconds, NaN where unknown.
            valid_BT: False on padding, which stands at the end.
            read_from: In [0, T): the first event of any stretch that a candidate reads. Those
                before it are only what others see of them: a block asks for no more of them than
                the blocks above it read.

        Returns:
            history_BTD; z_j depends on events up to j alone. What stands before `read_from` is not
            to be read: zeros, where there are blocks.
        """
        given_from, pairs = 0, None
        for number, block in enumerate(self.blocks, 1):
            asked_from = max(read_from - (len(self.blocks) - number) * (self.window - 1), 0)
            start = max(asked_from - self.window + 1, 0)
            if pairs is None or asked_from > given_from:
                band = Band.of(groups_BT.shape[1] - asked_from, self.window, asked_from - start)
                known = (groups_BT[:, start:], time_s_BT[:, start:], valid_BT[:, start:])
                pairs = self._pairs(band, *known)
            events_BTD = block(events_BTD[:, start - given_from :], pairs)
            given_from = asked_from
        encoded: Tensor = self.norm(events_BTD)
        return functional.pad(encoded, (0, 0, given_from, 0)) if given_from else encoded

    def follow(
        self,
        events_BTD: Tensor,
        before_LBPD: Tensor,
        groups_BS: Tensor,
        time_s_BS: Tensor,
        valid_BS: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Encode the events that follow others, as if all were encoded at once.

        Args:
            events_BTD: Embedded events, oldest first; at least one block is there.
            before_LBPD: What each block was given for the W - 1 events before them, or for as
                many as there are.
            groups_BS: Feedback group of each of those before and of the new ones.
            time_s_BS: float64 seconds, NaN where unknown.
            valid_BS: False on padding, which stands before all others, or after them.

        Returns:
            history_BTD, and what each block was given for the T events, (L, B, T, D).
        """
        band = Band.after(events_BTD.shape[1], before_LBPD.shape[2])
        pairs = self._pairs(band, groups_BS, time_s_BS, valid_BS)
        given = []
        for block, before_BPD in zip(self.blocks, before_LBPD, strict=True):
            given.append(events_BTD)
            events_BTD = block(torch.cat([before_BPD, events_BTD], 1), pairs)
        return self.norm(events_BTD), torch.stack(given)

    def _pairs(
        self, band: Band, groups_BS: Tensor, time_s_BS: Tensor, valid_BS: Tensor
    ) -> "_Pairs":
        kind = self.norm.weight.dtype
        back_QK = band.steps_back.to(time_s_BS.device)
        outside_QK = (back_QK < 0) | (back_QK >= self.window)
        asked_s_BT = band.ask(band.asking(time_s_BS), torch.nan)
        return _Pairs(
            band=band,
            lag_FBQK=bends(lag_s(asked_s_BT, band.read(time_s_BS, torch.nan)), LAG_KNOTS),
            step_FQK=bends(back_QK.clamp(min=0).to(kind), STEP_KNOTS),
            outside_QK=outside_QK.to(kind) * HIDDEN,
            groups_BSG=functional.one_hot(groups_BS, NUM_GROUPS).to(kind),
            hidden_BS=(~valid_BS).to(kind) * HIDDEN,
            timed_BS=(~time_s_BS.isnan()).to(kind),
        )


@dataclass(frozen=True, slots=True)
class _Pairs:
    """What attention knows of each pair of events, and of each event alone."""

    band: Band
    """Which pairs there are: each of Q events of a block, with K events."""
    lag_FBQK: Tensor
    step_FQK: Tensor
    outside_QK: Tensor
    """0 inside the window, HIDDEN after the event or too far back."""
    groups_BSG: Tensor
    hidden_BS: Tensor
    """0, or HIDDEN for an event that nobody may read."""
    timed_BS: Tensor
    """1 where the time is known."""


class _Block(nn.Module):
    def __init__(self, width: int, settings: EncoderSettings) -> None:
        super().__init__()
        heads, per_head = settings.heads, width // settings.heads
        self.heads, self.per_head, self.pair_biases = heads, per_head, settings.pair_biases
        self.norm_attention, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = Linear(width, 3 * width)
        self.output = Linear(width, width)
        self.pair_key = nn.Parameter(torch.zeros(NUM_GROUPS, NUM_GROUPS, heads, per_head))
        self.pair_value = nn.Parameter(torch.zeros(NUM_GROUPS, NUM_GROUPS, heads, per_head))
        self.pair = nn.Parameter(torch.zeros(NUM_GROUPS, NUM_GROUPS, heads))
        self.distance = nn.Linear(NUM_DISTANCES, heads, bias=False)
        nn.init.zeros_(self.distance.weight)
        self.feed = nn.Sequential(Linear(width, 2 * width), nn.GELU(), Linear(2 * width, width))
        self.dropout = Dropout(settings.dropout)

    def forward(self, events_BSD: Tensor, pairs: _Pairs) -> Tensor:
        query_BSD, key_value_BSX = torch.split(
            self.query_key_value(self.norm_attention(events_BSD)),
            [events_BSD.shape[-1], 2 * events_BSD.shape[-1]],
            -1,
        )
        shape = (*events_BSD.shape[:2], self.heads, self.per_head)
        query = query_BSD.view(shape)
        query_BTHd = pairs.band.asking(query) / math.sqrt(self.per_head)
        key_value_BS2Hd = key_value_BSX.view(*shape[:2], 2, *shape[2:])
        if written_out(events_BSD):
            read_BTHd = self._read_in_training(query_BTHd, key_value_BS2Hd, pairs)
        else:
            read_BTHd = self._read(query_BTHd, key_value_BS2Hd, pairs)
        if self.pair_biases:
            read_BTHd, share_BTHG = torch.split(read_BTHd, [self.per_head, NUM_GROUPS], -1)
            groups_BTG = pairs.band.asking(pairs.groups_BSG)
            read_BTHd = read_BTHd + self._pair_values(share_BTHG, groups_BTG)
        events_BTD = pairs.band.asking(events_BSD) + self.dropout(self.output(read_BTHd.flatten(2)))
        fed: Tensor = events_BTD + self.dropout(self.feed(self.norm_feed(events_BTD)))
        return fed

    def _read_in_training(
        self, query_BTHd: Tensor, key_value_BS2Hd: Tensor, pairs: _Pairs
    ) -> Tensor:
        """Return what `_read` does, through gradients written out by hand."""
        band, num_lags = pairs.band, len(LAG_KNOTS)
        timed_BT11 = band.asking(pairs.timed_BS)[:, :, None, None]
        unknown_BTH1 = self.distance.weight[:, 0, None] * timed_BT11
        said, own = [-unknown_BTH1, torch.ones_like(unknown_BTH1)], [pairs.timed_BS.unsqueeze(-1)]
        if self.pair_biases:
            said = [self._pair_logits(query_BTHd, band.asking(pairs.groups_BSG)), *said]
            own = [pairs.groups_BSG, *own]
        hidden_BK1 = band.read(pairs.hidden_BS, HIDDEN).unsqueeze(-1)
        places = Places(
            own_BSF=torch.cat([band.read(torch.cat(own, -1)), hidden_BK1], -1),
            shared=NUM_GROUPS if self.pair_biases else 0,
            lag_FN=pairs.lag_FBQK.flatten(1),
            before_BC=None,
            matched_L=None,
            alike=band.blocks > 1,
        )
        steps_HQK = torch.tensordot(self.distance.weight[:, 1 + num_lags :], pairs.step_FQK, 1)
        read_BQ1Hv = attention(
            band.ask(torch.cat([query_BTHd, *said], -1)).unsqueeze(2),
            band.read(key_value_BS2Hd),
            self.distance.weight[:, 1 : 1 + num_lags],
            steps_HQK + pairs.outside_QK,
            None,
            places,
        )
        return band.whole(read_BQ1Hv.squeeze(2))

    def _read(self, query_BTHd: Tensor, key_value_BS2Hd: Tensor, pairs: _Pairs) -> Tensor:
        """Return what each event reads, (B, T, H, d), and how much of each group, likewise."""
        key, value = key_value_BS2Hd.unbind(2)
        weights_BHQK = self._logits(query_BTHd, key, pairs).softmax(-1)
        if self.pair_biases:
            groups_BSHG = pairs.groups_BSG.unsqueeze(2).expand(-1, -1, self.heads, -1)
            value = torch.cat([value, groups_BSHG], -1)
        read_BHQd = weights_BHQK @ pairs.band.read(value).transpose(1, 2)
        return pairs.band.whole(read_BHQd.transpose(1, 2))

    def _logits(self, query_BTHd: Tensor, key_BSHd: Tensor, pairs: _Pairs) -> Tensor:
        """Return (B, H, Q, K) logits, up to a constant per row.

        What depends on the read event alone, or on a product of the two, rides along in a longer
        key: its group, its time being known, its being hidden. Lags are one small product.
        """
        timed_BT = pairs.band.asking(pairs.timed_BS)
        unknown_BTH1 = self.distance.weight[:, 0, None] * timed_BT[:, :, None, None]
        query_parts = [query_BTHd, -unknown_BTH1]
        own_parts = [pairs.timed_BS.unsqueeze(-1)]
        if self.pair_biases:
            groups_BTG = pairs.band.asking(pairs.groups_BSG)
            query_parts.append(self._pair_logits(query_BTHd, groups_BTG))
            own_parts.append(pairs.groups_BSG)
        own_BSHF = torch.cat(own_parts, -1).unsqueeze(2).expand(-1, -1, self.heads, -1)
        query = pairs.band.ask(torch.cat([*query_parts, torch.ones_like(unknown_BTH1)], -1))
        hidden_BKH1 = pairs.band.read(pairs.hidden_BS, HIDDEN)[:, :, None, None]
        key = torch.cat(
            [
                pairs.band.read(torch.cat([key_BSHd, own_BSHF], -1)),
                hidden_BKH1.expand(-1, -1, self.heads, -1),
            ],
            -1,
        )
        weights_HF, num_lags = self.distance.weight[:, 1:], len(LAG_KNOTS)
        steps_HQK = torch.tensordot(weights_HF[:, num_lags:], pairs.step_FQK, 1)
        biases_BHN = torch.baddbmm(
            (steps_HQK + pairs.outside_QK).flatten(1).unsqueeze(0),
            weights_HF[:, :num_lags].expand(len(query), -1, -1),
            pairs.lag_FBQK.transpose(0, 1).flatten(2),
        )
        shape = (len(query), self.heads, *pairs.outside_QK.shape)
        logits = torch.baddbmm(
            biases_BHN.view(-1, *shape[2:]),
            query.transpose(1, 2).flatten(0, 1),
            key.transpose(1, 2).flatten(0, 1).transpose(1, 2),
        )
        return logits.view(shape)

    def _pair_logits(self, query_BTHd: Tensor, groups_BTG: Tensor) -> Tensor:
        """Return q_i . R_k[g_i, g] / sqrt(d_h) + B[g_i, g] for each group g, (B, T, H, G)."""
        pair_key_HdK = self.pair_key.permute(2, 3, 0, 1).flatten(2)
        query_HNd = query_BTHd.flatten(0, 1).transpose(0, 1)
        every_HNK = torch.baddbmm(
            self.pair.permute(2, 0, 1).flatten(1).unsqueeze(1), query_HNd, pair_key_HdK
        )
        every_HNGG = every_HNK.view(self.heads, -1, NUM_GROUPS, NUM_GROUPS)
        chosen_HNG = (every_HNGG * groups_BTG.flatten(0, 1).unsqueeze(-1)).sum(-2)
        return chosen_HNG.transpose(0, 1).view(*query_BTHd.shape[:3], NUM_GROUPS)

    def _pair_values(self, share_BTHG: Tensor, groups_BTG: Tensor) -> Tensor:
        """Return sum_g share_ig R_v[g_i, g], (B, T, H, d_h)."""
        every_BTHGG = groups_BTG[:, :, None, :, None] * share_BTHG.unsqueeze(-2)
        every_HNK = every_BTHGG.flatten(3).flatten(0, 1).transpose(0, 1)
        pair_value_HKd = self.pair_value.permute(2, 0, 1, 3).flatten(1, 2)
        return torch.bmm(every_HNK, pair_value_HKd).transpose(0, 1).view(*share_BTHG.shape[:3], -1)
