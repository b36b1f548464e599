"""--help: each command there is, its examples fit to be copied, no summary cut."""

import itertools
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from skipwise.cli.main import app

REPOSITORY = Path(__file__).resolve().parents[2]


def shown_by(*words: str) -> str:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_every_command_of_the_readme_exists_and_takes_what_is_shown() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    shown = re.findall(r"^\$ (?:\.venv/bin/)?(skipwise [^#\n]+)", readme, flags=re.MULTILINE)
    assert len(shown) >= 6
    help_of: dict[tuple[str, ...], str] = {}
    for line in shown:
        words = shlex.split(line)[1:]
        command = tuple(words[: 2 if words[0] == "experiment" else 1])
        if command not in help_of:
            help_of[command] = shown_by(*command, "--help")
        help_text = help_of[command]
        for option in (word for word in words if word.startswith("--")):
            assert option in help_text, line


COMMANDS = (
    *("simulate", "inspect", "prepare", "train", "evaluate", "report", "serve", "key", "loop"),
    *("tune", "offpolicy", "demo"),
    *(f"experiment {name}" for name in ("check", "assign", "analyse", "report", "watch")),
)


def test_help_shows_examples_that_can_be_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each begins a line, reads as one command, and has options the command knows."""
    monkeypatch.setenv("COLUMNS", "80")
    for command in COMMANDS:
        text = shown_by(*command.split(), "--help")
        assert max(map(len, text.splitlines())) <= 80, command
        assert text.count("Example:") == len(re.findall(r"^ *Example:", text, flags=re.MULTILINE))
        shown = re.findall(r"^ *Example: ((?:.*\\\n)*.*)$", text, flags=re.MULTILINE)
        assert shown, command
        lines = text[text.index("Example:") :].split("\n\n")[0].splitlines()
        for before, line in itertools.pairwise(lines):
            assert line.lstrip().startswith("Example:") or before.endswith("\\"), line
        for example in shown:
            words = shlex.split(example)
            assert words[: 1 + len(command.split())] == ["skipwise", *command.split()]
            assert words[-1] not in {"", "\\"}
            assert {word for word in words if word.startswith("--")} <= set(text.split())


def test_no_summary_in_the_list_of_commands_is_cut() -> None:
    for words in ((), ("experiment",)):
        listed = shown_by(*words, "--help")
        assert "..." not in listed.split("Commands:")[1]
    assert "watch" in shown_by("--help")
