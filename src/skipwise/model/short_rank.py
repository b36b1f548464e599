"""A ranking in two thirds of its operations: what is exported for one request.

    the arguments of `forms.RankForm`  ->  ShortRankForm  ->  the same logits (C, O), seconds (C,)

- A runtime pays for each operation, however small. What depends on weights alone is worked out when
  the form is made, what depends on an event alone is looked up, nothing is laid out twice.
- q+ and q- differ by a vector that is the same for all candidates, so their logits by a number of
  the event alone: one softmax of the query halfway serves both (`ShortReader`).
- The formulas are those of `reader`, `counter_features`, `experts`, `objectives` and `curve`, the
  eager `RankForm` is the reference; equal up to rounding (`tests/serving/test_short_rank.py`).
- T events oldest first, at most W of them (`Backend.read_of`), S = 1 + T places of which 0 is
  "no past"; C candidates, H heads of d numbers, D width, E experts, O towers, F features.

Reads `recommender` and its parts; is read by serving, which exports it. No I/O.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from skipwise.model.experts import GroupExperts
from skipwise.model.forms import RankForm
from skipwise.model.objectives import cut_logits
from skipwise.model.reader import CandidateReader
from skipwise.model.recommender import Recommender
from skipwise.model.short_parts import ShortCounters, ShortCurve, ShortMixer
from skipwise.model.short_reader import ShortReader


def rank_form(model: Recommender) -> nn.Module:
    """Return the form to export: the short one where it can say what the model says."""
    settings = model.settings
    inputs, objectives = settings.inputs, settings.objectives
    short = (
        isinstance(model.reader, CandidateReader)
        and settings.encoder.queries == 2
        and isinstance(model.predictor.mixer, GroupExperts)
        and objectives.watch == "curve"
        and len(model.predictor.towers) > 1
        and inputs.use_context
        and inputs.use_counters
        and inputs.use_skips
    )
    return ShortRankForm(model) if short else RankForm(model)


class ShortRankForm(nn.Module):
    """See the module header; `rank_form` says of which models it can be made."""

    @torch.no_grad()
    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.width, self.cuts_at, self.up_to_s = (
            model.settings.width,
            model.cuts_at,
            model.cuts.watch_at_most_s,
        )
        embeddings = model.inputs.context.values()  # in the order of `request.CONTEXT`
        tables = [each.weight for each in embeddings if isinstance(each, nn.Embedding)]
        self.context_RD = nn.Buffer(torch.cat(tables).detach())
        starts = [0, *(len(table) for table in tables[:-1])]
        self.context_starts_5 = nn.Buffer(torch.tensor(starts).cumsum(0))
        self.viewer_extra = model.inputs.viewer_extra
        self.reader = ShortReader(model)
        self.counters = ShortCounters(model)
        self.mixer = ShortMixer(model)
        self.curve = ShortCurve()
        self.columns = _columns(model)

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
        vectors_CD = vectors_CD[:, : self.width]
        rows_5 = context_5 + self.context_starts_5
        context_1D = self.context_RD.index_select(0, rows_5).sum(0, keepdim=True)
        viewer_1D = self.viewer_extra(
            viewer_categories_E.unsqueeze(0), viewer_numbers_F.unsqueeze(0)
        )
        biases_HCS = self.reader.biases(
            (past_video_T, past_author_T, past_topics_TK),
            (video_C, author_C, topics_CK),
            feedback_T,
            requested_s - time_s_T,
            valid_T,
        )
        read_C2D = self.reader(vectors_CD, context_1D, states_TD, biases_HCS)
        lengths_3C = torch.stack([duration_s_C, effective_above_s_C, finished_above_s_C])
        counted_CD, direct_CP = self.counters(counters_CN, lengths_3C)
        outputs_CP = self.mixer(
            [
                read_C2D.flatten(1),
                vectors_CD,
                (read_C2D * vectors_CD.unsqueeze(1)).flatten(1),
                counted_CD,
            ],
            torch.cat([context_1D, viewer_1D], 1),
            direct_CP,
        )
        logits_CO, curve_CK = outputs_CP.tensor_split((self.mixer.num_single,), 1)
        expected_s_C, curve = self.curve(curve_CK, duration_s_C, self.up_to_s)
        if self.columns is not None:
            cuts = self.cuts_at(duration_s_C, effective_above_s_C, finished_above_s_C)
            cut = cut_logits(curve, cuts)
            columns = [*logits_CO.unbind(1), *cut.values()]
            logits_CO = torch.stack([columns[place] for place in self.columns], 1)
        return logits_CO, expected_s_C


def _columns(model: Recommender) -> Sequence[int] | None:
    """Say where each objective stands among single towers and cuts; None where nothing is cut."""
    predictor = model.predictor
    if predictor.relation != "curve":
        return None
    places = [*predictor.towers[:-1], "glance", "effective", "long", "finished"]
    return [places.index(name) for name in model.objectives]
