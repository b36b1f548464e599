"""How training that was broken off, by whatever, is taken up again: checkpoints in RUN/resume.

    tensors, position  ->  Checkpoints.save  ->  state-N.safetensors, state-N.json
    RUN folder  ->  load_unfinished  ->  the newest that is whole

- A checkpoint is copied in memory and written by a thread, so training waits for the copy alone.
- Its json is written last and holds the other's checksum: killed at any moment, what is on disk is
  either a whole checkpoint or none, and the ones before it are still there.

Reads nobody; is read by `fit`.
"""

import json
import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from skipwise.errors import RunError
from skipwise.storage import checksum, replace_file, write_json
from skipwise.training.checkpoint import FORMAT_VERSION, write_tensors

FOLDER = "resume"


class Checkpoints:
    """Writes checkpoints of one run and keeps the last few."""

    def __init__(self, run: Path, *, keep: int, every_s: float) -> None:
        self.folder, self.keep, self.every_s = run / FOLDER, keep, every_s
        self.copying_s = 0.0
        """Seconds that training waited for copies."""
        self._numbers = [number_of(file) for file in described(self.folder)]
        self._writer: threading.Thread | None = None
        self._problem: BaseException | None = None
        self._last_s = time.monotonic()
        for left in self.folder.glob(".*.part"):
            left.unlink()  # of a process that was killed while it wrote

    def due(self) -> bool:
        """Say whether the last one is old enough, and written."""
        writing = self._writer is not None and self._writer.is_alive()
        return not writing and time.monotonic() - self._last_s >= self.every_s

    def save(
        self, tensors: Mapping[str, Tensor], position: Mapping[str, Any], *, wait: bool = True
    ) -> None:
        """Write where training stands.

        Args:
            tensors: Copied before this returns.
            position: Goes into the json.
            wait: Whether to return only when it is on disk.

        Raises:
            StorageError: This one, or the one before, could not be written.
        """
        self.finish()
        before = time.perf_counter()
        copies = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        self.copying_s += time.perf_counter() - before
        self._writer = threading.Thread(target=self._write, args=(copies, dict(position)))
        self._writer.start()
        self._last_s = time.monotonic()
        if wait:
            self.finish()

    def finish(self) -> None:
        """Wait until everything is on disk.

        Raises:
            StorageError: Something could not be written.
        """
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        if self._problem is not None:
            problem, self._problem = self._problem, None
            raise problem

    def _write(self, tensors: Mapping[str, Tensor], position: Mapping[str, Any]) -> None:
        try:
            number = max(self._numbers, default=0) + 1
            state = _state(self.folder, number)
            with replace_file(state) as aside:
                write_tensors(tensors, aside)
            described = {**position, "format_version": FORMAT_VERSION, "checksum": checksum(state)}
            write_json(state.with_suffix(".json"), described)
            self._numbers.append(number)
            for old in self._numbers[: -self.keep]:
                _state(self.folder, old).with_suffix(".json").unlink(missing_ok=True)
                _state(self.folder, old).unlink(missing_ok=True)
            self._numbers = self._numbers[-self.keep :]
        except BaseException as problem:
            self._problem = problem


def load_unfinished(run: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read where training stood: the newest checkpoint that is whole.

    Raises:
        RunError: Nothing to resume, or all of it is damaged or of another version.
    """
    found = described(run / FOLDER)
    if not found:
        raise RunError(
            f"{run} holds no unfinished training (no {FOLDER}/state-*.json). "
            "Leave --resume out to train from the start."
        )
    problems = []
    for file in reversed(found):
        try:
            return _read(file)
        except RunError as problem:
            problems.append(problem)
            logging.getLogger(__name__).warning("%s", problem)
    raise problems[0]


def described(folder: Path) -> list[Path]:
    """Return the json files of a folder's checkpoints, oldest first."""
    return sorted(folder.glob("state-*.json"), key=number_of)


def number_of(file: Path) -> int:
    """Return which checkpoint a file belongs to.

    >>> number_of(Path("state-000012.json"))
    12
    """
    return int(file.stem.removeprefix("state-"))


def _state(folder: Path, number: int) -> Path:
    return folder / f"state-{number:06d}.safetensors"


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    state = file.with_suffix(".safetensors")
    try:
        position: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        version = position.get("format_version")
        if version != FORMAT_VERSION:
            raise RunError(
                f"{file} has format version {version}, must be {FORMAT_VERSION}. It was written by "
                "another version of Skipwise: leave --resume out to train from the start."
            )
        if checksum(state) != position["checksum"]:
            raise RunError(
                f"{state} does not fit its checksum: it was cut short or changed. "
                "Leave --resume out to train from the start."
            )
        return load_file(state), position
    except (json.JSONDecodeError, KeyError, FileNotFoundError, SafetensorError) as problem:
        raise RunError(
            f"{file} is damaged: {problem!r}. Leave --resume out to train from the start."
        ) from None
