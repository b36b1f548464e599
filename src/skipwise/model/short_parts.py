"""Counters, experts and watch curve with few operations, for `short_rank`.

    counters (C, K), lengths (3, C)  ->  ShortCounters  ->  states, and their share of each output
    parts of features, context       ->  ShortMixer     ->  outputs (C, P) of all towers
    outputs (C, K), durations        ->  ShortCurve     ->  expected watch seconds

- The formulas are those of `counter_features`, `experts`, `objectives` and `curve`.
- Features stand in rows, (F, C), until they are multiplied: a row is taken in one piece.

Is read by `short_rank`. No I/O.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from skipwise.labels.grid import GRID_S
from skipwise.model.curve import REPLAY_RATE_AT_MOST, WatchCurve, mean_decay
from skipwise.model.experts import GroupExperts
from skipwise.model.recommender import NUM_LENGTHS, Recommender

_TEN_S = 10.0
"""A length that is unknown reads as so many seconds: as `recommender.length_features` has it, 0."""


class ShortCounters(nn.Module):
    """Features of counters and lengths: their states, and what they say to every head directly."""

    @torch.no_grad()
    def __init__(self, model: Recommender) -> None:
        super().__init__()
        counters, towers = model.inputs.counters, model.predictor.towers
        views, known = len(counters.views), len(counters.known)
        self.num_amounts, self.num_views, self.prior = views + known, views, counters.prior
        self.rows = nn.Buffer(torch.cat([counters.views, counters.known, counters.positive]))
        self.prior_F1 = nn.Buffer((counters.prior * counters.rate).unsqueeze(1))
        # the network has views, logits, known, lengths; here whatever is log(1 + x) stands first
        sizes = [views, known, known]
        of_views, of_logits, of_known = torch.split(counters.mean, sizes)
        lengths = torch.full((NUM_LENGTHS,), math.log(_TEN_S))
        of_logits = of_logits + torch.logit(counters.rate)
        self.mean_F1 = nn.Buffer(torch.cat([lengths, of_views, of_known, of_logits]).unsqueeze(1))
        of_views, of_logits, of_known = torch.split(counters.spread, sizes)
        spread_F = torch.cat([torch.ones(NUM_LENGTHS), of_views, of_known, of_logits])
        self.scale_F1 = nn.Buffer((1 / spread_F).unsqueeze(1))
        of_views, of_logits, of_known, lengths = torch.split(
            torch.arange(len(spread_F)), [*sizes, NUM_LENGTHS]
        )
        order = torch.cat([lengths, of_views, of_known, of_logits])
        to_states = _linear(model.counter_states[0])
        direct = [_linear(model.predictor.wide[name]).weight for name in towers]
        biases = [_linear(model.predictor.heads[name]).bias for name in towers]
        self.num_states = len(to_states.weight)
        self.weight_FN = nn.Buffer(torch.cat([to_states.weight, *direct])[:, order].T.clone())
        self.bias_N = nn.Buffer(torch.cat([to_states.bias, *biases]))

    def forward(self, counters_CN: Tensor, lengths_3C: Tensor) -> tuple[Tensor, Tensor]:
        """Return states (C, 2 D), and what counters say to each output, biases in it, (C, P).

        Args:
            counters_CN: Raw counts.
            lengths_3C: Duration and the two thresholds, seconds; NaN unknown.
        """
        counted_NC = counters_CN.T.index_select(0, self.rows)
        amounts_NC = counted_NC[: self.num_amounts]
        known_NC, positive_NC = amounts_NC[self.num_views :], counted_NC[self.num_amounts :]
        rate_NC = (positive_NC + self.prior_F1) / (known_NC + self.prior)
        rate_NC = rate_NC.clamp(1e-6, 1 - 1e-6)
        lengths_3C = lengths_3C.masked_fill(lengths_3C.isnan(), _TEN_S - 1)
        features_FC = torch.cat(
            [
                torch.log(1 + torch.cat([lengths_3C, amounts_NC])),
                torch.log(rate_NC / (1 - rate_NC)),
            ]
        )
        features_FC = ((features_FC - self.mean_F1) * self.scale_F1).clamp(-5, 5)
        both_CN = torch.addmm(self.bias_N, features_FC.T, self.weight_FN)
        return functional.silu(both_CN[:, : self.num_states]), both_CN[:, self.num_states :]


class ShortMixer(nn.Module):
    """Experts, gates, messages and heads of all towers; the watch curve's stands last."""

    @torch.no_grad()
    def __init__(self, model: Recommender) -> None:
        super().__init__()
        predictor, width = model.predictor, model.settings.width
        mixer, towers = predictor.mixer, predictor.towers
        assert isinstance(mixer, GroupExperts)  # noqa: S101 - `rank_form` has seen to it
        experts = [each.layers for each in mixer.experts()]
        self.num_experts, self.num_single = len(experts), len(towers) - 1
        first = [_linear(each[0]) for each in experts]
        gates_NI, gates_N = mixer.gate_table()
        weight_NI = torch.cat([*(each.weight for each in first), gates_NI])
        before_NI, asked_NJ, after_NK = torch.split(weight_NI, [5 * width, 2 * width, 2 * width], 1)
        self.own_IN = nn.Buffer(torch.cat([before_NI, after_NK], 1).T.clone())
        self.asked_JN = nn.Buffer(asked_NJ.T.clone())
        self.bias_N = nn.Buffer(torch.cat([*(each.bias for each in first), gates_N]))
        self.num_hidden = len(weight_NI) - len(gates_NI)
        second = [_linear(each[3]) for each in experts]
        norms = [each[4] for each in experts if isinstance(each[4], nn.LayerNorm)]
        self.second_ENM = nn.Buffer(torch.stack([each.weight.T for each in second]))
        self.second_E1M = nn.Buffer(torch.stack([each.bias for each in second]).unsqueeze(1))
        self.scale_E1D = nn.Buffer(torch.stack([norm.weight for norm in norms]).unsqueeze(1))
        self.shift_E1D = nn.Buffer(torch.stack([norm.bias for norm in norms]).unsqueeze(1))
        self.messages = predictor.messages
        heads = [_linear(predictor.heads[name]).weight for name in towers]
        self.single_OD = nn.Buffer(torch.cat(heads[:-1]))
        self.watch_DK = nn.Buffer(heads[-1].T.clone())

    def forward(self, own: Sequence[Tensor], asked_1J: Tensor, direct_CP: Tensor) -> Tensor:
        """Return the outputs of all towers, (C, P).

        Args:
            own: Features of each candidate, (C, 7 D) in all.
            asked_1J: Those that all share.
            direct_CP: What counters say to each output.
        """
        shared_1N = torch.addmm(self.bias_N, asked_1J, self.asked_JN)
        mapped_CN = torch.addmm(shared_1N, torch.cat(list(own), 1), self.own_IN)
        hidden_CN, gates_CN = mapped_CN.tensor_split((self.num_hidden,), 1)
        hidden_CEN = functional.silu(hidden_CN).reshape(
            -1, self.num_experts, self.second_ENM.shape[1]
        )
        states_ECD = hidden_CEN.transpose(0, 1) @ self.second_ENM + self.second_E1M
        states_ECD = torch.addcmul(
            self.shift_E1D,
            functional.layer_norm(states_ECD, states_ECD.shape[-1:]),
            self.scale_E1D,
        )
        gates_COE = gates_CN.reshape(-1, 1 + self.num_single, self.num_experts).softmax(-1)
        states_COD = gates_COE @ states_ECD.transpose(0, 1)
        if self.messages is not None:
            states_COD = self.messages(states_COD)
        single_COD, watch_C1D = states_COD.tensor_split((self.num_single,), 1)
        answers_CP = torch.cat(
            [(single_COD * self.single_OD).sum(-1), watch_C1D.squeeze(1) @ self.watch_DK], 1
        )
        return direct_CP + answers_CP


