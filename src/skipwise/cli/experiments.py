"""Commands about experiments: check, assign, analyse, watch, report.

    skipwise experiment check EXPERIMENT.toml | assign EXPERIMENT.toml VIEWERS
                        analyse EXPERIMENT.toml LOG --out FOLDER | report FOLDER

- What analyses is imported when it is asked for; it comes with the extra `experiments`.

Is read by `main`.
"""

import csv
import importlib.util
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from skipwise.cli.arguments import MEMORY_GIB, data_engine
from skipwise.cli.console import ConsoleProgress, draw_table, open_console
from skipwise.cli.serving import check_serving_installed
from skipwise.errors import ExperimentError, SettingError
from skipwise.events.read import read_log
from skipwise.experiments.assignment import assign
from skipwise.experiments.definition import Definition, read_definition
from skipwise.experiments.exposure import ExposureLog, exposure_log_in, read_exposures
from skipwise.experiments.stops import read_stops, stops_in
from skipwise.features.dataset import Dataset

DefinitionPath = Annotated[
    Path, typer.Argument(metavar="EXPERIMENT", help="TOML file, see docs/experiments.md.")
]


def check_command(
    definition: DefinitionPath,
    models: Annotated[bool, typer.Option(help="Read every model and score.")] = True,
) -> None:
    """Check a definition before anyone is exposed.

    Example: skipwise experiment check skip-objective.toml
    """
    read = read_definition(definition)
    if models:
        from skipwise.serving.readiness import check_ready

        check_ready(read)
    rows = [
        (each.name, f"{each.share:.2%}", each.model, each.score or "default weights")
        for each in read.variants
    ]
    title = f"{read.name}: ready" if models else f"{read.name}: well-formed, models not read"
    open_console().print(draw_table(title, ("variant", "share", "model", "score"), rows))


def assign_command(
    definition: DefinitionPath,
    viewers: Annotated[
        Path, typer.Argument(metavar="VIEWERS", help="Text file, one viewer id a line; - = stdin.")
    ],
    exposures: Annotated[
        Path | None,
        typer.Option("--exposures", help="Also note them as exposed now, in this file."),
    ] = None,
) -> None:
    """Say which variant each viewer is in, as CSV.

    Example: skipwise experiment assign skip-objective.toml viewers.txt
    """
    read = read_definition(definition)
    ids = _viewer_ids(viewers)
    if exposures is not None:
        ExposureLog(exposures, read).add(ids, time.time_ns() // 1_000_000)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("viewer_id", "variant"))
    writer.writerows(
        (viewer, variant or "") for viewer, variant in zip(ids, assign(read, ids), strict=True)
    )


def analyse_command(
    definition: DefinitionPath,
    log: Annotated[Path, typer.Argument(metavar="LOG", help="Folder of the event log.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for analysis.json and report.html.")],
    exposures: Annotated[
        Path | None,
        typer.Option(
            "--exposures",
            help="Exposure log; else LOG/exposures.jsonl, else the events' own variants.",
        ),
    ] = None,
    stops: Annotated[
        Path | None,
        typer.Option("--stops", help="When variants were stopped; else LOG/stops.jsonl, if any."),
    ] = None,
    dataset: Annotated[
        Path | None,
        typer.Option(help="DATASET whose label settings hold; else the defaults."),
    ] = None,
    mapping: Annotated[Path | None, typer.Option(help="Mapping file of the log.")] = None,
    memory: Annotated[float, typer.Option(help="GiB the data engine may take.")] = MEMORY_GIB,
) -> None:
    """Analyse an experiment as of the log's last day: effects, alarms, a verdict, a page.

    A stopped variant is judged as of its stop.

    Example: skipwise experiment analyse skip-objective.toml log --out result
    """
    _check_installed()
    from skipwise.experiments.analysis import analyse
    from skipwise.experiments.panel import make_panel
    from skipwise.experiments.record import write_record

    read, progress = read_definition(definition), ConsoleProgress()
    labels = None if dataset is None else Dataset.open(dataset).label_config
    with data_engine(memory) as connection:
        events = read_log(log, connection, mapping=mapping, progress=progress)
        exposed = read_exposures(read, exposures or exposure_log_in(log), events.events)
        stopped = read_stops(read, stops or stops_in(log))
        panel = make_panel(events, connection, read, exposed, progress, labels, stopped)
        simulated = events.description.name == "simulated"
    write_record(out / "analysis.json", analyse(panel, read, progress), read, simulated=simulated)
    report_command(out)


def watch_command(
    definition: DefinitionPath,
    state: Annotated[str, typer.Option("--state", help="State of the server: sqlite:PATH, redis.")],
    before: Annotated[Path, typer.Option("--before", help="Log that the server began with.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the log and the analysis.")],
    every_minutes: Annotated[float, typer.Option("--every", help="Minutes between looks.")] = 15.0,
    once: Annotated[bool, typer.Option("--once", help="Look once.")] = False,
) -> None:
    """Watch a served experiment: analyse it again and again, stop variants that break a guardrail.

    Example: skipwise experiment watch skip-objective.toml --state sqlite:run/state.db --before log
    --out watched
    """
    _check_installed()
    check_serving_installed()
    from skipwise.loop.guard import look
    from skipwise.loop.served_log import ServedLog
    from skipwise.serving.opening import join_state
    from skipwise.serving.variants import check_begun

    read, store = read_definition(definition), join_state(state)
    check_begun(store, read)
    with data_engine() as connection:
        served = ServedLog(out / "log", store, lambda: read_log(before, connection))
    while True:
        served.pull()
        check_begun(store, read)  # a server may have begun since
        with data_engine() as connection:
            told = look(read, out, store, connection)
        open_console().print(told, soft_wrap=True)
        if once:
            return
        time.sleep(every_minutes * 60)


def report_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder that `analyse` wrote.")],
) -> None:
    """Print the verdict and write report.html anew from analysis.json.

    Example: skipwise experiment report result
    """
    _check_installed()
    from skipwise.experiments.record import read_record
    from skipwise.experiments.verdict import judge
    from skipwise.report.experiment_page import write_experiment_page

    record = read_record(folder / "analysis.json")
    verdicts = judge(record.analysis, record.definition)
    page = folder / "report.html"
    write_experiment_page(
        page, record.analysis, verdicts, record.definition, simulated=record.simulated
    )
    console = open_console()
    console.print(_effect_table(record.analysis, record.definition))
    note = "Simulated viewers. " if record.simulated else ""
    for each in verdicts:
        console.print(f"{note}{each.treatment}: {each.words}", soft_wrap=True)
    console.print(f"{page}: plots over time, groups of viewers, how sure it is.")


