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
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from skipwise.errors import SettingError
from skipwise.model.band import Band
from skipwise.model.dropout import Dropout
from skipwise.settings import check_choice, check_setting

Past = Literal["all", "positives"]
"""Which past events are read: all exposures, or those effective, long or liked."""

NUM_GROUPS = 3
LAG_KNOTS = (0.0, 6.0, 12.0, 16.5)
"""Where the slope over log2 seconds may change: a second, a minute, an hour, a day."""
STEP_KNOTS = (0.0, 2.0, 5.0)
"""Where the slope over log2 events may change."""
NUM_DISTANCES = 1 + len(LAG_KNOTS) + len(STEP_KNOTS)
"""Numbers that say how far back an event lies: is the time unknown, lag, steps."""
HIDDEN = -30_000.0
"""Logit of an event that may not be read: exp of it is 0 exactly, and sums of it stay finite."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """What must be known of an encoder before it is built."""

    past: Past = "positives"
    """Which past it reads in the form it was published in."""
    hops: Literal["none", "blocks", "endless"] = "none"
    """How a state depends on the events before it: not, through each block, or from the first."""
    queries: int = 1
    """How often the candidate asks at most."""


KINDS: Mapping[str, Kind] = {
    "feedback": Kind(past="all", hops="blocks", queries=2),
    "none": Kind(),
    "din": Kind(),
    "sasrec": Kind(hops="blocks"),
    "gru4rec": Kind(hops="endless"),
    "sine": Kind(),
    "dfar": Kind(past="all", hops="blocks", queries=2),
}
"""The encoders of `encoders.choice`: the feedback-aware one of this file, and baselines."""
WHOLE_HISTORY = 1_000_000_000
"""A reach beyond any history."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderSettings:
    """Which encoder, its size and its reach."""

    kind: str = "feedback"
    """One of KINDS."""
    past: Literal["own", "all", "positives"] = "own"
    """Which past events are read; `own` is what the kind was published with. Among the last
    `history_length` events either way."""
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
        check_choice("encoder.kind", self.kind, KINDS)
        check_setting("encoder.history_length", self.history_length, at_least=1, at_most=10_000)
        check_setting("encoder.blocks", self.blocks, at_least=1, at_most=12)
        check_setting("encoder.heads", self.heads, at_least=1, at_most=64)
        check_setting("encoder.dropout", self.dropout, at_least=0, below=1)

    @property
    def reach(self) -> int:
        """How many events back from its prefix a candidate depends on: W + blocks (W - 1)."""
        hops = KINDS[self.kind].hops
        if hops == "endless":
            return WHOLE_HISTORY
        encoded = hops == "blocks" and self.encode
        return self.history_length + (self.blocks if encoded else 0) * (self.history_length - 1)

    @property
    def queries(self) -> int:
        """How often a candidate asks: twice, as if watched and as if skipped, or once."""
        return KINDS[self.kind].queries if self.two_queries else 1

    @property
    def reads_positives_only(self) -> bool:
        """Whether events that were neither effective nor long nor liked are hidden."""
        return (KINDS[self.kind].past if self.past == "own" else self.past) == "positives"


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
        band = Band.of(events_BTD.shape[1], self.window)
        back_QK = band.steps_back.to(events_BTD.device)
        outside_QK = (back_QK < 0) | (back_QK >= self.window)
        pairs = _Pairs(
            band=band,
            lag_BFQK=bends(
                lag_s(band.ask(time_s_BT, torch.nan), band.read(time_s_BT, torch.nan)), LAG_KNOTS
            ),
            step_FQK=bends(back_QK.clamp(min=0).to(events_BTD.dtype).unsqueeze(0), STEP_KNOTS)[0],
            outside_QK=outside_QK.to(events_BTD.dtype) * HIDDEN,
            groups_BTG=functional.one_hot(groups_BT, NUM_GROUPS).to(events_BTD.dtype),
            hidden_BT=(~valid_BT).to(events_BTD.dtype) * HIDDEN,
            timed_BT=(~time_s_BT.isnan()).to(events_BTD.dtype),
        )
        for block in self.blocks:
            events_BTD = block(events_BTD, pairs)
        encoded: Tensor = self.norm(events_BTD)
        return encoded


class Reader(nn.Module):
    """What reads encoded events for a candidate; `CandidateReader` and those of `encoders`."""

    def attend(
        self, queries_QMD: Tensor, history_BTD: Tensor, reading: "Reading"
    ) -> tuple[Tensor, Tensor]:
        """Return Q readings of each candidate's visible past, and where they look.

        Args:
            queries_QMD: Q queries for each of the M candidates.
            history_BTD: Encoded events.
            reading: Which events each candidate may read, and what they share with it.

        Returns:
            (Q, M, D), or (1, M, D) where the queries make no difference; and (Q, M, H, 1 + T),
            whose place 0 is "no past".
        """
        raise NotImplementedError


