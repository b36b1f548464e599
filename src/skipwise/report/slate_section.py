"""What would viewers have met first, had the score ordered what they were shown?

    evaluation card  ->  slate_section  ->  by score, as logged, at random; differences

Reads `evaluation.json`; is read by `page`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skipwise.report.baselines_section import NO_EVALUATION
from skipwise.report.blocks import Block, Cell, Section, Table, Words
from skipwise.report.cells import DASH, figure_cell, interval_text, number_text
from skipwise.report.findings import Findings
from skipwise.report.names import plain

CAUTION = (
    "Caution. The videos ranked here are those an earlier policy chose to show, in an order it "
    "chose or that came about while the viewer was watching: the logged order is not a rival's "
    "ranking, and outcomes seen at one place need not be those at another. These figures say how "
    "well the score orders what was shown; not what would have happened had other videos been "
    "shown. The random order of the same events is the fairer yardstick; what viewers do about "
    "it only an A/B test says."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Outcome:
    """How an outcome is called and counted."""

    words: str
    """With `{k}` for the number of places."""
    more_is_better: bool = True
    digits: int = 3


_OUTCOMES: Mapping[str, _Outcome] = {
    "watch_s": _Outcome(words="watch@{k}: seconds watched", digits=2),
    "glance": _Outcome(words="GVV@{k}: share of glances", more_is_better=False),
    "effective": _Outcome(words="EVV@{k}: share of effective views"),
    "negative": _Outcome(
        words="NEG@{k}: share of explicit negatives", more_is_better=False, digits=4
    ),
}


def slate_section(findings: Findings) -> Section:
    """Show the first places of slates."""
    title, card = "What would come first?", findings.card
    if card is None:
        blocks: tuple[Block, ...] = (Words(role="missing", text=NO_EVALUATION),)
    else:
        blocks = (Words(role="caution", text=CAUTION), _table(card["slate"]))
    return Section(anchor="slates", title=title, blocks=blocks)


def _table(slate: Mapping[str, Any]) -> Table:
    return Table(
        caption="Mean outcome in the first k places of a slate: the events of a viewer-day or "
        "request, ordered by the fused score, as logged, and at random",
        head=(
            "in the first k",
            "by score",
            "as logged",
            "at random",
            "score − random",  # noqa: RUF001 - a minus it is
            "score − logged",  # noqa: RUF001
            "slates",
        ),
        rows=tuple(
            (
                outcome_name(name),
                *(
                    figure_cell(found.get(order), _outcome(name).digits)
                    for order in ("score", "logged", "random")
                ),
                *(
                    _difference(name, found.get(f"score_minus_{who}"))
                    for who in ("random", "logged")
                ),
                Cell(
                    text=f"{found['slates']:,}",
                    below=str(found.get("reasons", {}).get("score", "")),
                ),
            )
            for name, found in slate.items()
        ),
    )


def outcome_name(name: str) -> str:
    """Name what is counted in the first places.

    >>> outcome_name("glance_at_3")
    'GVV@3: share of glances'
    """
    return _outcome(name).words.replace("{k}", name.rpartition("_at_")[2])


def _outcome(name: str) -> _Outcome:
    counted = name.rpartition("_at_")[0]
    return _OUTCOMES.get(counted, _Outcome(words=f"{plain(counted)}@{{k}}"))


def _difference(name: str, figure: Mapping[str, float | None] | None) -> Cell:
    if figure is None or figure["value"] is None:
        return Cell(text=DASH)
    outcome, low, high = _outcome(name), figure["low"], figure["high"]
    sign = "+" if figure["value"] > 0 else ""
    text = f"{sign}{number_text(figure['value'], outcome.digits)}"
    if low is None or high is None:
        return Cell(text=text, below="no interval")
    interval = interval_text(figure, outcome.digits)
    if low <= 0 <= high:
        return Cell(text=text, below=f"{interval}\n≈ no clear difference")
    if (low > 0) == outcome.more_is_better:
        return Cell(text=text, below=f"{interval}\n▲ better", tone="good")
    return Cell(text=text, below=f"{interval}\n▼ worse", tone="bad")
