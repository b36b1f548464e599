"""How objectives relate: not at all, by messages one can look at, or as cuts of one curve."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from skipwise.errors import SettingError
from skipwise.labels.grid import GRID_S
from skipwise.model.experts import GroupExperts
from skipwise.model.losses import objective_losses
from skipwise.model.objectives import (
    CURVE_CUTS,
    GROUPS,
    OBJECTIVES,
    WATCH,
    Cuts,
    Messages,
    ObjectiveSettings,
    Predictions,
    Predictor,
    Relation,
)
from tests.models import tiny_settings

pytestmark = pytest.mark.usefixtures("one_thread")

RELATIONS: list[Relation] = ["independent", "messages", "curve"]
INPUTS, WIDE, WIDTH, ROWS = 6, 5, 8, 12


def predictor(
    relation: Relation, objectives: Sequence[str] = OBJECTIVES, **changes: int | str
) -> Predictor:
    """A predictor whose every weight is drawn at random."""
    settings = replace(ObjectiveSettings(relation=relation, dropout=0.0), **changes)  # type: ignore[arg-type]
    model = Predictor(INPUTS, WIDE, WIDTH, tuple(objectives), settings)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in model.parameters():
            weights.copy_(torch.randn(weights.shape, generator=generator) * 0.3)
    return model.eval()


def cuts(number: int = ROWS) -> Cuts:
    return Cuts(
        duration_s=torch.linspace(2, 120, number),
        glance_below_s=3.0,
        glance_needs_duration=True,
        long_from_s=18.0,
        effective_above_s=torch.linspace(1, 40, number),
        finished_above_s=torch.linspace(1, 60, number),
        watch_at_most_s=300.0,
    )


def features(seed: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(ROWS, INPUTS, generator=generator), torch.randn(
        ROWS, WIDE, generator=generator
    )


def predictions(model: Predictor) -> Predictions:
    found: Predictions = model(*features(), cuts())
    return found


@pytest.mark.parametrize("relation", RELATIONS)
def test_every_relation_predicts_every_objective(relation: Relation) -> None:
    found = predictions(predictor(relation))
    assert tuple(found.logits) == OBJECTIVES
    for name, chance in found.probabilities().items():
        assert chance.shape == (ROWS,)
        assert ((chance > 0) & (chance < 1)).all(), name
        assert chance.std() > 0, name
    assert ((found.expected_watch_s >= 0) & (found.expected_watch_s <= 300)).all()
    assert found.curve is not None
    cut = relation == "curve"
    assert set(predictor(relation).towers).isdisjoint(CURVE_CUTS) is cut


def test_a_watch_head_stands_in_place_of_the_curve() -> None:
    found = predictions(predictor("messages", watch="seconds"))
    assert found.curve is None
    assert found.watch_loss is not None


@pytest.mark.parametrize("relation", RELATIONS)
def test_a_log_with_few_objectives_predicts_those_alone(relation: Relation) -> None:
    found = predictions(predictor(relation, ("glance", "like")))
    assert tuple(found.logits) == ("glance", "like")
    one = predictions(predictor(relation, ("glance",)))
    assert tuple(one.logits) == ("glance",)


def test_cuts_of_the_curve_have_no_tower_of_their_own() -> None:
    assert set(predictor("curve").towers) == {*OBJECTIVES, WATCH} - set(CURVE_CUTS)
    assert set(predictor("messages").towers) == {*OBJECTIVES, WATCH}


def test_every_objective_is_in_one_group() -> None:
    members = [name for group in GROUPS.values() for name in group]
    assert sorted(members) == sorted({*OBJECTIVES, WATCH})


@pytest.mark.parametrize("relation", RELATIONS)
def test_experts_of_a_group_without_an_objective_are_left_out(relation: Relation) -> None:
    assert set(experts(predictor(relation, ("like", "click"))).grouped) == {"positive", "time"}


def experts(model: Predictor) -> GroupExperts:
    assert isinstance(model.mixer, GroupExperts)
    return model.mixer


def reads(model: Predictor, objective: str, part: nn.Module) -> bool:
    """Say whether an objective's logit depends on some weights."""
    model.zero_grad()
    predictions(model).logits[objective].sum().backward()  # type: ignore[no-untyped-call]
    return any(
        weights.grad is not None and bool((weights.grad != 0).any())
        for weights in part.parameters()
    )


def test_independent_objectives_do_not_read_each_others_states() -> None:
    """A gate makes an objective's state of the experts: who reads the gate, reads the state."""
    independent, messages = predictor("independent"), predictor("messages")
    for model, others_read in ((independent, False), (messages, True)):
        assert reads(model, "like", experts(model).gates["like"])
        for other in ("glance", "long", WATCH):
            assert reads(model, "like", experts(model).gates[other]) is others_read
            assert not reads(model, "like", model.heads[other])
    assert independent.messages is None


def test_experts_of_a_group_are_read_by_the_group_alone() -> None:
    model = predictor("independent", group_experts=2)
    assert reads(model, "glance", experts(model).grouped["negative"])
    assert not reads(model, "glance", experts(model).grouped["positive"])
    assert reads(model, "like", experts(model).grouped["positive"])
    for objective in OBJECTIVES:
        assert reads(model, objective, experts(model).shared)


def test_counters_reach_every_head_directly() -> None:
    model = predictor("messages")
    for objective in OBJECTIVES:
        assert reads(model, objective, model.wide[objective])