class CandidateReader(Reader):
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
        width, heads = queries_QMD.shape[-1], self.heads
        per_head = width // heads
        query_QMHd = self.query(queries_QMD).unflatten(-1, (heads, per_head))
        query_QBHCd = reading.pad(query_QMHd / math.sqrt(per_head)).transpose(2, 3)
        key_BHSd, value_BHSd = self._keys_and_values(history_BTD, reading)
        logits_QBHCS = self._with_constants(query_QBHCd, reading) @ key_BHSd.transpose(-1, -2)
        weights = (logits_QBHCS + self._pair_biases(reading)).softmax(-1)
        read_QMHd = reading.flat((weights @ value_BHSd).transpose(2, 3))
        attention_QMHS = reading.flat(weights.transpose(2, 3))
        return self.norm(self.output(read_QMHd.flatten(2))), attention_QMHS

    def _keys_and_values(self, history_BTD: Tensor, reading: "Reading") -> tuple[Tensor, Tensor]:
        """Return (B, H, 1 + T, ...) keys and values, "no past" first.

        Whatever a bias says of the event alone rides along in the key, against a constant in the
        query (`_with_constants`): its group, whether its time is known, whether it is read at all.
        """
        num_stretches, heads = reading.num_stretches, self.heads
        per_head = history_BTD.shape[-1] // heads
        own_BTF = torch.cat(
            [
                reading.groups_BTG,
                torch.ones_like(reading.groups_BTG[..., :1]),
                (~reading.time_s_BT.isnan()).to(history_BTD.dtype).unsqueeze(-1),
            ],
            -1,
        )
        own_BHTF = own_BTF.unsqueeze(1).expand(-1, heads, -1, -1)
        key_BHTd, value_BHTd = (
            part.view(*part.shape[:-1], heads, per_head).transpose(1, 2)
            for part in reading.laid_out(self.key_value(history_BTD)).chunk(2, dim=-1)
        )
        no_key_H1d, no_value_H1d = (part.view(heads, 1, per_head) for part in self.no_past.chunk(2))
        no_key_H1d = functional.pad(no_key_H1d, (0, own_BTF.shape[-1]))
        key_BHSd = torch.cat(
            [
                no_key_H1d.expand(num_stretches, -1, -1, -1),
                torch.cat([key_BHTd, own_BHTF], -1),
            ],
            2,
        )
        value_BHSd = torch.cat([no_value_H1d.expand(num_stretches, -1, -1, -1), value_BHTd], 2)
        return key_BHSd, value_BHSd

    def _with_constants(self, query_QBHCd: Tensor, reading: "Reading") -> Tensor:
        """Put beside each query what it says to an event's group and to an unknown time.

        An unknown time adds w: to all events where the request's own is unknown, else w - w known.
        """
        shape = query_QBHCd.shape[:-1]
        group_QBHCG = self.group[:, None, :].expand(*shape, -1)
        unknown_H11 = self.distance.weight[:, :1, None]
        timed_BHC1 = (~reading.requested_s_BC.isnan()).to(query_QBHCd.dtype)[:, None, :, None]
        return torch.cat(
            [
                query_QBHCd,
                group_QBHCG,
                unknown_H11.expand(*shape, 1),
                (-unknown_H11 * timed_BHC1).expand(*shape, 1),
            ],
            -1,
        )

    def _pair_biases(self, reading: "Reading") -> Tensor:
        """Return (B, H, C, 1 + T) biases of lag, steps and matches; HIDDEN where nothing is read.

        Small matrices times tables of features, so that no tensor of pairs is made per head and
        feature. Where all candidates ask at one time, the first of them has one row for all.
        """
        num_lags = len(LAG_KNOTS)
        lag_HF, step_HF = self.distance.weight[:, 1:].tensor_split((num_lags,), 1)
        lag_BFCT = bends(lag_s(reading.requested_s_BC, reading.time_s_BT), LAG_KNOTS)
        step_BFCT = bends(reading.back_BCT.clamp(min=0).to(lag_BFCT.dtype), STEP_KNOTS)
        far_BHN = torch.baddbmm(
            _weighted(lag_HF, lag_BFCT),
            step_HF.expand(len(step_BFCT), -1, -1),
            step_BFCT.flatten(2),
        )
        hidden_B1CT = (~reading.visible_BCT).to(far_BHN.dtype).unsqueeze(1) * HIDDEN
        far_BHCT = far_BHN.view(*far_BHN.shape[:2], *step_BFCT.shape[2:]) + hidden_B1CT
        groups_B1G1T = reading.groups_BTG.transpose(1, 2).contiguous()[:, None, :, None, :]
        match_BFCT = (reading.matches_BNCT.unsqueeze(2) * groups_B1G1T).flatten(1, 2)
        match_BHN = _weighted(self.match.flatten(1), match_BFCT)
        biases_BHCT = far_BHCT + match_BHN.view(*match_BHN.shape[:2], *match_BFCT.shape[2:])
        return functional.pad(biases_BHCT, (1, 0))


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
    matches_BNCT: Tensor
    """What candidate and event share, as numbers 0 and 1."""
    groups_BTG: Tensor
    """Feedback group of each event, one number 1 of three."""
    time_s_BT: Tensor
    """float64 seconds, NaN unknown."""
    requested_s_BC: Tensor
    """float64 seconds, NaN unknown."""
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
    return (now_s_BQ.unsqueeze(2) - then_s_BK.unsqueeze(1)).clamp(min=0).float()


