"""The tables and the plot of docs/results.md, out of benchmarks/out/quality.json.

quality.json  ->  markdown on stdout, and docs/results-PRESET.svg (differences, with intervals)

.venv/bin/python -m benchmarks.quality_tables [PRESET]
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.quality_runs import METRICS, OBJECTIVES, SCORES, SLATE
from matplotlib.figure import Figure

OUT = Path(__file__).parent / "out" / "quality.json"
PLOT = Path(__file__).parents[1] / "docs" / "results-PRESET.svg"
SHOWN = ("glance", "long", "click", "like")
PLOTTED = ("skips", "encoders", "modes", "parts", "relations")


def main() -> None:
    """Print every table of one preset."""
    size = sys.argv[1] if len(sys.argv) > 1 else "small"
    rows = list(json.loads(OUT.read_text(encoding="utf-8"))["rows"])
    for table in dict.fromkeys(row["table"] for row in rows):
        chosen = [row for row in rows if row["table"] == table and row["size"] == size]
        seeds: list[int] = max((row["seeds"] for row in chosen), key=len, default=[])
        chosen = [row for row in chosen if row["seeds"] == seeds]
        if chosen:
            print(f"\n### {table}\n\nseeds {chosen[0]['seeds']}\n")
            print("\n".join(_figures(chosen)))
            for extra in (_slates, _watch, _curve, _ladder):
                print("\n".join(extra(chosen)))
    plotted = [row for row in rows if row["size"] == size and row["table"] in PLOTTED]
    if plotted:
        _plot(plotted).savefig(
            str(PLOT).replace("PRESET", size), metadata={"Date": None, "Creator": None}
        )


def _figures(rows: list[dict[str, Any]]) -> list[str]:
    """AUC / GAUC / log-loss per objective, and the difference in glance and long AUC."""
    names = [name for name in SHOWN if f"{name}/auc" in rows[0]["figures"]]
    head = ["", *names, *(f"{name}: AUC, GAUC against the first" for name in names[:2])]
    lines = [_line(head), _line(["---"] * len(head))]
    for row in rows:
        figures = row["figures"]
        cells = [
            " / ".join(_short(figures.get(f"{name}/{metric}")) for metric in METRICS)
            for name in names
        ]
        apart = [
            ", ".join(_apart(figures.get(f"{name}/{metric}")) for metric in ("auc", "gauc"))
            for name in names[:2]
        ]
        lines.append(_line([row["cell"], *cells, *apart]))
    return lines


def _slates(rows: list[dict[str, Any]]) -> list[str]:
    if rows[0]["table"] not in {"skips", "planted"}:
        return []
    outcomes = ("glance", "effective", "watch_s", "negative")
    lines = ["", _line(["score", "", *(f"{name}@{SLATE}" for name in outcomes)])]
    lines.append(_line(["---"] * (2 + len(outcomes))))
    for row in rows:
        for score in SCORES:
            found = [row["figures"].get(f"{score}/{name}_at_{SLATE}") for name in outcomes]
            cells = [
                f"{_short(each)} ({_apart(each)})"
                if each and "minus_first" in each
                else _short(each)
                for each in found
            ]
            lines.append(_line([score, row["cell"], *cells]))
    return lines


def _watch(rows: list[dict[str, Any]]) -> list[str]:
    if rows[0]["table"] != "watch":
        return []
    names = sorted(
        {
            name.removesuffix("/xauc")
            for row in rows
            for name in row["figures"]
            if name.startswith("watch/") and name.endswith("/xauc")
        }
    )
    lines = ["", _line(["MAE s / XAUC", *(name.removeprefix("watch/") for name in names)])]
    lines.append(_line(["---"] * (1 + len(names))))
    for row in rows:
        found = [
            f"{row['figures'][f'{name}/mae_s']['value']:.2f} / "
            f"{_short(row['figures'][f'{name}/xauc'])}"
            for name in names
        ]
        lines.append(_line([row["cell"], *found]))
        if "watch/median/mae_s" in row["figures"]:
            median = row["figures"]["watch/median/mae_s"]["value"]
            lines.append(_line([f"{row['cell']}, the median", f"{median:.2f} / -"]))
    return lines


def _curve(rows: list[dict[str, Any]]) -> list[str]:
    """Ten bins of S(t): predicted and observed, and their mean absolute distance."""
    figures = rows[0]["figures"]
    names = [name for name in figures if name.startswith("curve/") and name.endswith("/predicted")]
    if rows[0]["table"] != "watch" or not names:
        return []
    lines = ["", _line(["S(t)", "predicted - observed, by tenth", "mean distance"])]
    lines.append(_line(["---"] * 3))
    for name in names:
        predicted = figures[name]["values"]
        observed = figures[name.replace("predicted", "observed")]["values"]
        apart = [p - o for p, o in zip(predicted, observed, strict=True)]
        mean = sum(map(abs, apart)) / len(apart)
        lines.append(
            _line([name.split("/")[1], " ".join(f"{d:+.3f}" for d in apart), f"{mean:.3f}"])
        )
    return lines


def _ladder(rows: list[dict[str, Any]]) -> list[str]:
    """Figures by viewer of long views; primary = (GAUC + nDCG@5) / 2."""
    if rows[0]["table"] != "p1":
        return []
    names = ("gauc", "ndcg", "primary")
    cells = [
        [row["cell"], *(_short(row["figures"].get(f"viewer/{name}")) for name in names)]
        for row in rows
    ]
    return ["", *map(_line, [["", *names], ["---"] * 4, *cells])]


def _plot(rows: list[dict[str, Any]]) -> Figure:
    """Draw every cell's glance and long AUC less that of the first of its table."""
    rows = [row for row in rows if "minus_first" in row["figures"].get("glance/auc", {})]
    figure = Figure(figsize=(9, 1.2 + 0.24 * len(rows)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, objective in zip(panels, OBJECTIVES[:2], strict=True):
        for place, row in enumerate(rows):
            if f"loss.{objective}=0" in row["words"]:
                continue  # it was not learnt
            found = row["figures"][f"{objective}/auc"]["minus_first"]
            axes.plot([found["low"], found["high"]], [place, place], color="#4c72b0")
            axes.plot(found["value"], place, "o", color="#4c72b0", markersize=4)
        axes.axvline(0, color="#888888", linewidth=0.8)
        axes.set_title(f"{objective}: AUC against the first of the table", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.locator_params(axis="x", nbins=5)
    panels[0].set_yticks(range(len(rows)), [f"{row['table']}: {row['cell']}" for row in rows])
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    return figure


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _short(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "-"
    value = f"{figure['value']:.4f}"
    return value.replace("0.", ".", 1) if value.startswith("0.") else value


def _with_difference(figure: Mapping[str, Any] | None) -> str:
    apart = _apart(figure)
    return _short(figure) if apart == "-" else f"{_short(figure)} ({apart})"


def _apart(figure: Mapping[str, Any] | None) -> str:
    """A difference and the larger side of its interval; bold where clear of zero."""
    found = (figure or {}).get("minus_first")
    return _change(found) if isinstance(found, dict) else "-"


def _change(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    side = max(found["value"] - found["low"], found["high"] - found["value"])
    text = f"{found['value']:+.4f} ±{side:.4f}".replace("+0.", "+.").replace("-0.", "-.")
    text = text.replace("±0.", "±.")
    return f"**{text}**" if found["low"] > 0 or found["high"] < 0 else text


if __name__ == "__main__":
    main()
