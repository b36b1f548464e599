"""What does a watch curve look like, and is it right on average?

    Findings, Readings  ->  curves_section  ->  mean curve against what was watched, six examples

- Only a run in `curve` mode has curves; any other says so.

Reads `readings` and `examples`; is read by `page`.
"""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from skipwise.features.dataset import Dataset
from skipwise.report.blocks import Block, Chart, Section, Table, Words
from skipwise.report.cells import number_text, share_text
from skipwise.report.data_section import seconds_axis
from skipwise.report.drawing import INK, MUTED, OURS, SECOND, THIRD, draw, small_multiples
from skipwise.report.examples import RULE, example_rows
from skipwise.report.findings import Findings
from skipwise.report.readings import Curves, Readings, rows_of, span_of, span_text, take_readings

_DRAWN_AT_S = np.geomspace(0.25, 300.0, 160)


def curves_section(findings: Findings, readings: Readings | None) -> Section:
    """Show watch curves.

    Args:
        findings: The run and its dataset.
        readings: What the model said of the sample; None where there is no dataset.
    """
    watch = findings.run.settings.model.objectives.watch
    blocks: tuple[Block, ...]
    if watch != "curve":
        text = (
            f"This run has no watch curves: its watch time is predicted by the head {watch!r}. "
            "Train with model.objectives.watch=curve to have them."
        )
        blocks = (Words(role="missing", text=text),)
    elif findings.dataset is None:
        blocks = (Words(role="missing", text=f"Not shown: {findings.why_no_dataset}"),)
    elif readings is None or readings.curves is None:
        text = "No event with a known watch time on the days looked at."
        blocks = (Words(role="missing", text=text),)
    else:
        blocks = (_mean(readings.curves), *_examples(findings, findings.dataset))
    return Section(anchor="curves", title="What do its watch curves look like?", blocks=blocks)


def _mean(curves: Curves) -> Chart:
    foretold = curves.survival.mean(0)
    seen = (curves.watch_s[:, None] > curves.at_s[None, :]).mean(0)

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.plot(curves.at_s, 100 * foretold, color=OURS, label="predicted, mean of S(t)")
        axes.plot(
            curves.at_s, 100 * seen, "s", color=SECOND, markersize=3.5, label="observed share"
        )
        axes.set_ylim(0, 102)
        axes.set_xlabel("t, seconds watched (logarithmic scale)")
        axes.set_ylabel("events watched longer than t, %")
        axes.legend(loc="upper right")
        seconds_axis(axes)

    shown = [place for place, at in enumerate(curves.at_s) if at in _TABLE_AT_S]
    return Chart(
        name="mean-curve",
        title="Are the curves right on average?",
        reading=f"Mean predicted curve of {len(curves.row):,} events beside the share of them that "
        "was really watched longer. The closer the squares lie to the line, the better.",
        svg=draw("mean-curve", "Predicted and observed watch curve", (8, 3), paint),
        numbers=Table(
            caption="Share watched longer than so many seconds",
            head=("", *(f"{curves.at_s[place]:g} s" for place in shown)),
            rows=(
                ("predicted", *(share_text(foretold[place], 1) for place in shown)),
                ("observed", *(share_text(float(seen[place]), 1) for place in shown)),
            ),
        ),
    )


