"""The command line: one thin command per stage, and how their mistakes are told.

    skipwise simulate | inspect | prepare | train | evaluate | report | serve | key | demo
             experiment check | assign | analyse | watch | report; loop | tune | offpolicy

- Results go to stdout, bars and messages to stderr; in a pipe there are no bars.
- A user's mistake is told in one paragraph, with exit code 2; Ctrl-C leaves with 130.

The only place where every layer meets.
"""

import functools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

import skipwise
from skipwise.cli.console import open_console
from skipwise.cli.demo import demo
from skipwise.cli.experiments import experiment_app
from skipwise.cli.help_texts import help_of
from skipwise.cli.launch import start_anew_with_jemalloc
from skipwise.cli.learning import evaluate_command, report_command, train_command
from skipwise.cli.logs import inspect_command, prepare_command, simulate_command
from skipwise.cli.loop import loop_command
from skipwise.cli.serving import key_command, serve_command
from skipwise.cli.tuning import offpolicy_command, tune_command
from skipwise.errors import SkipwiseError

app = typer.Typer(
    name="skipwise",
    help="The short-video recommender that learns from what people skip.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


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


def told_plainly(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command tell a user's mistake, and Ctrl-C, in one paragraph instead of a traceback."""

    @functools.wraps(command)
    def run(*words: Any, **options: Any) -> None:
        try:
            command(*words, **options)
        except SkipwiseError as problem:
            _say(f"skipwise: {problem}", style="red")
            _note_for_torchrun(f"skipwise: {problem}")
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            _stopped()
        except RuntimeError as problem:  # the data engine wraps Ctrl-C in one of its own
            if isinstance(problem.__cause__ or problem.__context__, KeyboardInterrupt):
                _stopped()
            raise

    return run


for _name, _command in (
    ("simulate", simulate_command),
    ("inspect", inspect_command),
    ("prepare", prepare_command),
    ("train", train_command),
    ("evaluate", evaluate_command),
    ("report", report_command),
    ("serve", serve_command),
    ("key", key_command),
    ("loop", loop_command),
    ("tune", tune_command),
    ("offpolicy", offpolicy_command),
    ("demo", demo),
):
    app.command(_name, **help_of(_command))(told_plainly(_command))

_experiments = typer.Typer(
    no_args_is_help=True, help="A/B tests: check, assign, analyse, watch, report."
)
for _name, _command in experiment_app().items():
    _experiments.command(_name, **help_of(_command))(told_plainly(_command))
app.add_typer(_experiments, name="experiment")


def main() -> None:
    """Run the command line; this is the `skipwise` script."""
    start_anew_with_jemalloc()
    app()


def _stopped() -> NoReturn:
    _say(
        "skipwise: stopped. Unfinished training goes on with the same command and --resume; "
        "nothing half-written was left."
    )
    raise typer.Exit(130)


def _note_for_torchrun(words: str) -> None:
    """Let torchrun, which ends with a long account of its own, close it with these words."""
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if file:
        extra = {"py_callstack": words, "timestamp": str(int(time.time()))}
        note = {"message": {"message": words, "errorCode": 2, "extraInfo": extra}}
        Path(file).write_text(json.dumps(note), encoding="utf-8")


def _say(words: str, style: str | None = None) -> None:
    open_console(stderr=True).print(words, style=style, soft_wrap=True)


if __name__ == "__main__":
    main()
