"""What a viewer's past says about a candidate: the feedback-aware encoder (docs/model.md).

    events_BTD, feedback groups, times  ->  HistoryEncoder    ->  history_BTD
    history_BTD, candidates, prefixes   ->  CandidateReader   ->  liking_MD (u+), disliking_MD (u-)

- Attention knows the feedback pair: that a skip follows a skip is not the same as that a like does.
- An encoded event depends only on events up to it, so an encoded history only ever grows.
- A candidate reads the last W visible events and nothing else; with none visible it reads a learned
  "no past".
- Never on padding: what stands there changes nothing, bit for bit up to rounding.
- B stretches, T events, M candidates, D width, H heads, G feedback groups (neutral, neg, pos).

Equations are ours, after DFAR (arXiv 2305.09142), TWIN (arXiv 2302.02352) and PEPNet (arXiv
2302.01115); the module is that of arXiv 2308.13249. Is read by `recommender`. No I/O.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from skipwise.errors import SettingError
from skipwise.settings import check_setting

NUM_GROUPS = 3
LAG_KNOTS = (0.0, 6.0, 12.0, 16.5)
"""Where the slope over log2 seconds may change: a second, a minute, an hour, a day."""
STEP_KNOTS = (0.0, 2.0, 5.0)
"""Where the slope over log2 events may change."""
NUM_DISTANCES = 1 + len(LAG_KNOTS) + len(STEP_KNOTS)
"""Numbers that say how far back an event lies: is the time unknown, lag, steps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderSettings:
    """Size and reach of the feedback-aware encoder."""

    history_length: int = 200
    """W: how many visible events a candidate, and an event, reads back."""
    blocks: int = 1
    """Causal self-attention blocks."""
    heads: int = 2
    dropout: float = 0.1
    pair_biases: bool = True
    """Whether attention knows the feedback pair of the two events."""
    two_queries: bool = True
    """Whether the candidate asks twice, as if watched (q+) and as if skipped (q-), or once."""
    encode: bool = True
    """Whether past events are encoded by the blocks before they are read."""

    def __post_init__(self) -> None:
        check_setting("encoder.history_length", self.history_length, at_least=1, at_most=10_000)
        check_setting("encoder.blocks", self.blocks, at_least=1, at_most=12)
        check_setting("encoder.heads", self.heads, at_least=1, at_most=64)
        check_setting("encoder.dropout", self.dropout, at_least=0, below=1)

    @property
    def reach(self) -> int:
        """How many events back from its prefix a candidate depends on: W + blocks (W - 1)."""
        return self.history_length + (self.blocks if self.encode else 0) * (self.history_length - 1)


def check_heads(width: int, settings: EncoderSettings) -> None:
    """Refuse a width that the heads do not divide.

    Raises:
        SettingError: `width` is not a multiple of `heads`.
    """
    if width % settings.heads:
        raise SettingError(
            f"width = {width} is not a multiple of encoder.heads = {settings.heads}; each head "
            "takes an equal share of the width. Change one of them."
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
        self, events_BTD: Tensor, groups_BT: Tensor, time_s_BT: Tensor, valid_BT: Tensor
    ) -> Tensor:
        """Encode every event of every stretch.

        Args:
            events_BTD: Embedded events, oldest first.
            groups_BT: Feedback group of each, 0 to 2.
            time_s_BT: float64 seconds, NaN where unknown.
            valid_BT: False on padding, which stands at the end.

        Returns:
            history_BTD; z_j depends on events up to j alone.
        """
        length = events_BTD.shape[1]
        place_T = torch.arange(length, device=events_BTD.device)
        back_TT = place_T[:, None] - place_T[None, :]
        seen_BTT = ((back_TT >= 0) & (back_TT < self.window)) & valid_BT[:, None, :]
        seen_BTT = seen_BTT | (back_TT == 0)  # padding reads itself, so that no row is empty
        pairs = _Pairs(
            far_BTTF=distance_features(
                time_s_BT[:, :, None] - time_s_BT[:, None, :], back_TT.unsqueeze(0)
            ),
            hidden_B1TT=torch.zeros_like(seen_BTT, dtype=events_BTD.dtype)
            .masked_fill_(~seen_BTT, -torch.inf)
            .unsqueeze(1),
            groups_BTG=functional.one_hot(groups_BT, NUM_GROUPS).to(events_BTD.dtype),
        )
        for block in self.blocks:
            events_BTD = block(events_BTD, pairs)
        encoded: Tensor = self.norm(events_BTD)
        return encoded


