"""What would a factorization machine on ids and counts have said?

    codes (N, F), labels (N,)  ->  fm_baseline  ->  probabilities (M,) of other rows

    y = w_0 + sum_f w[c_f] + sum_{f < g} v[c_f] . v[c_g],  p = sigmoid(y)

After Rendle, ICDM 2010. Every field is categorical: ids, surface, hour, and rates cut into bins of
equal mass (`binned`). A code not met in training says nothing, and a share of the codes is hidden
in training so that it learns to do without. The last training rows choose how many passes.

Reads `errors` and `settings`; is read by `yardsticks`.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from skipwise.errors import DatasetError
from skipwise.evaluation.bootstrap import Floats
from skipwise.evaluation.metrics import Labels
from skipwise.settings import check_setting

Codes = NDArray[np.int64]
NOTHING = 0
"""The code that says nothing, in every field."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FactorSettings:
    """How the machine is shaped and trained. Fixed before the reported rows are seen."""

    width: int = 8
    """Length of each code's vector."""
    passes_at_most: int = 8
    learning_rate: float = 0.005
    weight_decay: float = 0.05
    hidden_share: float = 0.1
    """Share of codes hidden in a training step."""
    rows_per_step: int = 1024
    held_out_share: float = 0.15
    """Share of the training rows, the last ones, that choose the number of passes."""

    def __post_init__(self) -> None:
        check_setting("width", self.width, at_least=1, at_most=1024)
        check_setting("passes_at_most", self.passes_at_most, at_least=1, at_most=1000)
        check_setting("learning_rate", self.learning_rate, above=0, at_most=1)
        check_setting("weight_decay", self.weight_decay, at_least=0, at_most=100)
        check_setting("hidden_share", self.hidden_share, at_least=0, below=1)
        check_setting("rows_per_step", self.rows_per_step, at_least=1)
        check_setting("held_out_share", self.held_out_share, above=0, below=1)


class FactorizationMachine(nn.Module):
    """Weights and vectors of codes; each field has codes of its own."""

    def __init__(self, num_codes: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.offset: Tensor
        self.register_buffer("offset", torch.tensor([0, *np.cumsum(num_codes)[:-1]]))
        self.constant = nn.Parameter(torch.zeros(()))
        self.weight = nn.Parameter(torch.zeros(sum(num_codes)))
        self.vector = nn.Parameter(torch.randn(sum(num_codes), width) * 0.05)

    def forward(self, codes: Tensor) -> Tensor:
        """Return logits (N,); sum_{f<g} v_f . v_g = ((sum v)^2 - sum v^2) / 2."""
        known = (codes != NOTHING).to(self.weight)
        places = codes + self.offset
        vectors = self.vector[places] * known.unsqueeze(-1)
        pairs = (vectors.sum(1) ** 2 - (vectors**2).sum(1)).sum(1) / 2
        logits: Tensor = self.constant + (self.weight[places] * known).sum(1) + pairs
        return logits


def fm_baseline(
    train_codes: Codes,
    train_labels: Labels,
    test_codes: Codes,
    *,
    seed: int,
    settings: FactorSettings | None = None,
) -> Floats:
    """Train on some rows, in their order, and predict others.

    Args:
        train_codes: (N, F) codes from 1 per field, 0 = says nothing; oldest rows first.
        train_labels: (N,) -1 unknown (left out), 0, 1.
        test_codes: (M, F); codes that no training row has are read as 0.
        seed: Of weights and order.
        settings: Shape and training.

    Returns:
        (M,) probabilities.

    Raises:
        DatasetError: The training rows lack a class, or the fields differ.
    """
    settings = settings or FactorSettings()
    known = train_labels >= 0
    codes, labels = train_codes[known], train_labels[known].astype(np.float32)
    if train_codes.shape[1] != test_codes.shape[1] or not 0 < labels.sum() < len(labels):
        raise DatasetError(
            f"The training rows have {train_codes.shape[1]} fields and {int(labels.sum())} "
            f"positives of {len(labels)}, the test rows {test_codes.shape[1]} fields; both must "
            "have the same fields, and training both classes. Build both from one dataset."
        )
    num_codes = tuple(int(column.max(initial=0)) + 1 for column in codes.T)
    cut = max(1, int(len(codes) * (1 - settings.held_out_share)))
    found = _trained(codes[:cut], labels[:cut], num_codes, seed, settings, settings.passes_at_most)
    held_out = _tensor(codes[cut:]), torch.from_numpy(labels[cut:])
    losses = [_loss(model, *held_out) if len(labels) > cut else 0.0 for model in found]
    passes = 1 + int(np.argmin(losses))
    final = _trained(codes, labels, num_codes, seed, settings, passes)[-1]
    met = np.stack(
        [
            np.isin(column, np.unique(seen))
            for column, seen in zip(test_codes.T, codes.T, strict=True)
        ],
        axis=1,
    )
    with torch.no_grad():
        logits = final(_tensor(np.where(met, test_codes, NOTHING)))
    return np.asarray(logits.double().sigmoid().numpy())


def binned(
    train: NDArray[np.float64], test: NDArray[np.float64], num_bins: int = 20
) -> tuple[Codes, Codes]:
    """Cut a number into bins of equal mass of the training rows.

    Args:
        train: (N,) NaN unknown.
        test: (M,) likewise.
        num_bins: At most; equal numbers share a bin.

    Returns:
        (N,) and (M,) codes from 1; 0 where unknown.
    """
    known = train[np.isfinite(train)]
    if not len(known):
        return np.zeros(len(train), np.int64), np.zeros(len(test), np.int64)
    edges = np.unique(np.quantile(known, np.linspace(0, 1, num_bins + 1)[1:-1]))

    def codes(values: NDArray[np.float64]) -> Codes:
        place = 1 + np.searchsorted(edges, np.nan_to_num(values), side="right")
        return np.where(np.isfinite(values), place, NOTHING).astype(np.int64)

    return codes(train), codes(test)


def _trained(
    codes: Codes,
    labels: NDArray[np.float32],
    num_codes: tuple[int, ...],
    seed: int,
    settings: FactorSettings,
    passes: int,
) -> list[FactorizationMachine]:
    """Return the machine after each pass."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = FactorizationMachine(num_codes, settings.width)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    inputs, told = _tensor(codes), torch.from_numpy(labels)
    with torch.no_grad():
        model.constant.copy_(torch.logit(told.mean()))
    after = []
    for _ in range(passes):
        order = torch.randperm(len(codes), generator=generator)
        for chosen in torch.split(order, settings.rows_per_step):
            batch = inputs[chosen]
            hidden = torch.rand(batch.shape, generator=generator) < settings.hidden_share
            logits = model(batch.masked_fill(hidden, NOTHING))
            loss = functional.binary_cross_entropy_with_logits(logits, told[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        kept = FactorizationMachine(num_codes, settings.width)
        kept.load_state_dict(model.state_dict())
        after.append(kept)
    return after


@torch.no_grad()
def _loss(model: FactorizationMachine, codes: Tensor, labels: Tensor) -> float:
    return float(functional.binary_cross_entropy_with_logits(model(codes), labels))


def _tensor(codes: Codes) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(codes, dtype=np.int64))
