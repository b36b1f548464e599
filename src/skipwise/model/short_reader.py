"""How the candidates of one request read a past, for `short_rank`: one softmax for q+ and q-.

    candidates, an encoded past, biases of their pairs  ->  ShortReader  ->  (C, 2, D), gated

With q = (q+ + q-) / 2 and e = (q+ - q-) / 2, the same for every candidate,

    softmax(q+ K)_t = w_t exp(e k_t) / sum_s w_s exp(e k_s),    w = softmax(q K)

and likewise with -e for q-: so both readings are one product of w with a table of the events.
Numbers of a softmax below 1e-38 are 0; a w that small with e k above 80 is lost. [`reader`]

Is read by `short_rank`. No I/O.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from skipwise.features.vocabulary import FIRST
from skipwise.labels.feedback import Feedback
from skipwise.model.reader import CandidateReader
from skipwise.model.reading import HIDDEN, LAG_KNOTS, NUM_MATCHES, STEP_KNOTS
from skipwise.model.recommender import Recommender, SharedCodes, matches

Codes = tuple[Tensor, Tensor, Tensor]
"""Video (N,), author (N,) and topics (N, K), as in `request`."""
_BITS = 62
"""Topics that one word of 64 bits tells apart."""
_WORDS_AT_MOST = 4


class ShortReader(nn.Module):
    """See the module header."""

    @torch.no_grad()
    def __init__(self, model: Recommender) -> None:
        super().__init__()
        reader = model.reader
        assert isinstance(reader, CandidateReader)  # noqa: S101 - `rank_form` has seen to it
        heads, width = reader.heads, model.settings.width
        self.heads, self.per_head = heads, width // heads
        scale = 1 / math.sqrt(self.per_head)
        watched_D, skipped_D = model.inputs.hypotheses()
        key_DD, value_DD = reader.key_value.weight.chunk(2)
        key_D, value_D = reader.key_value.bias.chunk(2)
        no_key_D, no_value_D = reader.no_past.chunk(2)
        self.query_HDd = nn.Buffer(self._of_heads(reader.query.weight * scale))
        self.query_H1d = nn.Buffer(
            (reader.query((watched_D + skipped_D) / 2) * scale).view(heads, 1, -1)
        )
        self.apart_Hd1 = nn.Buffer(
            (reader.query.weight @ (watched_D - skipped_D) * (scale / 2)).view(heads, -1, 1)
        )
        self.key_HDd = nn.Buffer(self._of_heads(key_DD))
        self.value_HDd = nn.Buffer(self._of_heads(value_DD))
        # a key's bias says the same of all events, a value's goes through the attention unchanged
        self.no_key_H1d = nn.Buffer((no_key_D - key_D).view(heads, 1, -1))
        self.no_value_H1d = nn.Buffer((no_value_D - value_D).view(heads, 1, -1))
        self.output_DD = nn.Buffer(reader.output.weight.T.clone())
        self.output_D = nn.Buffer(reader.output.bias + reader.output.weight @ value_D)
        self.norm = reader.norm
        self.gate = model.gate
        self.of_feedback_NF = nn.Buffer(_of_feedback(model, reader))
        distance_H8 = reader.distance.weight
        hidden_H1 = torch.full_like(distance_H8[:, :1], HIDDEN)
        self.distance_H9 = nn.Buffer(
            torch.cat([distance_H8[:, :1], hidden_H1, distance_H8[:, 1:]], 1)
        )
        self.knots_71 = nn.Buffer(torch.tensor([*LAG_KNOTS, *STEP_KNOTS]).unsqueeze(1) / 10)
        self.knot_of_7 = nn.Buffer(torch.tensor([0] * len(LAG_KNOTS) + [1] * len(STEP_KNOTS)))
        self.no_past_1 = nn.Buffer(torch.tensor([len(Feedback)]))
        self.nothing_1 = nn.Buffer(torch.tensor([-1]))
        self.topic_words_UW: Tensor | None
        self.register_buffer("topic_words_UW", _topic_words(model.sizes.topics), persistent=False)

    def forward(
        self, vectors_CD: Tensor, context_1D: Tensor, states_TD: Tensor, biases_HCS: Tensor
    ) -> Tensor:
        """Return the readings of q+ and q-, scaled by the request's context, (C, 2, D)."""
        query_HCd = vectors_CD @ self.query_HDd + (context_1D @ self.query_HDd + self.query_H1d)
        key_HSd = torch.cat([self.no_key_H1d, states_TD @ self.key_HDd], 1)
        value_HSd = torch.cat([self.no_value_H1d, states_TD @ self.value_HDd], 1)
        weights_HCS = (query_HCd @ key_HSd.transpose(1, 2) + biases_HCS).softmax(-1)
        apart_HS1 = key_HSd @ self.apart_Hd1
        apart_HS2 = torch.cat([apart_HS1, -apart_HS1], -1)
        factor_HS2 = (apart_HS2 - apart_HS2.amax(1, keepdim=True)).exp()
        values_HSX = (factor_HS2.unsqueeze(-1) * value_HSd.unsqueeze(2)).flatten(2)
        read_HCX = weights_HCS @ torch.cat([values_HSX, factor_HS2], -1)
        sums_HCX, total_HC2 = torch.split(read_HCX, [2 * self.per_head, 2], -1)
        shape = (self.heads, -1, 2, self.per_head)
        read_HC2d = sums_HCX.reshape(shape) / total_HC2.unsqueeze(-1)
        read_C2D = read_HC2d.permute(1, 2, 0, 3).flatten(2)
        gate_12D = (2 * self.gate(context_1D).sigmoid()).unflatten(-1, (2, -1))
        gated_C2D: Tensor = self.norm(read_C2D @ self.output_DD + self.output_D) * gate_12D
        return gated_C2D

    def biases(
        self, past: Codes, asked: Codes, feedback_T: Tensor, ago_s_T: Tensor, valid_T: Tensor
    ) -> Tensor:
        """Return (H, C, S) biases of lag, steps, feedback and matches; HIDDEN on padding.

        Args:
            past: Of the events.
            asked: Of the candidates.
            feedback_T: How the events ended.
            ago_s_T: float64 seconds from each event to the request; NaN where unknown.
            valid_T: False on padding, at the end.
        """
        unknown_T = ago_s_T.isnan()
        lag_T = ago_s_T.masked_fill(unknown_T, 0.0).clamp(min=0).float()
        arrived_T = valid_T.float().cumsum(0)
        logs_2T = torch.log2(1 + torch.stack([lag_T, arrived_T[-1] - arrived_T])) / 10
        bent_7T = (logs_2T.index_select(0, self.knot_of_7) - self.knots_71).clamp(min=0)
        flags_2T = torch.stack([unknown_T, ~valid_T]).float()
        far_HT = self.distance_H9 @ torch.cat([flags_2T, bent_7T])
        code_S = torch.cat([self.no_past_1, feedback_T])
        own_NS = self.of_feedback_NF.index_select(1, code_S)
        biases_H1S, *match_H1S = own_NS.view(1 + NUM_MATCHES, self.heads, 1, -1).unbind(0)
        biases_HCS: Tensor = biases_H1S + functional.pad(far_HT, (1, 0)).unsqueeze(1)
        for shared_CS, own_H1S in zip(self._shared(past, asked), match_H1S, strict=True):
            biases_HCS = biases_HCS + shared_CS.to(own_H1S.dtype) * own_H1S
        return biases_HCS

    def _shared(self, past: Codes, asked: Codes) -> tuple[Tensor, ...]:
        """Say whether candidate and place share video, author, a topic: three of (C, S) bool."""
        video_S, author_S = (torch.cat([self.nothing_1, each]) for each in past[:2])
        topics_SK = functional.pad(past[2], (0, 0, 1, 0))
        if self.topic_words_UW is None:
            candidates, places = (
                SharedCodes(video=video[None], author=author[None], topics=topics[None])
                for video, author, topics in (asked, (video_S, author_S, topics_SK))
            )
            return tuple(each.squeeze(0) for each in matches(candidates, places))
        topic_CS, *more = (
            (_any_bit(asked[2], bits_U1) & _any_bit(topics_SK, bits_U1).T).bool()
            for bits_U1 in torch.split(self.topic_words_UW, 1, 1)
        )
        for each in more:
            topic_CS = topic_CS | each
        author_S = author_S.masked_fill(author_S == 0, -1)
        return asked[0].unsqueeze(1) == video_S, asked[1].unsqueeze(1) == author_S, topic_CS

    def _of_heads(self, weight_ND: Tensor) -> Tensor:
        """Lay a linear map's weights out by head, (N, D) -> (H, D, d)."""
        return weight_ND.T.reshape(-1, self.heads, self.per_head).transpose(0, 1).clone()


