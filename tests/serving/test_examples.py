"""Every body has an example, granted as it stands."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from skipwise.features.dataset import Dataset
from skipwise.serving.app import ENDPOINTS
from skipwise.serving.openapi import Described
from skipwise.serving.serve import Service
from skipwise.training.checkpoint import TrainedRun
from tests.serving.running import Client, running

TAKE_A_BODY = [each.described for each in ENDPOINTS if each.described.body is not None]


@pytest.fixture(scope="module")
def exemplary(
    small_run: TrainedRun, small_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """A server of its own, with the run that the examples name beside its first one."""
    folder: Path = tmp_path_factory.mktemp("exemplary")
    for name in ("run", "run-2"):
        shutil.copytree(small_run.path, folder / name)
    state = f"sqlite:{folder / 'state.db'}"
    with running(Service(run=folder / "run", data=small_dataset.path, state=state)) as client:
        yield client


@pytest.mark.parametrize("described", TAKE_A_BODY, ids=lambda each: f"{each.method} {each.path}")
def test_the_example_of_a_body_is_granted_as_it_stands(
    exemplary: Client, described: Described
) -> None:
    document = exemplary.ask("GET", "/openapi.json")
    operation = document["paths"][described.path][described.method.lower()]
    content = operation["requestBody"]["content"]["application/json"]
    exemplary.ask(described.method, described.path, content["example"])
