"""Which few of all videos are worth ranking: a viewer vector and a video vector (docs/model.md).

    encoded history, context, viewer  ->  RetrievalHead.viewers  ->  (M, R + r)
    videos_UD (id, author, topics..)  ->  RetrievalHead.videos   ->  (U, R + r)
    how popular each is by the day    ->  RetrievalHead.popular  ->  one number per video

    logit(viewer, video, day) = viewer . video + popular(video, day)
    viewer = [learnt - centre, sum of c over what was watched / root of its number]
    video  = [learnt, c]

- A video vector is made of what `embed_videos` says of it, so a video nobody has watched has one.
- c is fixed: videos watched by the same viewers have like vectors (`fill`), a new one has zeros.
- The viewer vector reads what a candidate may read, and no more: the last W visible events.
- Popularity stays outside the vectors: it changes by the day, they with the model.

Sampled softmax with logQ correction (Yi et al., RecSys 2019, doi 10.1145/3298689.3346996); glances
as "not to recommend" (arXiv 2308.12256). Reads `encoder`; is read by `recommender`. No I/O.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from skipwise.features.popularity import HALF_LIVES_DAYS
from skipwise.features.vocabulary import UNSEEN
from skipwise.labels.feedback import Group
from skipwise.model.products import Linear
from skipwise.model.reading import NUM_GROUPS, Reading
from skipwise.settings import check_setting


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrievalSettings:
    """Shape of the retrieval head, and what it is taught with."""

    width: int = 32
    """R: learnt numbers in a viewer or video vector."""
    co_watched: int = 32
    """r: numbers beside them that say which videos are watched by the same viewers; 0 = none."""
    pools: int = 4
    """Learned readings of the past that the viewer vector is made of."""
    sampled: int = 512
    """Videos drawn evenly from those of the training window, beside the batch's own, as what was
    not watched."""
    shares: bool = True
    """Whether its loss also teaches the encoder and the inputs; off, it takes them as they are."""

    def __post_init__(self) -> None:
        check_setting("retrieval.width", self.width, at_least=2, at_most=4096)
        check_setting("retrieval.co_watched", self.co_watched, at_least=0, at_most=4096)
        check_setting("retrieval.pools", self.pools, at_least=1, at_most=64)
        check_setting("retrieval.sampled", self.sampled, at_least=0, at_most=1_000_000)


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchedPast:
    """What the viewer vector is made of."""

    history_BTD: Tensor
    """From `HistoryEncoder`."""
    co_watched_BTR: Tensor
    """The fixed vectors of the events' videos."""


_CENTRE_STEP = 20.0
"""The centre moves so many times faster than other weights."""


