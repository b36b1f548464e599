"""The tables and the plot of docs/results.md, out of benchmarks/out/quality.json.

quality.json  ->  markdown on stdout, and docs/results-PRESET.svg (differences, with intervals)

.venv/bin/python -m benchmarks.quality_tables [PRESET]
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.quality_measures import METRICS, SCORES, SLATE
from matplotlib.figure import Figure

OUT = Path(__file__).parent / "out" / "quality.json"
PLOT = Path(__file__).parents[1] / "docs" / "results-PRESET.svg"
SHOWN = ("glance", "long", "click", "like")
DRAWN = ("glance", "long")
DRAWN_WITHIN = 0.012
"""AUC of long views: what is farther from its table's first is named, not drawn."""
INK = "#2a5599"
PLOTTED = ("skips", "encoders", "modes", "parts", "history", "relations", "predictors")


def main() -> None:
    """Print every table of one preset."""
    size = sys.argv[1] if len(sys.argv) > 1 else "small"
    rows = list(json.loads(OUT.read_text(encoding="utf-8"))["rows"])
    for table in dict.fromkeys(row["table"] for row in rows):
        chosen = _most_seeds(rows, table, size)
        if chosen:
            commits = ", ".join(dict.fromkeys(row.get("commit", "unknown")[:7] for row in chosen))
            print(f"\n### {table}\n\nseeds {chosen[0]['seeds']}, commit {commits}\n")
            print("\n".join(_figures(chosen)))
            for extra in (_slates, _watch, _calibration, _ladder):
                print("\n".join(extra(chosen)))
    drawn = [row for table in PLOTTED for row in _most_seeds(rows, table, size)]
    if drawn:
        _plot(drawn).savefig(
            str(PLOT).replace("PRESET", size), metadata={"Date": None, "Creator": None}
        )


def _most_seeds(rows: list[dict[str, Any]], table: str, size: str) -> list[dict[str, Any]]:
    """Return a table's rows of one preset, of those with most seeds."""
    found = [row for row in rows if row["table"] == table and row["size"] == size]
    seeds: list[int] = max((row["seeds"] for row in found), key=len, default=[])
    return [row for row in found if row["seeds"] == seeds]


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
    """MAE, XAUC and XGAUC of each head, of all rows and by length of the video."""
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
    heading = ["MAE s / XAUC / XGAUC", *(name.removeprefix("watch/") for name in names)]
    lines = ["", _line(heading), _line(["---"] * len(heading))]
    for row in rows:
        found = [
            f"{row['figures'][f'{name}/mae_s']['value']:.2f} / "
            f"{_short(row['figures'][f'{name}/xauc'])} / "
            f"{_short(row['figures'].get(f'{name}/xgauc'))}"
            for name in names
        ]
        lines.append(_line([row["cell"], *found]))
        if "watch/median/mae_s" in row["figures"]:
            median = row["figures"]["watch/median/mae_s"]["value"]
            lines.append(_line([f"{row['cell']}, the median", f"{median:.2f}"]))
    return lines


def _calibration(rows: list[dict[str, Any]]) -> list[str]:
    """Ten bins of p_GVV and of S(t): predicted less observed, and their mean distance."""
    figures = rows[0]["figures"]
    names = [
        name
        for name in figures
        if name.startswith(("calibration/", "curve/")) and name.endswith("/predicted")
    ]
    if rows[0]["table"] != "watch" or not names:
        return []
    lines = ["", _line([rows[0]["cell"], "predicted - observed, by tenth", "mean distance"])]
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
    """Draw every cell's glance and long AUC less that of the first of its table.

    Filled is clear of zero, hollow is not. What lies beyond `DRAWN_WITHIN` is named below instead,
    for it would leave no room to tell the others apart.
    """
    rows = [row for row in rows if "minus_first" in row["figures"].get("long/auc", {})]
    far = [row for row in rows if _beyond(row)]
    rows = [row for row in rows if not _beyond(row)]
    figure = Figure(figsize=(8.3, 1.6 + 0.22 * len(rows)), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, objective in zip(panels, DRAWN, strict=True):
        for place, row in enumerate(rows):
            found = row["figures"].get(f"{objective}/auc", {}).get("minus_first")
            if found is None or f"loss.{objective}=0" in row["words"]:
                continue  # it was not learnt
            clear = found["low"] > 0 or found["high"] < 0
            axes.plot([found["low"], found["high"]], [place, place], color=INK)
            face = INK if clear else "white"
            axes.plot(found["value"], place, "o", color=INK, markerfacecolor=face, markersize=5)
        for place in range(1, len(rows)):
            if rows[place]["table"] != rows[place - 1]["table"]:
                axes.axhline(place - 0.5, color="#cccccc", linewidth=0.8)
        axes.axvline(0, color="#888888", linewidth=0.8)
        axes.set_title(f"AUC of {objective}", fontsize=10)
        axes.tick_params(labelsize=9)
        axes.locator_params(axis="x", nbins=5)
    panels[0].set_yticks(range(len(rows)), [f"{row['table']}: {row['cell']}" for row in rows])
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    note = "AUC less that of the table's first line, 95 % over viewers; filled: clear of zero"
    if far:
        named = ", ".join(f"{row['cell']} {_auc_apart(row):+.3f}" for row in far)
        note += f"\nnot drawn, AUC of long views: {named}"
    figure.supxlabel(note, fontsize=9)
    return figure


def _beyond(row: Mapping[str, Any]) -> bool:
    return abs(_auc_apart(row)) > DRAWN_WITHIN


def _auc_apart(row: Mapping[str, Any]) -> float:
    return float(row["figures"]["long/auc"]["minus_first"]["value"])


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _short(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "-"
    value = f"{figure['value']:.4f}"
    return value.replace("0.", ".", 1) if value.startswith("0.") else value


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
