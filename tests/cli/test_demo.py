"""The demo ends with a page where somebody looks, and with the command for it where nobody does."""

import re
import shlex
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from skipwise.cli import demo
from skipwise.cli.demo import AS_OF_LOG, serve_or_tell
from skipwise.cli.program import typed_program


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was served, in place of serving it until Ctrl-C."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(
        demo, "serve_command", lambda run, **options: calls.append({"run": run, **options})
    )
    return calls


@pytest.mark.parametrize(("serve", "terminal"), [(None, False), (False, True), (False, False)])
def test_without_a_terminal_or_with_no_serve_the_command_is_named_and_nothing_served(
    serve: bool | None,
    terminal: bool,
    served: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    (tmp_path / "state.db-wal").touch()
    serve_or_tell(tmp_path, serve)
    assert served == []
    command, rest = capsys.readouterr().out.split("\n", 1)
    assert shlex.split(command) == [
        *(*typed_program(), "serve", str(tmp_path / "run")),
        *("--state", f"sqlite:{tmp_path / 'state.db'}", AS_OF_LOG),
    ]
    assert "http://127.0.0.1:8080/" in rest
    assert not (tmp_path / "state.db-wal").exists()


@pytest.mark.parametrize(("serve", "terminal"), [(None, True), (True, False)])
def test_at_a_terminal_or_with_serve_the_address_it_serves_at_is_named(
    serve: bool | None,
    terminal: bool,
    served: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    serve_or_tell(tmp_path, serve)
    (call,) = served
    (port,) = re.findall(r"http://127\.0\.0\.1:(\d+)/", capsys.readouterr().out)
    assert call == {
        "run": tmp_path / "run",
        "state": f"sqlite:{tmp_path / 'state.db'}",
        "port": int(port),
        "overrides": [AS_OF_LOG],
    }


def test_a_port_somebody_listens_on_is_passed_over(
    served: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        free = demo._free_port
        monkeypatch.setattr(demo, "_free_port", lambda: free(port))
        serve_or_tell(tmp_path, True)
    assert served[0]["port"] > port
