"""The command that is named at the end runs, typed where its reader stands."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import skipwise
from skipwise.cli.program import typed_program

SCRIPT = """#!{python}
import sys
from pathlib import Path

from skipwise.cli.demo import serve_or_tell
from skipwise.cli.main import main

serve_or_tell(Path("a demo"), False) if sys.argv[1:] == ["demo"] else main()
"""
"""Installed as `make demo` installs it; the demo's end in place of the whole."""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program in a .venv of the folder that one stands in, which is not on PATH."""
    made = tmp_path / ".venv" / "bin" / "skipwise"
    made.parent.mkdir(parents=True)
    made.write_text(SCRIPT.format(python=sys.executable))
    made.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.defpath)
    monkeypatch.setenv("PYTHONPATH", str(Path(skipwise.__file__).parents[1]))
    assert shutil.which("skipwise") is None
    return made


def ran(*words: str) -> str:
    """Run a command as a shell in this folder does."""
    done = subprocess.run(["sh", "-c", shlex.join(words)], capture_output=True, text=True)  # noqa: S603, S607, PLW1510
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("on_path", "named"), [(False, ".venv/bin/skipwise"), (True, "skipwise")])
def test_the_demo_ends_with_a_command_that_runs_where_one_stands(
    script: Path, monkeypatch: pytest.MonkeyPatch, on_path: bool, named: str
) -> None:
    if on_path:
        monkeypatch.setenv("PATH", f"{script.parent}:{os.defpath}")
    words = shlex.split(ran(".venv/bin/skipwise", "demo").split("\n", 1)[0])
    assert words[:3] == [named, "serve", "a demo/run"]
    assert "--state" in ran(*words[:2], "--help")


def test_another_skipwise_on_the_path_is_not_taken_for_this_one(script: Path) -> None:
    other = script.parents[2] / "other" / "skipwise"
    other.parent.mkdir()
    shutil.copy(script, other)
    assert typed_program([str(script)], path=str(other.parent)) == [".venv/bin/skipwise"]
    assert typed_program([str(other)], path=str(other.parent)) == ["skipwise"]


def test_what_lies_elsewhere_is_named_in_full_and_what_lies_here_with_a_dot(
    script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(script.parent)
    assert typed_program([str(script)]) == ["./skipwise"]
    (script.parents[2] / "elsewhere").mkdir()
    monkeypatch.chdir(script.parents[2] / "elsewhere")
    assert typed_program([str(script)]) == [str(script)]


def test_a_module_is_run_by_the_same_python(script: Path) -> None:
    python = str(script.with_name("python"))
    words = typed_program(["/somewhere/skipwise/__main__.py"], executable=python)
    assert words == [".venv/bin/python", "-m", "skipwise"]
