"""How fast does a feed answer, over HTTP, at a stated rate? `make bench-serve` (SHORT=1: minutes).

Open loop: requests leave on a timetable from this process, whether or not earlier ones were
answered, and a latency counts from when its request was due. The server is `skipwise serve` in a
process of its own, on the same machine. One run, one seed: trust ratios before absolutes.
"""

import asyncio
import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import ibis
import numpy as np
import torch

import skipwise
from skipwise.events.read import read_log
from skipwise.features.dataset import Dataset
from skipwise.features.prepare import prepare
from skipwise.serving.engine import Engine, ServeSettings
from skipwise.serving.opening import open_engine, prepare_state
from skipwise.serving.pipeline import Encodings
from skipwise.serving.state.store import StateSettings, open_store
from skipwise.serving.wire import Event, EventBatch, RankRequest
from skipwise.settings import apply_settings
from skipwise.simulation.log import simulate
from skipwise.simulation.world import WorldSettings
from skipwise.training.fit import train
from skipwise.training.settings import preset

SHORT = bool(os.environ.get("SHORT"))
OUT = Path(__file__).parent / "out" / "serve.json"
HISTORY = 200
AT_MS = 1_750_000_000_000
SECONDS = 4 if SHORT else 10
WORKERS = 2
VIDEOS = 100_000
RATES = {
    "empty endpoint": (500,),
    "rank 200": (100, 300) if SHORT else (100, 200, 300, 400, 500, 700),
    "rank 1000": (50,) if SHORT else (50, 100),
    "feed of 100,000 videos": (100, 150) if SHORT else (50, 100, 150, 200),
}
STATES = (
    (("sqlite", 1_000),) if SHORT else (("sqlite", 1_000), ("sqlite", 100_000), ("redis", 1_000))
)
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


def bare(run: Path, data: Path, url: str, videos: list[str]) -> list[dict[str, Any]]:
    """Measure CPU without HTTP: the model's two calls, and the whole answer."""
    torch.set_num_threads(1)
    store = open_store(url)
    engine = open_engine(run, data, store, ServeSettings(backend="onnx"))
    rows = []
    for number, held in ((200, False), (200, True), (1000, True)):
        requests = [
            RankRequest(
                viewer_id=f"viewer {viewer}",
                candidates=tuple(videos[place] for place in sample(number)),
                surface="feed",
            )
            for viewer in range(20)
        ]
        whole, model = [], []
        for request in requests * 3:
            if not held:
                engine.encodings = Encodings()
            clock = _ModelClock(engine)
            begun = time.process_time()
            engine.rank(request, "bench")
            whole.append(time.process_time() - begun)
            model.append(clock.taken())
        rows.append(
            {
                "what": "in process, no HTTP",
                "candidates": number,
                "past_is_encoded_already": held,
                "model_cpu_ms": float(np.median(model)) * 1000,
                "answer_cpu_ms": float(np.median(whole)) * 1000,
                "answer_over_model": float(np.median(whole) / np.median(model)),
            }
        )
    store.close()
    return rows


class _ModelClock:
    """CPU seconds inside the backend during one answer."""

    def __init__(self, engine: Engine) -> None:
        self.spent = 0.0
        model = engine.models.every()[0]
        runners = dict(model.backend.runners)
        for name, runner in model.backend.runners.items():
            self._runner = getattr(runner, "plain", runner)
            runners[name] = self._timed(self._runner)
        object.__setattr__(model.backend, "runners", runners)

    def _timed(self, runner: Any) -> Any:
        def run(arrays: Any) -> Any:
            begun = time.process_time()
            result = runner(arrays)
            self.spent += time.process_time() - begun
            return result

        run.plain = runner  # type: ignore[attr-defined]
        return run

    def taken(self) -> float:
        return self.spent


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


class Line(asyncio.Protocol):
    """One connection: a request at a time, no more of HTTP than the answer's status and length."""

    def __init__(self) -> None:
        self.buffer, self.answered = b"", None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def ask(self, request: bytes) -> "asyncio.Future[int]":
        self.answered = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self.answered

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if found:
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            if len(body) >= length and self.answered is not None:
                self.buffer = b""
                self.answered.set_result(int(head[9:12]))


async def at_rate(port: int, requests: list[bytes], rate: float, seconds: float) -> dict[str, Any]:
    """Send requests on a timetable."""
    loop = asyncio.get_running_loop()
    free: asyncio.LifoQueue[Line] = asyncio.LifoQueue()
    for _ in range(64):
        _, line = await loop.create_connection(Line, "127.0.0.1", port)
        free.put_nowait(line)
    taken: list[tuple[float, int]] = []
    start = loop.time() + 0.2

    async def one(place: int) -> None:
        due = start + place / rate
        await asyncio.sleep(max(0.0, due - loop.time()))
        line = await free.get()
        status = await line.ask(requests[place % len(requests)])
        taken.append(((loop.time() - due) * 1000, status))
        free.put_nowait(line)

    await asyncio.gather(*(one(place) for place in range(round(rate * seconds))))
    took = loop.time() - start
    good = np.array([ms for ms, status in taken if status == 200] or [np.nan])
    p50, p99, p999 = np.percentile(good, [50, 99, 99.9])
    return {
        "asked_per_s": rate,
        "answered_per_s": float((~np.isnan(good)).sum() / took),
        "shed_share": sum(status == 429 for _, status in taken) / len(taken),
        "failed": sum(status not in (200, 429) for _, status in taken),
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "p99.9_ms": float(p999),
    }


