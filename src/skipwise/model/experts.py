"""What do objectives share below their heads? One class for each answer, chosen by a setting.

    features_MI  ->  MIXERS[objectives.predictor]  ->  states_MOD, one state per tower

- `groups`, the default: experts of all and experts of each group, mixed by a gate per objective.
- `single`, `shared_bottom`, `mmoe` and `ple` are the baselines it is measured against: nothing
  shared, all shared, experts that all share, and experts of all beside those of each objective.
- Heads, counters that reach them directly and relations between objectives are the same for all.
- M candidates, I inputs, O towers, E experts, D width.

Is read by `objectives`. No I/O.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from skipwise.model.dropout import Dropout
from skipwise.model.gradients import two_layers, written_out
from skipwise.model.products import Linear, linear


@dataclass(frozen=True, slots=True)
class SharedFeatures:
    """Features of the candidates of one request, where some columns are the same for all of them.

    A linear map takes those once instead of M times: of the default network, two ninths less.
    """

    before_MI: Tensor
    shared_1J: Tensor
    after_MK: Tensor
    """Columns in the order before, shared, after."""

    def whole(self) -> Tensor:
        """Return (M, I + J + K) features."""
        shared_MJ = self.shared_1J.expand(len(self.before_MI), -1)
        return torch.cat([self.before_MI, shared_MJ, self.after_MK], 1)

    def mapped(self, weight_NF: Tensor, bias_N: Tensor) -> Tensor:
        """Return a linear map of the whole, (M, N)."""
        sizes = [self.before_MI.shape[1], self.shared_1J.shape[1], self.after_MK.shape[1]]
        before_NI, shared_NJ, after_NK = torch.split(weight_NF, sizes, 1)
        own_MC = torch.cat([self.before_MI, self.after_MK], 1)
        own_NC = torch.cat([before_NI, after_NK], 1)
        return functional.linear(own_MC, own_NC) + functional.linear(
            self.shared_1J, shared_NJ, bias_N
        )


class ExpertSettings(Protocol):
    """What of the predictor's settings is read here."""

    @property
    def shared_experts(self) -> int:
        """Experts that every objective reads."""

    @property
    def group_experts(self) -> int:
        """Experts of a group, or in `ple` of an objective."""

    @property
    def dropout(self) -> float:
        """Inside an expert."""


SHUT = -30_000.0
"""Logit of a gate that lets nothing through: exp of it is 0 exactly."""


class GroupExperts(nn.Module):
    """Shared experts and experts of each group, after PLE (RecSys 2020) and HoME (2408.05430)."""

    def __init__(
        self,
        inputs: int,
        width: int,
        towers: Sequence[str],
        group_of: Mapping[str, str],
        settings: ExpertSettings,
    ) -> None:
        super().__init__()
        self.towers, self.group_of = towers, group_of
        dropout = settings.dropout
        self.shared = _experts(settings.shared_experts, inputs, width, dropout)
        self.grouped = nn.ModuleDict(
            {
                group: _experts(settings.group_experts, inputs, width, dropout)
                for group in dict.fromkeys(group_of.values())
                if any(group_of[name] == group for name in towers)
            }
        )
        mixed = settings.shared_experts + settings.group_experts
        self.gates = nn.ModuleDict({name: Linear(inputs, mixed) for name in towers})
        self.open_gates: Tensor
        self.register_buffer("open_gates", self._open_gates(settings), persistent=False)

    def forward(self, features_MI: Tensor | SharedFeatures) -> Tensor:
        """Mix the experts for each tower, (M, I) -> (M, O, D).

        All experts are one product, and all gates: a gate is shut where its tower may not
        read an expert.
        """
        gates_MOE, experts_MED = self.parts(features_MI)
        states_MOD: Tensor = gates_MOE @ experts_MED
        return states_MOD

    def parts(self, features_MI: Tensor | SharedFeatures) -> tuple[Tensor, Tensor]:
        """Return how much each tower takes, (M, O, E), of what the experts say, (M, E, D)."""
        experts_MED = all_experts(self.experts(), features_MI)
        weight_NI, bias_N = self.gate_table()
        table = (len(self.towers), experts_MED.shape[1])
        if written_out(features_MI):  # a softmax over five numbers side by side takes seven times
            logits_NM = linear(features_MI, weight_NI, bias_N).t().contiguous()
            gates_OEM = logits_NM.view(*table, -1).softmax(1)
            return gates_OEM.permute(2, 0, 1), experts_MED
        logits_MN = _mapped(features_MI, weight_NI, bias_N)
        return logits_MN.view(-1, *table).softmax(-1), experts_MED

    def experts(self) -> list["Expert"]:
        """Return those of all, then those of each group."""
        parts = (self.shared, *self.grouped.children())
        return [each for part in parts for each in part.children() if isinstance(each, Expert)]

    def gate_table(self) -> tuple[Tensor, Tensor]:
        """Return weights (O E, I) and biases (O E,) of all gates, shut ones among them."""
        weight_GI, bias_G = _stacked(self.gates.children())
        every = len(self.towers) * len(self.experts())
        weight_NI = weight_GI.new_zeros(every, weight_GI.shape[1])
        weight_NI = weight_NI.index_copy(0, self.open_gates, weight_GI)
        return weight_NI, bias_G.new_full((every,), SHUT).index_copy(0, self.open_gates, bias_G)

    def _open_gates(self, settings: ExpertSettings) -> Tensor:
        """Return places of the towers' gates in a table (O, E) of all experts, flat."""
        shared, own = settings.shared_experts, settings.group_experts
        num_experts, groups = shared + own * len(self.grouped), list(self.grouped)
        return torch.tensor(
            [
                tower * num_experts + expert
                for tower, name in enumerate(self.towers)
                for start in [shared + own * groups.index(self.group_of[name])]
                for expert in (*range(shared), *range(start, start + own))
            ]
        )