class CandidateReader(nn.Module):
    """Reads an encoded history with a candidate, supposing it is watched (q+) or skipped (q-).

    The logit of event j for candidate i adds learned biases of what they share (video, author,
    topic), by j's feedback group, and of the time between them.
    """

    def __init__(self, width: int, settings: EncoderSettings) -> None:
        super().__init__()
        check_heads(width, settings)
        self.heads, self.window = settings.heads, settings.history_length
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)
        self.no_past = nn.Parameter(torch.randn(2 * width) / math.sqrt(width))
        self.match = nn.Parameter(torch.zeros(settings.heads, NUM_MATCHES, NUM_GROUPS))
        self.group = nn.Parameter(torch.zeros(settings.heads, NUM_GROUPS))
        self.distance = nn.Linear(NUM_DISTANCES, settings.heads, bias=False)
        nn.init.zeros_(self.distance.weight)
        self.norm = nn.LayerNorm(width)

    def forward(self, queries_QMD: Tensor, history_BTD: Tensor, reading: "Reading") -> Tensor:
        """Read the visible past once per query.

        Args:
            queries_QMD: Q queries for each of the M candidates.
            history_BTD: From `HistoryEncoder`.
            reading: Which events each candidate may read, and what they share with it.

        Returns:
            (Q, M, D) readings.
        """
        read_QMD, _ = self.attend(queries_QMD, history_BTD, reading)
        return read_QMD

    def attend(
        self, queries_QMD: Tensor, history_BTD: Tensor, reading: "Reading"
    ) -> tuple[Tensor, Tensor]:
        """Read, and return also the attention (Q, M, H, 1 + T), whose place 0 is "no past"."""
        width = queries_QMD.shape[-1]
        per_head = width // self.heads
        scale = 1 / math.sqrt(per_head)
        query_QMHd = self.query(queries_QMD).unflatten(-1, (self.heads, per_head)) * scale
        query_QBHCd = reading.pad(query_QMHd).transpose(2, 3)
        key_BHTd, value_BHTd = (
            part.unflatten(-1, (self.heads, per_head)).transpose(1, 2)
            for part in self.key_value(history_BTD).chunk(2, dim=-1)
        )
        no_key_Hd, no_value_Hd = (part.view(self.heads, per_head) for part in self.no_past.chunk(2))
        logits_QBHCT = query_QBHCd @ key_BHTd.transpose(-1, -2) + self._biases(reading)
        no_past_QBHC1 = torch.einsum("qbhcd,hd->qbhc", query_QBHCd, no_key_Hd).unsqueeze(-1)
        weights = torch.cat([no_past_QBHC1, logits_QBHCT], -1).softmax(-1)
        read_QBHCd = weights[..., 1:] @ value_BHTd + weights[..., :1] * no_value_Hd[:, None, :]
        read_QMHd = reading.flat(read_QBHCd.transpose(2, 3))
        attention_QMHT = reading.flat(weights.transpose(2, 3))
        return self.norm(self.output(read_QMHd.flatten(2))), attention_QMHT

    def _biases(self, reading: "Reading") -> Tensor:
        """Return (B, H, C, T) biases of group, matches, lag and distance; -inf where hidden."""
        by_group_BCTNG = torch.einsum("hng,btg->bthn", self.match, reading.groups_BTG)
        bias_BCTH = torch.einsum("bthn,bctn->bcth", by_group_BCTNG, reading.matches_BCTN)
        bias_BCTH = bias_BCTH + (reading.groups_BTG @ self.group.T).unsqueeze(1)
        bias_BCTH = bias_BCTH + self.distance(reading.far_BCTF)
        hidden_BCT1 = ~reading.visible_BCT.unsqueeze(-1)
        masked: Tensor = bias_BCTH.masked_fill(hidden_BCT1, -torch.inf)
        return masked.permute(0, 3, 1, 2)


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
    matches_BCTN: Tensor
    groups_BTG: Tensor
    far_BCTF: Tensor
    """From `distance_features`."""

    def pad(self, values: Tensor) -> Tensor:
        """Lay flat candidates out in slots, (Q, M, ...) -> (Q, B, C, ...), zeros where none is."""
        shape = (len(values), self.num_stretches, self.num_slots, *values.shape[2:])
        padded = values.new_zeros(shape)
        padded[:, self.stretch, self.slot] = values
        return padded

    def flat(self, padded: Tensor) -> Tensor:
        """Take the candidates out of their slots, (Q, B, C, ...) -> (Q, M, ...)."""
        return padded[:, self.stretch, self.slot]


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


