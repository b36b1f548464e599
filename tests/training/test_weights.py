"""Weights laid end to end learn as they did one by one."""

import copy

import pytest
import torch
from torch import nn

from skipwise.training.weights import FlatWeights

pytestmark = pytest.mark.usefixtures("one_thread")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))


def learn(model: nn.Module, inputs: torch.Tensor) -> None:
    model(inputs).square().mean().backward()


def test_a_step_on_the_vectors_is_a_step_on_every_parameter() -> None:
    """The oracle: the same network, optimizer and clipping, parameter by parameter."""
    plain, flat = network(), network()
    weights = FlatWeights([list(flat.parameters())[:2], list(flat.parameters())[2:]])
    groups = [{"params": vector} for vector in weights.vectors]
    optimizers = [
        torch.optim.AdamW(plain.parameters(), lr=0.01),
        torch.optim.AdamW(groups, lr=0.01),
    ]
    for step in range(5):
        inputs = torch.randn(9, 5, generator=torch.Generator().manual_seed(step)) * 5
        optimizers[0].zero_grad()
        weights.zero_gradients()
        learn(plain, inputs)
        learn(flat, inputs)
        nn.utils.clip_grad_norm_(plain.parameters(), 0.1)
        weights.clip_gradients(0.1)
        for optimizer in optimizers:
            optimizer.step()
    for one, other in zip(plain.parameters(), flat.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    assert not torch.equal(next(plain.parameters()), next(network().parameters()))


def test_short_gradients_are_left_as_they_are() -> None:
    model = network()
    weights = FlatWeights([list(model.parameters())])
    learn(model, torch.ones(1, 5))
    before = [copy.deepcopy(parameter.grad) for parameter in model.parameters()]
    weights.clip_gradients(1e9)
    for parameter, gradient in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=0)


def test_a_mean_moves_towards_the_weights() -> None:
    model, mean = network(), network()
    weights = FlatWeights([list(model.parameters())])
    means = FlatWeights([list(mean.parameters())], learns=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    means.move_towards(weights, 0.25)
    expected = network().state_dict()
    for name, value in mean.state_dict().items():
        torch.testing.assert_close(value, expected[name] + 0.25)
