"""What is the data?

    dataset.json, events  ->  data_section  ->  rows, refusals, labels, surfaces, watch times

- Watch times are counted on the grid that labels and curves use, a piece of the column at a time.

Reads `features` and `labels`; is read by `page`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from skipwise.features.dataset import Column, Dataset, day_number
from skipwise.labels.grid import GRID_S, NUM_BINS, grid_bin, quantile_from_counts
from skipwise.report.blocks import Block, Chart, Fact, Facts, Section, Table, Words
from skipwise.report.cells import number_text, share_text
from skipwise.report.drawing import INK, MUTED, OURS, draw
from skipwise.report.findings import Findings
from skipwise.report.names import label_meanings, plain

_ROWS_AT_ONCE = 2_000_000
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def data_section(findings: Findings) -> Section:
    """Show what the run was trained and measured on."""
    blocks = (
        _without_dataset(findings)
        if findings.dataset is None
        else _with_dataset(findings.dataset, str(findings.facts["fingerprint"]))
    )
    return Section(anchor="data", title="What the data is", blocks=blocks)


def _without_dataset(findings: Findings) -> tuple[Block, ...]:
    facts = findings.facts
    return (
        Words(role="missing", text=f"Not shown: {findings.why_no_dataset}"),
        Facts(
            facts=(
                Fact(name="Source", value=str(facts["source"]), below=str(facts["time_zone"])),
                Fact(name="Fingerprint", value=str(facts["fingerprint"])[:12]),
            )
        ),
    )


def _with_dataset(dataset: Dataset, trained_on: str) -> tuple[Block, ...]:
    said = dataset.description
    counts = watch_counts(dataset)
    blocks: list[Block] = [_facts(said)]
    if dataset.fingerprint != trained_on:
        blocks.append(
            Words(
                role="caution",
                text=f"This dataset ({dataset.fingerprint[:12]}) is not the one the run was "
                f"trained on ({trained_on[:12]}), though prepared in the same way. What follows "
                "about data is about this one.",
            )
        )
    blocks.append(_labels(dataset))
    if counts.sum():
        blocks.append(_watching(counts, dataset.label_config.glance_below_s))
    surfaces = glances_by_surface(dataset)
    if surfaces:
        blocks.append(_surfaces(surfaces))
    return (*blocks, *_refusals(said), *_notes(said))


def watch_counts(dataset: Dataset) -> NDArray[np.int64]:
    """Count the known watch times of timed events in each bin of the grid, (NUM_BINS,)."""
    counts = np.zeros(NUM_BINS, dtype=np.int64)
    pieces = _pieces(dataset, "watch_s", "shown_at_ms")
    for watch_s, shown_at_ms in pieces:
        bins = grid_bin(watch_s[shown_at_ms >= 0].astype(np.float64))
        counts += np.bincount(bins[bins >= 0], minlength=NUM_BINS)
    return counts


def glances_by_surface(dataset: Dataset) -> list[tuple[str, int, int]]:
    """Count per surface, most frequent first: name, timed events judged, glances among them."""
    names = ["unknown", *dataset.description["surfaces"]]
    judged, glances = (np.zeros(len(names), dtype=np.int64) for _ in range(2))
    for surface, label, shown_at_ms in _pieces(dataset, "surface", "label_glance", "shown_at_ms"):
        known = (label >= 0) & (shown_at_ms >= 0)
        judged += np.bincount(surface[known], minlength=len(names))
        glances += np.bincount(surface[known & (label == 1)], minlength=len(names))
    order = np.argsort(-judged, kind="stable")
    return [(plain(names[ix]), int(judged[ix]), int(glances[ix])) for ix in order if judged[ix]]


def _pieces(dataset: Dataset, *names: str) -> Iterator[list[NDArray[Any]]]:
    columns: list[Column] = [dataset.events[name] for name in names]
    for start in range(0, dataset.num_events, _ROWS_AT_ONCE):
        rows = np.arange(start, min(start + _ROWS_AT_ONCE, dataset.num_events))
        yield [column.take(rows) for column in columns]


def _facts(said: Mapping[str, Any]) -> Facts:
    untimed = said["num_events"] - said["num_timed_events"]
    refused = sum(refusal["count"] for refusal in said["refusals"])
    first, last = said["first_day"], said["last_day"]
    days = day_number(last) - day_number(first) + 1
    return Facts(
        facts=(
            Fact(name="Source", value=plain(said["source"]), below=str(said["time_zone"])),
            Fact(name="Days", value=f"{days:,}", below=f"{first} to {last}"),
            Fact(
                name="Events",
                value=f"{said['num_events']:,}",
                below=f"{untimed:,} of them past events without a time" if untimed else "",
            ),
            Fact(name="Viewers", value=f"{said['num_viewers']:,}"),
            Fact(
                name="Videos",
                value=f"{said['num_videos']:,}",
                below=f"by {said['num_authors'] - 1:,} authors",
            ),
            Fact(
                name="Rows refused",
                value=f"{refused:,}",
                below=f"of {said['num_rows_read']:,} read",
            ),
        )
    )


def _labels(dataset: Dataset) -> Table:
    meanings = label_meanings(dataset.label_config)
    return Table(
        caption="What is known of each event",
        head=("label", "meaning", "events where known", "positive", "share of known"),
        rows=tuple(
            (
                name,
                meanings.get(name, ""),
                f"{count['known']:,}",
                f"{count['positive']:,}",
                share_text(count["positive"], count["known"], digits=2),
            )
            for name, count in dataset.description["labels"].items()
        ),
    )


def _watching(counts: NDArray[np.int64], glance_below_s: float) -> Chart:
    still = np.concatenate([[1.0], 1.0 - np.cumsum(counts)[:-1] / counts.sum()])
    edges = np.array(GRID_S)
    left = 1.0 - float(np.interp(glance_below_s, edges, still))
    quantiles = {share: float(quantile_from_counts(counts, share)) for share in _QUANTILES}

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.plot(edges[1:], 100 * still[1:], color=OURS)
        axes.axvline(glance_below_s, color=MUTED, linestyle="--", linewidth=1)
        axes.annotate(
            f"{100 * left:.0f} % have left by {glance_below_s:g} s",
            (glance_below_s, 100 * (1 - left)),
            xytext=(10, 8),
            textcoords="offset points",
            color=INK,
        )
        axes.set_xlabel("watch time, seconds (logarithmic scale)")
        axes.set_ylabel("views still being watched, %")
        axes.set_ylim(0, 102)
        seconds_axis(axes)

    return Chart(
        name="watching",
        title="How soon do people leave?",
        reading=f"Of {counts.sum():,} views with a known watch time: the share still being watched "
        f"after so many seconds. Half have left by {quantiles[0.5]:.1f} s.",
        svg=draw("watching", "Share of views still being watched, by seconds", (8, 3), paint),
        numbers=Table(
            caption="Watch time, by share of views that are shorter",
            head=("shorter than this", *(f"{100 * share:.0f} %" for share in quantiles)),
            rows=(("seconds", *(number_text(value, 1) for value in quantiles.values())),),
        ),
    )


def seconds_axis(axes: Any) -> None:
    """Lay seconds out by factors, from a quarter of a second to five minutes."""
    axes.set_xscale("log")
    axes.set_xlim(0.22, 330)
    ticks = (0.3, 1, 3, 10, 30, 100, 300)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)


def _surfaces(surfaces: list[tuple[str, int, int]]) -> Chart:
    total = sum(judged for _, judged, _ in surfaces)
    shown = surfaces[:12]

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        shares = [100 * glances / judged for _, judged, glances in shown]
        axes.barh(range(len(shown)), shares, height=0.62, color=OURS, alpha=0.75)
        for place, (share, (_, judged, _)) in enumerate(zip(shares, shown, strict=True)):
            axes.text(share + 0.8, place, f"{share:.1f} % of {judged:,}", va="center", color=INK)
        axes.set_yticks(range(len(shown)), [name for name, _, _ in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_xlim(0, max(shares) * 1.22 + 4)
        axes.set_ylabel("surface")
        axes.set_xlabel("views left at once, % of views")
        axes.grid(visible=False, axis="y")

    more = f"The {len(shown)} most frequent of {len(surfaces)} are drawn. " if surfaces[12:] else ""
    return Chart(
        name="surfaces",
        title="Where do people leave at once?",
        reading=f"Share of glances on each surface, the most frequent surface first. {more}",
        svg=draw("surfaces", "Share of glances by surface", (8, 0.9 + 0.3 * len(shown)), paint),
        numbers=Table(
            caption="Glances by surface",
            head=("surface", "views judged", "share of all", "glances", "share of glances"),
            rows=tuple(
                (
                    name,
                    f"{judged:,}",
                    share_text(judged, total),
                    f"{glances:,}",
                    share_text(glances, judged),
                )
                for name, judged, glances in surfaces
            ),
        ),
    )


def _refusals(said: Mapping[str, Any]) -> tuple[Block, ...]:
    if not said["refusals"]:
        return (Words(text="No row was refused."),)
    rows = tuple(
        (
            str(found["reason"]),
            f"{found['count']:,}",
            f"{found['file']}, {found['line']}",
            str(found["example"]),
        )
        for found in said["refusals"]
    )
    head = ("reason", "rows", "first of them", "written there")
    return (Table(caption="Which rows were refused, and why", head=head, rows=rows),)


def _notes(said: Mapping[str, Any]) -> tuple[Block, ...]:
    if not said["notes"]:
        return ()
    rows = tuple((str(note["what"]), f"{note['count']:,}") for note in said["notes"])
    return (Table(caption="Quirks that were handled", head=("what", "rows"), rows=rows),)
