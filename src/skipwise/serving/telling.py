"""What does a server say of itself while it comes up?

    host, port  ->  check_port, say_when_ready  ->  a refusal, or one line when it answers
    RUN folders ->  say_exports                 ->  a line for each that is exported first

- A port that somebody listens on is refused before anything is read.

Reads `onnx`; is read by `serve`.
"""

import http.client
import socket
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from time import sleep

from skipwise.errors import SettingError
from skipwise.serving.onnx import announced, is_exported
from skipwise.training.checkpoint import read_description

Say = Callable[[str], None]
_LOOK_EVERY_S = 0.2


def check_port(host: str, port: int) -> None:
    """Refuse an address that cannot be listened on.

    Raises:
        SettingError: Somebody else listens there, or the host is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as problem:
            raise SettingError(
                f"--host {host} --port {port} cannot be listened on ({problem.strerror}); the port "
                "must be free and the host this machine's. Give another --port, or stop what "
                "listens there."
            ) from None


def say_exports(runs: Iterable[Path], say: Say) -> None:
    """Say which runs are exported to ONNX before they are served, for that takes its time.

    Raises:
        RunError: A folder holds no run.
    """
    for run in dict.fromkeys(runs):
        read_description(run)
        if not is_exported(run):
            say(announced(run))


def say_when_ready(host: str, port: int, say: Say) -> None:
    """Say where it answers as soon as it does, from a thread that ends with the process."""

    def wait() -> None:
        while not _answers(host, port):
            sleep(_LOOK_EVERY_S)
        at = f"[{host}]" if ":" in host else host
        say(f"ready: http://{at}:{port}/ (the feed), /lab, /docs. Ctrl-C ends it")

    threading.Thread(target=wait, name="ready", daemon=True).start()


def _answers(host: str, port: int) -> bool:
    near = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - where it listens
    connection = http.client.HTTPConnection(near, port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
