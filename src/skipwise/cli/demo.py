"""The whole job in one command: simulate, prepare, train, evaluate, report.

    skipwise demo [--data PATH]  ->  OUT/dataset, OUT/run, OUT/run/report.html

Is read by `main`.
"""

from pathlib import Path
from typing import Annotated

import typer

from skipwise.cli.console import open_console
from skipwise.cli.learning import evaluate_command, report_command, train_command
from skipwise.cli.logs import (
    MappingOption,
    SourceOption,
    inspect_command,
    prepare_command,
    simulate_command,
)
from skipwise.features.dataset import Dataset, iso_day

REPORTED_DAYS = 2
"""Last days of the log, which nothing is learnt from."""


def demo(
    data: Annotated[
        Path | None, typer.Option("--data", help="A real log; else viewers are simulated.")
    ] = None,
    source: SourceOption = None,
    mapping: MappingOption = None,
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")] = Path("demo"),
    viewers: Annotated[int, typer.Option(help="How many viewers to simulate.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Training settings; read.* go to inspect and prepare."
        ),
    ] = None,
) -> None:
    """Do the whole job: simulate -> prepare -> train -> evaluate -> report.

    Example: skipwise demo --data KuaiRand-Pure --out kuairand
    """
    console = open_console()
    words = overrides or []
    reading = [word for word in words if word.startswith("read.")]
    log = data
    if log is None:
        log = out / "world"
        _announce("1/5  simulate: viewers with known tastes")
        simulate_command(log, viewers=viewers, days=8, seed=seed)
    else:
        _announce(f"1/5  inspect: {log}")
        inspect_command(log, source=source, mapping=mapping, overrides=reading)
    _announce("2/5  prepare: labels, counters, histories")
    prepare_command(log, out / "dataset", source=source, mapping=mapping, overrides=reading)
    last = Dataset.open(out / "dataset").days[1]
    until, first = iso_day(last - REPORTED_DAYS), iso_day(last - REPORTED_DAYS + 1)
    _announce(f"3/5  train: until {until}")
    train_command(
        out / "dataset",
        out / "run",
        until=until,
        replace=True,
        overrides=[f"seed={seed}", *(word for word in words if word not in reading)],
    )
    _announce(f"4/5  evaluate: {first} to {iso_day(last)}, which it has not seen")
    evaluate_command(out / "run", first, iso_day(last))
    _announce("5/5  report")
    report_command(out / "run")
    console.print("Open that file in a browser.")


def _announce(step: str) -> None:
    open_console(stderr=True).print(f"\n{step}", style="bold")