class SingleTask(nn.Module):
    """An expert of its own for each objective: nothing is shared above the encoder."""

    def __init__(
        self,
        inputs: int,
        width: int,
        towers: Sequence[str],
        group_of: Mapping[str, str],
        settings: ExpertSettings,
    ) -> None:
        super().__init__()
        del group_of
        self.own = nn.ModuleDict({name: Expert(inputs, width, settings.dropout) for name in towers})

    def forward(self, features_MI: Tensor) -> Tensor:
        """Ask each objective's own expert, (M, I) -> (M, O, D)."""
        return torch.stack([expert(features_MI) for expert in self.own.values()], 1)


class SharedBottom(nn.Module):
    """One expert below a small tower of each objective (Caruana, 1997)."""

    def __init__(
        self,
        inputs: int,
        width: int,
        towers: Sequence[str],
        group_of: Mapping[str, str],
        settings: ExpertSettings,
    ) -> None:
        super().__init__()
        del group_of
        self.bottom = Expert(inputs, width, settings.dropout)
        self.own = nn.ModuleDict({name: _tower(width) for name in towers})

    def forward(self, features_MI: Tensor) -> Tensor:
        """Read the one expert through each tower, (M, I) -> (M, O, D)."""
        bottom_MD = self.bottom(features_MI)
        return torch.stack([tower(bottom_MD) for tower in self.own.values()], 1)


class MultiGate(nn.Module):
    """Experts that all share, a gate and a tower per objective: MMoE (Ma et al., KDD 2018)."""

    def __init__(
        self,
        inputs: int,
        width: int,
        towers: Sequence[str],
        group_of: Mapping[str, str],
        settings: ExpertSettings,
    ) -> None:
        super().__init__()
        del group_of
        number = settings.shared_experts + settings.group_experts
        self.shared = _experts(number, inputs, width, settings.dropout)
        self.gates = nn.ModuleDict({name: Linear(inputs, number) for name in towers})
        self.own = nn.ModuleDict({name: _tower(width) for name in towers})

    def forward(self, features_MI: Tensor) -> Tensor:
        """Mix the shared experts for each objective, (M, I) -> (M, O, D)."""
        shared = _outputs(self.shared, features_MI)
        states = [
            tower(_gated(self.gates[name], features_MI, shared)) for name, tower in self.own.items()
        ]
        return torch.stack(states, 1)


class ProgressiveLayers(nn.Module):
    """Two levels of experts of all and of each objective: PLE (Tang et al., RecSys 2020)."""

    def __init__(
        self,
        inputs: int,
        width: int,
        towers: Sequence[str],
        group_of: Mapping[str, str],
        settings: ExpertSettings,
    ) -> None:
        super().__init__()
        del group_of
        self.first = _Extraction(inputs, width, towers, settings, passes_shared_on=True)
        self.second = _Extraction(width, width, towers, settings, passes_shared_on=False)
        self.own = nn.ModuleDict({name: _tower(width) for name in towers})

    def forward(self, features_MI: Tensor) -> Tensor:
        """Extract twice, (M, I) -> (M, O, D)."""
        own, shared_MD = self.first(dict.fromkeys(self.own, features_MI), features_MI)
        own, _ = self.second(own, shared_MD)
        return torch.stack([tower(own[name]) for name, tower in self.own.items()], 1)


