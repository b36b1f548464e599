"""Attention with biases of pairs, its gradient written out.

    queries, keys and values, biases by parts  ->  attention  ->  what each query reads

- B rows of C slots beside S places, Q queries of each slot, A = Q C; H heads, d numbers of a head,
  F knots of lag, L matches, R numbers of events before a slot; in products Z >= B, Y >= A, P >= S.
- No tensor of pairs is made but lags, biases and shares: a step back is read from a table, a match
  is added where there is one, all queries of a slot share one bias and one product, and softmax and
  its gradient stay where they are. The numbers are those of the plain forms beside it (tests).

Is read by `encoder` and `reader`. No I/O, no randomness.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from skipwise.model.products import few_rows, into, narrowed, product_kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """What is known of slots and places, and is not learnt."""

    own_BSF: Tensor
    """What a place says by itself: it stands beside each key, and queries say what it is worth."""
    shared: int
    """So many of those, the first, stand beside each value, too: how much of them is read."""
    lag_FN: Tensor
    """`bends` of the seconds between slot and place, N = B C S."""
    before_BC: Tensor | None
    """int64 in [0, R): how many of the places beside a row are events before each slot; None: slot
    c is the same in each row."""
    matched_L: Tensor | None
    """int64: which of all N pairs match, each once."""
    alike: bool
    """Whether C and S are among few numbers in whatever batch: those of blocks, and of rows of a
    long stretch. Products of others get few sizes by zeros."""


def attention(
    query_BCQHf: Tensor,
    key_value_BS2Hd: Tensor,
    lag_HF: Tensor,
    step_HRS: Tensor,
    match_HL: Tensor | None,
    places: Places,
) -> Tensor:
    """Read each row's places once per query.

        logit = q . [k, own] + lag . bends + step[before] + match,   read = softmax(logit) [v, own]

    and backward, P the softmax, G the gradient of what was read:

        dV = P^T G,   dL = P (G V^T - rowsum(P G V^T)),   dq = dL k,   dk = dL^T q

    and of each bias the sum of dL over the pairs that have it.

    Args:
        query_BCQHf: Already divided by sqrt(d); beside it what it says to each of `own_BSF`.
        key_value_BS2Hd: Keys, then values.
        lag_HF: Weights of `lag_FN`.
        step_HRS: Bias of each place by how many events are before a slot.
        match_HL: Bias of each match; None exactly where `matched_L` is.
        places: The rest.

    Returns:
        (B, C, Q, H, d + shared)

    Raises:
        ValueError: Of `match_HL` and `matched_L` only one is given.
    """
    if (match_HL is None) != (places.matched_L is None):
        raise ValueError(
            "Of match_HL and places.matched_L one is given; must be both or neither: biases of "
            "matches need their places, and places their biases. Give the other."
        )
    read_HBQCd: Tensor = _Attention.apply(  # type: ignore[no-untyped-call]
        query_BCQHf, key_value_BS2Hd, lag_HF, step_HRS, match_HL, places
    )
    return read_HBQCd.permute(1, 3, 2, 0, 4)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query_BCQHf: Tensor,
        key_value_BS2Hd: Tensor,
        lag_HF: Tensor,
        step_HRS: Tensor,
        match_HL: Tensor | None,
        places: Places,
    ) -> Tensor:
        num_rows, slots, queries, heads, _ = query_BCQHf.shape
        size, shared = key_value_BS2Hd.shape[-1], places.shared
        own_HBSF = places.own_BSF.expand(heads, -1, -1, -1)
        shape = (num_rows, queries * slots, key_value_BS2Hd.shape[1])
        kind, sizes = _in_products(shape, product_kind(query_BCQHf), places)
        query_HZYf = _beside(kind, sizes[:2], query_BCQHf.permute(3, 0, 2, 1, 4))
        key_HBSd, value_HBSd = key_value_BS2Hd.permute(2, 3, 0, 1, 4).unbind()
        key_HZPf = _beside(kind, sizes[::2], key_HBSd, own_HBSF)
        value_HZPv = _beside(kind, sizes[::2], value_HBSd, own_HBSF[..., :shared])
        bias_HBCS = _biases(lag_HF, step_HRS, match_HL, places, (num_rows, slots))
        share_HBAS = bias_HBCS.new_empty(heads, *shape)
        read_HBAv = bias_HBCS.new_empty(heads, *shape[:2], value_HZPv.shape[-1])
        for head in range(heads):
            share_BAS, bias_BCS = share_HBAS[head], bias_HBCS[head]
            into(share_BAS, query_HZYf[head], key_HZPf[head].mT)
            share_BAS.view(-1, queries, *bias_BCS.shape[1:]).add_(bias_BCS.unsqueeze(1))
            torch.softmax(share_BAS, -1, out=share_BAS)
            into(read_HBAv[head], narrowed(share_BAS, kind, *sizes), value_HZPv[head])
        ctx.save_for_backward(query_HZYf, key_HZPf, value_HZPv, share_HBAS)
        ctx.places, ctx.num_before, ctx.sizes = places, step_HRS.shape[1], sizes
        ctx.size, ctx.query_width = size, query_BCQHf.shape[-1]
        return read_HBAv.view(heads, num_rows, queries, slots, -1)[..., : size + shared]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_HBQCv: Tensor) -> tuple[Tensor | None, ...]:
        query_HZYf, key_HZPf, value_HZPv, share_HBAS = ctx.saved_tensors
        heads, num_rows, queries, slots, _ = gradient_HBQCv.shape
        size, read, sizes = ctx.size, gradient_HBQCv.shape[-1], ctx.sizes
        kind = query_HZYf.dtype
        gradient_HBAv = gradient_HBQCv.reshape(heads, num_rows, queries * slots, -1)
        back_HBAS = torch.empty_like(share_HBAS)
        back_query_HBAf = share_HBAS.new_empty(*share_HBAS.shape[:3], query_HZYf.shape[-1])
        back_key_value = share_HBAS.new_empty(num_rows, share_HBAS.shape[-1], 2, heads, size)
        for head in range(heads):
            share_BAS, back_BAS = share_HBAS[head], back_HBAS[head]
            gradient_ZYv = narrowed(gradient_HBAv[head], kind, *sizes[:2])
            query_ZYf = query_HZYf[head]
            into(back_BAS, gradient_ZYv, value_HZPv[head, ..., :read].mT)
            own_ZYd, share_ZPY = gradient_ZYv[..., :size], narrowed(share_BAS, kind, *sizes).mT
            into(back_key_value[:, :, 1, head], share_ZPY, own_ZYd)
            torch.ops.aten._softmax_backward_data.out(
                back_BAS, share_BAS, -1, share_BAS.dtype, grad_input=back_BAS
            )
            back_ZYP = narrowed(back_BAS, kind, *sizes)
            into(back_query_HBAf[head], back_ZYP, key_HZPf[head])
            into(back_key_value[:, :, 0, head], back_ZYP.mT, query_ZYf[..., :size])
        back_query = back_query_HBAf.view(heads, num_rows, queries, slots, -1)
        back_HBQCS = back_HBAS.view(heads, num_rows, queries, slots, -1)
        back_HBCS = back_HBQCS.sum(2) if queries > 1 else back_HBQCS.squeeze(2)
        return (
            back_query[..., : ctx.query_width].permute(1, 3, 2, 0, 4),
            back_key_value,
            *_of_biases(back_HBCS, ctx.places, ctx.num_before),
            None,
        )


NARROW_FROM = 64
"""Fewer places of rows that differ from batch to batch stay as they are in products: each shape of
the narrow ones is compiled anew, and they gain nothing."""
SIZES_BY = 32
"""Sizes of such rows in narrow products are multiples of it."""


def _in_products(
    shape: tuple[int, int, int], kind: torch.dtype, places: Places
) -> tuple[torch.dtype, tuple[int, int, int]]:
    """Say in what kind rows of (B, A, S) pairs are multiplied, and how many, (Z, Y, P)."""
    rows, asked, number = shape
    wide = places.lag_FN.dtype
    if kind is wide or not (places.alike or number >= NARROW_FROM):
        return wide, shape
    if places.alike:
        return kind, (few_rows(rows), asked, number)
    return kind, (few_rows(rows), few_rows(asked, SIZES_BY), few_rows(number, SIZES_BY))


def _beside(kind: torch.dtype, sizes: Sequence[int], *parts: Tensor) -> Tensor:
    """Lay vectors beside each other, (H, B, ..., X), as (H, *sizes, W) of one kind.

    Zeros stand elsewhere, and up to a multiple of 8 numbers: a product of blocks of 21 columns
    takes twice the time of one of 24.
    """
    (heads, rows, *inner, _), widths = parts[0].shape, [part.shape[-1] for part in parts]
    whole = parts[0].new_zeros(heads, *sizes, -(-sum(widths) // 8) * 8, dtype=kind)
    inside = whole[:, :rows, : math.prod(inner)].view(heads, rows, *inner, -1)
    places = torch.split(inside, [*widths, whole.shape[-1] - sum(widths)], -1)
    for place, part in zip(places, parts, strict=False):
        place.copy_(part)
    return whole


def _biases(
    lag_HF: Tensor,
    step_HRS: Tensor,
    match_HL: Tensor | None,
    places: Places,
    rows_slots: tuple[int, int],
) -> Tensor:
    """Return (H, B, C, S) biases of steps, lags and matches."""
    heads, num_before, number = step_HRS.shape
    num_rows, slots = rows_slots
    if places.before_BC is None:
        bias_HBCS = step_HRS.unsqueeze(1).repeat(1, num_rows, 1, 1)
    else:
        rows = _table_rows(places.before_BC, num_before, heads)
        bias_HBCS = step_HRS.flatten(0, 1).index_select(0, rows)
        bias_HBCS = bias_HBCS.view(heads, num_rows, slots, number)
    bias_HBCS.view(heads, -1).addmm_(lag_HF, places.lag_FN)
    if match_HL is not None and places.matched_L is not None:
        for bias_N, match_L in zip(bias_HBCS.flatten(1), match_HL, strict=True):
            bias_N.index_add_(0, places.matched_L, match_L)
    return bias_HBCS


def _of_biases(
    back_HBCS: Tensor, places: Places, num_before: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the gradients of lags, steps and matches from that of their sum."""
    heads, _, _, number = back_HBCS.shape
    back_lag_HF = back_HBCS.flatten(1) @ places.lag_FN.t()
    if places.before_BC is None:
        back_step_HRS = back_HBCS.sum(1)
    else:
        rows = _table_rows(places.before_BC, num_before, heads)
        back_step_NS = back_HBCS.new_zeros(heads * num_before, number)
        back_step_NS.index_add_(0, rows, back_HBCS.flatten(0, 2))
        back_step_HRS = back_step_NS.view(heads, num_before, number)
    if places.matched_L is None:
        return back_lag_HF, back_step_HRS, None
    return back_lag_HF, back_step_HRS, back_HBCS.flatten(1).index_select(1, places.matched_L)


def _table_rows(before_BC: Tensor, num_before: int, heads: int) -> Tensor:
    """Return which of the H R rows of a table stands for each head and slot, (H B C,)."""
    first_H1 = num_before * torch.arange(heads).unsqueeze(1)
    return (first_H1 + before_BC.flatten()).flatten()
