"""How raw point-in-time counts become numbers that a network can read.

    counters (M, K)  ->  CounterFeatures  ->  (M, F), standardised by the training window

- What a row counts for is a rate smoothed towards the training window's own, as a logit, so that
  "never seen" reads as "average" and its views say how sure that is.

Is read by `inputs`. No I/O.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


class CounterFeatures(nn.Module):
    """Turns raw point-in-time counts into standardised numbers.

    Per key: log(1 + views). Per key and counted objective, with k known and s positive outcomes,
    prior m and the training window's rate r: `logit((s + m r) / (k + m)) - logit(r)`, and
    log(1 + k). All are standardised by the training window's mean and spread (`fit`).
    """

    def __init__(self, names: tuple[str, ...], prior: float) -> None:
        super().__init__()
        place = {name: number for number, name in enumerate(names)}
        self.prior = prior
        known = [name for name in names if name.endswith("_known")]
        self.views: Tensor
        self.positive: Tensor
        self.known: Tensor
        for what, columns in (
            ("views", [place[name] for name in names if name.endswith(".views")]),
            ("positive", [place[name.removesuffix("_known")] for name in known]),
            ("known", [place[name] for name in known]),
        ):
            self.register_buffer(what, torch.tensor(columns, dtype=torch.int64), persistent=False)
        self.width = len(self.views) + 2 * len(self.known)
        self.rate: Tensor
        self.mean: Tensor
        self.spread: Tensor
        self.register_buffer("rate", torch.full((len(self.known),), 0.5))
        self.register_buffer("mean", torch.zeros(self.width))
        self.register_buffer("spread", torch.ones(self.width))

    def fit(self, read: Callable[[], Iterable[Tensor]]) -> None:
        """Take the rates, means and spreads of the training window's rows.

        Args:
            read: Gives the rows anew, (M, K) of them at a time; called three times, so that they
                need not all be held.
        """
        positive, known = torch.zeros(2, len(self.known), dtype=torch.float64)
        for counters_MK in read():
            positive += counters_MK.index_select(1, self.positive).double().sum(0)
            known += counters_MK.index_select(1, self.known).double().sum(0)
        self.rate.copy_(((positive + 0.5) / (known + 1.0)).clamp(1e-4, 1 - 1e-4))
        number, total = 0, torch.zeros(self.width, dtype=torch.float64)
        for counters_MK in read():
            number += len(counters_MK)
            total += self._raw(counters_MK).double().sum(0)
        mean = total / max(number, 1)
        squares = torch.zeros(self.width, dtype=torch.float64)
        for counters_MK in read():
            squares += (self._raw(counters_MK).double() - mean).square().sum(0)
        self.mean.copy_(mean)
        spread = (squares / max(number, 1)).sqrt()
        self.spread.copy_(torch.where(spread > 1e-6, spread, torch.ones_like(spread)))

    def forward(self, counters_MK: Tensor) -> Tensor:
        """Return (M, F) features, clipped to +-5 spreads."""
        return ((self._raw(counters_MK) - self.mean) / self.spread).clamp(-5, 5)

    def _raw(self, counters_MK: Tensor) -> Tensor:
        known = counters_MK.index_select(1, self.known)
        positive = counters_MK.index_select(1, self.positive)
        rate = (positive + self.prior * self.rate) / (known + self.prior)
        return torch.cat(
            [
                torch.log1p(counters_MK.index_select(1, self.views)),
                torch.logit(rate.clamp(1e-6, 1 - 1e-6)) - torch.logit(self.rate),
                torch.log1p(known),
            ],
            dim=1,
        )
