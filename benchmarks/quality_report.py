"""What was measured so far, printed and written as it comes: benchmarks/out/quality.json.

    table, cell, each seed's values  ->  Report.add  ->  a row of the file, a line on stdout

- A row tells the commit it was measured with: rows of other commits stay beside it.

Is read by `quality`.
"""

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.quality_measures import METRICS, OBJECTIVES, SCORE_CHANGE, SCORES, SLATE, Values
from benchmarks.quality_runs import Bench, Cell

import skipwise
from skipwise.evaluation.bootstrap import interval

OUT = Path(__file__).parent / "out"


class Report:
    """What was measured so far, printed and written as it comes."""

    def __init__(self, file: Path, seeds: list[int]) -> None:
        """Go on from the file, if it is there: rows of other tables, sizes, budgets, seeds stay."""
        self.file, self.seeds, self.commit = file, seeds, _commit()
        self.rows: list[dict[str, Any]] = []
        if self.file.is_file():
            self.rows = json.loads(self.file.read_text(encoding="utf-8"))["rows"]
        self.first: dict[str, list[Values]] = {}

    def add(self, table: str, bench: Bench, cell: Cell, found: list[Values]) -> None:
        """Keep, print and write a cell: the values of each seed."""
        found = [values | _of_the_score(values) for values in found]
        first = self.first.setdefault(table, found)
        row: dict[str, Any] = {
            "table": table,
            "cell": cell.name,
            "words": list(cell.words),
            "seeds": self.seeds,
            "size": bench.size,
            "budget": list(bench.budget),
            "commit": self.commit,
            "figures": {name: figure_of(found, first, name) for name in found[0]},
        }
        self.rows = [
            old
            for old in self.rows
            if any(old[key] != row[key] for key in ("table", "cell", "size", "budget", "seeds"))
        ] + [row]
        print(f"{cell.name:>28}  " + "  ".join(_shown(row["figures"])))
        self.write()

    def write(self) -> None:
        """Write the JSON, whole or not at all."""
        card = {
            "machine": {"processor": platform.machine(), "cores": os.cpu_count()},
            "versions": {"skipwise": skipwise.__version__, "torch": torch.__version__},
            "commit": self.commit,
            "seeds": self.seeds,
            "rows": self.rows,
            "ratios": {},
        }
        self.file.parent.mkdir(parents=True, exist_ok=True)
        aside = self.file.with_suffix(".part")
        aside.write_text(json.dumps(card, indent=1), encoding="utf-8")
        aside.rename(self.file)


def _of_the_score(values: Values) -> Values:
    """Return what the skips' part of the score changes in the first places, draw by draw."""
    with_skips, without = SCORES
    return {
        name.replace(with_skips, SCORE_CHANGE): found - values[name.replace(with_skips, without)]
        for name, found in values.items()
        if name.startswith(f"{with_skips}/")
    }


def figure_of(found: list[Values], first: list[Values], name: str) -> dict[str, Any]:
    """Take the mean over seeds and its interval, and the difference to the first cell by draw.

    Args:
        found: Each seed's values of a cell, as `quality_measures.figures_of` gives them.
        first: Those of the table's first cell; the same list where this is it.
        name: Of the figure.

    Returns:
        `value`, `by_seed`; `low` and `high` where viewers were drawn; `minus_first` (an interval,
        or a number where none were drawn) where the first cell has it too; `values` by tenth.
    """
    mean = np.mean([values[name] for values in found], axis=0)
    if name.startswith(("curve/", "calibration/")):
        return {"values": mean.tolist()}
    figure: dict[str, Any] = {
        "value": float(mean[0]),
        "by_seed": [float(v[name][0]) for v in found],
    }
    if len(mean) > 1:
        figure |= {key: value for key, value in interval(mean)._asdict().items() if key != "value"}
    if name in first[0] and found is not first and len(mean) == len(first[0][name]):
        other = np.mean([values[name] for values in first], axis=0)
        figure["minus_first"] = (
            dict(interval(mean - other)._asdict()) if len(mean) > 1 else float(mean[0] - other[0])
        )
    return figure


def _shown(figures: Mapping[str, Any]) -> Iterable[str]:
    for objective in OBJECTIVES:
        values = [figures.get(f"{objective}/{metric}") for metric in METRICS]
        if any(values):  # requests of one row have no GAUC
            shown = (f"{value['value']:.4f}" if value else "-" for value in values)
            yield f"{objective} " + "/".join(shown)
    for score in SCORES:
        value = figures.get(f"{score}/glance_at_{SLATE}")
        if value:
            yield f"[{score}] GVV@{SLATE} {value['value']:.4f}"


def _commit() -> str:
    asked = ["git", "rev-parse", "HEAD"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
