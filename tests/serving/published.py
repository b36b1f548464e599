"""Models as `train --follow` publishes them: good ones, damaged ones, and ones that are off."""

import json
import random
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from safetensors.torch import load_file

from skipwise.storage import checksum, write_json
from skipwise.training.checkpoint import MODEL_FILE, RUN_FILE, TrainedRun, sealed
from skipwise.training.tensor_file import write_tensors
from tests.serving.running import Client


def publish(
    folder: Path, name: str, run: TrainedRun, *, glance_bias: float = 0.0, damaged: bool = False
) -> None:
    """Write a run and say that it is the newest.

    Args:
        folder: Where models are published.
        name: Of the RUN folder.
        run: Whose weights it has.
        glance_bias: What is added to the logit of every glance.
        damaged: Whether its last byte is another than its checksum says.
    """
    shutil.copytree(run.path, folder / name)
    weights = load_file(folder / name / MODEL_FILE)
    (bias,) = (tensor for key, tensor in weights.items() if key.endswith("heads.glance.bias"))
    bias += glance_bias
    weights[next(iter(weights))] += 1e-6 * random.Random(name).random()  # noqa: S311 - another sum
    write_tensors(weights, folder / name / MODEL_FILE)
    description = json.loads((folder / name / RUN_FILE).read_text())
    description["checksums"][MODEL_FILE] = checksum(folder / name / MODEL_FILE)
    write_json(folder / name / RUN_FILE, sealed(description))
    if damaged:
        spoil(folder / name / MODEL_FILE)
    write_json(folder / "latest.json", {"model": name, "events": 1})


def spoil(file: Path) -> None:
    """Turn the last bit of a file; once more, and it is whole again."""
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


Skips = Callable[[str, str], float]
"""Variant, video -> the chance that it is skipped."""


class Viewers(threading.Thread):
    """Viewers who ask, watch, and skip four in ten, or as they are told; until `over`."""

    def __init__(self, url: str, number: int, skips: Skips | None = None) -> None:
        super().__init__(daemon=True)
        self.url, self.number, self.skips = url, number, skips
        self.over = threading.Event()
        self.answers: dict[str, int] = {}
        """Slates by the variant that answered."""
        self.failures: list[str] = []

    def run(self) -> None:
        rng, asked = random.Random(self.number), 0  # noqa: S311 - viewers of a test
        with Client(base_url=self.url, timeout=30) as client:
            while not self.over.is_set():
                viewer, asked = f"w{self.number}-{asked % 100}", asked + 1
                try:
                    self._once(client, viewer, f"{self.number}-{asked}", rng)
                except (AssertionError, httpx.HTTPError) as problem:
                    self.failures.append(repr(problem))

    def _once(self, client: Client, viewer: str, place: str, rng: random.Random) -> None:
        slate = client.ask("POST", "/v1/feed", {"viewer_id": viewer, "k": 5})
        variant = slate["variant"]
        self.answers[variant] = self.answers.get(variant, 0) + 1
        skips = self.skips or (lambda *_: 0.4)
        client.keep(
            *(
                {
                    "event_id": f"{place}-{position}",
                    "viewer_id": viewer,
                    "video_id": item["video_id"],
                    "shown_at_ms": int(time.time() * 1000),
                    "watch_ms": 500 if rng.random() < skips(variant, item["video_id"]) else 20_000,
                    "duration_ms": 30_000,
                    "request_id": slate["request_id"],
                    "variant": variant,
                }
                for position, item in enumerate(slate["items"])
            )
        )


def told(client: Client) -> list[tuple[str, str]]:
    """What the server says it did, oldest first: (what, run)."""
    return [(each["what"], each["run"]) for each in client.ask("GET", "/v1/models")["told"]]


def until(what: Callable[[], Any], seconds: float = 90.0) -> None:
    """Wait for something to hold."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.1)