def experiment_app() -> dict[str, Any]:
    """Return the commands, by name."""
    return {
        "check": check_command,
        "assign": assign_command,
        "analyse": analyse_command,
        "report": report_command,
        "watch": watch_command,
    }


def _effect_table(analysis: Any, definition: Definition) -> Any:
    judged_on = {
        name: f"\nstopped on day {each.day + 1},\njudged on {each.judged_on}"
        for name, each in analysis.stopped.items()
    }
    rows = [
        (
            each.metric,
            each.treatment + judged_on.get(each.treatment, ""),
            f"{each.relative:+.2%}",
            f"{each.relative_low:+.2%} to {each.relative_high:+.2%}",
            "{:+.2%} to {:+.2%}".format(*each.always_relative),
            "< 0.0001" if each.p_value < 1e-4 else f"{each.p_value:.4f}".replace("nan", "-"),
        )
        for each in analysis.effects
    ]
    head = ("metric", "treatment", "effect", "fixed interval", "always-valid", "p")
    return draw_table(
        f"{definition.name}: day {analysis.days} of {definition.days}, relative to "
        f"{definition.control}",
        head,
        rows,
    )


def _viewer_ids(path: Path) -> list[str]:
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise SettingError(
            f"{path} cannot be read ({problem}); it must be a text file of viewer ids, one a "
            "line. Check the path."
        ) from None
    ids = [line.strip() for line in text.splitlines() if line.strip()]
    if not ids:
        raise ExperimentError(
            f"{path} holds no viewer id; it must hold one a line. Check the file."
        )
    return ids


def _check_installed() -> None:
    if importlib.util.find_spec("tea_tasting") is None:
        raise SettingError(
            "Experiments need the package tea-tasting, which is not installed; it comes with the "
            "extra `experiments`. In a clone: pip install '.[experiments]'."
        )
