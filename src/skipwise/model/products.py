"""In which precision are products taken while training? float32, or bf16 between float32 numbers.

    with products_in(torch.bfloat16):   Linear, linear, experts and attention multiply in bf16

- A processor with AMX multiplies in bf16 some four times as fast (docs/log.md, 29 November 2026).
  What is multiplied, and each product, a gradient too, is rounded to 8 bits; sums inside a product
  are float32. All that stands between products (softmax, norms, curves, losses) is float32, and
  weights, gradients and moments are kept so.
- oneDNN compiles a product for each shape: what is multiplied gets rows of zeros up to one of few
  numbers, so that batches of any size have few shapes.
- Only on a CPU, where `written_out` asks for gradients by hand. Scoring and exports never see it.

Is read by `attention`, `gradients` and every part with a linear map. No I/O, no randomness.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

_KIND: ContextVar[torch.dtype | None] = ContextVar("kind of products", default=None)


@contextlib.contextmanager
def products_in(kind: torch.dtype | None) -> Iterator[None]:
    """Take products of float32 in another kind until the end of the block.

    Args:
        kind: torch.bfloat16; None = as they are.
    """
    before = _KIND.set(kind)
    try:
        yield
    finally:
        _KIND.reset(before)


def product_kind(values: Tensor) -> torch.dtype:
    """Return in what kind such values are multiplied: theirs, or what `products_in` says."""
    kind = _KIND.get()
    if kind is None or values.dtype is not torch.float32 or values.device.type != "cpu":
        return values.dtype
    return kind


ROWS_BY = 128
"""Of a matrix' rows a multiple of so many are multiplied at least."""


def few_rows(rows: int, by: int = 1) -> int:
    """Return how many rows stand in a product of so many: the next of eight numbers an octave.

    Args:
        rows: At least 0.
        by: Of which all those numbers are multiples, a power of 2.

    >>> [few_rows(rows) for rows in (3, 99, 300, 1025)], few_rows(3, by=64)
    ([3, 104, 320, 1152], 64)
    """
    step = max(1 << max(rows.bit_length() - 4, 0), by)
    return -(-rows // step) * step


def narrowed(values: Tensor, kind: torch.dtype, *sizes: int) -> Tensor:
    """Return values in another kind, with zeros up to other sizes: by default rows by `few_rows`.

    Zeros change no sum; what is made of them is for the caller to cut off. Values that are of the
    kind already are returned as they are.

    Args:
        values: (M, ...)
        kind: To become.
        sizes: Of the first dimensions, each at least as it is; none = rows of a matrix.
    """
    if values.dtype is kind:
        return values
    sizes = sizes or (few_rows(len(values), ROWS_BY),)
    narrow = values.new_empty(*sizes, *values.shape[len(sizes) :], dtype=kind)
    inside = narrow
    for dim, size in enumerate(values.shape[: len(sizes)]):
        inside.narrow(dim, size, inside.shape[dim] - size).zero_()
        inside = inside.narrow(dim, 0, size)
    inside.copy_(values)
    return narrow


class Linear(nn.Linear):
    """A linear map whose products are taken as `products_in` says."""

    def forward(self, features: Tensor) -> Tensor:
        """Return (..., N) of (..., I)."""
        return linear(features, self.weight, self.bias)


def linear(features: Tensor, weight_NI: Tensor, bias_N: Tensor | None = None) -> Tensor:
    """Map features linearly, (..., I) -> (..., N), and take products as `products_in` says.

        y = x W^T + b,   dx = g W,   dW = g^T x,   db = sum of g

    Args:
        features: x.
        weight_NI: W.
        bias_N: b; None = nothing.

    Returns:
        (..., N), of the features' kind.
    """
    if not torch.is_grad_enabled() or (kind := product_kind(features)) is features.dtype:
        return functional.linear(features, weight_NI, bias_N)
    mapped: Tensor = _Linear.apply(features, weight_NI, bias_N, kind)  # type: ignore[no-untyped-call]
    return mapped


def into(whole: Tensor, left: Tensor, right: Tensor) -> None:
    """Write products where they belong, in the kind that is there.

    Args:
        whole: (B, X, Y), to be written, of whatever kind and strides.
        left: (B, X, K) or more of each; what is made of more is left out.
        right: (B, K, Y) or more of each, of the same kind as left.
    """
    made = (*left.shape[:2], right.shape[2])
    if whole.dtype is left.dtype and whole.is_contiguous() and whole.shape == made:
        torch.bmm(left, right, out=whole)
    else:
        rows, columns, numbers = whole.shape
        whole.copy_(torch.bmm(left, right)[:rows, :columns, :numbers])


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight_NI: Tensor, bias_N: Tensor | None, kind: torch.dtype
    ) -> Tensor:
        flat_MI = features.flatten(0, -2)
        narrow_ZI, narrow_NI = narrowed(flat_MI, kind), weight_NI.to(kind)
        if bias_N is None:
            mapped_ZN = narrow_ZI @ narrow_NI.t()
        else:
            mapped_ZN = torch.addmm(bias_N.to(kind), narrow_ZI, narrow_NI.t())
        ctx.save_for_backward(narrow_ZI, narrow_NI)
        mapped_MN = mapped_ZN[: len(flat_MI)].to(features.dtype)
        return mapped_MN.view(*features.shape[:-1], len(weight_NI))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        narrow_ZI, narrow_NI = ctx.saved_tensors
        wide_MN, kind = gradient.flatten(0, -2), gradient.dtype
        narrow_ZN = narrowed(wide_MN, narrow_NI.dtype)
        back = None
        if ctx.needs_input_grad[0]:
            back_MI = (narrow_ZN @ narrow_NI)[: len(wide_MN)].to(kind)
            back = back_MI.view(*gradient.shape[:-1], narrow_ZI.shape[1])
        back_bias_N = wide_MN.sum(0) if ctx.needs_input_grad[2] else None
        return back, (narrow_ZN.t() @ narrow_ZI).to(kind), back_bias_N, None
