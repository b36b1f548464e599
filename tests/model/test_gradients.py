"""Gradients written out by hand are those of the plain form, by finite differences too."""

from functools import partial

import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn import functional

from skipwise.model.gradients import in_slots, of_slots, two_layers, with_before, written_out

ROWS, INPUTS, EXPERTS, HIDDEN, WIDTH = 7, 5, 3, 4, 2


def drawn(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    values = torch.randn(shape, generator=generator, dtype=torch.float64)
    return values.requires_grad_()


def experts() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return features, and weights and biases of both layers."""
    return (
        drawn(ROWS, INPUTS),
        drawn(EXPERTS * HIDDEN, INPUTS),
        drawn(EXPERTS * HIDDEN),
        drawn(EXPERTS, WIDTH, HIDDEN),
        drawn(EXPERTS, WIDTH),
    )


KEPT = (torch.arange(ROWS * EXPERTS * HIDDEN).view(ROWS, -1) % 3 > 0).double() * 1.5


def test_experts_of_two_layers_are_one_after_the_other() -> None:
    features, weight_NI, bias_N, weight_EDH, bias_ED = experts()
    for kept_MN in (None, KEPT):
        states_MED = two_layers(features, weight_NI, bias_N, weight_EDH, bias_ED, kept_MN)
        hidden_MN = functional.silu(functional.linear(features, weight_NI, bias_N))
        hidden_MN = hidden_MN if kept_MN is None else hidden_MN * kept_MN
        for expert, hidden_MH in enumerate(hidden_MN.chunk(EXPERTS, 1)):
            plain_MD = functional.linear(hidden_MH, weight_EDH[expert], bias_ED[expert])
            torch.testing.assert_close(states_MED[:, expert], plain_MD)


def test_experts_have_their_gradient() -> None:
    for kept_MN in (None, KEPT):
        assert gradcheck(partial(two_layers, kept_MN=kept_MN), experts())


def test_rows_are_put_into_slots_and_taken_out_again() -> None:
    values, place = drawn(3, 2), torch.tensor([4, 0, 2])
    slots = in_slots(values, place, 6)
    assert slots[[1, 3, 5]].abs().sum() == 0
    assert torch.equal(slots[4], values[0])
    assert torch.equal(of_slots(slots, place), values)
    assert gradcheck(partial(in_slots, place_M=place, num_slots=6), (values,))
    assert gradcheck(partial(of_slots, place_M=place), (drawn(6, 2),))


def test_blocks_stand_beside_those_before_them() -> None:
    """Five blocks of 2, three of which have two before: block 2 stands beside 0 and 1."""
    blocks = drawn(2, 5, 2, 3)
    laid = with_before(blocks, 3)
    assert laid.shape == (2, 3, 6, 3)
    assert torch.equal(laid[:, 0], blocks[:, :3].flatten(1, 2))
    assert torch.equal(laid[:, 2], blocks[:, 2:].flatten(1, 2))
    assert gradcheck(partial(with_before, number=3), (blocks,))


def test_gradients_are_left_to_torch_where_none_is_asked_for_or_precision_is_mixed() -> None:
    values = torch.zeros(2)
    assert written_out(values)
    assert not written_out(None)
    with torch.no_grad():
        assert not written_out(values)
    with torch.autocast("cpu", torch.bfloat16):
        assert not written_out(values)