def distance_features(lag_s: Tensor, steps: Tensor) -> Tensor:
    """Say how far back an event lies, as numbers that a linear map turns into a bias.

        is the time unknown; relu(log2(1 + lag) - knot) / 10; relu(log2(1 + steps) - knot) / 10

    Args:
        lag_s: Seconds, any shape; NaN where a time is unknown; below 0 counts as 0.
        steps: Events, a shape that broadcasts to it; below 0 counts as 0.

    Returns:
        (..., NUM_DISTANCES) float32; a slope that may change at each knot.

    >>> distance_features(torch.tensor([3.0]), torch.tensor([1])).mul(10).tolist()[0][:3]
    [0.0, 2.0, 0.0]
    """
    unknown = lag_s.isnan()
    log_lag = torch.log2(1 + torch.nan_to_num(lag_s, nan=0.0).clamp(min=0)).float() / 10
    log_step = torch.log2(1 + steps.clamp(min=0).float()).expand(lag_s.shape) / 10
    return torch.stack(
        [
            unknown.float(),
            *((log_lag - knot / 10).clamp(min=0) for knot in LAG_KNOTS),
            *((log_step - knot / 10).clamp(min=0) for knot in STEP_KNOTS),
        ],
        dim=-1,
    )


@dataclass(frozen=True, slots=True)
class _Pairs:
    """What attention knows of each pair of events."""

    far_BTTF: Tensor
    hidden_B1TT: Tensor
    groups_BTG: Tensor


class _Block(nn.Module):
    def __init__(self, width: int, settings: EncoderSettings) -> None:
        super().__init__()
        heads, per_head = settings.heads, width // settings.heads
        self.heads, self.per_head, self.pair_biases = heads, per_head, settings.pair_biases
        self.norm_attention, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.pair_key = nn.Parameter(torch.zeros(NUM_GROUPS, NUM_GROUPS, heads, per_head))
        self.pair_value = nn.Parameter(torch.zeros(NUM_GROUPS, NUM_GROUPS, heads, per_head))
        self.pair = nn.Parameter(torch.zeros(NUM_GROUPS, NUM_GROUPS, heads))
        self.distance = nn.Linear(NUM_DISTANCES, heads, bias=False)
        nn.init.zeros_(self.distance.weight)
        self.feed = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, events_BTD: Tensor, pairs: _Pairs) -> Tensor:
        query, key, value = (
            part.unflatten(-1, (self.heads, self.per_head)).transpose(1, 2)
            for part in self.query_key_value(self.norm_attention(events_BTD)).chunk(3, dim=-1)
        )
        logits_BHTT = query @ key.transpose(-1, -2) / math.sqrt(self.per_head)
        logits_BHTT = logits_BHTT + self.distance(pairs.far_BTTF).permute(0, 3, 1, 2)
        logits_BHTT = logits_BHTT + pairs.hidden_B1TT
        if self.pair_biases:
            logits_BHTT = logits_BHTT + self._pair_logits(query, pairs.groups_BTG)
        weights_BHTT = logits_BHTT.softmax(-1)
        read_BHTd = weights_BHTT @ value
        if self.pair_biases:
            read_BHTd = read_BHTd + self._pair_values(weights_BHTT, pairs.groups_BTG)
        read_BTD = read_BHTd.transpose(1, 2).flatten(2)
        events_BTD = events_BTD + self.dropout(self.output(read_BTD))
        fed: Tensor = events_BTD + self.dropout(self.feed(self.norm_feed(events_BTD)))
        return fed

    def _pair_logits(self, query_BHTd: Tensor, groups_BTG: Tensor) -> Tensor:
        """Return q_i . R_k[g_i, g_j] / sqrt(d_h) + B[g_i, g_j], (B, H, T, T)."""
        pair_key_BTGHd = torch.einsum("btg,gkhd->btkhd", groups_BTG, self.pair_key)
        by_group = torch.einsum("bhtd,btkhd->bhtk", query_BHTd, pair_key_BTGHd) / math.sqrt(
            self.per_head
        )
        by_group = by_group + torch.einsum("btg,gkh->bhtk", groups_BTG, self.pair)
        return by_group @ groups_BTG.transpose(1, 2).unsqueeze(1)

    def _pair_values(self, weights_BHTT: Tensor, groups_BTG: Tensor) -> Tensor:
        """Return sum_j a_ij R_v[g_i, g_j], (B, H, T, d_h)."""
        share_BHTK = weights_BHTT @ groups_BTG.unsqueeze(1)
        pair_value_BTKHd = torch.einsum("btg,gkhd->btkhd", groups_BTG, self.pair_value)
        return torch.einsum("bhtk,btkhd->bhtd", share_BHTK, pair_value_BTKHd)
