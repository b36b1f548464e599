"""How like a real log is a world that was fitted to it, on one page?

    facts of held-out days and of the world, Distances  ->  write_fit_page  ->  one HTML file

- What does not fit is named first.

Reads `fit` and `log_facts` of simulation, and the blocks of this folder; is read by the command
line.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from skipwise.report.blocks import Cell, Chart, Row, Section, Table, Words
from skipwise.report.drawing import OURS, SECOND, draw, small_multiples
from skipwise.report.names import plain
from skipwise.report.render import render_page
from skipwise.simulation.fit import Distance
from skipwise.simulation.log_facts import LogFacts
from skipwise.storage import replace_file

_LOGARITHMIC = ("watch time", "views", "length")


def write_fit_page(
    path: Path, held_out: LogFacts, world: LogFacts, distances: Sequence[Distance]
) -> None:
    """Write the page.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    section = Section(
        anchor="fit",
        title="What fits, and what does not",
        blocks=(
            Words(text=fit_words(distances)),
            _table(distances),
            _plots(held_out, world, distances),
        ),
    )
    page = render_page("Skipwise: a fitted world", "How like the log is the world?", [section])
    with replace_file(path) as aside:
        aside.write_text(page, encoding="utf-8", errors="backslashreplace", newline="\n")


def fit_words(distances: Sequence[Distance]) -> str:
    """Say how much fits, and name what does not."""
    missed = [each.name for each in distances if not each.fits]
    number = len(distances)
    if not missed:
        return f"All {number} distributions fit the held-out days."
    return (
        f"{number - len(missed)} of {number} distributions fit the held-out days; these do not: "
        f"{plain(', '.join(missed), 600)}."
    )


def _table(distances: Sequence[Distance]) -> Table:
    rows: list[Row] = [
        (
            plain(each.name),
            f"{each.simulated:.3f}",
            f"{each.own:.3f}",
            Cell(text="fits" if each.fits else "does not fit", tone="" if each.fits else "bad"),
        )
        for each in distances
    ]
    return Table(
        caption="Largest gap between distribution functions (0 = the same, 1 = apart)",
        head=("distribution", "world and held-out days", "fitted and held-out days", "verdict"),
        rows=tuple(rows),
    )


def _plots(held_out: LogFacts, world: LogFacts, distances: Sequence[Distance]) -> Chart:
    names = [each.name for each in distances]

    def paint(figure: Figure) -> None:
        for axes, name in zip(small_multiples(figure, len(names), 2), names, strict=True):
            for facts, colour, style in ((held_out, OURS, "-"), (world, SECOND, "--")):
                values = facts.samples.get(name, np.zeros(0))
                if name == "views of a viewer":
                    values = values / facts.num_days
                at = np.quantile(values, np.linspace(0, 1, 201)) if values.size else values
                axes.plot(at, np.linspace(0, 1, at.size), color=colour, linestyle=style)
            if name.startswith(_LOGARITHMIC):
                axes.set_xscale("symlog", linthresh=1.0)
            axes.set_title(plain(name, 40))

    rows = len(names) + 1 >> 1
    return Chart(
        name="fit",
        title="The distributions, one by one",
        reading="Solid: held-out days of the log. Dashed: the world. Share of values up to each. "
        "Where values differ by orders, the axis is logarithmic above 1.",
        svg=draw("fit", "Distribution functions of log and world", (8.5, 2.1 * rows), paint),
    )
