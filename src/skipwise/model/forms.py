"""The network as serving asks it: one viewer, one request, many candidates.

    Encoded or nothing, History of what came after  ->  EncodeForm  ->  encoded events (T, D)
    Encoded, Request, Candidates  ->  RankForm  ->  logits (C, O), expected watch seconds (C,)
    Encoded, Request  ->  FindForm  ->  the viewer's retrieval vector (R + r,)

- The same modules as in training, run on one stretch: a request is the one slot at the end of a
  stretch whose every event has arrived. Equal to `predict_rows` up to rounding.
- Events may be padded at the end (`valid` False), those encoded before at the front; padding
  changes nothing. A form is a pure function of flat tensors, so that it can be exported.
- T events oldest first, P events encoded before them, L encoder blocks, C candidates, D width, O
  objectives, K topics of a video; the arguments are the columns of `request`'s classes.

Reads `recommender`; is read by serving. No I/O.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from skipwise.model.batch import ContextBatch
from skipwise.model.encoder import HistoryEncoder
from skipwise.model.inputs import Inputs
from skipwise.model.reading import NUM_GROUPS, Reading, visible_window
from skipwise.model.recommender import Recommender, Scores, SharedCodes, matches, topic_rows
from skipwise.model.retrieval import WatchedPast


class EncodeForm(nn.Module):
    """Encodes one viewer's events, after those that were encoded before."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.model = model

    def forward(  # noqa: PLR0913, PLR0917 - an exported form takes flat tensors
        self,
        given_PLD: Tensor,
        past_feedback_P: Tensor,
        past_time_s_P: Tensor,
        past_valid_P: Tensor,
        vectors_TD: Tensor,
        feedback_T: Tensor,
        watch_share_T: Tensor,
        context_T5: Tensor,
        time_s_T: Tensor,
        valid_T: Tensor,
    ) -> tuple[Tensor, ...]:
        """Return the encoded events (T, D), and what each block was given of them (T, L, D).

        An encoder whose events cannot follow others reads and returns nothing of what is given.
        """
        inputs, valid_1T = self.model.inputs, valid_T.unsqueeze(0)
        events_1TD = inputs.embed_events(
            vectors_TD[:, : self.model.settings.width].unsqueeze(0),
            feedback_T.unsqueeze(0),
            watch_share_T.unsqueeze(0),
            _context(context_T5.unsqueeze(0)),
        )
        events_1TD = events_1TD * valid_1T.unsqueeze(-1)
        encoder = self.model.encoder
        if not (isinstance(encoder, HistoryEncoder) and self.model.settings.encoder.follows):
            feedback_1T = feedback_T.unsqueeze(0)
            encoded_1TD: Tensor = encoder(
                events_1TD,
                inputs.feedback_groups(feedback_1T),
                time_s_T.unsqueeze(0),
                self.model.readable(valid_1T, feedback_1T),
            )
            return (encoded_1TD.squeeze(0),)
        feedback_1S = torch.cat([past_feedback_P, feedback_T]).unsqueeze(0)
        encoded_1TD, given_L1TD = encoder.follow(
            events_1TD,
            given_PLD.transpose(0, 1).unsqueeze(1),
            inputs.feedback_groups(feedback_1S),
            torch.cat([past_time_s_P, time_s_T]).unsqueeze(0),
            self.model.readable(torch.cat([past_valid_P, valid_T]).unsqueeze(0), feedback_1S),
        )
        return encoded_1TD.squeeze(0), given_L1TD.squeeze(1).transpose(0, 1)


