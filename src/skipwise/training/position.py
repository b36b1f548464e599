"""Where training stands besides the weights, and whether it may go on from there.

    a checkpoint's json  ->  Position.of  ->  phase, passes, batches, steps, what was best
    identities, then and now  ->  check_same  ->  nothing, or what differs

Is read by `fit`.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skipwise.errors import RunError

NAMED_AT_MOST = 8
"""So many of what differs are told one by one; of the rest, how many."""


@dataclass(slots=True)
class Position:
    """Where training stands, besides the weights."""

    phase: str = "search"
    passes: int = 0
    """Passes finished in this phase."""
    batch: int = 0
    """Batches finished in this pass."""
    step: int = 0
    best_pass: int = 0
    best_loss: float = math.inf
    precision: str = ""
    """fp32 or bf16, once it was chosen; kept for the whole run, whatever goes on with it."""
    history: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, written: Mapping[str, Any]) -> "Position":
        """Take it from a checkpoint's json, where no loss yet is null."""
        names = [each.name for each in dataclasses.fields(cls)]
        loss = written["best_loss"]
        return cls(
            **{name: written[name] for name in names}
            | {"best_loss": math.inf if loss is None else loss}
        )


def check_same(before: Mapping[str, Any], now: Mapping[str, Any], run: Path) -> None:
    """Refuse to go on with other data, window or settings.

    Args:
        before: What an unfinished training was begun with: `fingerprint`, `--until`, `settings`.
        now: What it is to go on with, likewise.
        run: Its folder, for the message.

    Raises:
        RunError: What differs, each with what it was and is.
    """
    differ = _differences(before, now)
    if not differ:
        return
    more = f"; and {len(differ) - NAMED_AT_MOST} more" if len(differ) > NAMED_AT_MOST else ""
    raise RunError(
        f"the unfinished training in {run} was begun otherwise: "
        f"{'; '.join(differ[:NAMED_AT_MOST])}{more}. Give the same as before (dataset, --until, "
        "--preset, --config and key=value words), or say --replace in place of --resume to train "
        "from the start."
    )


def one_by_one(values: Mapping[str, Any], of: str = "") -> dict[str, str]:
    """Say nested values in one row.

    >>> one_by_one({"seed": 1, "loss": {"pairwise": 0.5}})
    {'seed': '1', 'loss.pairwise': '0.5'}
    """
    said: dict[str, str] = {}
    for key, value in values.items():
        said |= (
            one_by_one(value, f"{of}{key}.")
            if isinstance(value, Mapping)
            else {of + key: str(value)}
        )
    return said


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say what was and what is, one by one."""
    dataset = "dataset (its fingerprint)"
    then, today = (
        one_by_one({dataset: each["fingerprint"], "--until": each["--until"]})
        | one_by_one(each["settings"])
        for each in (before, now)
    )
    return [
        f"{name} was {_told(then, name)}, is {_told(today, name)}"
        for name in {**today, **then}
        if then.get(name) != today.get(name)
    ]


def _told(values: Mapping[str, str], name: str) -> str:
    """Return a value as it is told: of a fingerprint the beginning."""
    value = values.get(name, "no setting")
    return value[:12] if "fingerprint" in name else value
