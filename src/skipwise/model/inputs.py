"""How ids, buckets and counters become vectors.

    Batch  ->  InputLayer  ->  Inputs: vectors of events, candidates, context, ...

- A video's vector is made once per batch, however often it is shown in it.
- B stretches, T events, M candidates, D width, U different videos in the batch.

Reads `batch` and `counter_features`; is read by `recommender`. No I/O.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from skipwise.features.stretches import (
    NUM_GAP_BUCKETS,
    NUM_PLACES,
    NUM_RUNS,
    WATCH_SHARE_EDGES,
)
from skipwise.features.vocabulary import UNSEEN
from skipwise.labels.feedback import GROUP_OF, Feedback
from skipwise.model.batch import Batch, ContextBatch, VideoBatch
from skipwise.model.counter_features import CounterFeatures
from skipwise.model.products import linear
from skipwise.settings import check_setting


@dataclass(frozen=True, kw_only=True, slots=True)
class InputSettings:
    """How inputs are embedded."""

    id_dropout: float = 0.1
    """Share of videos whose id is hidden in a training batch, so that new ones are no surprise."""
    counter_prior: float = 10.0
    """Views' worth of the training window's rate that every counted rate starts from."""
    content_spread: float = 1.0
    """Spread of the vectors of topics and outcomes at the start, times sqrt(width); others start
    at 0.1. At 1 the encoder finds what tastes have in common much sooner."""
    ids: bool = True
    """Whether a video and an author have vectors of their own; off, a video is its topics, length
    and extras, and its counters say the rest: better where a few hundred thousand events are all
    there is (docs/log.md)."""
    use_counters: bool = True
    use_context: bool = True
    """Whether surface, hour, gap, place and run of glances are read."""
    use_feedback: bool = True
    """Whether the encoder sees how past events ended; off, every past event looks alike."""
    use_skips: bool = True
    """Whether runs of glances and counts of glances are read. With `encoder.past=positives` off
    means that no skip enters as such; rates of other objectives still count them as outcomes."""

    def __post_init__(self) -> None:
        check_setting("inputs.id_dropout", self.id_dropout, at_least=0, below=1)
        check_setting("inputs.counter_prior", self.counter_prior, above=0)
        check_setting("inputs.content_spread", self.content_spread, above=0, at_most=10)


@dataclass(frozen=True, kw_only=True, slots=True)
class InputSizes:
    """How many rows each table needs; taken from a vocabulary."""

    videos: int
    authors: int
    topics: int
    surfaces: int
    duration_buckets: int
    video_categories: tuple[int, ...]
    video_numbers: int
    viewer_categories: tuple[int, ...]
    viewer_numbers: int
    counters: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """What the encoder and the predictor read."""

    events_BTD: Tensor
    candidates_MD: Tensor
    context_MD: Tensor
    viewers_MD: Tensor
    counters_MF: Tensor
    """Standardised counter features, F of them."""


class InputLayer(nn.Module):
    """Embeds events, candidates, context, viewers and counters in one width."""

    def __init__(self, sizes: InputSizes, width: int, settings: InputSettings) -> None:
        super().__init__()
        self.settings = settings
        self.video = _table(sizes.videos, width) if settings.ids else None
        self.author = _table(sizes.authors, width) if settings.ids else None
        self.topic = _table(sizes.topics, width, settings.content_spread)
        self.duration = _table(sizes.duration_buckets, width)
        self.video_extra = _Extras(sizes.video_categories, sizes.video_numbers, width)
        self.viewer_extra = _Extras(sizes.viewer_categories, sizes.viewer_numbers, width)
        self.feedback = _table(len(Feedback), width, settings.content_spread)
        self.watch_share = _table(len(WATCH_SHARE_EDGES) + 1, width, settings.content_spread)
        self.context = nn.ModuleDict(
            {
                "surface": _table(sizes.surfaces, width),
                "hour": _table(25, width),
                "gap": _table(NUM_GAP_BUCKETS, width),
                "place": _table(NUM_PLACES, width),
                "run": _table(NUM_RUNS, width),
            }
        )
        self.counters = CounterFeatures(sizes.counters, settings.counter_prior)
        of_glances = [name.endswith((".glance", ".glance_known")) for name in sizes.counters]
        self.counts_of_glances: Tensor
        self.register_buffer("counts_of_glances", torch.tensor(of_glances), persistent=False)

    def forward(self, batch: Batch) -> Inputs:
        """Embed a batch."""
        videos_UD = self.embed_videos(batch.videos)
        events_BTD = self.embed_events(
            _rows(videos_UD, batch.token_video),
            batch.feedback,
            batch.watch_share,
            batch.token_context,
        )
        viewers_BD = self.viewer_extra(batch.viewer_categories, batch.viewer_numbers)
        return Inputs(
            events_BTD=events_BTD * batch.token_valid.unsqueeze(-1),
            candidates_MD=_rows(videos_UD, batch.candidate_video),
            context_MD=self.embed_context(batch.candidate_context),
            viewers_MD=_rows(viewers_BD, batch.stretch),
            counters_MF=self.counter_features(batch.counters),
        )

    def identity_tables(self) -> list[Tensor]:
        """Return the tables that say who a video or viewer is: the first to be overfitted.

        A table that several processes share is none of the model's own, and not among them.
        """
        extras = (self.video_extra.table, self.viewer_extra.table)
        tables = (self.video, self.author, self.topic, *extras)
        return [table.weight for table in tables if isinstance(table, nn.Embedding)]

    def hypotheses(self) -> tuple[Tensor, Tensor]:
        """Return E_f(EFFECTIVE) and E_f(GLANCE), (D,) each: the outcomes q+ and q- suppose."""
        return self.feedback.weight[Feedback.EFFECTIVE], self.feedback.weight[Feedback.GLANCE]

    def feedback_groups(self, feedback_BT: Tensor) -> Tensor:
        """Return g(f) of each event, (B, T): 0 neutral, 1 negative, 2 positive."""
        if not self.settings.use_feedback:
            return torch.zeros_like(feedback_BT)
        return torch.tensor(GROUP_OF, device=feedback_BT.device)[feedback_BT]

    def embed_events(
        self, videos_BTD: Tensor, feedback_BT: Tensor, watch_share_BT: Tensor, context: ContextBatch
    ) -> Tensor:
        """Embed past events: the video, how it ended, where and when, (B, T, D)."""
        tables, indices = self._context_tables(context)
        if self.settings.use_feedback:
            tables += [self.feedback, self.watch_share]
            indices += [feedback_BT, watch_share_BT]
        return videos_BTD + summed(tables, indices) if tables else videos_BTD

    def counter_features(self, counters_MK: Tensor) -> Tensor:
        """Return (M, F) standardised features of raw counters; zeros where they are not used."""
        if not self.settings.use_skips:
            counters_MK = counters_MK.masked_fill(self.counts_of_glances, 0.0)
        counters_MF: Tensor = self.counters(counters_MK)
        return counters_MF if self.settings.use_counters else torch.zeros_like(counters_MF)

    def embed_videos(self, videos: VideoBatch) -> Tensor:
        """Embed U videos: id, author, topics, duration, extras, (U, D)."""
        video_U = videos.video
        if self.training and self.settings.id_dropout > 0:
            hidden = torch.rand(video_U.shape, device=video_U.device) < self.settings.id_dropout
            video_U = torch.where(hidden, UNSEEN, video_U)
        has_topic_UK = (videos.topics > 0).unsqueeze(-1)
        topics_UD = (self.topic(videos.topics) * has_topic_UK).sum(1) / has_topic_UK.sum(1).clamp(
            min=1
        )
        video_UD: Tensor = (
            topics_UD
            + self.duration(videos.duration_bucket)
            + self.video_extra(videos.categories, videos.numbers)
        )
        if self.video is not None and self.author is not None:
            video_UD = video_UD + self.video(video_U) + self.author(videos.author)
        return video_UD

    def embed_context(self, context: ContextBatch) -> Tensor:
        """Embed where and when, (..., D)."""
        tables, indices = self._context_tables(context)
        if not tables:
            return self.duration.weight.new_zeros(
                *context.surface.shape, self.duration.embedding_dim
            )
        return summed(tables, indices)

    def _context_tables(self, context: ContextBatch) -> tuple[list[nn.Module], list[Tensor]]:
        names = list(self.context) if self.settings.use_context else []
        if not self.settings.use_skips:
            names = [name for name in names if name != "run"]
        return [self.context[name] for name in names], [getattr(context, name) for name in names]


def summed(tables: Sequence[nn.Module], indices: Sequence[Tensor]) -> Tensor:
    """Sum one row of each small table, (..., D).

    In training it is a product with a matrix of ones and zeros: its gradient is another product,
    a third of the time that scattering into the tables takes.

    Args:
        tables: `nn.Embedding` each, of one width.
        indices: One per table, all of one shape.
    """
    if not torch.is_grad_enabled():
        return torch.stack(
            [table(index) for table, index in zip(tables, indices, strict=True)]
        ).sum(0)
    weights = [table.weight for table in tables if isinstance(table, nn.Embedding)]
    starts = np.cumsum([0, *(len(weight) for weight in weights)])
    places_NK = torch.stack(
        [index.flatten() + int(start) for index, start in zip(indices, starts, strict=False)], 1
    )
    chosen_NR = weights[0].new_zeros(len(places_NK), int(starts[-1])).scatter_(1, places_NK, 1.0)
    return linear(chosen_NR, torch.cat(weights).t()).view(*indices[0].shape, -1)


def _rows(values: Tensor, places: Tensor) -> Tensor:
    """Take rows by an index of any shape; its gradient is cheaper than that of `values[places]`."""
    return values.index_select(0, places.flatten()).view(*places.shape, values.shape[1])


class _Extras(nn.Module):
    """Sums the embeddings of categorical extras and a linear map of numeric ones."""

    def __init__(self, categories: tuple[int, ...], numbers: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.table = _table(sum(categories), width) if categories else None
        self.offsets: Tensor
        offsets = [sum(categories[:place]) for place in range(len(categories))]
        self.register_buffer("offsets", torch.tensor(offsets, dtype=torch.int64), persistent=False)
        self.linear = nn.Linear(numbers, width, bias=False) if numbers else None

    def forward(self, categories_NE: Tensor, numbers_NF: Tensor) -> Tensor:
        """Return (N, D); zero where there are no extras."""
        total = numbers_NF.new_zeros(len(numbers_NF), self.width)
        if self.table is not None:
            total = total + self.table(categories_NE + self.offsets).sum(1)
        if self.linear is not None:
            total = total + self.linear(numbers_NF)
        return total


def _table(rows: int, width: int, spread: float = 0.1) -> nn.Embedding:
    table = nn.Embedding(rows, width)
    nn.init.normal_(table.weight, std=spread / math.sqrt(width))
    return table
