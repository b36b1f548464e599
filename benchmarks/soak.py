"""Does memory stay flat? `make soak`: ten minutes of feeds, ranks and events.

`SECONDS=n` takes others, `STATE=redis` another state than SQLite.

So few viewers watch so much that by the second third all that is bounded is full: what each has
watched, its sums, and what is encoded of it. With many, memory grows for hours by what is held of
each, and a leak cannot be told from that. Prints resident memory through the run and leaves with 1
where the last third holds more than 3 % above the second, or viewers had not watched enough by
then.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
from benchmarks.service import made, memory_mib, served, state_of

SECONDS = int(os.environ.get("SECONDS", "600"))
STATE = os.environ.get("STATE", "sqlite")
VIEWERS, SLATE = 25, 20
EVENTS_UNTIL_FULL = 1000
"""Events of a viewer after which as much is held as ever: `state.keep_events`, `keep_sums`."""
MORE_AT_MOST = 0.03


def main() -> None:
    """Load a server and watch its memory."""
    folder = Path(tempfile.mkdtemp(prefix="skipwise-soak-"))
    data, run, videos = made(folder)
    random, seen, port = np.random.default_rng(0), [], 18_600
    with (
        state_of(folder, STATE) as url,
        served(run, data, url, port, workers=1) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        begun, place, told = time.time(), 0, 0.0
        by_second_third = 0
        while time.time() - begun < SECONDS:
            viewer = f"viewer {place % VIEWERS}"
            feed = client.post("/v1/feed", json={"viewer_id": viewer, "k": SLATE}).json()
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
            if time.time() - begun < SECONDS / 3:
                by_second_third = place * SLATE // VIEWERS
            if time.time() - told > SECONDS / 30:
                told = time.time()
                seen.append(memory_mib(process))
                print(f"{told - begun:6.0f} s  {place:7,} rounds  {seen[-1]:7.1f} MiB", flush=True)
    third = len(seen) // 3
    middle, last = float(np.mean(seen[third:-third])), float(np.mean(seen[-third:]))
    print(
        f"{VIEWERS} viewers, {by_second_third} events of each by the second third; second third "
        f"{middle:.1f} MiB, last third {last:.1f} MiB: {last / middle - 1:+.1%}"
    )
    sys.exit(by_second_third < EVENTS_UNTIL_FULL or last > (1 + MORE_AT_MOST) * middle)


if __name__ == "__main__":
    main()
