"""How the objectives relate and where they differ: the multi-objective predictor (docs/model.md).

    features_MI  ->  Predictor  ->  Predictions: a logit per objective, expected watch seconds

- *Differences*: shared experts and experts of each group, mixed by a gate per objective
  (`experts`, where the baselines are too).
- *Relations*: `messages` lets each objective's state read the others' through one matrix that can
  be looked at; `curve` also makes glance, effective, long and finished views cuts of one watch
  curve; `independent` does neither.
- M candidates, I inputs, O objectives, D width.

Equations are ours, after MMoE (KDD 2018), PLE (RecSys 2020) and HoME (arXiv 2408.05430); the module
is that of arXiv 2308.13249. Is read by `recommender`. No I/O.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from skipwise.errors import SettingError
from skipwise.model.curve import NUM_HAZARDS, WatchCurve, share_lost
from skipwise.model.experts import MIXERS, GroupExperts, SharedFeatures
from skipwise.model.gradients import written_out
from skipwise.model.products import Linear, linear
from skipwise.model.watch_heads import WATCH_HEADS
from skipwise.settings import check_choice, check_setting

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

    relation: Relation = "messages"
    predictor: str = "groups"
    """What objectives share below their heads: groups, or a baseline of `experts.MIXERS`."""
    watch: str = "curve"
    """How watch time is predicted: by the watch curve, or, where no objective is a cut of it
    (relation messages or independent), by a head of `watch_heads.WATCH_HEADS`."""
    shared_experts: int = 2
    group_experts: int = 1
    """Experts that only the objectives of one group read."""
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_choice("objectives.predictor", self.predictor, MIXERS)
        check_choice("objectives.watch", self.watch, ("curve", *WATCH_HEADS))
        if self.relation == "curve" and self.watch != "curve":
            raise SettingError(
                f"objectives.watch = {self.watch!r} with relation = 'curve', must be 'curve': it "
                "predicts watch time itself. Set objectives.relation=messages or independent."
            )
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
    duration_bucket: Tensor | None = None
    """(M,) int64, 0 unknown; needed by watch heads that know buckets."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Predictions:
    """What is predicted for M candidates."""

    logits: Mapping[str, Tensor]
    """(M,) per objective; sigmoid gives the probability."""
    expected_watch_s: Tensor
    """(M,) E[min(w, watch_at_most_s)]; NaN while a curve is trained, where nobody asks."""
    curve: WatchCurve | None
    """The watch curve, unless a watch head stands in its place."""
    watch_loss: Callable[[Tensor], Tensor] | None = None
    """Of a watch head: (M,) watched seconds -> (M,) losses."""

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
        duration_buckets: int = 1,
    ) -> None:
        super().__init__()
        self.relation, self.objectives = settings.relation, objectives
        cut = CURVE_CUTS if settings.relation == "curve" else ()
        self.towers = (*(name for name in objectives if name not in cut), WATCH)
        self.watch = (
            None if settings.watch == "curve" else WATCH_HEADS[settings.watch](duration_buckets)
        )
        group_of = {
            name: group
            for group, members in GROUPS.items()
            for name in members
            if name in self.towers
        }
        self.mixer = MIXERS[settings.predictor](inputs, width, self.towers, group_of, settings)
        self.messages = Messages(self.towers, width) if settings.relation != "independent" else None
        self.heads = nn.ModuleDict(
            {name: nn.Linear(width, self._outputs(name)) for name in self.towers}
        )
        self.wide = nn.ModuleDict(
            {name: nn.Linear(wide, self._outputs(name), bias=False) for name in self.towers}
        )
        for head in self.wide.values():
            nn.init.zeros_(head.weight)  # type: ignore[arg-type]

    def forward(
        self, features_MI: Tensor | SharedFeatures, wide_MF: Tensor, cuts: Cuts
    ) -> Predictions:
        """Predict every objective.

        Args:
            features_MI: What the encoder and inputs say of each candidate.
            wide_MF: Counter features, which also reach every head directly.
            cuts: Where the curve is cut.
        """
        mixer, messages = self.mixer, self.messages
        if isinstance(features_MI, SharedFeatures) and not isinstance(mixer, GroupExperts):
            features_MI = features_MI.whole()
        if written_out(features_MI) and isinstance(mixer, GroupExperts) and messages is not None:
            states_MOD = messages.of_mixtures(*mixer.parts(features_MI))
        else:
            states_MOD = mixer(features_MI)
            if messages is not None:
                states_MOD = messages(states_MOD)
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
            elif self.watch is None:
                drops = -torch.log1p(-torch.tensor(leaving).clamp(1e-4, 0.9999))
                head.bias[:-1] = torch.log(torch.expm1(drops))
                head.bias[-1] = 2.0

    def _outputs_of(self, states_MOD: Tensor, wide_MF: Tensor) -> dict[str, Tensor]:
        """Give each tower's head its state and the counters, (M, outputs) each."""
        heads = [_linear(self.heads[name]) for name in self.towers]
        sizes = [head.out_features for head in heads]
        wide_PF = torch.cat([_linear(self.wide[name]).weight for name in self.towers])
        bias_P = torch.cat([head.bias for head in heads])
        if written_out(states_MOD):  # one product: most of it zeros, but one pass over the states
            weight_PL = torch.block_diag(*[head.weight for head in heads])  # type: ignore[no-untyped-call]
            direct_MP = linear(wide_MF, wide_PF, bias_P)
            answers_MP = direct_MP + linear(states_MOD.flatten(1), weight_PL)
            return dict(zip(self.towers, torch.split(answers_MP, sizes, 1), strict=True))
        direct = torch.split(functional.linear(wide_MF, wide_PF, bias_P), sizes, 1)
        answers_MO = [
            states_MOD[:, place] @ head.weight.T if size > 1 else None
            for place, (head, size) in enumerate(zip(heads, sizes, strict=True))
        ]
        if single := [place for place, size in enumerate(sizes) if size == 1]:
            weight_SD = torch.cat([heads[place].weight for place in single])
            first, beyond = single[0], single[-1] + 1
            together = beyond - first == len(single)
            states_MSD = states_MOD[:, first:beyond] if together else states_MOD[:, single]
            each_MS = (states_MSD * weight_SD).sum(-1)
            for column, place in zip(each_MS.split(1, 1), single, strict=True):  # type: ignore[no-untyped-call]
                answers_MO[place] = column
        return {
            name: direct[place] + answer
            for place, (name, answer) in enumerate(zip(self.towers, answers_MO, strict=True))
            if answer is not None
        }

    def _outputs(self, name: str) -> int:
        if name != WATCH:
            return 1
        return NUM_HAZARDS if self.watch is None else self.watch.outputs

    def _predictions(self, outputs: Mapping[str, Tensor], cuts: Cuts) -> Predictions:
        logits = {name: outputs[name].squeeze(1) for name in self.towers if name != WATCH}
        if self.watch is not None:
            bucket = cuts.duration_bucket
            if bucket is None:
                bucket = torch.zeros_like(cuts.duration_s, dtype=torch.int64)
            guess = self.watch.read(outputs[WATCH], bucket, cuts.watch_at_most_s)
            return Predictions(
                logits=logits,
                expected_watch_s=guess.expected_s,
                curve=None,
                watch_loss=guess.loss,
            )
        curve = WatchCurve.from_outputs(outputs[WATCH], cuts.duration_s)
        if self.relation == "curve":
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
        self.message = Linear(width, width, bias=False)
        nn.init.zeros_(self.message.weight)
        self.norm = nn.LayerNorm(width)

    def forward(self, states_MOD: Tensor) -> Tensor:
        """Pass messages once, (M, O, D) -> (M, O, D)."""
        read = self.matrix() @ self.message(states_MOD)
        passed: Tensor = self.norm(states_MOD + read)
        return passed

    def of_mixtures(self, gates_MOE: Tensor, experts_MED: Tensor) -> Tensor:
        """Pass messages between the mixtures G E of few experts, (M, O, D).

        Messages are linear, so that they need no state of each objective to be made first:

            G E + A (G E) M^T = [G, A G] [E; E M^T]
        """
        num_experts = gates_MOE.shape[2]
        each_KL = torch.kron(self.matrix(), torch.eye(num_experts, device=gates_MOE.device))
        heard_MOE = linear(gates_MOE.flatten(1), each_KL).view_as(gates_MOE)
        read_MOD = torch.cat([gates_MOE, heard_MOE], 2) @ torch.cat(
            [experts_MED, self.message(experts_MED)], 1
        )
        passed: Tensor = self.norm(read_MOD)
        return passed

    def matrix(self) -> Tensor:
        """Return (O, O): row k says whom objective k listens to; rows sum to 1."""
        if len(self.names) == 1:
            return torch.zeros_like(self.affinity)
        own = torch.eye(len(self.names), dtype=torch.bool, device=self.affinity.device)
        return self.affinity.masked_fill(own, -torch.inf).softmax(-1)


def _linear(module: nn.Module) -> nn.Linear:
    assert isinstance(module, nn.Linear)  # noqa: S101 - tells the type checker
    return module


def _logit(probability: float) -> float:
    inside = min(max(probability, 1e-4), 1 - 1e-4)
    return math.log(inside / (1 - inside))


def _logit_of_log(log_probability: Tensor) -> Tensor:
    """Turn log p into log(p / (1 - p)), p kept inside [1e-6, 1 - 1e-6]."""
    inside = log_probability.clamp(-13.8, -1e-6)
    return inside - torch.log(share_lost(-inside))
