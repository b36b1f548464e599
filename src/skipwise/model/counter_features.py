"""How raw point-in-time counts become numbers that a network can read.

    counters (M, K)  ->  CounterFeatures  ->  (M, F), standardised by the training window

- What a row counts for is a rate smoothed towards the training window's own, as a logit, so that
  "never seen" reads as "average" and its views say how sure that is.

Is read by `inputs`. No I/O.
"""

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

    def fit(self, counters_MK: Tensor) -> None:
        """Take the rates, means and spreads of the training window's rows, (M, K)."""
        positive = counters_MK.index_select(1, self.positive)
        known = counters_MK.index_select(1, self.known)
        total = known.double().sum(0)
        rate = (positive.double().sum(0) + 0.5) / (total + 1.0)
        self.rate.copy_(rate.clamp(1e-4, 1 - 1e-4))
        raw = self._raw(counters_MK)
        self.mean.copy_(raw.mean(0))
        spread = raw.std(0, correction=0)
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
