"""Attention whose gradient is written out is its equation, and its gradient is its own."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from skipwise.model.attention import Places, attention

ROWS, SLOTS, QUERIES, HEADS, SIZE, NUM_PLACES, OWN, LAGS, BEFORE = 2, 3, 2, 2, 4, 5, 3, 2, 4
PAIRS = ROWS * SLOTS * NUM_PLACES
MATCHED = torch.tensor([0, 7, 8, 29])


def drawn(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


TABLE = Places(
    own_BSF=drawn(ROWS, NUM_PLACES, OWN),
    shared=2,
    lag_FN=drawn(LAGS, PAIRS),
    before_BC=torch.tensor([[3, 0, 1], [1, 1, 2]]),
    matched_L=MATCHED,
    alike=True,
)
IN_ORDER = replace(TABLE, before_BC=None, matched_L=None, shared=0)


def given(places: Places) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """Return queries, keys and values, and weights of lags, steps, matches."""
    num_before = SLOTS if places.before_BC is None else BEFORE
    matches = None if places.matched_L is None else drawn(HEADS, len(MATCHED)).requires_grad_()
    return (
        drawn(ROWS, SLOTS, QUERIES, HEADS, SIZE + OWN).requires_grad_(),
        drawn(ROWS, NUM_PLACES, 2, HEADS, SIZE).requires_grad_(),
        drawn(HEADS, LAGS).requires_grad_(),
        drawn(HEADS, num_before, NUM_PLACES).requires_grad_(),
        matches,
    )


@pytest.mark.parametrize("places", [TABLE, IN_ORDER], ids=["table", "in order"])
def test_each_query_reads_by_the_equation(places: Places) -> None:
    query, key_value, lag_HF, step_HRS, match_HL = given(places)
    read = attention(query, key_value, lag_HF, step_HRS, match_HL, places)
    assert read.shape == (ROWS, SLOTS, QUERIES, HEADS, SIZE + places.shared)
    lags = places.lag_FN.view(LAGS, ROWS, SLOTS, NUM_PLACES)
    for row, slot, number, head in torch.cartesian_prod(
        *(torch.arange(size) for size in (ROWS, SLOTS, QUERIES, HEADS))
    ).tolist():
        before = slot if places.before_BC is None else int(places.before_BC[row, slot])
        logits = []
        for place in range(NUM_PLACES):
            own = places.own_BSF[row, place]
            key = torch.cat([key_value[row, place, 0, head], own])
            logit = query[row, slot, number, head] @ key + step_HRS[head, before, place]
            logit = logit + lag_HF[head] @ lags[:, row, slot, place]
            pair = (row * SLOTS + slot) * NUM_PLACES + place
            if match_HL is not None and pair in MATCHED.tolist():
                logit = logit + match_HL[head, MATCHED.tolist().index(pair)]
            logits.append(logit)
        own_SF = places.own_BSF[row, :, : places.shared]
        values = torch.cat([key_value[row, :, 1, head], own_SF], 1)
        expected = torch.stack(logits).softmax(0) @ values
        torch.testing.assert_close(read[row, slot, number, head], expected)


@pytest.mark.parametrize("places", [TABLE, IN_ORDER], ids=["table", "in order"])
def test_its_gradient_is_that_of_finite_differences(places: Places) -> None:
    *inputs, match_HL = given(places)
    if match_HL is None:
        assert gradcheck(partial(attention, match_HL=None, places=places), inputs)
    else:
        assert gradcheck(partial(attention, places=places), [*inputs, match_HL])


def test_matches_have_places_and_biases_or_neither() -> None:
    query, key_value, lag_HF, step_HRS, match_HL = given(TABLE)
    nowhere = replace(TABLE, matched_L=None)
    with pytest.raises(ValueError, match="both or neither"):
        attention(query, key_value, lag_HF, step_HRS, None, TABLE)
    with pytest.raises(ValueError, match="both or neither"):
        attention(query, key_value, lag_HF, step_HRS, match_HL, nowhere)
