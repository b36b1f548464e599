"""Is it better than the baselines?

    evaluation card  ->  baselines_section  ->  a verdict per objective, a plot, every figure

- Ahead or behind is said only where the interval of the paired difference is clear of zero.

Reads `evaluation.json`; is read by `page`.
"""

import math
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from skipwise.report.blocks import Block, Cell, Chart, Row, Section, Table, Words
from skipwise.report.cells import (
    DASH,
    MARKS,
    compared_cell,
    figure_cell,
    share_text,
    verdict,
)
from skipwise.report.drawing import FAINT, MARKERS, MUTED, OURS, SERIES, draw
from skipwise.report.findings import Findings
from skipwise.report.names import baseline_name

Card = Mapping[str, Any]

METRICS: Mapping[str, str] = {"auc": "AUC", "gauc": "GAUC", "log_loss": "log-loss", "ece": "ECE"}
OURS_NAME = "Skipwise"
_RANDOM = (
    " “Random” is every order at once, with the share of positives of the training days as its "
    "probability: its AUC and GAUC are 0.5, so that to be apart from it is to be apart from chance."
)
NO_EVALUATION = (
    "No evaluation yet. Make one with `skipwise evaluate RUN --from DAY --to DAY`, then write this "
    "report again."
)


def baselines_section(findings: Findings) -> Section:
    """Set the run beside the baselines, objective by objective."""
    title, card = "Is it better than the baselines?", findings.card
    if card is None:
        missing = Words(role="missing", text=NO_EVALUATION)
        return Section(anchor="baselines", title=title, blocks=(missing,))
    names = binary_objectives(card)
    blocks: list[Block] = [Words(text=_what_was_measured(card)), *_stale(findings)]
    blocks += [_dots(card, names), _verdicts(card, names)]
    blocks += [_figures(card, name, folded=place > 0) for place, name in enumerate(names)]
    return Section(anchor="baselines", title=title, blocks=tuple(blocks))


def binary_objectives(card: Card) -> list[str]:
    """Name the objectives that are yes or no and were learnt."""
    left_out = {"watch", *card.get("masked_objectives", {})}
    return [name for name in card["objectives"] if name not in left_out]


def theirs(card: Card, baseline: str, objective: str) -> Card | None:
    """Return a baseline's figures for an objective; None where it does not predict it."""
    found: Card | None = card["baselines"][baseline]["objectives"].get(objective)
    return found


def _what_was_measured(card: Card) -> str:
    modes = {
        "daily": "each viewer-day is ranked knowing everything up to its start, as a feed "
        "refreshed nightly would",
        "window": "nothing after the training window is known, as for a model left alone",
        "progressive": "each request is ranked knowing everything up to it, as a live feed would",
    }
    return (
        f"Measured on {card['rows']:,} events of {card.get('viewers', 0):,} viewers, "
        f"{card['days']['from']} to {card['days']['to']}, which the run has not seen, in "
        f"{card['mode']} mode: {modes.get(card['mode'], '')}. AUC is the chance that a positive "
        "event scores above a negative one; GAUC the same within a viewer-day or request, what "
        "ranking can use; log-loss in nats per event; ECE how far probabilities lie from what "
        "happens. AUC and GAUC: larger is better; log-loss and ECE: smaller. Small print and "
        "bars: 95 % intervals, over viewers drawn anew; differences are of the same drawn "
        "viewers." + (_RANDOM if _is_every_order(card["baselines"].get("random")) else "")
    )


def _is_every_order(random: Card | None) -> bool:
    """Say whether "random" was measured over all orders; evaluations of before drew one."""
    figures = [found.get("auc") for found in random["objectives"].values()] if random else []
    values = [figure["value"] for figure in figures if figure and figure["value"] is not None]
    return bool(values) and all(math.isclose(value, 0.5) for value in values)


def _stale(findings: Findings) -> list[Block]:
    assert findings.card is not None  # noqa: S101 - the caller has looked
    measured = findings.card.get("run", {}).get("window")
    if measured in (None, findings.run.description["window"]):
        return []
    return [
        Words(
            role="caution",
            text="These figures were measured on an earlier training of this run, with another "
            "window. Run `skipwise evaluate` again.",
        )
    ]


