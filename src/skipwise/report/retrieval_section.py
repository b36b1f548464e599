"""Are the videos that viewers went on to watch among the few that retrieval finds?

    evaluation card  ->  retrieval_section  ->  recall@k of the head, popularity, co-occurrence

Reads `evaluation.json`; is read by `page`.
"""

from collections.abc import Mapping
from typing import Any

from skipwise.report.baselines_section import NO_EVALUATION
from skipwise.report.blocks import Block, Section, Table, Words
from skipwise.report.cells import compared_cell
from skipwise.report.findings import Findings
from skipwise.report.names import plain

NAMES: Mapping[str, str] = {
    "ours": "the model's retrieval head",
    "popularity": "popularity: effective views of the last days",
    "co_occurrence": "item co-occurrence: watched by those who watched the same",
}
_NOT_MEASURED = (
    "This evaluation holds no figures of retrieval. Run `skipwise evaluate` again to measure it."
)


def retrieval_section(findings: Findings) -> Section:
    """Show which share of what was watched would have been found."""
    title, card = "Does retrieval find what is watched?", findings.card
    if card is None:
        blocks: tuple[Block, ...] = (Words(role="missing", text=NO_EVALUATION),)
    elif "retrieval" not in card:
        blocks = (Words(role="missing", text=_NOT_MEASURED),)
    elif not card["retrieval"].get("at"):
        why = plain(str(card["retrieval"].get("reason", "nothing was measured")))
        blocks = (Words(role="missing", text=f"Not measured: {why}."),)
    else:
        blocks = (Words(text=_counted(card["retrieval"])), _table(card["retrieval"]["at"]))
    return Section(anchor="retrieval", title=title, blocks=blocks)


def _counted(found: Mapping[str, Any]) -> str:
    return (
        f"{found['views']:,} effective views by {found['viewers']:,} viewers, each of a video the "
        f"viewer had not been shown before, are looked for among all {found['videos']:,} videos; "
        f"{found['seen_before']:,} effective views of videos shown before are left out. A feed "
        "ranks only what retrieval has found."
    )


def _table(at: Mapping[str, Any]) -> Table:
    finders = [name for name in next(iter(at.values())) if name != "ahead"]
    return Table(
        caption="Recall: the share of those views whose video is among the first k found",
        head=("found by", *(f"recall@{k}" for k in at)),
        rows=tuple(
            (
                NAMES.get(name, plain(name)),
                *(
                    compared_cell("recall", level.get(name), level["ahead"].get(name))
                    for level in at.values()
                ),
            )
            for name in finders
        ),
    )
