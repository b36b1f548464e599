"""The command line: one thin command per stage, and how their mistakes are told.

    skipwise simulate | inspect | prepare | train | evaluate | report | demo

- Results go to stdout, bars and messages to stderr; in a pipe there are no bars.
- A user's mistake is told in one paragraph, with exit code 2; Ctrl-C leaves with 130.

The only place where every layer meets.
"""

import sys
from typing import Annotated

import typer

import skipwise
from skipwise.cli.console import open_console
from skipwise.cli.demo import demo
from skipwise.cli.learning import evaluate_command, report_command, train_command
from skipwise.cli.logs import inspect_command, prepare_command, simulate_command
from skipwise.errors import SkipwiseError

app = typer.Typer(
    name="skipwise",
    help="The short-video recommender that learns from what people skip.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("simulate")(simulate_command)
app.command("inspect")(inspect_command)
app.command("prepare")(prepare_command)
app.command("train")(train_command)
app.command("evaluate")(evaluate_command)
app.command("report")(report_command)
app.command("demo")(demo)


@app.callback(invoke_without_command=True)
def version_option(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.")
    ] = False,
) -> None:
    """The short-video recommender that learns from what people skip."""
    if version:
        typer.echo(f"skipwise {skipwise.__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; this is the `skipwise` script."""
    try:
        app()
    except SkipwiseError as problem:
        open_console(stderr=True).print(f"skipwise: {problem}", style="red", soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        open_console(stderr=True).print(
            "skipwise: stopped. Training goes on from here with --resume; other commands left "
            "nothing half-written."
        )
        sys.exit(130)
