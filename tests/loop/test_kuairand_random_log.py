"""KuaiRand's `log_random`: exposures drawn uniformly, of which the log tells no propensity."""

import csv
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from skipwise.cli.main import app
from skipwise.errors import DatasetError
from skipwise.evaluation.offpolicy import Pool
from skipwise.events.read import read_log
from skipwise.loop.replay import Replayed, judge_weights, replay
from skipwise.model.score import ScoreWeights
from skipwise.simulation.log import simulate
from skipwise.simulation.world import FIRST_DAY
from tests.events.kuairand_logs import LOG_HEADER
from tests.loop.test_replay import WORLD
from tests.training.trained import short_run
from tests.worlds import prepared

VIDEO_HEADER = (
    "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,"
    "server_width,server_height,music_id,music_type,tag"
)
JUDGED = FIRST_DAY + 2
SURFACES = {"feed": 1, "discover": 0, "following": 2}


def as_kuairand(simulated: Path, out: Path) -> Path:
    """Write a simulated log in KuaiRand-Pure's own files: `log_standard` and `log_random`."""
    (out / "data").mkdir(parents=True)
    events = pq.read_table(simulated / "events.parquet").to_pylist()
    for name, policy in (("standard_4_22_to_5_08", "served"), ("random_4_22_to_5_08", "random")):
        rows = [_log_row(event) for event in events if event["policy"] == policy]
        _write(out / "data" / f"log_{name}_pure.csv", LOG_HEADER.split(","), rows)
    videos = pq.read_table(simulated / "videos.parquet").to_pylist()
    described = [
        {
            "video_id": each["video_id"][1:],
            "author_id": each["author_id"][1:],
            "upload_dt": "2024-02-01",
            "video_duration": float(each["duration_ms"]),
            "tag": ",".join(str(len(topic)) for topic in each["topics"]),
        }
        for each in videos
    ]
    _write(out / "data" / "video_features_basic_pure.csv", VIDEO_HEADER.split(","), described)
    return out


def _log_row(event: dict[str, Any]) -> dict[str, object]:
    day = str(np.datetime64(event["day"], "D")).replace("-", "")
    row: dict[str, object] = dict.fromkeys(LOG_HEADER.split(","), 0)
    return row | {
        "user_id": event["viewer_id"][1:],
        "video_id": event["video_id"][1:],
        "date": day,
        "time_ms": event["shown_at_ms"],
        "is_like": int(event["liked"]),
        "is_hate": int(event["disliked"]),
        "long_view": int(event["watch_ms"] >= min(event["duration_ms"], 18_000)),
        "play_time_ms": event["watch_ms"],
        "duration_ms": event["duration_ms"],
        "is_rand": int(event["policy"] == "random"),
        "tab": SURFACES.get(event["surface"], 3),
    }


def _write(path: Path, header: list[str], rows: list[dict[str, object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, header, restval="")
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kuairand")
    simulate(folder / "simulated", dataclasses.replace(WORLD, videos=60))
    log = as_kuairand(folder / "simulated", folder / "KuaiRand-Pure")
    dataset = prepared(log, folder / "DATASET")
    short_run(dataset, folder / "run", "passes_at_most=1", last_day=FIRST_DAY + 1)
    return folder


@pytest.fixture(scope="module")
def replayed(folder: Path) -> Iterator[Callable[[Pool | None], Replayed]]:
    """Replay the log, which is read once."""
    connection = ibis.duckdb.connect(threads=1)
    read = read_log(folder / "KuaiRand-Pure", connection)
    yield lambda uniform: replay(
        folder / "run", read, connection, JUDGED, candidates=4, uniform=uniform
    )
    connection.disconnect()


def test_whoever_has_the_log_must_say_that_it_was_uniform(
    replayed: Callable[[Pool | None], Replayed],
) -> None:
    with pytest.raises(DatasetError, match=r"have no propensity.*say so with --uniform"):
        replayed(None)


def test_the_rows_of_log_random_are_judged_over_either_pool(
    folder: Path, replayed: Callable[[Pool | None], Replayed]
) -> None:
    events = pq.read_table(folder / "simulated" / "events.parquet").to_pylist()
    random = [e for e in events if e["policy"] == "random" and e["day"] >= JUDGED]
    shown = {e["video_id"][1:] for e in random}
    for pool, videos in (("shown", shown), ("catalogue", {str(at) for at in range(60)})):
        found = replayed("catalogue" if pool == "catalogue" else "shown")
        assert found.video_id[:, 0].tolist() == [e["video_id"][1:] for e in sorted_as_read(random)]
        assert set(found.video_id.ravel().tolist()) == videos
        watch_s = np.array([e["watch_ms"] / 1000 for e in sorted_as_read(random)])
        duration_s = np.array([e["duration_ms"] / 1000 for e in sorted_as_read(random)])
        np.testing.assert_allclose(found.outcomes["watch_s"], np.minimum(watch_s, 300))
        glance = watch_s < np.minimum(3, duration_s)
        np.testing.assert_array_equal(found.outcomes["glance"], glance)
        assert set(found.propensity.tolist()) == {1 / 4}
        by = judge_weights(found, ScoreWeights(), least_effective_rows=10)
        assert abs(by["glance"].mean_weight - 1) < 0.5
    assert len(shown) < 60, "the pools differ"


def test_what_is_predicted_of_a_row_is_of_what_was_shown_there(
    replayed: Callable[[Pool | None], Replayed],
) -> None:
    """It is the same whatever stands beside it; what stands there differs with the pool."""
    one, other = replayed("shown"), replayed("catalogue")
    assert (one.video_id[:, 1:] != other.video_id[:, 1:]).mean() > 0.5
    for first, second in ((one.chances["glance"], other.chances["glance"]),
                          (one.watch_s, other.watch_s)):  # fmt: skip
        np.testing.assert_allclose(first[:, 0], second[:, 0], rtol=1e-4)
        assert not np.allclose(first[:, 1:], second[:, 1:], rtol=1e-3)


def sorted_as_read(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As the log has them: in its own order."""
    return sorted(events, key=lambda event: int(event["source_order"]))


def test_the_command_says_what_goes_with_what(folder: Path) -> None:
    words = [
        "offpolicy",
        str(folder / "run"),
        str(folder / "KuaiRand-Pure"),
        "--from",
        "2024-03-06",
    ]
    for more, told in (
        (["--pool", "catalogue"], "goes with --uniform"),
        (["--uniform", "--pool", "catalog"], "Did you mean 'catalogue'?"),
    ):
        refused = CliRunner().invoke(app, [*words, *more])
        assert refused.exit_code == 2
        assert told in " ".join(refused.stderr.split())
