"""Tables for people: every cell is text and every table fits."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from skipwise.evaluation.comparison import compare
from skipwise.evaluation.scorecard import EvaluationSettings, scorecard
from skipwise.evaluation.scored import Scored
from skipwise.evaluation.tables import (
    Row,
    comparison_rows,
    difference_text,
    figure_text,
    scorecard_rows,
    slate_rows,
    value_text,
    watch_rows,
)

ScoredMaker = Callable[..., Scored]
QUICK = EvaluationSettings(bootstrap_samples=40, slice_bootstrap_samples=20)
WIDTH = 100


@pytest.fixture(scope="module")
def tables(scored_maker: ScoredMaker) -> dict[str, list[Row]]:
    scored = scored_maker()
    chance = {"glance": np.full(1200, 0.4), "like": np.full(1200, 0.01)}
    other = dataclasses.replace(scored, probabilities=chance)
    card = scorecard(scored, settings=QUICK)
    return {
        "objectives": scorecard_rows(card),
        "watch": watch_rows(card),
        "slate": slate_rows(card),
        "ahead": comparison_rows(compare(scored, {"viewer_surface_rate": other}, settings=QUICK)),
    }


def test_every_row_has_the_cells_of_its_heading(tables: dict[str, list[Row]]) -> None:
    for rows in tables.values():
        assert len(rows) > 1
        assert {len(row) for row in rows} == {len(rows[0])}


def test_every_table_fits_with_its_borders(tables: dict[str, list[Row]]) -> None:
    longest = ("effective", "viewer_surface_rate", ".744", *["-.458 to +.016 *"] * 3)
    for name, rows in (tables | {"ahead": [*tables["ahead"], longest]}).items():
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        assert sum(widths) + 3 * len(widths) + 1 <= WIDTH, name


def test_what_is_unknown_is_a_dash(tables: dict[str, list[Row]]) -> None:
    like = next(row for row in tables["objectives"] if row[0] == "like")
    assert like == ("like", "0.0%", "-", "-", "-", "-", "-", "-")


def test_only_slates_that_exist_are_shown(tables: dict[str, list[Row]]) -> None:
    names = [row[0] for row in tables["slate"]]
    assert "glance_at_3" in names
    assert "glance_at_5" not in names


def test_a_clear_lead_is_starred(tables: dict[str, list[Row]]) -> None:
    glance = next(row for row in tables["ahead"] if row[0] == "glance")
    assert glance[1:3] == ("viewer_surface_rate", ".500")
    assert all(cell.startswith("+") and cell.endswith(" *") for cell in glance[3:])


def test_a_mark_never_contradicts_the_interval_beside_it() -> None:
    """An uneven interval once stood there as ± its longer side, which crossed zero."""

    def shown(low: float, high: float, better: bool) -> tuple[str, ...]:
        figure = {"value": 0.225, "low": low, "high": high}
        found = {"auc": figure, "difference": {"auc": figure, "gauc": figure, "log_loss": figure},
                 "better": {"auc": better, "gauc": better, "log_loss": not better and high < 0},
                 }  # fmt: skip
        return comparison_rows({"lightgbm": {"objectives": {"share": found}}})[1]

    share = ("share", "lightgbm", ".225")
    ahead = "+.016 to +.458 *"
    assert shown(0.016, 0.458, better=True) == (*share, ahead, ahead, "-.458 to -.016 !")
    unclear = "-.017 to +.458"
    assert shown(-0.017, 0.458, better=False) == (*share, unclear, unclear, "-.458 to +.017")
    behind = "-.458 to -.016 !"
    assert shown(-0.458, -0.016, better=False) == (*share, behind, behind, "+.016 to +.458 *")


def test_numbers_read_as_written() -> None:
    assert figure_text({"value": 1.0, "low": 0.996, "high": None}) == "1.000"
    assert value_text({"value": -0.25, "low": None, "high": None}) == "-.250"
    assert value_text({"value": 10.25, "low": None, "high": None}, digits=1) == "10.2"
    assert difference_text({"value": 0.01, "low": 0.002, "high": 0.013}) == (
        "+.010 (+.002 to +.013)"
    )
    assert difference_text({"value": -1e-9, "low": -0.01, "high": 1.5}, digits=1) == (
        "+.0 (+.0 to +1.5)"
    )
    assert difference_text(None) == figure_text(None) == value_text(None) == "-"
