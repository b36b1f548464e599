"""Tables too large to be moved whole at each step: only the rows a batch touched are.

    nn.Embedding tables with many rows  ->  SparseTables  ->  row-wise Adagrad on the touched rows

- A step costs what the batch's different rows cost, whatever the table holds; a row that is not
  touched is not read.
- One number of state per row: s_r += mean_d g_rd^2, then w_r -= rate g_r / (sqrt(s_r) + 1e-8)
  (AdaGrad, JMLR 2011; by row as in FBGEMM).
- These tables have no decay and no running mean, either of which would move every row.

Is read by `learner`.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class SparseTables:
    """The large tables of a model, their state, and how they learn."""

    def __init__(self, tables: Sequence[nn.Embedding], learning_rate: float) -> None:
        self.tables, self.learning_rate = list(tables), learning_rate
        self.state = [each.weight.new_zeros(each.num_embeddings) for each in tables]
        self._touched: list[tuple[Tensor, Tensor] | None] = []
        self._share = 1.0
        for table in self.tables:
            table.sparse = True

    def square_norm(self) -> float:
        """Gather the last batch's gradients by row, and return the sum of their squares."""
        self._touched = [_by_row(table.weight) for table in self.tables]
        return sum(float(each[1].square().sum()) for each in self._touched if each is not None)

    def set_pace(self, share: float) -> None:
        """Set the next step's share of the learning rate, below 1 while warming up."""
        self._share = share

    @torch.no_grad()
    def step(self, scale: float) -> None:
        """Move the touched rows.

        Args:
            scale: What the gathered gradients are multiplied with, 1 unless they are clipped.
        """
        for table, state, touched in zip(self.tables, self.state, self._touched, strict=True):
            if touched is None:
                continue
            rows, gradients_RD = touched[0], touched[1] * scale
            moments = state[rows] + gradients_RD.square().mean(1)
            state[rows] = moments
            step_RD = gradients_RD / (moments.sqrt() + 1e-8).unsqueeze(1)
            table.weight.index_add_(0, rows, step_RD, alpha=-self.learning_rate * self._share)
        self._touched = []

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that changes from step to step, by name; not copies."""
        weights = {
            f"{place}.weight": each.weight.detach() for place, each in enumerate(self.tables)
        }
        return weights | {f"{place}.state": each for place, each in enumerate(self.state)}

    @torch.no_grad()
    def restore(self, name: str, value: Tensor) -> None:
        """Take up one of what `tensors` gave."""
        self.tensors()[name].copy_(value)

    def weights(self) -> dict[str, Tensor]:
        """Return nothing: these tables are among the model's own weights."""
        return {}

    def here(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a model's weights as they are: one process keeps them whole."""
        return dict(weights)

    def as_shards(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a model's weights as they are: one process has them whole."""
        return dict(weights)

    def gathered(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a model's weights as they are: one process has them whole."""
        return dict(weights)


def _by_row(weight: Tensor) -> tuple[Tensor, Tensor] | None:
    """Take a sparse gradient off a table: the different rows (R,) and their gradients (R, D)."""
    gradient, weight.grad = weight.grad, None
    if gradient is None:
        return None
    rows, place = torch.unique(gradient._indices()[0], return_inverse=True)
    values = gradient._values()
    return rows, values.new_zeros(len(rows), values.shape[1]).index_add_(0, place, values)
