"""Products in bf16 stand between float32 numbers, and only where a gradient is asked for."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn import functional

from skipwise.model.products import Linear, _Linear, into, linear, product_kind, products_in

ROWS, INPUTS, OUTPUTS = 6, 40, 24


def drawn(*shape: int, kind: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=kind).requires_grad_()


def test_a_linear_map_in_bf16_is_that_of_rounded_numbers_and_so_are_its_gradients() -> None:
    features, weight, bias = drawn(2, 3, INPUTS), drawn(OUTPUTS, INPUTS), drawn(OUTPUTS)
    counts = drawn(2, 3, OUTPUTS).detach()
    with products_in(torch.bfloat16):
        mapped = linear(features, weight, bias)
    assert mapped.dtype is torch.float32
    rounded = [each.detach().bfloat16().float() for each in (features, weight, counts)]
    plain = functional.linear(rounded[0], rounded[1], bias.detach())
    torch.testing.assert_close(mapped.detach(), plain, rtol=2**-7, atol=2**-6)
    assert not torch.equal(mapped, functional.linear(features, weight, bias))
    (mapped * counts).sum().backward()  # type: ignore[no-untyped-call]
    of_counts = rounded[2].flatten(0, 1)
    expected = {
        "features": (of_counts @ rounded[1]).view(2, 3, INPUTS),
        "weight": of_counts.t() @ rounded[0].flatten(0, 1),
        "bias": counts.flatten(0, 1).sum(0),
    }
    for name, tensor in {"features": features, "weight": weight, "bias": bias}.items():
        assert tensor.grad is not None
        assert tensor.grad.dtype is torch.float32
        torch.testing.assert_close(tensor.grad, expected[name], rtol=2**-7, atol=2**-6)
    torch.testing.assert_close(bias.grad, expected["bias"], rtol=1e-6, atol=1e-6)  # is a plain sum


def test_features_without_a_gradient_and_maps_without_a_bias_are_known() -> None:
    layer, features = Linear(INPUTS, OUTPUTS, bias=False), drawn(ROWS, INPUTS).detach()
    with products_in(torch.bfloat16):
        mapped = layer(features)
    mapped.sum().backward()
    assert layer.weight.grad is not None
    torch.testing.assert_close(
        layer.weight.grad, features.sum(0).expand(OUTPUTS, -1), rtol=0.02, atol=0.02
    )


def test_no_rows_are_no_rows() -> None:
    features, weight = drawn(3, 0, INPUTS), drawn(OUTPUTS, INPUTS)
    with products_in(torch.bfloat16):
        mapped = linear(features, weight)
    assert mapped.shape == (3, 0, OUTPUTS)
    mapped.sum().backward()  # type: ignore[no-untyped-call]
    assert features.grad is not None
    assert features.grad.shape == features.shape


def test_its_gradient_is_that_of_finite_differences_and_double_precision_is_not_narrowed() -> None:
    of = [drawn(*shape, kind=torch.float64) for shape in ((ROWS, 3), (2, 3), (2,))]

    def mapped(features: Tensor, weight_NI: Tensor, bias_N: Tensor) -> Tensor:
        found: Tensor = _Linear.apply(features, weight_NI, bias_N, torch.float64)  # type: ignore[no-untyped-call]
        return found

    assert gradcheck(mapped, of)
    with products_in(torch.bfloat16):
        assert product_kind(of[0]) is torch.float64


def test_scoring_and_what_comes_after_the_block_are_float32() -> None:
    features, layer = drawn(ROWS, INPUTS), Linear(INPUTS, OUTPUTS)
    exact = functional.linear(features, layer.weight, layer.bias)
    with products_in(torch.bfloat16), torch.no_grad():
        assert torch.equal(layer(features), exact)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        products_fail(layer)
    assert torch.equal(layer(features), exact)
    with products_in(torch.bfloat16), products_in(None):
        assert torch.equal(layer(features), exact)


def products_fail(layer: Linear) -> None:
    with products_in(torch.bfloat16):
        layer(drawn(ROWS, INPUTS + 1))


def test_products_are_written_where_they_belong_in_their_kind() -> None:
    left, right = drawn(2, 3, 4).detach(), drawn(2, 4, 5).detach()
    whole, apart = torch.empty(2, 3, 5), torch.zeros(2, 3, 2, 5)
    into(whole, left, right)
    torch.testing.assert_close(whole, left @ right)
    into(apart[:, :, 1], left.bfloat16(), right.bfloat16())
    assert apart[:, :, 0].abs().max() == 0
    torch.testing.assert_close(apart[:, :, 1], left @ right, rtol=0.03, atol=0.03)
