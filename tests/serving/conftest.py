"""Stores of both kinds, and trained runs to serve."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from skipwise.features.dataset import Dataset
from skipwise.serving.serve import Service
from skipwise.serving.state.redis import RedisStore
from skipwise.serving.state.sqlite import SqliteStore
from skipwise.serving.state.store import Store
from skipwise.training.checkpoint import TrainedRun
from tests.serving.running import Client, running


class RedisServer:
    """A real `redis-server` that answers "kept" only when it is on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.socket = folder, folder / "redis.sock"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> None:
        program = shutil.which("redis-server")
        assert program
        self.process = subprocess.Popen(  # noqa: S603
            [
                *(program, "--port", "0", "--unixsocket", str(self.socket)),
                *("--dir", str(self.folder), "--appendonly", "yes", "--appendfsync", "always"),
                *("--save", ""),
            ],
            stdout=subprocess.DEVNULL,
        )
        client = redis.Redis.from_url(self.url)
        for _ in range(200):
            try:
                client.ping()
                break
            except redis.RedisError:
                time.sleep(0.02)
        client.close()

    def stop(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A running redis-server; skips (fails in CI) where the program is absent."""
    if shutil.which("redis-server") is None:
        message = "redis-server is not installed; Debian has it under that name"
        if os.environ.get("SKIPWISE_REQUIRE_DATA"):
            pytest.fail(message)
        pytest.skip(message)
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store of either kind."""
    made: Store
    if request.param == "sqlite":
        made = SqliteStore(str(tmp_path / "state.db"))
    else:
        server: RedisServer = request.getfixturevalue("redis_server")
        made = RedisStore(server.url)
        made.redis.flushall()
    yield made
    made.close()


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[SqliteStore]:
    """An empty SQLite store."""
    made = SqliteStore(str(tmp_path / "state.db"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def client(
    small_run: TrainedRun, small_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """A client of a server that all tests of this process share."""
    folder = tmp_path_factory.mktemp("served")
    service = Service(
        run=small_run.path, data=small_dataset.path, state=f"sqlite:{folder / 'state.db'}"
    )
    with running(service) as client:
        yield client


@pytest.fixture(scope="session")
def videos(small_dataset: Dataset) -> list[str]:
    """The ids of the small log's videos."""
    return [str(video) for video in small_dataset.videos["video_id"].to_pylist()]


@pytest.fixture(scope="session")
def small_authors(small_dataset: Dataset) -> dict[str, str]:
    """The author of each of the small log's videos."""
    return {
        video: small_dataset.author_ids[author]
        for video, author in zip(
            small_dataset.videos["video_id"].to_pylist(),
            small_dataset.videos["author"].to_pylist(),
            strict=True,
        )
    }
