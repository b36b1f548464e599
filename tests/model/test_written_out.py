"""What is trained is what is scored: short forms of training give the plain ones' gradients."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from skipwise.features.dataset import Dataset
from skipwise.features.view import View
from skipwise.model.batch import Batch
from skipwise.model.products import products_in
from tests.models import LIVE, SHORT, VIEW_NAMES, VIEWS, Untrained, logits_of, untrained

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("words", [(), ("model.encoder.pair_biases=false",)])
@pytest.mark.parametrize("view", VIEWS, ids=VIEW_NAMES)
@pytest.mark.parametrize("in_rows", [False, True])
def test_what_is_trained_is_what_is_scored_and_gradients_written_out_are_torchs(
    small_dataset: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    view: View,
    in_rows: bool,
    words: tuple[str, ...],
) -> None:
    """With some events hidden from everybody, and some without a time."""
    if in_rows:
        monkeypatch.setattr("skipwise.model.band.BLOCK_AT_LEAST", 4)
        monkeypatch.setattr("skipwise.model.rows.BLOCK", 4)
    model = untrained(small_dataset, SHORT, "model.encoder.blocks=2", *words)
    batch = model.batch(view)
    number = torch.arange(batch.token_valid.numel()).view_as(batch.token_valid)
    batch = dataclasses.replace(
        batch,
        token_valid=batch.token_valid & (number % 5 > 0),
        token_time_s=batch.token_time_s.masked_fill(number % 7 == 0, torch.nan),
        candidate_time_s=batch.candidate_time_s.masked_fill(
            torch.arange(len(batch.row)) % 11 == 0, torch.nan
        ),
    )
    scored, by_hand = logits_of(model, batch), gradients(model, batch)
    trained = torch.stack(list(model.model(batch).predictions.logits.values()), 1)
    torch.testing.assert_close(trained, scored, rtol=1e-4, atol=1e-5)
    for module in ("band", "encoder", "experts", "objectives", "reader"):
        monkeypatch.setattr(f"skipwise.model.{module}.written_out", lambda _: False)
    by_torch = gradients(model, batch)
    assert sum(float(gradient.abs().max()) > 0 for gradient in by_torch.values()) > 50
    for name, gradient in by_torch.items():
        spread = float(gradient.abs().max())
        torch.testing.assert_close(by_hand[name], gradient, rtol=1e-3, atol=1e-4 * spread + 1e-7)


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("in_rows", [False, True])
def test_events_that_no_candidate_reads_are_not_asked_and_nothing_changes(
    small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch, in_rows: bool, blocks: int
) -> None:
    """The last candidates of viewers with more events than a candidate reads."""
    if in_rows:
        monkeypatch.setattr("skipwise.model.band.BLOCK_AT_LEAST", 2)
        monkeypatch.setattr("skipwise.model.rows.BLOCK", 4)
    model = untrained(small_dataset, SHORT, f"model.encoder.blocks={blocks}")
    plan = model.plan(LIVE)
    late = np.zeros(small_dataset.num_events, dtype=bool)
    late[plan.candidate_rows[plan.candidate_prefix > 10]] = True
    batch = model.batch(LIVE, late)
    encoder, told = model.model.encoder, list[int]()
    forward = encoder.forward

    def asked(*past: Tensor, read_from: int) -> Tensor:
        told.append(read_from)
        encoded: Tensor = forward(*past, read_from=read_from)
        return encoded

    def all_asked(*past: Tensor, read_from: int) -> Tensor:
        del read_from
        encoded: Tensor = forward(*past)
        return encoded

    monkeypatch.setattr(encoder, "forward", asked)
    scored, fewer = logits_of(model, batch), gradients(model, batch)
    assert min(told) >= 1
    monkeypatch.setattr(encoder, "forward", all_asked)
    torch.testing.assert_close(scored, logits_of(model, batch), rtol=1e-4, atol=1e-5)
    for name, gradient in gradients(model, batch).items():
        spread = float(gradient.abs().max())
        torch.testing.assert_close(fewer[name], gradient, rtol=1e-3, atol=1e-4 * spread + 1e-7)


def test_products_in_bf16_give_nearly_the_same_logits_and_gradients(small_dataset: Dataset) -> None:
    """All gradients together miss by 1 in 200 at most, none of one tensor by more than a fifth."""
    model = untrained(small_dataset, SHORT, "model.encoder.blocks=2")
    batch = model.batch(LIVE)
    exact, scored = gradients(model, batch), logits_of(model, batch)
    with products_in(torch.bfloat16):
        rounded = gradients(model, batch)
        trained = torch.stack(list(model.model(batch).predictions.logits.values()), 1).detach()
        assert torch.equal(logits_of(model, batch), scored)  # scoring does not know of it
    assert trained.dtype is torch.float32
    assert 1e-5 < float((trained - scored).abs().max() / scored.abs().max()) < 0.02
    lengths = {name: float(gradient.norm()) for name, gradient in exact.items()}
    told = [name for name, length in lengths.items() if length > 1e-3]
    assert len(told) > 50
    assert all(rounded[name].dtype is torch.float32 for name in told)
    missed = {name: float((rounded[name] - exact[name]).norm()) for name in told}
    assert math.hypot(*missed.values()) < 0.005 * math.hypot(*lengths.values())
    assert {name for name in told if missed[name] > 0.2 * lengths[name]} == set()
    assert torch.equal(gradients(model, batch)[told[0]], exact[told[0]])  # and it is over


def gradients(model: Untrained, batch: Batch) -> dict[str, Tensor]:
    """Of a sum of all logits, each of them counting differently."""
    model.model.zero_grad()
    logits_MO = torch.stack(list(model.model(batch).predictions.logits.values()), 1)
    counts = torch.linspace(-1, 1, logits_MO.numel()).view_as(logits_MO)
    (logits_MO * counts).sum().backward()  # type: ignore[no-untyped-call]
    return {
        name: weights.grad.clone()
        for name, weights in model.model.named_parameters()
        if weights.grad is not None
    }
