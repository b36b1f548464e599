"""The whole network: inputs, encoder, reading, objectives.

    Batch  ->  Recommender  ->  Predictions for M candidates, with the two readings u+ and u-

- One forward pass encodes each stretch once and scores every candidate of it.
- The numbers of a candidate depend on its own visible past and on nothing else in the batch.

Reads `inputs`, `encoder`, `objectives`; is read by training, evaluation and serving. No I/O.
"""

import dataclasses
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from skipwise.features.vocabulary import FIRST
from skipwise.labels.feedback import GROUP_OF, Group
from skipwise.model.batch import Batch, VideoBatch
from skipwise.model.dropout import Dropout
from skipwise.model.encoder import HistoryEncoder
from skipwise.model.encoder_settings import EncoderSettings, check_heads
from skipwise.model.encoders.choice import build_encoder
from skipwise.model.experts import SharedFeatures
from skipwise.model.inputs import InputLayer, Inputs, InputSettings, InputSizes
from skipwise.model.objectives import Cuts, ObjectiveSettings, Predictions, Predictor
from skipwise.model.products import Linear
from skipwise.model.reader import CandidateReader
from skipwise.model.reading import NUM_GROUPS, Reading
from skipwise.model.retrieval import RetrievalHead, RetrievalSettings, WatchedPast
from skipwise.model.rows import reading_rows
from skipwise.settings import check_setting


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSettings:
    """The whole network; `preset` derives one from a size."""

    width: int = 32
    """D: width of every embedding and of every state."""
    inputs: InputSettings = field(default_factory=InputSettings)
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    objectives: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    retrieval: RetrievalSettings = field(default_factory=RetrievalSettings)

    def __post_init__(self) -> None:
        check_setting("model.width", self.width, at_least=4, at_most=4096)
        check_heads(self.width, self.encoder)


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelCuts:
    """Seconds at which the labels cut the watch curve; from the dataset's label settings."""

    glance_below_s: float
    glance_needs_duration: bool
    """Off, a video of unknown length is never glanced at."""
    long_from_s: float
    watch_at_most_s: float
    duration_edges_s: tuple[float, ...] = ()
    """Where duration buckets meet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """What one forward pass gives."""

    predictions: Predictions
    liking_MD: Tensor
    """u+: the past as read by a candidate supposed watched."""
    disliking_MD: Tensor
    """u-: the past as read by a candidate supposed skipped."""
    past: "Past | None" = None
    """What they were read from; None where only the readings were given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Past:
    """An encoded past and who may read what of it."""

    history_BTD: Tensor
    """What no candidate reads need not be encoded."""
    reading: Reading
    inputs: Inputs
    index_BT: Tensor
    """Vocabulary index of each event's video."""


