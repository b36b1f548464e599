"""How does a figure read in a table of the page?

    {"value", "low", "high"}  ->  figure_cell      ->  0.766 over (0.761 to 0.771)
    ours minus theirs         ->  difference_cell  ->  a mark and words: ahead, behind, not clear

- What is not known is a dash; a minus is a minus.
- Ahead and behind are said only where the whole interval lies on one side of zero.

Knows the shapes that `scorecard` and `comparison` make; is read by the sections.
"""

import math
from collections.abc import Mapping
from typing import Literal

from skipwise.evaluation.figures import LARGER_IS_BETTER
from skipwise.report.blocks import Cell

Figure = Mapping[str, float | None] | None
Verdict = Literal["ahead", "behind", "unclear", "unknown"]

DASH = "–"  # noqa: RUF001 - a dash it is
MARKS: Mapping[Verdict, str] = {"ahead": "▲", "behind": "▼", "unclear": "≈", "unknown": DASH}


def number_text(value: float | None, digits: int = 3) -> str:
    """Write a number.

    >>> number_text(-0.5, 1)
    '−0.5'
    """
    if value is None or not math.isfinite(value):
        return DASH
    return f"{value:z,.{digits}f}".replace("-", "\N{MINUS SIGN}")


def share_text(part: float, whole: float, digits: int = 1) -> str:
    r"""Write a share in percent, with a space that does not break.

    >>> share_text(1, 8)
    '12.5\xa0%'
    """
    return f"{100 * part / whole:.{digits}f}\N{NO-BREAK SPACE}%" if whole else DASH


def interval_text(figure: Figure, digits: int = 3) -> str:
    """Write the interval of a figure, or nothing where it has none.

    >>> interval_text({"value": 0.5, "low": 0.25, "high": 0.75}, 2)
    '0.25 to 0.75'
    """
    if figure is None or figure["low"] is None or figure["high"] is None:
        return ""
    return f"{number_text(figure['low'], digits)} to {number_text(figure['high'], digits)}"


def figure_cell(figure: Figure, digits: int = 3) -> Cell:
    """Write a figure over its interval."""
    if figure is None or figure["value"] is None:
        return Cell(text=DASH)
    return Cell(text=number_text(figure["value"], digits), below=interval_text(figure, digits))


def verdict(metric: str, difference: Figure) -> Verdict:
    """Say whether ours is ahead, by ours minus theirs.

    >>> verdict("log_loss", {"value": -0.02, "low": -0.03, "high": -0.01})
    'ahead'
    """
    if difference is None or difference["low"] is None or difference["high"] is None:
        return "unknown"
    if difference["low"] <= 0 <= difference["high"]:
        return "unclear"
    return "ahead" if (difference["low"] > 0) == LARGER_IS_BETTER[metric] else "behind"


_BOUNDED = ("low", "value", "high")


def difference_words(metric: str, difference: Figure, digits: int = 3) -> str:
    """Say in words, with a mark, how far ours is ahead, and between which bounds.

    >>> difference_words("auc", {"value": 0.02, "low": 0.01, "high": 0.03}, 2)
    '▲ ours ahead by 0.02 (0.01 to 0.03)'
    """
    said = verdict(metric, difference)
    if difference is None or difference["value"] is None or said == "unknown":
        return ""
    if said == "unclear":
        return f"{MARKS[said]} no clear difference"
    known = [abs(part) for part in (difference[at] for at in _BOUNDED) if part is not None]
    near, value, far = sorted(known)
    bounds = f"{number_text(near, digits)} to {number_text(far, digits)}"
    return f"{MARKS[said]} ours {said} by {number_text(value, digits)} ({bounds})"


def compared_cell(metric: str, figure: Figure, difference: Figure, digits: int = 3) -> Cell:
    """Write a baseline's figure over its interval and what ours is beside it."""
    plain = figure_cell(figure, digits)
    said = verdict(metric, difference)
    words = difference_words(metric, difference, digits)
    return Cell(
        text=plain.text,
        below="\n".join(part for part in (plain.below, words) if part),
        tone="good" if said == "ahead" else "bad" if said == "behind" else "",
    )
