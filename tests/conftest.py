"""What several test folders share."""

import os
from pathlib import Path

import pytest

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
