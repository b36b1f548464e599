"""What several test folders share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from skipwise.features.dataset import Dataset
from skipwise.simulation.world import planted_world
from skipwise.training.checkpoint import TrainedRun
from tests.training.trained import short_run
from tests.worlds import SMALL_WORLD, edited_after, prepared, prepared_world, reduced_kuairand

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def kuairand_pure() -> Path:
    """The folder with real KuaiRand-Pure rows; skips (fails in CI) where it is absent."""
    folder = REPOSITORY.parent / "shared" / "data" / "kuairand-pure"
    if not folder.is_dir():
        message = f"KuaiRand-Pure is not at {folder}; see docs/data.md for where it comes from"
        if os.environ.get("SKIPWISE_REQUIRE_DATA"):
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(scope="session")
def real_dataset(kuairand_pure: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Every event of one in 90 KuaiRand-Pure viewers, with their untimed past."""
    folder = tmp_path_factory.mktemp("real")
    log = reduced_kuairand(kuairand_pure, folder / "log", one_viewer_in=90)
    return prepared(log, folder / "DATASET")


@pytest.fixture(scope="session")
def small_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A simulated log of 40 viewers and 5 days; the log itself lies beside it, in `log`."""
    return prepared_world(tmp_path_factory.mktemp("small"), SMALL_WORLD)


@pytest.fixture(scope="session")
def small_run(small_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """A second's training on the small log without its last two days."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    return short_run(small_dataset, folder, last_day=small_dataset.days[1] - 2)


@pytest.fixture(scope="session")
def edited_dataset(small_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The small log with other outcomes on its last two days, prepared from scratch."""
    folder = tmp_path_factory.mktemp("edited")
    log = edited_after(small_dataset.path.parent / "log", folder / "log", small_dataset.days[1] - 2)
    return prepared(log, folder / "DATASET")


@pytest.fixture(scope="session")
def planted_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A world in which only past skips tell what will be skipped."""
    return prepared_world(tmp_path_factory.mktemp("planted"), planted_world(seed=1))


@pytest.fixture(scope="session")
def shuffled_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The same world with its outcomes dealt out anew: nothing tells anything."""
    world = planted_world(seed=1, shuffle_outcomes=True)
    return prepared_world(tmp_path_factory.mktemp("shuffled"), world)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Let torch use one thread, on which sums have one order; give the others back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
