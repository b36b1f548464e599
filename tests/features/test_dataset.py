"""A prepared dataset is mapped as it was written, or refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from skipwise.errors import DatasetError
from skipwise.features.dataset import Column, Dataset, day_number, iso_day
from skipwise.labels.watch import LabelConfig
from tests.worlds import timed_rows


@pytest.fixture
def copy(small_dataset: Dataset, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(small_dataset.path, tmp_path / "DATASET"))


def test_a_dataset_says_what_it_holds(small_dataset: Dataset) -> None:
    first, last = small_dataset.days
    assert last - first + 1 == 5
    assert small_dataset.num_events == small_dataset.description["num_events"] > 1000
    assert len(small_dataset.counters_day) == len(small_dataset.counters_event)
    assert len(small_dataset.counters_day) == timed_rows(small_dataset).sum()
    assert {"glance", "effective", "long", "like"} <= set(small_dataset.objectives)
    assert small_dataset.label_config == LabelConfig()
    assert small_dataset.author_ids[0] == ""
    assert len(small_dataset.counter_names) == small_dataset.counters_day.all().shape[1]


def test_the_rows_of_viewers_cover_all_events_in_order(small_dataset: Dataset) -> None:
    first, number = small_dataset.viewer_rows()
    np.testing.assert_array_equal(first, np.cumsum(number) - number)
    assert number.sum() == small_dataset.num_events
    viewer = small_dataset.events["viewer"].all()
    np.testing.assert_array_equal(viewer, np.repeat(np.arange(len(first)), number))


def test_one_preparation_has_one_fingerprint(small_dataset: Dataset, copy: Path) -> None:
    assert len(small_dataset.fingerprint) == 64
    assert Dataset.open(copy).fingerprint == small_dataset.fingerprint


def chunked(*lengths: int, width: int = 0) -> tuple[Column, NDArray[np.float32]]:
    shape = (sum(lengths), width) if width else (sum(lengths),)
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    chunks = np.split(values, np.cumsum(lengths)[:-1])
    return Column(chunks, values.dtype, width), values


@pytest.mark.parametrize("lengths", [(7,), (3, 4), (1, 0, 5, 1), (0, 7)])
@pytest.mark.parametrize("width", [0, 3])
def test_a_column_in_chunks_reads_like_one_array(lengths: tuple[int, ...], width: int) -> None:
    column, values = chunked(*lengths, width=width)
    assert len(column) == 7
    rows = np.array([6, 0, 3, 3, 2, 5, 1])
    np.testing.assert_array_equal(column.take(rows), values[rows])
    np.testing.assert_array_equal(column.all(), values)
    nothing = np.empty(0, dtype=np.int64)
    assert column.take(nothing).shape == values[:0].shape


def test_a_column_of_nothing_has_its_shape() -> None:
    empty = Column([], np.dtype(np.float32), 3)
    assert len(empty) == 0
    assert empty.all().shape == (0, 3)


def test_what_was_taken_is_a_copy(small_dataset: Dataset) -> None:
    taken = small_dataset.events["watch_s"].take(np.array([0, 1]))
    taken[:] = -1
    assert (small_dataset.events["watch_s"].take(np.array([0, 1])) != -1).all()


def test_days_are_counted_from_1970() -> None:
    assert day_number("2022-04-25") == 19_107
    assert iso_day(19_107) == "2022-04-25"
    assert iso_day(day_number("2024-02-29") + 1) == "2024-03-01"


def test_a_folder_that_is_no_dataset_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DatasetError, match=r"is not a prepared dataset .*skipwise prepare"):
            Dataset.open(path)


def test_a_damaged_description_is_refused(copy: Path) -> None:
    text = (copy / "dataset.json").read_text()
    (copy / "dataset.json").write_text(text[: len(text) // 2])
    with pytest.raises(
        DatasetError, match=r"dataset\.json is damaged: .*prepare` again, with --replace"
    ):
        Dataset.open(copy)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "must be JSON"),
        (b"[1]", "it is a list, must be a JSON object"),
        (b"null", "it is a NoneType, must be a JSON object"),
        (b"\xff\xfe{}", "must be JSON"),
        (b'{"format_version": 2}', "it must hold fingerprint, source, "),
    ],
    ids=["empty", "list", "null", "not text", "nothing but its version"],
)
def test_what_is_no_description_is_refused(copy: Path, content: bytes, says: str) -> None:
    (copy / "dataset.json").write_bytes(content)
    with pytest.raises(
        DatasetError, match=rf"dataset\.json is damaged: .*{says}.*prepare` again, with --replace"
    ):
        Dataset.open(copy)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_events": None}, "num_events"),
        ({"settings": [1]}, "settings"),
        ({"settings": {"labels": {}, "counters": {}}}, r"settings\.session_gap_s"),
    ],
)
def test_a_description_that_lacks_a_part_is_refused(
    copy: Path, changes: dict[str, object], says: str
) -> None:
    described = json.loads((copy / "dataset.json").read_text()) | changes
    (copy / "dataset.json").write_text(json.dumps(described))
    with pytest.raises(
        DatasetError, match=rf"damaged: it must hold {says}\. .*prepare` again, with --replace"
    ):
        Dataset.open(copy)


@pytest.mark.parametrize("version", [0, 1, None])
def test_another_format_version_is_refused(copy: Path, version: int | None) -> None:
    description = json.loads((copy / "dataset.json").read_text())
    description["format_version"] = version
    (copy / "dataset.json").write_text(json.dumps(description))
    with pytest.raises(
        DatasetError, match=f"format version {version}, must be 2.*prepare` again, with --replace"
    ):
        Dataset.open(copy)


@pytest.mark.parametrize(
    "name",
    ["events", "counters_day", "counters_event", "videos", "viewers", "authors"],
)
def test_a_file_cut_short_or_missing_is_refused(copy: Path, name: str) -> None:
    file = copy / f"{name}.arrow"
    file.write_bytes(file.read_bytes()[:-64])
    with pytest.raises(DatasetError, match=rf"{name}\.arrow has .* cut short .*--only {name}"):
        Dataset.open(copy)
    file.unlink()
    with pytest.raises(DatasetError, match=rf"{name}\.arrow is missing, .*--only {name}.arrow"):
        Dataset.open(copy)


def test_a_table_of_another_length_is_refused(copy: Path) -> None:
    description = json.loads((copy / "dataset.json").read_text())
    description["num_events"] += 1
    (copy / "dataset.json").write_text(json.dumps(description))
    with pytest.raises(
        DatasetError, match=r"events\.arrow has .* rows, dataset\.json says .*again"
    ):
        Dataset.open(copy)