@pytest.mark.parametrize("size", [2, 5])
def test_the_matrix_of_messages_says_whom_each_listens_to(size: int) -> None:
    messages = Messages(tuple(OBJECTIVES[:size]), WIDTH)
    with torch.no_grad():
        messages.affinity.copy_(torch.randn(size, size) * 3)
    matrix = messages.matrix()
    torch.testing.assert_close(matrix.sum(1), torch.ones(size))
    assert (matrix.diagonal() == 0).all(), "nobody listens to itself"
    assert (matrix >= 0).all()


def test_a_message_is_worked_by_hand() -> None:
    """Three objectives, one of which the first listens to; M = identity; before normalising."""
    messages = Messages(("glance", "like", "long"), 2)
    with torch.no_grad():
        messages.message.weight.copy_(torch.eye(2))
        messages.affinity.copy_(torch.tensor([[0.0, 50.0, 0.0], [0, 0, 0], [0, 0, 0]]))
    states_MOD = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [4.0, 0.0]]])
    expected = torch.tensor([[[1.0, 2.0], [0.5 + 2.0, 2.0], [4.0 + 0.5, 1.0]]])
    torch.testing.assert_close(messages(states_MOD), messages.norm(expected))


def test_a_lonely_objective_hears_nothing() -> None:
    messages = Messages(("watch",), WIDTH)
    states_MOD = torch.randn(3, 1, WIDTH)
    assert messages.matrix().tolist() == [[0.0]]
    torch.testing.assert_close(messages(states_MOD), messages.norm(states_MOD))


@pytest.mark.parametrize("relation", RELATIONS)
def test_an_untrained_model_predicts_the_shares_it_starts_from(relation: Relation) -> None:
    """With all weights but the heads' biases at zero; S is the product of those who stay."""
    model = predictor(relation)
    with torch.no_grad():
        for weights in model.parameters():
            weights.zero_()
    rates = {name: 0.05 + 0.08 * place for place, name in enumerate(OBJECTIVES)}
    leaving = [0.02 + 0.005 * place for place in range(len(GRID_S) - 1)]
    model.start_from(rates, leaving)
    found = predictions(model)
    for name, chance in found.probabilities().items():
        if relation != "curve" or name not in CURVE_CUTS:
            torch.testing.assert_close(chance, torch.full((ROWS,), rates[name]))
    if found.curve is not None:
        stay = (1 - torch.tensor(leaving)).cumprod(0)
        survival = found.curve.survival(torch.full((ROWS,), 2.0))
        torch.testing.assert_close(survival, stay[GRID_S.index(2.0) - 1].expand(ROWS))


def test_shares_of_nothing_and_of_all_are_no_infinity() -> None:
    model = predictor("messages")
    rates = dict.fromkeys(OBJECTIVES, 0.0) | {"like": 1.0}
    model.start_from(rates, [0.0, *[1.0] * (len(GRID_S) - 2)])
    assert all(logit.isfinite().all() for logit in predictions(model).logits.values())


@pytest.mark.parametrize(
    ("relation", "watch"),
    [*((relation, "curve") for relation in RELATIONS), ("messages", "seconds")],
)
def test_short_forms_of_training_have_the_gradient_of_the_plain_ones(
    monkeypatch: pytest.MonkeyPatch, relation: Relation, watch: str
) -> None:
    """Of a sum in which every output counts differently, by every weight and both inputs."""
    model = predictor(relation, watch=watch)
    inputs = [values.requires_grad_() for values in features()]

    def gradients() -> list[Tensor]:
        found = model(*inputs, cuts())
        outputs = torch.stack([*found.logits.values(), torch.log1p(found.expected_watch_s)])
        counts = torch.linspace(-1, 1, outputs.numel()).view_as(outputs)
        asked = [*inputs, *model.parameters()]
        return list(torch.autograd.grad((outputs * counts).sum(), asked))

    short = gradients()
    for module in ("experts", "objectives"):
        monkeypatch.setattr(f"skipwise.model.{module}.written_out", lambda _: False)
    plain = gradients()
    for found, expected in zip(short, plain, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert any(not torch.equal(*pair) for pair in zip(short, plain, strict=True)), "other sums"


@pytest.mark.parametrize("relation", RELATIONS)
def test_every_relation_learns(relation: Relation) -> None:
    """A few steps on labels that one input tells: every loss falls."""
    model = predictor(relation)
    features_MI, wide_MF = features()
    told = (features_MI[:, 0] > 0).long()
    targets = {f"label_{name}": told for name in OBJECTIVES}
    targets |= {"label_glance": 1 - told, "watch_s": 1.0 + 30.0 * told}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    totals = []
    for _ in range(40):
        found = model(features_MI, wide_MF, cuts())
        losses = objective_losses(found, targets, watch_at_most_s=300.0)
        assert set(losses) == {*OBJECTIVES, WATCH}
        total = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.6 * totals[0]


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("relation=graph", "must be one of independent, messages, curve"),
        ("shared_experts=0", "shared_experts = 0, must be >= 1"),
        ("group_experts=-1", "group_experts = -1, must be >= 0"),
        ("dropout=1", "dropout = 1, must be >= 0 and < 1"),
    ],
)
def test_a_wrong_shape_is_refused(word: str, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        tiny_settings(f"model.objectives.{word}")
