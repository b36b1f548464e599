"""When may a command write over a folder that an earlier one wrote? When it is told to.

    OUT, what it would hold, --replace  ->  check_out  ->  nothing, or what lies there, refused

- Asked before anything is read or computed, so that a refusal comes at once.
- What is not ours is never replaced, whatever is said.

Is read by the commands that write a folder.
"""

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple

import pyarrow.parquet as pq
import typer

from skipwise.errors import SettingError
from skipwise.storage import check_replaceable

ReplaceOption = Annotated[
    bool, typer.Option("--replace", help="Replace what an earlier one wrote there.")
]


class Kind(NamedTuple):
    """What a command writes."""

    name: str
    """As in "OUT holds NAME already"."""
    marker: str
    """A file that every one of them holds."""
    told: Callable[[Path], str]
    """What a folder holds, in words; may raise as reading a damaged file does."""


def check_out(out: Path, kind: Kind, *, replace: bool) -> None:
    """Refuse to write over what is not ours, and over what is unless that was said.

    Args:
        out: The folder to be written.
        kind: What it would hold.
        replace: Whether `--replace` was said.

    Raises:
        SettingError: What lies there, when it was made and what it holds.
    """
    check_replaceable(out, kind.marker, kind.name)
    check_kept(out, kind, replace=replace)


def check_kept(out: Path, kind: Kind, *, replace: bool) -> None:
    """Refuse to write over an earlier one of its kind unless that was said; else as `check_out`."""
    marker = out / kind.marker
    if replace or not marker.is_file():
        return
    made = datetime.datetime.fromtimestamp(marker.stat().st_mtime).astimezone()
    raise SettingError(
        f"{out} holds {kind.name} already (of {made:%Y-%m-%d %H:%M}, {_told(out, kind)}), which "
        "this would replace. Choose another folder, or say --replace."
    )


def _told(out: Path, kind: Kind) -> str:
    try:
        return kind.told(out)
    except (ValueError, KeyError, TypeError, OSError):  # Arrow's and JSON's are ValueErrors
        return "damaged"


def _events_of_dataset(folder: Path) -> str:
    return _events(int(json.loads((folder / "dataset.json").read_bytes())["num_events"]))


def _events_of_log(folder: Path) -> str:
    """Count what the files of all parts say of themselves."""
    return _events(sum(pq.read_metadata(part).num_rows for part in folder.glob("events*.parquet")))


def _events(number: int) -> str:
    return f"{number:,} event{'s' * (number != 1)}"


def _window_of_run(folder: Path) -> str:
    window = json.loads((folder / "run.json").read_bytes())["window"]
    return f"learnt from {window['first_day']} to {window['last_day']}"


DATASET = Kind("a prepared dataset", "dataset.json", _events_of_dataset)
WORLD = Kind("a simulated world", "world.json", _events_of_log)
LOOP_LOG = Kind("a log of the loop", "loop.json", _events_of_log)
RUN = Kind("a finished run", "run.json", _window_of_run)
