"""What does --help say of a command?

    docstring  ->  help_of  ->  the whole text, examples line by line; the line of the command list

- An example can be copied: it keeps its line, and a long one is broken as a shell reads it.

Is read by `main`.
"""

import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any, TypedDict

_EXAMPLE = "Example: "
_EXAMPLE_WIDTH = 75
"""With what stands before it and the backslash behind it, less than 80 columns."""
_AS_IT_IS = "\b\n"
"""Before a paragraph whose lines are not to be filled anew."""


class HelpTexts(TypedDict):
    """What typer takes."""

    help: str
    short_help: str


def help_of(command: Callable[..., Any]) -> HelpTexts:
    """Return how a command is told: whole, with examples that can be copied, and in the list.

    An example keeps its line; a long one is broken as a shell reads it, with a backslash.
    """
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    examples = [
        " \\\n".join(_broken(" ".join(each.split())))
        for paragraph in paragraphs
        if paragraph.startswith(_EXAMPLE)
        for each in re.split(rf"^(?={_EXAMPLE})", paragraph, flags=re.MULTILINE)
        if each
    ]
    told = [paragraph for paragraph in paragraphs if not paragraph.startswith(_EXAMPLE)]
    whole = "\n\n".join([*told, _AS_IT_IS + "\n".join(examples)])
    return {"help": whole, "short_help": told[0]}


def _broken(example: str) -> list[str]:
    return textwrap.wrap(
        example,
        _EXAMPLE_WIDTH,
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
