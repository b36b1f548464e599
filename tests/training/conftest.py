import pytest
import torch

from skipwise.features.dataset import Dataset
from skipwise.training.checkpoint import TrainedRun
from tests.training.trained import short_run


@pytest.fixture(scope="module")
def whole_run(small_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """A run that nothing disturbed: two searching passes at least, then as many as were best."""
    before = torch.get_num_threads()
    run = short_run(small_dataset, tmp_path_factory.mktemp("whole") / "RUN")
    torch.set_num_threads(before)
    return run