class Recommender(nn.Module):
    """Scores candidates for viewers, given what they watched and skipped."""

    def __init__(
        self,
        sizes: InputSizes,
        objectives: tuple[str, ...],
        cuts: LabelCuts,
        settings: ModelSettings,
    ) -> None:
        super().__init__()
        width = settings.width
        self.settings, self.cuts, self.objectives = settings, cuts, objectives
        self.sizes = sizes
        self.inputs = InputLayer(sizes, width, settings.inputs)
        self.encoder, self.reader = build_encoder(width, settings.encoder)
        self.gate = Linear(width, 2 * width)
        counters = self.inputs.counters.width + NUM_LENGTHS
        self.counter_states = nn.Sequential(Linear(counters, 2 * width), nn.SiLU())
        self.predictor = Predictor(
            9 * width,
            counters,
            width,
            objectives,
            settings.objectives,
            sizes.duration_buckets,
        )
        self.dropout = Dropout(settings.encoder.dropout)
        self.retrieval = RetrievalHead(sizes.videos, width, settings.retrieval)

    def forward(self, batch: Batch) -> Scores:
        """Score every candidate of a batch."""
        past = self.past(batch)
        inputs = past.inputs
        read_QMD: Tensor = self.reader(
            self.queries(inputs.candidates_MD, inputs.context_MD), past.history_BTD, past.reading
        )
        liking_MD, disliking_MD = self.gated(read_QMD, inputs.context_MD)
        cuts = self.cuts_at(
            batch.targets["duration_s"],
            batch.targets["effective_above_s"],
            batch.targets["finished_above_s"],
        )
        scores = self.score(liking_MD, disliking_MD, inputs, cuts)
        return dataclasses.replace(scores, past=past)

    def past(self, batch: Batch) -> Past:
        """Embed a batch, encode its stretches, and say what each candidate may read."""
        inputs: Inputs = self.inputs(batch)
        return Past(
            history_BTD=self.encode(batch, inputs),
            reading=self._reading(batch, in_rows=isinstance(self.reader, CandidateReader)),
            inputs=inputs,
            index_BT=batch.videos.video[batch.token_video],
        )

    def viewer_vectors(self, batch: Batch, past: Past) -> Tensor:
        """Make the retrieval vector of each request's viewer, (M, R + r)."""
        reading, whole = past.reading, batch.token_valid.shape
        if (reading.num_stretches, reading.visible_BCT.shape[-1]) != whole:
            reading = self._reading(batch, in_rows=False)
        watched = WatchedPast(
            history_BTD=past.history_BTD, co_watched_BTR=self.retrieval.co_watched[past.index_BT]
        )
        return self.retrieval.viewers(
            watched, reading, past.inputs.context_MD, past.inputs.viewers_MD
        )

    def score(self, liking_MD: Tensor, disliking_MD: Tensor, inputs: Inputs, cuts: Cuts) -> Scores:
        """Predict from the two readings and the inputs; `inputs.events_BTD` is not read.

        Context and viewer may have one row for all candidates where nothing is being trained.
        """
        counters_MF = torch.cat([inputs.counters_MF, length_features(cuts)], 1)
        read = (
            liking_MD,
            disliking_MD,
            inputs.candidates_MD,
            liking_MD * inputs.candidates_MD,
            disliking_MD * inputs.candidates_MD,
        )
        asked = (inputs.context_MD, inputs.viewers_MD)
        counted_MK = self.counter_states(counters_MF)
        features: Tensor | SharedFeatures
        if inputs.context_MD.shape[0] == 1 and not self.training:
            features = SharedFeatures(torch.cat(read, 1), torch.cat(asked, 1), counted_MK)
        else:
            features = self.dropout(torch.cat([*read, *asked, counted_MK], 1))
        predictions = self.predictor(features, counters_MF, cuts)
        return Scores(predictions=predictions, liking_MD=liking_MD, disliking_MD=disliking_MD)

    def encode(self, batch: Batch, inputs: Inputs) -> Tensor:
        """Encode the stretches of a batch, (B, T, D); zeros may stand where no candidate reads."""
        past = (
            self.dropout(inputs.events_BTD),
            self.inputs.feedback_groups(batch.feedback),
            batch.token_time_s,
            self.readable(batch.token_valid, batch.feedback),
        )
        encoded: Tensor
        if isinstance(self.encoder, HistoryEncoder):
            before_all = int(batch.prefix.min()) - self.settings.encoder.history_length
            encoded = self.encoder(*past, read_from=max(before_all, 0))
        else:
            encoded = self.encoder(*past)
        return encoded

    def gated(self, read_QMD: Tensor, context_MD: Tensor) -> tuple[Tensor, Tensor]:
        """Scale the readings of q+ and q- by the request's context, (M, D) each."""
        gate_MD = 2 * self.gate(context_MD).sigmoid()
        like_gate, dislike_gate = gate_MD.chunk(2, dim=-1)
        return read_QMD[0] * like_gate, read_QMD[-1] * dislike_gate

    def attend(self, batch: Batch, inputs: Inputs, history_BTD: Tensor) -> tuple[Tensor, Tensor]:
        """Return readings (Q, M, D) and where they look (Q, M, H, 1 + T), of q+ and q- or of one.

        Args:
            batch: The events and candidates.
            inputs: Their vectors.
            history_BTD: From `encode`.
        """
        queries_QMD = self.queries(inputs.candidates_MD, inputs.context_MD)
        return self.reader.attend(queries_QMD, history_BTD, self._reading(batch, in_rows=False))

    def queries(self, candidates_MD: Tensor, context_MD: Tensor) -> Tensor:
        """Return q+ and q- of each candidate, (Q, M, D); or the one query without hypothesis."""
        watched_D, skipped_D = self.inputs.hypotheses()
        candidate_MD = candidates_MD + context_MD
        if self.settings.encoder.queries == 2:
            return torch.stack([candidate_MD + watched_D, candidate_MD + skipped_D])
        return candidate_MD.unsqueeze(0)

    def readable(self, valid_BT: Tensor, feedback_BT: Tensor) -> Tensor:
        """Return which events may be read at all, (B, T) bool: all, or the positive ones."""
        if not self.settings.encoder.reads_positives_only:
            return valid_BT
        group_of = torch.tensor(GROUP_OF, device=feedback_BT.device)
        return valid_BT & (group_of[feedback_BT] == Group.POS)

    def _reading(self, batch: Batch, *, in_rows: bool) -> Reading:
        """Say what each candidate may read; in rows of few events where a stretch is long."""
        window = self.settings.encoder.history_length
        rows = reading_rows(batch.stretch, batch.prefix, batch.token_valid.shape, window, in_rows)

        def padded(values_M: Tensor) -> Tensor:
            values_RS = values_M.new_zeros(rows.shape)
            values_RS[rows.row, rows.slot] = values_M
            return values_RS

        back_RSK = padded(batch.prefix - rows.first[rows.row]).unsqueeze(-1) - 1 - rows.place_K
        visible_RSK = (back_RSK >= 0) & (back_RSK < window)
        readable_RK = rows.of_events(self.readable(batch.token_valid, batch.feedback))
        groups_BT = self.inputs.feedback_groups(batch.feedback)
        return Reading(
            stretch=rows.row,
            slot=rows.slot,
            num_slots=rows.shape[1],
            num_stretches=rows.shape[0],
            visible_BCT=visible_RSK & readable_RK.unsqueeze(1),
            readable_BT=readable_RK,
            back_BCT=back_RSK,
            matches=matches(
                _shared_codes(batch.videos, padded(batch.candidate_video)),
                _shared_codes(batch.videos, rows.of_events(batch.token_video)),
            ),
            groups_BTG=functional.one_hot(rows.of_events(groups_BT), NUM_GROUPS).to(
                batch.counters.dtype
            ),
            time_s_BT=rows.of_events(batch.token_time_s),
            requested_s_BC=padded(batch.candidate_time_s),
            places_BT=rows.events_RK,
        )

    def _duration_bucket(self, duration_s: Tensor) -> Tensor | None:
        if self.predictor.watch is None:
            return None
        edges = torch.tensor(self.cuts.duration_edges_s).to(duration_s)
        bucket = torch.bucketize(duration_s, edges, right=True) + 1
        return torch.where(duration_s.isnan(), torch.zeros_like(bucket), bucket)

    def cuts_at(
        self, duration_s: Tensor, effective_above_s: Tensor, finished_above_s: Tensor
    ) -> Cuts:
        """Say where the watch curve of each candidate is cut, (M,) seconds each, NaN unknown."""
        return Cuts(
            duration_s=duration_s,
            glance_below_s=self.cuts.glance_below_s,
            glance_needs_duration=self.cuts.glance_needs_duration,
            long_from_s=self.cuts.long_from_s,
            effective_above_s=effective_above_s,
            finished_above_s=finished_above_s,
            watch_at_most_s=self.cuts.watch_at_most_s,
            duration_bucket=self._duration_bucket(duration_s),
        )


