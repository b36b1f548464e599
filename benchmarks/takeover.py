"""Do requests wait while a published model is taken up? `make bench-takeover`, two minutes.

A real server on ONNX Runtime answers ten feeds a second; a model is published, exported, proven and
let in beside them. Times of feeds before, from publication to its first answer, and after.

VIEWERS=n, SECONDS=n, WORKERS=n, BACKEND=eager change what is run.
"""

import json
import os
import platform
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from benchmarks.service import make_living
from tests.serving.published import publish
from tests.serving.running import Client, Command

from skipwise.storage import write_json
from skipwise.training.checkpoint import load_run

VIEWERS = int(os.environ.get("VIEWERS", "200"))
SECONDS = float(os.environ.get("SECONDS", "20"))
WORKERS = os.environ.get("WORKERS", "2")
BACKEND = os.environ.get("BACKEND", "onnx")
EVERY_S = 0.1
OUT = Path(__file__).parent / "out" / "takeover.json"


class Asking(threading.Thread):
    """Asks for a feed every tenth of a second, on a timetable."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url, self.over = url, threading.Event()
        self.times: list[tuple[float, float]] = []
        """When a feed was due, and how many milliseconds later it was there."""
        self.failures = 0

    def run(self) -> None:
        """Ask until `over`."""
        due, number = time.time(), 0
        with Client(base_url=self.url, timeout=60) as client:
            while not self.over.is_set():
                time.sleep(max(0.0, due - time.time()))
                try:
                    client.ask("POST", "/v1/feed", {"viewer_id": f"u{number % VIEWERS}", "k": 10})
                    self.times.append((due, 1000 * (time.time() - due)))
                except (AssertionError, httpx.HTTPError):
                    self.failures += 1
                due, number = due + EVERY_S, number + 1

    def told(self, since: float, until: float) -> dict[str, float]:
        """Describe the feeds that were due between two moments."""
        took = [ms for at, ms in self.times if since <= at < until]
        if not took:
            raise SystemExit("no feed was asked for in that time; take more SECONDS")
        p50, p99 = np.percentile(took, [50, 99]).tolist()
        span = {"seconds": until - since, "feeds": len(took)}
        return span | {"p50_ms": p50, "p99_ms": p99, "max_ms": max(took)}


def main() -> None:
    """Serve, ask, publish, and tell."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        make_living(here, VIEWERS)
        card = _taken_over(here)
    write_json(OUT, card)
    print(json.dumps(card, indent=1))


def _taken_over(here: Path) -> dict[str, Any]:
    live = here / "live"
    words = ("--workers", WORKERS, "--follow", str(live), "follow.minutes_at_most=0.2")
    state = f"sqlite:{here / 'state.db'}"
    server = Command(here / "run", here / "dataset", state, *words, backend=BACKEND)
    server.start()
    asking = Asking(str(server.client.base_url))
    asking.start()
    time.sleep(SECONDS)
    published = time.time()
    publish(live, "model-00001", load_run(here / "run"))
    while server.client.ask("GET", "/v1/models")["trial"] is None:
        time.sleep(0.1)
    tried = time.time()
    while server.client.ask("GET", "/v1/models")["current"] != "model-00001":
        time.sleep(0.1)
    kept = time.time()
    time.sleep(SECONDS)
    asking.over.set()
    asking.join(timeout=60)
    server.stop()
    return {
        "what": "milliseconds from when a feed was due to its answer",
        "machine": platform.platform(),
        "backend": BACKEND,
        "workers": int(WORKERS),
        "failures": asking.failures,
        "before": asking.told(published - SECONDS, published),
        "published, loaded and proven": asking.told(published, tried),
        "on trial": asking.told(tried, kept),
        "kept": asking.told(kept, kept + SECONDS),
    }


if __name__ == "__main__":
    main()
