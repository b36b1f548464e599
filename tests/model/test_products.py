"""Products in bf16 stand between float32 numbers, and only where a gradient is asked for."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from skipwise.model.attention import Places, attention
from skipwise.model.gradients import two_layers
from skipwise.model.products import (
    Linear,
    _Linear,
    few_rows,
    into,
    linear,
    product_kind,
    products_in,
)

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


def test_a_product_is_cut_to_what_is_written_and_nothing_else_is_touched() -> None:
    left, right = drawn(3, 5, 4).detach(), drawn(3, 4, 7).detach()
    whole = torch.zeros(2, 2, 4, 6)
    into(whole[0], left, right)
    torch.testing.assert_close(whole[0], torch.bmm(left, right)[:2, :4, :6])
    assert not whole[1].any()


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


class NarrowShapes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the shapes of all that is multiplied in bf16."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.shapes: set[tuple[object, ...]] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = func.overloadpacket.__name__
        if name in {"mm", "addmm", "bmm", "addmm_"}:
            tensors = [each for each in args if isinstance(each, Tensor)]
            if tensors[-1].dtype is torch.bfloat16:
                self.shapes.add((name, *(tuple(each.shape) for each in tensors)))
        return func(*args, **kwargs or {})


def linear_of(rows: int) -> tuple[Tensor, list[Tensor]]:
    """Return a product of so many rows, and what goes into it."""
    given = [drawn(rows, INPUTS), drawn(OUTPUTS, INPUTS), drawn(OUTPUTS)]
    return linear(*given), given


def experts_of(rows: int) -> tuple[Tensor, list[Tensor]]:
    """Two experts of three hidden units."""
    given = (drawn(rows, INPUTS), drawn(6, INPUTS), drawn(6), drawn(2, 5, 3), drawn(2, 5))
    return two_layers(*given, kept_MN=None), list(given)


def attention_of(
    rows: int, slots: int = 4, number: int = 5, *, alike: bool = True
) -> tuple[Tensor, list[Tensor]]:
    places = Places(
        own_BSF=drawn(rows, number, 3).detach(),
        shared=2,
        lag_FN=drawn(2, rows * slots * number).detach(),
        before_BC=None,
        matched_L=None,
        alike=alike,
    )
    query, key_value = drawn(rows, slots, 1, 2, 8 + 3), drawn(rows, number, 2, 2, 8)
    given = (query, key_value, drawn(2, 2), drawn(2, slots, number))
    return attention(*given, None, places), list(given)


def there_and_back(made: tuple[Tensor, list[Tensor]]) -> list[Tensor]:
    """Return a product, and the gradient of its square by all that goes into it."""
    product, given = made
    product.square().sum().backward()  # type: ignore[no-untyped-call]
    return [product.detach(), *(each.grad for each in given if each.grad is not None)]


@pytest.mark.parametrize(
    ("product_of", "some_rows"),
    [(linear_of, (65, 100, 128)), (experts_of, (65, 100, 128)), (attention_of, (65, 66, 68))],
)
def test_products_of_any_rows_have_few_shapes_and_zeros_beside_them_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
    product_of: Callable[[int], tuple[Tensor, list[Tensor]]],
    some_rows: tuple[int, ...],
) -> None:
    shapes, padded = [], []
    for rows in some_rows:
        with NarrowShapes() as narrow, products_in(torch.bfloat16):
            padded.append(there_and_back(product_of(rows)))
        shapes.append(narrow.shapes)
    assert len(shapes[0]) >= 3
    assert shapes[0] == shapes[1] == shapes[2]
    for module in ("products", "attention"):
        monkeypatch.setattr(f"skipwise.model.{module}.few_rows", lambda rows, *_: rows)
    with products_in(torch.bfloat16):
        as_they_are = there_and_back(product_of(some_rows[0]))
    assert len(as_they_are) >= 4
    for one, other in zip(padded[0], as_they_are, strict=True):
        torch.testing.assert_close(one, other, rtol=0.01, atol=0.01 * float(other.abs().max()))


def test_numbers_of_rows_are_eight_an_octave_and_an_eighth_too_many_at_most() -> None:
    for by in (1, 64):
        found = {rows: few_rows(rows, by) for rows in range(1, 2**14)}
        assert all(0 <= few - rows < max(rows / 8, by) for rows, few in found.items())
        assert all(few % by == 0 for few in found.values())
        assert len(set(found.values())) <= 8 * 14


def test_attention_of_rows_that_differ_from_batch_to_batch_has_few_shapes_or_none() -> None:
    """Of 65 to 96 places beside 17 to 32 slots one; of fewer than 64 places none."""
    found = []
    for slots, places in ((4, 5), (17, 65), (30, 71), (32, 80)):
        with NarrowShapes() as narrow, products_in(torch.bfloat16):
            read = there_and_back(attention_of(9, slots, places, alike=False))
        found.append(narrow.shapes)
        plain = there_and_back(attention_of(9, slots, places, alike=False))
        for one, other in zip(read, plain, strict=True):
            missed = float((one - other).norm() / other.norm())
            assert missed < 0.02 if narrow.shapes else missed == 0
    assert found[0] == set()
    assert len(found[1]) >= 3
    assert found[1] == found[2] == found[3]
