"""Whom does each objective listen to?

    the run's weights  ->  relations_section  ->  the objective-to-objective matrix

Reads `model`; is read by `page`.
"""

import math

from matplotlib.figure import Figure

from skipwise.model.objectives import CURVE_CUTS, WATCH, Predictor
from skipwise.report.blocks import Chart, Section, Table, Words
from skipwise.report.cells import number_text
from skipwise.report.drawing import draw, heat_map
from skipwise.report.findings import Findings


def relations_section(findings: Findings) -> Section:
    """Show the matrix of messages between objectives."""
    title = "How do the objectives relate?"
    predictor = findings.run.model.predictor
    if predictor.messages is None:
        text = (
            f"This run's objectives do not listen to each other: its relation mode is "
            f"{predictor.relation}. Train with model.objectives.relation=curve or =messages."
        )
        missing = Words(role="missing", text=text)
        return Section(anchor="relations", title=title, blocks=(missing,))
    values = predictor.messages.matrix().detach().double().tolist()
    names = [_tower_name(name, predictor) for name in predictor.messages.names]
    shown = [
        [math.nan if across == down else value for across, value in enumerate(row)]
        for down, row in enumerate(values)
    ]
    return Section(anchor="relations", title=title, blocks=(_chart(shown, names, findings),))


def _chart(values: list[list[float]], names: list[str], findings: Findings) -> Chart:
    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        heat_map(axes, values, names, names, strong_from=0.5)
        axes.set_xlabel("is listened to")
        axes.set_ylabel("listens")

    even = 1 / max(len(names) - 1, 1)
    curve = findings.run.settings.model.objectives.relation == "curve"
    cuts = [name for name in CURVE_CUTS if name in findings.run.model.objectives]
    said = f" The watch curve stands for {', '.join(cuts)}, which are cuts of it." if curve else ""
    return Chart(
        name="relations",
        title="Whom does each objective listen to?",
        reading="Each row is an objective, and how it shares out its listening among the others; "
        f"rows sum to 1, and {even:.2f} everywhere means that none is preferred.{said}",
        svg=draw(
            "relations",
            "Weights of messages between objectives",
            (8, 1.4 + 0.38 * len(names)),
            paint,
        ),
        numbers=Table(
            caption="Weight of each message",
            head=("listens", *names),
            rows=tuple(
                (name, *(number_text(value, 3) for value in row))
                for name, row in zip(names, values, strict=True)
            ),
        ),
    )


def _tower_name(name: str, predictor: Predictor) -> str:
    if name != WATCH:
        return name
    return "watch curve" if predictor.watch is None else "watch time"
