"""Commands about serving: answer requests, make a key.

    skipwise serve RUN [--data DATASET] [--state sqlite:PATH | redis://...]
    skipwise key NAME --keys FILE

- What serves is imported when it is asked for; it comes with the extra `serve`.

Is read by `main`.
"""

from pathlib import Path
from typing import Annotated, get_args

import typer

from skipwise.cli.arguments import settings_from
from skipwise.cli.console import ConsoleProgress, open_console
from skipwise.errors import SettingError
from skipwise.settings import apply_settings, check_choice


def serve_command(  # noqa: PLR0913, PLR0917 - options of a command
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A trained run.")],
    data: Annotated[
        Path | None, typer.Option("--data", help="Dataset to start from; else the run's own.")
    ] = None,
    state: Annotated[
        str | None,
        typer.Option("--state", help="sqlite:PATH or redis://HOST; else RUN/state.db."),
    ] = None,
    keys: Annotated[
        Path | None, typer.Option("--keys", help="Keys file of `skipwise key`.")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights", help="Score weights, as `skipwise tune` writes; else the state's."
        ),
    ] = None,
    follow: Annotated[
        Path | None,
        typer.Option(
            "--follow", help="Folder of `skipwise train --follow`: its models are taken over."
        ),
    ] = None,
    experiment: Annotated[
        Path | None,
        typer.Option("--experiment", help="Definition whose variants answer their viewers."),
    ] = None,
    backend: Annotated[
        str,
        typer.Option(
            help="onnx, eager, or compiled, which needs a C++ compiler. onnx exports each run "
            "once, at its first start or swap: a minute or two; eager needs none."
        ),
    ] = "onnx",
    workers: Annotated[int, typer.Option(help="Processes.")] = 1,
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="On which port.")] = 8080,
    config: Annotated[Path | None, typer.Option(help="TOML file of settings.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="As in serving.slate.explore_share=0.05."),
    ] = None,
) -> None:
    """Serve a feed over HTTP; what it can do is at /docs.

    Example: skipwise serve run --data dataset --workers 2
    """
    check_serving_installed()
    from skipwise.serving.backends import BackendName
    from skipwise.serving.serve import Service, ServiceSettings, serve

    check_choice("--backend", backend, get_args(BackendName))
    service = Service(
        run=run,
        data=data,
        state=state or f"sqlite:{run / 'state.db'}",
        keys=keys,
        weights=weights,
        follow=follow,
        experiment=experiment,
        workers=workers,
        host=host,
        port=port,
        settings=settings_from(
            apply_settings(ServiceSettings(), {"serving": {"backend": backend}}), config, overrides
        ),
    )
    console = open_console(stderr=True)
    serve(service, ConsoleProgress(), lambda words: console.print(words, soft_wrap=True))


def key_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is.")],
    keys: Annotated[Path, typer.Option("--keys", help="File to keep its hash in.")],
    scopes: Annotated[
        str, typer.Option(help="Some of feed,events,admin, with commas.")
    ] = "feed,events",
) -> None:
    """Make an API key and show it, once.

    Example: skipwise key app --keys keys.json --scopes feed,events
    """
    check_serving_installed()
    from skipwise.serving.trust import add_key

    typer.echo(add_key(keys, name, [scope.strip() for scope in scopes.split(",")]))


def check_serving_installed() -> None:
    """Refuse, with the remedy, where the extra `serve` is not installed."""
    try:
        import faiss  # noqa: F401
        import msgspec  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as problem:
        raise SettingError(
            f"serving needs {problem.name}, which is not installed; it comes with an extra. "
            "In a clone: pip install '.[serve]'."
        ) from None
