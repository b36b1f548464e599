"""Commands about the closed loop: let simulated viewers live with real engines.

    skipwise loop EXPERIMENT.toml WORLD --data DATASET --out LOG

- What serves is imported when it is asked for; it comes with the extra `serve`.

Is read by `main`.
"""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from skipwise.cli.arguments import settings_from
from skipwise.cli.console import ConsoleProgress, open_console
from skipwise.cli.program import typed_program
from skipwise.cli.replacing import LOOP_LOG, ReplaceOption, check_out
from skipwise.cli.serving import check_serving_installed
from skipwise.experiments.definition import read_definition


def loop_command(
    definition: Annotated[Path, typer.Argument(metavar="EXPERIMENT", help="TOML file.")],
    world: Annotated[
        Path, typer.Argument(metavar="WORLD", help="Folder of `skipwise simulate OUT living=true`.")
    ],
    data: Annotated[Path, typer.Option("--data", help="DATASET prepared from that world.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write: the log of it all.")],
    seed: Annotated[int, typer.Option(help="Of what viewers do.")] = 0,
    replace: ReplaceOption = False,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Of serving, as in slate.candidates=200."),
    ] = None,
) -> None:
    """Run an experiment on simulated viewers, served by the real pipeline.

    Example: skipwise loop skip-objective.toml world --data dataset --out log
    """
    check_serving_installed()
    from skipwise.loop.closed import loop_settings, run_closed_loop
    from skipwise.serving.readiness import check_ready

    check_out(out, LOOP_LOG, replace=replace)
    read = read_definition(definition)
    check_ready(read)
    facts = run_closed_loop(
        world,
        data,
        read,
        out,
        seed=seed,
        settings=settings_from(loop_settings(seed), None, overrides),
        progress=ConsoleProgress(),
    )
    words = [
        *typed_program(),
        "experiment",
        "analyse",
        str(definition),
        str(out),
        "--out",
        "result",
    ]
    open_console().print(
        f"{out}: simulated, {read.days} days, {facts.events:,} events of {facts.requests:,} "
        f"requests in {facts.wall_s:.0f} s. Next: {shlex.join(words)}",
        soft_wrap=True,
    )
