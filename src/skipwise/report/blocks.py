"""What is a page made of?

    sections  ->  Section: blocks (Words, Facts, Table, Chart)  ->  page.html.jinja  ->  HTML

- Text stays text until the template, which escapes it; only a drawing's SVG is markup.
- A chart has a title that asks a question, words that say how to read it, and its numbers.

Knows nothing of Skipwise; is read by every file of this folder.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from markupsafe import Markup

Tone = Literal["", "good", "bad"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One field of a table."""

    text: str
    below: str = ""
    """Smaller lines under it."""
    tone: Tone = ""
    """Coloured so; the text says the same in words."""


Row = tuple[str | Cell, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Words:
    """A paragraph."""

    kind: ClassVar[str] = "words"
    text: str
    role: Literal["plain", "caution", "missing"] = "plain"
    """A caution is framed; what is missing says how to get it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """One number that stands for itself."""

    name: str
    value: str
    below: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """A few numbers side by side."""

    kind: ClassVar[str] = "facts"
    facts: tuple[Fact, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Rows under a heading; the first field of a row names it."""

    kind: ClassVar[str] = "table"
    caption: str
    head: tuple[str, ...]
    rows: tuple[Row, ...]
    folded: bool = False
    """Whether the caption is all that shows until it is opened."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """A drawing that answers one question."""

    kind: ClassVar[str] = "chart"
    name: str
    """Unique on the page."""
    title: str
    reading: str
    """How to read it."""
    svg: Markup
    numbers: Table | None = None
    """What is drawn, for those who cannot see it."""


Block = Words | Facts | Table | Chart


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """One part of the page."""

    anchor: str
    """Unique on the page."""
    title: str
    blocks: tuple[Block, ...]
