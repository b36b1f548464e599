"""The service that is measured: its world, its viewers, its processes; what they cost.

A simulated world of many videos, a run of one pass (speed does not ask for more), viewers with a
live history, `skipwise serve` in processes of its own.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import ibis
import numpy as np

from skipwise.events.read import read_log
from skipwise.features.dataset import Dataset
from skipwise.features.prepare import prepare
from skipwise.serving.opening import open_engine, prepare_state
from skipwise.serving.state.store import StateSettings, open_store
from skipwise.serving.wire import Event, EventBatch
from skipwise.settings import apply_settings
from skipwise.simulation.log import simulate
from skipwise.simulation.world import WorldSettings
from skipwise.training.fit import train
from skipwise.training.settings import preset

HISTORY = 200
AT_MS = 1_750_000_000_000
VIDEOS = 100_000
random = np.random.default_rng(0)


def made(folder: Path) -> tuple[Path, Path, list[str]]:
    """Simulate a world of many videos, and train for one pass: speed does not ask for more."""
    world = WorldSettings(
        viewers=300, videos=VIDEOS, authors=5000, topics=40, days=3, views_per_viewer_day=10, seed=1
    )
    simulate(folder / "log", world)
    connection = ibis.duckdb.connect(threads=2)
    prepare(read_log(folder / "log", connection), connection, folder / "dataset")
    dataset = Dataset.open(folder / "dataset")
    settings = apply_settings(
        preset("small"),
        {
            "passes_at_most": 1,
            "refit": False,
            "device": "cpu",
            "model": {"encoder": {"history_length": HISTORY}},
        },
    )
    train(dataset, folder / "runs" / "run", settings)
    videos = [str(video) for video in dataset.videos["video_id"].to_pylist()]
    return folder / "dataset", folder / "runs" / "run", videos


def make_living(folder: Path, viewers: int) -> None:
    """Make `log`, `dataset` and `run` of a small world whose viewers go on living."""
    world = WorldSettings(viewers=viewers, videos=300, days=6, living=True, seed=0)
    simulate(folder / "log", world)
    connection = ibis.duckdb.connect(threads=1)
    prepare(read_log(folder / "log", connection), connection, folder / "dataset")
    connection.disconnect()
    train(Dataset.open(folder / "dataset"), folder / "run", preset("tiny"))


def fill(run: Path, data: Path, url: str, videos: list[str], viewers: int) -> dict[str, float]:
    """Give every viewer a live history of 200 events; a hundred are sent, the others are copies."""
    store = open_store(url)
    prepare_state(run, data, store, StateSettings())
    engine = open_engine(run, data, store)
    cpu = time.process_time()
    for viewer in range(100):
        engine.keep([EventBatch(events=history(f"viewer {viewer}", videos))])
    kept = (time.process_time() - cpu) / (100 * HISTORY)
    blobs = [store.read(f"viewer {viewer}") or b"" for viewer in range(100)]
    before = store.num_bytes()
    for start in range(100, viewers, 10_000):
        chosen = range(start, min(start + 10_000, viewers))
        store.load(
            [(f"viewer {viewer}", blobs[viewer % 100]) for viewer in chosen], int(time.time())
        )
    engine.write_down(at_least=1)
    found = {
        "event_cpu_ms": kept * 1000,
        "packed_bytes_per_viewer": float(np.mean([len(blob) for blob in blobs])),
        "stored_bytes_per_viewer": (store.num_bytes() - before) / max(viewers - 100, 1),
    }
    store.close()
    return found


def history(viewer: str, videos: list[str]) -> tuple[Event, ...]:
    chosen = random.choice(len(videos), HISTORY)
    return tuple(
        Event(
            event_id=f"h{place}",
            viewer_id=viewer,
            video_id=videos[video],
            shown_at_ms=AT_MS + place * 30_000,
            watch_ms=int(random.integers(40_000)),
            duration_ms=30_000,
            surface="feed",
        )
        for place, video in enumerate(chosen)
    )


def sample(number: int) -> list[int]:
    return [int(place) for place in random.choice(VIDEOS, number, replace=False)]


@contextlib.contextmanager
def served(run: Path, data: Path, url: str, port: int, workers: int) -> Iterator[int]:
    """Run the command."""
    command = [
        *(sys.executable, "-m", "skipwise.cli.main", "serve", str(run), "--data", str(data)),
        *("--state", url, "--port", str(port), "--workers", str(workers)),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        for _ in range(3000):
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                    break
            time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        process.wait(60)


@contextlib.contextmanager
def state_of(folder: Path, kind: str) -> Iterator[str]:
    place = Path(tempfile.mkdtemp(dir=folder))
    if kind == "sqlite":
        yield f"sqlite:{place / 'state.db'}"
        return
    command = [
        *("redis-server", "--port", "0", "--unixsocket", str(place / "sock"), "--save", ""),
        *("--dir", str(place), "--appendonly", "yes", "--appendfsync", "always"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    time.sleep(1)
    try:
        yield f"unix://{place / 'sock'}"
    finally:
        process.terminate()
        process.wait(30)


def family(pid: int) -> list[int]:
    """Return a process and all it has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in family(int(child)))]


def cpu_s(pid: int) -> float:
    """Return what a server has computed so far, seconds of CPU."""
    ticks = 0
    for each in family(pid):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int) -> float:
    """Return what a server holds in memory."""
    pages = sum(int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in family(pid))
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def stages(port: int) -> dict[str, tuple[float, float]]:
    """Read each stage's seconds and count from /metrics."""
    found: dict[str, list[float]] = {}
    for line in httpx.get(f"http://127.0.0.1:{port}/metrics").text.splitlines():
        for place, part in enumerate(("_sum", "_count")):
            if line.startswith(f"skipwise_stage_seconds{part}"):
                name, value = line.split('"')[1], float(line.rsplit(" ", 1)[1])
                found.setdefault(name, [0.0, 0.0])[place] = value
    return {name: (total, count) for name, (total, count) in found.items()}


def since(
    before: dict[str, tuple[float, float]], after: dict[str, tuple[float, float]]
) -> dict[str, float]:
    """Return each stage's mean time between two readings, ms."""
    nothing = (0.0, 0.0)
    spans = {
        name: (total - before.get(name, nothing)[0], count - before.get(name, nothing)[1])
        for name, (total, count) in after.items()
    }
    return {name: total / count * 1000 for name, (total, count) in spans.items() if count}