class RetrievalHead(nn.Module):
    """Makes viewer vectors and video vectors whose product says who would watch what."""

    def __init__(self, videos: int, width: int, settings: RetrievalSettings) -> None:
        super().__init__()
        self.settings = settings
        pools, out = settings.pools, settings.width
        self.key = Linear(width, pools)
        self.group = nn.Parameter(torch.randn(pools, NUM_GROUPS))
        self.recency = nn.Parameter(torch.zeros(pools))
        self.no_past = nn.Parameter(torch.zeros(pools, width))
        last = Linear(2 * width, out)
        nn.init.zeros_(last.weight)  # to begin with, popularity and the fixed vectors alone
        nn.init.zeros_(last.bias)
        self.centre = nn.Parameter(torch.zeros(out))
        self.viewer = nn.Sequential(Linear((pools + 2) * width, 2 * width), nn.SiLU(), last)
        self.video = nn.Sequential(
            nn.LayerNorm(width), Linear(width, 2 * width), nn.SiLU(), Linear(2 * width, out)
        )
        self.popularity = nn.Parameter(torch.full((len(HALF_LIVES_DAYS),), 0.5))
        self.co_watched: Tensor
        self.register_buffer("co_watched", torch.zeros(videos, settings.co_watched))

    @torch.no_grad()
    def fill(self, index_V: Tensor, vectors_VR: Tensor) -> None:
        """Take the fixed vectors of videos.

        Args:
            index_V: Vocabulary indices; padding and unseen stay zero.
            vectors_VR: (V, r)
        """
        known = index_V > UNSEEN
        self.co_watched[index_V[known]] = vectors_VR[known]

    def viewers(
        self, past: "WatchedPast", reading: Reading, context_MD: Tensor, viewers_MD: Tensor
    ) -> Tensor:
        """Make the vector of the viewer of each of M requests.

        Args:
            past: Encoded events and their fixed vectors.
            reading: Which events each request may read.
            context_MD: Embedded contexts.
            viewers_MD: Embedded extras of the viewers.

        Returns:
            (M, R + r).
        """
        history_BTD = past.history_BTD
        if not self.settings.shares:
            history_BTD, context_MD = history_BTD.detach(), context_MD.detach()
            viewers_MD = viewers_MD.detach()
        weights_BCTP = self._weights(history_BTD, reading)
        pooled_BCPD = torch.einsum("bctp,btd->bcpd", weights_BCTP[:, :, 1:], history_BTD)
        pooled_BCPD = pooled_BCPD + weights_BCTP[:, :, 0].unsqueeze(-1) * self.no_past
        pooled_MD = reading.flat(pooled_BCPD.flatten(2).unsqueeze(0)).squeeze(0)
        learnt_MR = self.viewer(torch.cat([pooled_MD, context_MD, viewers_MD], -1))
        watched_BCT = reading.visible_BCT * reading.groups_BTG[..., int(Group.POS)].unsqueeze(1)
        watched_BCT = watched_BCT / watched_BCT.sum(-1, keepdim=True).clamp(min=1).sqrt()
        watched_MR = reading.flat((watched_BCT @ past.co_watched_BTR).unsqueeze(0)).squeeze(0)
        return torch.cat([learnt_MR - _CENTRE_STEP * self.centre, watched_MR], -1)

    def centred(self, viewers_MR: Tensor) -> tuple[Tensor, Tensor]:
        """Move the learnt part of a batch's viewer vectors so that their mean is 0.

        What speaks for a video whoever asks is popularity's to say; a learnt part that could would
        know the training window's by heart.

        Args:
            viewers_MR: From `viewers`.

        Returns:
            (M, R + r), and a small loss that teaches `centre`, and nothing else, where the mean is.
        """
        width = self.settings.width
        mean_R = viewers_MR[:, :width].mean(0)
        centre_R = _CENTRE_STEP * self.centre
        loss = 1e-3 * ((mean_R + centre_R).detach() - centre_R).square().mean()
        return torch.cat([viewers_MR[:, :width] - mean_R, viewers_MR[:, width:]], -1), loss

    def videos(self, videos_UD: Tensor, co_watched_UR: Tensor) -> Tensor:
        """Make the vector of each of U videos, (U, R + r).

        Args:
            videos_UD: From `embed_videos`.
            co_watched_UR: Their rows of `co_watched`.
        """
        learnt_UR = self.video(videos_UD if self.settings.shares else videos_UD.detach())
        return torch.cat([learnt_UR, co_watched_UR], -1)

    def _weights(self, history_BTD: Tensor, reading: Reading) -> Tensor:
        """Return (B, C, 1 + T, P) shares of the past; place 0 is "no past"."""
        logits_BTP = self.key(history_BTD) + reading.groups_BTG @ self.group.T
        steps_BCT1 = torch.log2(1 + reading.back_BCT.clamp(min=0).to(logits_BTP)).unsqueeze(-1)
        logits_BCTP = logits_BTP.unsqueeze(1) + steps_BCT1 * self.recency
        logits_BCTP = logits_BCTP.masked_fill(~reading.visible_BCT.unsqueeze(-1), -torch.inf)
        none_BC1P = torch.zeros_like(logits_BCTP[:, :, :1])
        return torch.cat([none_BC1P, logits_BCTP], 2).softmax(2)

    def popular(self, counts_UH: Tensor) -> Tensor:
        """Say how much popularity speaks for videos: sum_h w_h log(1 + n_h), (..., U).

        Args:
            counts_UH: (..., U, 2) from `popularity_by_day`.
        """
        return torch.log1p(counts_UH) @ self.popularity


def sampled_softmax(logits_PU: Tensor, log_chance_U: Tensor, place_P: Tensor) -> Tensor:
    """Return log p(video | viewer) of one video per row, over a sample of all videos.

        log p = l_place - log sum_u exp(l_u),  l = logit - log chance

    Args:
        logits_PU: P rows, U sampled videos.
        log_chance_U: Log of the chance that each video is in the sample (logQ correction).
        place_P: Which of the U each row is about.

    Returns:
        (P,) <= 0.
    """
    logits_PU = (logits_PU - log_chance_U).log_softmax(1)
    return logits_PU.gather(1, place_P.unsqueeze(1)).squeeze(1)


def retrieval_loss(
    log_share_P: Tensor, effective_P: Tensor, glance_P: Tensor, glances: float
) -> Tensor:
    """Return what retrieval is taught: find effective views, do not find glances.

        sum over effective views of -log p, + glances * sum over glances of -log(1 - p),
        over the number of effective views

    Args:
        log_share_P: (P,) log p(video | viewer) from `sampled_softmax`.
        effective_P: (P,) label in {-1, 0, 1}.
        glance_P: (P,) likewise.
        glances: How much a glance counts beside an effective view.
    """
    found = -(log_share_P * (effective_P == 1)).sum()
    share_P = log_share_P.clamp(max=-1e-6)
    not_found = -(torch.log(-torch.expm1(share_P)) * (glance_P == 1)).sum()
    return (found + glances * not_found) / (effective_P == 1).sum().clamp(min=1)


def log_chance(share_U: Tensor, draws: int, even_share: float) -> Tensor:
    """Return the log of the chance that a video is in a batch or among those drawn evenly.

        1 - (1 - share) ** draws * (1 - even_share)

    Args:
        share_U: Share of each video among the showings of the training window.
        draws: Showings scored in the batch.
        even_share: Share of all videos that is drawn evenly.
    """
    log_absent_U = draws * torch.log1p(-share_U.clamp(max=0.999))
    if even_share > 0:
        log_absent_U = log_absent_U + torch.log1p(torch.tensor(-min(even_share, 0.999)))
    return torch.log(-torch.expm1(log_absent_U.clamp(max=-1e-12)))
