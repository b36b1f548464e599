"""How fast does a feed answer, over HTTP, at a stated rate? `make bench-serve` (SHORT=1: minutes).

The load comes from this process (`load`), the server is `skipwise serve` with two workers on the
same machine (`service`). One run, one seed: trust ratios before absolutes.
"""

import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.load import at_rate, flushes, freshness, post
from benchmarks.service import (
    AT_MS,
    cpu_s,
    fill,
    made,
    memory_mib,
    random,
    sample,
    served,
    since,
    stages,
    state_of,
)

import skipwise
from skipwise.model.request import Array
from skipwise.serving.backends import Backend, Runner
from skipwise.serving.encodings import Encodings
from skipwise.serving.opening import open_engine
from skipwise.serving.serve_settings import ServeSettings
from skipwise.serving.state.store import open_store
from skipwise.serving.wire import RankRequest

SHORT = bool(os.environ.get("SHORT"))
OUT = Path(__file__).parent / "out" / "serve.json"
SECONDS = 4 if SHORT else 10
WORKERS = 2
RATES = {
    "empty endpoint": (500,),
    "rank 200": (100, 300, 500) if SHORT else (100, 200, 300, 400, 500, 700),
    "rank 1000": (50,) if SHORT else (50, 100),
    "feed of 100,000 videos": (100, 150) if SHORT else (50, 100, 150, 200),
}
STATES = (
    (("sqlite", 1_000),) if SHORT else (("sqlite", 1_000), ("sqlite", 100_000), ("redis", 1_000))
)


def bare(run: Path, data: Path, url: str, videos: list[str]) -> list[dict[str, Any]]:
    """Measure CPU without HTTP: the model's two calls, and the whole answer."""
    torch.set_num_threads(1)
    store = open_store(url)
    engine = open_engine(run, data, store, ServeSettings(backend="onnx"))
    clock = _ModelClock(engine.models.every()[0].backend)
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
            spent, begun = clock.spent, time.process_time()
            engine.rank(request, "bench")
            whole.append(time.process_time() - begun)
            model.append(clock.spent - spent)
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
    """CPU seconds spent inside a model's backend, from now on."""

    def __init__(self, backend: Backend) -> None:
        self.spent = 0.0
        timed = {name: self._timed(runner) for name, runner in backend.runners.items()}
        object.__setattr__(backend, "runners", timed)

    def _timed(self, runner: Runner) -> Runner:
        def run(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
            begun = time.process_time()
            result = runner(arrays)
            self.spent += time.process_time() - begun
            return result

        return run


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


def measured(
    folder: Path, data: Path, run: Path, videos: list[str], kind: str, viewers: int
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    with state_of(folder, kind) as url:
        about = {"state": kind, "viewers": viewers}
        rows.append({**about, **flushes(folder)})
        rows.append({"what": "state", **about, **fill(run, data, url, videos, viewers)})
        if (kind, viewers) == STATES[0]:
            rows += [{**row, **about} for row in bare(run, data, url, videos)]
        port = 18_500
        with served(run, data, url, port, workers=WORKERS) as process:
            for load, requests in loads(videos, viewers).items():
                at_rate(port, requests, 20, 1)
                for rate in RATES[load]:
                    before, at = cpu_s(process), stages(port)
                    row = at_rate(port, requests, rate, SECONDS)
                    answered = max(1.0, row["answered_per_s"] * SECONDS)
                    row["server_cpu_ms"] = (cpu_s(process) - before) / answered * 1000
                    row["stages_ms"] = since(at, stages(port))
                    rows.append({"what": load, **about, **row})
                    _say(rows[-1])
            rows.append({**about, **freshness(port, videos, AT_MS + 10**8, 200 if SHORT else 500)})
            rows.append({"what": "memory", **about, "server_mib": memory_mib(process)})
    return rows


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
