"""What does somebody type to run this program again, from where they stand?

    argv, PATH, folder -> typed_program -> skipwise, or .venv/bin/skipwise, or PYTHON -m skipwise

- The plain name is told only where the shell would find this very program by it.

Is read by the commands that name another one.
"""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

NAME = "skipwise"


def typed_program(
    argv: Sequence[str] | None = None, executable: str | None = None, path: str | None = None
) -> list[str]:
    """Return the words that run this program again, typed in the current folder.

    Args:
        argv: This process's; else its own.
        executable: Its Python; else its own.
        path: Where the shell looks for programs; else PATH.
    """
    script = Path((sys.argv if argv is None else argv)[0])
    found = shutil.which(NAME, path=path)
    if script.name == NAME and script.is_file():
        same = found is not None and os.path.samefile(found, script)
        return [NAME] if same else [_from_here(script)]
    return [_from_here(Path(executable or sys.executable)), "-m", NAME]


def _from_here(program: Path) -> str:
    """Name a file as a shell in this folder runs it: no link is followed, for a venv is one."""
    here, absolute = Path.cwd(), Path(os.path.abspath(program))
    if not absolute.is_relative_to(here):
        return str(absolute)
    near = str(absolute.relative_to(here))
    return near if os.sep in near else f".{os.sep}{near}"
