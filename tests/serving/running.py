"""A server on a real socket: in a thread of the tests, or as the command with its processes."""

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette

from skipwise.serving.opening import prepare_state
from skipwise.serving.serve import Service, ServiceSettings, app_of
from skipwise.serving.state.store import StateSettings, open_store
from skipwise.serving.worker import LimitSettings

PATIENT = ServiceSettings(limits=LimitSettings(wait_ms=60_000, deadline_ms=60_000))
"""For machines that are busy with other tests."""


class Client(httpx.Client):
    """Talks to a server; `ask` also checks that it was granted."""

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.request(method, path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def rank(self, viewer_id: str, candidates: list[str], **more: Any) -> Any:
        return self.ask(
            "POST", "/v1/rank", {"viewer_id": viewer_id, "candidates": candidates, **more}
        )

    def keep(self, *events: dict[str, Any]) -> Any:
        return self.ask("POST", "/v1/events", {"events": list(events)})


def event(place: int, viewer_id: str, video_id: str, **more: Any) -> dict[str, Any]:
    """One view of 20 s, at its own place in time."""
    return {
        "event_id": f"e{place}",
        "viewer_id": viewer_id,
        "video_id": video_id,
        "shown_at_ms": 1_700_000_000_000 + place * 60_000,
        "watch_ms": 20_000,
        "duration_ms": 30_000,
        **more,
    }


@contextlib.contextmanager
def running(service: Service) -> Iterator[Client]:
    """Run a server in a thread, patient unless told otherwise."""
    if service.settings == ServiceSettings():
        service = dataclasses.replace(service, settings=PATIENT)
    store = open_store(service.state)
    prepare_state(service.run, service.data, store, StateSettings())
    store.close()
    with answering(app_of(service)) as client:
        yield client


@contextlib.contextmanager
def answering(app: Starlette) -> Iterator[Client]:
    """Let an application answer on a socket, in a thread."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        with Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            _wait(client)
            yield client
        server.should_exit = True
        thread.join(timeout=20)
        assert not thread.is_alive()


class Command:
    """`skipwise serve` as a process, with its workers."""

    def __init__(
        self, run: Path, data: Path, state: str, *words: str, backend: str = "eager"
    ) -> None:
        self.port = _free_port()
        self.arguments = [
            *(sys.executable, "-m", "skipwise.cli.main", "serve", str(run), "--data", str(data)),
            *("--state", state, "--port", str(self.port), *words),
            *("--backend", backend),
            *("limits.wait_ms=60000", "limits.deadline_ms=60000"),
        ]
        self.client = Client(base_url=f"http://127.0.0.1:{self.port}", timeout=20)

    def start(self) -> "Command":
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(  # noqa: S603
            self.arguments,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        _wait(self.client, self.process)
        return self

    def workers(self) -> list[int]:
        """Return the pids of the worker processes."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [
            int(pid)
            for pid in children.read_text().split()
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]

    def stop(self, sign: int = signal.SIGTERM) -> str:
        """Stop it; returns what it printed."""
        self.process.send_signal(sign)
        printed, _ = self.process.communicate(timeout=40)
        self.client.close()
        return printed.decode()


def _wait(client: httpx.Client, process: "subprocess.Popen[bytes] | None" = None) -> None:
    for _ in range(1200):
        try:
            if client.get("/health").status_code == 200:
                return
        except httpx.HTTPError:
            pass
        if process is not None and process.poll() is not None:
            raise AssertionError(process.communicate()[0].decode())
        time.sleep(0.05)
    raise AssertionError("the server does not answer")


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port