def bends(amounts_BQK: Tensor, knots: tuple[float, ...]) -> Tensor:
    """Turn amounts into numbers that a linear map makes a bent line of, over their logarithm.

        relu(log2(1 + amount) - knot) / 10 per knot

    Args:
        amounts_BQK: At least 0.
        knots: Where the slope may change, in log2.

    Returns:
        (B, knots, Q, K).

    >>> bends(torch.tensor([[[3.0]]]), (0.0, 1.5)).mul(10).flatten()
    tensor([2.0000, 0.5000])
    """
    logs_B1QK = torch.log2(1 + amounts_BQK).div(10).unsqueeze(1)
    at_F11 = torch.tensor(knots, dtype=logs_B1QK.dtype, device=logs_B1QK.device).div(10)
    return (logs_B1QK - at_F11[:, None, None]).clamp(min=0)


def _weighted(weights_HF: Tensor, features_BFQK: Tensor) -> Tensor:
    """Return (B, H, Q K) weighted sums of features."""
    return torch.bmm(weights_HF.expand(len(features_BFQK), -1, -1), features_BFQK.flatten(2))


@dataclass(frozen=True, slots=True)
class _Pairs:
    """What attention knows of each pair of events, and of each event alone."""

    band: Band
    """Which pairs there are: each of Q events of a block, with K events."""
    lag_BFQK: Tensor
    step_FQK: Tensor
    outside_QK: Tensor
    """0 inside the window, HIDDEN after the event or too far back."""
    groups_BTG: Tensor
    hidden_BT: Tensor
    """0, or HIDDEN for an event that nobody may read."""
    timed_BT: Tensor
    """1 where the time is known."""


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
        self.dropout = Dropout(settings.dropout)

    def forward(self, events_BTD: Tensor, pairs: _Pairs) -> Tensor:
        query, key, value = (
            part.unflatten(-1, (self.heads, self.per_head))
            for part in self.query_key_value(self.norm_attention(events_BTD)).chunk(3, dim=-1)
        )
        query_BTHd = query / math.sqrt(self.per_head)
        groups_BTHG = pairs.groups_BTG.unsqueeze(2).expand(-1, -1, self.heads, -1)
        weights_BHQK = self._logits(query_BTHd, key, pairs).softmax(-1)
        if self.pair_biases:
            value = torch.cat([value, groups_BTHG], -1)
        read_BHQd = weights_BHQK @ pairs.band.read(value).transpose(1, 2)
        read_BTHd = pairs.band.whole(read_BHQd.transpose(1, 2))
        if self.pair_biases:
            read_BTHd, share_BTHG = torch.split(read_BTHd, [self.per_head, NUM_GROUPS], -1)
            read_BTHd = read_BTHd + self._pair_values(share_BTHG, pairs.groups_BTG)
        events_BTD = events_BTD + self.dropout(self.output(read_BTHd.flatten(2)))
        fed: Tensor = events_BTD + self.dropout(self.feed(self.norm_feed(events_BTD)))
        return fed

    def _logits(self, query_BTHd: Tensor, key_BTHd: Tensor, pairs: _Pairs) -> Tensor:
        """Return (B, H, Q, K) logits, up to a constant per row.

        What depends on the read event alone, or on a product of the two, rides along in a longer
        key: its group, its time being known, its being hidden. Lags are one small product.
        """
        unknown_BTH1 = self.distance.weight[:, 0, None] * pairs.timed_BT[:, :, None, None]
        query_parts = [query_BTHd, -unknown_BTH1]
        own_parts = [pairs.timed_BT.unsqueeze(-1)]
        if self.pair_biases:
            query_parts.append(self._pair_logits(query_BTHd, pairs.groups_BTG))
            own_parts.append(pairs.groups_BTG)
        own_BTHF = torch.cat(own_parts, -1).unsqueeze(2).expand(-1, -1, self.heads, -1)
        query = pairs.band.ask(torch.cat([*query_parts, torch.ones_like(unknown_BTH1)], -1))
        hidden_BKH1 = pairs.band.read(pairs.hidden_BT, HIDDEN)[:, :, None, None]
        key = torch.cat(
            [
                pairs.band.read(torch.cat([key_BTHd, own_BTHF], -1)),
                hidden_BKH1.expand(-1, -1, self.heads, -1),
            ],
            -1,
        )
        weights_HF, num_lags = self.distance.weight[:, 1:], len(LAG_KNOTS)
        steps_HQK = torch.tensordot(weights_HF[:, num_lags:], pairs.step_FQK, 1)
        biases_BHN = torch.baddbmm(
            (steps_HQK + pairs.outside_QK).flatten(1).unsqueeze(0),
            weights_HF[:, :num_lags].expand(len(query), -1, -1),
            pairs.lag_BFQK.flatten(2),
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
