"""How the objectives relate and where they differ: the multi-objective predictor (docs/model.md).

    features_MI  ->  Predictor  ->  Predictions: a logit per objective, expected watch seconds

- *Differences*: shared experts and experts of each group, mixed by a gate per objective.
- *Relations*: `messages` lets each objective's state read the others' through one matrix that can
  be looked at; `curve` also makes glance, effective, long and finished views cuts of one watch
  curve; `independent` does neither.
- M candidates, I inputs, O objectives, D width.

Equations are ours, after MMoE (KDD 2018), PLE (RecSys 2020) and HoME (arXiv 2408.05430); the module
is that of arXiv 2308.13249. Is read by `recommender`. No I/O.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from skipwise.model.curve import NUM_HAZARDS, WatchCurve
from skipwise.model.dropout import Dropout
from skipwise.settings import check_setting

Relation = Literal["independent", "messages", "curve"]
WATCH = "watch"
"""The TIME objective's name among the towers."""
GROUPS: Mapping[str, tuple[str, ...]] = {
    "positive": ("effective", "long", "finished", "like", "follow", "comment", "share", "click"),
    "negative": ("glance", "negative"),
    "time": (WATCH,),
}
OBJECTIVES = (*GROUPS["negative"], *GROUPS["positive"])
"""Every binary objective there may be; a dataset names those it has."""
CURVE_CUTS = ("glance", "effective", "long", "finished")
"""Objectives that are cuts of the watch curve."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectiveSettings:
    """Shape of the predictor."""

    relation: Relation = "curve"
    shared_experts: int = 2
    group_experts: int = 1
    """Experts that only the objectives of one group read."""
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_setting("objectives.shared_experts", self.shared_experts, at_least=1, at_most=64)
        check_setting("objectives.group_experts", self.group_experts, at_least=0, at_most=64)
        check_setting("objectives.dropout", self.dropout, at_least=0, below=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cuts:
    """Where the watch curve is cut for each of the M candidates, in seconds."""

    duration_s: Tensor
    """(M,) NaN unknown."""
    glance_below_s: float
    glance_needs_duration: bool
    long_from_s: float
    effective_above_s: Tensor
    """(M,) threshold of the state the row is scored with; NaN unknown."""
    finished_above_s: Tensor
    watch_at_most_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Predictions:
    """What is predicted for M candidates."""

    logits: Mapping[str, Tensor]
    """(M,) per objective; sigmoid gives the probability."""
    expected_watch_s: Tensor
    """(M,) E[min(w, watch_at_most_s)]; NaN while a curve is trained, where nobody asks."""
    curve: WatchCurve | None
    """The curve, in `curve` mode."""

    def probabilities(self) -> dict[str, Tensor]:
        """Return (M,) probabilities per objective."""
        return {name: logit.sigmoid() for name, logit in self.logits.items()}


class Predictor(nn.Module):
    """Experts, gates, messages and heads."""

    def __init__(
        self,
        inputs: int,
        wide: int,
        width: int,
        objectives: tuple[str, ...],
        settings: ObjectiveSettings,
    ) -> None:
        super().__init__()
        self.relation, self.objectives = settings.relation, objectives
        cut = CURVE_CUTS if settings.relation == "curve" else ()
        self.towers = (*(name for name in objectives if name not in cut), WATCH)
        self.shared = nn.ModuleList(
            _Expert(inputs, width, settings.dropout) for _ in range(settings.shared_experts)
        )
        self.grouped = nn.ModuleDict(
            {
                group: nn.ModuleList(
                    _Expert(inputs, width, settings.dropout) for _ in range(settings.group_experts)
                )
                for group, members in GROUPS.items()
                if any(name in self.towers for name in members)
            }
        )
        mixed = settings.shared_experts + settings.group_experts
        self.gates = nn.ModuleDict({name: nn.Linear(inputs, mixed) for name in self.towers})
        self.open_gates: Tensor
        self.register_buffer("open_gates", self._open_gates(settings), persistent=False)
        self.messages = Messages(self.towers, width) if settings.relation != "independent" else None
        self.heads = nn.ModuleDict(
            {name: nn.Linear(width, self._outputs(name)) for name in self.towers}
        )
        self.wide = nn.ModuleDict(
            {name: nn.Linear(wide, self._outputs(name), bias=False) for name in self.towers}
        )
        for head in self.wide.values():
            nn.init.zeros_(head.weight)  # type: ignore[arg-type]

    def forward(self, features_MI: Tensor, wide_MF: Tensor, cuts: Cuts) -> Predictions:
        """Predict every objective.

        Args:
            features_MI: What the encoder and inputs say of each candidate.
            wide_MF: Counter features, which also reach every head directly.
            cuts: Where the curve is cut.
        """
        states_MOD = self._states(features_MI)
        if self.messages is not None:
            states_MOD = self.messages(states_MOD)
        outputs = self._outputs_of(states_MOD, wide_MF)
        return self._predictions(outputs, cuts)

    @torch.no_grad()
    def start_from(self, rates: Mapping[str, float], leaving: Sequence[float]) -> None:
        """Set the heads' biases so that an untrained model predicts the training window's shares.

        Args:
            rates: Share of positives per objective, in [0, 1].
            leaving: Share of those still watching who leave in each bin of the grid but the last.
        """
        for name in self.towers:
            head = _linear(self.heads[name])
            if name != WATCH:
                head.bias.fill_(_logit(rates[name]))
            elif self.relation == "curve":
                drops = -torch.log1p(-torch.tensor(leaving).clamp(1e-4, 0.9999))
                head.bias[:-1] = torch.log(torch.expm1(drops))
                head.bias[-1] = 2.0

    def _open_gates(self, settings: ObjectiveSettings) -> Tensor:
        """Return places of the towers' gates in a table (O, E) of all experts, flat."""
        shared, own = settings.shared_experts, settings.group_experts
        num_experts, groups = shared + own * len(self.grouped), list(self.grouped)
        return torch.tensor(
            [
                tower * num_experts + expert
                for tower, name in enumerate(self.towers)
                for start in [shared + own * groups.index(_group_of(name))]
                for expert in (*range(shared), *range(start, start + own))
            ]
        )

    def _states(self, features_MI: Tensor) -> Tensor:
        """Mix the experts for each tower, (M, O, D).

        All experts are one product, and all gates: a gate is silent (-inf) where its tower may not
        read an expert.
        """
        parts = (self.shared, *self.grouped.children())
        experts_EMD = all_experts([each for part in parts for each in part.children()], features_MI)
        num_experts = len(experts_EMD)
        weight_GI, bias_G = _stacked(self.gates.children())
        logits_MG = functional.linear(features_MI, weight_GI, bias_G)
        logits_MN = logits_MG.new_full((len(logits_MG), len(self.towers) * num_experts), -torch.inf)
        logits_MN = logits_MN.index_copy(1, self.open_gates, logits_MG)
        gates_MOE = logits_MN.view(-1, len(self.towers), num_experts).softmax(-1)
        states_MOD: Tensor = gates_MOE @ experts_EMD.transpose(0, 1)
        return states_MOD

    def _outputs_of(self, states_MOD: Tensor, wide_MF: Tensor) -> dict[str, Tensor]:
        """Give each tower's head its state and the counters, (M, outputs) each."""
        heads = [_linear(self.heads[name]) for name in self.towers]
        sizes = [head.out_features for head in heads]
        wide_PF = torch.cat([_linear(self.wide[name]).weight for name in self.towers])
        bias_P = torch.cat([head.bias for head in heads])
        direct = torch.split(functional.linear(wide_MF, wide_PF, bias_P), sizes, 1)
        answers_MO = [
            states_MOD[:, place] @ head.weight.T if size > 1 else None
            for place, (head, size) in enumerate(zip(heads, sizes, strict=True))
        ]
        if single := [place for place, size in enumerate(sizes) if size == 1]:
            weight_SD = torch.cat([heads[place].weight for place in single])
            each_MS = (states_MOD[:, single] * weight_SD).sum(-1)
            for column, place in zip(each_MS.split(1, 1), single, strict=True):  # type: ignore[no-untyped-call]
                answers_MO[place] = column
        return {
            name: direct[place] + answer
            for place, (name, answer) in enumerate(zip(self.towers, answers_MO, strict=True))
            if answer is not None
        }

    def _outputs(self, name: str) -> int:
        return NUM_HAZARDS if name == WATCH and self.relation == "curve" else 1

    def _predictions(self, outputs: Mapping[str, Tensor], cuts: Cuts) -> Predictions:
        logits = {name: outputs[name].squeeze(1) for name in self.towers if name != WATCH}
        if self.relation != "curve":
            watch = torch.expm1(outputs[WATCH].squeeze(1).clamp(0, 8)).clamp(
                max=cuts.watch_at_most_s
            )
            return Predictions(logits=logits, expected_watch_s=watch, curve=None)
        curve = WatchCurve.from_outputs(outputs[WATCH], cuts.duration_s)
        logits |= {
            name: logit
            for name, logit in cut_logits(curve, cuts).items()
            if name in self.objectives
        }
        return Predictions(
            logits={name: logits[name] for name in self.objectives},
            expected_watch_s=(
                torch.full_like(curve.duration_s_M, torch.nan)
                if self.training
                else curve.expected_watch_s(cuts.watch_at_most_s)
            ),
            curve=curve,
        )


