"""Does a served experiment break a guardrail, and who stops it?

    FOLDER/log as it was served, Definition  ->  look  ->  FOLDER/analysis.json; a stop in the state
                                                           and in FOLDER/log/stops.jsonl

- A guardrail is broken when the whole always-valid interval lies beyond it (`experiments.verdict`),
  so it may be looked at as often as one likes; then the servers give the variant no more viewers.
- A stopped variant is judged as of its stop at every later look.
- What cannot be said yet stops nothing; it is named, and the other guardrails still stop.
- Who was exposed is what the servers noted; by the events alone in the log of servers that noted
  nothing.

Reads `experiments` and `serving.variants`; is read by the command line.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from ibis.backends.duckdb import Backend

from skipwise.errors import ExperimentError
from skipwise.events.read import read_log
from skipwise.experiments.analysis import analyse
from skipwise.experiments.definition import Definition
from skipwise.experiments.exposure import exposure_log_in, read_exposures
from skipwise.experiments.panel import make_panel
from skipwise.experiments.record import write_record
from skipwise.experiments.stops import STOPS_FILE, Stop, read_stops, stops_in
from skipwise.experiments.verdict import judge
from skipwise.serving.seed import now_ms
from skipwise.serving.state.store import Store
from skipwise.serving.variants import stop, stops_of
from skipwise.storage import append_json_lines


def look(
    definition: Definition,
    folder: Path,
    store: Store,
    connection: Backend,
    clock: Callable[[], int] = now_ms,
) -> str:
    """Analyse what was served so far and stop what breaks a guardrail; returns what was found.

    Args:
        definition: The experiment.
        folder: Holds `log` with its exposure log; gets `analysis.json`, the log its stops.
        store: The servers' state.
        connection: The data engine.
        clock: Tells when something is stopped, UTC ms.

    Raises:
        StateError: The state is out of reach.
    """
    stops = _write_stops(store, definition, folder / "log")
    try:
        log = read_log(folder / "log", connection)
        exposures = read_exposures(definition, exposure_log_in(folder / "log"), log.events)
        panel = make_panel(log, connection, definition, exposures, stops=stops)
        analysis = analyse(panel, definition)
    except ExperimentError as problem:
        return f"Nothing can be said yet: {problem}"
    simulated = log.description.name == "simulated"
    write_record(folder / "analysis.json", analysis, definition, simulated=simulated)
    told = []
    for verdict in judge(analysis, definition):
        if verdict.decision == "stop":
            by = verdict.guardrail
            stop(store, definition, verdict.treatment, clock(), guardrail=by, why=verdict.words)
        told.append(f"{verdict.treatment}: {verdict.words}")
    _write_stops(store, definition, folder / "log")
    return "\n".join(told)


def _write_stops(store: Store, definition: Definition, log: Path) -> Mapping[str, Stop]:
    """Write the state's stops beside the log, each once; returns all that are there."""
    there = read_stops(definition, stops_in(log))
    new = [each for name, each in stops_of(store, definition).items() if name not in there]
    if new:
        append_json_lines(log / STOPS_FILE, new)
    return read_stops(definition, stops_in(log))