class ShortCurve(nn.Module):
    """Expected watch seconds: `curve.WatchCurve` with its sums as products."""

    def __init__(self) -> None:
        super().__init__()
        edges_B = torch.tensor(GRID_S)
        number = len(GRID_S) - 1
        self.start_1K = nn.Buffer(edges_B[:-1].unsqueeze(0))
        self.width_K1 = nn.Buffer(edges_B.diff().unsqueeze(1))
        self.per_width_1K = nn.Buffer(1 / edges_B.diff().unsqueeze(0))
        self.before_KB = nn.Buffer(-torch.ones(number, number + 1).triu(1))

    def forward(
        self, outputs_CK: Tensor, duration_s_C: Tensor, up_to_s: float
    ) -> tuple[Tensor, WatchCurve]:
        """Return E[min(w, up_to_s)], (C,) seconds, and the curve.

        Args:
            outputs_CK: As `WatchCurve.from_outputs` takes them.
            duration_s_C: Seconds, NaN unknown.
            up_to_s: Watch time beyond this counts as this.
        """
        drops_CK, replay_C1 = torch.split(
            functional.softplus(outputs_CK), [len(self.width_K1), 1], 1
        )
        log_survival_CB = drops_CK @ self.before_KB
        replay_C1 = (replay_C1 + 1e-3).clamp(max=REPLAY_RATE_AT_MOST)
        survival_CB = log_survival_CB.exp()
        length_C1 = duration_s_C.masked_fill(duration_s_C.isnan(), up_to_s).unsqueeze(1)
        end_C1 = length_C1.clamp(max=up_to_s)
        share_CK = ((end_C1 - self.start_1K) * self.per_width_1K).clamp(0, 1)
        drop_CK = drops_CK * share_CK
        stayed_CK = survival_CB[:, :-1] * share_CK * mean_decay(drop_CK)
        beyond_C1 = (end_C1 - GRID_S[-1]).clamp(min=0) * survival_CB[:, -1:]
        after_C1 = (up_to_s - length_C1).clamp(min=0)
        replays_C1 = (
            (-drop_CK.sum(1, keepdim=True)).exp()
            * after_C1
            * mean_decay(replay_C1 * after_C1 / length_C1)
        )
        expected_C1 = stayed_CK @ self.width_K1 + beyond_C1 + replays_C1
        curve = WatchCurve(log_survival_CB, replay_C1.squeeze(1), duration_s_C)
        return expected_C1.squeeze(1), curve


def _linear(module: nn.Module) -> nn.Linear:
    assert isinstance(module, nn.Linear)  # noqa: S101 - tells the type checker
    return module
