"""One curve that answers every question about watch time (docs/model.md): S(t) = P(w > t).

    hazards_MK, duration_s  ->  WatchCurve  ->  S(t) for any t, E[w], log-likelihood of a watch

- Piecewise exponential: in bin k of the fixed grid a viewer leaves at a constant rate, so
  log S falls linearly inside a bin and S is defined at every t, not only on the grid.
- Reaching the end is not losing interest: from the video's end on, another rate counts, that of
  replays. The curve before the end says nothing of what would have come after it, and the other
  way round: the end is a censoring of interest.
- A glance, an effective, a long and a finished view are cuts of this one curve, so they cannot
  contradict each other: S never rises.

Source of the idea: survival analysis with piecewise-constant hazards (Friedman, 1982); the cuts are
docs/model.md's labels. Is read by `objectives` and `losses`. No I/O.
"""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from skipwise.labels.grid import GRID_S

NUM_HAZARDS = len(GRID_S)
"""K outputs: one per bin of the grid but the open last one, and one for replays."""
REPLAYS_AT_MOST = 3.0
"""Durations past the end beyond which a replay is no longer followed."""
REPLAY_RATE_AT_MOST = 60.0
"""Replays end at most this fast, per duration: about a frame or two past the end of a clip."""


@dataclass(frozen=True, slots=True)
class WatchCurve:
    """Watch-time curves of M candidates."""

    log_survival_MK: Tensor
    """(M, bins + 1) log S at each grid edge, as if the video never ended; 0 at t = 0."""
    replay_rate_M: Tensor
    """(M,) > 0, rate of leaving after the end, per duration."""
    duration_s_M: Tensor
    """(M,) seconds; NaN where unknown: then the curve has no end."""

    @classmethod
    def from_outputs(cls, outputs_MK: Tensor, duration_s_M: Tensor) -> "WatchCurve":
        """Turn a network's K raw outputs into curves.

        Args:
            outputs_MK: (M, NUM_HAZARDS) any real numbers.
            duration_s_M: (M,) seconds, NaN unknown.

        Returns:
            Curves; log S(edge k) = - sum of softplus(output) over the bins before k.
        """
        drops = functional.softplus(outputs_MK[:, :-1])
        log_survival = -functional.pad(drops.cumsum(1), (1, 0))
        replay = functional.softplus(outputs_MK[:, -1]) + 1e-3
        return cls(log_survival, replay.clamp(max=REPLAY_RATE_AT_MOST), duration_s_M.to(outputs_MK))

    def log_survival(self, at_s_M: Tensor) -> Tensor:
        """Return log P(w > t), or log P(w >= t): they are equal, w being continuous.

        Args:
            at_s_M: (M,) or (M, P) seconds >= 0; inf gives -inf-like small numbers, NaN gives NaN.

        Returns:
            <= 0, of the same shape.
        """
        at = at_s_M.to(self.log_survival_MK)
        end, rate = self._end(), self.replay_rate_M
        if at.dim() == 2:
            end, rate = end.unsqueeze(1), rate.unsqueeze(1)
        past_durations = torch.where(end.isinf(), 0.0, (at - end).clamp(min=0) / end)
        return self._interest(torch.minimum(at, end)) - rate * past_durations

    def survival(self, at_s_M: Tensor) -> Tensor:
        """Return P(w > t), (M,) in [0, 1]."""
        return self.log_survival(at_s_M).exp()

    def expected_watch_s(self, up_to_s: float) -> Tensor:
        """Return E[min(w, up_to_s)] = integral of S from 0 to up_to_s, (M,) seconds.

        Each bin's integral is exact: (S_a - S_b) / rate.
        """
        edges = grid_edges(self.log_survival_MK)
        end = torch.where(self.duration_s_M.isnan(), up_to_s, self.duration_s_M).clamp(max=up_to_s)
        start, widths = edges[:-1], edges.diff()
        share = ((end[:, None] - start) / widths).clamp(0, 1)
        drop = -self.log_survival_MK.diff(dim=1) * share
        before_end = (self.log_survival_MK[:, :-1].exp() * widths * share * mean_decay(drop)).sum(1)
        beyond_grid = (end - edges[-1]).clamp(min=0) * self.log_survival_MK[:, -1].exp()
        duration = torch.where(self.duration_s_M.isnan(), up_to_s, self.duration_s_M)
        after = (up_to_s - duration).clamp(min=0)
        replay = (-drop.sum(1)).exp() * after * mean_decay(self.replay_rate_M * after / duration)
        return before_end + beyond_grid + replay

    def log_likelihood(self, watch_s_M: Tensor) -> Tensor:
        """Return the log-likelihood of watches.

        A watch that ended before the video did in bin [a, b): log(S(a) - S(min(b, d))). One that
        reached the end: log S(d), and past it the density of the replay rate, per duration. One
        still going on at the grid's end, or REPLAYS_AT_MOST durations past the video's end, is
        censored there: log S of that moment.

        Args:
            watch_s_M: (M,) seconds >= 0, NaN where unknown.

        Returns:
            (M,) natural logs; 0 where unknown.
        """
        watch = torch.nan_to_num(watch_s_M.to(self.log_survival_MK), nan=0.0)
        end, edges = self._end(), grid_edges(self.log_survival_MK)
        bin_M = torch.bucketize(watch, edges, right=True) - 1
        beyond = watch >= edges[-1]
        start = edges[bin_M]
        stop = edges[(bin_M + 1).clamp(max=len(edges) - 1)]
        at_M3 = torch.stack([start, stop, torch.where(end.isinf(), watch, end)], 1)
        log_start, log_stop, reached = self._interest(
            torch.minimum(at_M3, end.unsqueeze(1))
        ).unbind(1)
        drop = (log_start - log_stop).clamp(min=1e-8)
        left_early = log_start + torch.log(-torch.expm1(-drop))
        past = torch.where(end.isinf(), 0.0, (watch - end) / end).clamp(min=0)
        still_on = beyond | (past >= REPLAYS_AT_MOST)
        leaving = torch.where(still_on, 0.0, torch.log(self.replay_rate_M))
        replayed = reached + leaving - self.replay_rate_M * past.clamp(max=REPLAYS_AT_MOST)
        likelihood = torch.where(watch >= end, replayed, torch.where(beyond, log_start, left_early))
        return likelihood.masked_fill(watch_s_M.isnan(), 0.0)

    def _end(self) -> Tensor:
        """Return each video's end, (M,) seconds; inf where it is unknown."""
        return self.duration_s_M.masked_fill(self.duration_s_M.isnan(), torch.inf)

    def _interest(self, at_s: Tensor) -> Tensor:
        """Return log S at (M,) or (M, P) seconds, the video never ending; flat beyond the grid."""
        edges = grid_edges(self.log_survival_MK)
        at_MP = at_s.reshape(at_s.shape[0], -1).clamp(0.0, GRID_S[-1])
        bin_MP = torch.bucketize(at_MP, edges[1:-1], right=True)
        ends = self.log_survival_MK.gather(1, torch.cat([bin_MP, bin_MP + 1], 1))
        low, high = ends.chunk(2, 1)
        share = (at_MP - edges[bin_MP]) / (edges[bin_MP + 1] - edges[bin_MP])
        return torch.lerp(low, high, share).view(at_s.shape)


def grid_edges(like: Tensor) -> Tensor:
    """Return the grid's edges, seconds, in the type and place of another tensor."""
    return _edges(like.dtype, like.device)


@functools.cache
def _edges(dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(GRID_S, dtype=dtype, device=device)


def mean_decay(drop: Tensor) -> Tensor:
    """Return (1 - exp(-x)) / x, 1 at x = 0: the mean of a decaying exponential over a unit."""
    safe = drop.clamp(min=1e-6)
    return share_lost(safe) / safe


def share_lost(drop: Tensor) -> Tensor:
    """Return 1 - exp(-x) for x >= 0, as tanh(x / 2) * (1 + exp(-x)).

    Exact for small x too, and of operators that ONNX has: it has no expm1, and exp(-x) - 1 in its
    place loses all but the first digits.
    """
    return torch.tanh(drop / 2) * (1 + torch.exp(-drop))
