"""When was a variant stopped, by what?

    a broken guardrail  ->  Stop  ->  append_json_lines  ->  a line of stops.jsonl, beside the log
    stops.jsonl, Definition  ->  read_stops  ->  Stop, by treatment

- From its stop on a variant's viewers see control, so what they do then says nothing of it.
- The first stop of a variant counts; a line is appended and flushed, never changed.
- A line says by which rule viewers were assigned, so a stop of another experiment is not taken for
  one of this.

Reads `definition`; is read by `panel`, the servers' state and the command line.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from skipwise.errors import ExperimentError
from skipwise.experiments.definition import Definition
from skipwise.experiments.metrics import METRICS

STOPS_FILE = "stops.jsonl"
"""The stops of a folder that holds an event log, where there were any."""


class Stop(NamedTuple):
    """A line of the file."""

    experiment: str
    key: str
    """`assignment_key` of the definition."""
    variant: str
    at_ms: int
    """From when on no server is to give it, UTC ms."""
    guardrail: str
    """The metric that broke; empty = somebody decided it."""
    why: str
    """In words, with the figures of then."""


def stops_in(log: Path) -> Path | None:
    """Return the file of stops that lies in a log's folder; None where there is none."""
    path = log / STOPS_FILE
    return path if path.is_file() else None


def read_stops(definition: Definition, path: Path | None) -> Mapping[str, Stop]:
    """Read which treatments were stopped, by name; the first stop of each.

    Args:
        definition: The experiment.
        path: The file; None = nothing was stopped.

    Raises:
        ExperimentError: It cannot be read, a line is none, or one of this experiment names no
            treatment, no metric, or was written under other shares.
    """
    found: dict[str, Stop] = {}
    if path is None:
        return found
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as problem:
        raise ExperimentError(
            f"{path} cannot be read: {problem.strerror}; it must be a file of stops. Check the "
            "path."
        ) from None
    for number, line in enumerate(lines, 1):
        stop = _parsed(path, number, line)
        if stop.experiment != definition.name:
            continue
        _check(stop, f"{path}:{number}", definition)
        if stop.variant not in found or stop.at_ms < found[stop.variant].at_ms:
            found[stop.variant] = stop
    return found


def _parsed(path: Path, number: int, line: str) -> Stop:
    try:
        name, key, variant, at_ms, guardrail, why = json.loads(line)
        return Stop(str(name), str(key), str(variant), int(at_ms), str(guardrail), str(why))
    except (ValueError, TypeError):
        raise ExperimentError(
            f"{path}:{number} is {line[:60]!r}, must be a list of experiment, key, variant, time, "
            "guardrail and reason. Take the line out; a crash may have cut the last one."
        ) from None


def _check(stop: Stop, where: str, definition: Definition) -> None:
    definition.check_unchanged(stop.key, where)
    if stop.variant not in definition.treatments:
        raise ExperimentError(
            f"{where} stops {stop.variant!r}, must stop one of the treatments "
            f"{', '.join(definition.treatments)}. Take the line out."
        )
    if stop.guardrail and stop.guardrail not in METRICS:
        raise ExperimentError(
            f"{where} names the guardrail {stop.guardrail!r}, must name a metric, or nothing where "
            "somebody decided it. Mend the line."
        )