def post(path: str, body: Any) -> bytes:
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n\r\n"
    return head.encode() + content


def loads(videos: list[str], viewers: int) -> dict[str, list[bytes]]:
    """Return the requests of each load."""

    def viewer() -> str:
        return f"viewer {random.integers(viewers)}"

    def rank(number: int) -> list[bytes]:
        return [
            post(
                "/v1/rank",
                {
                    "viewer_id": viewer(),
                    "surface": "feed",
                    "candidates": [videos[place] for place in sample(number)],
                },
            )
            for _ in range(400)
        ]

    return {
        "empty endpoint": [b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"],
        "rank 200": rank(200),
        "rank 1000": rank(1000),
        "feed of 100,000 videos": [
            post("/v1/feed", {"viewer_id": viewer(), "k": 20, "surface": "feed"})
            for _ in range(400)
        ],
    }


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


def freshness(port: int, videos: list[str], number: int) -> dict[str, Any]:
    """Send an event, then ask at once: is it there, and how long until the answer?"""
    waits, missed = [], 0
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        for place in range(number):
            viewer = f"viewer {place % 100}"
            sent = {
                "event_id": f"fresh {place}", "viewer_id": viewer, "video_id": videos[place],
                "shown_at_ms": AT_MS + 10**8 + place * 1000, "watch_ms": 900,
            }  # fmt: skip
            client.post("/v1/events", json={"events": [sent]}).raise_for_status()
            acknowledged = time.perf_counter()
            held = client.get(f"/v1/viewers/{viewer}").json()["events"]
            waits.append((time.perf_counter() - acknowledged) * 1000)
            missed += held[-1]["video_id"] != videos[place]
    p50, p99 = np.percentile(waits, [50, 99])
    return {
        "what": "acknowledged, then asked",
        "events": number,
        "not_seen_by_the_next_request": missed,
        "p50_ms": float(p50),
        "p99_ms": float(p99),
    }


def measured(
    folder: Path, data: Path, run: Path, videos: list[str], kind: str, viewers: int
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    with _state(folder, kind) as url:
        about = {"state": kind, "viewers": viewers}
        rows.append({"what": "state", **about, **fill(run, data, url, videos, viewers)})
        if (kind, viewers) == STATES[0]:
            rows += [{**row, **about} for row in bare(run, data, url, videos)]
        port = 18_500
        with served(run, data, url, port, workers=WORKERS) as process:
            for load, requests in loads(videos, viewers).items():
                asyncio.run(at_rate(port, requests, 20, 1))
                for rate in RATES[load]:
                    before, at = cpu_s(process), stages(port)
                    row = asyncio.run(at_rate(port, requests, rate, SECONDS))
                    answered = max(1.0, row["answered_per_s"] * SECONDS)
                    row["server_cpu_ms"] = (cpu_s(process) - before) / answered * 1000
                    row["stages_ms"] = since(at, stages(port))
                    rows.append({"what": load, **about, **row})
                    _say(rows[-1])
            rows.append({**about, **freshness(port, videos, 50 if SHORT else 500)})
            rows.append({"what": "memory", **about, "server_mib": memory_mib(process)})
    return rows


@contextlib.contextmanager
def _state(folder: Path, kind: str) -> Iterator[str]:
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


def _say(row: dict[str, Any]) -> None:
    shown = {
        name: f"{value:.1f}" if isinstance(value, float) else value
        for name, value in row.items()
        if name != "stages_ms"
    }
    print("  ".join(f"{name} {value}" for name, value in shown.items()), flush=True)


def main() -> None:
    """Measure and write what came out."""
    folder = Path(tempfile.mkdtemp(prefix="skipwise-bench-"))
    rows: list[dict[str, Any]] = []
    states = [each for each in STATES if each[0] == "sqlite" or shutil.which("redis-server")]
    try:
        data, run, videos = made(folder)
        for kind, viewers in states:
            rows += measured(folder, data, run, videos, kind, viewers)
    finally:
        shutil.rmtree(folder)
    for row in rows:
        _say(row)
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    ratios = {
        f"answer over bare model, CPU, {row['candidates']} candidates"
        f"{', past encoded' * row['past_is_encoded_already']}": row["answer_over_model"]
        for row in rows
        if "answer_over_model" in row
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(
        json.dumps(
            {
                "machine": {"processor": platform.machine(), "cores": os.cpu_count()},
                "load_average": os.getloadavg(),
                "versions": {"skipwise": skipwise.__version__, "torch": torch.__version__},
                "commit": commit,
                "seeds": [0],
                "rows": rows,
                "ratios": ratios,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
