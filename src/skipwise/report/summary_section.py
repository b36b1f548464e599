"""What matters most, in a handful of numbers?

    Findings  ->  summary_section  ->  facts

Reads `evaluation.json` and `run.json`; is read by `page`.
"""

from collections.abc import Mapping
from typing import Any

from skipwise.report.baselines_section import NO_EVALUATION, binary_objectives, theirs
from skipwise.report.blocks import Block, Fact, Facts, Section, Table, Words
from skipwise.report.cells import DASH, MARKS, difference_words, interval_text, number_text, verdict
from skipwise.report.findings import Findings
from skipwise.report.names import baseline_name

_SHOWN = ("glance", "effective", "long", "like")


def summary_section(findings: Findings) -> Section:
    """Show the figures one asks for first."""
    card = findings.card
    blocks: tuple[Block, ...]
    if card is None:
        blocks = (Words(role="missing", text=NO_EVALUATION),)
    else:
        names = [name for name in _SHOWN if name in binary_objectives(card)]
        blocks = (
            Facts(facts=tuple(_fact(card, name) for name in names)),
            _ahead(card),
        )
    return Section(anchor="summary", title="In short", blocks=blocks)


def _fact(card: Mapping[str, Any], name: str) -> Fact:
    figure = card["objectives"][name].get("auc")
    if figure is None:
        return Fact(name=f"{name}, AUC", value=DASH, below="cannot be said")
    best = _best_baseline(card, name)
    beside = ""
    if best is not None:
        found = theirs(card, best, name)
        words = "" if found is None else difference_words("auc", found["difference"].get("auc"))
        beside = f"\n{words} of {baseline_name(best)}" if words else ""
    return Fact(
        name=f"{name}, AUC",
        value=number_text(figure["value"]),
        below=f"{interval_text(figure) or 'no interval'}{beside}",
    )


def _best_baseline(card: Mapping[str, Any], objective: str) -> str | None:
    """Name the baseline with the highest AUC; None where none has one."""
    found = {}
    for name in card["baselines"]:
        figures = theirs(card, name, objective)
        if figures is not None and figures.get("auc") is not None:
            found[name] = figures["auc"]["value"]
    return max(found, key=lambda name: found[name]) if found else None


def _ahead(card: Mapping[str, Any]) -> Table:
    names = binary_objectives(card)
    rows = []
    for baseline in card["baselines"]:
        said = [
            verdict("auc", found["difference"].get("auc"))
            for name in names
            if (found := theirs(card, baseline, name)) is not None
        ]
        counts = (str(said.count(word)) for word in ("ahead", "behind"))
        rows.append((baseline_name(baseline), *counts, str(len(said))))
    return Table(
        caption="On how many objectives is the AUC clearly ahead of a baseline's, or behind it?",
        head=("baseline", f"{MARKS['ahead']} ahead", f"{MARKS['behind']} behind", "of"),
        rows=tuple(rows),
    )