class _Extraction(nn.Module):
    """One level of PLE: what each objective, and what all, take on to the next."""

    def __init__(
        self,
        inputs: int,
        width: int,
        towers: Sequence[str],
        settings: ExpertSettings,
        *,
        passes_shared_on: bool,
    ) -> None:
        super().__init__()
        number_own = max(1, settings.group_experts)
        self.shared = _experts(settings.shared_experts, inputs, width, settings.dropout)
        self.own = nn.ModuleDict(
            {name: _experts(number_own, inputs, width, settings.dropout) for name in towers}
        )
        mixed = settings.shared_experts + number_own
        self.gates = nn.ModuleDict({name: Linear(inputs, mixed) for name in towers})
        every = settings.shared_experts + number_own * len(towers)
        self.shared_gate = Linear(inputs, every) if passes_shared_on else None

    def forward(
        self, own: Mapping[str, Tensor], shared_MI: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        shared = _outputs(self.shared, shared_MI)
        experts = {name: _outputs(part, own[name]) for name, part in self.own.items()}
        states = {
            name: _gated(self.gates[name], own[name], [*shared, *experts[name]])
            for name in self.own
        }
        if self.shared_gate is None:
            return states, shared_MI
        every = [*shared, *(state_MD for found in experts.values() for state_MD in found)]
        return states, _gated(self.shared_gate, shared_MI, every)


class Expert(nn.Module):
    """Two layers that turn features into a state."""

    def __init__(self, inputs: int, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Linear(inputs, 2 * width),
            nn.SiLU(),
            Dropout(dropout),
            Linear(2 * width, width),
            nn.LayerNorm(width),
        )

    def forward(self, features_MI: Tensor) -> Tensor:
        """Return (M, D) states."""
        states_MD: Tensor = self.layers(features_MI)
        return states_MD


def all_experts(experts: Sequence[nn.Module], features_MI: Tensor | SharedFeatures) -> Tensor:
    """Ask several experts at once, (M, E, D): the same numbers as one after the other."""
    layers = [each.layers for each in experts if isinstance(each, Expert)]
    weight_NI, bias_N = _stacked(each[0] for each in layers)
    weight_LH, bias_L = _stacked(each[3] for each in layers)
    weight_EDH = weight_LH.view(len(layers), -1, weight_LH.shape[1])
    bias_ED = bias_L.view(len(layers), -1)
    norms = [each[4] for each in layers if isinstance(each[4], nn.LayerNorm)]
    scale_ED = torch.stack([norm.weight for norm in norms])
    shift_ED = torch.stack([norm.bias for norm in norms])
    dropout = layers[0][2]
    if written_out(features_MI) and isinstance(dropout, Dropout):
        kept_MN = dropout.drawn(torch.Size([len(features_MI), len(weight_NI)]))
        states_MED = two_layers(features_MI, weight_NI, bias_N, weight_EDH, bias_ED, kept_MN)
        normed_MED = functional.layer_norm(states_MED, states_MED.shape[-1:])
        return torch.addcmul(shift_ED, normed_MED, scale_ED)
    hidden_MN = dropout(functional.silu(_mapped(features_MI, weight_NI, bias_N)))
    hidden_EMH = hidden_MN.unflatten(-1, (len(layers), -1)).transpose(0, 1)
    states_EMD = torch.baddbmm(bias_ED.unsqueeze(1), hidden_EMH, weight_EDH.transpose(1, 2))
    normed_EMD = functional.layer_norm(states_EMD, states_EMD.shape[-1:])
    every_EMD = torch.addcmul(shift_ED.unsqueeze(1), normed_EMD, scale_ED.unsqueeze(1))
    return every_EMD.transpose(0, 1)


MIXERS: Mapping[str, type[GroupExperts | SingleTask | SharedBottom | MultiGate | ProgressiveLayers]]
MIXERS = {
    "groups": GroupExperts,
    "single": SingleTask,
    "shared_bottom": SharedBottom,
    "mmoe": MultiGate,
    "ple": ProgressiveLayers,
}
"""objectives.predictor -> how features become the towers' states."""


def _mapped(features_MI: Tensor | SharedFeatures, weight_NI: Tensor, bias_N: Tensor) -> Tensor:
    if isinstance(features_MI, SharedFeatures):
        return features_MI.mapped(weight_NI, bias_N)
    return linear(features_MI, weight_NI, bias_N)


def _stacked(modules: Iterable[nn.Module]) -> tuple[Tensor, Tensor]:
    """Return the weights and biases of linear maps of one input, one below the other."""
    layers = [each for each in modules if isinstance(each, nn.Linear)]
    return torch.cat([each.weight for each in layers]), torch.cat([each.bias for each in layers])


def _experts(number: int, inputs: int, width: int, dropout: float) -> nn.ModuleList:
    return nn.ModuleList(Expert(inputs, width, dropout) for _ in range(number))


def _tower(width: int) -> nn.Module:
    return nn.Sequential(Linear(width, width), nn.SiLU(), nn.LayerNorm(width))


def _outputs(experts: nn.Module, features_MI: Tensor) -> list[Tensor]:
    return [expert(features_MI) for expert in experts.children()]


def _gated(gate: nn.Module, features_MI: Tensor, states: Sequence[Tensor]) -> Tensor:
    """Mix (M, D) states by a softmax gate over them."""
    share_ME = gate(features_MI).softmax(-1)
    mixed_MD: Tensor = (share_ME.unsqueeze(-1) * torch.stack(list(states), 1)).sum(1)
    return mixed_MD
