"""Deep Interest Network: each past event counts as far as it resembles the candidate.

    a_mj = MLP([q_m, k_j, q_m - k_j, q_m * k_j])   u_m = sum_j a_mj k_j over the visible events

After Zhou et al., KDD 2018 (arXiv 1706.06978), section 4.3: the weights are not normalised, so that
much interest reads as more than little. The candidate's context is part of its query, as with every
encoder here. Is read by `choice`. No I/O.
"""

import math

import torch
from torch import Tensor, nn

from skipwise.model.encoder_settings import EncoderSettings
from skipwise.model.encoders.last import past_of_candidates
from skipwise.model.products import Linear
from skipwise.model.reader import Reader
from skipwise.model.reading import Reading


class ActivationReader(Reader):
    """Sums events by an activation unit."""

    def __init__(self, width: int, settings: EncoderSettings) -> None:
        super().__init__()
        del settings
        self.activation = nn.Sequential(Linear(4 * width, width), nn.PReLU(), Linear(width, 1))
        self.no_past = nn.Parameter(torch.randn(width) / math.sqrt(width))
        self.norm = nn.LayerNorm(width)

    def attend(
        self, queries_QMD: Tensor, history_BTD: Tensor, reading: Reading
    ) -> tuple[Tensor, Tensor]:
        """Return (1, M, D) readings and their weights, (1, M, 1, 1 + T)."""
        event_MTD, visible_MT = past_of_candidates(queries_QMD, history_BTD, reading)
        query_MTD = queries_QMD[0].unsqueeze(1).expand_as(event_MTD)
        pair_MTF = torch.cat(
            [query_MTD, event_MTD, query_MTD - event_MTD, query_MTD * event_MTD], -1
        )
        weight_MT = self.activation(pair_MTF).squeeze(-1) * visible_MT
        read_MD = torch.einsum("mt,mtd->md", weight_MT, event_MTD)
        nothing_M1 = (~visible_MT.any(1, keepdim=True)).to(read_MD)
        read_MD = self.norm(read_MD + nothing_M1 * self.no_past)
        return read_MD[None], torch.cat([nothing_M1, weight_MT], 1)[None, :, None]
