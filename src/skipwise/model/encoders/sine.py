"""SINE-like: a few interests out of a pool of concepts, weighed by the candidate.

    s_m   = sum_j softmax_j(w . tanh(W x_j)) x_j               what the past is about
    top_m = the INTERESTS_AT_MOST concepts c with the largest s_m . c
    u_mc  = sum_j softmax_j(w' . tanh(W' x_j)) softmax_c(x_j . c) x_j    as concept c sees it
    u_m   = sum_c softmax_c(q_m . u_mc) sigmoid(s_m . c) u_mc  c among top_m

After Tan et al., "Sparse-Interest Network", WSDM 2021 (arXiv 2102.09267), with the candidate in
place of the predicted next intention. Its own past is what was watched; skips only supervise, as
negatives of the glance objective. Is read by `choice`. No I/O.
"""

import math

import torch
from torch import Tensor, nn

from skipwise.model.encoder_settings import EncoderSettings
from skipwise.model.encoders.last import past_of_candidates
from skipwise.model.products import Linear
from skipwise.model.reader import Reader
from skipwise.model.reading import Reading

NUM_CONCEPTS = 16
INTERESTS_AT_MOST = 4


class SparseInterestReader(Reader):
    """Reads a past as a few interests."""

    def __init__(self, width: int, settings: EncoderSettings) -> None:
        super().__init__()
        del settings
        self.concepts = nn.Parameter(torch.randn(NUM_CONCEPTS, width) / math.sqrt(width))
        self.about = nn.Sequential(Linear(width, width), nn.Tanh(), Linear(width, 1))
        self.weight = nn.Sequential(Linear(width, width), nn.Tanh(), Linear(width, 1))
        self.query = Linear(width, width)
        self.no_past = nn.Parameter(torch.randn(width) / math.sqrt(width))
        self.norm = nn.LayerNorm(width)

    def attend(
        self, queries_QMD: Tensor, history_BTD: Tensor, reading: Reading
    ) -> tuple[Tensor, Tensor]:
        """Return (1, M, D) readings and the weight of each event in them, (1, M, 1, 1 + T)."""
        event_MTD, visible_MT = past_of_candidates(queries_QMD, history_BTD, reading)
        about_MT = _visible_softmax(
            reading.of_candidates(self.about(history_BTD).squeeze(-1)), visible_MT
        )
        activity_MK = torch.einsum("mt,mtd->md", about_MT, event_MTD) @ self.concepts.T
        of_concept_MTK = reading.of_candidates((history_BTD @ self.concepts.T).softmax(-1))
        weight_MT = _visible_softmax(
            reading.of_candidates(self.weight(history_BTD).squeeze(-1)), visible_MT
        )
        share_MTK = weight_MT.unsqueeze(-1) * of_concept_MTK
        interest_MKD = torch.einsum("mtk,mtd->mkd", share_MTK, event_MTD)
        fit_MK = torch.einsum("md,mkd->mk", self.query(queries_QMD[0]), interest_MKD)
        fit_MK = fit_MK.masked_fill(_all_but_largest(activity_MK), -torch.inf)
        chosen_MK = fit_MK.softmax(-1) * activity_MK.sigmoid()
        nothing_M1 = (~visible_MT.any(1, keepdim=True)).to(event_MTD)
        read_MD = torch.einsum("mk,mkd->md", chosen_MK, interest_MKD)
        attention_MT = torch.einsum("mk,mtk->mt", chosen_MK, share_MTK)
        read_MD = self.norm(read_MD + nothing_M1 * self.no_past)
        return read_MD[None], torch.cat([nothing_M1, attention_MT], 1)[None, :, None]


def _visible_softmax(logits_MT: Tensor, visible_MT: Tensor) -> Tensor:
    """Return weights over the visible events, (M, T); all 0 where nothing is visible."""
    some_M1 = visible_MT.any(1, keepdim=True)
    return logits_MT.masked_fill(~visible_MT & some_M1, -torch.inf).softmax(-1) * visible_MT


def _all_but_largest(activity_MK: Tensor) -> Tensor:
    """Mark the concepts that are not among the most active, (M, K) bool."""
    least_M1 = activity_MK.topk(INTERESTS_AT_MOST, dim=-1).values[:, -1:]
    return activity_MK < least_M1
