"""How a run goes on learning: from a log that grows, or from what a server is sent.

    skipwise train RUN --follow LOG | sqlite:STATE --out FOLDER

- torch is loaded when a log is followed, as everywhere in this folder.

Is read by `learning`.
"""

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ibis.backends.duckdb import Backend as Connection

from skipwise.cli.arguments import data_engine, settings_from
from skipwise.cli.console import ConsoleProgress, open_console
from skipwise.cli.serving import check_serving_installed
from skipwise.errors import SettingError
from skipwise.events.read import EventLog, read_log

LOG_FOLDER = "log"


def follow_log(
    run: Path,
    log: str,
    before: Path | None,
    out: Path,
    told: tuple[Path | None, list[str] | None],
    *,
    once: bool,
) -> None:
    """Follow a log, or a state, until Ctrl-C; the same command goes on where it stopped.

    Args:
        run: RUN to begin with.
        log: Folder of a log, or a state as `skipwise serve --state` names it.
        before: With a state: the log that the server's dataset was prepared from.
        out: Folder to publish in; with a state, OUT/log is the log as it was read from it.
        told: Settings file and words.
        once: Stop when there is no more.

    Raises:
        SettingError: A state without the log before it, or the other way round.
    """
    from skipwise.loop.served_log import is_state
    from skipwise.training.follow import Follower, FollowSettings, follow

    if is_state(log) != (before is not None):
        raise SettingError(
            "--before LOG must be given with the state of a server as --follow, and only then: a "
            "model learns from what was served after what was before. Add it, or leave it out."
        )
    settings = settings_from(FollowSettings(), *told)
    pull: Callable[[], object] = _nothing
    if before is not None:
        pull = _served(log, before, out / LOG_FOLDER, settings.late_minutes)
    path = Path(log) if before is None else out / LOG_FOLDER
    follower = Follower(run, out, settings, ConsoleProgress(), _show_part)
    with contextlib.ExitStack() as stack:

        def read() -> tuple[EventLog, Connection]:
            stack.close()
            pull()
            connection = stack.enter_context(data_engine())
            return read_log(path, connection), connection

        follow(follower, read, once=once)
    open_console().print(
        f"{out}: {follower.position.rows:,} events, {follower.position.published} models."
    )


def _served(state: str, before: Path, folder: Path, late_minutes: float) -> Callable[[], object]:
    check_serving_installed()
    from skipwise.loop.served_log import ServedLog
    from skipwise.serving.opening import join_state

    with data_engine() as connection:
        served = ServedLog(
            folder,
            join_state(state),
            lambda: read_log(before, connection),
            late_minutes=late_minutes,
        )
    return served.pull


def _nothing() -> None:
    """Pull nothing: the log grows by itself."""


def _show_part(line: Mapping[str, Any]) -> None:
    tested = line["tested"]
    words = "  ".join(
        f"{name} {tested[name]['log_loss']:.4f}"
        for name in ("glance", "long", "effective", "like")
        if name in tested
    )
    open_console(stderr=True).print(
        f"{line['events']:,} events: log-loss before learning them  {words}", soft_wrap=True
    )
