"""A log becomes a dataset: whole, aligned, the same every time, or not at all."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
import pytest
from ibis.backends.duckdb import Backend as Connection

from skipwise import engine as engine_module
from skipwise.errors import EventError, SettingError, StorageError
from skipwise.features import prepare as prepare_module
from skipwise.features.counter_names import CounterConfig
from skipwise.features.dataset import Dataset
from skipwise.features.files import write_viewers
from skipwise.features.prepare import PrepareSettings, prepare
from skipwise.features.write import write_rows
from skipwise.progress import Task
from tests.features.small_logs import FIRST_DAY, Catalogue, Told, small_log

LOG = [
    Told(viewer_id="bob", video_id="b", shown_s=100, watch_s=2, liked=True),
    Told(viewer_id="ann", video_id="b", shown_s=90_000, watch_s=30, surface="search"),
    Told(viewer_id="ann", video_id="a", shown_s=50, watch_s=1),
    Told(viewer_id="ann", video_id="c", shown_s=60, watch_s=1, surface=None),
    Told(viewer_id="ann", video_id="a", shown_s=None, watch_s=None, duration_s=None, surface=None),
]
CATALOGUE = Catalogue(
    videos={"a": ("zoe", ("cats", "art")), "b": (None, ("art",)), "d": ("amy", ())},
    moods={"ann": "merry", "cid": None, "dan": "calm"},
)


@pytest.fixture
def connection() -> Connection:
    return ibis.duckdb.connect(threads=1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    connection = ibis.duckdb.connect(threads=1)
    out = tmp_path_factory.mktemp("prepared") / "DATASET"
    prepare(small_log(connection, LOG, CATALOGUE), connection, out)
    return Dataset.open(out)


def test_the_folder_holds_the_files_of_the_design(dataset: Dataset) -> None:
    assert sorted(file.name for file in dataset.path.iterdir()) == [
        "authors.arrow", "counters_day.arrow", "counters_event.arrow", "dataset.json",
        "events.arrow", "videos.arrow", "viewers.arrow",
    ]  # fmt: skip


def test_events_stand_by_viewer_then_untimed_first_then_by_time(dataset: Dataset) -> None:
    assert dataset.events["viewer"].all().tolist() == [0, 0, 0, 0, 1]
    assert dataset.events["video"].all().tolist() == [0, 0, 2, 1, 1]
    assert dataset.events["source_order"].all().tolist() == [4, 2, 3, 1, 0]
    assert dataset.events["counter_row"].all().tolist() == [-1, 0, 1, 2, 3]
    assert dataset.events["session_place"].all().tolist() == [0, 0, 1, 0, 0]
    assert dataset.events["glance_run"].all().tolist() == [0, 1, 2, 0, 1]


def test_what_is_unknown_has_a_value_of_its_own(dataset: Dataset) -> None:
    row = {name: column.all()[0] for name, column in dataset.events.items()}
    for name in ("shown_at_ms", "requested_at_ms", "hour", "request", "label_glance"):
        assert row[name] == -1, name
    assert row["known_at_ms"] == np.iinfo(np.int64).min
    assert row["day"] == row["known_day"] == FIRST_DAY - 1
    assert row["surface"] == row["duration_bucket"] == 0
    for name in ("watch_s", "duration_s", "watch_rank", "effective_above_s"):
        assert np.isnan(row[name]), name


def test_the_columns_have_the_types_of_the_design(dataset: Dataset) -> None:
    kinds = {name: column.dtype.name for name, column in dataset.events.items()}
    assert kinds["viewer"] == kinds["video"] == kinds["day"] == kinds["known_day"] == "int32"
    assert kinds["known_at_ms"] == kinds["request"] == kinds["counter_row"] == "int64"
    assert kinds["surface"] == kinds["glance_run"] == kinds["session_place"] == "int16"
    assert kinds["hour"] == kinds["feedback"] == kinds["label_glance"] == "int8"
    assert kinds["watch_s"] == kinds["watch_rank"] == kinds["finished_above_s"] == "float32"


def test_catalogues_have_a_row_for_every_code(dataset: Dataset) -> None:
    assert dataset.viewers.to_pydict() == {
        "viewer_id": ["ann", "bob", "cid", "dan"],
        "first_row": [0, 4, 5, 5],
        "num_rows": [4, 1, 0, 0],
        "extra_mood": [2, 0, 0, 1],
    }  # fmt: skip
    assert dataset.author_ids == ("", "amy", "zoe")
    videos = dataset.videos.to_pydict()
    assert videos["video_id"] == ["a", "b", "c", "d"]
    assert videos["author"] == [2, 0, 0, 1]
    assert videos["topics"] == [[1, 2], [1], [], []]
    assert videos["duration_s"] == [60, 60, 60, 60], "clip c is only in the log"
    assert videos["uploaded_day"] == [FIRST_DAY - 1, FIRST_DAY - 1, -1, FIRST_DAY - 1]
    assert videos["extra_loudness"][0] == 0.5
    assert np.isnan(videos["extra_loudness"][2])


def test_the_description_says_what_the_rows_do_not(dataset: Dataset) -> None:
    told = dataset.description
    assert (told["format_version"], told["source"], told["time_zone"]) == (2, "small", "UTC")
    assert (told["first_day"], told["last_day"]) == ("2022-01-08", "2022-01-09")
    assert told["surfaces"] == ["feed", "search"]
    assert told["topics"] == ["art", "cats"]
    assert told["viewer_extras"] == [
        {"name": "mood", "kind": "categorical", "categories": ["calm", "merry"]}
    ]
    assert told["video_extras"] == [{"name": "loudness", "kind": "numeric"}]
    assert told["labels"]["glance"] == {"known": 4, "positive": 3}
    assert "glance" in told["objectives"]
    assert "click" not in told["objectives"]
    assert told["settings"]["session_gap_s"] == 1800
    counts = {"num_events": 5, "num_timed_events": 4, "num_videos": 4, "num_viewers": 4}
    assert {name: told[name] for name in counts} == counts


def test_what_the_log_cannot_answer_is_not_counted(dataset: Dataset) -> None:
    assert "video.like" in dataset.counter_names
    assert not any("click" in name for name in dataset.counter_names)


def test_a_counter_row_belongs_to_its_event(dataset: Dataset) -> None:
    names = dataset.counter_names
    as_of_event, as_of_day = dataset.counters_event.all(), dataset.counters_day.all()
    assert as_of_event.shape == as_of_day.shape == (4, len(names))
    # Rows: ann a at 50 s; ann c at 60 s; ann b on day 2; bob b at 100 s.
    yesterday, before = 0.5 ** (1 / 7), 0.5 ** (2 / 7)
    views = names.index("viewer.views")
    assert as_of_event[:, views].tolist() == pytest.approx([
        yesterday, yesterday + 1, before + 2 * yesterday, 0
    ])  # fmt: skip
    assert as_of_day[:, views].tolist() == pytest.approx([
        yesterday, yesterday, before + 2 * yesterday, 0
    ])  # fmt: skip
    assert as_of_event[2, names.index("video.like")] == pytest.approx(yesterday), "bob's like of b"


def test_the_outcome_delay_moves_what_is_known(connection: Connection, tmp_path: Path) -> None:
    settings = PrepareSettings(outcome_delay_s=86_400.0)
    prepare(small_log(connection, LOG, CATALOGUE), connection, tmp_path / "late", settings)
    late = Dataset.open(tmp_path / "late")
    assert late.events["known_day"].all().tolist()[1:3] == [FIRST_DAY + 1] * 2
    views = late.counters_day.all()[:, late.counter_names.index("viewer.views")]
    assert views[2] == pytest.approx(0.5 ** (2 / 7)), "only the untimed event is known by then"


def test_the_same_log_gives_the_same_files_whatever_the_order_of_its_rows(
    connection: Connection, tmp_path: Path, dataset: Dataset
) -> None:
    log = small_log(connection, LOG, CATALOGUE)
    shuffled = connection.create_table("shuffled", log.events.order_by(log.events.watch_ms))
    prepare(replace(log, events=shuffled), connection, tmp_path / "again")
    for file in dataset.path.iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes(), file.name


def test_another_log_or_setting_gives_another_fingerprint(
    connection: Connection, tmp_path: Path, dataset: Dataset
) -> None:
    prints = {dataset.fingerprint}
    prepare(small_log(connection, LOG[:-1], CATALOGUE), connection, tmp_path / "shorter")
    prints.add(Dataset.open(tmp_path / "shorter").fingerprint)
    settings = PrepareSettings(counters=CounterConfig(half_life_days=3.0))
    log = small_log(connection, LOG, CATALOGUE)
    prepare(log, connection, tmp_path / "faster", settings)
    prints.add(Dataset.open(tmp_path / "faster").fingerprint)
    assert len(prints) == 3


def test_a_log_of_one_viewer_and_one_event_works(connection: Connection, tmp_path: Path) -> None:
    prepare(small_log(connection, [Told()]), connection, tmp_path / "one")
    one = Dataset.open(tmp_path / "one")
    assert one.num_events == 1
    assert one.counters_event.all().shape == (1, len(one.counter_names))
    assert not one.counters_event.all().any()


@pytest.mark.parametrize("events", [[], [Told(shown_s=None)]])
def test_a_log_without_a_timed_event_is_refused(
    connection: Connection, tmp_path: Path, events: list[Told]
) -> None:
    with pytest.raises(EventError, match=r"no event with a time; .* at least one\. Check"):
        prepare(small_log(connection, events), connection, tmp_path / "none")
    assert not list(tmp_path.iterdir())


def test_a_video_named_twice_in_the_catalogue_is_refused(
    connection: Connection, tmp_path: Path
) -> None:
    log = small_log(connection, LOG, CATALOGUE)
    twice = replace(log, videos=log.videos.union(log.videos))
    with pytest.raises(EventError, match=r"video_id 'a' has 2 rows .* must have one"):
        prepare(twice, connection, tmp_path / "twice")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("step", "failure", "raised"),
    [
        ("write_in_passes", OSError(errno.ENOSPC, "No space left on device"), StorageError),
        ("write_in_passes", RuntimeError("a bug"), RuntimeError),
        ("write_json", KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_failure_leaves_the_old_dataset_and_nothing_half_written(
    connection: Connection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    failure: BaseException,
    raised: type[BaseException],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure

    out = tmp_path / "DATASET"
    out.mkdir()
    (out / "dataset.json").write_text("kept")
    monkeypatch.setattr(prepare_module, step, fail)
    log = small_log(connection, LOG, CATALOGUE)
    tables = set(connection.list_tables())
    with pytest.raises(raised):
        prepare(log, connection, out)
    assert [path.name for path in tmp_path.iterdir()] == ["DATASET"]
    assert [path.read_text() for path in out.iterdir()] == ["kept"]
    assert not [name for name in set(connection.list_tables()) - tables if "step" in name]


def test_rows_are_counted_across_batches(
    connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "ROWS_AT_ONCE", 2_048)
    number = 10_000
    viewers = pa.table({
        "viewer": pa.array(range(number), pa.int32()),
        "viewer_id": [f"{code:05}" for code in range(number)],
        "num_rows": pa.array([code % 3 for code in range(number)], pa.int32()),
    })  # fmt: skip
    assert write_viewers(tmp_path, ibis.memtable(viewers), {}, connection) == number
    with pa.ipc.open_file(tmp_path / "viewers.arrow") as file:
        assert file.num_record_batches > 1
        written = file.read_all()
    ends = np.cumsum([code % 3 for code in range(number)])
    assert written["first_row"].to_pylist() == [0, *ends[:-1].tolist()]


def test_a_full_disk_is_heard_from_the_file_itself(connection: Connection) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    rows = ibis.memtable(pa.table({"a": pa.array(range(100_000), pa.int64())}))
    schema = pa.schema([pa.field("a", pa.int64(), nullable=False)])
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is what counts
        write_rows(Path("/dev/full"), rows, schema, ["a"], connection)
    assert caught.value.errno == errno.ENOSPC


def test_a_null_never_reaches_a_file(connection: Connection, tmp_path: Path) -> None:
    rows = ibis.memtable(pa.table({"a": pa.array([1, None], pa.int64())}))
    schema = pa.schema([pa.field("a", pa.int64(), nullable=False)])
    with pytest.raises(ValueError, match=r"x\.arrow: a holds null"):
        write_rows(tmp_path / "x.arrow", rows, schema, ["a"], connection)


def test_every_step_is_announced_and_counted(connection: Connection, tmp_path: Path) -> None:
    heard = _Heard()
    prepare(small_log(connection, LOG, CATALOGUE), connection, tmp_path / "d", progress=heard)
    assert heard.amounts["preparing"] == heard.totals["preparing"]
    assert heard.amounts["writing histories"] == heard.amounts["counting and writing"] == 5
    assert heard.amounts["writing videos.arrow"] == 4


class _Heard:
    """A listener that adds up what it is told."""

    def __init__(self) -> None:
        self.totals: dict[str, float | None] = {}
        self.amounts: dict[str, float] = {}
        self._what: list[str] = []

    @contextmanager
    def task(self, what: str, *, total: float | None, unit: str) -> Iterator[Task]:
        assert unit
        self.totals[what], self.amounts[what] = total, 0.0
        yield _HeardTask(self, what)


class _HeardTask:
    def __init__(self, heard: _Heard, what: str) -> None:
        self._heard, self._what = heard, what

    def advance(self, amount: float = 1, *, note: str = "") -> None:
        assert note or amount
        self._heard.amounts[self._what] += amount


@pytest.mark.parametrize(
    "change", [{"outcome_delay_s": -1.0}, {"session_gap_s": 0.0}, {"session_gap_s": float("nan")}]
)
def test_settings_out_of_range_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(SettingError, match=next(iter(change))):
        PrepareSettings(**change)  # type: ignore[arg-type]


def test_a_source_brings_its_own_rule_of_a_glance(connection: Connection, tmp_path: Path) -> None:
    """A short watch of unknown length: unknown, or no glance where the source's figures say so."""
    unknown_length = Told(viewer_id="bob", video_id="e", shown_s=200, watch_s=1, duration_s=None)
    log = small_log(connection, [*LOG, unknown_length], CATALOGUE)
    published = replace(log, description=replace(log.description, glance_needs_duration=False))
    found = {}
    for name, each in (("masked", log), ("published", published)):
        prepare(each, connection, tmp_path / name)
        found[name] = Dataset.open(tmp_path / name).description["labels"]["glance"]
    assert found["published"]["known"] == found["masked"]["known"] + 1
    assert found["published"]["positive"] == found["masked"]["positive"]
