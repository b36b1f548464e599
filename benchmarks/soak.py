"""Does memory stay flat? `make soak`: ten minutes of feeds, ranks and events (SECONDS=n: others).

Prints resident memory through the run and leaves with 1 where the last third holds more than 10 %
above the second.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
from benchmarks.service import made, memory_mib, served

SECONDS = int(os.environ.get("SECONDS", "600"))


def main() -> None:
    """Load a server and watch its memory."""
    folder = Path(tempfile.mkdtemp(prefix="skipwise-soak-"))
    data, run, videos = made(folder)
    random, seen, port = np.random.default_rng(0), [], 18_600
    with (
        served(run, data, f"sqlite:{folder / 'state.db'}", port, workers=1) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        begun, place, told = time.time(), 0, 0.0
        while time.time() - begun < SECONDS:
            viewer = f"viewer {random.integers(5000)}"
            feed = client.post("/v1/feed", json={"viewer_id": viewer, "k": 5}).json()
            shown = [item["video_id"] for item in feed["items"]]
            chosen = [videos[number] for number in random.choice(len(videos), 50, replace=False)]
            client.post("/v1/rank", json={"viewer_id": viewer, "candidates": chosen})
            events = [
                {
                    "event_id": f"{place} {number}",
                    "viewer_id": viewer,
                    "video_id": video,
                    "shown_at_ms": int(time.time() * 1000) - 30_000 + number,
                    "watch_ms": int(random.integers(20_000)),
                    "request_id": feed["request_id"],
                }
                for number, video in enumerate(shown)
            ]
            client.post("/v1/events", json={"events": events}).raise_for_status()
            place += 1
            if time.time() - told > SECONDS / 30:
                told = time.time()
                seen.append(memory_mib(process))
                print(f"{told - begun:6.0f} s  {place:7,} rounds  {seen[-1]:7.1f} MiB", flush=True)
    third = len(seen) // 3
    middle, last = float(np.mean(seen[third:-third])), float(np.mean(seen[-third:]))
    print(f"second third {middle:.1f} MiB, last third {last:.1f} MiB: {last / middle - 1:+.1%}")
    sys.exit(last > 1.1 * middle)


if __name__ == "__main__":
    main()
