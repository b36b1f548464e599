"""Which gradients are written out by hand, and what does that save?

    features (M, I), weights  ->  two_layers  ->  (M, E, D), E experts of two layers
    rows (M, ...), places     ->  in_slots    ->  (N, ...), zeros where nothing was put
    slots (N, ...), places    ->  of_slots    ->  (M, ...)
    blocks (B, N + k, ...)    ->  with_before ->  (B, N, k + 1, ...), each beside the k before it

- The numbers are those of the plain form, and so are the gradients (tests compare them in double
  precision); what is saved is copies, sums of zeros, and passes over memory.
- Only where a gradient is asked for, on a CPU: `written_out`. Else the caller takes the plain form,
  which exports and autocast know. Products are taken as `products` says.

Is read by `experts`, `objectives`, `band`, `encoder` and `reader`. No I/O, no randomness.
"""

from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from skipwise.model.products import narrowed, product_kind


def written_out(values: object) -> TypeGuard[Tensor]:
    """Return whether gradients of such values are taken by this file's functions."""
    return (
        isinstance(values, Tensor)
        and torch.is_grad_enabled()
        and values.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
    )


def two_layers(
    features_MI: Tensor,
    weight_NI: Tensor,
    bias_N: Tensor,
    weight_EDH: Tensor,
    bias_ED: Tensor,
    kept_MN: Tensor | None,
) -> Tensor:
    """Ask E experts of H hidden units at once, (M, E, D); N = E H.

        a = x W1^T + b1,   h = silu(a) * kept,   y_e = h_e W2_e^T + b2_e

    and backward, s the logistic function, g the gradient of y:

        dh_e = g_e W2_e,   da = dh * kept * s(a) (1 + a (1 - s(a))),   dW2_e = g_e^T h_e

    Each expert's product reads and writes where its columns lie among all: no copies of h, dh, y.

    Args:
        features_MI: x.
        weight_NI: W1 of all experts, one below the other.
        bias_N: b1.
        weight_EDH: W2 of each.
        bias_ED: b2.
        kept_MN: What dropout multiplies h with; None = nothing.
    """
    states: Tensor = _TwoLayers.apply(features_MI, weight_NI, bias_N, weight_EDH, bias_ED, kept_MN)  # type: ignore[no-untyped-call]
    return states


def in_slots(values: Tensor, place_M: Tensor, num_slots: int) -> Tensor:
    """Put rows where they belong, (M, ...) -> (N, ...), zeros elsewhere.

        y[place] = x,   dx = g[place]

    Args:
        values: One row each.
        place_M: Different numbers in [0, N).
        num_slots: N.
    """
    slots: Tensor = _InSlots.apply(values, place_M, num_slots)  # type: ignore[no-untyped-call]
    return slots


def of_slots(slots: Tensor, place_M: Tensor) -> Tensor:
    """Take rows from where they are, (N, ...) -> (M, ...).

        y = x[place],   dx[place] = g, zeros elsewhere

    Args:
        slots: N rows.
        place_M: Different numbers in [0, N): nothing need be summed on the way back.
    """
    values: Tensor = _OfSlots.apply(slots, place_M)  # type: ignore[no-untyped-call]
    return values


def with_before(blocks: Tensor, number: int) -> Tensor:
    """Lay N blocks beside the k before each, (B, N + k, Q, ...) -> (B, N, (k + 1) Q, ...).

        y[n, j] = x[n + j],   dx[m] = sum over j of g[m - j, j]

    Args:
        blocks: B sequences of blocks of Q.
        number: N.
    """
    laid: Tensor = _WithBefore.apply(blocks, number)  # type: ignore[no-untyped-call]
    return laid


