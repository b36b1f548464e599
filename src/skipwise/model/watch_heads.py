"""How is watch time predicted where it is not read off the curve? One class for each answer.

    raw outputs (M, K), duration bucket (M,)  ->  WatchHead.read  ->  WatchGuess: E[w], and its loss

- `log` is ours without a curve; `seconds`, `d2q`, `wtg` and `cread` are baselines, in the likeness
  of the papers they name. All learn from the rows the curve learns from.
- What a head must know of the log (quantiles, means) is taken from the training window alone
  (`fit`) and kept with the weights.
- An unknown watch time (NaN) has the loss of a watch of 0 s here; `losses` masks it.

Reads `settings`; is read by `objectives`. No I/O.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

NUM_QUANTILES = 101
NUM_THRESHOLDS = 24
"""Of CREAD."""
BEND = 2.0
"""How much CREAD's thresholds crowd where watch times are long; 0 = equal frequency."""
FEWEST_WATCHES = 50
"""A duration bucket with fewer watches is read as all buckets together."""


@dataclass(frozen=True, slots=True)
class WatchGuess:
    """What a head says of M candidates."""

    expected_s: Tensor
    """(M,) seconds, >= 0."""
    loss: Callable[[Tensor], Tensor]
    """(M,) watched seconds, NaN unknown -> (M,) losses."""


class WatchHead(nn.Module):
    """A way to predict watch time; K = `outputs` raw numbers per candidate."""

    outputs = 1

    def __init__(self, duration_buckets: int) -> None:
        super().__init__()
        del duration_buckets

    def fit(self, watch_s: Tensor, bucket: Tensor) -> None:
        """Take from the training window's N watches, (N,) seconds each known, what is needed."""
        del watch_s, bucket

    def read(self, outputs_MK: Tensor, bucket_M: Tensor, at_most_s: float) -> WatchGuess:
        """Turn raw outputs into a guess.

        Args:
            outputs_MK: From the network.
            bucket_M: Duration buckets, 0 unknown.
            at_most_s: Watch time beyond this counts as this.
        """
        raise NotImplementedError


class LogSeconds(WatchHead):
    """Regress log(1 + w) under a Huber loss: about the median on a log scale."""

    def read(self, outputs_MK: Tensor, bucket_M: Tensor, at_most_s: float) -> WatchGuess:
        """E = exp(x) - 1."""
        del bucket_M
        expected = torch.expm1(outputs_MK.squeeze(1).clamp(0, 8)).clamp(max=at_most_s)

        def loss(watch_s: Tensor) -> Tensor:
            return functional.huber_loss(
                torch.log1p(expected), torch.log1p(_known(watch_s)).to(expected), reduction="none"
            )

        return WatchGuess(expected, loss)


class Standardised(WatchHead):
    """Regress (w - mean) / spread; the mean and spread of all watches: plain regression."""

    by_bucket = False

    def __init__(self, duration_buckets: int) -> None:
        super().__init__(duration_buckets)
        self.mean: Tensor
        self.spread: Tensor
        self.register_buffer("mean", torch.zeros(duration_buckets))
        self.register_buffer("spread", torch.ones(duration_buckets))

    def fit(self, watch_s: Tensor, bucket: Tensor) -> None:
        """Take means and spreads, of each bucket or of all."""
        for number in range(len(self.mean)):
            mine = _of_bucket(watch_s, bucket, number) if self.by_bucket else watch_s
            self.mean[number] = mine.mean()
            self.spread[number] = mine.std(correction=0).clamp(min=1e-3)

    def read(self, outputs_MK: Tensor, bucket_M: Tensor, at_most_s: float) -> WatchGuess:
        """E = mean + spread x."""
        mean, spread = self.mean[bucket_M], self.spread[bucket_M]
        gain = outputs_MK.squeeze(1)

        def loss(watch_s: Tensor) -> Tensor:
            return (gain - (_known(watch_s).to(gain) - mean) / spread) ** 2

        return WatchGuess((mean + spread * gain).clamp(0, at_most_s), loss)


class WatchTimeGain(Standardised):
    """The same by duration bucket: watch time gain, after DVR (Zheng et al., MM 2022)."""

    by_bucket = True


