"""What objectives share below their heads, read off the gradients."""

from dataclasses import replace

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from skipwise.errors import SettingError
from skipwise.model.experts import (
    MIXERS,
    GroupExperts,
    MultiGate,
    ProgressiveLayers,
    SharedBottom,
    SharedFeatures,
    SingleTask,
)
from skipwise.model.losses import objective_losses
from skipwise.model.objectives import ObjectiveSettings, Predictor
from tests.model.test_objectives import cuts
from tests.models import tiny_settings

pytestmark = pytest.mark.usefixtures("one_thread")

INPUTS, WIDTH, ROWS = 5, 4, 7
TOWERS = ("glance", "like", "watch")
GROUP_OF = {"glance": "negative", "like": "positive", "watch": "time"}
SETTINGS = ObjectiveSettings(dropout=0.0)


def reads(mixer: nn.Module, tower: str, part: nn.Module | None) -> bool:
    """Say whether a tower's state depends on some weights."""
    assert part is not None
    mixer.zero_grad()
    features = torch.randn(ROWS, INPUTS, generator=torch.Generator().manual_seed(0))
    states_MOD = mixer(features)
    assert states_MOD.shape == (ROWS, len(TOWERS), WIDTH)
    weights = torch.arange(1.0, WIDTH + 1)  # a plain sum of normalised states is always 0
    (states_MOD[:, TOWERS.index(tower)] * weights).sum().backward()
    return any(
        bool((found.grad.abs() > 1e-9).any())
        for found in part.parameters()
        if found.grad is not None
    )


@pytest.mark.parametrize("name", MIXERS)
def test_every_tower_reads_the_features(name: str) -> None:
    mixer = MIXERS[name](INPUTS, WIDTH, TOWERS, GROUP_OF, SETTINGS)
    features = torch.randn(ROWS, INPUTS)
    different = mixer(features).std(0)
    assert (different.sum(1) > 1e-3).all()


def test_nothing_is_shared_by_single_tasks() -> None:
    mixer = SingleTask(INPUTS, WIDTH, TOWERS, GROUP_OF, SETTINGS)
    for tower in TOWERS:
        assert [name for name in TOWERS if reads(mixer, tower, mixer.own[name])] == [tower]


def test_all_read_a_shared_bottom() -> None:
    mixer = SharedBottom(INPUTS, WIDTH, TOWERS, GROUP_OF, SETTINGS)
    for tower in TOWERS:
        assert reads(mixer, tower, mixer.bottom)
        assert [name for name in TOWERS if reads(mixer, tower, mixer.own[name])] == [tower]


def test_mmoe_has_experts_for_all_and_a_gate_for_each() -> None:
    mixer = MultiGate(INPUTS, WIDTH, TOWERS, GROUP_OF, SETTINGS)
    assert len(mixer.shared) == SETTINGS.shared_experts + SETTINGS.group_experts
    for tower in TOWERS:
        assert all(reads(mixer, tower, expert) for expert in mixer.shared)
        assert [name for name in TOWERS if reads(mixer, tower, mixer.gates[name])] == [tower]


def test_ple_keeps_experts_of_others_out_of_its_own_path_at_the_second_level() -> None:
    """The first level's shared state has heard all; the second's own experts are one's own."""
    mixer = ProgressiveLayers(INPUTS, WIDTH, TOWERS, GROUP_OF, SETTINGS)
    for tower in TOWERS:
        assert reads(mixer, tower, mixer.first.shared)
        assert reads(mixer, tower, mixer.first.shared_gate)
        assert all(reads(mixer, tower, mixer.first.own[name]) for name in TOWERS)
        assert [name for name in TOWERS if reads(mixer, tower, mixer.second.own[name])] == [tower]
    assert mixer.second.shared_gate is None


def test_experts_of_a_group_are_read_by_the_group_alone() -> None:
    mixer = GroupExperts(INPUTS, WIDTH, TOWERS, GROUP_OF, SETTINGS)
    for tower in TOWERS:
        assert reads(mixer, tower, mixer.shared)
        assert [name for name in TOWERS if reads(mixer, tower, mixer.grouped[GROUP_OF[name]])] == [
            tower
        ]


def test_a_predictor_that_is_not_there_is_refused() -> None:
    with pytest.raises(SettingError, match=r"objectives.predictor = 'mmo', must be .*'mmoe'"):
        tiny_settings("model.objectives.predictor=mmo")


def learnt_auc(name: str, *, shuffled: bool) -> float:
    """Train a predictor on one planted input, and return the AUC of glances on other rows."""
    torch.manual_seed(0)
    model = Predictor(
        INPUTS, 1, 8, TOWERS[:2], replace(SETTINGS, predictor=name, relation="independent")
    )
    features, noise = torch.randn(3000, INPUTS), torch.rand(3000)
    glanced = (noise < (2 * features[:, 0]).sigmoid()).long()
    if shuffled:
        glanced = glanced[torch.randperm(3000)]
    wide, train = torch.zeros(3000, 1), slice(0, 1500)
    targets = {"label_glance": glanced, "label_like": 1 - glanced, "watch_s": 10.0 * (1 - glanced)}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(40):
        found = model(features[train], wide[train], cuts(1500))
        losses = objective_losses(
            found, {key: value[train] for key, value in targets.items()}, watch_at_most_s=300.0
        )
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        logits = model(features[1500:], wide[1500:], cuts(1500)).logits["glance"]
    return float(roc_auc_score(glanced[1500:], logits))


@pytest.mark.parametrize("name", MIXERS)
def test_every_predictor_learns_what_is_planted_and_nothing_else(name: str) -> None:
    assert learnt_auc(name, shuffled=False) > 0.8
    assert learnt_auc(name, shuffled=True) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("name", MIXERS)
def test_features_that_all_candidates_share_are_read_as_if_each_had_them(name: str) -> None:
    settings = replace(SETTINGS, predictor=name)
    predictor = Predictor(INPUTS + 4, 3, WIDTH, ("glance", "like"), settings).eval()
    generator = torch.Generator().manual_seed(3)
    own, asked = torch.randn(ROWS, INPUTS, generator=generator), torch.randn(1, 3)
    counted, wide = torch.randn(ROWS, 1, generator=generator), torch.randn(ROWS, 3)
    shared = SharedFeatures(own, asked, counted)
    whole = torch.cat([own, asked.expand(ROWS, -1), counted], 1)
    assert torch.equal(shared.whole(), whole)
    at = cuts(ROWS)
    for objective, logit in predictor(whole, wide, at).logits.items():
        torch.testing.assert_close(predictor(shared, wide, at).logits[objective], logit)
