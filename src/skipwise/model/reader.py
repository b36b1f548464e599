"""How a candidate reads an encoded past, supposing it is watched (q+) or skipped (q-).

    history_BTD, queries, Reading  ->  CandidateReader  ->  liking_MD (u+), disliking_MD (u-)

- A candidate reads the last W visible events and nothing else; with none visible it reads a learned
  "no past".

Equations are ours, after TWIN (arXiv 2302.02352). Is read by `recommender`. No I/O.
"""

import functools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from skipwise.model.attention import Places, attention
from skipwise.model.encoder_settings import EncoderSettings, check_heads
from skipwise.model.gradients import in_slots, of_slots, written_out
from skipwise.model.products import Linear
from skipwise.model.reading import (
    HIDDEN,
    LAG_KNOTS,
    NUM_DISTANCES,
    NUM_GROUPS,
    NUM_MATCHES,
    STEP_KNOTS,
    Reading,
    bends,
    lag_s,
    weighted,
)


class Reader(nn.Module):
    """What reads encoded events for a candidate; `CandidateReader` and those of `encoders`."""

    def forward(self, queries_QMD: Tensor, history_BTD: Tensor, reading: "Reading") -> Tensor:
        """Return the readings of `attend` alone."""
        return self.attend(queries_QMD, history_BTD, reading)[0]

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
        self.query = Linear(width, width)
        self.key_value = Linear(width, 2 * width)
        self.output = Linear(width, width)
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
        readable_BT = reading.readable_BT
        if readable_BT is None or not written_out(history_BTD):
            return self.attend(queries_QMD, history_BTD, reading)[0]
        num_queries, width = len(queries_QMD), queries_QMD.shape[-1]
        slots = (reading.num_stretches, reading.num_slots)
        place_M = reading.stretch * reading.num_slots + reading.slot
        query_MQD = self.query(queries_QMD.transpose(0, 1)) / math.sqrt(width // self.heads)
        query_ND = in_slots(query_MQD.flatten(1), place_M, slots[0] * slots[1])
        query_BCQHd = query_ND.view(*slots, num_queries, self.heads, -1)
        places, step_HRS, match_HL = self._places(reading, readable_BT)
        read_BCQHd = attention(
            torch.cat([query_BCQHd, self._to_own(reading, num_queries)], -1),
            self._key_values(history_BTD, reading),
            self.distance.weight[:, 1 : 1 + len(LAG_KNOTS)],
            step_HRS,
            match_HL,
            places,
        )
        read_MQD = of_slots(read_BCQHd.reshape(-1, num_queries, width), place_M)
        read_QMD: Tensor = self.norm(self.output(read_MQD)).transpose(0, 1)
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

    def _key_values(self, history_BTD: Tensor, reading: "Reading") -> Tensor:
        """Return (B, 1 + T, H, 2 d) keys beside values, "no past" first."""
        no_past_11X = self.no_past.expand(reading.num_stretches, 1, -1)
        laid_BTX = reading.laid_out(self.key_value(history_BTD))
        key_value_BSX = torch.cat([no_past_11X, laid_BTX], 1)
        return key_value_BSX.view(*key_value_BSX.shape[:2], 2, self.heads, -1)

    def _to_own(self, reading: "Reading", num_queries: int) -> Tensor:
        """Return what a query says to what a place is by itself, (B, C, Q, H, F).

        An unknown time adds w: to all events where the request's own is unknown, else w - w known.
        """
        shape = (reading.num_stretches, reading.num_slots, num_queries)
        unknown_H1 = self.distance.weight[:, :1]
        timed_BC111 = (~reading.requested_s_BC.isnan()).to(unknown_H1)[:, :, None, None, None]
        parts = [self.group, unknown_H1, -unknown_H1 * timed_BC111, torch.ones_like(unknown_H1)]
        return torch.cat([part.expand(*shape, -1, -1) for part in parts], -1)

    def _places(self, reading: "Reading", readable_BT: Tensor) -> tuple[Places, Tensor, Tensor]:
        """Return what `attention` is told of rows, and its biases of steps and matches."""
        kind, num_lags = self.group.dtype, len(LAG_KNOTS)
        hidden_BT1 = (~readable_BT).to(kind).unsqueeze(-1) * HIDDEN
        own_BTF = torch.cat([_own(reading), hidden_BT1], -1)
        time_s_BS = functional.pad(reading.time_s_BT, (1, 0), value=torch.nan)
        lag_FBCS = bends(lag_s(reading.requested_s_BC, time_s_BS), LAG_KNOTS)
        before_BC = reading.back_BCT[..., 0] + 1
        length = reading.back_BCT.shape[-1]
        back_RT = torch.arange(int(before_BC.max()) + 1)[:, None] - 1 - torch.arange(length)
        step_FRT = bends(back_RT.clamp(min=0).to(kind), STEP_KNOTS)
        outside_RT = ((back_RT < 0) | (back_RT >= self.window)).to(kind) * HIDDEN
        step_HRT = torch.tensordot(self.distance.weight[:, 1 + num_lags :], step_FRT, 1)
        matched_L, match_HL = self._matched(reading)
        return (
            Places(
                own_BSF=functional.pad(own_BTF, (0, 0, 1, 0)),
                shared=0,
                lag_FN=lag_FBCS.flatten(1),
                before_BC=before_BC,
                matched_L=matched_L,
                alike=reading.places_BT is not None,
            ),
            functional.pad(step_HRT + outside_RT, (1, 0)),
            match_HL,
        )

    def _matched(self, reading: "Reading") -> tuple[Tensor, Tensor]:
        """Return which pairs match, of all (B, C, 1 + T), and the bias of each, (H, L)."""
        length, groups_BTG = reading.groups_BTG.shape[1], reading.groups_BTG
        seen = [match_BCT & reading.visible_BCT for match_BCT in reading.matches]
        pair_L = functools.reduce(torch.logical_or, seen).flatten().nonzero().squeeze(1)
        slot_L = pair_L // length
        event_L = slot_L // reading.num_slots * length + pair_L - slot_L * length
        group_LG = groups_BTG.flatten(0, 1).index_select(0, event_L)
        match_LN = torch.stack([match.flatten().index_select(0, pair_L) for match in seen], 1)
        match_LF = (match_LN.to(group_LG.dtype).unsqueeze(2) * group_LG.unsqueeze(1)).flatten(1)
        return pair_L + slot_L + 1, self.match.flatten(1) @ match_LF.t()

    def _keys_and_values(self, history_BTD: Tensor, reading: "Reading") -> tuple[Tensor, Tensor]:
        """Return (B, H, 1 + T, ...) keys and values, "no past" first.

        Whatever a bias says of the event alone rides along in the key, against a constant in the
        query (`_with_constants`): its group, whether its time is known, whether it is read at all.
        """
        num_stretches, heads = reading.num_stretches, self.heads
        per_head = history_BTD.shape[-1] // heads
        own_BTF = _own(reading)
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
        lag_FBCT = bends(lag_s(reading.requested_s_BC, reading.time_s_BT), LAG_KNOTS)
        step_FBCT = bends(reading.back_BCT.clamp(min=0).to(lag_FBCT.dtype), STEP_KNOTS)
        lag_BFCT, step_BFCT = lag_FBCT.transpose(0, 1), step_FBCT.transpose(0, 1)
        far_BHN = torch.baddbmm(
            weighted(lag_HF, lag_BFCT),
            step_HF.expand(len(step_BFCT), -1, -1),
            step_BFCT.flatten(2),
        )
        hidden_B1CT = (~reading.visible_BCT).to(far_BHN.dtype).unsqueeze(1) * HIDDEN
        far_BHCT = far_BHN.view(*far_BHN.shape[:2], *step_BFCT.shape[2:]) + hidden_B1CT
        return functional.pad(self._match_biases(far_BHCT, reading), (1, 0))

    def _match_biases(self, far_BHCT: Tensor, reading: "Reading") -> Tensor:
        """Add to (B, H, C or 1, T) what is shared, by the event's feedback group."""
        if not torch.is_grad_enabled():
            own_BHNT = torch.einsum("hng,btg->bhnt", self.match, reading.groups_BTG)
            for place, match_BCT in enumerate(reading.matches):
                own_BH1T = own_BHNT[:, :, place].unsqueeze(2)
                far_BHCT = far_BHCT + match_BCT.to(own_BH1T.dtype).unsqueeze(1) * own_BH1T
            return far_BHCT
        # one product has the cheaper gradient
        matches_BNCT = torch.stack(reading.matches, 1).to(far_BHCT.dtype)
        groups_B1G1T = reading.groups_BTG.transpose(1, 2).contiguous()[:, None, :, None, :]
        match_BFCT = (matches_BNCT.unsqueeze(2) * groups_B1G1T).flatten(1, 2)
        match_BHN = weighted(self.match.flatten(1), match_BFCT)
        return far_BHCT + match_BHN.view(*match_BHN.shape[:2], *match_BFCT.shape[2:])


def _own(reading: "Reading") -> Tensor:
    """Return what an event says by itself, (B, T, F): its group, 1, and 1 if its time is known."""
    known_BT = (~reading.time_s_BT.isnan()).to(reading.groups_BTG.dtype)
    ones_BT = torch.ones_like(known_BT)
    return torch.cat([reading.groups_BTG, torch.stack([ones_BT, known_BT], -1)], -1)
