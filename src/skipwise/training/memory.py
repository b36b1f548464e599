"""How much memory a training process takes, and whether the machine has it.

    Dataset, settings  ->  memory_needed  ->  bytes by part
                       ->  check_enough   ->  nothing, or what to change

- Counted is what only this process holds (anonymous memory). Events and counters are mapped from
  disk: their pages are the system's, which takes them back when it needs them.
- The numbers of bytes are those of docs/engine.md; a test holds a real training to them.

Reads `engine` for what there is; is read by `fit`.
"""

from collections.abc import Mapping

from skipwise.engine import machine_memory_gib
from skipwise.errors import SettingError
from skipwise.features.dataset import Dataset
from skipwise.features.popularity import HALF_LIVES_DAYS
from skipwise.features.stretches import EVENTS_TOGETHER
from skipwise.model.rows import BLOCK
from skipwise.training.settings import TrainSettings

OWN_BYTES = 500_000_000
"""Python, torch and their libraries."""
OUTSET_BYTES = 8_000_000
"""Blocks of counters and of pairs of viewers and videos, when training sets out."""
PAIR_NUMBERS, PAIR_NUMBERS_OF_HEAD = 50, 10
"""Numbers kept of a candidate and an event that stands beside its row: lag, steps, matches, weights
and their gradients, and what the allocator keeps of batches of other shapes; fitted, not counted
(docs/engine.md)."""
SMALL_BYTES = 4 * (5 + 1 + 2 * 5)
"""Of a number that AdamW moves: itself, gradient, two moments and mean; the best; and while a
checkpoint is written all but the gradient twice, as a copy and as the bytes of the file."""

_ADVICE: Mapping[str, str] = {
    "own": "Train on a machine with more memory",
    "events": "Prepare a log of fewer viewers or days",
    "passes": "Learn from fewer days: an earlier --until, or a log of fewer days",
    "outset": "Train on a machine with more memory",
    "planning": "Train on a machine with more memory",
    "videos": "Prepare a log of fewer days or videos",
    "weights": "Lower model.width, or leave vectors of videos out with model.inputs.ids=false",
    "batch": "Lower tokens_per_batch",
}
"""What to do about each part."""


def memory_needed(dataset: Dataset, settings: TrainSettings) -> dict[str, int]:
    """Return what a training takes at most, bytes by part (docs/engine.md)."""
    events = dataset.num_events
    timed = int(dataset.description["num_timed_events"])
    videos, authors = dataset.videos.num_rows, len(dataset.author_ids)
    first, last = dataset.days
    model = settings.model
    width, history, heads = model.width, model.encoder.history_length, model.encoder.heads
    tokens = settings.tokens_per_batch
    tables = (videos, authors) if model.inputs.ids else ()
    retrieval = model.retrieval.width + model.retrieval.co_watched
    return {
        "own": OWN_BYTES,
        "events": 13 * events,
        "passes": 60 * timed,
        "outset": OUTSET_BYTES,
        "planning": 80 * min(events, EVENTS_TOGETHER),
        "videos": videos
        * (400 + 4 * len(HALF_LIVES_DAYS) * (last - first + 1) + 12 * (retrieval + 8)),
        "weights": SMALL_BYTES * 200 * width**2 * model.encoder.blocks
        + sum(table_bytes(rows, width, settings.optimizer.sparse_from_rows) for rows in tables),
        "batch": 4 * tokens * (heads * (history + history // 3) * 8 + 40 * width)
        + 4 * tokens * (history + 2 * BLOCK) * (PAIR_NUMBERS + PAIR_NUMBERS_OF_HEAD * heads)
        + (8 * tokens * (model.retrieval.sampled + tokens // 2) if settings.loss.retrieval else 0),
    }


def table_bytes(rows: int, width: int, sparse_from_rows: int) -> int:
    """Return what a table of ids takes at most, its rows those of all that might be seen.

    A large one keeps a number of state per row: rows and state, the best rows, and all of them
    twice while a checkpoint is written. With fewer seen it may be a small one, which takes more.

    >>> table_bytes(10, 16, 100), table_bytes(1000, 16, 100)
    (10240, 396000)
    """
    small = SMALL_BYTES * width * min(rows, sparse_from_rows - 1)
    if rows < sparse_from_rows:
        return small
    return max(small, (4 * width + 4 + 4 * width + 2 * (8 * width + 4)) * rows)


def check_enough(dataset: Dataset, settings: TrainSettings, processes_here: int = 1) -> None:
    """Refuse a training that takes more memory than the machine, or its container, has.

    Args:
        dataset: What is learnt from.
        settings: How.
        processes_here: How many train on this machine, each of which takes as much.

    Raises:
        SettingError: How much it takes, of what there is, and which setting to change.
    """
    there_gib = machine_memory_gib()
    parts = memory_needed(dataset, settings)
    each_gib = sum(parts.values()) / 2**30
    if there_gib is None or processes_here * each_gib <= there_gib:
        return
    most = max(parts, key=lambda name: parts[name])
    several = processes_here > 1
    raise SettingError(
        f"training takes up to {each_gib:.1f} GiB of memory ({parts[most] / 2**30:.1f} GiB of it "
        f"for {most}, docs/engine.md){f' in each of {processes_here} processes' * several}, but "
        f"this machine has {there_gib:.1f} GiB; it must be less. {_ADVICE[most]}"
        f"{', or start fewer processes: --nproc-per-node' * several}."
    )
