"""A folder in which simulate, prepare and train have run."""

import json
from pathlib import Path

import pytest

from tests.cli.typed import TRAINING, skipwise


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which simulate, prepare and train have run."""
    folder = tmp_path_factory.mktemp("job")
    for words in (
        (
            "simulate",
            folder / "world",
            "--viewers",
            "60",
            "--days",
            "5",
            "--seed",
            "1",
            "videos=80",
        ),
        ("prepare", folder / "world", "--out", folder / "dataset"),
    ):
        assert skipwise(*words).returncode == 0
    days = json.loads((folder / "dataset" / "dataset.json").read_text())
    until = days["last_day"][:-2] + f"{int(days['last_day'][-2:]) - 1:02d}"
    trained = skipwise(
        "train", folder / "dataset", "--out", folder / "run", "--until", until, *TRAINING
    )
    assert trained.returncode == 0, trained.stderr
    (folder / "last_day").write_text(days["last_day"])
    return folder
