"""Losses: by the formula, blind to what is not known, never NaN."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from torch import Tensor

from skipwise.errors import SettingError
from skipwise.labels.grid import GRID_S
from skipwise.model.curve import NUM_HAZARDS, WatchCurve
from skipwise.model.losses import (
    LossSettings,
    decorrelation_loss,
    objective_losses,
    pairwise_loss,
)
from skipwise.model.objectives import Predictions

UNKNOWN = float("nan")


def predicted(
    logits: dict[str, Tensor], watch_s: Tensor | None = None, curve: WatchCurve | None = None
) -> Predictions:
    number = len(next(iter(logits.values())))
    return Predictions(
        logits=logits,
        expected_watch_s=torch.ones(number) if watch_s is None else watch_s,
        curve=curve,
    )


def losses(found: Predictions, targets: dict[str, Tensor]) -> dict[str, Tensor]:
    return objective_losses(found, targets, watch_at_most_s=300.0)


def test_an_objective_is_scored_by_the_log_loss_of_what_is_known() -> None:
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=50), random.integers(-1, 2, 50)
    found = losses(
        predicted({"glance": torch.from_numpy(logits)}),
        {"label_glance": torch.from_numpy(labels), "watch_s": torch.full((50,), UNKNOWN)},
    )
    known = labels >= 0
    expected = log_loss(labels[known], 1 / (1 + np.exp(-logits[known])))
    assert found["glance"].item() == pytest.approx(expected)


def test_without_a_curve_watch_time_is_a_huber_loss_of_its_logarithm() -> None:
    """|log 1+e - log 1+w| <= 1 counts half its square, more counts itself less a half."""
    found = losses(
        predicted({"glance": torch.zeros(3)}, torch.tensor([9.0, 0.0, 5.0])),
        {
            "label_glance": torch.tensor([0, 0, 0]),
            "watch_s": torch.tensor([4.0, math.e**3 - 1, UNKNOWN]),
        },
    )
    near, far = math.log(10) - math.log(5), 3.0
    assert found["watch"].item() == pytest.approx((near**2 / 2 + (far - 0.5)) / 2, rel=1e-5)


def test_with_a_curve_watch_time_is_its_likelihood() -> None:
    """S falls by half in each bin: 1.1 s lies in bin 4, 1000 s is censored long past 20 s."""
    number = 3
    curve = WatchCurve(
        -math.log(2) * torch.arange(len(GRID_S)).float().expand(number, -1),
        torch.full((number,), 2.0),
        torch.full((number,), 20.0),
    )
    found = losses(
        predicted({"glance": torch.zeros(number)}, curve=curve),
        {
            "label_glance": torch.tensor([0, 0, 0]),
            "watch_s": torch.tensor([1.1, 1000.0, UNKNOWN]),
        },
    )
    early = math.log(0.5**4 - 0.5**5)
    interest = -math.log(2) * (GRID_S.index(18.0) + 2 / 3)  # 20 s lies in the bin [18, 21)
    late = interest - 2.0 * 3  # followed for three durations, and not ended then
    assert found["watch"].item() == pytest.approx(-(early + late) / 2, rel=1e-5)


@pytest.mark.parametrize("with_curve", [True, False])
def test_what_is_not_known_costs_nothing_and_teaches_nothing(with_curve: bool) -> None:
    outputs = torch.randn(4, NUM_HAZARDS, requires_grad=True)
    logits = torch.randn(4, requires_grad=True)
    curve = WatchCurve.from_outputs(outputs, torch.full((4,), 20.0)) if with_curve else None
    watch_s = outputs.exp().sum(1)
    found = losses(
        predicted({"like": logits}, watch_s, curve),
        {"label_like": torch.full((4,), -1), "watch_s": torch.full((4,), UNKNOWN)},
    )
    total = found["like"] + found["watch"]
    assert total.item() == 0.0
    total.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert outputs.grad is not None
    assert (logits.grad == 0).all()
    assert (outputs.grad == 0).all()


@pytest.mark.parametrize("with_curve", [True, False])
def test_masked_rows_have_no_influence_on_the_others(with_curve: bool) -> None:
    """The same loss and gradients with and without rows whose outcome is unknown."""
    outputs = torch.randn(6, NUM_HAZARDS)
    logits = torch.randn(6)
    labels = torch.tensor([1, -1, 0, 1, -1, 0])
    watches_s = torch.tensor([1.0, UNKNOWN, 50.0, 3.0, UNKNOWN, 7.0])
    gradients = []
    for rows in (torch.arange(6), torch.nonzero(labels >= 0).flatten()):
        output, logit = outputs[rows].requires_grad_(), logits[rows].requires_grad_()
        durations_s = torch.full((len(rows),), 20.0)
        durations_s[labels[rows] < 0] = UNKNOWN
        found = losses(
            predicted(
                {"like": logit},
                output.exp().mean(1),
                WatchCurve.from_outputs(output, durations_s) if with_curve else None,
            ),
            {"label_like": labels[rows], "watch_s": watches_s[rows]},
        )
        total = found["like"] + found["watch"]
        total.backward()  # type: ignore[no-untyped-call]
        assert logit.grad is not None
        assert output.grad is not None
        known = labels[rows] >= 0
        assert (logit.grad[~known] == 0).all()
        assert (output.grad[~known] == 0).all()
        gradients.append((total.detach(), logit.grad[known], output.grad[known]))
    for whole, known_alone in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, known_alone)


def test_pairs_are_those_of_one_group_worked_by_hand() -> None:
    """Group 0: effective at 1 above glance at 0; group 1: effective at 0 and glance at 2."""
    logits = torch.tensor([1.0, 0.0, 0.0, 2.0, 5.0])
    targets = {
        "label_effective": torch.tensor([1, 0, 1, 0, -1]),
        "label_glance": torch.tensor([0, 1, 0, 1, -1]),
    }
    found = pairwise_loss(logits, targets, torch.tensor([0, 0, 1, 1, 1]))
    expected = (math.log1p(math.exp(1.0 - 0.0)) + math.log1p(math.exp(0.0 - 2.0))) / 2
    assert found.item() == pytest.approx(expected)


def test_without_pairs_the_pairwise_loss_is_zero_and_can_be_differentiated() -> None:
    logits = torch.randn(3, requires_grad=True)
    targets = {
        "label_effective": torch.tensor([1, 0, -1]),
        "label_glance": torch.tensor([0, 1, -1]),
    }
    loss = pairwise_loss(logits, targets, torch.tensor([0, 1, 2]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_readings_that_are_one_cost_one_and_those_at_right_angles_nothing() -> None:
    liking = torch.tensor([[1.0, 0.0], [1.0, 0.0], [2.0, 2.0]])
    disliking = torch.tensor([[-3.0, 0.0], [0.0, 4.0], [1.0, 0.0]])
    expected = (1.0 + 0.0 + 1 / math.sqrt(2)) / 3
    assert decorrelation_loss(liking, disliking).item() == pytest.approx(expected)


def test_a_weight_below_zero_is_refused() -> None:
    with pytest.raises(SettingError, match=r"loss\.watch = -1, must be >= 0"):
        LossSettings(watch=-1)