def _dots(card: Card, names: list[str]) -> Chart:
    scorers = [OURS_NAME, *card["baselines"]]

    def paint(figure: Figure) -> None:
        panels = figure.subplots(1, 2, sharey=True)
        for axes, metric in zip(panels, ("auc", "gauc"), strict=True):
            for number, scorer in enumerate(scorers):
                _series(axes, card, names, metric, (scorer, number, len(scorers)))
            axes.axvline(0.5, color=MUTED, linewidth=1, linestyle=":")
            axes.set_xlabel(f"{METRICS[metric]} (0.5 = chance)")
            axes.set_yticks(range(len(names)), names)
            axes.set_ylim(len(names) - 0.5, -0.5)
            axes.grid(visible=False, axis="y")
            for place in range(1, len(names)):
                axes.axhline(place - 0.5, color=FAINT, linewidth=0.6)
        handles, words = panels[0].get_legend_handles_labels()
        figure.legend(handles, words, loc="outside upper left", ncols=3)

    height = 1.1 + len(names) * (0.16 + 0.11 * len(scorers))
    return Chart(
        name="against-baselines",
        title="How well does each tell positives from negatives?",
        reading="Dots are the figures, bars their 95 % intervals; further right is better. A mark "
        "without a bar has too few positives for an interval, or is the random order.",
        svg=draw("against-baselines", "AUC and GAUC by objective and scorer", (8, height), paint),
    )


def _series(
    axes: Axes, card: Card, names: list[str], metric: str, scorer: tuple[str, int, int]
) -> None:
    who, number, of = scorer
    colour, marker = SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)]
    offset = (number - (of - 1) / 2) * 0.8 / of
    label = OURS_NAME if number == 0 else baseline_name(who)
    for place, name in enumerate(names):
        found = card["objectives"][name] if number == 0 else theirs(card, who, name)
        figure = None if found is None else found.get(metric)
        if figure is None or figure["value"] is None:
            continue
        at = place + offset
        if figure["low"] is not None and figure["high"] is not None:
            axes.plot([figure["low"], figure["high"]], [at, at], color=colour, linewidth=1.3)
        filled = OURS if number == 0 else "none"
        axes.plot(figure["value"], at, marker, color=colour, markerfacecolor=filled, markersize=4.5)
    axes.plot(
        [], [], marker, color=colour, markerfacecolor=OURS if number == 0 else "none", label=label
    )


def _verdicts(card: Card, names: list[str]) -> Table:
    return Table(
        caption="Where ours is ahead (▲), behind (▼) or not clearly apart (≈), by AUC, GAUC and "
        "log-loss",
        head=("objective", *(baseline_name(baseline) for baseline in card["baselines"])),
        rows=tuple(
            (name, *(_verdict_cell(theirs(card, baseline, name)) for baseline in card["baselines"]))
            for name in names
        ),
    )


def _verdict_cell(found: Card | None) -> Cell:
    if found is None:
        return Cell(text=DASH, below="does not predict it")
    said = {
        metric: verdict(metric, found["difference"].get(metric))
        for metric in ("auc", "gauc", "log_loss")
    }
    marks = "  ".join(MARKS[each] for each in said.values())
    counts = {
        word: [METRICS[metric] for metric, each in said.items() if each == word]
        for word in ("ahead", "behind")
    }
    words = "; ".join(f"{word} by {', '.join(by)}" for word, by in counts.items() if by)
    tone = "" if bool(counts["ahead"]) == bool(counts["behind"]) else "good"
    return Cell(
        text=marks,
        below=words or ("not clearly apart" if "unclear" in said.values() else "cannot be said"),
        tone="bad" if tone and counts["behind"] else "good" if tone else "",
    )


def _figures(card: Card, name: str, *, folded: bool) -> Table:
    ours = card["objectives"][name]
    rows: list[Row] = [(OURS_NAME, *(figure_cell(ours.get(metric)) for metric in METRICS))]
    for baseline in card["baselines"]:
        found = theirs(card, baseline, name)
        if found is not None:
            cells = (
                compared_cell(metric, found.get(metric), found["difference"].get(metric))
                for metric in METRICS
            )
            rows.append((baseline_name(baseline), *cells))
    reasons = sorted(set(ours.get("reasons", {}).values()))
    return Table(
        caption=f"{name}: {ours['positives']:,} positive of {ours['rows']:,} events "
        f"({share_text(ours['positives'], ours['rows'])})"
        + (f". Not said: {'; '.join(reasons)}" if reasons else ""),
        head=("scorer", *METRICS.values()),
        rows=tuple(rows),
        folded=folded,
    )