class DurationQuantile(WatchHead):
    """Regress the rank among watches of the duration bucket: D2Q (Zhan et al., KDD 2022).

    r = sigmoid(x), squared error against F_b(w); E = F_b^-1(r).
    """

    def __init__(self, duration_buckets: int) -> None:
        super().__init__(duration_buckets)
        self.quantile_s: Tensor
        unfitted = torch.linspace(0, 300, NUM_QUANTILES).expand(duration_buckets, -1).clone()
        self.register_buffer("quantile_s", unfitted)

    def fit(self, watch_s: Tensor, bucket: Tensor) -> None:
        """Take each bucket's quantiles."""
        share = torch.linspace(0, 1, NUM_QUANTILES, dtype=torch.float64)
        for number in range(len(self.quantile_s)):
            mine = _of_bucket(watch_s, bucket, number).double().sort().values
            place = share * (len(mine) - 1)
            low = place.long()
            high = (low + 1).clamp(max=len(mine) - 1)
            self.quantile_s[number] = mine[low] + (mine[high] - mine[low]) * (place - low)

    def read(self, outputs_MK: Tensor, bucket_M: Tensor, at_most_s: float) -> WatchGuess:
        """E = the bucket's quantile of the predicted rank."""
        rank = outputs_MK.squeeze(1).sigmoid()
        quantile_MQ = self.quantile_s[bucket_M]
        place = rank * (NUM_QUANTILES - 1)
        low = place.long().clamp(max=NUM_QUANTILES - 2).unsqueeze(1)
        below, above = quantile_MQ.gather(1, low), quantile_MQ.gather(1, low + 1)
        expected = (below + (above - below) * (place.unsqueeze(1) - low)).squeeze(1)

        def loss(watch_s: Tensor) -> Tensor:
            watch_M1 = _known(watch_s).to(rank).unsqueeze(1)
            shorter = torch.searchsorted(quantile_MQ.contiguous(), watch_M1)
            as_short = torch.searchsorted(quantile_MQ.contiguous(), watch_M1, right=True)
            middle = (shorter + as_short).squeeze(1).to(rank) / 2 / NUM_QUANTILES
            return (rank - middle) ** 2

        return WatchGuess(expected.clamp(0, at_most_s), loss)


class Classified(WatchHead):
    """Ask whether w > t for each of K thresholds, and add up: CREAD (Sun et al., AAAI 2024).

    phi_k = sigmoid(x_k) = P(w > t_k);  E = sum_k phi_k (t_(k+1) - t_k);
    loss = mean_k BCE_k + Huber(E, w) / t_K + sum_k relu(phi_(k+1) - phi_k) / K

    Thresholds are quantiles of the training watches at gamma(k / K), gamma(z) = (1 - exp(-a z)) /
    (1 - exp(-a)): between equal frequency (a = 0) and more of them among long watches.
    """

    outputs = NUM_THRESHOLDS

    def __init__(self, duration_buckets: int) -> None:
        super().__init__(duration_buckets)
        self.edge_s: Tensor
        self.register_buffer("edge_s", torch.arange(NUM_THRESHOLDS + 1).float())

    def fit(self, watch_s: Tensor, bucket: Tensor) -> None:
        """Take the thresholds."""
        del bucket
        place = torch.linspace(0, 1, NUM_THRESHOLDS + 1, dtype=torch.float64)
        bent = -torch.expm1(-BEND * place) / -torch.expm1(torch.tensor(-BEND).double())
        ordered = watch_s.double().sort().values
        edges = ordered[(bent * (len(ordered) - 1)).long()]
        edges[0] = 0.0
        self.edge_s.copy_(edges)

    def read(self, outputs_MK: Tensor, bucket_M: Tensor, at_most_s: float) -> WatchGuess:
        """E = the sum of what is stayed for."""
        del bucket_M
        widths_K = self.edge_s.diff()
        above_MK = outputs_MK.sigmoid()
        expected = (above_MK * widths_K).sum(1)

        def loss(watch_s: Tensor) -> Tensor:
            watch = _known(watch_s).to(expected)
            said_MK = (watch.unsqueeze(1) > self.edge_s[:-1]).to(expected)
            asked = functional.binary_cross_entropy_with_logits(
                outputs_MK, said_MK, reduction="none"
            ).mean(1)
            restored = functional.huber_loss(expected, watch, reduction="none") / self.edge_s[-1]
            disorder = (above_MK[:, 1:] - above_MK[:, :-1]).clamp(min=0).mean(1)
            return asked + restored + disorder

        return WatchGuess(expected.clamp(0, at_most_s), loss)


WATCH_HEADS: Mapping[str, type[WatchHead]] = {
    "log": LogSeconds,
    "seconds": Standardised,
    "wtg": WatchTimeGain,
    "d2q": DurationQuantile,
    "cread": Classified,
}
"""objectives.watch -> how watch time is predicted without a curve."""


def _known(watch_s: Tensor) -> Tensor:
    return torch.nan_to_num(watch_s, nan=0.0)


def _of_bucket(watch_s: Tensor, bucket: Tensor, number: int) -> Tensor:
    """Return the watches of a duration bucket; all of them where it has few."""
    mine = watch_s[bucket == number]
    return mine if len(mine) >= FEWEST_WATCHES else watch_s
