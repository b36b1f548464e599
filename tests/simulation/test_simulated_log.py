"""The folder that `simulate` writes: its tables, its rates, its order, and that it is whole."""

import errno
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from skipwise.errors import SettingError, StorageError
from skipwise.events.read import read_log
from skipwise.events.schema import (
    EVENT_SCHEMA,
    ExtraColumn,
    SourceDescription,
    video_schema,
    viewer_schema,
)
from skipwise.simulation import log as log_module
from skipwise.simulation.log import simulate, simulate_tables
from skipwise.simulation.world import WorldSettings

SMALL = WorldSettings(viewers=60, videos=80, authors=20, topics=5, days=3, random_share=0.2)


@pytest.fixture(scope="module")
def default_world() -> dict[str, pa.Table]:
    return simulate_tables(WorldSettings())


@pytest.fixture(scope="module")
def small_world() -> dict[str, pa.Table]:
    return simulate_tables(SMALL)


def test_the_tables_have_the_columns_of_the_design(tmp_path: Path) -> None:
    simulate(tmp_path / "world", SMALL)
    assert sorted(file.name for file in (tmp_path / "world").iterdir()) == [
        "events.parquet",
        "source.json",
        "truth.parquet",
        "videos.parquet",
        "viewers.parquet",
        "world.json",
    ]
    events, videos, viewers = (
        ibis.Schema.from_pyarrow(pq.read_schema(tmp_path / "world" / f"{name}.parquet"))
        for name in ("events", "videos", "viewers")
    )
    said = json.loads((tmp_path / "world" / "source.json").read_text())
    description = SourceDescription(
        name=said["name"],
        time_zone=said["time_zone"],
        viewer_extras=tuple(ExtraColumn(**extra) for extra in said["viewer_extras"]),
        video_extras=tuple(ExtraColumn(**extra) for extra in said["video_extras"]),
    )
    assert (description.name, description.time_zone) == ("simulated", "Asia/Shanghai")
    assert events == EVENT_SCHEMA
    assert videos == video_schema(description)
    assert viewers == viewer_schema(description)
    assert json.loads((tmp_path / "world" / "world.json").read_text())["viewers"] == 60


def test_the_reader_refuses_nothing_and_gives_the_same_rows(tmp_path: Path) -> None:
    simulate(tmp_path / "world", SMALL)
    connection = ibis.duckdb.connect()
    log = read_log(tmp_path / "world", connection)
    assert len(log.refusals) == 0
    read = connection.to_pyarrow(log.events.order_by("source_order"))
    for name in EVENT_SCHEMA.names:
        written = pq.read_table(tmp_path / "world" / "events.parquet", columns=[name])
        assert read[name].to_pylist() == written[name].to_pylist(), name


def test_ids_of_events_are_in_the_catalogue(small_world: dict[str, pa.Table]) -> None:
    events, videos, viewers = (small_world[name] for name in ("events", "videos", "viewers"))
    assert set(_column(events, "video_id")) <= set(_column(videos, "video_id"))
    assert set(_column(events, "viewer_id")) <= set(_column(viewers, "viewer_id"))
    durations = dict(zip(_column(videos, "video_id"), _column(videos, "duration_ms"), strict=True))
    assert [durations[video] for video in _column(events, "video_id")] == list(
        _column(events, "duration_ms")
    )
    assert min(durations.values()) >= 5_000
    assert max(durations.values()) <= 300_000


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    simulate(tmp_path / "first", SMALL)
    simulate(tmp_path / "second", SMALL)
    simulate(tmp_path / "other", WorldSettings(viewers=60, videos=80, topics=5, days=3, seed=1))
    for file in (tmp_path / "first").iterdir():
        assert file.read_bytes() == (tmp_path / "second" / file.name).read_bytes(), file.name
    first, other = (
        (tmp_path / name / "events.parquet").read_bytes() for name in ("first", "other")
    )
    assert first != other


