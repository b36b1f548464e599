"""How much memory does training hold as things grow, and how much does the formula allow it?

    what grows  ->  measured_memory  ->  per size: bytes held at most, bytes of docs/engine.md

- Simulated worlds, simulated and prepared; then `skipwise train` as it is typed, one pass.
- Counted is what only that process holds (RssAnon of /proc, every 5 ms), libraries and all, from
  its start to its end, so against all lines of the formula.
- By itself (`python -m benchmarks.growth_memory`, SHORT=1) it prints and draws nothing.
- SCRATCH names the folder for logs and runs; PRECISION is fp32, or bf16, which is allowed more.

Is read by `growth`.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from skipwise.features.dataset import Dataset
from skipwise.settings import apply_settings, parse_overrides
from skipwise.training.memory import memory_needed
from skipwise.training.settings import preset

PRECISION = os.environ.get("PRECISION", "fp32")
WORDS = (
    *("passes_at_most=1", "refit=false", "model.encoder.history_length=100"),
    f"precision={PRECISION}",
)
IDS = ("model.inputs.ids=true", "min_views=1")
LONG = ("--days", "30", "views_per_viewer_day=40")
"""Viewers with 1,200 events each, so that a long history is one."""
EVERY_S = 0.005

World = tuple[str, ...]
Measured = dict[str, list[dict[str, Any]]]


def plan(*, short: bool) -> dict[str, list[tuple[int, World, tuple[str, ...]]]]:
    """Say what grows: per size the number on the axis, its world and the settings it is trained by.

    Events are the viewers' 64 each; the number of that axis is read off the prepared world.
    """
    sizes = (1_000, 4_000) if short else (1_000, 4_000, 16_000)
    videos = (10_000, 100_000) if short else (10_000, 100_000, 1_000_000)
    histories = (25, 100) if short else (25, 100, 400)
    return {
        "memory, events": [(0, _world(viewers, 10_000), ()) for viewers in sizes],
        "memory, videos": [(number, _world(4_000, number), IDS) for number in videos],
        "memory, history": [
            (length, (*_world(200, 10_000), *LONG), (f"model.encoder.history_length={length}",))
            for length in histories
        ],
    }


def measured_memory(*, short: bool) -> Measured:
    """Train on every world, and print and return what was held and what is allowed."""
    found: Measured = {}
    with tempfile.TemporaryDirectory(dir=os.environ.get("SCRATCH")) as name:
        made: dict[World, Path] = {}
        for what, cells in plan(short=short).items():
            for size, world, more in cells:
                if world not in made:
                    made[world] = _prepared(Path(name) / str(len(made)), world)
                row = _row(made[world], size, (*WORDS, *more))
                found.setdefault(what, []).append(row)
                print(
                    f"{what:15} {row['size']:>9,}: held {row['held_mib']:,.0f} MiB, "
                    f"allowed {row['allowed_mib']:,.0f}, most for {row['most_for']}",
                    flush=True,
                )
    return found


def _row(folder: Path, size: int, words: tuple[str, ...]) -> dict[str, Any]:
    dataset = Dataset.open(folder)
    last_word = {word.partition("=")[0]: word for word in words}  # each setting as said last
    settings = apply_settings(preset("small"), parse_overrides(list(last_word.values())))
    parts = memory_needed(dataset, settings)
    held = _held_at_most(folder, ("--preset", "small", *last_word.values()))
    return {
        "size": size or dataset.num_events,
        "events": dataset.num_events,
        "words": list(last_word.values()),
        "held_mib": held / 2**20,
        "allowed_mib": sum(parts.values()) / 2**20,
        "most_for": max(parts, key=lambda part: parts[part]),
    }


def _held_at_most(dataset: Path, words: tuple[str, ...]) -> int:
    """Run `skipwise train` and return the most bytes that it alone held."""
    out, errors = str(dataset.parent / "run"), dataset.parent / "errors"
    command = ["train", str(dataset), "--out", out, "--replace", *words]
    with errors.open("w") as told:
        process = subprocess.Popen(
            [sys.executable, "-m", "skipwise", *command],
            stdout=subprocess.DEVNULL,
            stderr=told,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        most, status = 0, Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            for line in status.read_text().splitlines():
                if line.startswith("RssAnon"):
                    most = max(most, 1024 * int(line.split()[1]))
            time.sleep(EVERY_S)
    if process.returncode:
        raise SystemExit(f"skipwise {' '.join(command)} failed:\n{errors.read_text()[-2000:]}")
    return most


def _prepared(folder: Path, world: World) -> Path:
    """Simulate a world and prepare it; returns the dataset's folder."""
    folder.mkdir()
    log, dataset = str(folder / "log"), folder / "dataset"
    ours = [sys.executable, "-m", "skipwise"]
    for command in (
        ["simulate", log, "--no-truth", "--seed", "0", *world],
        ["prepare", log, "--out", str(dataset), "--memory", "2", "--threads", "1"],
    ):
        done = subprocess.run([*ours, *command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"skipwise {' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return dataset


def _world(viewers: int, videos: int) -> World:
    return (
        *("--viewers", str(viewers), f"videos={videos}"),
        *(f"authors={max(100, videos // 5)}", "topics=40"),
    )


if __name__ == "__main__":
    measured_memory(short=bool(os.environ.get("SHORT")))