TOPICS_IN_A_PRODUCT = 256
"""So many words at most are matched by a product."""
NUM_LENGTHS = 3
"""How many numbers `length_features` gives."""


def length_features(cuts: Cuts) -> Tensor:
    """Say how long a video is and how long others watch it, as numbers near 0.

        log(1 + s) - log(10), in [-5, 5]; 0 where s is unknown

    Returns:
        (M, NUM_LENGTHS) float32, for s the duration and the thresholds of effective and finished.
    """
    seconds_M3 = torch.stack(
        [cuts.duration_s, cuts.effective_above_s, cuts.finished_above_s], 1
    ).float()
    return torch.nan_to_num(torch.log1p(seconds_M3) - math.log(10), nan=0.0).clamp(-5, 5)


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedCodes:
    """What tells whether a candidate and an event have something in common; N of them."""

    video: Tensor
    """(B, N) equal if, and only if, the video is the same."""
    author: Tensor
    """(B, N) dataset codes; 0 unknown."""
    topics: Tensor
    """(B, N, topics) vocabulary indices; 0 none, 1 unseen."""


def matches(
    candidates: SharedCodes, events: SharedCodes, topics: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Say whether candidate and event share video, author, a topic.

    Args:
        candidates: C of them.
        events: T of them.
        topics: From `topic_rows`, where there is one: a product of two small tables then takes the
            place of comparing each topic with each.

    Returns:
        NUM_MATCHES of (B, C, T) bool.
    """
    same_video = candidates.video.unsqueeze(-1) == events.video.unsqueeze(1)
    author = candidates.author.masked_fill(candidates.author <= 0, -1)  # unknown matches none
    same_author = author.unsqueeze(-1) == events.author.unsqueeze(1)
    if topics is not None:
        asked_BCU, past_BTU = (topics[each.topics].sum(-2) for each in (candidates, events))
        return same_video, same_author, asked_BCU @ past_BTU.transpose(1, 2) > 0
    shared_topic = torch.zeros_like(same_video)
    asked = candidates.topics.masked_fill(candidates.topics <= 1, -1)  # none and unseen match none
    for topic_BC in asked.unbind(-1):
        for topic_BT in events.topics.unbind(-1):
            shared_topic = shared_topic | (topic_BC.unsqueeze(-1) == topic_BT.unsqueeze(1))
    return same_video, same_author, shared_topic


def topic_rows(num_topics: int) -> Tensor | None:
    """Return (U, U) the row that stands for each topic in a product; of none and unseen, zeros.

    None where there are so many that comparing takes less.
    """
    if num_topics > TOPICS_IN_A_PRODUCT:
        return None
    rows_UU = torch.eye(num_topics)
    rows_UU[:FIRST] = 0
    return rows_UU


def _shared_codes(videos: VideoBatch, place_BN: Tensor) -> SharedCodes:
    return SharedCodes(
        video=place_BN, author=videos.author_code[place_BN], topics=videos.topics[place_BN]
    )
