"""Spark gives the dataset that DuckDB gives, from the same expressions, on real rows.

One session for the file: it takes seconds to start. Needs the extra `[spark]` and Java.
"""

import dataclasses
import importlib.util
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import ibis
import numpy as np
import pytest
from ibis.backends import BaseBackend

from skipwise.engine import open_spark
from skipwise.events.read import EventLog, read_log
from skipwise.events.schema import ExtraColumn
from skipwise.events.transfer import move_log
from skipwise.features.dataset import Dataset
from skipwise.features.prepare import prepare
from tests.worlds import reduced_kuairand

pytestmark = [pytest.mark.slow, pytest.mark.kuairand]


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BaseBackend]:
    missing = [
        what
        for what, there in (
            ("the extra [spark] (make spark)", importlib.util.find_spec("pyspark")),
            ("Java (Debian: openjdk-17-jre-headless)", shutil.which("java")),
        )
        if not there
    ]
    if missing:
        message = f"Spark cannot be tried without {' and '.join(missing)}"
        if os.environ.get("SKIPWISE_REQUIRE_DATA"):
            pytest.fail(message)
        pytest.skip(message)
    folder = tmp_path_factory.mktemp("spark")
    options = {
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.local.dir": str(folder / "local"),
        "spark.driver.memory": "2g",
        "spark.sql.shuffle.partitions": "1",
        "spark.ui.showConsoleProgress": "false",
        # compiling a plan to Java takes longer than running it over a few thousand rows
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.sql.adaptive.enabled": "false",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # sockets to the Java process
        with open_spark("local[2]", str(folder / "scratch"), options) as connection:
            yield connection


@pytest.fixture(scope="module")
def both(
    kuairand_pure: Path, spark: BaseBackend, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Dataset, Dataset]:
    folder = tmp_path_factory.mktemp("engines")
    connection = ibis.duckdb.connect(threads=1)
    source = reduced_kuairand(kuairand_pure, folder / "log", one_viewer_in=120)
    log = _without_most_extras(read_log(source, connection))
    prepare(log, connection, folder / "duckdb")
    (folder / "moved").mkdir()
    prepare(move_log(log, connection, spark, folder / "moved"), spark, folder / "spark")
    return Dataset.open(folder / "duckdb"), Dataset.open(folder / "spark")


def test_labels_codes_and_histories_are_identical(both: tuple[Dataset, Dataset]) -> None:
    duckdb, spark = both
    assert duckdb.num_events == spark.num_events > 2_000
    rounded = {"effective_above_s", "finished_above_s", "watch_rank"}
    for name, column in duckdb.events.items():
        ours, theirs = column.all(), spark.events[name].all()
        if name in rounded:
            np.testing.assert_allclose(theirs, ours, rtol=1e-6, err_msg=name)
            assert np.isfinite(ours).any(), name
        else:
            np.testing.assert_array_equal(theirs, ours, err_msg=name)


def test_counters_are_the_same_after_rounding(both: tuple[Dataset, Dataset]) -> None:
    duckdb, spark = both
    assert duckdb.counter_names == spark.counter_names
    for form in ("counters_day", "counters_event"):
        ours, theirs = getattr(duckdb, form).all(), getattr(spark, form).all()
        np.testing.assert_allclose(theirs, ours, rtol=1e-6, atol=1e-9, err_msg=form)
        assert (ours > 0).any(axis=0).mean() > 0.9


def test_catalogues_are_identical(both: tuple[Dataset, Dataset]) -> None:
    duckdb, spark = both
    assert duckdb.author_ids == spark.author_ids
    for table in ("videos", "viewers"):
        ours, theirs = getattr(duckdb, table), getattr(spark, table)
        assert ours.schema.equals(theirs.schema), table
        assert ours.to_pandas().equals(theirs.to_pandas()), table
    for key in ("surfaces", "topics", "labels", "video_extras", "viewer_extras"):
        assert duckdb.description[key] == spark.description[key], key


def _without_most_extras(log: EventLog) -> EventLog:
    """Keep one extra column of each kind and table: every further one is a Spark job more."""
    description = log.description
    viewer_extras = _one_of_each_kind(description.viewer_extras)
    video_extras = _one_of_each_kind(description.video_extras)
    return dataclasses.replace(
        log,
        description=dataclasses.replace(
            description, viewer_extras=viewer_extras, video_extras=video_extras
        ),
        viewers=log.viewers.select("viewer_id", *(extra.name for extra in viewer_extras)),
        videos=log.videos.select(
            "video_id", "author_id", "topics", "duration_ms", "uploaded_at_ms",
            *(extra.name for extra in video_extras),
        ),
    )  # fmt: skip


def _one_of_each_kind(extras: tuple[ExtraColumn, ...]) -> tuple[ExtraColumn, ...]:
    return tuple({extra.kind: extra for extra in extras}.values())
