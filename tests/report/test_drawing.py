"""Drawings: text stays text, colours are the page's, nothing refers outside."""

import re

from matplotlib.figure import Figure

from skipwise.report.drawing import INK, OURS, draw, heat_map, small_multiples
from tests.report.pages import Page

HOSTILE = "<script>alert('x')</script> & $\\frac{1}{$ --> 推荐"


def line(figure: Figure) -> None:
    axes = figure.add_subplot()
    axes.plot([1, 2, 3], [1, 4, 9], "o-", color=OURS)
    axes.set_xlabel("seconds")


def test_text_stays_text_and_is_escaped() -> None:
    """A formula that cannot be parsed, markup, and glyphs that the font lacks."""

    def paint(figure: Figure) -> None:
        line(figure)
        figure.axes[0].set_title(HOSTILE)

    svg = draw("odd", HOSTILE, (4, 2), paint)
    page = Page(svg)
    assert HOSTILE in page.text
    assert page.tags().isdisjoint({"script"})
    assert page.elements[0][1]["aria-label"] == HOSTILE


def test_colours_are_left_to_the_page() -> None:
    svg = draw("colours", "a line", (4, 2), line)
    assert "stroke: var(--ours)" in svg
    assert INK not in svg
    assert OURS not in svg
    assert "font-family" not in svg


def test_nothing_refers_outside_and_nothing_is_dated() -> None:
    svg = draw("line", "a line", (4, 2), line)
    assert "http" not in svg
    assert "xlink" not in svg
    assert "<style" not in svg
    assert "metadata" not in svg
    assert not re.search(r"20\d\d-", svg)


def test_the_same_drawing_has_the_same_bytes() -> None:
    assert draw("line", "a line", (4, 2), line) == draw("line", "a line", (4, 2), line)


def test_two_drawings_share_no_id() -> None:
    first, second = (Page(draw(name, "a line", (4, 2), line)) for name in ("one", "two"))
    ids = set(first.attributes("id"))
    assert ids
    assert not ids & set(second.attributes("id"))
    assert {link[1:] for link in first.attributes("href")} <= ids


def test_a_heat_map_says_its_numbers_and_a_dash_where_there_is_none() -> None:
    def paint(figure: Figure) -> None:
        values = [[0.25, float("nan")], [-0.5, -0.001]]
        heat_map(figure.add_subplot(), values, ["a", "b"], ["c", "d"], strong_from=0.5)

    words = Page(draw("heat", "a matrix", (4, 3), paint)).text.split()
    assert {"0.25", "–", "−0.50", "0.00", "a", "b", "c", "d"} <= set(words)  # noqa: RUF001


def test_small_multiples_are_as_many_as_asked_for() -> None:
    figure = Figure()
    assert len(small_multiples(figure, 4)) == 4
    assert len(figure.axes) == 6
    assert [axes.axison for axes in figure.axes] == [True] * 4 + [False] * 2