def cut_logits(curve: WatchCurve, cuts: Cuts) -> dict[str, Tensor]:
    """Read glance, effective, long and finished views off a watch curve (docs/model.md).

        P(glance)    = 1 - S(min(glance_below_s, d))
        P(long)      = S(min(long_from_s, d))
        P(effective) = S(max(Q_effective, min(glance_below_s, d)))     a glance is never effective
        P(finished)  = S(max(Q_finished, min(glance_below_s, d)))

    Returns:
        (M,) logits per objective; where a threshold is unknown, that of the glance cut.
    """
    duration = torch.nan_to_num(cuts.duration_s, nan=torch.inf)
    glance_at = duration.clamp(max=cuts.glance_below_s)
    if not cuts.glance_needs_duration:
        glance_at = torch.where(cuts.duration_s.isnan(), torch.zeros_like(glance_at), glance_at)

    def above(threshold: Tensor) -> Tensor:
        return torch.maximum(torch.nan_to_num(threshold, nan=0.0).to(glance_at), glance_at)

    at_M4 = torch.stack(
        [
            glance_at,
            above(cuts.effective_above_s),
            duration.clamp(max=cuts.long_from_s),
            above(cuts.finished_above_s),
        ],
        1,
    )
    stayed = _logit_of_log(curve.log_survival(at_M4))
    not_glance, effective, long, finished = stayed.unbind(1)
    return {"glance": -not_glance, "effective": effective, "long": long, "finished": finished}


