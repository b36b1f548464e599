"""Commands as a user types them, and a folder in which the first of them have run."""

import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from skipwise.cli.main import app

TRAINING = ("--preset", "tiny", "passes_at_most=1", "threads=1", "optimizer.learning_rate=0.01")


HEEDING_CONTROL_C = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from skipwise.cli.main import main; main()"
)
"""The program where tests run in the background too: a shell then has Ctrl-C ignored."""


def skipwise(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user would, in a process of its own, piped."""
    return subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", "from skipwise.cli.main import main; main()", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )


def told(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run it in this process, piped: a process of its own would mostly import torch."""
    done = CliRunner().invoke(app, list(map(str, words)))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)
