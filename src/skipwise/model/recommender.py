"""The whole network: inputs, encoder, reading, objectives.

    Batch  ->  Recommender  ->  Predictions for M candidates, with the two readings u+ and u-

- One forward pass encodes each stretch once and scores every candidate of it.
- The numbers of a candidate depend on its own visible past and on nothing else in the batch.

Reads `inputs`, `encoder`, `objectives`; is read by training, evaluation and serving. No I/O.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from skipwise.model.encoder import (
    NUM_GROUPS,
    CandidateReader,
    EncoderSettings,
    HistoryEncoder,
    Reading,
    check_heads,
    distance_features,
    slots_of,
    visible_window,
)
from skipwise.model.inputs import Batch, InputLayer, Inputs, InputSettings, InputSizes
from skipwise.model.objectives import Cuts, ObjectiveSettings, Predictions, Predictor
from skipwise.settings import check_setting


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSettings:
    """The whole network; `preset` derives one from a size."""

    width: int = 32
    """D: width of every embedding and of every state."""
    inputs: InputSettings = field(default_factory=InputSettings)
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    objectives: ObjectiveSettings = field(default_factory=ObjectiveSettings)

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """What one forward pass gives."""

    predictions: Predictions
    liking_MD: Tensor
    """u+: the past as read by a candidate supposed watched."""
    disliking_MD: Tensor
    """u-: the past as read by a candidate supposed skipped."""


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
        self.inputs = InputLayer(sizes, width, settings.inputs)
        self.encoder = HistoryEncoder(width, settings.encoder)
        self.reader = CandidateReader(width, settings.encoder)
        self.gate = nn.Linear(width, 2 * width)
        counters = self.inputs.counters.width
        self.counter_states = nn.Sequential(nn.Linear(counters, 2 * width), nn.SiLU())
        self.predictor = Predictor(9 * width, counters, width, objectives, settings.objectives)
        self.dropout = nn.Dropout(settings.encoder.dropout)

    def forward(self, batch: Batch) -> Scores:
        """Score every candidate of a batch."""
        inputs: Inputs = self.inputs(batch)
        history_BTD = self.encode(batch, inputs)
        liking_MD, disliking_MD = self.read(batch, inputs, history_BTD)
        features = torch.cat(
            [
                liking_MD,
                disliking_MD,
                inputs.candidates_MD,
                liking_MD * inputs.candidates_MD,
                disliking_MD * inputs.candidates_MD,
                inputs.context_MD,
                inputs.viewers_MD,
                self.counter_states(inputs.counters_MF),
            ],
            dim=1,
        )
        predictions = self.predictor(self.dropout(features), inputs.counters_MF, self._cuts(batch))
        return Scores(predictions=predictions, liking_MD=liking_MD, disliking_MD=disliking_MD)

    def encode(self, batch: Batch, inputs: Inputs) -> Tensor:
        """Encode the stretches of a batch, (B, T, D)."""
        encoded: Tensor = self.encoder(
            self.dropout(inputs.events_BTD),
            self.inputs.feedback_groups(batch),
            batch.token_time_s,
            batch.token_valid,
        )
        return encoded

    def read(self, batch: Batch, inputs: Inputs, history_BTD: Tensor) -> tuple[Tensor, Tensor]:
        """Read each candidate's visible past as if watched and as if skipped, (M, D) each."""
        read_QMD, _ = self.attend(batch, inputs, history_BTD)
        gate_MD = 2 * self.gate(inputs.context_MD).sigmoid()
        like_gate, dislike_gate = gate_MD.chunk(2, dim=-1)
        return read_QMD[0] * like_gate, read_QMD[-1] * dislike_gate

    def attend(self, batch: Batch, inputs: Inputs, history_BTD: Tensor) -> tuple[Tensor, Tensor]:
        """Return readings (Q, M, D) and attention (Q, M, H, 1 + T) of q+ and q-."""
        watched_D, skipped_D = self.inputs.hypotheses()
        candidate_MD = inputs.candidates_MD + inputs.context_MD
        if self.settings.encoder.two_queries:
            queries_QMD = torch.stack([candidate_MD + watched_D, candidate_MD + skipped_D])
        else:
            queries_QMD = candidate_MD.unsqueeze(0)
        return self.reader.attend(queries_QMD, history_BTD, self._reading(batch))

    def _reading(self, batch: Batch) -> Reading:
        num_stretches, length = batch.token_valid.shape
        slot, num_slots = slots_of(batch.stretch, num_stretches)

        def padded(values_M: Tensor) -> Tensor:
            values_BC = values_M.new_zeros(num_stretches, num_slots)
            values_BC[batch.stretch, slot] = values_M
            return values_BC

        window = self.settings.encoder.history_length
        visible_BCT, back_BCT = visible_window(padded(batch.prefix), length, window)
        lag_BCT = padded(batch.candidate_time_s).unsqueeze(-1) - batch.token_time_s.unsqueeze(1)
        return Reading(
            stretch=batch.stretch,
            slot=slot,
            num_slots=num_slots,
            num_stretches=num_stretches,
            visible_BCT=visible_BCT & batch.token_valid.unsqueeze(1),
            matches_BCTN=self._matches(batch, padded(batch.candidate_video)),
            groups_BTG=functional.one_hot(self.inputs.feedback_groups(batch), NUM_GROUPS).to(
                batch.counters.dtype
            ),
            far_BCTF=distance_features(lag_BCT, back_BCT),
        )

    def _matches(self, batch: Batch, candidate_BC: Tensor) -> Tensor:
        """Return (B, C, T, N): does the candidate share video, author, a topic with the event?"""
        videos = batch.videos
        same_video = candidate_BC.unsqueeze(-1) == batch.token_video.unsqueeze(1)
        author_BC, author_BT = (
            videos.author_code[candidate_BC],
            videos.author_code[batch.token_video],
        )
        same_author = (author_BC.unsqueeze(-1) == author_BT.unsqueeze(1)) & (
            author_BC > 0
        ).unsqueeze(-1)
        topics_BCK, topics_BTK = videos.topics[candidate_BC], videos.topics[batch.token_video]
        shared_topic = torch.zeros_like(same_video)
        for topic_BC in topics_BCK.unbind(-1):
            for topic_BT in topics_BTK.unbind(-1):
                shared = (topic_BC.unsqueeze(-1) == topic_BT.unsqueeze(1)) & (
                    topic_BC > 1
                ).unsqueeze(-1)
                shared_topic = shared_topic | shared
        return torch.stack([same_video, same_author, shared_topic], -1).to(batch.counters.dtype)

    def _cuts(self, batch: Batch) -> Cuts:
        return Cuts(
            duration_s=batch.targets["duration_s"],
            glance_below_s=self.cuts.glance_below_s,
            glance_needs_duration=self.cuts.glance_needs_duration,
            long_from_s=self.cuts.long_from_s,
            effective_above_s=batch.targets["effective_above_s"],
            finished_above_s=batch.targets["finished_above_s"],
            watch_at_most_s=self.cuts.watch_at_most_s,
        )