class Messages(nn.Module):
    """Lets each objective's state read the others': t_k + sum_l softmax(A)_kl M t_l, l != k."""

    def __init__(self, names: tuple[str, ...], width: int) -> None:
        super().__init__()
        self.names = names
        self.affinity = nn.Parameter(torch.zeros(len(names), len(names)))
        self.message = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.message.weight)
        self.norm = nn.LayerNorm(width)

    def forward(self, states_MOD: Tensor) -> Tensor:
        """Pass messages once, (M, O, D) -> (M, O, D)."""
        read = torch.einsum("kl,mld->mkd", self.matrix(), self.message(states_MOD))
        passed: Tensor = self.norm(states_MOD + read)
        return passed

    def matrix(self) -> Tensor:
        """Return (O, O): row k says whom objective k listens to; rows sum to 1."""
        if len(self.names) == 1:
            return torch.zeros_like(self.affinity)
        own = torch.eye(len(self.names), dtype=torch.bool, device=self.affinity.device)
        return self.affinity.masked_fill(own, -torch.inf).softmax(-1)


def all_experts(experts: Sequence[nn.Module], features_MI: Tensor) -> Tensor:
    """Ask several experts at once, (E, M, D): the same numbers as one after the other."""
    layers = [each.layers for each in experts if isinstance(each, _Expert)]
    weight_NI, bias_N = _stacked(each[0] for each in layers)
    hidden_MN = layers[0][2](functional.silu(functional.linear(features_MI, weight_NI, bias_N)))
    hidden_EMN = hidden_MN.view(len(hidden_MN), len(layers), -1).transpose(0, 1)
    width = weight_NI.shape[0] // len(layers) // 2
    weight_DN, bias_D = _stacked(each[3] for each in layers)
    states_EMD = torch.baddbmm(
        bias_D.view(len(layers), 1, width),
        hidden_EMN,
        weight_DN.view(len(layers), width, -1).transpose(1, 2),
    )
    norms = [each[4] for each in layers if isinstance(each[4], nn.LayerNorm)]
    return torch.addcmul(
        torch.stack([norm.bias for norm in norms]).unsqueeze(1),
        functional.layer_norm(states_EMD, (width,)),
        torch.stack([norm.weight for norm in norms]).unsqueeze(1),
    )


class _Expert(nn.Module):
    def __init__(self, inputs: int, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, 2 * width),
            nn.SiLU(),
            Dropout(dropout),
            nn.Linear(2 * width, width),
            nn.LayerNorm(width),
        )

    def forward(self, features_MI: Tensor) -> Tensor:
        states_MD: Tensor = self.layers(features_MI)
        return states_MD


def _linear(module: nn.Module) -> nn.Linear:
    assert isinstance(module, nn.Linear)  # noqa: S101 - tells the type checker
    return module


def _stacked(modules: Iterable[nn.Module]) -> tuple[Tensor, Tensor]:
    """Return the weights and biases of linear maps of one input, one below the other."""
    linear = [_linear(each) for each in modules]
    return torch.cat([each.weight for each in linear]), torch.cat([each.bias for each in linear])


def _group_of(name: str) -> str:
    return next(group for group, members in GROUPS.items() if name in members)


def _logit(probability: float) -> float:
    inside = min(max(probability, 1e-4), 1 - 1e-4)
    return math.log(inside / (1 - inside))


def _logit_of_log(log_probability: Tensor) -> Tensor:
    """Turn log p into log(p / (1 - p)), p kept inside [1e-6, 1 - 1e-6]."""
    inside = log_probability.clamp(-13.8, -1e-6)
    return inside - torch.log(-torch.expm1(inside))