class _TwoLayers(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features_MI: Tensor,
        weight_NI: Tensor,
        bias_N: Tensor,
        weight_EDH: Tensor,
        bias_ED: Tensor,
        kept_MN: Tensor | None,
    ) -> Tensor:
        rows, kind, wide = len(features_MI), product_kind(features_MI), features_MI.dtype
        features_ZI, weight_NI = narrowed(features_MI, kind), weight_NI.to(kind)
        given_ZN = torch.addmm(bias_N.to(kind), features_ZI, weight_NI.t())
        given_MN = given_ZN[:rows].to(wide)
        hidden_MN = functional.silu(given_MN)
        if kept_MN is not None:
            hidden_MN.mul_(kept_MN)
        hidden_ZN = narrowed(hidden_MN, kind)
        weight_EDH, bias_ED = weight_EDH.to(kind), bias_ED.to(kind)
        states_ZED = hidden_ZN.new_empty(len(hidden_ZN), *bias_ED.shape)
        for expert, hidden_ZH in enumerate(hidden_ZN.chunk(len(bias_ED), 1)):
            torch.addmm(
                bias_ED[expert], hidden_ZH, weight_EDH[expert].t(), out=states_ZED[:, expert]
            )
        ctx.save_for_backward(features_ZI, weight_NI, weight_EDH, given_MN, hidden_ZN, kept_MN)
        return states_ZED[:rows].to(wide)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_MED: Tensor) -> tuple[Tensor | None, ...]:
        features_ZI, weight_NI, weight_EDH, given_MN, hidden_ZN, kept_MN = ctx.saved_tensors
        rows, kind, wide = len(given_MN), features_ZI.dtype, given_MN.dtype
        back_bias_ED, gradient_ZED = gradient_MED.sum(0), narrowed(gradient_MED, kind)
        back_ZN, back_EDH = torch.empty_like(hidden_ZN), torch.empty_like(weight_EDH)
        num_experts = len(weight_EDH)
        parts = zip(back_ZN.chunk(num_experts, 1), hidden_ZN.chunk(num_experts, 1), strict=True)
        for expert, (back_ZH, hidden_ZH) in enumerate(parts):
            torch.mm(gradient_ZED[:, expert], weight_EDH[expert], out=back_ZH)
            torch.mm(gradient_ZED[:, expert].t(), hidden_ZH, out=back_EDH[expert])
        back_MN = back_ZN[:rows].to(wide)
        if kept_MN is not None:
            back_MN.mul_(kept_MN)
        torch.ops.aten.silu_backward.grad_input(back_MN, given_MN, grad_input=back_MN)
        back_bias_N, back_ZN = back_MN.sum(0), narrowed(back_MN, kind)
        return (
            (back_ZN @ weight_NI)[:rows].to(wide),
            (back_ZN.t() @ features_ZI).to(wide),
            back_bias_N,
            back_EDH.to(wide),
            back_bias_ED,
            None,
        )


class _InSlots(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, place_M: Tensor, num_slots: int) -> Tensor:
        ctx.save_for_backward(place_M)
        return values.new_zeros(num_slots, *values.shape[1:]).index_copy_(0, place_M, values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (place_M,) = ctx.saved_tensors
        return gradient.index_select(0, place_M), None, None


class _OfSlots(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, slots: Tensor, place_M: Tensor) -> Tensor:
        ctx.save_for_backward(place_M)
        ctx.num_slots = len(slots)
        return slots.index_select(0, place_M)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (place_M,) = ctx.saved_tensors
        back = gradient.new_zeros(ctx.num_slots, *gradient.shape[1:])
        return back.index_copy_(0, place_M, gradient), None


class _WithBefore(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, blocks: Tensor, number: int) -> Tensor:
        ctx.shape, ctx.number = blocks.shape, number
        shifts = range(blocks.shape[1] - number + 1)
        return torch.cat([blocks[:, shift : shift + number] for shift in shifts], 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        back, number = gradient.new_zeros(ctx.shape), ctx.number
        for shift, part in enumerate(torch.split(gradient, ctx.shape[2], 2)):
            back[:, shift : shift + number].add_(part)
        return back, None
