"""How training that was broken off, by whatever, is taken up again: checkpoints in RUN/resume.

    tensors, position  ->  Checkpoints.save  ->  state-N.safetensors, state-N.json
    RUN folder  ->  find_unfinished  ->  the newest that is whole

- A checkpoint is copied in memory and written by a thread, so training waits for the copy alone.
- Its json is written last and holds the other's checksum: killed at any moment, what is on disk is
  either a whole checkpoint or none, and the ones before it are still there.

Is read by `fit` and `shared_checkpoints`.
"""

import json
import logging
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import safe_open
from torch import Tensor

from skipwise.errors import RunError
from skipwise.storage import checksum, replace_file, write_json
from skipwise.training.checkpoint import FORMAT_VERSION
from skipwise.training.tensor_file import WRITTEN_AS, write_tensors

FOLDER = "resume"
SHARE_AT_MOST = 0.03
"""Of processor time that checkpoints may take: large tables are written less often for it."""


class Checkpoints:
    """Writes checkpoints of one run and keeps the last few."""

    def __init__(self, run: Path, *, keep: int, every_s: float, clears: bool = True) -> None:
        self.folder, self.keep, self.every_s = run / FOLDER, keep, every_s
        self.copying_s = 0.0
        """Seconds that training waited for copies."""
        self.last_cost_s = 0.0
        """Processor seconds that the last one took: its copy and its writer."""
        self._numbers = [number_of(file) for file in described(self.folder)]
        self._writer: threading.Thread | None = None
        self._problem: BaseException | None = None
        self._last_s = time.monotonic()
        self._copied_s = 0.0
        for left in self.folder.glob(".*.part") if clears else ():
            # of a process, or several, that were killed while they wrote
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)

    def due(self) -> bool:
        """Say whether the last one is old enough, and written.

        Old enough is `every_s`, and longer where it would cost more than `SHARE_AT_MOST`; unless
        `every_s` is 0, which means as often as can be.
        """
        writing = self._writer is not None and self._writer.is_alive()
        apart_s = max(self.every_s, self.last_cost_s / SHARE_AT_MOST) if self.every_s else 0.0
        return not writing and time.monotonic() - self._last_s >= apart_s

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
        copies = {name: self._copied(tensor) for name, tensor in tensors.items()}
        self._copied_s = time.perf_counter() - before
        self.copying_s += self._copied_s
        self._writer = threading.Thread(
            target=self._write_noting_problems, args=(copies, dict(position))
        )
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

    def _copied(self, tensor: Tensor) -> Tensor:
        return tensor.detach().clone()

    def _write_noting_problems(
        self, tensors: Mapping[str, Tensor], position: Mapping[str, Any]
    ) -> None:
        before = time.thread_time()
        try:
            self._write(tensors, position)
        except BaseException as problem:
            self._problem = problem
        self.last_cost_s = self._copied_s + time.thread_time() - before

    def _write(self, tensors: Mapping[str, Tensor], position: Mapping[str, Any]) -> None:
        state = self.folder / f"{self._next()}.safetensors"
        with replace_file(state) as aside:
            write_tensors(tensors, aside)
        self._keep(state, position, {state.name: checksum(state)})

    def _next(self) -> str:
        return f"state-{max(self._numbers, default=0) + 1:06d}"

    def _keep(self, state: Path, position: Mapping[str, Any], checksums: Mapping[str, str]) -> None:
        """Describe what was written, and delete what is too old."""
        described = {**position, "format_version": FORMAT_VERSION, "checksums": dict(checksums)}
        file = state.with_suffix(".json")
        write_json(file, described)
        self._numbers.append(number_of(file))
        for old in self._numbers[: -self.keep]:
            whole = self.folder / f"state-{old:06d}"
            whole.with_suffix(".json").unlink(missing_ok=True)
            whole.with_suffix(".safetensors").unlink(missing_ok=True)
            shutil.rmtree(whole, ignore_errors=True)
        self._numbers = self._numbers[-self.keep :]


class Unfinished(NamedTuple):
    """Where training stood."""

    state: Path
    """A safetensors file that one process wrote, or a folder of those that several wrote."""
    position: dict[str, Any]


def find_unfinished(run: Path) -> Unfinished:
    """Find where training stood: the newest checkpoint that is whole.

    Raises:
        RunError: Nothing to resume, or all of it is damaged or of another version.
    """
    found = described(run / FOLDER)
    if not found:
        raise RunError(
            f"{run} holds no unfinished training (no {FOLDER}/state-*.json). "
            "Leave --resume out to train from the start."
        )
    problems, log = [], logging.getLogger(__name__)
    for file in reversed(found):
        try:
            whole = _read(file)
        except RunError as problem:
            problems.append(problem)
            log.warning("%s", problem)
            continue
        if problems:
            log.warning("Training goes on from %s, which is older and whole.", whole.state)
        return whole
    raise problems[0]


def check_tensors(state: Path, expected: Mapping[str, Tensor]) -> None:
    """Refuse a checkpoint whose tensors are of other types or sizes; only its heads are read.

    Args:
        state: As `Unfinished.state`.
        expected: What it must hold; of a folder's tensors, which lie in parts, types alone tell.

    Raises:
        RunError: Which tensor it is, what it is and must be.
    """
    found: dict[str, tuple[str, list[int]]] = {}
    for file in sorted(state.glob("*.safetensors")) if state.is_dir() else [state]:
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - no mapping
                part = tensors.get_slice(name)
                found[name] = (part.get_dtype(), part.get_shape())
    for name, tensor in expected.items():
        must_be = (WRITTEN_AS[tensor.dtype], list(tensor.size()))
        there = found.get(name)
        if there is None or there[0] != must_be[0] or (state.is_file() and there != must_be):
            what = "no such tensor" if there is None else f"type {there[0]}, size {there[1]}"
            raise RunError(
                f"{state} does not fit this training: {name} has {what}, must have type "
                f"{must_be[0]}, size {must_be[1]}; table sizes, vocabulary and types must be those "
                "it was written with. Give the same dataset and settings, or say --replace in "
                "place of --resume to train from the start."
            )


def described(folder: Path) -> list[Path]:
    """Return the json files of a folder's checkpoints, oldest first."""
    return sorted(folder.glob("state-*.json"), key=number_of)


def number_of(file: Path) -> int:
    """Return which checkpoint a file belongs to.

    >>> number_of(Path("state-000012.json"))
    12
    """
    return int(file.stem.removeprefix("state-"))


def _read(file: Path) -> Unfinished:
    try:
        position: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        version = position.get("format_version")
        if version != FORMAT_VERSION:
            raise RunError(
                f"{file} has format version {version}, must be {FORMAT_VERSION}. It was written by "
                "another version of Skipwise: say --replace in place of --resume to train from the "
                "start."
            )
        for name, expected in position["checksums"].items():
            if checksum(file.parent / name) != expected:
                raise RunError(
                    f"{file.parent / name} does not fit its checksum: it was cut short or changed. "
                    "Say --replace in place of --resume to train from the start."
                )
    except (json.JSONDecodeError, KeyError, FileNotFoundError) as problem:
        raise RunError(
            f"{file} is damaged: {problem!r}; it must be whole. Say --replace in place of --resume "
            "to train from the start."
        ) from None
    folder = file.with_suffix("")
    return Unfinished(folder if folder.is_dir() else file.with_suffix(".safetensors"), position)