class RankForm(nn.Module):
    """Predicts every objective for the candidates of one request."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.model = model
        self.topic_rows: Tensor | None
        self.register_buffer("topic_rows", topic_rows(model.sizes.topics), persistent=False)

    def forward(  # noqa: PLR0913, PLR0917 - an exported form takes flat tensors
        self,
        states_TD: Tensor,
        past_video_T: Tensor,
        past_author_T: Tensor,
        past_topics_TK: Tensor,
        feedback_T: Tensor,
        time_s_T: Tensor,
        valid_T: Tensor,
        context_5: Tensor,
        requested_s: Tensor,
        viewer_categories_E: Tensor,
        viewer_numbers_F: Tensor,
        vectors_CD: Tensor,
        video_C: Tensor,
        author_C: Tensor,
        topics_CK: Tensor,
        counters_CN: Tensor,
        duration_s_C: Tensor,
        effective_above_s_C: Tensor,
        finished_above_s_C: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return logits (C, O) in the order of `model.objectives`, and expected seconds (C,)."""
        scores, _ = self.read(
            states_TD,
            past_video_T,
            past_author_T,
            past_topics_TK,
            feedback_T,
            time_s_T,
            valid_T,
            context_5,
            requested_s,
            viewer_categories_E,
            viewer_numbers_F,
            vectors_CD,
            video_C,
            author_C,
            topics_CK,
            counters_CN,
            duration_s_C,
            effective_above_s_C,
            finished_above_s_C,
        )
        logits = scores.predictions.logits
        return (
            torch.stack([logits[name] for name in self.model.objectives], 1),
            scores.predictions.expected_watch_s,
        )

    def read(  # noqa: PLR0913, PLR0917 - an exported form takes flat tensors
        self,
        states_TD: Tensor,
        past_video_T: Tensor,
        past_author_T: Tensor,
        past_topics_TK: Tensor,
        feedback_T: Tensor,
        time_s_T: Tensor,
        valid_T: Tensor,
        context_5: Tensor,
        requested_s: Tensor,
        viewer_categories_E: Tensor,
        viewer_numbers_F: Tensor,
        vectors_CD: Tensor,
        video_C: Tensor,
        author_C: Tensor,
        topics_CK: Tensor,
        counters_CN: Tensor,
        duration_s_C: Tensor,
        effective_above_s_C: Tensor,
        finished_above_s_C: Tensor,
    ) -> tuple[Scores, Tensor]:
        """Return what is predicted, and where each candidate looks, (Q, C, H, 1 + T).

        Of the 1 + T the first is "no past"; `Recommender.attend` says what Q is.
        """
        model, inputs = self.model, self.model.inputs
        vectors_CD = vectors_CD[:, : model.settings.width]
        past = SharedCodes(
            video=past_video_T.unsqueeze(0),
            author=past_author_T.unsqueeze(0),
            topics=past_topics_TK.unsqueeze(0),
        )
        asked = SharedCodes(
            video=video_C.unsqueeze(0), author=author_C.unsqueeze(0), topics=topics_CK.unsqueeze(0)
        )
        context_1D = inputs.embed_context(_context(context_5.unsqueeze(0)))
        reading = one_request(
            model,
            matches(asked, past, self.topic_rows),
            feedback_T,
            time_s_T,
            valid_T,
            requested_s,
        )
        read_QCD, attention_QCHS = model.reader.attend(
            model.queries(vectors_CD, context_1D), states_TD.unsqueeze(0), reading
        )
        liking_CD, disliking_CD = model.gated(read_QCD, context_1D)
        viewer_1D = inputs.viewer_extra(
            viewer_categories_E.unsqueeze(0), viewer_numbers_F.unsqueeze(0)
        )
        scores = model.score(
            liking_CD,
            disliking_CD,
            Inputs(
                events_BTD=states_TD.unsqueeze(0),
                candidates_MD=vectors_CD,
                context_MD=context_1D,
                viewers_MD=viewer_1D,
                counters_MF=inputs.counter_features(counters_CN),
            ),
            model.cuts_at(duration_s_C, effective_above_s_C, finished_above_s_C),
        )
        return scores, attention_QCHS


class FindForm(nn.Module):
    """Makes the retrieval vector of the viewer of one request."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        states_TD: Tensor,
        co_watched_TR: Tensor,
        feedback_T: Tensor,
        time_s_T: Tensor,
        valid_T: Tensor,
        context_5: Tensor,
        viewer_categories_E: Tensor,
        viewer_numbers_F: Tensor,
    ) -> Tensor:
        """Return the vector, (R + r,)."""
        model, inputs = self.model, self.model.inputs
        reading = one_request(model, (), feedback_T, time_s_T, valid_T, time_s_T.new_zeros(()))
        past = WatchedPast(
            history_BTD=states_TD.unsqueeze(0), co_watched_BTR=co_watched_TR.unsqueeze(0)
        )
        viewer_1D = inputs.viewer_extra(
            viewer_categories_E.unsqueeze(0), viewer_numbers_F.unsqueeze(0)
        )
        context_1D = inputs.embed_context(_context(context_5.unsqueeze(0)))
        return model.retrieval.viewers(past, reading, context_1D, viewer_1D).squeeze(0)


def one_request(
    model: Recommender,
    shared: tuple[Tensor, ...],
    feedback_T: Tensor,
    time_s_T: Tensor,
    valid_T: Tensor,
    requested_s: Tensor,
) -> Reading:
    """Lay out what the C candidates of one request may read: every event that has arrived.

    Args:
        model: For its window and its groups.
        shared: What each candidate shares with each event, from `matches`.
        feedback_T: How the events ended.
        time_s_T: float64 seconds, NaN unknown.
        valid_T: False on padding, at the end.
        requested_s: () float64 seconds.
    """
    window = model.settings.encoder.history_length
    prefix_11 = valid_T.sum().view(1, 1)
    visible_11T, back_11T = visible_window(prefix_11, feedback_T.shape[0], window)
    groups_1T = model.inputs.feedback_groups(feedback_T.unsqueeze(0))
    return _OneRequest(
        stretch=valid_T,
        slot=valid_T,
        num_slots=1,
        num_stretches=1,
        visible_BCT=visible_11T & model.readable(valid_T, feedback_T),
        back_BCT=back_11T,
        matches=shared,
        groups_BTG=functional.one_hot(groups_1T, NUM_GROUPS).to(torch.float32),
        time_s_BT=time_s_T.unsqueeze(0),
        requested_s_BC=requested_s.view(1, 1),
    )


class _OneRequest(Reading):
    """A reading whose candidates all belong to one stretch: slots are the candidates themselves."""

    def pad(self, values: Tensor) -> Tensor:
        return values.unsqueeze(1)

    def flat(self, padded: Tensor) -> Tensor:
        return padded.squeeze(1)

    def of_candidates(self, values_BT: Tensor) -> Tensor:
        return values_BT  # one for all of them

    def visible_to_candidates(self) -> Tensor:
        return self.visible_BCT.squeeze(1)


def _context(columns: Tensor) -> ContextBatch:
    surface, hour, gap, place, run = columns.unbind(-1)
    return ContextBatch(surface=surface, hour=hour, gap=gap, place=place, run=run)
