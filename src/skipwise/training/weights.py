"""A model's weights as a few long vectors: what an optimizer moves and a checkpoint copies.

    groups of parameters  ->  FlatWeights  ->  per group a vector of weights, one of gradients

- The parameters become views of the vectors: a step is one pass over memory per group, not a call
  per parameter, and a snapshot is a few copies.
- A parameter that a batch does not reach has a gradient of 0, not none.

Is read by `learner`.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

_ALIGNED = 16
"""Every parameter starts at a multiple of so many numbers: 64 bytes of float32."""


class FlatWeights:
    """Some of a model's parameters, laid end to end, group by group."""

    def __init__(self, groups: Sequence[Sequence[nn.Parameter]], *, learns: bool = True) -> None:
        self.vectors = [_flattened(group, learns=learns) for group in groups]

    def gradients(self) -> list[Tensor]:
        """Return each group's gradients, not copies."""
        return [_gradient(vector) for vector in self.vectors]

    def zero_gradients(self) -> None:
        """Forget the last batch's gradients."""
        for gradient in self.gradients():
            gradient.zero_()

    def clip_gradients(self, norm_at_most: float, others_square: float = 0.0) -> float:
        """Scale all gradients so that together, and with others, they are at most so long.

        Args:
            norm_at_most: How long.
            others_square: Sum of squares of gradients that are kept elsewhere.

        Returns:
            What they were multiplied with, at most 1; the others must be, too.
        """
        norms = torch.stack([torch.linalg.vector_norm(_gradient(each)) for each in self.vectors])
        norm = math.sqrt(float(norms.square().sum()) + others_square)
        scale = min(1.0, norm_at_most / (norm + 1e-6))
        if scale < 1:
            for vector in self.vectors:
                _gradient(vector).mul_(scale)
        return scale

    @torch.no_grad()
    def move_towards(self, other: "FlatWeights", share: float) -> None:
        """Go a share of the way to other weights of the same shape."""
        for vector, target in zip(self.vectors, other.vectors, strict=True):
            vector.lerp_(target, share)


def _flattened(group: Sequence[nn.Parameter], *, learns: bool) -> nn.Parameter:
    sizes = [-(-parameter.numel() // _ALIGNED) * _ALIGNED for parameter in group]
    first = group[0]
    weights = torch.zeros(sum(sizes), dtype=first.dtype, device=first.device)
    gradients = torch.zeros_like(weights) if learns else None
    start = 0
    for parameter, size in zip(group, sizes, strict=True):
        here = slice(start, start + parameter.numel())
        weights[here] = parameter.detach().flatten()
        parameter.data = weights[here].view_as(parameter)
        if gradients is not None:
            parameter.grad = gradients[here].view_as(parameter)
        start += size
    vector = nn.Parameter(weights, requires_grad=learns)
    vector.grad = gradients
    return vector


def _gradient(vector: nn.Parameter) -> Tensor:
    assert vector.grad is not None  # noqa: S101 - tells the type checker
    return vector.grad