def _of_feedback(model: Recommender, reader: CandidateReader) -> Tensor:
    """Return what an event's outcome adds alone, and where video, author, a topic are shared.

    Returns:
        (4 H, outcomes + 1); the last column is of "no past", to which nothing is added.
    """
    every_F = torch.arange(len(Feedback))
    groups_F = model.inputs.feedback_groups(every_F)
    readable_F = model.readable(torch.ones(len(Feedback), dtype=torch.bool), every_F)
    own_HF = reader.group[:, groups_F] + (~readable_F).float() * HIDDEN
    match_NHF = reader.match.transpose(0, 1)[:, :, groups_F]
    all_NF = torch.cat([own_HF, match_NHF.flatten(0, 1)])
    return torch.cat([all_NF, torch.zeros_like(all_NF[:, :1])], 1)


def _topic_words(num_topics: int) -> Tensor | None:
    """Return (U, W) a bit for each topic in one of W words; none for those that match nothing.

    None where there are so many topics that comparing each with each takes less.
    """
    words = -(-max(num_topics - FIRST, 1) // _BITS)
    if words > _WORDS_AT_MOST:
        return None
    bits_UW = torch.zeros(num_topics, words, dtype=torch.int64)
    for topic in range(FIRST, num_topics):
        word, bit = divmod(topic - FIRST, _BITS)
        bits_UW[topic, word] = 1 << bit
    return bits_UW


def _any_bit(topics_NK: Tensor, bits_U1: Tensor) -> Tensor:
    """Put the bits of K topics into one word, (N, 1); a topic may stand there twice."""
    first, *others = functional.embedding(topics_NK, bits_U1).unbind(1)
    for more in others:
        first = first | more
    return first