def test_a_world_of_several_blocks_is_one_world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers run on from block to block, and a smaller world is the start of a larger one."""
    world = replace(SMALL, viewers=90)
    monkeypatch.setattr(log_module, "BLOCK_VIEWS", 40 * SMALL.days * SMALL.views_per_viewer_day)
    simulate(tmp_path / "world", world, truth=False)
    assert not (tmp_path / "world" / "truth.parquet").exists()
    events = pq.read_table(tmp_path / "world" / "events.parquet")
    tables = simulate_tables(world)
    assert events.equals(tables["events"].combine_chunks())
    assert list(_column(events, "source_order")) == list(range(events.num_rows))
    assert _column(tables["viewers"], "viewer_id").tolist() == [f"u{place}" for place in range(90)]
    assert len(set(_column(events, "viewer_id"))) > 80
    pairs = set(zip(_column(events, "request_id"), _column(events, "viewer_id"), strict=True))
    assert len(pairs) == len({request for request, _ in pairs})
    smaller = simulate_tables(replace(SMALL, viewers=40))["events"]
    assert smaller.equals(events.slice(0, smaller.num_rows))
    assert set(_column(tables["truth"], "logit_intercept").tolist()) == {
        _column(tables["truth"], "logit_intercept")[0]
    }


def test_rates_are_near_those_of_the_real_log(default_world: dict[str, pa.Table]) -> None:
    """KuaiRand-Pure: 41.6 % glances, 31.1 % long, 1.7 % liked, 0.08 % disliked, median 4.6 s."""
    events = default_world["events"]
    watch, duration = _column(events, "watch_ms"), _column(events, "duration_ms")
    assert 100_000 < watch.size < 160_000  # 2000 viewers x 8 days x 8 views
    assert np.mean(watch < np.minimum(3000, duration)) == pytest.approx(0.41, abs=0.02)
    assert np.mean(watch >= np.minimum(18_000, duration)) == pytest.approx(0.32, abs=0.03)
    assert 3_800 < np.median(watch) < 5_200
    assert 55_000 < np.median(duration) < 85_000
    for flag, low, high in (("liked", 0.012, 0.028), ("disliked", 0.0004, 0.0016)):
        assert low < _column(events, flag).mean() < high, flag
    shares = {name: np.mean(_column(events, "surface") == name) for name in ("feed", "discover")}
    assert shares == pytest.approx({"feed": 0.75, "discover": 0.15}, abs=0.01)


def test_the_discover_surface_is_left_at_once_and_the_following_surface_is_not(
    default_world: dict[str, pa.Table],
) -> None:
    surface, watch = (_column(default_world["events"], name) for name in ("surface", "watch_ms"))
    glances = {name: np.mean(watch[surface == name] < 3000) for name in np.unique(surface)}
    assert glances["discover"] > 0.7
    assert 0.45 > glances["feed"] > 0.3 > glances["following"]


def test_the_wanted_share_of_glances_comes_out() -> None:
    for share in (0.2, 0.7):
        tables = simulate_tables(WorldSettings(viewers=500, glance_share=share))
        assert np.mean(_column(tables["events"], "watch_ms") < 3000) == pytest.approx(
            share, abs=0.03
        )


def test_views_of_one_viewer_follow_each_other_without_overlap(
    small_world: dict[str, pa.Table],
) -> None:
    events = small_world["events"]
    shown, watch = _column(events, "shown_at_ms"), _column(events, "watch_ms")
    assert (np.diff(shown) >= 0).all()
    assert list(_column(events, "source_order")) == list(range(shown.size))
    viewer = _column(events, "viewer_id")
    for one in np.unique(viewer):
        rows = np.flatnonzero(viewer == one)
        assert (shown[rows][1:] > (shown + watch)[rows][:-1]).all()


def test_heavy_viewers_do_not_overlap_either_and_the_log_ends_with_its_last_day() -> None:
    tables = simulate_tables(
        WorldSettings(viewers=20, days=2, views_per_viewer_day=300.0, activity_spread=2.0)
    )
    viewer, shown, watch, day = (
        _column(tables["events"], name) for name in ("viewer_id", "shown_at_ms", "watch_ms", "day")
    )
    for one in np.unique(viewer):
        rows = np.flatnonzero(viewer == one)
        assert (shown[rows][1:] > (shown + watch)[rows][:-1]).all()
    assert set(day) == {19786, 19787}  # 4 and 5 March 2024


def test_days_are_calendar_days_in_the_time_zone(small_world: dict[str, pa.Table]) -> None:
    shown, day = (_column(small_world["events"], name) for name in ("shown_at_ms", "day"))
    in_zone = np.asarray(shown, "datetime64[ms]") + np.timedelta64(8, "h")
    assert (in_zone.astype("datetime64[D]").astype(int) == day).all()
    assert (np.asarray(shown, "datetime64[ms]").astype("datetime64[D]").astype(int) != day).any()


def test_a_request_belongs_to_one_viewer_and_surface_and_counts_its_positions(
    small_world: dict[str, pa.Table],
) -> None:
    columns = ("request_id", "viewer_id", "surface", "position")
    request, viewer, surface, position = (_column(small_world["events"], name) for name in columns)
    for one in np.unique(request):
        rows = np.flatnonzero(request == one)
        assert len(set(viewer[rows])) == len(set(surface[rows])) == 1
        assert list(position[rows]) == list(range(rows.size))
        assert rows.size <= 6


def test_only_random_exposures_have_a_propensity_and_they_fall_evenly(
    small_world: dict[str, pa.Table],
) -> None:
    events = small_world["events"]
    is_random = _column(events, "policy") == "random"
    assert is_random.mean() == pytest.approx(0.2, abs=0.04)
    propensity = events["propensity"].to_pylist()
    assert {propensity[row] for row in np.flatnonzero(is_random)} == {1 / 80}
    assert {propensity[row] for row in np.flatnonzero(~is_random)} == {None}
    world = simulate_tables(WorldSettings(viewers=300, videos=50, authors=5, random_share=1.0))
    counts = np.unique(_column(world["events"], "video_id"), return_counts=True)[1]
    chi_square = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
    assert chi_square < 49 + 5 * np.sqrt(2 * 49)  # chi-square on 49 degrees of freedom: + 5 sd


def test_verdicts_and_variants_are_unknown(small_world: dict[str, pa.Table]) -> None:
    for name in ("clicked", "long_viewed", "variant"):
        assert small_world["events"][name].null_count == small_world["events"].num_rows
    for name in ("liked", "shown_at_ms", "watch_ms", "surface", "request_id"):
        assert small_world["events"][name].null_count == 0


def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate(tmp_path / "kept", SMALL)
    before = (tmp_path / "kept" / "events.parquet").read_bytes()
    write = pq.write_table

    def full(table: pa.Table, path: Path, **options: Any) -> None:
        if path.name == "videos.parquet":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(table, path, **options)

    monkeypatch.setattr(pq, "write_table", full)
    for name in ("new", "kept"):
        with pytest.raises(StorageError, match="disk is full"):
            simulate(tmp_path / name, WorldSettings(viewers=5, days=1))
    assert [file.name for file in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept" / "events.parquet").read_bytes() == before


def test_only_a_simulated_world_is_replaced(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    simulate(mine, SMALL)
    simulate(mine, WorldSettings(viewers=5, days=1))
    assert json.loads((mine / "world.json").read_text())["viewers"] == 5
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("Dear")
    (tmp_path / "file").write_text("text")
    for name in ("letters", "file"):
        with pytest.raises(SettingError, match=r"is not a simulated world.*Choose another name"):
            simulate(tmp_path / name, SMALL)
    assert (tmp_path / "letters" / "dear.txt").read_text() == "Dear"


def test_a_world_where_nobody_comes_is_an_empty_log() -> None:
    tables = simulate_tables(WorldSettings(viewers=1, days=1, views_per_viewer_day=1e-9))
    assert tables["events"].num_rows == tables["truth"].num_rows == 0
    assert ibis.Schema.from_pyarrow(tables["events"].schema) == EVENT_SCHEMA
    assert tables["viewers"].num_rows == 1


def _column(table: pa.Table, name: str) -> NDArray[Any]:
    column: NDArray[Any] = table[name].to_numpy()
    return column
