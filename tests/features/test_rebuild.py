"""A damaged file of a dataset is named, and it alone is made anew."""

import shutil
from pathlib import Path

import ibis
import pytest

from skipwise.errors import DatasetError, SettingError
from skipwise.events.read import read_log
from skipwise.features.dataset import Dataset
from skipwise.features.prepare import PrepareSettings
from skipwise.features.rebuild import rebuild
from skipwise.features.soundness import check_before_training, check_contents
from skipwise.storage import checksum


@pytest.fixture
def copy(small_dataset: Dataset, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(small_dataset.path, tmp_path / "DATASET"))


def rebuilt(dataset: Dataset, out: Path, name: str, settings: PrepareSettings | None) -> None:
    connection = ibis.duckdb.connect(threads=1)
    log = read_log(dataset.path.parent / "log", connection)
    rebuild(log, connection, out, name, settings)
    connection.disconnect()


def flip(file: Path) -> None:
    """Change one byte in the middle, where no reader looks twice."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_a_changed_byte_is_found_before_training_and_the_file_alone_is_rebuilt(
    small_dataset: Dataset, copy: Path
) -> None:
    sums = {file.name: checksum(file) for file in copy.glob("*.arrow")}
    times = {file.name: file.stat().st_mtime_ns for file in copy.glob("*.arrow")}
    flip(copy / "counters_day.arrow")
    opened = Dataset.open(copy)
    with pytest.raises(DatasetError, match=r"counters_day.arrow does not fit .*--only counters"):
        check_before_training(copy, opened.description)
    rebuilt(small_dataset, copy, "counters_day.arrow", None)
    check_contents(copy, Dataset.open(copy).description)
    assert {file.name: checksum(file) for file in copy.glob("*.arrow")} == sums
    written = {
        file.name for file in copy.glob("*.arrow") if file.stat().st_mtime_ns != times[file.name]
    }
    assert written == {"counters_day.arrow"}
    assert not list(copy.parent.glob(".DATASET.*")), "nothing is left aside"


def test_another_log_or_setting_rebuilds_nothing(small_dataset: Dataset, copy: Path) -> None:
    flip(copy / "events.arrow")
    before = checksum(copy / "events.arrow")
    with pytest.raises(DatasetError, match=r"has the fingerprint .*the whole dataset again"):
        rebuilt(small_dataset, copy, "events.arrow", PrepareSettings(session_gap_s=60.0))
    assert checksum(copy / "events.arrow") == before
    assert not list(copy.parent.glob(".DATASET.*"))


def test_a_file_that_a_dataset_does_not_hold_is_refused(small_dataset: Dataset, copy: Path) -> None:
    with pytest.raises(SettingError, match=r"--only = 'event.arrow'.*events.arrow"):
        rebuilt(small_dataset, copy, "event.arrow", None)
