"""What is amiss with a data engine is told before any work is done."""

import importlib.util
import shutil
import socket
from pathlib import Path

import ibis
import pytest

from skipwise import engine
from skipwise.engine import check_memory, machine_memory_gib, open_spark
from skipwise.errors import EngineError, SettingError


def test_more_memory_than_there_is_is_refused_with_the_setting_to_lower() -> None:
    there = machine_memory_gib()
    assert there is not None
    assert 0.1 < there < 100_000
    check_memory(there / 2, "--memory")
    with pytest.raises(SettingError, match=r"--memory = .* this machine has .* Lower --memory"):
        check_memory(there * 1.01, "--memory")


def test_the_memory_is_that_of_the_container_where_it_has_less(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Both versions of control groups say it in bytes, or "max"."""
    whole = machine_memory_gib()
    (tmp_path / "limit").write_text(f"{2**29}\n")
    (tmp_path / "none").write_text("max\n")
    assert len(engine._LIMITS_OF_CONTAINERS) == 2
    for limits, expected in (
        ((tmp_path / "limit", tmp_path / "none"), 0.5),
        ((tmp_path / "absent", tmp_path / "limit"), 0.5),
        ((tmp_path / "absent", tmp_path / "none"), whole),
    ):
        monkeypatch.setattr(engine, "_LIMITS_OF_CONTAINERS", limits)
        assert machine_memory_gib() == pytest.approx(expected)


def test_without_pyspark_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with (
        pytest.raises(EngineError, match=r"not installed.*extra \[spark\].*make spark"),
        open_spark("local[1]", str(tmp_path)),
    ):
        pass


@pytest.mark.parametrize("written", ["900000g", "900T", "900000000mb"])
def test_a_driver_of_spark_with_more_memory_than_there_is_is_refused(
    tmp_path: Path, written: str
) -> None:
    with (
        pytest.raises(SettingError, match=r"spark.driver.memory = .* GiB, but this machine has"),
        open_spark("local[1]", str(tmp_path), {"spark.driver.memory": written}),
    ):
        pass


def test_without_java_what_to_install_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with (
        pytest.raises(EngineError, match=r"no Java on the PATH.*Java 17 or 21.*openjdk-17"),
        open_spark("local[1]", str(tmp_path)),
    ):
        pass


def test_a_master_that_does_not_answer_is_told_with_its_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(engine, "_check_installed", lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for master in (f"spark://127.0.0.1:{port}", f"k8s://https://127.0.0.1:{port}"):
        with (
            pytest.raises(EngineError, match=rf"does not answer \(127\.0\.0\.1:{port}: .*Check"),
            open_spark(master, str(tmp_path), wait_s=2.0),
        ):
            pass
    with (
        pytest.raises(EngineError, match=r"names no host and port.*spark://host:7077"),
        open_spark("spark://nowhere", str(tmp_path)),
    ):
        pass


def test_one_master_of_several_that_answers_is_enough() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        engine._check_answers(f"spark://127.0.0.1:1,127.0.0.1:{port}", 2.0)


def test_a_table_is_kept_until_it_is_dropped() -> None:
    connection = ibis.duckdb.connect()
    kept = engine.engine_of(connection).keep("numbers", ibis.range(3).unnest().name("n").as_table())
    assert sorted(kept.n.to_pyarrow().to_pylist()) == [0, 1, 2]
    engine.engine_of(connection).drop("numbers")
    assert "numbers" not in connection.list_tables()
