"""What training asks of the predictions (docs/model.md).

    Predictions, targets  ->  objective_losses  ->  one masked mean per objective, and the sum

    loss = sum_k weight_k BCE_k + curve NLL + pairwise + decorrelation

- An outcome that is not known (-1, NaN) has no part in any sum.
- An objective without a known outcome in the batch contributes zero, not NaN.

Is read by training. No I/O, no randomness.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from skipwise.model.objectives import OBJECTIVES, Predictions
from skipwise.settings import check_setting


@dataclass(frozen=True, kw_only=True, slots=True)
class LossSettings:
    """How much each part of the loss counts."""

    glance: float = 1.0
    negative: float = 0.3
    effective: float = 0.5
    long: float = 1.0
    finished: float = 0.5
    like: float = 1.0
    follow: float = 0.3
    comment: float = 0.3
    share: float = 0.3
    click: float = 1.0
    watch: float = 0.3
    """The curve's negative log-likelihood, or the regression of log watch time."""
    pairwise: float = 0.0
    """A glance of the same viewer and day should be more likely a glance than an effective view."""
    decorrelation: float = 0.0
    """|cos(u+, u-)|: the two readings should not be one."""
    retrieval: float = 0.1
    """Finding effective views among all videos (`model.retrieval`); 0 = that head is not taught,
    and a feed finds by popularity alone."""
    retrieval_glances: float = 0.3
    """How much not finding a glance counts there beside finding an effective view."""

    def __post_init__(self) -> None:
        for name in (
            *OBJECTIVES,
            "watch",
            "pairwise",
            "decorrelation",
            "retrieval",
            "retrieval_glances",
        ):
            check_setting(f"loss.{name}", getattr(self, name), at_least=0, at_most=1000)


def objective_losses(
    predictions: Predictions,
    targets: Mapping[str, Tensor],
    *,
    watch_at_most_s: float,
) -> dict[str, Tensor]:
    """Compute each objective's mean loss over the candidates whose outcome is known.

    Args:
        predictions: Of M candidates.
        targets: `label_<objective>` (M,) in {-1, 0, 1} and `watch_s` (M,), NaN unknown.
        watch_at_most_s: Watch time beyond this counts as this.

    Returns:
        One scalar per objective, natural logs: BCE = -[y log p + (1 - y) log(1 - p)]; `watch` is
        the curve's negative log-likelihood, or without a curve what the watch head asks, or
        without either the Huber loss of log(1 + w).
    """
    names = list(predictions.logits)
    logits_MO = torch.stack(list(predictions.logits.values()), 1)
    labels_MO = torch.stack([targets[f"label_{name}"] for name in names], 1)
    each_MO = functional.binary_cross_entropy_with_logits(
        logits_MO, labels_MO.clamp(min=0).to(logits_MO), reduction="none"
    )
    losses = dict(zip(names, _masked_mean(each_MO, labels_MO >= 0).unbind(), strict=True))
    watch = targets["watch_s"].clamp(max=watch_at_most_s)
    if predictions.curve is not None:
        each = -predictions.curve.log_likelihood(watch)
    elif predictions.watch_loss is not None:
        each = predictions.watch_loss(watch)
    else:
        each = functional.huber_loss(
            torch.log1p(predictions.expected_watch_s),
            torch.log1p(torch.nan_to_num(watch, nan=0.0)).to(predictions.expected_watch_s),
            reduction="none",
        )
    losses["watch"] = _masked_mean(each, ~watch.isnan())
    return losses


def pairwise_loss(glance_logit: Tensor, targets: Mapping[str, Tensor], group: Tensor) -> Tensor:
    """Put effective views below glances of the same group in glance probability (BPR, UAI 2009).

    Args:
        glance_logit: (M,) logits of a glance.
        targets: `label_glance` and `label_effective`, (M,) in {-1, 0, 1}.
        group: (M,) rows that may be compared; scored with one state.

    Returns:
        Mean over pairs (effective i, glance j) of softplus(logit_i - logit_j); 0 without pairs.
    """
    effective = torch.nonzero(targets["label_effective"] == 1).squeeze(1)
    glance = torch.nonzero(targets["label_glance"] == 1).squeeze(1)
    same = group[effective][:, None] == group[glance][None, :]
    higher, lower = torch.nonzero(same, as_tuple=True)
    if len(higher) == 0:
        return glance_logit.sum() * 0
    return functional.softplus(glance_logit[effective[higher]] - glance_logit[glance[lower]]).mean()


def decorrelation_loss(liking_MD: Tensor, disliking_MD: Tensor) -> Tensor:
    """Return the mean |cos(u+, u-)| over candidates, in [0, 1]."""
    return functional.cosine_similarity(liking_MD, disliking_MD, dim=-1).abs().mean()


def _masked_mean(each: Tensor, known: Tensor) -> Tensor:
    return torch.where(known, each, 0.0).sum(0) / known.sum(0).clamp(min=1)
