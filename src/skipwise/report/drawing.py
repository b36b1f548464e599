"""How does a drawing get onto the page?

    paint(Figure), size in inches  ->  draw  ->  SVG markup to stand inside HTML

- Text stays text; colours are names that the page's style gives a value, by day and by night.
- Nothing refers outside, nothing is dated, ids are the drawing's own: the same numbers give the
  same bytes.
- A name is drawn as it is, never read as a formula.

Knows matplotlib; is read by the sections.
"""

import io
import math
import re
import warnings
from collections.abc import Callable, Iterable
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK, MUTED, FAINT, PAPER = "#010101", "#020202", "#030303", "#040404"
OURS, SECOND, THIRD, FOURTH, FIFTH = "#050505", "#060606", "#070707", "#080808", "#090909"
"""Stand-ins: what is drawn in one of these takes the page's colour of that name."""

_NAMES = {
    INK: "ink",
    MUTED: "muted",
    FAINT: "faint",
    PAPER: "paper",
    OURS: "ours",
    SECOND: "second",
    THIRD: "third",
    FOURTH: "fourth",
    FIFTH: "fifth",
}
MARKERS = ("o", "s", "^", "D", "v")
"""Shapes, so that no series is told by its colour alone."""
SERIES = (OURS, SECOND, THIRD, FOURTH, FIFTH)

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "skipwise",
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.labelsize": 9.0,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.6,
    "patch.linewidth": 0.0,
}
_XLINK = "{http://www.w3.org/1999/xlink}href"


def draw(
    name: str, description: str, size: tuple[float, float], paint: Callable[[Figure], None]
) -> Markup:
    """Draw, and make the drawing fit to stand inside a page.

    Args:
        name: Unique on the page, letters and dashes; ids begin with it.
        description: What it shows, for those who cannot see it.
        size: Width and height in inches; the page scales it to its own width.
        paint: Draws on the figure.

    Returns:
        One `<svg>` element.
    """
    written = io.BytesIO()
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        paint(figure)
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(written.getvalue())  # noqa: S314 - matplotlib's own, just written
    return Markup(_inline(root, name, description))  # noqa: S704 - made of escaped XML


def small_multiples(figure: Figure, number: int, columns: int = 3) -> list[Axes]:
    """Lay out like drawings in a grid, row by row; places left over stay empty."""
    rows = -(-number // columns)
    grid = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for empty in grid[number:]:
        empty.set_axis_off()
    return list(grid[:number])


def heat_map(
    axes: Axes,
    values: Iterable[Iterable[float]],
    row_names: list[str],
    column_names: list[str],
    *,
    strong_from: float,
) -> None:
    """Draw a matrix as numbers on a ground that is stronger where they are larger in size.

    Args:
        axes: Where.
        values: Row by row; NaN is drawn as a dash.
        row_names: Down the left side.
        column_names: Along the bottom.
        strong_from: > 0, the size from which the ground is strongest, unless a value is larger.
    """
    table = [list(row) for row in values]
    sizes = [abs(value) for row in table for value in row if not math.isnan(value)]
    largest = max([*sizes, strong_from])
    for down, row in enumerate(table):
        for across, value in enumerate(row):
            known = not math.isnan(value)
            strength = 0.55 * abs(value) / largest if known else 0.0
            colour = OURS if not known or value >= 0 else SECOND
            axes.barh(down, 0.96, left=across - 0.48, height=0.92, color=colour, alpha=strength)
            words = f"{value:z.2f}".replace("-", "\N{MINUS SIGN}") if known else "–"  # noqa: RUF001
            axes.text(across, down, words, ha="center", va="center")
    axes.set_xticks(range(len(column_names)), column_names, rotation=30, ha="right")
    axes.set_yticks(range(len(row_names)), row_names)
    axes.set_xlim(-0.5, len(column_names) - 0.5)
    axes.set_ylim(len(row_names) - 0.5, -0.5)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _inline(root: ElementTree.Element, name: str, description: str) -> str:
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in ("metadata", "style"):
                parent.remove(child)
    used = set(re.findall(r"#(\w+)", " ".join(_references(root))))
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        _localise(element, name, used)
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.attrib |= {"role": "img", "aria-label": description}
    return ElementTree.tostring(root, encoding="unicode")


def _references(root: ElementTree.Element) -> Iterable[str]:
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == _XLINK or value.startswith("url("):
                yield value


def _localise(element: ElementTree.Element, name: str, used: set[str]) -> None:
    """Give ids the drawing's name, drop the others; name colours and leave the font to the page."""
    attributes = element.attrib
    if "id" in attributes:
        own = attributes.pop("id")
        if own in used:
            attributes["id"] = f"{name}-{own}"
    if _XLINK in attributes:
        attributes["href"] = f"#{name}-{attributes.pop(_XLINK)[1:]}"
    for key, value in list(attributes.items()):
        if value.startswith("url(#"):
            attributes[key] = f"url(#{name}-{value[5:]}"
    if "style" in attributes:
        style = re.sub(r"font-family: [^;]*;? ?", "", attributes["style"])
        for stand_in, colour in _NAMES.items():
            style = style.replace(stand_in, f"var(--{colour})")
        attributes["style"] = style