_TABLE_AT_S = (1.0, 3.0, 6.0, 10.0, 18.0, 30.0, 60.0, 120.0, 300.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Example:
    """One event with its curve."""

    name: str
    curve: NDArray[np.float64]
    """(len(_DRAWN_AT_S),) predicted S(t)."""
    glance_s: float
    effective_s: float
    duration_s: float
    watch_s: float
    at_glance: float
    """S at the three marks."""
    at_effective: float
    at_watch: float


def _examples(findings: Findings, dataset: Dataset) -> tuple[Block, ...]:
    span = span_of(findings, dataset)
    rows = example_rows(dataset, rows_of(dataset, span))
    if not len(rows):
        text = "No example: no viewer of these days has a past and an event that can be judged."
        return (Words(role="missing", text=text),)
    examples = _read_examples(findings, dataset, rows)
    sort = f"Days: {span_text(span)}. What is known is what a nightly feed would know. "
    return (
        Chart(
            name="examples",
            title="What did it foretell of single events, and what came?",
            reading="The line is the predicted share still watching; the dot is where the viewer "
            f"really left. {sort}{RULE}",
            svg=draw(
                "examples",
                "Predicted watch curves of single events",
                (8, 0.6 + 2.1 * -(-len(examples) // 3)),
                lambda figure: _paint(figure, examples),
            ),
            numbers=_numbers(examples),
        ),
    )


def _read_examples(findings: Findings, dataset: Dataset, rows: NDArray[np.int64]) -> list[_Example]:
    def column(name: str) -> NDArray[np.float64]:
        return np.asarray(dataset.events[name].take(rows), dtype=np.float64)

    duration_s, watch_s = column("duration_s"), column("watch_s")
    glance_s = np.minimum(dataset.label_config.glance_below_s, duration_s)
    effective_s = np.maximum(column("effective_above_s"), glance_s)
    at_s = np.unique(np.concatenate([_DRAWN_AT_S, glance_s, effective_s, watch_s]))
    curves = take_readings(findings, dataset, rows, at_s).curves
    assert curves is not None  # noqa: S101 - the run is in curve mode, the watch times are known
    viewer = dataset.events["viewer"].take(rows)
    examples = []
    for place in range(len(rows)):
        survival = curves.survival[place]
        marks = np.searchsorted(at_s, [glance_s[place], effective_s[place], watch_s[place]])
        number = int(np.flatnonzero(np.unique(viewer) == viewer[place])[0]) + 1
        nth = "first" if place == 0 or viewer[place - 1] != viewer[place] else "last"
        examples.append(
            _Example(
                name=f"viewer {number}, {nth}",
                curve=survival[np.searchsorted(at_s, _DRAWN_AT_S)],
                glance_s=glance_s[place],
                effective_s=effective_s[place],
                duration_s=duration_s[place],
                watch_s=watch_s[place],
                at_glance=survival[marks[0]],
                at_effective=survival[marks[1]],
                at_watch=survival[marks[2]],
            )
        )
    return examples


def _paint(figure: Figure, examples: list[_Example]) -> None:
    panels = small_multiples(figure, len(examples))
    for place, (axes, example) in enumerate(zip(panels, examples, strict=True)):
        _paint_one(axes, example)
        axes.set_xlabel("t, seconds watched")
        axes.set_ylabel("P(watched longer), %" if place % 3 == 0 else "")
    handles, words = panels[0].get_legend_handles_labels()
    figure.legend(handles, words, loc="outside upper left", ncols=5)


def _paint_one(axes: Axes, example: _Example) -> None:
    axes.plot(_DRAWN_AT_S, 100 * example.curve, color=OURS, label="predicted S(t)")
    for at_s, line, colour, words in (
        (example.glance_s, "--", MUTED, "glance before"),
        (example.effective_s, "-.", THIRD, "effective from"),
        (example.duration_s, ":", INK, "end of video"),
    ):
        axes.axvline(at_s, linestyle=line, color=colour, linewidth=1.1, label=words)
    left = max(example.watch_s, _DRAWN_AT_S[0])
    axes.vlines(left, 0, 100 * example.at_watch, color=SECOND, linewidth=1)
    axes.plot(left, 100 * example.at_watch, "o", color=SECOND, markersize=6, label="left here")
    axes.set_title(f"{example.name}: {example.watch_s:.1f} s of {example.duration_s:.0f} s")
    axes.set_ylim(0, 102)
    seconds_axis(axes)


def _numbers(examples: list[_Example]) -> Table:
    return Table(
        caption="Examples",
        head=(
            "event",
            "length, s",
            "P(glance)",
            "effective from, s",
            "P(effective)",
            "watched, s",
            "came",
        ),
        rows=tuple(
            (
                example.name,
                number_text(example.duration_s, 1),
                share_text(1 - example.at_glance, 1),
                number_text(example.effective_s, 1),
                share_text(example.at_effective, 1),
                number_text(example.watch_s, 1),
                _outcome(example),
            )
            for example in examples
        ),
    )


def _outcome(example: _Example) -> str:
    if example.watch_s < example.glance_s:
        return "glance"
    return "effective" if example.watch_s > example.effective_s else "neither"
