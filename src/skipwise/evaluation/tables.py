"""How does a scorecard read for people?

    scorecard dict       ->  scorecard_rows, slate_rows  ->  rows of text, the heading first
    compare's dict       ->  comparison_rows             ->  the same
    retrieval_card dict  ->  retrieval_rows              ->  the same

- Every cell is text; a table with its borders fits in 100 columns.
- An unknown figure is a dash.

Knows the shapes that `scorecard` and `comparison` make; is read by the command line and the report.
"""

from collections.abc import Mapping
from typing import Any

Row = tuple[str, ...]
DASH = "-"
EVALUATION_FILE = "evaluation.json"
"""In a RUN folder: the card that `evaluate` made last."""


def scorecard_rows(card: Mapping[str, Any]) -> list[Row]:
    """Lay out the objectives of a card, one row each, the heading first.

    Args:
        card: What `scorecard` or `evaluate` returned; what was not learnt gets no row.

    Returns:
        Rows of 8 cells: objective, share of positives, AUC, GAUC and log-loss with intervals, nDCG,
        ECE, and foretold over observed positives.
    """
    rows: list[Row] = [("objective", "share", "AUC", "GAUC", "log-loss", "nDCG", "ECE", "p/y")]
    for name, found in card["objectives"].items():
        if name == "watch" or name in card.get("masked_objectives", {}):
            continue
        rows.append(
            (
                name,
                share_text(found["positives"], found["rows"]),
                figure_text(found["auc"]),
                figure_text(found["gauc"]),
                figure_text(found["log_loss"]),
                value_text(found["ndcg"]),
                value_text(found["ece"]),
                value_text(found["calibration_ratio"], digits=2),
            )
        )
    return rows


def watch_rows(card: Mapping[str, Any]) -> list[Row]:
    """Lay out the figures of the watch time, the heading first: 3 cells a row."""
    found = card["objectives"]["watch"]
    texts = {
        "mean error, s": figure_text(found["mae_s"], digits=2),
        "XAUC": figure_text(found["xauc"]),
        "XGAUC": figure_text(found["xgauc"]),
        "expected / watched": figure_text(found["calibration_ratio"], digits=2),
    }
    return [("watch time", "figure"), *texts.items()]


def slate_rows(card: Mapping[str, Any]) -> list[Row]:
    """Lay out the first places of slates, the heading first.

    Returns:
        Rows of 6 cells: what is counted, by score, as logged, at random, score - random, slates.
    """
    rows: list[Row] = [
        ("in the first k", "by score", "as logged", "at random", "score - random", "slates")
    ]
    for name, found in card["slate"].items():
        if not found["slates"]:
            continue
        rows.append(
            (
                name,
                *(value_text(found[order], digits=4) for order in ("score", "logged", "random")),
                difference_text(found["score_minus_random"], digits=4),
                str(found["slates"]),
            )
        )
    return rows


def comparison_rows(baselines: Mapping[str, Any]) -> list[Row]:
    """Lay out how far a scorer is ahead of its baselines, the heading first.

    Args:
        baselines: What `compare` returned.

    Returns:
        Rows of 6 cells: objective, baseline, its AUC, and between which bounds ours is better by
        AUC, GAUC and log-loss: the interval alone, for the difference does not fit beside it. It
        ends in `*` where the interval is clear of zero on the good side, in `!` where on the bad
        side.
    """
    rows: list[Row] = [("objective", "baseline", "AUC", "AUC ahead", "GAUC ahead", "log-loss less")]
    names = dict.fromkeys(
        objective for found in baselines.values() for objective in found["objectives"]
    )
    for objective in names:
        for baseline, measured in baselines.items():
            found = measured["objectives"].get(objective)
            if found is not None:
                ahead = (_ahead(found, metric) for metric in ("auc", "gauc", "log_loss"))
                rows.append((objective, baseline, value_text(found["auc"]), *ahead))
    return rows


def retrieval_rows(found: Mapping[str, Any]) -> list[Row]:
    """Lay out recall@k, the heading first.

    Args:
        found: What `evaluate_retrieval` returned.

    Returns:
        Rows of 4 cells: what is counted, who finds, its recall, and how far ours is ahead of it.
    """
    rows: list[Row] = [("found among the first", "by", "recall", "ours ahead")]
    for number, level in found.get("at", {}).items():
        for name, figure in level.items():
            if name != "ahead":
                ahead = difference_text(level["ahead"].get(name))
                rows.append((number, name.replace("_", "-"), figure_text(figure), ahead))
    return rows


def figure_text(figure: Mapping[str, float | None] | None, *, digits: int = 3) -> str:
    """Write a figure with its interval; a dash where it is unknown.

    >>> figure_text({"value": 0.7662, "low": 0.7612, "high": 0.7711})
    '.766 .761-.771'
    """
    if figure is None or figure["value"] is None:
        return DASH
    value = _number(figure["value"], digits)
    if figure["low"] is None or figure["high"] is None:
        return value
    return f"{value} {_number(figure['low'], digits)}-{_number(figure['high'], digits)}"


def value_text(figure: Mapping[str, float | None] | None, *, digits: int = 3) -> str:
    """Write a figure without its interval; a dash where it is unknown."""
    if figure is None or figure["value"] is None:
        return DASH
    return _number(figure["value"], digits)


def share_text(part: int, whole: int) -> str:
    """Write a share in percent.

    >>> share_text(83, 200)
    '41.5%'
    """
    return f"{100 * part / whole:.1f}%" if whole else DASH


def difference_text(figure: Mapping[str, float | None] | None, *, digits: int = 3) -> str:
    """Write a difference with its sign and its interval, which need not be even to both sides.

    Args:
        figure: The difference; None where unknown.
        digits: After the point.

    >>> difference_text({"value": 0.225, "low": 0.016, "high": 0.458})
    '+.225 (+.016 to +.458)'
    """
    if figure is None or figure["value"] is None:
        return DASH
    value, low, high = figure["value"], figure["low"], figure["high"]
    text = _number(value, digits, sign="+")
    return text if low is None or high is None else f"{text} ({_bounds(low, high, digits)})"


def _ahead(found: Mapping[str, Any], metric: str) -> str:
    difference = found["difference"].get(metric)
    if difference is None or difference["value"] is None:
        return DASH
    low, high = difference["low"], difference["high"]
    if low is None or high is None:
        return DASH
    shown = (-high, -low) if metric == "log_loss" else (low, high)
    mark = " *" if found["better"].get(metric) else " !" if low > 0 or high < 0 else ""
    return f"{_bounds(*shown, 3)}{mark}"


def _bounds(low: float, high: float, digits: int) -> str:
    return f"{_number(low, digits, sign='+')} to {_number(high, digits, sign='+')}"


def _number(value: float, digits: int, sign: str = "-") -> str:
    """Write a number without the nought before its point; what rounds to 0 has no minus."""
    text = f"{value:{sign}z.{digits}f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 and digits else text
