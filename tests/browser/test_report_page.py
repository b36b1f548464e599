"""A report is read on a phone too: only tables and drawings scroll, and their captions stay."""

from pathlib import Path

from matplotlib.figure import Figure

from skipwise.model.objectives import OBJECTIVES
from skipwise.report.blocks import Cell, Chart, Section, Table, Words
from skipwise.report.drawing import draw
from skipwise.report.render import render_page
from tests.browser.conftest import Play

CAPTION = "On how many objectives is the AUC clearly ahead of a baseline's, or behind it, by day?"


def paint(figure: Figure) -> None:
    figure.add_subplot().plot([1, 2, 3], [1, 4, 9])


def test_nothing_is_wider_than_a_phone_but_what_scrolls(play: Play, tmp_path: Path) -> None:
    head = ("what", *(f"day {day}" for day in range(9)))
    wide = Table(caption=CAPTION, head=head, rows=(tuple("0.7712" for _ in head),))
    narrow = Table(caption=CAPTION, head=("what",), rows=(("like",),))
    chart = Chart(
        name="line", title="How soon do people leave?", reading="After so many seconds, per cent.",
        svg=draw("line", "a line", (8, 3), paint),
    )  # fmt: skip
    long_word = Words(text="a" * 300)
    section = Section(anchor="all", title="Is it better?", blocks=(wide, narrow, chart, long_word))
    page = tmp_path / "report.html"
    page.write_text(render_page("Report", "Report on the run “x”", [section]), encoding="utf-8")
    answer = play("measuresReport", file=str(page))
    assert answer["problems"] == []
    phone, desk = answer["told"]["phone"], answer["told"]["desk"]
    for size in (phone, desk):
        assert (size["page"], size["beyond"], size["captions"]) == (False, [], [])
    assert phone["scrolls"] == [True, False, True]
    assert desk["scrolls"] == [False, False, False]


def test_a_figure_with_its_interval_for_each_objective_fits_a_desk(
    play: Play, tmp_path: Path
) -> None:
    """The widest table there is: AUC by part of the events."""
    figure = Cell(text="0.486", below="0.456 to 0.521")
    lacking = Cell(text="-", below="no positive")
    events = Cell(text="123,456", below="100.0\N{NO-BREAK SPACE}%")
    table = Table(
        caption="AUC by part of the events",
        head=("part", "events", *OBJECTIVES),
        rows=(
            ("length 300 s and more", events, *[figure] * len(OBJECTIVES)),
            ("surface: following", "13", *[lacking] * len(OBJECTIVES)),
        ),
    )
    page = tmp_path / "report.html"
    section = Section(anchor="all", title="For whom?", blocks=(table,))
    page.write_text(render_page("Report", "Report on a run", [section]), encoding="utf-8")
    told = play("measuresReport", file=str(page))["told"]
    assert told["desk"]["scrolls"] == [False]
    assert told["phone"]["scrolls"] == [True]
