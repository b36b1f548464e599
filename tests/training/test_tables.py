"""Large tables learn on the rows that were touched, as the formula says, and resume exactly."""

from pathlib import Path

import pytest
import torch
from torch import nn

from skipwise.features.dataset import Dataset
from skipwise.training.tables import SparseTables
from tests.training.trained import BreaksOff, interrupt, same_weights, short_run

pytestmark = pytest.mark.usefixtures("one_thread")

IDS, SPARSE = "model.inputs.ids=true", "optimizer.sparse_from_rows=10"


def test_a_step_is_row_wise_adagrad_and_leaves_other_rows_alone() -> None:
    """Row 2 twice in one batch: its gradients add up. By hand, two steps."""
    table = nn.Embedding(5, 2)
    tables = SparseTables([table], learning_rate=0.1)
    expected, state = table.weight.detach().clone(), torch.zeros(5)
    for scale, share in ((1.0, 0.5), (0.25, 1.0)):
        weights_KD = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.5, 0.5]])
        (table(torch.tensor([2, 4, 2])) * weights_KD).sum().backward()
        gradient = torch.zeros(5, 2)
        gradient[2], gradient[4] = weights_KD[0] + weights_KD[2], weights_KD[1]
        assert tables.square_norm() == pytest.approx(float(gradient.square().sum()))
        tables.set_pace(share)
        tables.step(scale)
        state += (gradient * scale).square().mean(1)
        moved = gradient * scale / (state.sqrt() + 1e-8).unsqueeze(1)
        expected -= 0.1 * share * moved
        torch.testing.assert_close(table.weight.detach(), expected)
    assert table.weight.grad is None


def test_a_batch_that_touches_no_row_moves_none() -> None:
    table = nn.Embedding(5, 2)
    tables, before = SparseTables([table], learning_rate=0.1), table.weight.detach().clone()
    assert tables.square_norm() == 0
    tables.step(1.0)
    assert torch.equal(table.weight.detach(), before)


def test_training_with_sparse_tables_learns_them_and_resumes_exactly(
    small_dataset: Dataset, tmp_path: Path
) -> None:
    whole = short_run(small_dataset, tmp_path / "whole", IDS, SPARSE)
    with pytest.raises(KeyboardInterrupt):
        short_run(small_dataset, tmp_path / "RUN", IDS, SPARSE, progress=BreaksOff(11, interrupt))
    assert same_weights(short_run(small_dataset, tmp_path / "RUN", IDS, SPARSE, resume=True), whole)
    dense = short_run(small_dataset, tmp_path / "dense", IDS)
    assert not same_weights(whole, dense)
    slower = short_run(
        small_dataset, tmp_path / "slow", IDS, SPARSE, "optimizer.table_learning_rate=1e-9"
    )
    one, other = (run.model.state_dict()["inputs.video.weight"] for run in (whole, slower))
    assert not torch.allclose(one, other, atol=1e-3), "the table has learnt"
