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
from skipwise.training.machine import chosen_device
from skipwise.training.precision import may_be_narrow
from skipwise.training.processes import ALONE, Processes
from skipwise.training.settings import TrainSettings

OWN_BYTES = 500_000_000
"""Python, torch and their libraries."""
NARROW_BYTES = 600_000_000
"""Where products may be taken in bf16: those that are compiled, and copies that are rounded."""
OUTSET_BYTES = 8_000_000
"""Blocks of counters and of pairs of viewers and videos, when training sets out."""
PAIR_NUMBERS, PAIR_NUMBERS_OF_HEAD = 50, 10
"""Numbers kept of a candidate and an event that stands beside its row: lag, steps, matches, weights
and their gradients, and what the allocator keeps of batches of other shapes; fitted, not counted
(docs/engine.md)."""
WRITTEN_ALONE, WRITTEN_TOGETHER = 1, 2
"""How often what a checkpoint holds lies in memory once more while it is written: as a copy; where
several processes write it, through `torch.distributed.checkpoint`, as the bytes of the file too."""

_ADVICE: Mapping[str, str] = {
    "own": "Train on a machine with more memory",
    "events": "Prepare a log of fewer viewers or days",
    "passes": "Learn from fewer days: an earlier --until, or a log of fewer days",
    "bf16": "Train with precision=fp32",
    "outset": "Train on a machine with more memory",
    "planning": "Train on a machine with more memory",
    "videos": "Prepare a log of fewer days or videos",
    "weights": "Lower model.width, or leave vectors of videos out with model.inputs.ids=false",
    "batch": "Lower tokens_per_batch",
}
"""What to do about each part."""


def memory_needed(
    dataset: Dataset, settings: TrainSettings, *, together: bool = False
) -> dict[str, int]:
    """Return what a training takes at most, bytes by part (docs/engine.md).

    Args:
        dataset: What is learnt from.
        settings: How.
        together: Whether several processes train it; then each takes so much.

    Raises:
        SettingError: The settings name a device that is not there.
    """
    copies = WRITTEN_TOGETHER if together else WRITTEN_ALONE
    narrow = may_be_narrow(settings, chosen_device(settings.device), together=together)
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
        "bf16": NARROW_BYTES if narrow else 0,
        "events": 13 * events,
        "passes": 60 * timed,
        "outset": OUTSET_BYTES,
        "planning": 80 * min(events, EVENTS_TOGETHER),
        "videos": videos
        * (400 + 4 * len(HALF_LIVES_DAYS) * (last - first + 1) + 12 * (retrieval + 8)),
        "weights": number_bytes(copies) * 200 * width**2 * model.encoder.blocks
        + sum(
            table_bytes(rows, width, settings.optimizer.sparse_from_rows, copies) for rows in tables
        ),
        "batch": 4 * tokens * (heads * (history + history // 3) * 8 + 40 * width)
        + 4 * tokens * (history + 2 * BLOCK) * (PAIR_NUMBERS + PAIR_NUMBERS_OF_HEAD * heads)
        + (8 * tokens * (model.retrieval.sampled + tokens // 2) if settings.loss.retrieval else 0),
    }


def number_bytes(copies: int) -> int:
    """Return what a number that AdamW moves takes.

    Itself, gradient, two moments and mean; the best; and all but the gradient in a checkpoint.

    >>> number_bytes(WRITTEN_ALONE), number_bytes(WRITTEN_TOGETHER)
    (44, 64)
    """
    return 4 * (5 + 1 + copies * 5)


def table_bytes(rows: int, width: int, sparse_from_rows: int, copies: int) -> int:
    """Return what a table of ids takes at most, its rows those of all that might be seen.

    A large one keeps a number of state per row: rows and state, the best rows, and all of them in
    a checkpoint. With fewer seen it may be a small one, which takes more.

    >>> table_bytes(10, 16, 100, 1), table_bytes(1000, 16, 100, 1)
    (7040, 264000)
    """
    small = number_bytes(copies) * width * min(rows, sparse_from_rows - 1)
    if rows < sparse_from_rows:
        return small
    return max(small, (8 * width + 4 + copies * (8 * width + 4)) * rows)


def check_enough(dataset: Dataset, settings: TrainSettings, processes: Processes = ALONE) -> None:
    """Refuse a training that takes more memory than the machine, or its container, has.

    Args:
        dataset: What is learnt from.
        settings: How.
        processes: Who trains it together: each on this machine takes as much.

    Raises:
        SettingError: How much it takes, of what there is, and which setting to change.
    """
    there_gib = machine_memory_gib()
    processes_here = processes.local_number
    parts = memory_needed(dataset, settings, together=processes.number > 1)
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
