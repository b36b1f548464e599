"""Who was shown a variant, which, and since when.

    first answer to a viewer  ->  ExposureLog.add  ->  a line of exposures.jsonl
    exposures.jsonl, or the variants written in the events  ->  read_exposures  ->  Exposures

- Only who was exposed is analysed: one who was assigned and never came says nothing. From the
  events, whoever was served and sent nothing back is not seen; from an exposure log he is.
- A line says by which rule it was assigned, so a change of shares in mid-flight is seen.
- A viewer's first exposure counts; a line is appended and flushed, never changed.

Reads `definition` and `assignment`; is read by `panel`.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import ibis.expr.types as ir
import numpy as np
from numpy.typing import NDArray

from skipwise.errors import ExperimentError
from skipwise.experiments.assignment import assign
from skipwise.experiments.definition import Definition
from skipwise.storage import append_json_lines

EXPOSURES_FILE = "exposures.jsonl"
"""The exposure log of a folder that holds an event log, where there is one."""


class Exposure(NamedTuple):
    """A line of an exposure log."""

    experiment: str
    key: str
    """`assignment_key` of the definition that the viewer was assigned by."""
    viewer_id: str
    variant: str
    at_ms: int
    """UTC ms."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exposures:
    """The exposed viewers, one row each."""

    viewer_id: list[str]
    variant: list[str]
    since_ms: NDArray[np.int64]
    """(V,) first exposure, UTC ms."""


class ExposureLog:
    """Appends first exposures to a file; knows whom it has already."""

    def __init__(self, path: Path, definition: Definition) -> None:
        self.path, self.definition = path, definition
        self._known = set(_read_lines(path, definition)) if path.is_file() else set()

    def add(self, viewer_ids: Iterable[str], at_ms: int) -> dict[str, str]:
        """Write down who is exposed for the first time; returns the variant of each of them."""
        new = [viewer for viewer in dict.fromkeys(viewer_ids) if viewer not in self._known]
        fresh = {
            viewer: variant
            for viewer, variant in zip(new, assign(self.definition, new), strict=True)
            if variant is not None
        }
        if fresh:
            key = self.definition.assignment_key
            append_json_lines(
                self.path,
                [
                    Exposure(self.definition.name, key, viewer, variant, at_ms)
                    for viewer, variant in fresh.items()
                ],
            )
        self._known.update(fresh)
        return fresh


def exposure_log_in(log: Path) -> Path | None:
    """Return the exposure log that lies in a log's folder; None where there is none."""
    path = log / EXPOSURES_FILE
    return path if path.is_file() else None


def read_exposures(definition: Definition, path: Path | None, events: ir.Table) -> Exposures:
    """Read exposures from their log, or from the variants written in the events.

    Args:
        definition: The experiment.
        path: The exposure log; None = the event log's own column `variant`.
        events: Canonical events.

    Raises:
        ExperimentError: Nobody was exposed, a variant to nobody, or assignment was changed in
            mid-flight.
    """
    found = _from_events(definition, events) if path is None else _read_lines(path, definition)
    names = [variant.name for variant in definition.variants]
    missing = [name for name in names if name not in {variant for variant, _ in found.values()}]
    if missing:
        where = "the events' column variant" if path is None else str(path)
        raise ExperimentError(
            f"{where} shows no viewer exposed to {', '.join(missing)} of {definition.name!r} from "
            f"{definition.start} on; every variant needs exposed viewers. Give the exposure log "
            "with --exposures, or check the start, and that the events carry the variant they were "
            "served by."
        )
    exposures = Exposures(
        viewer_id=list(found),
        variant=[variant for variant, _ in found.values()],
        since_ms=np.array([since for _, since in found.values()], dtype=np.int64),
    )
    _check_unchanged(definition, exposures)
    return exposures


def read_exposure_log(path: Path) -> Sequence[Exposure]:
    """Read every line of an exposure log, of any experiment, in its order.

    Raises:
        ExperimentError: It cannot be read, or a line is none; the message says which.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as problem:
        raise ExperimentError(
            f"{path} cannot be read: {problem.strerror}; it must be an exposure log. Check "
            "the path."
        ) from None
    return [_parsed(path, number, line) for number, line in enumerate(lines, 1)]


def _check_unchanged(definition: Definition, exposures: Exposures) -> None:
    now = assign(definition, exposures.viewer_id)
    moved = sum(a != b for a, b in zip(now, exposures.variant, strict=True))
    if moved:
        raise ExperimentError(
            f"{moved:,} of {len(now):,} exposed viewers of {definition.name!r} were in another "
            "variant than the definition now gives them; name, shares and salt must stay as they "
            "were while an experiment runs. Put them back, or start anew under another name."
        )


def _read_lines(path: Path, definition: Definition) -> dict[str, tuple[str, int]]:
    found: dict[str, tuple[str, int]] = {}
    for number, (name, key, viewer, variant, at_ms) in enumerate(read_exposure_log(path), 1):
        if name != definition.name:
            continue
        definition.check_unchanged(key, f"{path}:{number}")
        if viewer not in found or at_ms < found[viewer][1]:
            found[viewer] = (variant, at_ms)
    return found


def _parsed(path: Path, number: int, line: str) -> Exposure:
    try:
        name, key, viewer, variant, at_ms = json.loads(line)
        return Exposure(str(name), str(key), str(viewer), str(variant), int(at_ms))
    except (ValueError, TypeError):
        raise ExperimentError(
            f"{path}:{number} is {line[:60]!r}, must be a list of experiment, key, viewer, variant "
            "and time. Take the line out; a crash may have cut the last one."
        ) from None


def _from_events(definition: Definition, events: ir.Table) -> dict[str, tuple[str, int]]:
    names = [variant.name for variant in definition.variants]
    own = events.filter(
        events.variant.isin(names)
        & events.shown_at_ms.notnull()
        & (events.day >= definition.start_day)
    )
    first = own.group_by("viewer_id").agg(
        variant=own.variant.argmin(own.shown_at_ms),
        since_ms=own.shown_at_ms.min(),
        variants=own.variant.nunique(),
    )
    rows = first.order_by("viewer_id").to_pyarrow().to_pylist()
    several = sum(row["variants"] > 1 for row in rows)
    if several:
        raise ExperimentError(
            f"{several:,} of {len(rows):,} viewers were served by more than one variant of "
            f"{definition.name!r}; each must stay in his own. Shares or salt were changed in "
            "mid-flight: start anew under another name."
        )
    return {row["viewer_id"]: (row["variant"], row["since_ms"]) for row in rows}
