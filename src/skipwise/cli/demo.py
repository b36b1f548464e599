"""The whole job in one command: simulate, prepare, train, evaluate, report, serve.

    skipwise demo [--data PATH]  ->  OUT/dataset, OUT/run, OUT/run/report.html, a page

- The page is served where somebody sits at a terminal, until Ctrl-C; else the command that serves
  it is named.

Is read by `main`.
"""

import shlex
import socket
import sys
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
from skipwise.cli.program import typed_program
from skipwise.cli.serving import serve_command
from skipwise.features.dataset import Dataset, iso_day

TOPICS = "topics=8"
"""So few that a person sees the share of each change."""
AS_OF_LOG = "serving.clock=log"
"""The log is of the past: time goes on from its end, so that what was counted still counts."""
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
    serve: Annotated[
        bool | None,
        typer.Option(
            "--serve/--no-serve", help="Serve the page at the end; else where it is a terminal."
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE", help="Training settings; read.* go to inspect and prepare."
        ),
    ] = None,
) -> None:
    """Do the whole job: simulate -> prepare -> train -> evaluate -> report -> serve.

    What an earlier demo left in OUT is replaced.

    Example: skipwise demo --data KuaiRand-Pure --out kuairand
    """
    console = open_console()
    words = overrides or []
    reading = [word for word in words if word.startswith("read.")]
    log = data
    if log is None:
        log = out / "world"
        _announce("1/6  simulate: viewers with known tastes")
        simulate_command(log, viewers=viewers, days=8, seed=seed, replace=True, overrides=[TOPICS])
    else:
        _announce(f"1/6  inspect: {log}")
        inspect_command(log, source=source, mapping=mapping, overrides=reading)
    _announce("2/6  prepare: labels, counters, histories")
    prepare_command(
        log, out / "dataset", source=source, mapping=mapping, replace=True, overrides=reading
    )
    last = Dataset.open(out / "dataset").days[1]
    until, first = iso_day(last - REPORTED_DAYS), iso_day(last - REPORTED_DAYS + 1)
    _announce(f"3/6  train: until {until}")
    train_command(
        out / "dataset",
        out / "run",
        until=until,
        replace=True,
        overrides=[f"seed={seed}", *(word for word in words if word not in reading)],
    )
    _announce(f"4/6  evaluate: {first} to {iso_day(last)}, which it has not seen")
    evaluate_command(out / "run", first, iso_day(last))
    _announce("5/6  report")
    report_command(out / "run")
    console.print("Open that file in a browser.")
    _announce("6/6  serve: the page, on this model")
    serve_or_tell(out, serve)


def serve_or_tell(out: Path, serve: bool | None) -> None:
    """Serve the page on a fresh state, or name the command that does.

    Args:
        out: Holds `run`.
        serve: Whether to; None = where somebody sits at a terminal.
    """
    console = open_console()
    for old in out.glob("state.db*"):
        old.unlink()
    state = f"sqlite:{out / 'state.db'}"
    if not (sys.stdout.isatty() if serve is None else serve):
        words = [*typed_program(), "serve", str(out / "run"), "--state", state, AS_OF_LOG]
        console.print(
            f"{shlex.join(words)}\nstarts it; then open http://127.0.0.1:8080/ in a browser.",
            soft_wrap=True,
        )
        return
    port = _free_port()
    console.print(
        f"Open http://127.0.0.1:{port}/ in a browser as soon as it is ready, in a minute or two.",
        soft_wrap=True,
    )
    serve_command(out / "run", state=state, port=port, overrides=[AS_OF_LOG])


def _free_port(first: int = 8080) -> int:
    """Return 8080, or the next port nobody listens on."""
    for port in range(first, first + 100):
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    return first


def _announce(step: str) -> None:
    open_console(stderr=True).print(f"\n{step}", style="bold")
