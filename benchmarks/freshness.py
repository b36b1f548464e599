"""How old is what a live model has learnt? `make bench-freshness`, minutes.

A real server and a real follow trainer side by side; events are sent at a steady pace, and each is
timed from its acknowledgement to the first moment at which a model that has learnt it answers.

VIEWERS=n, SECONDS=n, BACKEND=onnx change what is run.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
from benchmarks.service import make_living

from skipwise.storage import write_json

VIEWERS = int(os.environ.get("VIEWERS", "200"))
SECONDS = float(os.environ.get("SECONDS", "120"))
BACKEND = os.environ.get("BACKEND", "eager")
PER_SECOND = 10
OUT = Path(__file__).parent / "out" / "freshness.json"


def main() -> None:
    """Run server and trainer, send events, and print how old they were when they were live."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        make_living(here, VIEWERS)
        accepted, live = _run(here)
        learnt = pq.read_table(
            here / "live" / "log" / "events-00001.parquet", columns=["request_id"]
        )
        before = pq.read_metadata(here / "live" / "log" / "events.parquet").num_rows
        place = {name: before + row for row, name in enumerate(learnt["request_id"].to_pylist())}
    ages = _ages(accepted, live, place)
    card = {
        "what": "seconds from an event's acknowledgement to a model that has learnt it answering",
        "machine": platform.platform(),
        "backend": BACKEND,
        "events_before": before,
        "events": len(accepted),
        "live": len(ages),
        "models": len(live),
        "p50_s": float(np.percentile(ages, 50)),
        "p95_s": float(np.percentile(ages, 95)),
    }
    write_json(OUT, card)
    print(json.dumps(card, indent=1))


def _ages(
    accepted: dict[str, float], live: list[tuple[float, int]], place: dict[str, int]
) -> list[float]:
    """Return, for each event that a live model has learnt, how old it was when it was first so."""
    ages = []
    for name, at_s in accepted.items():
        since = [when for when, events in live if name in place and place[name] < events]
        if since:
            ages.append(min(since) - at_s)
    return ages


def _run(here: Path) -> tuple[dict[str, float], list[tuple[float, int]]]:
    """Send events for a while, then wait for the last models.

    Returns:
        When each event was acknowledged; when each model first answered, and rows it has learnt.
    """
    state, live = f"sqlite:{here / 'state.db'}", here / "live"
    serve = ["serve", here / "run", "--data", here / "dataset", "--state", state, "--port", "8571"]
    serve += ["--follow", live, "--backend", BACKEND, "follow.minutes_at_most=0.1"]
    follow = ["train", here / "run", "--follow", state, "--before", here / "log", "--out", live]
    follow += ["events_together=50", "publish_minutes=0.1", "poll_s=1"]
    accepted: dict[str, float] = {}
    answers: list[tuple[float, int]] = []
    with _running(serve), httpx.Client(base_url="http://127.0.0.1:8571", timeout=30) as client:
        _wait(client)
        with _running(follow):
            end, number = time.time() + SECONDS, 0
            seen: set[str] = set()
            while time.time() < end + 45:
                if time.time() < end:
                    events = [_event(number + each) for each in range(PER_SECOND // 2)]
                    client.post("/v1/events", json={"events": events}).raise_for_status()
                    accepted |= {each["request_id"]: time.time() for each in events}
                    number += len(events)
                models = client.get("/v1/models").json()
                for name in {models["canary"], models["current"]} - {None, "run"} - seen:
                    seen.add(name)
                    told = json.loads((live / name / "run.json").read_text())["followed"]
                    answers.append((time.time(), told["events"]))
                time.sleep(0.5)
    return accepted, answers


def _event(number: int) -> dict[str, Any]:
    return {
        "event_id": f"e{number}",
        "viewer_id": f"u{number % VIEWERS}",
        "video_id": f"v{number % 300}",
        "shown_at_ms": int(time.time() * 1000) - 20_000,
        "watch_ms": number * 977 % 20_000,
        "duration_ms": 20_000,
        "request_id": f"q{number}",
    }


@contextmanager
def _running(words: list[Any]) -> Iterator[None]:
    line = [sys.executable, "-m", "skipwise.cli.main", *map(str, words)]
    process = subprocess.Popen(line, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def _wait(client: httpx.Client) -> None:
    for _ in range(600):
        try:
            if client.get("/health").status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise SystemExit("the server does not answer")


if __name__ == "__main__":
    main()
