"""Can the probabilities and seconds be taken at their word, and for whom?

    evaluation card  ->  calibration_section  ->  calibration plots, watch time, slices

Reads `evaluation.json`; is read by `page`.
"""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from skipwise.labels.watch import LabelConfig
from skipwise.report.baselines_section import NO_EVALUATION, binary_objectives
from skipwise.report.blocks import Block, Cell, Chart, Row, Section, Table, Words
from skipwise.report.cells import DASH, figure_cell, number_text, share_text
from skipwise.report.drawing import MUTED, OURS, draw, small_multiples
from skipwise.report.findings import Findings
from skipwise.report.names import part_name
from skipwise.settings import apply_settings

Card = Mapping[str, Any]


def calibration_section(findings: Findings) -> Section:
    """Show calibration, watch time and slices."""
    title, card = "Can its numbers be taken at their word?", findings.card
    if card is None:
        missing = Words(role="missing", text=NO_EVALUATION)
        return Section(anchor="calibration", title=title, blocks=(missing,))
    labels = apply_settings(LabelConfig(), findings.facts["settings"]["labels"])
    plots = [_plots(card["calibration"])] if card["calibration"] else []
    blocks = (*plots, _watch(card), *_slices(card, labels))
    return Section(anchor="calibration", title=title, blocks=blocks)


def _plots(calibration: Card) -> Chart:
    def paint(figure: Figure) -> None:
        panels = small_multiples(figure, len(calibration))
        for place, (axes, (name, bins)) in enumerate(zip(panels, calibration.items(), strict=True)):
            _plot(axes, bins)
            axes.set_title(name)
            axes.set_xlabel("predicted, %")
            axes.set_ylabel("observed, %" if place % 3 == 0 else "")

    height = 2.1 * -(-len(calibration) // 3)
    return Chart(
        name="calibration-plots",
        title="Do as many positives come as were foretold?",
        reading="Each dot is an equal share of the events, from the least to the most probable; "
        "bars are 95 % intervals. On the dotted line, what was foretold came; below it, less.",
        svg=draw("calibration-plots", "Observed over predicted share", (8, height), paint),
        numbers=_bins(calibration),
    )


def _plot(axes: Axes, bins: list[Card]) -> None:
    known = [found for found in bins if found["observed"] is not None]
    most = 0.0
    for found in known:
        seen = found["observed"]
        across = 100 * found["predicted"]
        ends = [100 * (seen[end] if seen[end] is not None else seen["value"]) for end in _ENDS]
        axes.plot([across, across], ends, color=OURS, linewidth=1, alpha=0.7)
        most = max(most, across, ends[1])
    axes.plot(
        [100 * found["predicted"] for found in known],
        [100 * found["observed"]["value"] for found in known],
        "o",
        color=OURS,
        markersize=3.5,
    )
    most = most * 1.05 or 1.0
    axes.plot([0, most], [0, most], color=MUTED, linestyle=":", linewidth=1)
    axes.set_xlim(0, most)
    axes.set_ylim(0, most)


_ENDS = ("low", "high")


def _bins(calibration: Card) -> Table:
    rows: list[Row] = []
    for name, bins in calibration.items():
        for found in bins:
            seen = found["observed"]
            rows.append(
                (
                    name,
                    f"{found['rows']:,}",
                    f"{number_text(found['from'], 4)} to {number_text(found['to'], 4)}",
                    number_text(found["predicted"], 4),
                    figure_cell(seen, 4),
                )
            )
    return Table(
        caption="Calibration by bin",
        head=("objective", "events", "probabilities", "mean predicted", "share observed"),
        rows=tuple(rows),
    )


def _watch(card: Card) -> Table:
    found = card["objectives"].get("watch", {})
    meanings = (
        ("mae_s", "mean absolute error, seconds", 2),
        ("xauc", "XAUC: share of pairs of events put in the right order (0.5 = chance)", 3),
        ("xgauc", "XGAUC: the same within a viewer-day or request", 3),
        ("calibration_ratio", "seconds foretold over seconds watched (1 = as many)", 3),
    )
    return Table(
        caption="How well is the watch time foretold?",
        head=("figure", "value and 95 % interval"),
        rows=tuple(
            (words, figure_cell(found.get(name), digits)) for name, words, digits in meanings
        ),
    )


def _slices(card: Card, labels: LabelConfig) -> list[Block]:
    parts = [
        (part_name(division, part, labels), found)
        for division, among in card["slices"].items()
        for part, found in sorted(among.items(), key=_part_order)
    ]
    if not parts:
        return []
    names = binary_objectives(card)
    table = Table(
        caption="AUC by part of the events",
        head=("part", "events", *names),
        rows=tuple(
            (
                name,
                Cell(text=f"{found['rows']:,}", below=share_text(found["rows"], card["rows"])),
                *(_slice_cell(found.get(objective, {})) for objective in names),
            )
            for name, found in parts
        ),
    )
    drawn = "glance" if "glance" in names else names[0]
    measured = [
        (name, found[drawn]["auc"])
        for name, found in parts
        if found.get(drawn, {}).get("auc") is not None
    ]
    return [_slice_dots(drawn, measured), table] if measured else [table]


def _part_order(item: tuple[str, Any]) -> tuple[int, str]:
    return (int(item[0]), "") if item[0].isdecimal() else (0, item[0])


def _slice_cell(found: Card) -> Cell:
    if found.get("auc") is not None:
        return figure_cell(found["auc"])
    positives, rows = found.get("positives", 0), found.get("rows", 0)
    lacking = "no positive" if not positives else "no negative" if positives == rows else "too few"
    return Cell(text=DASH, below=lacking)


def _slice_dots(objective: str, measured: list[tuple[str, Card]]) -> Chart:
    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        for place, (_, found) in enumerate(measured):
            if found["low"] is not None and found["high"] is not None:
                axes.plot([found["low"], found["high"]], [place, place], color=OURS, linewidth=1.3)
            axes.plot(found["value"], place, "o", color=OURS, markersize=5)
        axes.axvline(0.5, color=MUTED, linewidth=1, linestyle=":")
        axes.set_yticks(range(len(measured)), [name for name, _ in measured])
        axes.set_ylim(len(measured) - 0.5, -0.5)
        axes.set_xlabel(f"AUC of {objective} (0.5 = chance)")

    height = 0.8 + 0.27 * len(measured)
    return Chart(
        name="slices",
        title=f"For whom is {objective} harder to foretell?",
        reading="AUC within each part of the events, with 95 % intervals. Within a part events are "
        "more alike, so its AUC is often below that of all events together.",
        svg=draw("slices", f"AUC of {objective} by part", (8, height), paint),
    )
