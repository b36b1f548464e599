"""What goes wrong in the data engine is told for what it is."""

import duckdb
import pytest

from skipwise.cli.arguments import data_engine
from skipwise.errors import StorageError

FULL = 'IO Error: Could not write file "x": No space left on device'


@pytest.mark.parametrize(
    "problem",
    [
        duckdb.IOException(FULL),
        duckdb.IOException("IO Error: failed to write: Disk quota exceeded"),
        duckdb.OutOfMemoryException("Out of Memory Error: failed to allocate 32 MiB"),
        duckdb.OutOfMemoryException(""),
    ],
    ids=["disk", "quota", "memory", "wordless"],
)
def test_an_engine_without_room_says_so(problem: duckdb.Error) -> None:
    says = r"ran out of room: .*take 1 GiB of memory .*Raise --memory, or free some disk"
    with pytest.raises(StorageError, match=says), data_engine(1.0, 1):
        raise problem


@pytest.mark.parametrize(
    "message",
    [
        'IO Error: No files found that match the pattern "log.csv"',
        'IO Error: Cannot open file "log.parquet": Permission denied',
    ],
)
def test_a_file_that_cannot_be_used_is_not_called_a_full_disk(message: str) -> None:
    with (
        pytest.raises(StorageError, match=r"could not use a file: IO Error.*Check that") as caught,
        data_engine(1.0, 1),
    ):
        raise duckdb.IOException(message)
    assert "room" not in str(caught.value)
